# SPDX-License-Identifier: Apache-2.0
"""From tiles with their streams to an image: buffers, circuits, and all that is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nncosim.compiler.aie_ml.cycle_model import cycle_model
from nncosim.compiler.aie_ml.delivery import plan_of, stream_of
from nncosim.compiler.aie_ml.mapping import Box, Part
from nncosim.compiler.aie_ml.memory_tiles import MemoryBuffer, segments_of_buffers
from nncosim.compiler.aie_ml.notes import AieMlNotes, Circuit, EarlyReads, Site, data_address
from nncosim.compiler.aie_ml.plan import BIAS_BANK, CONSTANT_BANK, COPIES, COPY_BANKS, Plan, TilePlan
from nncosim.compiler.aie_ml.routes import Grid, Routes, problems, routed
from nncosim.compiler.aie_ml.tiles import Homes, segments_of, switch_segment
from nncosim.compiler.aie_ml.turns import problems as wrong_turns
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.image.tiles import Fragment, TensorPlace, tile_table
from nncosim.compiler.ir.network import Network
from nncosim.compiler.placement.placement import Buffer, Placement
from nncosim.kernels.aie_ml.matrix import layout_of
from nncosim.kernels.aie_ml.product import Job
from nncosim.kernels.base import Cost
from nncosim.platforms.aie_ml import BANKS, AieMl

__all__ = ["Lowering", "buffers_of", "linked", "lowering_of"]

_WHOLE = 16
"""Tiles of an array of which no part is left out in a simulation."""


@dataclass(frozen=True)
class Lowering:
    """The tiles, where each layer is, and the circuits."""

    plan: Plan
    boxes: tuple[Box, ...]
    routes: Routes


def lowering_of(network: Network, platform: AieMl, boxes: Sequence[Box], *, share: bool = True) -> Lowering:
    """Of layers that lie so. share: as of `nncosim.compiler.aie_ml.delivery.plan_of`.

    Raises:
        CompileError: a tile has too few channels, a memory tile too little room, a stream no circuit.
        KernelError: as `nncosim.compiler.aie_ml.plan.layers_of`.
    """
    grid = Grid(platform.columns, platform.memory_rows, platform.rows)
    plan = plan_of(network, boxes, platform, share=share)
    routes = routed(grid, plan.nets)
    found = problems(grid, plan.nets, routes.masters)
    if found:
        raise CompileError(f"the circuits that were made are wrong: {'; '.join(found[:3])}")
    return Lowering(plan, tuple(boxes), routes)


def buffers_of(made: Lowering, platform: AieMl) -> dict[str, list[Buffer]]:
    """Of each tile by its name; under "" those in memory tiles."""
    out = {tile.name: _buffers(tile, platform.number(tile.column, tile.row)) for tile in made.plan.tiles}
    return out | {"": [_shared(each, platform) for each in made.plan.memory]}


def linked(network: Network, platform: AieMl, made: Lowering, placement: Placement) -> Image:
    """The image, with the cycles of each layer.

    Raises:
        CompileError: a program does not fit or is wrong, descriptors are too many; as of the cycle model.
    """
    at = placement.address
    homes = _homes(made.plan, at)
    loaded: list[Segment] = []
    begun: list[Segment] = []
    early: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for tile in made.plan.tiles:
        constants = [
            Segment("data", data_address(bank, at[f"{tile.name} {kind}"]), content)
            for kind, bank, content in (("constant", CONSTANT_BANK, tile.product.constant),
                                        ("bias", BIAS_BANK, tile.product.bias)) if content
        ]  # fmt: skip
        masters = made.routes.masters.get((tile.column, tile.row), {})
        own, starts, reads = segments_of(tile, homes[tile.name], masters, constants, platform.instructions)
        loaded += own
        begun += starts
        early.setdefault(reads, []).append((tile.column, tile.row))
    if found := wrong_turns(loaded, platform.generation):
        raise CompileError(f"tiles do not take turns at what they share: {'; '.join(found[:3])}")
    busy = {(tile.column, tile.row) for tile in made.plan.tiles}
    loaded += [switch_segment(*tile, each, memory_tile=tile[1] < platform.first_row)
               for tile, each in made.routes.masters.items() if tile not in busy]
    for place in dict.fromkeys((each.column, each.row) for each in made.plan.memory):
        mine = [each for each in made.plan.memory if (each.column, each.row) == place]
        own, starts = segments_of_buffers(mine, [at[each.name] for each in mine])
        loaded += own
        begun += starts
    bare = Image((*loaded, *begun), 0, tiles=_tiles(network, platform, made, homes),
                 notes=Notes(own=_notes(network, platform, made, early)))  # fmt: skip
    return _timed(network, platform, made, bare)


def _timed(network: Network, platform: AieMl, made: Lowering, bare: Image) -> Image:
    """With the cycles of the cycle model."""
    steps = tuple(
        Step(op.name, (op.name,), tuple(f"core{platform.number(*tile)}" for tile in box.tiles), Cost.exactly(0),
             reads=op.inputs, writes=(op.output,))
        for op, box in zip(network.ops, made.boxes, strict=True)
    )  # fmt: skip
    notes = replace(bare.notes, steps=steps, inputs=tuple(network.inputs), outputs=tuple(network.outputs))
    cycles = cycle_model().layers(replace(bare, notes=notes).to_bytes(), platform)
    steps = tuple(replace(step, cycles=Cost.exactly(count)) for step, count in zip(steps, cycles, strict=True))
    return replace(bare, notes=replace(notes, steps=steps, cycles=Cost.exactly(sum(cycles))))


def _buffers(tile: TilePlan, number: int) -> list[Buffer]:
    """What lies in a tile's memory, for the whole run."""
    beat = tile.product.shape.generation.beat_bytes

    def buffer(what: str, bank: int, size: int, kind: str, content: bytes | None = None) -> Buffer:
        return Buffer(f"{tile.name} {what}", "data", size, kind, beat, content, permanent=True,
                      from_start=kind == "input", instance=number * BANKS + bank)  # fmt: skip

    shape, product = tile.product.shape, tile.product
    size = shape.activation_beats * beat
    out = [buffer(f"activations {k}", bank, size, "input") for k, bank in enumerate(COPY_BANKS) if tile.streamed]
    out.append(buffer("constant", CONSTANT_BANK, len(product.constant), "weights", product.constant))
    if product.bias:
        out.append(buffer("bias", BIAS_BANK, len(product.bias), "parameters", product.bias))
    if shape.role.ends:
        out += [buffer(f"result {k}", bank, shape.output_bytes, "tensor") for k, bank in enumerate(COPY_BANKS)]
    return out


def _shared(made: MemoryBuffer, platform: AieMl) -> Buffer:
    """In a memory tile."""
    return Buffer(made.name, "memory_tile", made.bytes, "tensor", made.generation.beat_bytes, permanent=True,
                  instance=made.column * platform.memory_rows + made.row - 1)  # fmt: skip


def _homes(plan: Plan, at: Mapping[str, int]) -> dict[str, Homes]:
    """Beats in the tiles' memories."""
    generation = plan.tiles[0].product.shape.generation

    def beat(tile: str, what: str, bank: int) -> int:
        return data_address(bank, at.get(f"{tile} {what}", 0)) // generation.beat_bytes

    def copies(tile: str, what: str, wanted: bool) -> tuple[int, ...]:
        return tuple(beat(tile, f"{what} {k}", bank) for k, bank in enumerate(COPY_BANKS) if wanted)

    out = {}
    for tile in plan.tiles:
        name, west = tile.name, tile.west
        homes = Homes(copies(name, "activations", bool(tile.streamed)), beat(name, "constant", CONSTANT_BANK),
                      beat(name, "bias", BIAS_BANK), copies(name, "result", tile.product.shape.role.ends))
        if west is not None:
            made = copies(west.maker, "result", True)
            beats = tuple(generation.beats + each + west.offset for each in made)
            homes = replace(homes, west=beats, operand=west.operand)
        out[name] = homes
    return out


def _notes(
    network: Network, platform: AieMl, made: Lowering, early: Mapping[tuple[int, ...], Sequence[tuple[int, int]]]
) -> AieMlNotes:
    """early: tiles by what their programs read early."""
    sites = []
    for tile in made.plan.tiles:
        shape = tile.product.shape
        stores = shape.blocks * len(shape.stores)
        sites.append(Site(tile.column, tile.row, tile.step, stores))
    outputs = tuple(stream_of(network.tensors[name], platform.generation, part, *made.routes.exits[net])
                    for net, name, part in made.plan.outputs)  # fmt: skip
    # A small array is simulated whole: one simulation serves all of its images.
    if platform.tiles <= _WHOLE:
        columns, rows = platform.columns, platform.rows
    else:
        used = {*made.routes.masters, *((tile.column, tile.row) for tile in made.plan.tiles)}
        columns, height = (max(each) + 1 for each in zip(*used, strict=True))
        rows = height - platform.first_row
    circuits = tuple(Circuit(net.name, net.words, made.routes.ways(k, net)) for k, net in enumerate(made.plan.nets))
    reads = tuple(EarlyReads(tuple(tiles), each) for each, tiles in early.items() if each)
    return AieMlNotes(columns, rows, platform.memory_rows, tuple(sites), tuple(made.plan.inputs), outputs, circuits,
                      tuple(made.plan.shared), reads)  # fmt: skip


def _tiles(
    network: Network, platform: AieMl, made: Lowering, homes: Mapping[str, Homes]
) -> dict[str, TensorPlace]:
    """Inputs where the first layer's lowest cores have them; results where the last core of each chain stores them."""
    roles = dict.fromkeys(network.inputs, "input") | dict.fromkeys(network.outputs, "output")
    fragments: dict[str, list[Fragment]] = {name: [] for name in network.tensors}
    size = platform.generation.beat_bytes
    for tile in made.plan.tiles:
        home, number, box = homes[tile.name], platform.number(tile.column, tile.row), made.boxes[tile.step]
        uses: list[tuple[str, Part, tuple[int, ...], tuple[int, ...]]]
        uses = [(tile.op.output, tile.results, home.results, (tile.step,))] if tile.product.shape.role.ends else []
        if tile.op.inputs[0] in network.inputs and tile.row == box.row and tile.product.shape.job == Job.DENSE:
            uses.append((tile.op.inputs[0], tile.operands[0].part, home.activations, ()))
        for name, part, beats, writers in uses:
            tensor = network.tensors[name]
            extents = tuple(part if axis == "C" else (0, size) for axis, size in tensor.extents.items())
            fragments[name].append(Fragment(
                "data", beats[0] * size, extents, layout_of(tensor, platform.generation, part[1] - part[0]), writers,
                number, COPIES, (beats[1] - beats[0]) * size,
            ))  # fmt: skip
    return tile_table(
        TensorPlace(tensor, roles.get(name, "internal"), tuple(fragments[name]), name in network.outputs)
        for name, tensor in network.tensors.items()
    )
