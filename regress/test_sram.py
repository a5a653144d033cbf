# SPDX-License-Identifier: Apache-2.0
"""The SRAM macro against an array, under random reads and masked writes."""

import numpy as np
import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.errors import HdlError
from nncosim.hdl.sram import SRAM_VERILOG, Sram
from nncosim.tb.model import Model
from nncosim.tb.verilate import build

SHAPES = [(1, 8, None), (24, 13, None), (10, 32, 8), (16, 40, 5), (64, 256, 8), (6, 96, 32)]


def compare(model: Model, sram: Sram, rng: np.random.Generator, cycles: int = 300) -> None:
    """Drive random accesses and compare read data after every cycle, and the whole storage at the end."""
    words = [int.from_bytes(rng.bytes(sram.width // 8 + 1), "little") % (1 << sram.width) for _ in range(sram.depth)]
    raw = model.memory("macro", np.uint8)
    for index, word in enumerate(words):
        raw[index] = np.frombuffer(word.to_bytes(raw.shape[1], "little"), np.uint8)
    lanes = sram.width // sram.write_granularity
    expected, collisions = None, 0
    for _ in range(cycles):
        read, write = int(rng.integers(sram.depth)), int(rng.integers(sram.depth))
        if rng.random() < 0.4:
            write = read
        enable = bool(rng.random() < 0.7)
        mask = int(rng.choice([0, (1 << lanes) - 1, int(rng.integers(1 << min(lanes, 62)))]))
        value = int.from_bytes(rng.bytes(sram.width // 8 + 1), "little") % (1 << sram.width)
        model.r_en, model.r_addr = enable, read
        model.w_en, model.w_addr, model.w_data = mask, write, value
        if enable:
            # Undefined where the word is being written: no bit of the old data may reach whoever relies on it.
            collides = mask != 0 and read == write
            expected = words[read] ^ ((1 << sram.width) - 1 if collides else 0)
            collisions += collides
        bits = sum(((1 << sram.write_granularity) - 1) << k * sram.write_granularity
                   for k in range(lanes) if mask >> k & 1)
        words[write] = words[write] & ~bits | value & bits
        model.tick()
        assert expected is None or model.r_data == expected
    stored = [int.from_bytes(row.tobytes(), "little") for row in raw]
    assert stored == words and collisions > 20


@pytest.mark.parametrize("depth, width, granularity", SHAPES)
def test_sram(rtl_bench, rng, depth, width, granularity):
    sram = Sram(depth, width, granularity)
    with rtl_bench(sram).model() as model:
        compare(model, sram, rng)


@pytest.mark.parametrize("right, wrong", [
    ("else if (|w_en)", "else if (&w_en)"),  # masked writes lost
    ("if (r_en) r_data", "r_data"),  # does not hold
    (" ^ poison", ""),  # gives the old data
    ("{WIDTH{|w_en && r_addr == w_addr}}", "{WIDTH{&w_en && r_addr == w_addr}}"),  # ... of a word written in part
    ("{WIDTH{|w_en && r_addr == w_addr}}", "{WIDTH{r_addr == w_addr}}"),  # ... or not at all
    ("(w_data & mask)", "w_data"),  # the mask lets old and new data mix
    ("r_data <= mem[r_addr] ^ poison", "r_data <= r_addr == w_addr ? w_data : mem[r_addr]"),  # gives the new data
])
def test_a_wrong_macro_is_caught(rng, right, wrong):
    sram = Sram(16, 40, 5)
    sources = emit_design(sram, "sram_top")
    text = SRAM_VERILOG.read_text()
    assert right in text
    with Model(build(sources | {"nncosim_sram.v": text.replace(right, wrong)}, "sram_top")) as model, \
            pytest.raises(AssertionError):
        compare(model, sram, rng)


@pytest.mark.parametrize("arguments", [(0, 8), (8, 0), (8, 8, 3), (8, 8, 0)])
def test_impossible_sizes(arguments):
    with pytest.raises(HdlError, match=r"Sram: depth \d, width \d, write granularity \d: .* must divide the width"):
        Sram(*arguments)
