# SPDX-License-Identifier: Apache-2.0
"""A memory of lines alone, J3DAI's L2: every alignment and mask, first and last rows, both sides of a macro's border,
one word of each address bit, against an array."""

import random

import numpy as np
import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.l2 import l2_memory
from nncosim.platforms.base import macro_words
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

MACHINES = {
    "8 x 4, all of L2": J3dai(ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256, l2_bytes=8 << 20),
    "8 x 4, a word a beat": J3dai(ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=64, l2_bytes=8 * 4 * 37),
    "default": J3dai(),
    "32 x 16": J3dai(ncbs_per_cluster=32, pes_per_ncb=16, dmpa_bits=4096, l2_bytes=32 * 16 * 9),
}


class LineMemoryBench:
    """L2 and what it should hold, word address to word; what was never written is read from the macros first."""

    def __init__(self, model: Model, platform: J3dai):
        self.model, self.platform = model, platform
        self.bits, self.banks = platform.word_bits, platform.banks
        self.raw = [model.stack(f"bank{k}", np.uint8) for k in range(self.banks)]
        self.words: dict[int, int] = {}
        self.expected: dict[int, int] | None = None  # place to word, of the last read

    def stored(self, address: int) -> int:
        return int.from_bytes(self.raw[address % self.banks][address // self.banks].tobytes(), "little")

    def word(self, address: int) -> int:
        return self.words.setdefault(address, self.stored(address))

    def cycle(self, rng: random.Random, address: int, mask: int, read: bool, write: bool) -> None:
        m, bits = self.model, self.bits
        data = rng.getrandbits(bits * self.banks)
        m.addr, m.mask, m.r_en, m.w_en, m.w_data = address, mask, read, write, data
        places = [k for k in range(self.banks) if mask >> k & 1]
        around = [a for a in range(address - 1, address + self.banks + 1) if 0 <= a < self.platform.l2_words]
        before = {a: self.word(a) for a in around}
        if read:
            self.expected = {k: before[address + k] for k in places}
        if write:
            self.words |= {address + k: data >> bits * k & (1 << bits) - 1 for k in places}
        m.tick()
        assert {a: self.stored(a) for a in around} == {a: self.words[a] for a in around}, f"write at {address}"
        if self.expected is not None:  # held until the next read
            line = m.r_data
            found = {k: line >> bits * k & (1 << bits) - 1 for k in self.expected}
            assert found == self.expected, f"read at {address}"


@pytest.fixture(params=MACHINES, scope="module")
def bench(request):
    platform = MACHINES[request.param]
    with Model(build(emit_design(l2_memory(platform), "l2_alone"), "l2_alone", optimize="-O0"), seed=1) as model:
        model.poison(1)
        model.reset()
        yield LineMemoryBench(model, platform)


def test_every_alignment_and_count(bench, seed):
    """Beats of each length at each offset, in the first rows, the last and between; also up to the very last word."""
    rng, p = random.Random(seed), bench.platform
    end, border = p.l2_words, macro_words(p.l2_words // p.banks, p.word_bits) * p.banks
    for count in range(1, p.banks + 1):
        around = range(border - p.banks, border + 1) if border < end else range(0)
        for address in {*range(p.banks + 1), *range(end - count - p.banks, end - count + 1), end // 2 - 1, *around}:
            mask = (1 << count) - 1
            if count <= p.beat_words:
                bench.cycle(rng, address, mask, False, True)
            bench.cycle(rng, address, mask, True, False)
            bench.cycle(rng, rng.randrange(end - p.banks), rng.getrandbits(p.banks), False, False)  # holds, unwritten


def test_random_masks(bench, seed):
    rng, p = random.Random(seed), bench.platform
    for _ in range(600):
        address = rng.choice([rng.randrange(3 * p.banks), p.l2_words - p.banks - rng.randrange(3 * p.banks)])
        write = rng.random() < 0.5
        mask = rng.getrandbits(p.beat_words if write else p.banks)
        bench.cycle(rng, address, mask, not write and rng.random() < 0.8, write)


def test_each_address_bit_counts(bench, seed):
    """Every word whose address has one bit, or all but one, is a word of its own."""
    rng, p = random.Random(seed), bench.platform
    bits = (p.l2_words - 1).bit_length()
    addresses = {a for k in range(bits) for a in (1 << k, (1 << k) - 1, (1 << bits) - 1 - (1 << k))}
    chosen = sorted({0, p.l2_words - 1} | {a for a in addresses if a < p.l2_words})
    for address in chosen:
        bench.cycle(rng, address, 1, False, True)
    for address in chosen:
        bench.cycle(rng, address, 1, True, False)


@pytest.mark.parametrize("place", [-1, 0, 3, 4])
def test_a_wrong_bit_is_noticed(bench, seed, place):
    """In the beat's words when they are read, and in their neighbours when others are written."""
    rng, at = random.Random(seed), 2 * bench.platform.banks + 1
    bench.cycle(rng, at, 1, False, True)
    where = at + place % bench.banks if place >= 0 else at - 1
    bench.word(where)
    bench.raw[where % bench.banks][where // bench.banks] ^= 1
    try:
        with pytest.raises(AssertionError, match=f"(write|read) at {at}"):
            bench.cycle(rng, at, (1 << bench.banks) - 1, True, False)
    finally:
        bench.raw[where % bench.banks][where // bench.banks] ^= 1
        bench.cycle(rng, at, 1, True, False)  # the port holds the wrong line until the next read
