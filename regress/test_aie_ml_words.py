# SPDX-License-Identifier: Apache-2.0
"""Tiles whose DMAs move words that lie apart while their cores run random programs with locks, and use their west
neighbours' memories and locks: RTL and simulator alike.

A channel reads words all over the memory and gives them to another one of the same tile, which writes them elsewhere:
each asks for a bank in nearly every cycle, as the cores do. Two such tiles stand beside each other, and a third one to
the west does nothing. Words from the shim start all of it, and words to the shim end it, so that both count cycles from
the same one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.aie_ml.descriptors import Descriptor
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.isa import Control, ControlOp
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_columns import (
    BEGIN,
    FROM_SHIM,
    TO_SHIM,
    Column,
    columns_image,
    differs,
    lock,
    on_iss,
    on_rtl,
)
from nncosim.regress.aie_ml_programs import random_lines
from nncosim.tb.aie_ml.build import build_array

SEEDS = range(16)
GO, BACK, END, FREE, SHARED = range(1, 6)
"""Locks: the core lets buffers go; how many are back; the core has ended; one that always can be got; what
the core and its east neighbour's take turns with."""
COLUMNS = (1, 2)
"""Of the tiles that do something."""
NOTHING = Line()
WORDS, RESULT_WORDS = 1 << 14, 64
MEMORY_WAIT, LOCK_WAIT = 2, 3


def program(rng: np.random.Generator, shares_west: bool) -> bytes:
    """Buffers go, again and again, and are waited for at once or later. What takes none of a lock is beside much else:
    it takes its turn at the locks, too, the own ones and those in the west.

    Args:
        shares_west: the lock that is shared is that of the west, else the own one.
    """
    prologue, blocks = random_lines(rng, 6)
    lines, away = [lock(ControlOp.ACQUIRE, BEGIN), *prologue], 0
    for block in blocks:
        count = int(rng.integers(1, 9))
        lines.append(lock(ControlOp.RELEASE, GO, count))
        away += count
        shares = rng.random() < 0.5
        lines += [lock(ControlOp.ACQUIRE, SHARED, west=shares_west)] * shares
        for line in block:
            beside = line.slots and "control" not in dict(line.slots) and rng.random() < 0.5
            op = (ControlOp.ACQUIRE, ControlOp.RELEASE)[int(rng.integers(2))]
            lines.append(lock(op, FREE, 0, line, bool(rng.integers(2))) if beside else line)
        lines += [lock(ControlOp.RELEASE, SHARED, west=shares_west)] * shares
        while away and rng.random() < 0.7:
            count = int(rng.integers(1, away + 1))
            lines += [lock(ControlOp.ACQUIRE, BACK, count), *[NOTHING] * int(rng.integers(2))]
            away -= count
    lines += [lock(ControlOp.ACQUIRE, BACK, away), lock(ControlOp.RELEASE, END)]
    return assembled([*lines, Line((("control", encode(Control, op=ControlOp.HALT.value)),))])


def scattered(rng: np.random.Generator, length: int, number: int, **locks: tuple[int, int]) -> Descriptor:
    """Words apart, over the whole memory or within a pair of banks; the same again, further on."""
    steps = [int(n) for n in (rng.choice([4, 5, 8, 12, -4, -7, 1024]), rng.choice([4, 9, 4096, -2048]), 3)]
    counts = (int(rng.choice([2, 7, 64])), int(rng.choice([2, 5])))
    return Descriptor(int(rng.integers(WORDS)), length, (steps[0], steps[1], steps[2]), counts,
                      (int(rng.choice([4, 4096, 1001])), 3), next=number, **locks)  # fmt: skip


def image(seed: int) -> Image:
    """In each tile MM2S 0 to S2MM 0; S2MM 1 from the shim, MM2S 1 to it."""
    rng, tiles = np.random.default_rng([seed, 7]), {}
    for column in COLUMNS:
        length = int(rng.integers(8, 40))
        descriptors = [
            scattered(rng, length, 0, acquire=(GO, 1)), scattered(rng, length, 1, release=(BACK, 1)),
            Descriptor(int(rng.integers(WORDS)), 1, release=(BEGIN, 1)), Descriptor(0, RESULT_WORDS, acquire=(END, 1)),
        ]  # fmt: skip
        tiles[column] = Column(program(rng, column > COLUMNS[0]), descriptors, {0: 1, 1: 2, 2: 0, 3: 3},
                               {0: 0, 1: FROM_SHIM, TO_SHIM: 1}, {SHARED: int(rng.integers(1, 3))})  # fmt: skip
    return columns_image(tiles, [rng.bytes(4 * WORDS) for _ in range(1 + len(COLUMNS))])


RESULTS = len(COLUMNS) * RESULT_WORDS


@pytest.fixture(scope="module")
def built():
    return build_array(PLATFORM, 1 + len(COLUMNS), 1)


def waits(states: np.ndarray, state: int) -> int:
    """Times that the last core waited so for more than a cycle."""
    states = states[states["tile"] == COLUMNS[-1]]
    lasting = np.diff(states["cycle"].astype(np.int64), append=0)
    return int(np.count_nonzero((states["state"] == state) & (lasting > 1)))


def test_words_and_cores_share_the_banks(built):
    """Each store, each state of the cores and each word out in its cycle; and they did meet."""
    memory = locks = 0
    for seed in SEEDS:
        whole = image(seed)
        expected = on_iss(whole, RESULTS)
        assert expected is not None and differs(on_rtl(built, whole, RESULTS), expected) == "", f"seed {seed}"
        memory += waits(expected.states, MEMORY_WAIT)
        locks += waits(expected.states, LOCK_WAIT)
    assert memory > 200 and locks > 200


def test_a_wrong_record_is_seen(built):
    expected, found = on_iss(image(0), RESULTS), on_rtl(built, image(0), RESULTS)
    assert expected is not None
    for name in ("stores", "states", "results"):
        for column in set(getattr(found, name).dtype.names) - {"pc", "unused"}:
            before = getattr(found, name)[column].copy()
            getattr(found, name)[column][len(before) // 2] ^= 1
            assert differs(found, expected) == name
            getattr(found, name)[column] = before
    assert differs(found, expected) == ""
    found.memory[0, 5] ^= 1
    assert differs(found, expected) == "memory"


def flipped(whole: Image, rng: np.random.Generator) -> Image:
    """A bit of one of the programs."""
    number = int(rng.choice([k for k, each in enumerate(whole.segments) if each.memory == "program"]))
    data = bytearray(whole.segments[number].data)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    segments = list(whole.segments)
    segments[number] = replace(segments[number], data=bytes(data))
    return replace(whole, segments=tuple(segments))


def test_flipped_bits_do_the_same_on_both(built):
    """Of programs that break no rule, read nothing that nobody wrote and come to an end, but do something else."""
    rng, changed = np.random.default_rng(11), 0
    for seed in range(80):
        whole = image(seed % 4)
        spoilt = flipped(whole, rng)
        expected, right = on_iss(spoilt, RESULTS), on_iss(whole, RESULTS)
        if expected is None or right is None or not differs(expected, right):
            continue
        other = on_iss(spoilt, RESULTS, poison=77)
        if other is None or differs(other, expected):
            continue
        changed += 1
        assert differs(on_rtl(built, spoilt, RESULTS), expected) == "", f"seed {seed}"
    assert changed >= 12
