# SPDX-License-Identifier: Apache-2.0
"""The benches of controller and cluster see all of the instruction set: opcodes, classes of values, pairs, and what
holds an instruction up."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.formats import decode
from nncosim.hdl.j3dai import controller
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Agu, Drain, MacOp, Opcode
from nncosim.regress.j3dai_cluster_bench import (
    ClusterCase,
    build_cluster,
    count_program,
    instruction,
    random_program,
    run_program,
)
from nncosim.regress.j3dai_cluster_checks import differences, timeline, wrapping_program
from nncosim.regress.j3dai_cluster_model import Hazard
from nncosim.regress.j3dai_isa_coverage import cluster_coverage, controller_coverage
from nncosim.regress.test_j3dai_controller import NOISY, interpret, run
from nncosim.tb.coverage.points import InstructionCoverage, classes_of, fields_of, leave_points, value_in
from nncosim.tb.sim.verilate import BuiltModel

RUNNING = [opcode for opcode in Opcode if opcode != Opcode.HALT]


def walk(opcodes: Sequence[Opcode]) -> list[Opcode]:
    """Each opcode behind each, itself included, in one sequence: an Eulerian circuit (Hierholzer)."""
    left = {opcode: list(opcodes) for opcode in opcodes}
    path, out = [opcodes[0]], []
    while path:
        if left[path[-1]]:
            path.append(left[path[-1]].pop())
        else:
            out.append(path.pop())
    return out[::-1]


def values_of(opcode: Opcode, number: int, rng: np.random.Generator) -> dict[str, int]:
    """A value for each field; over the numbers each class comes up."""
    out = {}
    for k, (name, shape) in enumerate(fields_of(INSTRUCTIONS[opcode]).items()):
        classes = classes_of(shape)
        chosen = classes[(number + k) % len(classes)] if k else classes[number % len(classes)]
        out[name] = value_in(shape, chosen, lambda low, high: int(rng.integers(low, high + 1)))
    return out


def all_pairs(rng: np.random.Generator) -> list[int]:
    """A program in which each opcode follows each, without hazards: settings only, and MACs that write nothing."""
    order = walk(RUNNING)
    words = []
    for k, opcode in enumerate(order):
        after = order[k + 1:k + 3]
        if opcode == Opcode.LOOP:
            # A loop in a loop has its end before it; a body ends on something else than a LOOP.
            words.append(instruction(opcode, count=1, body=3 if after[:1] == [Opcode.LOOP] else 1))
        elif opcode == Opcode.MAC:
            words.append(instruction(opcode, first=1, rewind_w=1, depthwise=1))
        else:
            fields = values_of(opcode, k, rng)
            if opcode == Opcode.SETD:
                fields["count"] = 1
            words.append(instruction(opcode, **fields))
    return words


# ---- controller

@pytest.fixture(scope="module")
def seen_by_controller() -> InstructionCoverage:
    coverage, rng = controller_coverage(), np.random.default_rng(1)

    def check(words: list[int], cycles: int = 6000, **options: float) -> None:
        program = dict(enumerate(words))
        want, trap = interpret(program, 0)
        log = run(controller, program, 0, 3, NOISY, cycles=cycles, coverage=coverage, **options)  # type: ignore[arg-type]
        assert not trap and log.ended and not log.early
        assert [(at, opcode) for _, at, opcode in log.executed] == want

    halt = instruction(Opcode.HALT)
    check([*all_pairs(rng), halt])
    for opcode in RUNNING:
        fields = {"count": 1, "body": 1} if opcode == Opcode.LOOP else values_of(opcode, 2, rng)
        check([instruction(opcode, **fields), halt])
    for semaphore in (0, 3, 7):
        check([instruction(kind, semaphore=semaphore) for kind in (Opcode.SIGNAL, Opcode.WAIT, Opcode.WAIT)] + [halt],
              semaphores=0.05)
    # The longest loop is left by a HALT in its first turn, as are the most turns.
    check([instruction(Opcode.LOOP, count=2, body=511), instruction(Opcode.NOP), halt])
    check([instruction(Opcode.LOOP, count=65_535, body=2), instruction(Opcode.NOP), halt])
    check([instruction(Opcode.LOOP, count=9, body=2), *[instruction(Opcode.NOP)] * 2, halt])
    leave_points(coverage)
    return coverage


def test_the_controller_has_seen_everything(seen_by_controller):
    assert not seen_by_controller.holes and not seen_by_controller.surprises
    assert set(seen_by_controller.excluded) == {"LOOP.count zero", "LOOP.body zero", *(
        f"HALT > {opcode.name}" for opcode in Opcode)}  # fmt: skip


# ---- cluster

@pytest.fixture(scope="module")
def built() -> BuiltModel:
    return build_cluster()


def extremes(seed: int, pieces: int = 30) -> ClusterCase:
    """Settings of all classes of values, and behind each some a MAC that works with them, unless it would be a hazard
    (reading what is being written)."""
    rng = np.random.default_rng(seed)
    start = ClusterCase.of([], seed, execute=False).start
    start.volatile, start.volatile_wmem = frozenset(), frozenset()
    model, words = copy.deepcopy(start), [instruction(Opcode.LDP, pset=k, base=1600 + 16 * k) for k in range(2)]
    for word in words:
        model.execute(*_decoded(word))
    for k in range(pieces):
        for word in _piece(rng, k):
            trial = copy.deepcopy(model)
            try:
                trial.execute(*_decoded(word))
            except Hazard:
                continue
            words.append(word)
            model = trial
    case = ClusterCase.of(words, seed, execute=False)
    for each in (case.start, case.after):
        each.volatile, each.volatile_wmem = frozenset(), frozenset()
    case.after.run(0)
    return case


def _decoded(word: int) -> tuple[Opcode, dict[str, int]]:
    opcode = Opcode(word & 63)
    return opcode, decode(INSTRUCTIONS[opcode], word)


def _piece(rng: np.random.Generator, number: int) -> Iterator[int]:
    """Some settings; dimensions that end a job soon, and a fence, so that few MACs are hazards."""
    for opcode in (Opcode.SETI, Opcode.SETW, Opcode.ADDW, Opcode.SETO, Opcode.SETB, Opcode.ADDB, Opcode.LDP):
        if rng.random() < 0.5:
            yield instruction(opcode, **values_of(opcode, int(rng.integers(24)), rng))
    for agu in Agu:
        for dim in range(8):
            inner = agu == Agu.A and dim < 3
            if inner or rng.random() < 0.4:
                fields = values_of(Opcode.SETD, int(rng.integers(24)), rng)
                if inner:  # within a job: one of them is long once, and then the others are short
                    fields["count"] = 4095 if number == dim else 1 if number < 3 else int(rng.integers(3))
                yield instruction(Opcode.SETD, **{**fields, "agu": agu.value, "dim": dim})
    yield instruction(Opcode.FENCE)
    mac = {**values_of(Opcode.MAC, number, rng), "op": MacOp(int(rng.integers(4))), "repeat": int(rng.integers(2)),
           "drain": Drain(int(rng.integers(4)))}  # fmt: skip
    if number < 3:
        mac |= {"repeat": 0, "depthwise": 1}
    yield instruction(Opcode.MAC, **mac)


ALWAYS = dict.fromkeys(range(8), range(250))
"""Each semaphore is incremented in each of so many cycles."""


def with_semaphores(words: list[int]) -> ClusterCase:
    """A program whose WAITs find what they wait for."""
    case = ClusterCase.of(words, seed=5, execute=False)
    case.after.semaphores = [255] * 8
    case.after.run(0)
    return case


@pytest.fixture(scope="module")
def seen_by_cluster(built: BuiltModel) -> InstructionCoverage:
    coverage, rng = cluster_coverage(), np.random.default_rng(2)

    def check(case: ClusterCase, **options: Any) -> None:
        result = run_program(built, case, coverage=coverage, max_cycles=400_000, **options)
        assert not differences(result, case), differences(result, case)
        if not options:
            assert (result.cycles, result.counters[0]) == timeline(case)

    for seed in (100, 101):
        check(extremes(seed))
    for seed in range(3):
        check(random_program(seed), store=0.4, load=0.3)
    check(with_semaphores(all_pairs(rng)), arrivals=ALWAYS)
    for opcode in RUNNING:
        fields = {"count": 1, "body": 1} if opcode == Opcode.LOOP else values_of(opcode, 0, rng)
        check(with_semaphores([instruction(opcode, **({} if opcode == Opcode.MAC else fields))]), arrivals=ALWAYS)
    check(wrapping_program())
    leave_points(coverage)
    return coverage


def test_the_cluster_has_seen_everything(seen_by_cluster):
    assert seen_by_cluster.holes == [] and not seen_by_cluster.surprises


def test_what_is_not_seen_is_named():
    """Random programs of ordinary layers have no extremes, and not all pairs."""
    coverage = cluster_coverage()
    for seed in range(3):
        count_program(coverage, random_program(seed))
    assert {"SETI.width max", "SETD.step min", "MAC.repeat max", "ADDW > WAIT", "FENCE > HALT"} <= set(coverage.holes)
    assert not {"SETI", "MAC.op TABLE", "SETD > SETD"} & set(coverage.holes)
