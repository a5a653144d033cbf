# SPDX-License-Identifier: Apache-2.0
"""Instruction words of the core as text, in the words of `MANUAL.md`, slot by slot; for people, not for an assembler."""

from __future__ import annotations

from collections.abc import Mapping

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

__all__ = ["disassembled"]

_SLOTS: Mapping[str, type[data.Struct]] = {
    "load_a": Load, "load_b": Load, "store": Store, "vector": Vector, "move": Move, "control": Control,
}  # fmt: skip
_PLACES = {name: (member.offset, member.width) for name, member in Instruction.as_shape()}
_HALVES = (Form.ACC32_16.value, Form.ACC64_32.value)
"""Forms that take half of an accumulator."""
Fields = Mapping[str, int]


def disassembled(word: int) -> dict[str, str]:
    """What each slot of an instruction does; those that do nothing are left out."""
    out = {}
    for name, (offset, width) in _PLACES.items():
        bits = word >> offset & (1 << width) - 1
        text = _TEXTS[name](decode(_SLOTS[name], bits), bits)
        if text:
            out[name] = text
    return out


def _access(fields: Fields) -> str:
    post = fields["post"]
    step = f" {fields['step']:+}" if post == Post.ADD.value else ""
    return f"p{fields['pointer']} {Post(post).name}{step}" if post <= Post.WALK.value else f"p{fields['pointer']}"


def _load(fields: Fields, bits: int) -> str:
    return f"LOAD w{fields['vector']}, {_access(fields)}" if fields["valid"] else ""


def _requantized(fields: Fields) -> str:
    half = f" {('low', 'high')[fields['half']]}" if fields["form"] in _HALVES else ""
    return f"cm{fields['source']}{half}, {Form(fields['form']).name}"


def _store(fields: Fields, bits: int) -> str:
    if fields["op"] == StoreOp.VST_SRS.value:
        return f"VST.SRS {_requantized(fields)}, {_access(fields)}"
    return f"VST w{fields['source']}, {_access(fields)}" if fields["op"] else ""


def _vector(fields: Fields, bits: int) -> str:
    if not fields["op"]:
        return ""
    b = f"w{fields['b']}" + (f":w{(fields['b'] + 1) % 32}" if fields["op"] == Mac.I8X8.value else "")
    signs = "".join("us"[fields[name]] for name in ("a_signed", "b_signed"))
    clear = " clear" if fields["clear"] else ""
    return f"MAC {Mac(fields['op']).name} {signs} cm{fields['acc']}{clear}, w{fields['a']}, {b}"


def _register(number: int, value: int) -> str:
    which, pointer = divmod(number, 8)
    name = "" if which == AguRegister.POINTER else f".{AguRegister(which).name.lower()}" if which < 6 else f".{which}"
    return f"SET p{pointer}{name}, {value}"


def _move(fields: Fields, bits: int) -> str:
    dest, source, half = fields["dest"], fields["source"], ("low", "high")[fields["half"]]
    wide = " wide" if fields["wide"] else ""
    setting = decode(MoveSet, bits)
    texts = {
        MoveOp.SET: _register(setting["register"], setting["value"]), MoveOp.BIAS: f"BIAS{wide} cm{dest}, w{source}",
        MoveOp.SRS: f"SRS w{dest}, {_requantized(fields)}", MoveOp.MAX: f"MAX{wide} w{dest}, w{source}",
        MoveOp.GET: f"GET cm{dest} {half}", MoveOp.PUT: f"PUT cm{source} {half}",
    }  # fmt: skip
    return {op.value: text for op, text in texts.items()}.get(fields["op"], "")


def _control(fields: Fields, bits: int) -> str:
    payload = fields["payload"]
    setting, loop, srs, lock = (decode(each, payload) for each in (Set, Loop, Srs, LockUse))
    signed = "signed" if srs["signed"] else "unsigned"
    texts = {
        ControlOp.SET: _register(setting["register"], setting["value"]), ControlOp.HALT: "HALT",
        ControlOp.LOOP: f"LOOP {loop['count'] or 'for ever'}, {loop['body']} instructions",
        ControlOp.SRS: f"SRS shift {srs['shift']}, rounding {srs['rounding']}, saturation {srs['saturation']}, {signed}",
        ControlOp.ACQUIRE: f"ACQUIRE lock {lock['lock']}, {'equal' if lock['equal'] else 'at least'} {lock['value']}",
        ControlOp.RELEASE: f"RELEASE lock {lock['lock']}, {lock['value']:+}",
    }
    return {op.value: text for op, text in texts.items()}.get(fields["op"], "")


_TEXTS = {"load_a": _load, "load_b": _load, "store": _store, "vector": _vector, "move": _move, "control": _control}
