# SPDX-License-Identifier: Apache-2.0
"""AIE-ML instructions as text."""

import pytest
from nncosim.compiler.aie_ml.loops import Line
from nncosim.hdl.aie_ml.assembly import Operation, disassembled
from nncosim.hdl.aie_ml.isa import (
    Control,
    ControlOp,
    Form,
    Load,
    LockUse,
    Mac,
    MoveOp,
    MoveSet,
    Post,
    Set,
    Srs,
    StoreOp,
)
from nncosim.hdl.formats import encode
from nncosim.regress.aie_ml_lines import HALT, line, load, mac, move, set_pointer, store


def control(op: ControlOp, payload: int = 0) -> Line:
    return line(control=encode(Control, op=op.value, payload=payload))


def stepped(post: Post, step: int) -> Line:
    return line(load_b=encode(Load, valid=1, vector=7, pointer=4, post=post.value, step=step))


@pytest.mark.parametrize(("given", "text", "reads", "writes"), [
    (load(5), "LOAD w5, p0 KEEP", "", "w5"),
    (stepped(Post.ADD, -3), "LOAD w7, p4 ADD -3", "", "w7"),
    (stepped(Post.WALK, 5), "LOAD w7, p4 WALK", "", "w7"),
    (store(3), "VST w3, p7 KEEP", "w3", ""),
    (store(2, StoreOp.VST_SRS, Form.ACC32_16, 1), "VST.SRS cm2 high, ACC32_16, p7 KEEP", "cm2", ""),
    (mac(1, 4, 2), "MAC I8X8 ss cm2, w1, w4:w5", "w1 w4 w5 cm2", "cm2"),
    (mac(1, 4, 2, Mac.I16X8, 1), "MAC I16X8 ss cm2 clear, w1, w4", "w1 w4", "cm2"),
    (set_pointer(3, 9), "SET p3, 9", "", ""),
    (line(move=encode(MoveSet, op=MoveOp.SET.value, register=11, value=-1)), "SET p3.inc, -1", "", ""),
    (line(move=encode(MoveSet, op=MoveOp.SET.value, register=51)), "SET p3.6, 0", "", ""),
    (move(MoveOp.BIAS, 1, 2), "BIAS cm1, w2", "w2", "cm1"),
    (move(MoveOp.SRS, 9, 2), "SRS w9, cm2, ACC32_8", "cm2", "w9"),
    (move(MoveOp.SRS, 9, 2, Form.ACC64_32), "SRS w9, cm2 low, ACC64_32", "cm2", "w9"),
    (move(MoveOp.MAX, 9, 8), "MAX w9, w8", "w8", "w9"),
    (move(MoveOp.GET, 4, half=1), "GET cm4 high", "", "cm4"),
    (move(MoveOp.PUT, source=4), "PUT cm4 low", "cm4", ""),
    (control(ControlOp.SET, encode(Set, register=0o20, value=4)), "SET p0.n1, 4", "", ""),
    (Line().with_loop(0, 12), "LOOP for ever, 12 instructions", "", ""),
    (Line().with_loop(3, 2), "LOOP 3, 2 instructions", "", ""),
    (control(ControlOp.SRS, encode(Srs, shift=7, rounding=12, saturation=1)),
     "SRS shift 7, rounding 12, saturation 1, unsigned", "", ""),
    (control(ControlOp.ACQUIRE, encode(LockUse, lock=3, value=1)), "ACQUIRE lock 3, at least 1", "", ""),
    (control(ControlOp.RELEASE, encode(LockUse, lock=2, value=-1)), "RELEASE lock 2, -1", "", ""),
    (HALT, "HALT", "", ""),
])  # fmt: skip
def test_an_operation(given, text, reads, writes):
    (slot,) = (name for name, _ in given.slots)
    assert disassembled(given.word) == {slot: Operation(text, tuple(reads.split()), tuple(writes.split()))}


def test_slots_that_do_nothing_are_left_out():
    assert disassembled(0) == {} and disassembled(0x7 << 104) == {}
    both = Line((*load(1).slots, *move(MoveOp.MAX, 2, 3).slots))
    assert {slot: each.text for slot, each in disassembled(both.word).items()} == {
        "load_a": "LOAD w1, p0 KEEP", "move": "MAX w2, w3"}  # fmt: skip


def test_any_word_has_a_text():
    for bit in range(128):
        disassembled(1 << bit)
        disassembled((1 << 128) - 1 ^ 1 << bit)
