# SPDX-License-Identifier: Apache-2.0
"""The SRAM macro, and macros behind each other, against an array, under random reads and masked writes."""

import numpy as np
import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.errors import HdlError
from nncosim.hdl.sram import SRAM_VERILOG, Sram, SramStack
from nncosim.platforms import base
from nncosim.platforms.base import MACRO_BITS, MACRO_WORDS, macro_words
from nncosim.tb.sim.backdoor import Stack
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

SHAPES = [(1, 8, None), (24, 13, None), (10, 32, 8), (16, 40, 5), (64, 256, 8), (6, 96, 32)]


def compare(model: Model, sram: Sram | SramStack, rng: np.random.Generator, cycles: int = 300,
            storage: str = "macro") -> None:
    """Drive random accesses and compare read data after every cycle, and the whole storage at the end."""
    words = [int.from_bytes(rng.bytes(sram.width // 8 + 1), "little") % (1 << sram.width) for _ in range(sram.depth)]
    raw = model.stack(storage, np.uint8)
    for index, word in enumerate(words):
        raw[index] = np.frombuffer(word.to_bytes(raw.shape[1], "little"), np.uint8)
    assert [int.from_bytes(row.tobytes(), "little") for row in raw.copy()] == words
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
    stored = [int.from_bytes(row.tobytes(), "little") for row in raw.copy()]
    assert stored == words and collisions > 20


@pytest.mark.parametrize("depth, width, granularity", SHAPES)
def test_sram(rtl_bench, rng, depth, width, granularity):
    sram = Sram(depth, width, granularity)
    with rtl_bench(sram).model() as model:
        compare(model, sram, rng)


@pytest.mark.parametrize("depth, width, granularity", [(16, 16, None), (29, 32, 8), (9, 8, None)])
def test_stack(rtl_bench, rng, monkeypatch, depth, width, granularity):
    """Macros of eight words: two, four of which the last is not full, and a second one of a single word."""
    monkeypatch.setattr(base, "MACRO_WORDS", 8)
    stack = SramStack(depth, width, granularity)
    with rtl_bench(stack).model() as model:
        depths = [entry.elements for _, entry in sorted(model.memories.items())]
        assert depths == [min(8, depth - first) for first in range(0, depth, 8)]
        top = next(iter(model.memories)).partition(".")[0]
        compare(model, stack, rng, storage=top)


def test_macros_exist():
    """No macro is larger than what is on offer; what fits in one is not split."""
    for depth, width in ((40960, 128), (65536, 32), (512, 128), (16384, 32), (3, 2048)):
        words = macro_words(depth, width)
        assert words <= MACRO_WORDS and words * width <= MACRO_BITS
        assert words == depth or words & words - 1 == 0
    assert macro_words(40960, 128) == 4096 and macro_words(65536, 32) == 16384 and macro_words(512, 128) == 512


def test_stack_is_an_array():
    """Whatever way a stack is indexed, it does what one array of all its words does."""
    whole = np.arange(30, dtype=np.uint8).reshape(10, 3)
    parts = [whole[:4].copy(), whole[4:8].copy(), whole[8:].copy()]
    stack = Stack(parts)
    for index in (0, 5, -1, slice(2, 9), slice(None, 7), slice(1, 10, 3), np.array([9, 0, 4]), (5, 1),
                  (slice(3, 6), 2)):
        assert np.array_equal(stack[index], whole[index]), index
        stack[index], whole[index] = 7, 7
        assert np.array_equal(np.concatenate(parts), whole), index
    stack[2:6], whole[2:6] = whole[5:9], whole[5:9].copy()
    stack[8, 2] ^= 255
    whole[8, 2] ^= 255
    assert np.array_equal(stack, whole) and not (stack != whole).any()
    first = stack[:9]
    first[8] = 99
    assert parts[2][0, 0] == 99 and len(first) == 9 and first.copy().shape == (9, 3)
    with pytest.raises(IndexError):
        stack[10]


@pytest.mark.parametrize("right, wrong", [
    ("else if (|w_en)", "else if (&w_en)"),  # masked writes lost
    ("if (r_en) r_data", "r_data"),  # does not hold
    (" ^ poison", ""),  # gives the old data
    ("|w_en && (PORTS", "&w_en && (PORTS"),  # ... of a word written in part
    ("|w_en && (PORTS == 1 || r_addr == w_addr)", "r_addr == w_addr"),  # ... or not at all
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
