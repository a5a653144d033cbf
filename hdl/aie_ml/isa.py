# SPDX-License-Identifier: Apache-2.0
# Amaranth's structs are declared by annotations that are shapes, its enums with a shape: mypy knows neither.
# mypy: disable-error-code="valid-type,misc,call-arg"
"""The core's instruction word: 128 bits, six slots. `MANUAL.md` beside this file says what they do and when.

Slot widths and the encoding are ours (the published one has variable lengths); what can be issued together is not.
"""

import enum
from typing import TYPE_CHECKING

from amaranth.hdl import signed
from amaranth.lib import data

if TYPE_CHECKING:
    import enum as am_enum
else:
    from amaranth.lib import enum as am_enum

__all__ = [
    "INSTRUCTION_BYTES", "LATENCY", "LOOP_LEVELS", "POINTERS", "WEST_GROUPS", "AguRegister", "Control", "ControlOp",
    "Form", "Instruction", "Load", "LockOp", "LockUse", "Loop", "Mac", "Move", "MoveOp", "MoveSet", "Post", "Set",
    "Srs", "Store", "StoreOp", "Vector",
]  # fmt: skip

INSTRUCTION_BYTES = 16
POINTERS, LOOP_LEVELS = 8, 3
"""Of vectors and accumulators, and of beats: see `nncosim.platforms.aie_ml_generation`."""
WEST_GROUPS = 2
"""What a core asks of the west neighbour's memory for one cycle is a group; so many are under way at most."""

LATENCY = {
    "load": 7, "load_memory": 4, "store_memory": 6, "mac": 5, "mac_reads": 2, "mac_chain": 3, "bias": 3, "srs": 4,
    "max": 2, "cascade_get": 7,
}  # fmt: skip
"""Cycles from an issue: to when an instruction that reads the result when it is issued may be (load, mac, bias, srs,
max, cascade_get); in which data memory is accessed (load_memory, store_memory); in which a MAC reads its accumulator
(mac_reads); from a MAC to the next on the same accumulator (mac_chain). From load, MAC, VST.SRS, VSRS and cascade read
of AIE-ML's published pipeline (7, 5, 7, 4, 7, counted from 1)."""


class Post(am_enum.Enum, shape=2):
    """What becomes of a pointer after the access."""

    KEEP = 0
    ADD = 1  # the instruction's step
    WALK = 2  # inc, s1, s2 of its address generator


class Mac(am_enum.Enum, shape=2):
    NONE = 0
    I8X8 = 1  # 4x8 by 8x8, 32 sums of 32 bits; of AIE-MLv2 8 rows and 64 sums
    I16X8 = 2  # 4x4 by 4x8, 32 sums of 32 bits; 8, 64
    I16X16 = 3  # 4x4 by 4x4, 16 sums of 64 bits; 8, 32


class StoreOp(am_enum.Enum, shape=2):
    NONE = 0
    VST = 1
    VST_SRS = 2


class Form(am_enum.Enum, shape=2):
    """From sums to results, a beat at a time."""

    ACC32_8 = 0  # all sums of 32 bits
    ACC32_16 = 1  # a half of them
    ACC64_16 = 2  # all sums of 64 bits
    ACC64_32 = 3  # a half of them


class MoveOp(am_enum.Enum, shape=4):
    NONE = 0
    SET = 1
    BIAS = 2  # accumulator <- vector, repeated for each row
    SRS = 3  # vector <- accumulator
    MAX = 4  # vector <- max(vector, 0)
    GET = 5  # half of an accumulator <- cascade from the west
    PUT = 6  # cascade to the east <- half of an accumulator


class ControlOp(am_enum.Enum, shape=4):
    NONE = 0
    SET = 1
    LOOP = 2
    SRS = 3
    ACQUIRE = 4
    RELEASE = 5
    HALT = 15


class LockOp(am_enum.Enum, shape=2):
    """What is asked of a lock."""

    ACQUIRE_AT_LEAST = 0
    ACQUIRE_EQUAL = 1
    RELEASE = 2


class AguRegister(enum.IntEnum):
    """Bits 5..3 of the number of a register that SET writes; bits 2..0 are the pointer's."""

    POINTER = 0
    INC = 1
    N1 = 2
    S1 = 3
    N2 = 4
    S2 = 5


class Load(data.Struct):
    valid: 1
    vector: 5
    pointer: 3
    post: Post
    step: signed(7)


class Store(data.Struct):
    op: StoreOp
    source: 5
    form: Form
    half: 1
    pointer: 3
    post: Post
    step: signed(7)


class Vector(data.Struct):
    """`b`: the first of two vectors for 8x8. `b_half`: where a tile takes half a vector (AIE-MLv2), which one. `clear`:
    the accumulator counts as 0. `a_signed`, `b_signed`: operands."""

    op: Mac
    a: 5
    b: 5
    acc: 4
    clear: 1
    a_signed: 1
    b_signed: 1
    b_half: 1


class Move(data.Struct):
    """`wide`: of BIAS, sums of 64 bits; of MAX, elements of 16 bits. `high`: of GET and PUT, with `half`, which word of
    the accumulator (AIE-MLv2: one of four)."""

    op: MoveOp
    dest: 5
    source: 5
    form: Form
    half: 1
    wide: 1
    high: 1
    unused: 7


class MoveSet(data.Struct):
    """A `Move` whose `op` is SET."""

    op: MoveOp
    register: 6
    value: signed(16)


class Control(data.Struct):
    op: ControlOp
    payload: 20


class Set(data.Struct):
    """Payload of SET."""

    register: 6
    value: signed(14)


class Loop(data.Struct):
    """Payload of LOOP: the next `body` instructions `count` times; 0: for ever."""

    count: 11
    body: 9


class Srs(data.Struct):
    """Payload of SRS. `rounding`, `saturation`: see `nncosim.hdl.aie_ml.srs`. `signed`: of the results."""

    shift: 6
    rounding: 4
    saturation: 2
    signed: 1
    unused: 7


class LockUse(data.Struct):
    """Payload of ACQUIRE and RELEASE. `value`: to acquire, or to add; `equal`: acquired when it is just that; `west`: a
    lock of the west neighbour."""

    lock: 4
    value: signed(7)
    equal: 1
    west: 1
    unused: 7


class Instruction(data.Struct):
    load_a: Load
    load_b: Load
    store: Store
    vector: Vector
    move: Move
    control: Control
