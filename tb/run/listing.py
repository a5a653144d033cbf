# SPDX-License-Identifier: Apache-2.0
"""The texts beside an image: what its code says, and what lies where."""

from __future__ import annotations

from collections.abc import Callable

from nncosim.compiler.compile import Compiled
from nncosim.compiler.image.image import Segment, read_tiles
from nncosim.compiler.image.notes import BufferNote
from nncosim.compiler.placement.placement import Buffer
from nncosim.platforms.base import Platform
from nncosim.platforms.parts import Part

__all__ = ["Disassembler", "buffer_table", "hex_lines", "listing", "memory_map"]

Disassembler = Callable[[str, bytes, Platform], list[str] | None]
"""(kind of a buffer, its bytes, platform) to one line an instruction; None for a kind it does not know."""
_DISASSEMBLERS: Part[Disassembler] = Part("nncosim.compiler.{}.listing", "disassemble")


def hex_lines(data: bytes, address: int, limit: int = 1 << 16) -> list[str]:
    """Sixteen bytes a line, as hexadecimal words in memory order."""
    lines = [f"{address + at:08x}  {data[at : at + 16].hex(' ', 4)}" for at in range(0, min(len(data), limit), 16)]
    return lines + ([f"... {len(data) - limit} bytes more"] if len(data) > limit else [])


def _bases(compiled: Compiled) -> dict[tuple[str, int], int]:
    """The physical address of the first byte of each memory's instance, as the tile table and the segments tell it."""
    bases: dict[tuple[str, int], int] = {}
    for segment in compiled.image.segments:
        where = segment.memory, 0
        bases[where] = min(segment.address, bases.get(where, segment.address))
    for name, place in read_tiles(compiled.image).items():
        for fragment in place.fragments:
            if name in compiled.placement.address:
                bases[fragment.memory, fragment.instance] = fragment.address - compiled.placement.address[name]
    return bases


def _bytes_at(segments: tuple[Segment, ...], address: int, size: int) -> bytes:
    for segment in segments:
        if segment.address <= address < segment.address + len(segment.data):
            return segment.data[address - segment.address :][:size]
    return b""


def _label(compiled: Compiled, memory: str, instance: int) -> str:
    """Of a memory of several alike with its number."""
    several = any(m.name == memory and m.instances > 1 for m in compiled.platform.memories)
    return f"{memory}[{instance}]" if several else memory


def _placed(compiled: Compiled) -> list[tuple[str, int, Buffer]]:
    """(memory's label, physical address, buffer), in that order."""
    bases = _bases(compiled)
    rows = [
        (_label(compiled, *b.where), bases.get(b.where, 0) + compiled.placement.address[b.name], b)
        for b in compiled.lowered.buffers
    ]
    return sorted(rows, key=lambda row: (row[0], row[1], row[2].name))


def listing(compiled: Compiled) -> str:
    """Segments, tasks, and every piece of code in the image."""
    image = compiled.image
    lines = [f"; {compiled.network.name} for {compiled.platform.name}, entry {image.entry:#010x}", "", "; segments"]
    lines += [f"{s.address:#010x} {len(s.data):9}  {s.memory}" for s in image.segments]
    lines += ["", "; tasks: engine, cycles, name, after"]
    for task in compiled.lowered.schedule.tasks:
        after = f" after {', '.join(task.after)}" if task.after else ""
        lines.append(f"{task.engine:12} {task.cost.best:9}  {task.name}{after}")
    # without one, everything is shown in hexadecimal
    disassemble = _DISASSEMBLERS.find(compiled.platform.parts) or (lambda kind, data, platform: None)
    shown: set[int] = set()
    for memory, address, buffer in _placed(compiled):
        if buffer.kind not in ("program", "list"):
            continue
        shown.add(address)
        data = _bytes_at(image.segments, address, buffer.size)
        counted = _words(compiled, buffer)
        words = "".join(f", words {at} to {at + count - 1}" for at, count in counted)
        lines += ["", f"; {buffer.kind} {buffer.name}: {memory} {address:#010x}, {buffer.size} bytes{words}"]
        lines += disassemble(buffer.kind, data, compiled.platform) or hex_lines(data, address)
    placed = {memory for memory, _, _ in _placed(compiled)}
    for segment in image.segments:
        if segment.memory not in placed and segment.address not in shown:
            lines += ["", f"; {segment.memory} {segment.address:#010x}, {len(segment.data)} bytes"]
            lines += hex_lines(segment.data, segment.address)
    return "\n".join(lines) + "\n"


def _words(compiled: Compiled, buffer: Buffer) -> list[tuple[int, int]]:
    """First word and number of words, as instructions count; none where a platform has no words."""
    word = next((m.width_bits // 8 for m in compiled.platform.memories if m.name == buffer.memory), 0)
    return [(compiled.placement.address[buffer.name] // word, -(-buffer.size // word))] if word else []


def buffer_table(compiled: Compiled) -> tuple[BufferNote, ...]:
    """What lies where, and when."""
    schedule = compiled.lowered.schedule
    users: dict[str, list[str]] = {}
    for task in schedule.tasks:
        for name in dict.fromkeys((*task.reads, *task.writes)):
            users.setdefault(name, []).append(task.layer)
    return tuple(
        BufferNote(b.name, memory, address, b.size, b.kind, b.parent, tuple(dict.fromkeys(users.get(b.name, ()))),
                   b.from_start or b.always, b.to_end or b.always)
        for memory, address, b in _placed(compiled)
    )  # fmt: skip


def memory_map(compiled: Compiled) -> str:
    """How full each memory is, then every buffer with its address (and layout); indented: inside another."""
    lines = ["memory               bytes      peak   used by"]
    for use in compiled.memory:
        kinds = ", ".join(f"{kind} {size}" for kind, size in sorted(use.by_kind.items()))
        name = _label(compiled, use.memory, use.instance)
        lines.append(f"{name:16} {use.size:9} {use.peak:9}   {kinds}, free {use.free}")
        if use.step:
            alive = ", ".join(f"{name} {size}" for name, size in use.alive)
            lines.append(f"{'':38}most is in use in layer {use.step}: {alive}")
    placed = _placed(compiled)
    words = [_words(compiled, b) for _, _, b in placed]
    head = "     word    words" if any(words) else ""
    lines += ["", f"memory           address        bytes{head}  kind        buffer"]
    for (memory, address, b), counted in zip(placed, words, strict=True):
        inside, shown = "  " if b.parent else "", "".join(f"{at:9}{count:9}" for at, count in counted)
        layout = compiled.lowered.layouts.get(b.name)
        how = f", {layout}" if layout is not None and b.kind == "tensor" else ""
        lines.append(f"{memory:16} {address:#010x} {b.size:9}{shown}  {b.kind:11} {inside}{b.name}{how}")
    return "\n".join(lines) + "\n"
