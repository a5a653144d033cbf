# SPDX-License-Identifier: Apache-2.0
"""Assembler and disassembler: cluster programs and DMPA descriptor lists, on the formats of `isa.py`.

    p = ClusterProgram(platform)
    p.setb(Agu.A, base=0, rewind=1)
    with p.loop(4):
        p.mac(last=1, first=1, advance=1)
    p.signal(0)
    p.halt()
    image = p.to_bytes()

    lists = DescriptorList(platform)
    lists.load(l2=64, clusters=0b1, local=address(Space.IMEM, 0), n0=8, signal_mask=0b1, signal_semaphore=7)
    image = lists.to_bytes()

Every field is range-checked by `nncosim.hdl.formats.encode`. Formats are the same on all machines; the platform, the
default one if left out, says what a word and a line are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from amaranth.hdl import Shape
from amaranth.lib import data
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import DESCRIPTOR_BYTES, INSTRUCTIONS, Agu, Descriptor, DmpaOp, Drain, MacOp, Opcode, Space
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.j3dai import PLATFORM, J3dai

__all__ = [
    "AssemblyError", "ClusterProgram", "DescriptorList", "address", "decode_descriptors", "disassemble",
    "disassemble_descriptors", "fields_of", "words_of",
]  # fmt: skip

PROGRAM_WORDS = 512  # program counters have 9 bits
LOOP_LEVELS = 4


class AssemblyError(NncosimError):
    """A program or descriptor list that the hardware would trap on or misunderstand."""


def address(space: Space | int, word: int) -> int:
    """The cluster-local address of `word` of memory `space`, as in `Descriptor.local`.

    Raises:
        AssemblyError: the word does not fit 14 bits.
    """
    if not 0 <= word < 1 << 14:
        raise AssemblyError(f"a word of {Space(space).name} must be within 0..16383, not {word}")
    return int(space) << 14 | word


@functools.cache
def _plan(fmt: type[data.Struct]) -> tuple[tuple[str, int, int, int], ...]:
    """(field, offset, mask, sign bit or 0) of each field: walking the layout once per format, not once per word."""
    plan = []
    for name, field in fmt.as_shape():
        shape = Shape.cast(field.shape)
        plan.append((name, field.offset, (1 << shape.width) - 1, 1 << (shape.width - 1) if shape.signed else 0))
    return tuple(plan)


def fields_of(fmt: type[data.Struct], word: int) -> dict[str, int]:
    """`nncosim.hdl.formats.decode`, with the layout cached."""
    out = {}
    for name, offset, mask, sign in _plan(fmt):  # type: ignore[arg-type]
        raw = (word >> offset) & mask
        out[name] = raw - 2 * sign if raw & sign else raw
    return out


class ClusterProgram:
    """A cluster program under construction: one method per instruction, in program order."""

    def __init__(self, platform: J3dai = PLATFORM) -> None:
        self.platform = platform
        self._words: list[int] = []
        self._open: list[int] = []  # loops whose body is not complete
        self._ends: dict[int, int] = {}  # last instruction of a loop's body -> the LOOP

    def __len__(self) -> int:
        return len(self._words)

    def _add(self, opcode: Opcode, **fields: int) -> int:
        if len(self._words) == PROGRAM_WORDS:
            raise AssemblyError(f"the program exceeds {PROGRAM_WORDS} instructions; split it, or use LOOP")
        self._words.append(encode(INSTRUCTIONS[opcode], opcode=opcode, **fields))
        return len(self._words) - 1

    def halt(self) -> None:
        self._add(Opcode.HALT)

    @contextmanager
    def loop(self, count: int) -> Iterator[None]:
        """Repeat the instructions added inside the `with` block `count` times (1 to 65535).

        Raises:
            AssemblyError: an empty body, a fifth level, or a body that ends where an inner loop's ends.
        """
        if count < 1:
            raise AssemblyError(f"loop at instruction {len(self)}: count must be 1 to 65535, not {count}")
        if len(self._open) == LOOP_LEVELS:
            raise AssemblyError(f"loop at instruction {len(self)}: loops nest at most {LOOP_LEVELS} deep")
        at = self._add(Opcode.LOOP, count=count, body=1)
        self._open.append(at)
        try:
            yield
        finally:
            self._open.pop()
        body = len(self._words) - 1 - at
        if not body:
            raise AssemblyError(f"loop at instruction {at}: the body is empty")
        last = at + body
        if last in self._ends:
            raise AssemblyError(
                f"loop at instruction {at} ends on instruction {last}, where the loop at {self._ends[last]} ends "
                "too; put an instruction (nop) between the two ends"
            )
        self._ends[last] = at
        self._words[at] = encode(INSTRUCTIONS[Opcode.LOOP], opcode=Opcode.LOOP, count=count, body=body)

    def wait(self, semaphore: int) -> None:
        self._add(Opcode.WAIT, semaphore=semaphore)

    def signal(self, semaphore: int) -> None:
        self._add(Opcode.SIGNAL, semaphore=semaphore)

    def fence(self) -> None:
        self._add(Opcode.FENCE)

    def nop(self) -> None:
        self._add(Opcode.NOP)

    def setb(self, agu: Agu, base: int, x: int = 0, y: int = 0, rewind: int = 0) -> None:
        self._add(Opcode.SETB, agu=agu.value, base=base, x=x, y=y, rewind=rewind)

    def setd(self, agu: Agu, dim: int, count: int = 1, step: int = 0, xstep: int = 0, ystep: int = 0) -> None:
        """One dimension.

        Raises:
            AssemblyError: a dimension that the AGU does not have.
        """
        dims = 6 if agu is Agu.A else 3
        if not 0 <= dim < dims:
            raise AssemblyError(f"setd: AGU {agu.name} has dimensions 0 to {dims - 1}, not {dim}")
        self._add(Opcode.SETD, agu=agu.value, dim=dim, count=count, step=step, xstep=xstep, ystep=ystep)

    def seti(self, width: int, height: int, pstride: int = 1, xpstep: int = 1, pad: int = 0) -> None:
        self._add(Opcode.SETI, width=width, height=height, pstride=pstride, xpstep=xpstep, pad=pad)

    def seto(self, width: int, ostride: int = 0) -> None:
        self._add(Opcode.SETO, width=width, ostride=ostride)

    def setw(self, base: int) -> None:
        self._add(Opcode.SETW, base=base)

    def addb(self, agu: Agu, step: int = 0, xstep: int = 0, ystep: int = 0) -> None:
        self._add(Opcode.ADDB, agu=agu.value, step=step, xstep=xstep, ystep=ystep)

    def addw(self, step: int) -> None:
        self._add(Opcode.ADDW, step=step)

    def ldp(self, pset: int, base: int) -> None:
        """Load parameter set `pset` from the WMEM lines (16 words) at word `base`.

        Raises:
            AssemblyError: `base` is not at the start of a line.
        """
        line = self.platform.banks
        if base % line:
            raise AssemblyError(f"ldp: records lie on whole lines (a multiple of {line} words), not at word {base}")
        self._add(Opcode.LDP, pset=pset, base=base)

    def mac(
        self, op: MacOp = MacOp.MAC, *, depthwise: int = 0, signed_a: int = 0, first: int = 0, last: int = 0,
        advance: int = 0, lane: int = 0, lanes: int | None = None, rewind_w: int = 0, next_w: int = 0, pset: int = 0,
        drain: Drain = Drain.WRITE, repeat: int = 0, wide_x: int = 1, wide_m: int = 1,
    ) -> None:
        """`lanes` (default: all) and `repeat` as encoded: the number less one. `wide_x`, `wide_m`: always right.

        Raises:
            AssemblyError: a lane that a word does not have.
        """
        most = self.platform.word_bytes - 1
        lanes = most if lanes is None else lanes
        if not 0 <= lane <= most or not 0 <= lanes <= most:
            raise AssemblyError(f"mac: lanes are 0 to {most}, not {lane} (lane) and {lanes} (lanes less one)")
        self._add(
            Opcode.MAC, op=op.value, depthwise=depthwise, signed_a=signed_a, first=first, last=last,
            advance=advance, lane=lane & 15, lanes=lanes & 15, rewind_w=rewind_w, next_w=next_w, pset=pset,
            drain=drain.value, repeat=repeat, lane_high=lane >> 4, lanes_high=lanes >> 4,
            wide_x=wide_x, wide_m=wide_m,
        )

    def words(self) -> list[int]:
        """The instructions as 64-bit integers.

        Raises:
            AssemblyError: a loop is still open.
        """
        if self._open:
            raise AssemblyError(f"the loop at instruction {self._open[-1]} is still open")
        return list(self._words)

    def to_bytes(self) -> bytes:
        """As it lies in IMEM: 8 bytes an instruction, filled up to a whole word with zeros (which trap)."""
        raw = b"".join(word.to_bytes(8, "little") for word in self.words())
        return raw + bytes(-len(raw) % self.platform.word_bytes)

    def __str__(self) -> str:
        return "\n".join(disassemble(self._words))


def words_of(program: bytes) -> list[int]:
    """The 64-bit instructions in the bytes of IMEM."""
    return [int.from_bytes(program[i : i + 8], "little") for i in range(0, len(program) - 7, 8)]


_NAMES: dict[str, dict[int, str]] = {
    "agu": {a.value: a.name for a in Agu},
    "op": {o.value: o.name for o in MacOp},
    "drain": {d.value: d.name for d in Drain},
}


def disassemble(words: Sequence[int]) -> list[str]:
    """One line an instruction: program counter, name, all fields that are not zero; loop bodies indented."""
    lines = []
    ends: list[int] = []
    for pc, word in enumerate(words):
        indent = "  " * len(ends)
        opcode = word & 63
        if opcode not in INSTRUCTIONS:
            lines.append(f"{pc:3}: {indent}? {word:#018x}")
            continue
        fields = fields_of(INSTRUCTIONS[Opcode(opcode)], word)
        text = [
            f"{name}={_NAMES.get(name, {}).get(value, value)}"
            for name, value in fields.items()
            if name != "opcode" and (value or (name in _NAMES and name != "drain"))
        ]
        lines.append(f"{pc:3}: {indent}{Opcode(opcode).name.lower()} {' '.join(text)}".rstrip())
        if opcode == Opcode.LOOP:
            ends.append(pc + fields["body"])
        while ends and ends[-1] <= pc:
            ends.pop()
    return lines


class DescriptorList:
    """A list of DMPA descriptors under construction; `end` is set on the last."""

    def __init__(self, platform: J3dai = PLATFORM) -> None:
        self.platform = platform
        self._fields: list[dict[str, int]] = []

    def __len__(self) -> int:
        return len(self._fields)

    def add(self, op: DmpaOp, **fields: int) -> None:
        """Append a descriptor; fields as in `isa.Descriptor`, counts n0, n1, n2 as numbers of words and runs.

        Raises:
            EncodingError: a value out of its field's range, or an unknown field.
            AssemblyError: a transfer without words or clusters, or of a space that it cannot reach.
        """
        where = f"descriptor {len(self)} ({op.name})"
        if op is not DmpaOp.SYNC:
            if fields.get("n0", 0) < 1:
                raise AssemblyError(f"{where}: n0 must be at least 1")
            if not fields.get("clusters", 0):
                raise AssemblyError(f"{where}: clusters must name at least one cluster")
            space = fields.get("local", 0) >> 14
            if space == 3 or (op is DmpaOp.STORE and space != Space.L1):
                raise AssemblyError(f"{where}: local space {space} cannot be transferred by {op.name}")
        if op is DmpaOp.GATHER:
            self._check_gather(where, fields)
        encode(Descriptor, op=op.value, **fields)
        self._fields.append({"op": op.value, **fields})

    def _check_gather(self, where: str, fields: Mapping[str, int]) -> None:
        word = self.platform.word_bytes
        for name in ("step", "used"):
            if not 1 <= fields.get(name, 0) <= word:
                raise AssemblyError(f"{where}: {name} must be 1 to {word} bytes, not {fields.get(name, 0)}")
        for name, end in (("offset", word), ("left", fields["used"])):
            if not 0 <= fields.get(name, 0) < end:
                raise AssemblyError(f"{where}: {name} must be 0 to {end - 1} bytes, not {fields[name]}")
        if fields.get("length", 0) < 1:
            raise AssemblyError(f"{where}: length must be at least 1 byte")

    def load(self, **fields: int) -> None:
        self.add(DmpaOp.LOAD, **fields)

    def store(self, **fields: int) -> None:
        self.add(DmpaOp.STORE, **fields)

    def gather(self, **fields: int) -> None:
        self.add(DmpaOp.GATHER, **fields)

    def sync(self, **fields: int) -> None:
        self.add(DmpaOp.SYNC, **fields)

    def words(self) -> list[int]:
        """The descriptors as 256-bit integers.

        Raises:
            AssemblyError: the list is empty.
        """
        if not self._fields:
            raise AssemblyError("a descriptor list must have at least one descriptor (SYNC does nothing)")
        last = len(self._fields) - 1
        return [encode(Descriptor, **{**fields, "end": int(k == last)}) for k, fields in enumerate(self._fields)]

    def to_bytes(self) -> bytes:
        """As it lies in L2 from a line's start, filled up to whole lines with zeros."""
        raw = b"".join(word.to_bytes(DESCRIPTOR_BYTES, "little") for word in self.words())
        return raw + bytes(-len(raw) % self.platform.line_bytes)


def decode_descriptors(raw: bytes) -> list[dict[str, int]]:
    """The fields of the descriptors in `raw`, up to and including the one with `end`."""
    out = []
    for at in range(0, len(raw) - DESCRIPTOR_BYTES + 1, DESCRIPTOR_BYTES):
        out.append(fields_of(Descriptor, int.from_bytes(raw[at : at + DESCRIPTOR_BYTES], "little")))
        if out[-1]["end"]:
            break
    return out


def disassemble_descriptors(raw: bytes) -> list[str]:
    """One line a descriptor: index, operation, all fields that are not zero; `local` as space:word."""
    lines = []
    for k, fields in enumerate(decode_descriptors(raw)):
        op = fields.pop("op")
        name = DmpaOp(op).name if op in {known.value for known in DmpaOp} else f"? {op}"
        text = []
        for field, value in fields.items():
            if field == "local" and op != DmpaOp.SYNC.value:
                space = value >> 14
                text.append(f"local={Space(space).name if space < 3 else '?'}:{value & 0x3FFF}")
            elif value and field.endswith(("mask", "clusters")):
                text.append(f"{field}={value:#010b}")
            elif value:
                text.append(f"{field}={value}")
        lines.append(f"{k:3}: {name.lower()} {' '.join(text)}".rstrip())
    return lines
