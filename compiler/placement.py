"""Placement: where in which memory each buffer lies. Buffers whose uses can overlap in time never overlap in space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from nncosim.compiler.schedule import Schedule
from nncosim.platforms.base import Memory
from nncosim.platforms.errors import NncosimError
from ortools.sat.python import cp_model

__all__ = ["Buffer", "MemoryUse", "Placement", "PlacementError", "conflicts", "overlaps", "place"]


class PlacementError(NncosimError):
    """What has to lie in a memory is more than the memory holds."""


@dataclass(frozen=True)
class Buffer:
    """Bytes that need a place.

    kind: for tables ("tensor", "weights", "program", ...). align: bytes.
    content: what the image loads there, or None.
    permanent: lives for the whole run (everything with content does).
    from_start, to_end: filled from outside before the run; read from outside after it.
    parent, offset: lies inside another buffer, so many bytes from its start.
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

    @property
    def always(self) -> bool:
        return self.permanent or self.content is not None


@dataclass(frozen=True)
class MemoryUse:
    """One line of the memory table, in bytes. `peak`: the highest address used."""

    memory: str
    size: int
    peak: int
    by_kind: dict[str, int]


@dataclass(frozen=True)
class Placement:
    """`address`: first byte of each buffer, counted from the start of its memory."""

    address: dict[str, int]
    table: tuple[MemoryUse, ...]


def _root(buffer: Buffer, known: dict[str, Buffer]) -> tuple[str, int]:
    offset = 0
    while buffer.parent is not None:
        offset += buffer.offset
        buffer = known[buffer.parent]
    return buffer.name, offset


def conflicts(buffers: Iterable[Buffer], schedule: Schedule) -> set[frozenset[str]]:
    """Pairs of buffers of one memory (parents only) that may be in use at the same time."""
    known = {b.name: b for b in buffers}
    families: dict[str, list[Buffer]] = {}
    for buffer in known.values():
        families.setdefault(_root(buffer, known)[0], []).append(buffer)
    users = {root: schedule.users(b.name for b in family) for root, family in families.items()}

    def separate(first: str, second: str) -> bool:
        """All uses of `first` are over before any use of `second` begins."""
        if any(b.always or b.to_end for b in families[first]):
            return False
        if any(b.always or b.from_start for b in families[second]):
            return False
        return all(schedule.precedes(i, j) for i in users[first] for j in users[second])

    return {
        frozenset((a, b))
        for a, b in combinations(families, 2)
        if known[a].memory == known[b].memory and not separate(a, b) and not separate(b, a)
    }


def overlaps(placement: Placement, buffers: Iterable[Buffer], pairs: set[frozenset[str]]) -> list[tuple[str, str]]:
    """Conflicting pairs that share a byte. Empty for a right placement; independent of how it was found."""
    size = {b.name: b.size for b in buffers}
    found = []
    for a, b in (sorted(pair) for pair in pairs):
        start_a, start_b = placement.address[a], placement.address[b]
        if start_a < start_b + size[b] and start_b < start_a + size[a]:
            found.append((a, b))
    return sorted(found)


def _up(value: int, align: int) -> int:
    return -(-value // align) * align


def _first_fit(order: list[Buffer], rivals: dict[str, set[str]], base: int) -> dict[str, int]:
    at: dict[str, int] = {}
    size = {b.name: b.size for b in order}
    for buffer in order:
        address = _up(base, buffer.align)
        for start, name in sorted((at[n], n) for n in rivals[buffer.name] if n in at):
            if start >= address + buffer.size:
                break
            address = max(address, _up(start + size[name], buffer.align))
        at[buffer.name] = address
    return at


def _solve(moving: list[Buffer], rivals: dict[str, set[str]], base: int, limit: int) -> dict[str, int] | None:
    """Addresses by constraint programming, in units of the common alignment; the same on every machine."""
    unit = min(b.align for b in moving)
    model = cp_model.CpModel()
    top = (limit - _up(base, unit)) // unit
    if top < max(_up(b.size, unit) // unit for b in moving):
        return None
    at = {b.name: model.new_int_var(0, top - _up(b.size, unit) // unit, b.name) for b in moving}
    length = {b.name: _up(b.size, unit) // unit for b in moving}
    for buffer in moving:
        if buffer.align > unit:
            model.add_modulo_equality(0, at[buffer.name] + _up(base, unit) // unit, buffer.align // unit)
    for a, b in combinations([b.name for b in moving], 2):
        if b in rivals[a]:
            first = model.new_bool_var(f"{a} below {b}")
            model.add(at[a] + length[a] <= at[b]).only_enforce_if(first)
            model.add(at[b] + length[b] <= at[a]).only_enforce_if(~first)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = 20.0
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return {name: _up(base, unit) + solver.value(var) * unit for name, var in at.items()}


def _refuse(memory: Memory, roots: list[Buffer], need: int) -> PlacementError:
    largest = sorted(roots, key=lambda b: (-b.size, b.name))[:5]
    listing = ", ".join(f"{b.kind} {b.name} {b.size}" for b in largest)
    return PlacementError(
        f"memory {memory.name!r} holds {memory.size_bytes} bytes, but {need} are needed at once; largest: {listing}; "
        "a smaller input, narrower layers or a larger memory would help"
    )


def _place_memory(memory: Memory, roots: list[Buffer], pairs: set[frozenset[str]]) -> dict[str, int]:
    def by_size(b: Buffer) -> tuple[int, str]:
        return -b.size, b.name

    fixed = sorted((b for b in roots if b.always), key=by_size)
    moving = sorted((b for b in roots if not b.always), key=by_size)
    rivals: dict[str, set[str]] = {b.name: set() for b in roots}
    for a, b in (tuple(pair) for pair in pairs):
        if a in rivals:
            rivals[a].add(b)
            rivals[b].add(a)
    at: dict[str, int] = {}
    base = 0
    for buffer in fixed:
        at[buffer.name] = _up(base, buffer.align)
        base = at[buffer.name] + buffer.size
    tried = _first_fit(moving, rivals, base)
    need = max([base, *(tried[b.name] + b.size for b in moving)])
    if need > memory.size_bytes:
        better = _solve(moving, rivals, base, memory.size_bytes) if moving and base < memory.size_bytes else None
        if better is None:
            raise _refuse(memory, roots, need)
        tried = better
    return {**at, **tried}


def place(buffers: tuple[Buffer, ...], memories: tuple[Memory, ...], schedule: Schedule) -> Placement:
    """An address for every buffer. Greedy first, then a solver with deterministic limits.

    Raises:
        PlacementError: it does not fit; names the memory, the bytes and the largest buffers.
    """
    known = {b.name: b for b in buffers}
    pairs = conflicts(buffers, schedule)
    address: dict[str, int] = {}
    table = []
    for memory in memories:
        roots = [b for b in buffers if b.memory == memory.name and b.parent is None]
        if not roots:
            continue
        address.update(_place_memory(memory, roots, pairs))
        kinds: dict[str, int] = {}
        for b in roots:
            kinds[b.kind] = kinds.get(b.kind, 0) + b.size
        peak = max(address[b.name] + b.size for b in roots)
        table.append(MemoryUse(memory.name, memory.size_bytes, peak, kinds))
    for buffer in buffers:
        if buffer.parent is not None:
            root, offset = _root(buffer, known)
            address[buffer.name] = address[root] + offset
    return Placement(address, tuple(table))
