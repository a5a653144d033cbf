# SPDX-License-Identifier: Apache-2.0
"""What the array shows at the boundaries between the blocks of its tiles (`nncosim.tb.aie_ml.taps`), as the channels of
`nncosim.tb.lockstep`; RTL and simulator alike. Blocks are called "tile (column, row) part"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.assembly import disassembled
from nncosim.hdl.aie_ml.dma import tile_dma
from nncosim.hdl.aie_ml.dma_channel import DmaState
from nncosim.hdl.aie_ml.memory_tile import memory_dma
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS, STEPS, TILE_PORTS
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.taps import SLOTS, seen_layouts, unit_of
from nncosim.tb.boundaries.kinds import Kind, Records, by_cycle, judged
from nncosim.tb.lockstep import Channel, Event

__all__ = ["STATES", "WAITS", "channels_of", "instruction_text", "module_of", "place_of", "scope_of"]

_LOCK_OPS = ("at least", "equal", "add", "?")
STATES = ("is idle", "issues", "waits for memory", "waits for a lock", "waits for a cascade",
           "runs, and issues nothing")  # fmt: skip
"""What a core does, by its state."""
_VECTOR_PORTS = ("core load path a", "core load path b", "core SRS", "core moves")
_ACCUMULATOR_PORTS = ("core VMAC", "core moves", "core cascade")
_PATHS = (*_VECTOR_PORTS[:2], "core store path")
WAITS = {2: "data memory (banks)", 3: "locks", 4: "core cascade"}
"""Of a state that is a core's waiting, the block that it waits for."""
_SCOPES = {
    "core fetch": "core.fetch", "core address generators": "core.agus", "core load path a": "core.load_a",
    "core load path b": "core.load_b", "core store path": "core.store", "core SRS": "core.srs",
    "core VMAC": "core.vmac", "core cascade": "core.to_east", "core way to the west": "core.to_west",
    "way from the east": "from_east", "data memory": "data", "dma descriptors": "dma", "locks": "locks",
    "switch": "switch", "core": "core",
}  # fmt: skip


def channels_of(platform: AieMl, image: Image, seen: Mapping[str, Records]) -> tuple[Channel, ...]:
    """The channels of a run, of all tiles that an image's array has, each in the order in which data flows.

    Args:
        seen: as `nncosim.tb.aie_ml.taps.seen_layouts` has them, those of a tile in the order of cycles.
    """
    notes = image.notes.own_as(AieMlNotes)
    layers = {(site.column, site.row): image.notes.steps[site.step].name for site in notes.sites}
    units = {name: {unit: records[records["unit"] == unit] for unit in np.unique(records["unit"]).tolist()}
             for name, records in seen.items()}  # fmt: skip
    layouts, out = seen_layouts(platform.generation), []
    for column in range(notes.columns):
        for row in range(1, notes.first_row + notes.rows):
            tile = _Tile(platform, notes, column, row, layers.get((column, row), ""))
            for kind in tile.kinds():
                none = np.zeros(0, layouts[kind.layout])
                records = units[kind.layout].get(unit_of(column, row), none)
                out.append(tile.channel(kind, by_cycle(records)))
    return tuple(out)


def scope_of(notes: AieMlNotes, block: str) -> str:
    """Where a block that a channel blames is, as a path below the top."""
    place = place_of(block)
    if place is None:
        return "array"
    column, row = place
    part = block.partition(") ")[2].partition(" (")[0]
    kind = "tile" if row >= notes.first_row else "memory"
    inside = part.replace(" ", ".") if part.startswith(("dma s2mm", "dma mm2s")) else _SCOPES.get(part, "")
    return ".".join(filter(None, (f"array.{kind}_{column}_{row}.tile", inside or part.partition(" ")[0])))


_MODULES = {
    "core fetch": "fetch", "core address generators": "agu", "core load path a": "access", "core load path b": "access",
    "core store path": "access", "core SRS": "srs", "core VMAC": "vmac", "core accumulators": "registers",
    "core way to the west": "neighbour", "way from the east": "neighbour", "dma descriptors": "dma", "locks": "locks",
    "switch": "switch",
}  # fmt: skip


def module_of(platform: AieMl, block: str) -> str:
    """See `nncosim.tb.backend.Observable`. Of a core what is not named here is what connects its parts."""
    place, part = place_of(block), block.partition(") ")[2].partition(" (")[0]
    if place is None:
        return "nncosim.hdl.aie_ml.array"
    if part == "data memory":
        return f"nncosim.hdl.aie_ml.{'memory' if place[1] >= platform.first_row else 'memory_banks'}"
    name = "dma_channel" if part.startswith(("dma s2mm", "dma mm2s")) else part.partition(" ")[0]
    return f"nncosim.hdl.aie_ml.{_MODULES.get(part, name)}"


def place_of(block: str) -> tuple[int, int] | None:
    """Column and row of the tile that a block, or a channel, belongs to, if it does."""
    found = re.match(r"tile \((\d+), (\d+)\)", block)
    return (int(found[1]), int(found[2])) if found else None


def instruction_text(word: bytes) -> str:
    """An instruction in a line, its slots from load a to control."""
    return "; ".join(each.text for each in disassembled(int.from_bytes(word, "little")).values()) or "nothing"


class _Tile:
    """What is known of a tile: who is its neighbour, what it computes (`layer`)."""

    def __init__(self, platform: AieMl, notes: AieMlNotes, column: int, row: int, layer: str):
        self._notes, self._place, self._layer = notes, (column, row), layer
        self._core, generation = row >= notes.first_row, platform.generation
        self._ports = TILE_PORTS if self._core else MEMORY_PORTS
        self._streams = (tile_dma(generation) if self._core else memory_dma(generation)).streams
        self.name = f"tile ({column}, {row})"

    def channel(self, kind: Kind, events: Records) -> Channel:
        def block(want: Event | None, got: Event | None) -> str:
            found = judged(kind, want, got)
            return found if found.startswith(("tile (", "shim")) else f"{self.name} {found}"

        return Channel(f"{self.name} {kind.name}", events, block, lambda event: f"{self.name} {kind.text(event)}")

    def kinds(self) -> Iterator[Kind]:
        """In the order of the data's way through a cycle."""
        yield from self._of_dma()
        if self._core:
            yield from self._of_core()
            yield from self._of_memory()
        yield Kind("access", "channels' accesses", self._channel, {
            "line": self._channel, "mask": self._channel,
            "data": lambda e: self._channel(e) if e["write"] else "data memory"}, self._access)  # fmt: skip
        yield Kind("moved", "channels' words", self._channel, {
            "padding": self._channel, "address": lambda e: f"{self._channel(e)} (address)",
            "data": lambda e: "switch" if e["channel"] < self._streams else self._channel(e)}, self._moved)  # fmt: skip
        yield Kind("write", "memory writes", "data memory", {},
                   lambda e: f"{_hex(e)} to words {e['mask']:b} of line {e['line']}")
        if self._core:
            yield from self._of_registers()

    # ---- what there is

    def _of_dma(self) -> Iterator[Kind]:
        yield Kind("lock", "locks", "locks", {
            "asker": "locks", "op": self._asker, "lock": self._asker, "amount": self._asker, "after": "locks"},
            lambda e: f"{self._asker(e)}: lock {e['lock']} {_LOCK_OPS[int(e['op'])]} {e['amount']}, "
                      f"holds {e['after']} then")  # fmt: skip
        yield Kind("dma_state", "channels' states", self._channel, {}, self._dma_state)
        yield Kind("descriptor", "descriptors", self._channel, {
            "offset": "dma descriptors (iterations)", "words": "dma descriptors"},
            lambda e: f"{self._channel(e)}: descriptor {' '.join(f'{word:08x}' for word in e['words'])}, "
                      f"offset {e['offset']}")  # fmt: skip
        yield Kind("stream", "streams", self._carrier, dict.fromkeys(("data",), self._carrier), self._stream)

    def _of_core(self) -> Iterator[Kind]:
        yield Kind("state", "core's states", lambda e: WAITS.get(int(e["state"]), "core"), {},
                   lambda e: f"core {STATES[min(int(e['state']), 5)]}",
                   lambda want, got: next((WAITS[int(e["state"])] for e in (got, want) if int(e["state"]) in WAITS),
                                          "core"))  # fmt: skip
        yield Kind("issue", "instructions", "core fetch", {
            "pc": "core fetch", "instruction": "core fetch (program memory)"}, self._issue)  # fmt: skip
        generators = "core address generators"
        yield Kind("address", "addresses", "core", dict.fromkeys(("load_a", "load_b", "store"), generators), _address)

    def _of_memory(self) -> Iterator[Kind]:
        path = _of_port("slot", _PATHS)
        yield Kind("load", "loads", path, {"beat": path, "data": "data memory"},
                   lambda e: f"{SLOTS[int(e['slot'])]}: {_hex(e)} from beat {e['beat']}")
        yield Kind("requantized", "requantized", "core SRS", {}, lambda e: f"core SRS: {_hex(e)}")
        yield Kind("store", "stores", "core store path", {}, lambda e: f"store: {_hex(e)} to beat {e['beat']}")
        yield Kind("west", "asked of the west", "core way to the west", {}, _asks)
        east = "way from the east"
        yield Kind("east", "accesses from the east", east, {
            "beat": east, "data": lambda e: east if e["slot"] == SLOTS.index("store") else "data memory"},
            lambda e: f"east neighbour's {SLOTS[int(e['slot'])]}: {_hex(e)}, beat {e['beat']}")  # fmt: skip

    def _of_registers(self) -> Iterator[Kind]:
        vector, accumulator = _of_port("port", _VECTOR_PORTS), _of_port("port", _ACCUMULATOR_PORTS)
        yield Kind("vector", "vectors", vector, dict.fromkeys(("register", "data"), vector),
                   lambda e: f"{vector(e)}: w{e['register']} = {_hex(e)}")
        yield Kind("accumulator", "accumulators", accumulator, dict.fromkeys(("register", "data"), accumulator),
                   lambda e: f"{accumulator(e)}: cm{e['register']}, part {e['part']} = "
                             f"{np.frombuffer(e['data'].tobytes(), '<i4').tolist()}")  # fmt: skip
        yield Kind("cascade", "cascade", self._cascade, {"data": self._cascade},
                   lambda e: f"{'cascade from the west' if e['end'] else 'PUT'}: "
                             f"{np.frombuffer(e['data'].tobytes(), '<i4').tolist()}")  # fmt: skip

    # ---- whose it is

    def _channel(self, event: Event) -> str:
        kind, number = divmod(int(event["channel"]), self._streams)
        return f"dma {('s2mm', 'mm2s')[min(kind, 1)]}{number}"

    def _asker(self, event: Event) -> str:
        number = int(event["asker"]) - (2 if self._core else 0)
        return ("core", "way from the east")[number] if number < 0 else self._channel({"channel": number})

    def _carrier(self, event: Event) -> str:
        """Of a word: the channel, the switch, or the neighbour's switch that it comes from."""
        port = int(event["port"])
        if event["place"]:
            return "switch"
        if port < self._ports.local:
            return f"dma mm2s{port}"
        side = [name for name, first in self._ports.slave_at.items() if first <= port][-1]
        column, row = (at + step for at, step in zip(self._place, STEPS[side], strict=True))
        return f"tile ({column}, {row}) switch" if row else "shim"

    def _cascade(self, event: Event) -> str:
        column, row = self._place
        return f"tile ({column - 1}, {row}) core cascade" if event["end"] else "core accumulators"

    # ---- in words

    def _dma_state(self, event: Event) -> str:
        state = int(event["state"])
        named = DmaState(state).name if state in {each.value for each in DmaState} else state
        return f"{self._channel(event)}: {named}, descriptor {event['descriptor']}"

    def _stream(self, event: Event) -> str:
        port, does = event["port"], ("enters", "crosses", "leaves")[int(event["place"])]
        ports = self._ports.master_at if event["place"] else self._ports.slave_at
        side = [name for name, first in ports.items() if first <= port]
        end = f"{side[-1]} {port - ports[side[-1]]}" if side else f"dma {port}"
        return f"word {_value(event):#x} {does} the switch ({'to' if event['place'] else 'from'} {end})"

    def _access(self, event: Event) -> str:
        what = f"writes words {event['mask']:b} of" if event["write"] else "reads"
        return f"{self._channel(event)}: {what} line {event['line']}: {_hex(event)}"

    def _moved(self, event: Event) -> str:
        where = "padding" if event["padding"] else f"address {event['address']}"
        return f"{self._channel(event)}: word {_value(event):#x}, {where}"

    def _issue(self, event: Event) -> str:
        layer = f", layer {self._layer}" if self._layer else ""
        return f"issues {instruction_text(event['instruction'].tobytes())} at pc {event['pc']}{layer}"


def _of_port(field: str, names: tuple[str, ...]) -> Callable[[Event], str]:
    return lambda event: names[int(event[field])]


def _hex(event: Event) -> str:
    return event["data"].tobytes().hex(" ")


def _value(event: Event) -> int:
    return int.from_bytes(event["data"].tobytes(), "little")


def _address(event: Event) -> str:
    used = [f"{slot} at beat {event[name]}" for k, (slot, name) in
            enumerate(zip(SLOTS, ("load_a", "load_b", "store"), strict=True)) if event["used"] >> k & 1]  # fmt: skip
    return "; ".join(used)


def _asks(event: Event) -> str:
    asked = [f"{slot} of beat {event['beats'][k]}" for k, slot in enumerate(SLOTS) if event["asks"] >> k & 1]
    return "asks the west neighbour for: " + "; ".join(asked)
