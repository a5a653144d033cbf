# SPDX-License-Identifier: Apache-2.0
"""Placement: where in which memory each buffer lies.

Buffers whose uses can overlap in time never overlap in space. Where a platform says unit by unit when a buffer is in
use (`lives.Lives`), that holds unit by unit: a result may lie over what it is made from. Equal constants of one
kind lie in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from nncosim.compiler.errors import CompileError
from nncosim.compiler.placement.lives import Life, Lives, clashes, forbidden, live_peak
from nncosim.compiler.placement.packing import Item, pack
from nncosim.compiler.schedule import Schedule
from nncosim.platforms.base import Memory

__all__ = [
    "Buffer", "MemoryUse", "Placement", "PlacementError", "conflicts", "constants_fit", "fullest", "outermost",
    "overlaps", "place", "unified",
]  # fmt: skip

MAPS = "maps"
"""Kind under which everything that comes and goes during a run is summed up."""


class PlacementError(CompileError):
    """What has to lie in a memory is more than the memory holds.

    missing: bytes by which. step: the layer at which most is in use, "" where nobody knows; alive: (buffer, bytes) of
    what shares the memory then, and of what is more than the room by itself.
    """

    def __init__(self, text: str, missing: int = 0, step: str = "", alive: tuple[tuple[str, int], ...] = ()):
        super().__init__(text)
        self.missing, self.step, self.alive = missing, step, alive


@dataclass(frozen=True)
class Buffer:
    """Bytes that need a place.

    memory, instance: a name of the platform's memories, and which of its instances. kind: for tables ("tensor",
        "weights", "program", ...). align: bytes.
    content: what the image loads there, or None.
    permanent: lives for the whole run (everything with content does).
    from_start, to_end: filled from outside before the run; read from outside after it.
    parent, offset: lies inside another buffer, so many bytes from its start.
    parts: (kind, bytes) where a table should show the bytes under several kinds; what is left is of `kind`.
    """

    name: str
    memory: str
    size: int
    kind: str
    align: int = 1
    content: bytes | None = None
    permanent: bool = False
    from_start: bool = False
    to_end: bool = False
    parent: str | None = None
    offset: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    instance: int = 0

    @property
    def where(self) -> tuple[str, int]:
        """Memory and instance."""
        return self.memory, self.instance

    @property
    def always(self) -> bool:
        return self.permanent or self.content is not None


CONSTANTS = ("parameters", "weights")
"""Kinds of buffers that are as large however a network is scheduled."""


def constants_fit(buffers: Iterable[Buffer], memories: Iterable[Memory]) -> bool:
    """Whether `CONSTANTS` alone fit into each memory: if not, no other schedule helps."""
    sizes = {memory.name: memory.size_bytes for memory in memories}
    found: dict[tuple[str, int], int] = {}
    for buffer in buffers:
        if buffer.parent is None and buffer.always and buffer.kind in CONSTANTS:
            found[buffer.where] = found.get(buffer.where, 0) + buffer.size
    return all(size <= sizes[memory] for (memory, _), size in found.items())


@dataclass(frozen=True)
class MemoryUse:
    """One line of the memory table, in bytes: of one instance of a memory.

    peak: the highest address used. by_kind: of what is there for the whole run; what comes and goes is together
    under "maps", as the room that it takes. step: the layer that sets the peak, alive: (buffer, bytes) of what comes
    and goes that shares the memory then; empty where the platform does not say when buffers are in use.
    """

    memory: str
    size: int
    peak: int
    by_kind: dict[str, int]
    step: str = ""
    alive: tuple[tuple[str, int], ...] = ()
    instance: int = 0

    @property
    def free(self) -> int:
        return self.size - self.peak

    @property
    def share(self) -> float:
        return self.peak / self.size


def fullest(table: Sequence[MemoryUse]) -> tuple[tuple[str, MemoryUse], ...]:
    """Of each memory the instance that is fullest, with what to call it: "l2", or "data[3], of 9 the fullest"."""
    by_name: dict[str, list[MemoryUse]] = {}
    for use in table:
        by_name.setdefault(use.memory, []).append(use)
    out = []
    for name, uses in by_name.items():
        most = max(uses, key=lambda use: (use.share, -use.instance))
        out.append((name if len(uses) == 1 else f"{name}[{most.instance}], of {len(uses)} the fullest", most))
    return tuple(out)


@dataclass(frozen=True)
class Placement:
    """`address`: first byte of each buffer, counted from the start of its memory's instance."""

    address: dict[str, int]
    table: tuple[MemoryUse, ...]


def outermost(buffer: Buffer, known: Mapping[str, Buffer]) -> tuple[Buffer, int]:
    """The buffer that lies in no other one and holds this one, and how many bytes from its start."""
    offset = 0
    while buffer.parent is not None:
        offset, buffer = offset + buffer.offset, known[buffer.parent]
    return buffer, offset


def unified(buffers: Iterable[Buffer]) -> tuple[Buffer, ...]:
    """The buffers, with constants that are equal to an earlier one lying inside it."""
    first: dict[tuple[tuple[str, int], str, int, bytes], str] = {}
    out = []
    for b in buffers:
        if b.content and b.parent is None and len(b.content) == b.size:
            name = first.setdefault((b.where, b.kind, b.align, b.content), b.name)
            if name != b.name:
                b = replace(b, parent=name, content=None, permanent=True)
        out.append(b)
    return tuple(out)


def _families(buffers: Iterable[Buffer]) -> dict[str, list[Buffer]]:
    """Each buffer that lies in no other one, with all that lie in it."""
    known = {b.name: b for b in buffers}
    out: dict[str, list[Buffer]] = {}
    for buffer in known.values():
        out.setdefault(outermost(buffer, known)[0].name, []).append(buffer)
    return out


def conflicts(buffers: Iterable[Buffer], schedule: Schedule) -> set[frozenset[str]]:
    """Pairs of buffers of one memory (parents only) that may be in use at the same time.

    In a schedule whose inferences overlap that is all of them: what one task has finished with, the same task of the
    next inference wants again.
    """
    families = _families(unified(buffers))
    users = {root: schedule.users(b.name for b in family) for root, family in families.items()}
    by_place: dict[tuple[str, int], list[str]] = {}
    for root, family in families.items():
        by_place.setdefault(family[0].where, []).append(root)

    def separate(first: str, second: str) -> bool:
        """All uses of `first` are over before any use of `second` begins."""
        if any(b.always or b.to_end for b in families[first]):
            return False
        if any(b.always or b.from_start for b in families[second]):
            return False
        return schedule.all_precede(users[first], users[second])

    return {
        frozenset((a, b))
        for together in by_place.values()
        for a, b in combinations(together, 2)
        if schedule.overlapping or not (separate(a, b) or separate(b, a))
    }


def overlaps(
    placement: Placement, buffers: Iterable[Buffer], pairs: set[frozenset[str]], lives: Sequence[Lives] = ()
) -> list[tuple[str, str]]:
    """Conflicting pairs that share a byte (those in `lives`: a unit while both are in use). Empty for a right
    placement; independent of how it was found."""
    size = {b.name: b.size for b in buffers}
    exact = {name for here in lives for name in here.of}
    found = [pair for here in lives for pair in clashes(here, placement.address)]
    for a, b in (sorted(pair) for pair in pairs):
        if a in exact and b in exact:
            continue
        start_a, start_b = placement.address[a], placement.address[b]
        if start_a < start_b + size[b] and start_b < start_a + size[a]:
            found.append((a, b))
    return sorted(found)


def _up(value: int, align: int) -> int:
    return -(-value // align) * align


def _apart(
    moving: list[Buffer], pairs: set[frozenset[str]], lives: Lives | None
) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Distances that each pair must not have, in bytes."""
    exact = lives.of if lives is not None else {}
    out = {}
    for a, b in combinations(moving, 2):
        if lives is not None and a.name in exact and b.name in exact:
            # In bytes, a distance that is no whole number of units would touch the units on both sides.
            found = forbidden(exact[a.name], exact[b.name])
            ranges = [((low - 1) * lives.unit + 1, high * lives.unit) for low, high in found]
            if ranges:
                out[a.name, b.name] = _joined(ranges)
        elif frozenset((a.name, b.name)) in pairs:
            out[a.name, b.name] = [(1 - b.size, a.size)]
    return out


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out = [ranges[0]]
    for low, high in ranges[1:]:
        if low <= out[-1][1]:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out


def _item(buffer: Buffer, users: Mapping[str, tuple[int, ...]], life: Life | None) -> Item:
    uses = users[buffer.name]
    first = life.first if life is not None else min(uses, default=-1)
    last = life.last if life is not None else max(uses, default=-1)
    orders = ((first, -buffer.size), (-last, -buffer.size), (-buffer.size * max(last - first, 1),))
    return Item(buffer.name, buffer.size, buffer.align, orders)


def _alive(lives: Lives | None, roots: list[Buffer]) -> tuple[str, list[tuple[str, int]], int]:
    """The layer at which most is in use, what is, and how many bytes that is."""
    if lives is None:
        return "", [], 0
    floor, position = live_peak(lives)
    named = []
    for b in roots:
        life = lives.of.get(b.name)
        if life is not None:
            units = int((life.stop - life.start)[(life.born <= position) & (position <= life.dies)].sum())
            if units:
                named.append((b.name, b.size))
    return lives.step_at(position), sorted(named, key=lambda t: (-t[1], t[0])), floor


def _refuse(
    job: _Job, kinds: Mapping[str, int], moving: list[Buffer], step: str, alive: list[tuple[str, int]], need: int
) -> PlacementError:
    memory = job.memory
    which = f"instance {job.roots[0].instance} of memory" if memory.instances > 1 else "memory"
    there = ", ".join(f"{kind} {size:,}" for kind, size in sorted(kinds.items()) if size) or "nothing"
    base = sum(kinds.values())
    room = memory.size_bytes - base
    moving_kind = {b.name: b.kind for b in moving}
    text = (
        f"{which} {memory.name!r} holds {memory.size_bytes} bytes, but {need} are needed at once, "
        f"{need - memory.size_bytes:,} too many: {there}"
    )
    if moving:
        largest = alive or [(b.name, b.size) for b in sorted(moving, key=lambda b: (-b.size, b.name))]
        names = ", ".join(f"{moving_kind[name]} {name} {size}" for name, size in largest[:5])
        at = f"; most tensors share it in layer {step!r}" if step else "; largest tensors"
        text += f"{at}: {names}, and {max(room, 0):,} bytes are left for them"
    largest_tensor = max(moving, key=lambda b: b.size, default=None)
    hints = []
    if room < 0:
        hints.append(f"what stays for the whole run is {-room:,} bytes too much by itself")
    elif largest_tensor is not None and largest_tensor.size > room:
        hints.append(f"{largest_tensor.name} alone is {largest_tensor.size:,} bytes")
    hints.append("a smaller input, narrower layers" + (", fewer weights" if kinds else "") + " or a larger memory")
    single = [(b.name, b.size) for b in moving if b.size > room and (b.name, b.size) not in alive]
    text += "; " + "; ".join(hints) + " would help"
    return PlacementError(text, need - memory.size_bytes, step, (*alive, *single))


def _kinds(roots: Iterable[Buffer]) -> dict[str, int]:
    """Bytes by kind of what is there for the whole run."""
    out: dict[str, int] = {}
    for b in roots:
        if b.always:
            for kind, size in b.parts:
                out[kind] = out.get(kind, 0) + size
            out[b.kind] = out.get(b.kind, 0) + b.size - sum(size for _, size in b.parts)
    return {kind: size for kind, size in out.items() if size}


@dataclass(frozen=True, eq=False)
class _Job:
    """What one memory has to hold."""

    memory: Memory
    roots: list[Buffer]
    pairs: set[frozenset[str]]
    users: Mapping[str, tuple[int, ...]]
    lives: Lives | None
    kinds: dict[str, int] = field(default_factory=dict)


def _place_memory(job: _Job) -> tuple[dict[str, int], MemoryUse]:
    limit, lives = job.memory.size_bytes, job.lives
    at: dict[str, int] = {}
    base = 0
    for buffer in sorted((b for b in job.roots if b.always), key=lambda b: (-b.align, -b.size, b.name)):
        at[buffer.name] = _up(base, buffer.align)
        base = at[buffer.name] + buffer.size
    moving = [b for b in job.roots if not b.always]
    kinds = _kinds(job.roots)
    step, alive, floor = _alive(lives, moving)
    largest = max((b.size for b in moving), default=0)
    floor = base + max(floor, largest)
    if floor > limit:
        raise _refuse(job, kinds, moving, step, alive, floor)
    exact = lives.of if lives is not None else {}
    items = [_item(b, job.users, exact.get(b.name)) for b in moving]
    packed = pack(items, _apart(moving, job.pairs, lives), base, limit, floor)
    if packed.end > limit:
        raise _refuse(job, kinds, moving, step, alive, packed.end)
    at.update(packed.at)
    if moving:
        kinds[MAPS] = packed.end - base
    return at, MemoryUse(job.memory.name, limit, packed.end, kinds, step, tuple(alive), job.roots[0].instance)


def place(
    buffers: tuple[Buffer, ...], memories: tuple[Memory, ...], schedule: Schedule, lives: Sequence[Lives] = ()
) -> Placement:
    """An address for every buffer, so that the highest address used is low. Greedy first, then a solver with
    deterministic limits.

    lives: when each unit of a buffer is in use, for the memories where the platform says so; by tasks in the others.

    Raises:
        PlacementError: it does not fit; names the memory, the bytes, the layer and its largest buffers. Or a buffer is
            in a memory that the platform does not have.
    """
    joined = unified(buffers)
    known = {b.name: b for b in joined}
    pairs = conflicts(buffers, schedule)
    users = {root: schedule.users(b.name for b in family) for root, family in _families(joined).items()}
    by_place: dict[tuple[str, int], list[Buffer]] = {}
    for b in joined:
        if b.parent is None:
            by_place.setdefault(b.where, []).append(b)
    exact = {here.where: here for here in lives}
    address: dict[str, int] = {}
    table = []
    for memory in memories:
        for instance in range(memory.instances):
            roots = by_place.pop((memory.name, instance), [])
            if roots:
                found, use = _place_memory(_Job(memory, roots, pairs, users, exact.get((memory.name, instance))))
                address.update(found)
                table.append(use)
    for (name, instance), roots in by_place.items():
        raise PlacementError(f"buffer {roots[0].name!r} is in instance {instance} of memory {name!r}; the platform has "
                             + ", ".join(f"{memory.instances} {memory.name}" for memory in memories))
    for buffer in joined:
        if buffer.parent is not None:
            root, offset = outermost(buffer, known)
            address[buffer.name] = address[root.name] + offset
    return Placement(address, tuple(table))
