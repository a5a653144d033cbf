# SPDX-License-Identifier: Apache-2.0
"""The AIE-ML back end: layers to boxes of tiles, tiles to programs and descriptors, streams to circuits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nncosim.compiler.aie_ml.cycle_model import cycle_model
from nncosim.compiler.aie_ml.mapping import Box, Part, Split, boxes_of, splits_of
from nncosim.compiler.aie_ml.notes import AieMlNotes, Circuit, Site, data_address
from nncosim.compiler.aie_ml.plan import (
    BIAS_BANK,
    COPIES,
    COPY_BANKS,
    WEIGHT_BANK,
    Plan,
    TilePlan,
    plan_of,
    stream_of,
)
from nncosim.compiler.aie_ml.routes import Routes, problems, routed
from nncosim.compiler.aie_ml.tiles import Homes, segments_of, switch_segment
from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import CompileError, ModelError, Problem
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.image.tiles import Fragment, TensorPlace, tile_table
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.placement.placement import Buffer, Placement
from nncosim.compiler.proof.caps import MultiplyShiftCaps, Per, RequantCaps
from nncosim.compiler.schedule import Schedule, Task
from nncosim.hdl.aie_ml.isa import BEAT_BYTES, Mac
from nncosim.kernels.aie_ml import KERNELS
from nncosim.kernels.aie_ml.dense import layout_of, mode_of
from nncosim.kernels.base import Cost, candidate_kernels
from nncosim.platforms.aie_ml import BANKS, AieMl

__all__ = ["BACKEND", "AieMlBackend"]

_WHOLE = 16
"""Tiles of an array of which no part is left out in a simulation."""


def _caps(bits: int) -> RequantCaps:
    """A shift, one for a layer; a bias of as many bits as a sum."""
    return RequantCaps((MultiplyShiftCaps(0, bits, shift_per=Per.LAYER),), accumulator_bits=bits)


_CAPS = {Mac.I8X8: _caps(32), Mac.I16X8: _caps(32), Mac.I16X16: _caps(64)}


@dataclass(frozen=True)
class Lowering:
    """The tiles, where each layer is, and the circuits."""

    plan: Plan
    boxes: tuple[Box, ...]
    routes: Routes


class AieMlBackend:
    """See `nncosim.compiler.backends.Backend`.

    Args:
        splits: of the layers; by default the compiler's own. most_tiles: that those may take.
    """

    def __init__(self, splits: Sequence[tuple[int, int]] = (), most_tiles: int | None = None):
        self._splits = tuple(Split(*each) for each in splits)
        self._most_tiles = most_tiles

    kernels = KERNELS

    def problems(self, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        if not network.ops:
            return (Problem(network.name, "", "has no operators", "nothing would run"),)
        return tuple(_not_a_chain(network))

    def candidates(
        self, op: Op, network: Network, platform: AieMl
    ) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
        kernels, reasons = candidate_kernels(KERNELS, op, network, platform)
        found = tuple(
            Candidate(k, k.engine, k.cycles(op, network, platform), _CAPS[mode_of(op, network)])
            for k in kernels if isinstance(op, Conv)
        )
        return found, reasons

    def lower(self, network: Network, platform: AieMl, choice: Mapping[str, Candidate]) -> Lowered[Lowering]:
        _check_sums(network)
        splits = self._splits or splits_of(network, platform, self._most_tiles)
        boxes = boxes_of(splits, platform.first_row)
        plan = plan_of(network, boxes)
        routes = routed(platform.columns, platform.rows, plan.nets)
        found = problems(platform.columns, platform.rows, plan.nets, routes.masters)
        if found:
            raise CompileError(f"the circuits that were made are wrong: {'; '.join(found[:3])}")
        buffers, tasks = [], []
        for tile in plan.tiles:
            number = platform.number(tile.column, tile.row)
            own = _buffers(tile, number)
            buffers += own
            reads, writes = ([b.name for b in own if (b.kind == "tensor") is w] for w in (False, True))
            tasks.append(Task(tile.name, "core", tile.op.name, (), tuple(reads), tuple(writes),
                              choice[tile.op.name].cost, (number,)))  # fmt: skip
        layouts = {name: layout_of(tensor) for name, tensor in network.tensors.items()}
        return Lowered(Schedule(tuple(tasks)), tuple(buffers), layouts, Lowering(plan, boxes, routes),
                       inside=frozenset(network.tensors))  # fmt: skip

    def link(
        self, network: Network, platform: AieMl, lowered: Lowered[Lowering], placement: Placement
    ) -> Image:
        made, at = lowered.private, placement.address
        content = {b.name: b.content for b in lowered.buffers if b.content}
        homes = {tile.name: _homes(tile, at) for tile in made.plan.tiles}
        loaded: list[Segment] = []
        begun: list[Segment] = []
        for tile in made.plan.tiles:
            constants = [Segment("data", data_address(bank, at[name]), content[name])
                         for kind, bank in (("weights", WEIGHT_BANK), ("bias", BIAS_BANK))
                         if (name := f"{tile.name} {kind}") in content]  # fmt: skip
            masters = made.routes.masters.get((tile.column, tile.row), {})
            own, starts = segments_of(tile, homes[tile.name], masters, constants, platform.instructions)
            loaded += own
            begun += starts
        busy = {(tile.column, tile.row) for tile in made.plan.tiles}
        loaded += [switch_segment(*tile, each) for tile, each in made.routes.masters.items() if tile not in busy]
        bare = Image((*loaded, *begun), 0, tiles=_tiles(network, platform, made, homes),
                     notes=Notes(own=_notes(network, platform, made)))  # fmt: skip
        return _timed(network, platform, lowered, bare)


def _timed(network: Network, platform: AieMl, lowered: Lowered[Lowering], bare: Image) -> Image:
    """With the cycles of the cycle model."""
    steps = tuple(
        Step(op.name, (op.name,), tuple(f"core{platform.number(*tile)}" for tile in box.tiles), Cost.exactly(0),
             reads=op.inputs, writes=(op.output,))
        for op, box in zip(network.ops, lowered.private.boxes, strict=True)
    )  # fmt: skip
    notes = replace(bare.notes, steps=steps, inputs=tuple(network.inputs), outputs=tuple(network.outputs))
    cycles = cycle_model().layers(replace(bare, notes=notes).to_bytes(), platform)
    steps = tuple(replace(step, cycles=Cost.exactly(count)) for step, count in zip(steps, cycles, strict=True))
    return replace(bare, notes=replace(notes, steps=steps, cycles=Cost.exactly(sum(cycles))))


def _not_a_chain(network: Network) -> list[Problem]:
    """Tensors that are used twice, or are a result on the way."""
    found = []
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        found.append(Problem(network.name, "", f"has {len(network.inputs)} inputs and {len(network.outputs)} outputs",
                             "use one of each"))
    for name in network.tensors:
        users = [op.name for op in network.ops if name in op.inputs]
        if len(users) > 1:
            found.append(Problem(name, "", f"is used by {', '.join(users)}", "use layers that follow each other"))
        elif users and name in network.outputs:
            found.append(Problem(name, "", f"is an output and is used by {users[0]}", "give out the last result only"))
    return found


def _buffers(tile: TilePlan, number: int) -> list[Buffer]:
    """What lies in a tile's memory, for the whole run."""
    def buffer(what: str, bank: int, size: int, kind: str, content: bytes | None = None) -> Buffer:
        return Buffer(f"{tile.name} {what}", "data", size, kind, BEAT_BYTES, content, permanent=True,
                      from_start=kind == "input", instance=number * BANKS + bank)  # fmt: skip

    shape, dense = tile.dense.shape, tile.dense
    size = shape.row_blocks * shape.rows * shape.input_beats * BEAT_BYTES
    out = [buffer(f"input {k}", bank, size, "input") for k, bank in enumerate(COPY_BANKS)]
    out.append(buffer("weights", WEIGHT_BANK, len(dense.weights), "weights", dense.weights))
    if dense.bias:
        out.append(buffer("bias", BIAS_BANK, len(dense.bias), "parameters", dense.bias))
    if shape.role.ends:
        out += [buffer(f"result {k}", bank, shape.output_bytes, "tensor") for k, bank in enumerate(COPY_BANKS)]
    return out


def _homes(tile: TilePlan, at: Mapping[str, int]) -> Homes:
    """Beats in the tile's memory."""
    def beat(what: str, bank: int) -> int:
        return data_address(bank, at.get(f"{tile.name} {what}", 0)) // BEAT_BYTES

    results = COPY_BANKS if tile.dense.shape.role.ends else ()
    inputs = tuple(beat(f"input {k}", bank) for k, bank in enumerate(COPY_BANKS))
    return Homes(inputs, beat("weights", WEIGHT_BANK), beat("bias", BIAS_BANK),
                 tuple(beat(f"result {k}", bank) for k, bank in enumerate(results)))  # fmt: skip


def _notes(network: Network, platform: AieMl, made: Lowering) -> AieMlNotes:
    sites = []
    for tile in made.plan.tiles:
        shape = tile.dense.shape
        stores = shape.blocks * len(shape.stores)
        sites.append(Site(tile.column, tile.row, tile.step, stores))
    outputs = tuple(stream_of(network.tensors[name], part, *made.routes.exits[net])
                    for net, name, part in made.plan.outputs)  # fmt: skip
    # A small array is simulated whole: one simulation serves all of its images.
    if platform.tiles <= _WHOLE:
        columns, rows = platform.columns, platform.rows
    else:
        columns, height = (max(each) + 1 for each in zip(*made.routes.masters, strict=True))
        rows = height - platform.first_row
    circuits = tuple(Circuit(net.name, net.words, made.routes.ways(k, net)) for k, net in enumerate(made.plan.nets))
    return AieMlNotes(columns, rows, platform.memory_rows, tuple(sites), tuple(made.plan.inputs), outputs, circuits)


def _check_sums(network: Network) -> None:
    """A sum and its bias fit an accumulator.

    Raises:
        ModelError: names each layer where they may not, and how far they reach.
    """
    found = []
    for op in network.ops:
        bits = _CAPS[mode_of(op, network)].accumulator_bits if isinstance(op, Conv) else 32
        low, high = op.bounds(network.op_inputs(op))
        c = getattr(op.requant, "c", None)
        if c is None:
            continue
        least, most = int((low + c).min()), int((high + c).max())
        if least < -(1 << bits - 1) or most >= 1 << bits - 1:
            text = f"sums with their bias reach {least}..{most}, more than the {bits} bits of an accumulator"
            found.append(Problem(op.name, op.title, text, "use smaller weights, or a smaller bias"))
    if found:
        raise ModelError(network.name, found)


def _tiles(
    network: Network, platform: AieMl, made: Lowering, homes: Mapping[str, Homes]
) -> dict[str, TensorPlace]:
    """Inputs where the first layer's lowest cores have them; results where the last core of each chain stores them."""
    roles = dict.fromkeys(network.inputs, "input") | dict.fromkeys(network.outputs, "output")
    fragments: dict[str, list[Fragment]] = {name: [] for name in network.tensors}
    for tile in made.plan.tiles:
        home, number, box = homes[tile.name], platform.number(tile.column, tile.row), made.boxes[tile.step]
        uses: list[tuple[str, Part, tuple[int, ...], tuple[int, ...]]]
        uses = [(tile.op.output, tile.results, home.results, (tile.step,))] if tile.dense.shape.role.ends else []
        if tile.op.inputs[0] in network.inputs and tile.row == box.row:
            uses.append((tile.op.inputs[0], tile.reduction, home.inputs, ()))
        for name, part, beats, writers in uses:
            tensor = network.tensors[name]
            extents = ((0, tensor.shape[0]), part, *((0, size) for size in tensor.shape[2:]))
            fragments[name].append(Fragment(
                "data", beats[0] * BEAT_BYTES, extents, layout_of(tensor, part[1] - part[0]), writers, number,
                COPIES, (beats[1] - beats[0]) * BEAT_BYTES,
            ))  # fmt: skip
    return tile_table(
        TensorPlace(tensor, roles.get(name, "internal"), tuple(fragments[name]), name in network.outputs)
        for name, tensor in network.tensors.items()
    )


BACKEND = AieMlBackend()
