# SPDX-License-Identifier: Apache-2.0
"""How tensors get from where they are made to where they are taken: directly, or through a memory tile.

What does not stay where it is, for the east neighbour (`nncosim.compiler.aie_ml.sharing`), goes over streams. Directly,
each tile that makes a part has a stream for each part that is wanted of it, to all that want that. A memory tile stands
between where a tile would need more channels of its DMA than it has, and where a tensor waits for layers in between: a
tile's own two copies would hold up all that make or take it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nncosim.compiler.aie_ml.mapping import Box, Part
from nncosim.compiler.aie_ml.memory_tiles import CHANNELS, WRITERS, Access, MemoryBuffer, MemoryTiles
from nncosim.compiler.aie_ml.notes import Stream
from nncosim.compiler.aie_ml.plan import MM2S, S2MM, Layer, Plan, TilePlan, Transfer, layers_of
from nncosim.compiler.aie_ml.routes import EDGE, Net, Port
from nncosim.compiler.aie_ml.sharing import shared_buffers
from nncosim.compiler.aie_ml.walks import Order, Storage, tiles_across, words_across
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network, Tensor
from nncosim.kernels.aie_ml.matrix import row_axis, rows_of, stored_bits
from nncosim.kernels.aie_ml.product import Job
from nncosim.platforms.aie_ml import MEMORY_TILE_BYTES, AieMl
from nncosim.platforms.aie_ml_generation import Generation

__all__ = ["plan_of", "stream_of"]

_TILE_CHANNELS = 2
"""Of each kind in a tile."""


@dataclass(eq=False)
class _Want:
    """A part of a tensor that tiles of some layers take in the same order: into which columns of their activations.

    turned: for a transposition. waits: other layers come in between, and there are memory tiles for it to wait in.
    """

    part: Part
    turned: bool
    waits: bool
    takers: list[tuple[TilePlan, int]]

    @property
    def order(self) -> Order:
        """Of a stream that comes from tiles' memories."""
        return Order.TURNED if self.turned else Order.TILES

    @property
    def step(self) -> int:
        return max(tile.step for tile, _ in self.takers)

    @property
    def column(self) -> float:
        return sum(tile.column for tile, _ in self.takers) / len(self.takers)


def stream_of(
    tensor: Tensor, generation: Generation, part: Part, column: int, number: int, order: Order = Order.ROWS
) -> Stream:
    """A part of a tensor, row after row, as it passes the shim."""
    columns, bits = part[1] - part[0], stored_bits(tensor)
    words = words_across(columns, bits, generation)
    if order == Order.WHOLE_ROWS:
        words = Storage.ROWS.across(tiles_across(columns, bits), generation)
    box = tuple(part if axis == "C" else (0, size) for axis, size in tensor.extents.items())
    layout = Layout(f"{row_axis(tensor)} C:{words * generation.word_bits // bits}", bits)
    return Stream(column, number, tensor.name, box, layout, words * rows_of(tensor))


def plan_of(network: Network, boxes: Sequence[Box], platform: AieMl, *, share: bool = True) -> Plan:
    """What each tile does, and the streams. share: tiles take from their west neighbours' memories where they can.

    Raises:
        KernelError: as `nncosim.compiler.aie_ml.plan.layers_of`.
        CompileError: a layer takes more streams than its tiles have channels; no memory tile has room.
    """
    plan = Plan(layers_of(network, boxes, platform.generation))
    if share:
        plan.shared = shared_buffers(plan.layers, older_waits=platform.memory_rows > 0)
    memory = MemoryTiles(platform.columns, platform.memory_rows, MEMORY_TILE_BYTES)
    delivery = _Delivery(network, platform.generation, plan, memory)
    for name in network.tensors:
        delivery.deliver(name)
    return plan


def _common(first: Part, second: Part) -> Part | None:
    begin, end = max(first[0], second[0]), min(first[1], second[1])
    return (begin, end) if begin < end else None


def _named(tensor: str, part: Part) -> str:
    return f"{tensor} {part[0]}..{part[1] - 1}"


def _words(tile: TilePlan) -> int:
    """Of the stream that was added to a tile last."""
    transfer = tile.transfers[-1]
    return tile.matrix(transfer).walk(transfer.order).length


class _Delivery:
    def __init__(self, network: Network, generation: Generation, plan: Plan, memory: MemoryTiles):
        self.network, self.generation, self.plan, self.memory = network, generation, plan, memory
        self.makers = {layer.op.output: layer for layer in plan.layers}
        self.entries = Counter[int]()  # streams of each column of the shim

    def deliver(self, name: str) -> None:
        """All streams of a tensor."""
        wants = self._wants(name)
        if name not in self.makers:
            self._enter(self.network.tensors[name], wants)
            return
        maker = self.makers[name]
        if name in self.network.outputs:
            self._leave(name, maker)
        direct = self._direct(maker, wants, name in self.network.outputs) if self.memory.any else wants
        for want in direct:
            self._connect(maker, want)
        waiting = [want for want in wants if want not in direct]
        if waiting:
            self._store(maker, waiting)

    def _wants(self, name: str) -> list[_Want]:
        found: dict[tuple[Part, bool, bool], _Want] = {}
        for layer in self.plan.layers:
            for operand, tiles in layer.takers():
                if operand.tensor == name:
                    turned = tiles[0].product.shape.job == Job.TRANSPOSE
                    key = operand.part, turned, self._waits(name, layer)
                    want = found.setdefault(key, _Want(*key, []))
                    want.takers += [(tile, operand.at) for tile in tiles]
        return list(found.values())

    def _made_at(self, name: str) -> int:
        """The step that makes a tensor; that of the first layer that takes an input is the one after."""
        if name in self.makers:
            return next(iter(self.makers[name].tiles.values())).step
        return min(k for k, layer in enumerate(self.plan.layers) if name in layer.op.inputs) - 1

    def _waits(self, name: str, layer: Layer) -> bool:
        step = next(iter(layer.tiles.values())).step
        return step - self._made_at(name) > 1 and self.memory.any

    def _direct(self, maker: Layer, wants: list[_Want], leaves: bool) -> list[_Want]:
        """Those that need no memory tile: none waits, and all tiles have channels."""
        near = [want for want in wants if not want.waits and self._fits_takers(maker, want)]
        most = max(sum(_common(tile.results, want.part) is not None for want in near) for tile in maker.last)
        rest = _TILE_CHANNELS - leaves - (len(near) < len(wants))
        return near if most <= rest else []

    @staticmethod
    def _fits_takers(maker: Layer, want: _Want) -> bool:
        """A stream for each tile that makes some of it: a taker has channels for all its operands."""
        streams = sum(_common(tile.results, want.part) is not None for tile in maker.last)
        return all(streams <= _TILE_CHANNELS // len(tile.streamed) for tile, _ in want.takers)

    def _out(self, tile: TilePlan, columns: Part, order: Order) -> Port:
        """A tile's next channel out of memory."""
        number = len(tile.channels(MM2S))
        if number == _TILE_CHANNELS:
            raise CompileError(f"tile {tile.name} would need more than {_TILE_CHANNELS} streams out of it; use other "
                               "splits, or a platform with memory tiles")
        tile.transfers.append(Transfer(MM2S + number, columns, order))
        return Port(tile.column, tile.row, number)

    def _in(self, want: _Want, part: Part, order: Order) -> tuple[Port, ...]:
        """All takers' next channels into memory, for some of what they want."""
        out = []
        for tile, at in want.takers:
            number = len(tile.channels(S2MM))
            if number == _TILE_CHANNELS:
                raise CompileError(f"tile {tile.name} would need more than {_TILE_CHANNELS} streams into it; use other "
                                   "splits, or a platform with memory tiles")
            begin = at + part[0] - want.part[0]
            tile.transfers.append(Transfer(S2MM + number, (begin, begin + part[1] - part[0]), order))
            out.append(Port(tile.column, tile.row, number))
        return tuple(out)

    def _connect(self, maker: Layer, want: _Want) -> None:
        for tile in maker.last:
            part = _common(tile.results, want.part)
            if part is not None:
                columns = part[0] - tile.results[0], part[1] - tile.results[0]
                source, targets = self._out(tile, columns, want.order), self._in(want, part, want.order)
                self.plan.nets.append(Net(source, targets, _named(maker.op.output, part), _words(tile)))

    def _leave(self, name: str, maker: Layer) -> None:
        for tile in maker.last:
            source = self._out(tile, (0, tile.results[1] - tile.results[0]), Order.ROWS)
            label = f"output {_named(name, tile.results)}"
            self.plan.outputs.append((len(self.plan.nets), name, tile.results))
            self.plan.nets.append(Net(source, (Port(tile.column, EDGE),), label, _words(tile)))

    def _enter(self, tensor: Tensor, wants: list[_Want]) -> None:
        """Each part has a stream of its own from the shim, to all that take it."""
        for part in dict.fromkeys(want.part for want in wants):
            mine = [want for want in wants if want.part == part]
            order = Order.WHOLE_ROWS if any(want.turned for want in mine) else Order.ROWS
            column = self.memory.entry(round(min(want.column for want in mine)))
            if column is None:
                raise CompileError("all streams of the shim into the array are taken; use other splits, or more "
                                   "columns")
            source, targets = Port(column, EDGE, self.entries[column]), list[Port]()
            self.entries[column] += 1
            for want in mine:
                if not want.waits:
                    targets += self._in(want, part, order)
            stored = [want for want in mine if want.waits]
            if stored:
                made = self._buffer(tensor, part, Storage.ROWS, stored, 1)
                made.writers[0] = replace(made.writers[0], order=order)
                targets.append(Port(made.column, made.row, made.writers[0].channel))
                self._read(made, stored)
            stream = stream_of(tensor, self.generation, part, column, source.channel, order)
            self.plan.inputs.append(stream)
            name = f"input {_named(tensor.name, part)}"
            self.plan.nets.append(Net(source, tuple(targets), name, stream.words))

    def _store(self, maker: Layer, wants: list[_Want]) -> None:
        """Through memory tiles: some of the makers each, with copies for some of the wants each."""
        tensor = self.network.tensors[maker.op.output]
        sources = {}
        for tile in maker.last:
            whole = 0, tile.results[1] - tile.results[0]
            sources[tile.row] = (self._out(tile, whole, Order.TILES), list[Port]())
        for k in range(0, len(maker.last), WRITERS):
            tiles = maker.last[k : k + WRITERS]
            span = tiles[0].results[0], tiles[-1].results[1]
            mine = [want for want in wants if _common(span, want.part) is not None]
            for n in range(0, len(mine), CHANNELS):
                readers = mine[n : n + CHANNELS]
                made = self._buffer(tensor, span, Storage.TILES, readers, len(tiles))
                for i, tile in enumerate(tiles):
                    made.writers[i] = replace(made.writers[i], part=tile.results)
                    sources[tile.row][1].append(Port(made.column, made.row, made.writers[i].channel))
                self._read(made, readers)
        for tile in maker.last:
            source, targets = sources[tile.row]
            self.plan.nets.append(Net(source, tuple(targets), _named(tensor.name, tile.results), _words(tile)))

    def _buffer(self, tensor: Tensor, part: Part, storage: Storage, readers: list[_Want], writers: int) -> MemoryBuffer:
        """One with a copy for each layer that an inference passes meanwhile; near to those that take it first."""
        steps = [want.step for want in readers]
        waits = max(steps) - self._made_at(tensor.name)
        made = MemoryBuffer(0, 0, tensor.name, part, storage, stored_bits(tensor), rows_of(tensor), max(2, waits),
                            self.generation)
        first = [want.column for want in readers if want.step == min(steps)]
        near = sum(first) / len(first)
        self.memory.place(made, near, writers, len(readers))
        self.plan.memory.append(made)
        return made

    def _read(self, made: MemoryBuffer, wants: list[_Want]) -> None:
        for k, want in enumerate(wants):
            part = _common(made.part, want.part)
            assert part is not None
            access = made.readers[k] = Access(made.readers[k].channel, part, want.order)
            source, words = Port(made.column, made.row, access.channel), made.matrix(part).walk(want.order).length
            targets = self._in(want, part, want.order)
            self.plan.nets.append(Net(source, targets, _named(made.tensor, part), words))
