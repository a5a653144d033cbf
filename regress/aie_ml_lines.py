# SPDX-License-Identifier: Apache-2.0
"""Instructions of the AIE-ML core, written by hand: each with one operation."""

from __future__ import annotations

from nncosim.compiler.aie_ml.loops import Line
from nncosim.hdl.aie_ml.isa import (
    Control,
    ControlOp,
    Form,
    Load,
    Mac,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.formats import encode

__all__ = ["HALT", "line", "load", "mac", "move", "set_pointer", "store"]

HALT = Line((("control", encode(Control, op=ControlOp.HALT.value)),))


def line(**slots: int) -> Line:
    return Line(tuple(sorted(slots.items())))


def load(vector: int, slot: str = "load_a", pointer: int = 0) -> Line:
    return line(**{slot: encode(Load, valid=1, vector=vector, pointer=pointer, post=Post.KEEP.value)})


def mac(a: int = 20, b: int = 22, acc: int = 8, op: Mac = Mac.I8X8, clear: int = 0) -> Line:
    return line(vector=encode(Vector, op=op.value, a=a, b=b, acc=acc, clear=clear, a_signed=1, b_signed=1))


def move(op: MoveOp, dest: int = 0, source: int = 0, form: Form = Form.ACC32_8, half: int = 0) -> Line:
    return line(move=encode(Move, op=op.value, dest=dest, source=source, form=form.value, half=half))


def store(source: int, op: StoreOp = StoreOp.VST, form: Form = Form.ACC32_8, half: int = 0, pointer: int = 7) -> Line:
    return line(store=encode(Store, op=op.value, source=source, form=form.value, half=half, pointer=pointer))


def set_pointer(number: int, value: int) -> Line:
    return line(move=encode(MoveSet, op=MoveOp.SET.value, register=number, value=value))
