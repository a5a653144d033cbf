# SPDX-License-Identifier: Apache-2.0
"""The monitor of latencies in the AIE-ML bench: what comes too early in a program, and what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pytest
from nncosim.compiler.aie_ml.checker import proof_of
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.aie_ml.notes import AieMlNotes, EarlyReads, tile_address
from nncosim.compiler.aie_ml.program import Addresses, program_of
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes
from nncosim.hdl.aie_ml.config import CORE_AT, PROGRAM_AT
from nncosim.hdl.aie_ml.isa import Form, Mac, MoveOp, StoreOp
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.aie_ml.product import Product, Shape
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.platforms.aie_ml_generation import AIE_ML
from nncosim.regress.aie_ml_hazards import early_reads, early_reads_of, lines_of
from nncosim.regress.aie_ml_lines import HALT, load, mac, move, set_pointer, store
from nncosim.regress.aie_ml_programs import on_rtl, random_program
from nncosim.tb.aie_ml.build import build_array, feed, load_image, run_once
from nncosim.tb.aie_ml.hazards import HazardKind, found_hazards, hazard_text
from nncosim.tb.sim.model import Model

LOW, HIGH, BEAT_A = 32, 48, 24
"""Numbers of halves of accumulators, and of the beat of load a."""


@pytest.fixture(scope="module")
def pair():
    """Two tiles: the cascade goes from the first to the second."""
    return build_array(PLATFORM, 2, 1)


# Pairs of instructions: the second one needs what the first one makes.


class Pair(NamedTuple):
    """latency: from the one to the other. registers: that the second one reads too early, if it comes before."""

    first: Line
    second: Line
    latency: int
    registers: tuple[int, ...]


PAIRS = {
    "load a, a of MAC": Pair(load(2), mac(a=2), 7, (2,)),
    "load b, b of MAC": Pair(load(5, "load_b"), mac(b=5, op=Mac.I16X8), 7, (5,)),
    "load b, upper b of MAC": Pair(load(5, "load_b"), mac(b=4), 7, (5,)),
    "load, VST": Pair(load(3), store(3), 7, (3,)),
    "load, MAX": Pair(load(3), move(MoveOp.MAX, 6, 3), 7, (3,)),
    "load, BIAS": Pair(load(3), move(MoveOp.BIAS, 1, 3), 7, (3,)),
    "MAC, MAC": Pair(mac(acc=1), mac(acc=1), 3, (LOW + 1, HIGH + 1)),
    "MAC, VST.SRS": Pair(mac(acc=2), store(2, StoreOp.VST_SRS), 5, (LOW + 2, HIGH + 2)),
    "MAC, VST.SRS of a half": Pair(mac(acc=2), store(2, StoreOp.VST_SRS, Form.ACC32_16, 1), 5, (HIGH + 2,)),
    "MAC, SRS": Pair(mac(acc=3), move(MoveOp.SRS, 9, 3, Form.ACC64_16), 5, (LOW + 3, HIGH + 3)),
    "MAC, SRS of a half": Pair(mac(acc=3), move(MoveOp.SRS, 9, 3, Form.ACC64_32), 5, (LOW + 3,)),
    "MAC, PUT": Pair(mac(acc=4), move(MoveOp.PUT, source=4, half=1), 5, (HIGH + 4,)),
    "BIAS, MAC": Pair(move(MoveOp.BIAS, 5, 20), mac(acc=5), 1, (LOW + 5, HIGH + 5)),
    "BIAS, SRS": Pair(move(MoveOp.BIAS, 5, 20), move(MoveOp.SRS, 9, 5), 3, (LOW + 5, HIGH + 5)),
    "SRS, MAX": Pair(move(MoveOp.SRS, 9, 3), move(MoveOp.MAX, 9, 9), 4, (9,)),
    "SRS, VST": Pair(move(MoveOp.SRS, 9, 3), store(9), 4, (9,)),
    "MAX, VST": Pair(move(MoveOp.MAX, 9, 21), store(9), 2, (9,)),
    "GET, MAC": Pair(move(MoveOp.GET, 6, half=1), mac(acc=6), 5, (HIGH + 6,)),
    "GET, SRS": Pair(move(MoveOp.GET, 6), move(MoveOp.SRS, 9, 6), 7, (LOW + 6,)),
    "GET, PUT": Pair(move(MoveOp.GET, 6), move(MoveOp.PUT, source=6), 7, (LOW + 6,)),
    "VST, load of the beat": Pair(store(21, pointer=0), load(3), 2, (BEAT_A,)),
}
HARMLESS = {
    "MAC that clears": (mac(acc=1), mac(acc=1, clear=1)),
    "GET, the other half": (move(MoveOp.GET, 6), move(MoveOp.SRS, 9, 6, Form.ACC32_16, 1)),
    "GET, PUT of the other half": (move(MoveOp.GET, 6), move(MoveOp.PUT, source=6, half=1)),
    "load, MAX into it": (load(3), move(MoveOp.MAX, 3, 4)),
    "MAC, BIAS into its accumulator": (mac(acc=1), move(MoveOp.BIAS, 1, 4)),
    "b of one vector": (load(5), mac(b=4, op=Mac.I16X16)),
    "in the instruction itself": (Line(), Line((*load(9).slots, *move(MoveOp.MAX, 9, 9).slots))),
    "VST, load of another beat": (store(21), load(3)),
}
BEFORE = 5
"""Instructions before the first of a pair."""
ELSEWHERE = set_pointer(7, 100)
"""The pointer of stores away from that of loads."""


def in_line(first: Line, second: Line, distance: int, between: Sequence[Line] = ()) -> bytes:
    filled = [*between, *[Line()] * (distance - 1 - len(between))]
    return assembled([ELSEWHERE, *[Line()] * (BEFORE - 1), first, *filled, second, *[Line()] * 9, HALT])


def puts(count: int, after: int = 0) -> bytes:
    """So many words for the second tile's cascade."""
    return assembled([*[Line()] * after, *[move(MoveOp.PUT, source=0)] * count, Line(), HALT])


def on_pair(built, programs: Mapping[int, bytes], early: Sequence[int] = ()) -> np.ndarray:
    """Programs by column; what the monitors tell. early: what the second tile's reads early on purpose."""
    segments: list[Segment] = []
    for column, program in programs.items():
        segments += [Segment("program", tile_address(column, 1) + PROGRAM_AT, program, 5),
                     Segment("config", tile_address(column, 1) + CORE_AT, np.array([1], "<u4").tobytes())]  # fmt: skip
    own = AieMlNotes(columns=2, early_reads=(EarlyReads(((1, 1),), tuple(early)),))
    with Model(built, seed=3) as model:
        model.poison(3)
        writes = load_image(model, PLATFORM, Image(tuple(segments), 0, notes=Notes(own=own)))
        feed(model, 2, {})
        run_once(model, {"config_writes": writes, "settle": 0, "result_words": 0, "gap_seed": 0}, 5000)
        return found_hazards(model)


def gets(program: bytes) -> int:
    op = MoveOp.GET.value
    return sum(dict(each.slots).get("move", 0) & 15 == op for each in lines_of(program))


def told(found: np.ndarray) -> list[tuple[int, ...]]:
    """Of the first cycle in which there was something: kind, pc, register, cycles, writer."""
    first = found[found["cycle"] == found["cycle"][0]] if len(found) else found
    return [tuple(int(each[name]) for name in ("kind", "pc", "register", "cycles", "writer")) for each in first]


@pytest.mark.parametrize("name", PAIRS)
def test_what_comes_too_early_is_told(pair, name):
    """At each distance that is too short, by how many cycles; and at the first that is not, nothing."""
    first, second, latency, registers = PAIRS[name]
    for distance in range(1, latency + 1):
        program = in_line(first, second, distance)
        found = on_pair(pair, {0: puts(gets(program)), 1: program})
        early = latency - distance
        expected = [(HazardKind.EARLY, BEFORE + distance, each, early, BEFORE) for each in registers if early]
        assert told(found) == expected and all((found["column"] == 1) & (found["row"] == 1)), distance


@pytest.mark.parametrize("name", HARMLESS)
def test_what_needs_nothing_in_flight_is_not_told(pair, name):
    program = in_line(*HARMLESS[name], 1)
    assert not len(on_pair(pair, {0: puts(gets(program)), 1: program}))


def test_a_stall_gives_no_time(pair):
    """The core waits a hundred cycles for a word of the cascade, with a load in flight that waits with it."""
    first, second, latency, _ = PAIRS["load, MAX"]
    wait = [move(MoveOp.GET, 6)]
    for distance, early in ((latency - 1, [(HazardKind.EARLY, BEFORE + latency - 1, 3, 1, BEFORE)]), (latency, [])):
        found = on_pair(pair, {0: puts(1, after=100), 1: in_line(first, second, distance, wait)})
        assert told(found) == early and (not early or found["cycle"][0] > 100)


def test_what_is_meant_is_meant_in_its_place_only(pair):
    first, second, latency, _ = PAIRS["load a, a of MAC"]
    program = in_line(first, second, latency - 2)
    (number,) = early_reads_of(program)
    assert not len(on_pair(pair, {1: program}, [number]))
    for other in (number + 1, number + (1 << 6), number + (1 << 9)):  # register, cycles, program counter
        assert told(on_pair(pair, {1: program}, [other])) == [(HazardKind.EARLY, BEFORE + latency - 2, 2, 2, BEFORE)]


def test_two_writes_in_a_cycle_are_told(pair):
    program = in_line(load(9), move(MoveOp.SRS, 9, 3), 3)
    assert told(on_pair(pair, {1: program})) == [(HazardKind.TWO, BEFORE + 6, 9, 0, BEFORE + 3)]


def test_a_sentence_says_who_reads_what(pair):
    image = Image((Segment("data", 0, bytes(32)),), 0, notes=Notes(own=AieMlNotes(columns=2)))
    found = on_pair(pair, {1: in_line(load(5, "load_b", 1), mac(a=2, b=4), 6)})
    assert hazard_text(found, image) == (
        f"tile (1, 1), cycle {found['cycle'][0]}, pc 11: MAC I8X8 ss cm8, w2, w4:w5 (vector slot) reads w5 1 cycle too "
        "early: a write of it is in flight, of LOAD w5, p1 KEEP (load b slot, pc 5)"
    )


# Random programs: what the model says, and that only.


def memory() -> np.ndarray:
    """The west neighbour's, and the own."""
    return np.random.default_rng(1).integers(0, 256, (2, 65536), dtype=np.uint8)


def expected_of(program: bytes, meant: frozenset[int]) -> list[tuple[int, ...]]:
    """What the model has as the first that is not meant: all of that instruction."""
    rest = (each for each in early_reads(program) if each.number not in meant)
    _, first = next(groupby(rest, lambda each: each.issue), (0, ()))
    return sorted({(HazardKind.EARLY.value, each.pc, each.register, each.cycles, each.writer) for each in first})


@pytest.mark.parametrize("seed", range(8))
def test_one_that_is_not_meant_is_told(pair, seed):
    """Of random programs with bank conflicts, where all others are."""
    program, rng = random_program(seed), np.random.default_rng([seed, 9])
    numbers = frozenset(early_reads_of(program))
    left_out = [frozenset(), *(numbers - {int(each)} for each in rng.choice(sorted(numbers), 6, replace=False))]
    runs = on_rtl(pair, [program] * len(left_out), memory(), early_reads=[sorted(each) for each in left_out])
    for meant, run in zip(left_out, runs, strict=True):
        assert sorted(told(run.hazards)) == expected_of(program, meant) != []


# Encoded programs of the compiler, one operation moved.

SHAPE = Shape(Mac.I8X8, 2, 2, 6, 2, 2, 4, Form.ACC32_8, True, generation=AIE_ML)
AT = Addresses(0, 1024, 512, 1536)
PRODUCT = Product(replace(SHAPE, input_beats=12), b"", b"", (True,), 10, RoundingCode.HALF_EVEN, Saturation.SATURATE,
                  True)  # fmt: skip


def later(lines: Sequence[Line], at: int, slot: str) -> list[Line] | None:
    """An operation in the instruction behind its own; None where there is another."""
    here, behind = dict(lines[at].slots), dict(lines[at + 1].slots)
    if slot not in here or slot in behind:
        return None
    behind[slot] = here.pop(slot)
    changed = [Line(tuple(sorted(each.items()))) for each in (here, behind)]
    return [*lines[:at], *changed, *lines[at + 2 :]]


def test_an_operation_that_was_moved_is_told(pair):
    """Software-pipelined loops, with what they mean in the notes: what breaks them is told as the model has it."""
    program = program_of([(PRODUCT, AT)], 1024).words
    proof = proof_of(program, [(PRODUCT, AT)])
    assert proof.wrong == () and proof.early_reads == early_reads_of(program)
    lines = lines_of(program)
    moved = {(slot, at): later(lines, at, slot) for slot in ("load_a", "load_b", "vector", "move", "store")
             for at in range(len(lines) - 2)}  # fmt: skip
    programs = {key: assembled(each) for key, each in moved.items() if each is not None}
    runs = on_rtl(pair, list(programs.values()), memory(), early_reads=[proof.early_reads] * len(programs))
    seen = set()
    for (slot, at), run in zip(programs, runs, strict=True):
        expected = expected_of(programs[slot, at], frozenset(proof.early_reads))
        assert sorted(told(run.hazards)) == expected, (slot, at)
        seen |= {slot} if expected else set()
    assert seen >= {"load_a", "load_b", "vector", "move"}
