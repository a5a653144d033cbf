# SPDX-License-Identifier: Apache-2.0
"""A tile whose DMA moves words that lie apart while its core runs random programs with locks: RTL and simulator alike.

A channel reads words all over the memory and gives them to another one of the same tile, which writes them elsewhere:
each asks for a bank in nearly every cycle, as the core does. A word from the shim starts all of it, and words to the
shim end it, so that both count cycles from the same one.
"""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.aie_ml.descriptors import Descriptor
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.aie_ml.notes import AieMlNotes, EarlyReads, tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes
from nncosim.hdl.aie_ml.config import BDS_AT, CORE_AT, LISTENS, PROGRAM_AT, STARTS_AT, SWITCH_AT
from nncosim.hdl.aie_ml.isa import Control, ControlOp, LockUse
from nncosim.hdl.aie_ml.ports import TILE_PORTS
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_hazards import early_reads_of
from nncosim.regress.aie_ml_programs import random_lines
from nncosim.tb.aie_ml.build import build_array, feed, load_image, run_once
from nncosim.tb.aie_ml.frames import RESULT, STATE, STORE, Records
from nncosim.tb.aie_ml.hazards import found_hazards
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.rtl import RESULTS, SETTLE_CYCLES, STATES, STORES
from nncosim.tb.sim.model import Model

SEEDS = range(16)
BEGIN, GO, BACK, END, FREE = range(5)
"""Locks: a word came; the core lets buffers go; how many are back; the core has ended; one that always can be got."""
NOTHING = Line()
WORDS, RESULT_WORDS, LIMIT = 1 << 14, 64, 100_000
MEMORY_WAIT, LOCK_WAIT = 2, 3


def lock(op: ControlOp, number: int, value: int = 1, beside: Line = NOTHING) -> Line:
    word = encode(Control, op=op.value, payload=encode(LockUse, lock=number, value=value))
    return Line(tuple(sorted((*beside.slots, ("control", word)))))


def program(rng: np.random.Generator) -> bytes:
    """Buffers go, again and again, and are waited for at once or later. What takes none of a lock is beside much else:
    it takes its turn at the locks, too."""
    prologue, blocks = random_lines(rng, 6)
    lines, away = [lock(ControlOp.ACQUIRE, BEGIN), *prologue], 0
    for block in blocks:
        count = int(rng.integers(1, 9))
        lines.append(lock(ControlOp.RELEASE, GO, count))
        away += count
        for line in block:
            beside = line.slots and "control" not in dict(line.slots) and rng.random() < 0.5
            op = (ControlOp.ACQUIRE, ControlOp.RELEASE)[int(rng.integers(2))]
            lines.append(lock(op, FREE, 0, line) if beside else line)
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
    """MM2S 0 to S2MM 0, in the tile; S2MM 1 from the shim, MM2S 1 to it. All early reads are meant."""
    rng = np.random.default_rng([seed, 7])
    length = int(rng.integers(8, 40))
    descriptors = [
        scattered(rng, length, 0, acquire=(GO, 1)), scattered(rng, length, 1, release=(BACK, 1)),
        Descriptor(int(rng.integers(WORDS)), 1, release=(BEGIN, 1)), Descriptor(0, RESULT_WORDS, acquire=(END, 1)),
    ]  # fmt: skip
    config = {BDS_AT + 32 * k: each.words for k, each in enumerate(descriptors)}
    config |= {STARTS_AT + 4 * channel: (bd,) for channel, bd in enumerate((1, 2, 0, 3))}
    ways = {0: 0, 1: TILE_PORTS.slave_at["south"], TILE_PORTS.master_at["south"]: 1}
    config |= {SWITCH_AT + 4 * master: (1 << LISTENS | slave,) for master, slave in ways.items()}
    config |= {CORE_AT: (1,)}
    tile = tile_address(0, 1)
    segments = [Segment("data", tile, rng.bytes(4 * WORDS))]
    code = program(rng)
    segments.append(Segment("program", tile + PROGRAM_AT, code, 5))
    early = EarlyReads(((0, 1),), early_reads_of(code))
    segments += [Segment("config", tile + at, np.array(words, "<u4").tobytes()) for at, words in config.items()]
    return Image(tuple(segments), 0, notes=Notes(own=AieMlNotes(early_reads=(early,))))


GIVEN = {0: np.array([12345], np.uint32)}


def on_iss(whole: Image) -> Records:
    array = Array(whole, PLATFORM)
    found = array.stream(GIVEN, RESULT_WORDS, LIMIT)
    assert found.done is not None and array.problems == ()
    return found


def on_rtl(built, whole: Image) -> Records:
    with Model(built, seed=1) as model:
        model.poison(1)
        writes = load_image(model, PLATFORM, whole)
        feed(model, 1, GIVEN)
        held = {"config_writes": writes, "settle": SETTLE_CYCLES, "result_words": RESULT_WORDS, "gap_seed": 0}
        run_once(model, held, LIMIT)
        kinds = (STORES, STORE), (RESULTS, RESULT), (STATES, STATE)
        stores, results, states = (model.log(stream, fmt, clear=True) for stream, fmt in kinds)
        assert not len(found_hazards(model))
    return Records(stores, results, states, None)


def differs(found: Records, expected: Records) -> str:
    """The first list that does."""
    for name in ("stores", "states", "results"):
        one, other = getattr(found, name), getattr(expected, name)
        columns = [each for each in one.dtype.names if each != "pc"]
        if len(one) != len(other) or any((one[each] != other[each]).any() for each in columns):
            return name
    return ""


@pytest.fixture(scope="module")
def built():
    return build_array(PLATFORM, 1, 1)


def waits(states: np.ndarray, state: int) -> int:
    """Times that the core waited so for more than a cycle."""
    lasting = np.diff(states["cycle"].astype(np.int64), append=0)
    return int(np.count_nonzero((states["state"] == state) & (lasting > 1)))


def test_words_and_core_share_the_banks(built):
    """Each store, each state of the core and each word out in its cycle; and they did meet."""
    memory = locks = 0
    for seed in SEEDS:
        whole = image(seed)
        expected = on_iss(whole)
        assert differs(on_rtl(built, whole), expected) == "", f"seed {seed}"
        memory += waits(expected.states, MEMORY_WAIT)
        locks += waits(expected.states, LOCK_WAIT)
    assert memory > 100 and locks > 20


def test_a_wrong_record_is_seen(built):
    expected = on_iss(image(0))
    found = on_rtl(built, image(0))
    for name in ("stores", "states", "results"):
        for column in set(getattr(found, name).dtype.names) - {"pc", "unused"}:
            before = getattr(found, name)[column].copy()
            getattr(found, name)[column][len(before) // 2] ^= 1
            assert differs(found, expected) == name
            getattr(found, name)[column] = before
    assert differs(found, expected) == ""
