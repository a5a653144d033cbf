# SPDX-License-Identifier: Apache-2.0
# Amaranth's structs are declared by annotations that are shapes, its enums with a shape: mypy knows neither.
# mypy: disable-error-code="valid-type,misc,call-arg"
"""Formats of the J3DAI accelerator: cluster instructions, DMPA descriptors, packets, requantization records.

This is the only place where they are written down; `MANUAL.md` beside this file says what they do.
Units: a *word* has one byte an NCB (one pixel of as many channels), a *line* is one word in each bank (one bank a PE).
On the default machine they are 16 bytes and 8 words. Formats are the same on all machines.
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
    "COUNT_BITS", "DESCRIPTOR_BYTES", "ENTRY_MAGIC", "INSTRUCTIONS", "INSTRUCTION_BITS", "KEPT_BITS", "MAX_BITS",
    "NARROW_M_BITS", "NARROW_X_BITS", "AddB", "AddW", "Agu", "Descriptor",
    "DmpaOp", "Drain", "EntryHeader", "EntryOp", "Fence", "Halt", "LdP", "Loop", "Mac", "MacOp", "Nop", "Opcode",
    "RequantRecord", "SetB", "SetD", "SetI", "SetO", "SetW", "Signal", "Space", "Wait",
]


class Opcode(enum.IntEnum):
    """Bits 5..0 of every instruction. All other values trap."""

    HALT = 1
    LOOP = 2
    WAIT = 3
    SIGNAL = 4
    FENCE = 5
    NOP = 6
    SETB = 8
    SETD = 9
    SETI = 10
    SETO = 11
    SETW = 12
    ADDB = 13
    ADDW = 14
    LDP = 16
    MAC = 17


class Agu(am_enum.Enum, shape=1):
    """The two address generators with dimensions: A reads windows, O writes results."""

    A = 0
    O = 1  # noqa: E741


class MacOp(am_enum.Enum, shape=2):
    MAC = 0  # accumulate activation x weight
    ADD = 1  # accumulate activation
    MAX = 2  # keep the greater
    TABLE = 3  # accumulate table[activation]


class Drain(am_enum.Enum, shape=2):
    WRITE = 0  # requantize, write
    KEEP = 1  # keep the low 16 bits of the accumulators beside what is drained next, write nothing
    ADD = 2  # kept * m of set 0 + low 16 bits * m of set 1: requantize (c of set 0, the rest of set 1), write
    PAIR = 3  # even jobs of the instruction KEEP, odd jobs ADD


class DmpaOp(am_enum.Enum, shape=4):
    """All other values trap."""

    LOAD = 1  # L2 -> clusters
    STORE = 2  # cluster L1 -> L2
    SYNC = 3  # wait and signal only
    GATHER = 4  # L2 -> clusters, each word a piece of a row of bytes


class Space(enum.IntEnum):
    """Bits 15..14 of a cluster-local word address."""

    L1 = 0
    WMEM = 1
    IMEM = 2


class Halt(data.Struct):
    """End of the program. The cluster is idle once all results are written."""

    opcode: 6


class Loop(data.Struct):
    """Execute the next `body` instructions `count` times. Zero in either field, or a fifth level, traps."""

    opcode: 6
    count: 16
    body: 9


class Wait(data.Struct):
    """Wait until input semaphore `semaphore` is above 0, then take 1 from it."""

    opcode: 6
    semaphore: 3


class Signal(data.Struct):
    """Add 1 to output semaphore `semaphore` when everything issued before has been read and written."""

    opcode: 6
    semaphore: 3


class Fence(data.Struct):
    """Wait until everything issued before has been read and written."""

    opcode: 6


class Nop(data.Struct):
    """Do nothing."""

    opcode: 6


class SetB(data.Struct):
    """Base word address and start coordinates of an AGU; `rewind` zeroes the outer indexes (O: all)."""

    opcode: 6
    agu: Agu
    rewind: 1
    base: 14
    x: signed(13)
    y: signed(13)


COUNT_BITS = 12
"""Of a dimension's count."""


class SetD(data.Struct):
    """One dimension of an AGU: count (0 acts as 1), address step in words, coordinate steps.

    AGU A: dimensions 0 to 2 run within a job, 3 to 5 step once a job. AGU O: 0 to 2 step once a write.
    Dimensions 6 and 7 (A) and 3 to 7 (O) do not exist: writing them changes nothing.
    """

    opcode: 6
    agu: Agu
    dim: 3
    count: COUNT_BITS
    step: signed(14)
    xstep: signed(8)
    ystep: signed(8)


class SetI(data.Struct):
    """Input windows: the map's width and height, the step between neighbouring PEs, the padding value."""

    opcode: 6
    width: 12
    height: 12
    pstride: signed(14)
    xpstep: signed(6)
    pad: signed(9)


class SetO(data.Struct):
    """Results: pixels with x < `width` are written; `ostride` 0: neighbours 1 word apart, 1: 2 words."""

    opcode: 6
    width: 12
    ostride: 1


class SetW(data.Struct):
    """Base and pointer of the weight AGU, in words of WMEM (in words of L1 for MAC.op = TABLE)."""

    opcode: 6
    base: 14


class AddB(data.Struct):
    """Add to an AGU's base address and start coordinates; the outer indexes stay."""

    opcode: 6
    agu: Agu
    step: signed(14)
    xstep: signed(13)
    ystep: signed(13)


class AddW(data.Struct):
    """Add to the weight AGU's base; its pointer becomes the new base."""

    opcode: 6
    step: signed(14)


class LdP(data.Struct):
    """Load requantization records into parameter set `pset` of all NCBs.

    16 words of WMEM from the line on that word address `base` lies in: record n to NCB n.
    """

    opcode: 6
    pset: 1
    base: 14


class Mac(data.Struct):
    """Run `repeat` + 1 jobs; a job walks the inner dimensions of AGU A and gives a pixel a PE x a channel an NCB.

    See the manual for the fields.
    """

    opcode: 6
    op: MacOp
    depthwise: 1
    signed_a: 1
    first: 1
    last: 1
    advance: 1
    lane: 4
    lanes: 4  # number of lanes less one
    rewind_w: 1
    next_w: 1
    pset: 1
    drain: Drain
    repeat: 16  # number of jobs less one
    lane_high: 1  # bit 4 of `lane` and of `lanes`: for clusters of 32 NCBs; smaller ones take the low bits
    lanes_high: 1
    wide_x: 1  # requantize all 32 bits of the accumulators: twice the cycles. Without it, their low 19 bits
    wide_m: 1  # multiply by all 32 bits of m: twice the cycles. Without it, by its low 25 bits


INSTRUCTIONS: dict[Opcode, type[data.Struct]] = {
    Opcode.HALT: Halt, Opcode.LOOP: Loop, Opcode.WAIT: Wait, Opcode.SIGNAL: Signal, Opcode.FENCE: Fence,
    Opcode.NOP: Nop, Opcode.SETB: SetB, Opcode.SETD: SetD, Opcode.SETI: SetI, Opcode.SETO: SetO,
    Opcode.SETW: SetW, Opcode.ADDB: AddB, Opcode.ADDW: AddW, Opcode.LDP: LdP, Opcode.MAC: Mac,
}  # fmt: skip

INSTRUCTION_BITS = 64

NARROW_X_BITS, NARROW_M_BITS = 19, 25
"""Operands of the requantizers' multiplier, signed: what a MAC without `wide_x`, `wide_m` takes of accumulator and
m. A 3x3 depthwise sum of int8 weights and uint8 pixels (9 x 127 x 255) has 19 bits; 25 bits of m are exact for
accumulators of up to about 20 bits in use."""

MAX_BITS = 9
"""A maximum is one of operands: MAX compares so many low bits of the accumulator, signed."""

KEPT_BITS = 16
"""What KEEP keeps of an accumulator, and ADD adds to it, signed."""


class Descriptor(data.Struct):
    """One DMPA transfer: 256 bits, as many as fit in an L2 line. Addresses and steps are in words.

    A transfer is n2 x n1 runs of n0 words (n1, n2: 0 acts as 1). The fields behind `local_step2` are those of GATHER;
    its l2_step1 and l2_step2 are in bytes.
    """

    op: DmpaOp
    end: 1
    clusters: 8
    wait_mask: 8
    wait_semaphore: 3
    signal_mask: 8
    signal_semaphore: 3
    l2: 20
    local: 16
    n0: 16
    n1: 12
    l2_step1: signed(20)
    local_step1: signed(14)
    n2: 12
    l2_step2: signed(20)
    local_step2: signed(14)
    offset: 5  # byte of word `l2` at which the first run's bytes begin
    step: 6  # bytes from where a word's begin to where the next word's do
    used: 6  # bytes of a word; the others are 0
    left: 5  # the run begins so many bytes after its first word does
    length: 21  # bytes of a run
    fill: 8  # what a word holds outside the run
    pad: 26


DESCRIPTOR_BYTES = 32


class EntryOp(am_enum.Enum, shape=4):
    """All other values trap."""

    LOAD = 1  # `words` words follow, for the memory at `address`
    FRAME = 2  # one more inference is asked for
    GO = 3  # the host, held since reset, begins


ENTRY_MAGIC = 0xE7


class EntryHeader(data.Struct):
    """First word of a packet at the entry port, in its lowest 64 bits; those above are ignored.

    address: byte address in the memory map, of a whole word. words: that follow, and as many are written.
    input: the words wait until the input of the inference before has been read.
    """

    magic: 8
    op: EntryOp
    input: 1
    pad: 3  # 0
    words: 16
    address: 32


class RequantRecord(data.Struct):
    """Requantization of one channel: q = clip(round((acc * m + c) >> s), lo, hi).

    wrap: do not clip; the low 8 bits of the rounded number are the result (a byte of a wider one).
    """

    m: signed(32)
    c: signed(64)
    s: 6
    lo: signed(9)
    hi: signed(9)
    rounding: 3  # nncosim.platforms.rounding.Rounding
    wrap: 1
    pad: 4
