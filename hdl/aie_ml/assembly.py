# SPDX-License-Identifier: Apache-2.0
"""Instruction words of the core as text for people, slot by slot, in the words of `MANUAL.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from amaranth.lib import data
from nncosim.hdl.aie_ml.isa import (
    AguRegister,
    Control,
    ControlOp,
    Form,
    Instruction,
    Load,
    LockUse,
    Loop,
    Mac,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Set,
    Srs,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.formats import decode

__all__ = ["Operation", "disassembled"]

_SLOTS: Mapping[str, type[data.Struct]] = {
    "load_a": Load, "load_b": Load, "store": Store, "vector": Vector, "move": Move, "control": Control,
}  # fmt: skip
_PLACES = {name: (member.offset, member.width) for name, member in Instruction.as_shape()}
_HALVES = (Form.ACC32_16.value, Form.ACC64_32.value)
"""Forms that take half of an accumulator."""
_HALF = ("low", "high")
Fields = Mapping[str, int]


class Operation(NamedTuple):
    """What a slot does. reads, writes: vectors and accumulators, such as "w5", "cm0"."""

    text: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


def disassembled(word: int) -> dict[str, Operation]:
    """Of an instruction, by slot; those that do nothing are left out."""
    out = {}
    for name, (offset, width) in _PLACES.items():
        bits = word >> offset & (1 << width) - 1
        found = _OPERATIONS[name](decode(_SLOTS[name], bits), bits)
        if found is not None:
            out[name] = found
    return out


def _access(fields: Fields) -> str:
    post = fields["post"]
    step = f" {fields['step']:+}" if post == Post.ADD.value else ""
    return f"p{fields['pointer']} {Post(post).name}{step}" if post <= Post.WALK.value else f"p{fields['pointer']}"


def _load(fields: Fields, bits: int) -> Operation | None:
    vector = f"w{fields['vector']}"
    return Operation(f"LOAD {vector}, {_access(fields)}", (), (vector,)) if fields["valid"] else None


def _requantized(fields: Fields) -> str:
    half = f" {_HALF[fields['half']]}" if fields["form"] in _HALVES else ""
    return f"cm{fields['source']}{half}, {Form(fields['form']).name}"


def _store(fields: Fields, bits: int) -> Operation | None:
    source = fields["source"]
    if fields["op"] == StoreOp.VST_SRS.value:
        return Operation(f"VST.SRS {_requantized(fields)}, {_access(fields)}", (f"cm{source}",))
    return Operation(f"VST w{source}, {_access(fields)}", (f"w{source}",)) if fields["op"] else None


def _vector(fields: Fields, bits: int) -> Operation | None:
    if not fields["op"]:
        return None
    a, acc = f"w{fields['a']}", f"cm{fields['acc']}"
    b = [f"w{fields['b']}"] + ([f"w{(fields['b'] + 1) % 32}"] if fields["op"] == Mac.I8X8.value else [])
    signs = "".join("us"[fields[name]] for name in ("a_signed", "b_signed"))
    text = f"MAC {Mac(fields['op']).name} {signs} {acc}{' clear' if fields['clear'] else ''}, {a}, {':'.join(b)}"
    return Operation(text, (a, *b, *(() if fields["clear"] else (acc,))), (acc,))


def _setting(number: int, value: int) -> Operation:
    which, pointer = divmod(number, 8)
    named = which in {each.value for each in AguRegister}
    name = "" if which == AguRegister.POINTER else f".{AguRegister(which).name.lower() if named else which}"
    return Operation(f"SET p{pointer}{name}, {value}")


def _move(fields: Fields, bits: int) -> Operation | None:
    dest, source, half = fields["dest"], fields["source"], _HALF[fields["half"]]
    wide = " wide" if fields["wide"] else ""
    setting = decode(MoveSet, bits)
    operations = {
        MoveOp.SET: _setting(setting["register"], setting["value"]),
        MoveOp.BIAS: Operation(f"BIAS{wide} cm{dest}, w{source}", (f"w{source}",), (f"cm{dest}",)),
        MoveOp.SRS: Operation(f"SRS w{dest}, {_requantized(fields)}", (f"cm{source}",), (f"w{dest}",)),
        MoveOp.MAX: Operation(f"MAX{wide} w{dest}, w{source}", (f"w{source}",), (f"w{dest}",)),
        MoveOp.GET: Operation(f"GET cm{dest} {half}", (), (f"cm{dest}",)),
        MoveOp.PUT: Operation(f"PUT cm{source} {half}", (f"cm{source}",)),
    }
    return {op.value: each for op, each in operations.items()}.get(fields["op"])


def _control(fields: Fields, bits: int) -> Operation | None:
    payload = fields["payload"]
    setting, loop, srs, lock = (decode(each, payload) for each in (Set, Loop, Srs, LockUse))
    signed = "signed" if srs["signed"] else "unsigned"
    settings = f"rounding {srs['rounding']}, saturation {srs['saturation']}, {signed}"
    texts = {
        ControlOp.HALT: "HALT", ControlOp.LOOP: f"LOOP {loop['count'] or 'for ever'}, {loop['body']} instructions",
        ControlOp.SRS: f"SRS shift {srs['shift']}, {settings}",
        ControlOp.ACQUIRE: f"ACQUIRE lock {lock['lock']}, {'equal' if lock['equal'] else 'at least'} {lock['value']}",
        ControlOp.RELEASE: f"RELEASE lock {lock['lock']}, {lock['value']:+}",
    }
    operations = {op: Operation(text) for op, text in texts.items()}
    operations[ControlOp.SET] = _setting(setting["register"], setting["value"])
    return {op.value: each for op, each in operations.items()}.get(fields["op"])


_OPERATIONS = {"load_a": _load, "load_b": _load, "store": _store, "vector": _vector, "move": _move, "control": _control}
