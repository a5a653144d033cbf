# SPDX-License-Identifier: Apache-2.0
"""Functional coverage: points that are declared, hit, missed, or hit although they could not be."""

import enum

import pytest
from amaranth.hdl import signed
from amaranth.lib import data
from amaranth.lib import enum as am_enum
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import INSTRUCTIONS
from nncosim.tb.coverage.points import Coverage, InstructionCoverage, classes_of, fields_of, points_table, value_in
from nncosim.tb.errors import BenchError


class Op(enum.IntEnum):
    GO = 1
    STOP = 2


class Mode(am_enum.Enum, shape=2):  # type: ignore[call-arg]
    UP = 0
    DOWN = 1



class GoFormat(data.Struct):
    opcode: 6  # type: ignore[valid-type]
    flag: 1  # type: ignore[valid-type]
    mode: Mode
    count: 4  # type: ignore[valid-type]
    step: signed(4)  # type: ignore[valid-type]


class StopFormat(data.Struct):
    opcode: 6  # type: ignore[valid-type]


FORMATS = {Op.GO: GoFormat, Op.STOP: StopFormat}


def coverage(**options) -> InstructionCoverage:
    return InstructionCoverage("small", FORMATS, [Op.GO], **options)


def go(**fields: int) -> int:
    return encode(GoFormat, opcode=1, **fields)


def test_points_of_an_instruction_set():
    assert list(coverage(others=["x"]).hits) == [
        "GO", "STOP", "GO.flag 0", "GO.flag 1", "GO.mode UP", "GO.mode DOWN", "GO.count zero", "GO.count max",
        "GO.count other", "GO.step min", "GO.step zero", "GO.step max", "GO.step other",
        "GO > GO", "GO > STOP", "STOP > GO", "STOP > STOP", "x",
    ]  # fmt: skip


def test_what_a_program_hits():
    seen = coverage(unreachable={"STOP > *": "the end"})
    seen.executed([go(count=15, step=-8), go(flag=1, count=3, step=7, mode=1), encode(StopFormat, opcode=2)])
    assert seen.hits["GO"] == 2 and seen.hits["GO > GO"] == seen.hits["GO > STOP"] == seen.hits["STOP"] == 1
    assert seen.holes == ["GO.count zero", "GO.step zero", "GO.step other"] and not seen.surprises
    seen.executed([go(step=1)])  # another program: it follows nothing
    assert seen.holes == ["GO.step zero"] and seen.hits["GO > GO"] == 1
    assert seen.excluded == {"STOP > GO": "the end", "STOP > STOP": "the end"}
    seen.executed([encode(StopFormat, opcode=2), go(step=-1)])
    assert seen.surprises == ["STOP > GO"]
    assert points_table([seen.to_json()]).row_count == 1 and seen.to_json()["holes"] == ["GO.step zero"]


def test_points_that_are_not_declared():
    with pytest.raises(BenchError, match="coverage c: there is no point 'b'"):
        Coverage("c", ["a"]).hit("b")
    with pytest.raises(BenchError, match=r"coverage c: no point is named 'x\*'"):
        Coverage("c", ["a"], {"x*": "why"})
    with pytest.raises(BenchError, match="there is no point"):
        coverage().executed([3])


def test_a_value_of_each_class_is_of_that_class():
    """For each field of J3DAI's instructions, whatever is chosen within the class."""
    for opcode, layout in INSTRUCTIONS.items():
        for name, shape in fields_of(layout).items():
            for kind in classes_of(shape):
                for choose in (lambda low, high: low, lambda low, high: high):
                    seen = InstructionCoverage("one", INSTRUCTIONS, [opcode])
                    seen.executed([encode(layout, opcode=int(opcode), **{name: value_in(shape, kind, choose)})])
                    assert seen.hits[f"{opcode.name}.{name} {kind}"] == 1
