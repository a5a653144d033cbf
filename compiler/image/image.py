# SPDX-License-Identifier: Apache-2.0
"""The image: one ELF file with everything that a run needs, readable with public tools.

Loadable segments are bound to physical addresses. Two sections that are not loaded, `.nncosim.tiles` (where each
tensor lies, as what, and who writes it) and `.nncosim.schedule` (see `nncosim.compiler.image.notes`), let a bench run
and judge the image without the model. Both are JSON, and carry the version of their form. Same input, same bytes.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.notes import NOTES_VERSION, Notes
from nncosim.compiler.image.plain import PlainError, from_plain, to_plain
from nncosim.compiler.image.tiles import TensorPlace

__all__ = ["SCHEDULE_SECTION", "TILES_SECTION", "Image", "ImageError", "Segment", "merged", "read_tiles"]

T = TypeVar("T")

TILES_SECTION = ".nncosim.tiles"
SCHEDULE_SECTION = ".nncosim.schedule"

_EHDR = struct.Struct("<16sHHIIIIIHHHHHH")
_PHDR = struct.Struct("<8I")
_SHDR = struct.Struct("<10I")
_ET_EXEC, _PT_LOAD, _SHT_PROGBITS, _SHT_STRTAB, _SHF_ALLOC = 2, 1, 1, 3, 2


class ImageError(CompileError):
    """A file that is no image, is damaged, or contradicts itself."""


@dataclass(frozen=True)
class Segment:
    """Bytes to load at a physical address. `memory`: the platform's name of where that is."""

    memory: str
    address: int
    data: bytes
    flags: int = 6  # PF_R | PF_W; 5 is PF_R | PF_X


@dataclass(frozen=True)
class Image:
    """`machine`: ELF machine number (243 for RISC-V, 0 where there is no host). `entry`: where execution starts.

    `tiles`: tensor -> its place. Both these and the notes are empty in an image that was stripped.
    """

    segments: tuple[Segment, ...]
    entry: int = 0
    machine: int = 0
    tiles: Mapping[str, TensorPlace] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    def to_bytes(self) -> bytes:
        """The ELF file.

        Raises:
            ImageError: segments that overlap, or that do not fit 32 bits.
        """
        _check_segments(self.segments)
        notes = [(TILES_SECTION, _json(self.tiles)), (SCHEDULE_SECTION, _json(self.notes))]
        names, offsets = b"\0", {}
        labels = [f".{s.memory}.{s.address:08x}" for s in self.segments]
        for name in [*labels, *(n for n, _ in notes), ".shstrtab"]:
            offsets[name] = len(names)
            names += name.encode() + b"\0"
        body = io.BytesIO()
        body.write(b"\0" * (_EHDR.size + _PHDR.size * len(self.segments)))
        programs, sections = [], [_SHDR.pack(*[0] * 10)]
        for label, s in zip(labels, self.segments, strict=True):
            at = _append(body, s.data)
            programs.append(_PHDR.pack(_PT_LOAD, at, s.address, s.address, len(s.data), len(s.data), s.flags, 4))
            sections.append(
                _SHDR.pack(offsets[label], _SHT_PROGBITS, _SHF_ALLOC, s.address, at, len(s.data), 0, 0, 4, 0)
            )
        for name, data in notes:
            at = _append(body, data)
            sections.append(_SHDR.pack(offsets[name], _SHT_PROGBITS, 0, 0, at, len(data), 0, 0, 1, 0))
        at = _append(body, names)
        sections.append(_SHDR.pack(offsets[".shstrtab"], _SHT_STRTAB, 0, 0, at, len(names), 0, 0, 1, 0))
        table = _append(body, b"".join(sections))
        ident = b"\x7fELF\x01\x01\x01" + b"\0" * 9
        header = _EHDR.pack(
            ident, _ET_EXEC, self.machine, 1, self.entry, _EHDR.size, table, 0, _EHDR.size, _PHDR.size,
            len(programs), _SHDR.size, len(sections), len(sections) - 1,
        )  # fmt: skip
        raw = bytearray(body.getvalue())
        raw[: _EHDR.size] = header
        raw[_EHDR.size : _EHDR.size + _PHDR.size * len(programs)] = b"".join(programs)
        return bytes(raw)

    @classmethod
    def from_bytes(cls, raw: bytes, where: str = "image") -> Image:
        """Read an ELF file; of an image stripped of its sections the segments and the entry remain.

        Raises:
            ImageError: names the file and what is wrong with it; of an image whose sections have another version, both.
        """
        try:
            elf = ELFFile(io.BytesIO(raw))
            notes = _read_section(elf, SCHEDULE_SECTION, Notes, where) or Notes()
            tiles = _read_section(elf, TILES_SECTION, dict[str, TensorPlace], where) or {}
            labels = {s["sh_addr"]: s.name for s in elf.iter_sections() if s["sh_flags"] & _SHF_ALLOC}
            segments = []
            for p in elf.iter_segments():
                if p["p_type"] == "PT_LOAD":
                    if len(p.data()) != p["p_filesz"]:
                        raise ImageError(f"{where}: segment at {p['p_paddr']:#x} is cut off; compile it again")
                    memory = labels.get(p["p_paddr"], ".").split(".")[1]
                    segments.append(Segment(memory, p["p_paddr"], p.data(), p["p_flags"]))
            machine = struct.unpack_from("<H", raw, 18)[0]
            image = cls(tuple(segments), elf["e_entry"], machine, tiles, notes)
        except (ELFError, struct.error, UnicodeDecodeError, ValueError, KeyError, IndexError) as error:
            raise ImageError(f"{where}: not a readable ELF file ({error}); compile it again") from error
        if not image.segments:
            raise ImageError(f"{where}: has no loadable segment; compile it again")
        _check_segments(image.segments)
        return image

    @classmethod
    def load(cls, path: Path) -> Image:
        """Raises ImageError if the file is missing or no image."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
        return cls.from_bytes(raw, str(path))

    def stripped(self) -> Image:
        """The same image with nothing but its segments and entry."""
        return Image(self.segments, self.entry, self.machine)


def read_tiles(image: Image) -> Mapping[str, TensorPlace]:
    """Raises ImageError if the image has no tile table."""
    if not image.tiles:
        raise ImageError("the image has no tile table (it was stripped); compile it again")
    return image.tiles


def _json(value: Notes | Mapping[str, TensorPlace]) -> bytes:
    section = {"version": NOTES_VERSION, "contents": to_plain(value)}
    return json.dumps(section, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _append(body: io.BytesIO, data: bytes) -> int:
    body.write(b"\0" * (-body.tell() % 4))
    at = body.tell()
    body.write(data)
    return at


def _read_section(elf: ELFFile, name: str, kind: type[T], where: str) -> T | None:
    """The contents of a section; None where there is none."""
    section = elf.get_section_by_name(name)
    if section is None:
        return None
    try:
        value = json.loads(section.data())
        if not isinstance(value, dict):
            raise PlainError("not a JSON object")
        # Images had no version before the second.
        version = value.get("version", 1)
        if version == NOTES_VERSION:
            return from_plain(kind, value["contents"])
    except (PlainError, KeyError, ValueError, RecursionError) as error:
        raise ImageError(f"{where}: section {name} is damaged ({error}); compile it again") from error
    raise ImageError(f"{where}: section {name} has version {version!r:.40}, and this nncosim reads version "
                     f"{NOTES_VERSION}; compile the model again, or run the image with the nncosim that made it")


def _check_segments(segments: tuple[Segment, ...]) -> None:
    end, before = 0, ""
    for s in sorted(segments, key=lambda s: s.address):
        if s.address < end:
            raise ImageError(f"segment {s.memory} at {s.address:#x} overlaps segment {before} that ends at {end:#x}")
        end, before = s.address + len(s.data), s.memory
    if end > 1 << 32:
        raise ImageError(f"segment {before} ends at {end:#x}, beyond 32 bits")


def merged(contents: Mapping[int, bytes], gap: int) -> list[tuple[int, bytes]]:
    """(address, bytes) of a memory, ascending: neighbouring pieces as one, gaps under `gap` bytes filled with zeros."""
    out: list[tuple[int, bytearray]] = []
    for at, data in sorted(contents.items()):
        if out and 0 <= at - out[-1][0] - len(out[-1][1]) < gap:
            out[-1][1].extend(bytes(at - out[-1][0] - len(out[-1][1])))
            out[-1][1].extend(data)
        else:
            out.append((at, bytearray(data)))
    return [(at, bytes(data)) for at, data in out]
