# SPDX-License-Identifier: Apache-2.0
"""The simulator of the AIE-ML tile by hand-written programs: each latency of the manual, from both sides."""

import numpy as np
import pytest
from nncosim.compiler.aie_ml.loops import Line
from nncosim.hdl.aie_ml.isa import (
    AguRegister,
    Control,
    ControlOp,
    Form,
    Load,
    Mac,
    Move,
    MoveOp,
    Post,
    Set,
    Srs,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.formats import encode
from nncosim.regress.aie_ml_programs import assembled
from nncosim.tb.aie_ml.iss import Tile

RNG = np.random.default_rng(4)
MEMORY = RNG.integers(0, 256, 65536, dtype=np.uint8)
HALT = Line((("control", encode(Control, op=ControlOp.HALT.value)),))
OUT = 100


def line(**slots: int) -> Line:
    return Line(tuple(sorted(slots.items())))


def setting(which: AguRegister, pointer: int, value: int) -> Line:
    payload = encode(Set, register=which << 3 | pointer, value=value)
    return line(control=encode(Control, op=ControlOp.SET.value, payload=payload))


def point(pointer: int, beat: int) -> Line:
    return setting(AguRegister.POINTER, pointer, beat)


def load(vector: int, pointer: int = 0, **fields: int) -> int:
    return encode(Load, valid=1, vector=vector, pointer=pointer, **fields)


def store(vector: int, **fields: int) -> int:
    return encode(Store, op=StoreOp.VST.value, source=vector, pointer=7, post=Post.ADD.value, step=1, **fields)


def fused(acc: int, form: Form, half: int = 0) -> int:
    return encode(Store, op=StoreOp.VST_SRS.value, source=acc, form=form.value, half=half, pointer=7,
                  post=Post.ADD.value, step=1)  # fmt: skip


def srs(shift: int = 0, rounding: int = 0, saturation: int = 0, signed: int = 1) -> Line:
    payload = encode(Srs, shift=shift, rounding=rounding, saturation=saturation, signed=signed)
    return line(control=encode(Control, op=ControlOp.SRS.value, payload=payload))


def run(*lines: Line) -> Tile:
    tile = Tile(seed=9)
    tile.memory[:] = MEMORY
    tile.load_program(assembled([*lines, HALT]))
    tile.start()
    tile.run(10_000)
    return tile


def beat(data: np.ndarray, number: int, count: int = 1) -> bytes:
    return data[32 * number : 32 * (number + count)].tobytes()


FIRST = [point(7, OUT), point(0, 1), line(load_a=load(0, post=Post.ADD.value, step=1)), line(load_a=load(4)),
         *[Line()] * 6]  # fmt: skip
"""w0 is beat 1, w4 is beat 2."""


@pytest.mark.parametrize(("wait", "expected"), [(6, "before"), (7, "after")])
def test_a_load_takes_seven(wait, expected):
    tile = run(*FIRST, point(1, 5), line(load_b=load(0, 1)), *[Line()] * (wait - 1), line(store=store(0)))
    assert beat(tile.memory, OUT) == beat(MEMORY, {"before": 1, "after": 5}[expected]) and tile.problems == ()


@pytest.mark.parametrize(("wait", "after"), [(1, False), (2, True)])
def test_max_takes_two(wait, after):
    words = encode(Move, op=MoveOp.MAX.value, dest=4, source=0)
    tile = run(*FIRST, line(move=words), *[Line()] * (wait - 1), line(store=store(4)))
    signed = np.maximum(MEMORY[32:64].view(np.int8), 0).tobytes()
    assert beat(tile.memory, OUT) == (signed if after else beat(MEMORY, 2))


@pytest.mark.parametrize(("wait", "after"), [(2, False), (3, True)])
def test_bias_takes_three(wait, after):
    first, second = (line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=k)) for k in (4, 0))
    tile = run(*FIRST, srs(), first, *[Line()] * 3, second, *[Line()] * (wait - 1),
               line(store=fused(1, Form.ACC32_16)))  # fmt: skip
    words = MEMORY[32 if after else 64 :][:32].view(np.int32)[:4].astype(np.int16)
    assert beat(tile.memory, OUT) == np.tile(words, 4).tobytes()


@pytest.mark.parametrize(("wait", "after"), [(3, False), (4, True)])
def test_srs_takes_four(wait, after):
    bias = line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=0))
    words = encode(Move, op=MoveOp.SRS.value, dest=4, source=1, form=Form.ACC32_8.value)
    tile = run(*FIRST, srs(), bias, *[Line()] * 3, line(move=words), *[Line()] * (wait - 1), line(store=store(4)))
    low = MEMORY[32:64].view(np.int32).astype(np.int8)
    expected = np.concatenate([np.tile(low[:4], 4), np.tile(low[4:], 4)]).tobytes()
    assert beat(tile.memory, OUT) == (expected if after else beat(MEMORY, 2))


@pytest.mark.parametrize(("wait", "after"), [(4, False), (5, True)])
@pytest.mark.parametrize("op", list(Mac)[1:])
def test_a_mac_takes_five_and_computes(op, wait, after):
    """a = w0 = beat 1, b = w4 (and w5) = beat 2 (and whatever w5 holds: beat 3)."""
    more = [line(load_a=load(5, 1)), *[Line()] * 6]
    clear = line(vector=encode(Vector, op=op.value, a=0, b=4, acc=2, clear=1, a_signed=0, b_signed=0))
    mac = line(vector=encode(Vector, op=op.value, a=0, b=4, acc=2, clear=1, a_signed=1, b_signed=1))
    wide = op == Mac.I16X16
    form = Form.ACC64_32 if wide else Form.ACC32_16
    halves = [line(store=fused(2, form, half)) for half in (0, 1)]
    tile = run(*FIRST, point(1, 3), *more, srs(), clear, *[Line()] * 5, mac, *[Line()] * (wait - 1), halves[0],
               Line(), halves[1])  # fmt: skip
    kind = np.int8 if op == Mac.I8X8 else np.int16
    a, b = MEMORY[32:64], MEMORY[64:128]
    if op == Mac.I8X8:
        left = a.reshape(2, 4, 4).transpose(1, 0, 2).reshape(4, 8)
        right = b.reshape(8, 8)
    else:
        left = a.view(np.int16).reshape(4, 4)
        right = b[:32].reshape(8, 4) if op == Mac.I16X8 else b[:32].view(np.int16).reshape(4, 4)
    signed = left.view(kind).astype(np.int64) @ right.view(np.int16 if wide else np.int8).astype(np.int64).T
    unsigned_kind = np.uint16 if kind == np.int16 else np.uint8
    unsigned = left.view(unsigned_kind).astype(np.int64) @ right.view(
        np.uint16 if wide else np.uint8).astype(np.int64).T  # fmt: skip

    def half(sums: np.ndarray, number: int) -> bytes:
        if wide:
            return sums.reshape(-1)[8 * number : 8 * number + 8].astype(np.int32).tobytes()
        return sums[:, 4 * number : 4 * number + 4].astype(np.int16).tobytes()

    assert beat(tile.memory, OUT) == half(signed if after else unsigned, 0)
    assert beat(tile.memory, OUT + 1) == half(signed, 1)


@pytest.mark.parametrize(("wait", "sums"), [(2, 1), (3, 2)])
def test_macs_on_one_accumulator_chain_after_three(wait, sums):
    mac = dict(op=Mac.I16X8.value, a=0, b=4, acc=2, a_signed=1, b_signed=1)
    first, second = (line(vector=encode(Vector, clear=clear, **mac)) for clear in (1, 0))
    result = line(store=fused(2, Form.ACC32_16))
    tile = run(*FIRST, srs(), first, *[Line()] * (wait - 1), second, *[Line()] * 5, result)
    # What the accumulator held before both is not known: with too short a distance the second adds to that.
    once = (MEMORY[32:64].view(np.int16).reshape(4, 4).astype(np.int64)
            @ MEMORY[64:96].view(np.int8).reshape(8, 4).astype(np.int64).T)[:, :4]  # fmt: skip
    assert (beat(tile.memory, OUT) == (sums * once).astype(np.int16).tobytes()) == (sums == 2)


def test_a_walk_in_three_dimensions():
    walk = {AguRegister.POINTER: 10, AguRegister.INC: 2, AguRegister.N1: 3, AguRegister.S1: 7, AguRegister.N2: 2,
            AguRegister.S2: -20}  # fmt: skip
    sets = [setting(which, 2, value) for which, value in walk.items()]
    loads = [line(load_a=load(k, 2, post=Post.WALK.value)) for k in range(14)]
    tile = run(point(7, OUT), *sets, *loads, *[Line()] * 7, *(line(store=store(k)) for k in range(14)))
    expected, at = [], 10
    while len(expected) < 14:
        for block in range(2):
            for k in range(3):
                expected.append(at)
                at += 2 if k < 2 else (7, -20)[block]
    got = [beat(tile.memory, OUT + k) for k in range(14)]
    assert got == [beat(MEMORY, number) for number in expected[:14]]


def test_accesses_of_one_bank_wait_for_each_other():
    """Store and two loads of one cycle: the core loses two cycles, and the store comes first."""
    loads = line(load_a=load(1), load_b=load(2, 1))
    same = [point(7, 40), point(0, 1), point(1, 2), line(store=store(0)), Line(), loads]
    apart = [point(7, 540), point(0, 1), point(1, 1030), *same[3:]]
    assert run(*same).wait_port == 2 and run(*apart).wait_port == 0
    assert run(*same).cycle == run(*apart).cycle + 2


def test_halt_lets_what_was_issued_end():
    tile = run(*FIRST, line(store=store(0)))
    assert beat(tile.memory, OUT) == beat(MEMORY, 1)
    assert tile.busy == len(FIRST) + 2 and tile.cycle == tile.busy + 8


@pytest.mark.parametrize(("lines", "text"), [
    ([line(load_a=load(1), load_b=load(2))], "two slots use one pointer"),
    ([line(load_a=load(1, 0)), line(move=encode(Move, op=MoveOp.SRS.value, dest=1)), Line(),
      line(move=encode(Move, op=MoveOp.MAX.value, dest=1))], "two writes of one register"),
    ([line(load_a=load(25))], "a register that does not exist"),
    ([line(store=fused(0, Form.ACC32_8), move=encode(Move, op=MoveOp.SRS.value, dest=1))], "share a unit"),
    ([Line().with_loop(2, 1)], "a body of less than 2"),
])  # fmt: skip
def test_a_broken_rule_is_told(lines, text):
    tile = run(*lines)
    assert any(text in str(problem) for problem in tile.problems)


def test_a_program_without_an_end_is_told():
    tile = Tile(seed=1)
    tile.load_program(assembled([Line()]))
    tile.start()
    tile.run(100)
    assert any("without HALT" in problem.text for problem in tile.problems)
