# SPDX-License-Identifier: Apache-2.0
"""What an image says about itself: where tensors lie, and its notes."""

from __future__ import annotations

from collections.abc import Sequence

from nncosim.compiler.backends import Lowered
from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.image.tiles import TensorPlace, tile_table, whole
from nncosim.compiler.ir.network import Network
from nncosim.compiler.j3dai.accesses import L2, first_words
from nncosim.compiler.j3dai.fused_plan import FusedPlan
from nncosim.compiler.j3dai.fusion import estimate_of
from nncosim.compiler.j3dai.layer import Layer
from nncosim.compiler.j3dai.lowering import Lowering
from nncosim.compiler.j3dai.notes import InsideNote, J3daiNotes, ListNote
from nncosim.compiler.j3dai.tensors import concat_views
from nncosim.compiler.placement.kept import kept_buffers
from nncosim.compiler.placement.placement import Placement
from nncosim.compiler.placement.traffic import traffic_table
from nncosim.compiler.placement.views import written_parts
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.kernels.base import Cost
from nncosim.platforms.j3dai import J3dai

__all__ = ["notes_of", "tensor_places"]


def tensor_places(
    network: Network, platform: J3dai, lowered: Lowered[Lowering], placement: Placement
) -> dict[str, TensorPlace]:
    """The tile table."""
    layers = lowered.private.layers
    views = concat_views(network, platform)
    writer = {layer.output: i for i, layer in enumerate(layers)}
    kept = kept_buffers(lowered.buffers, placement, lowered.schedule, lowered.lives)
    out = []
    for tensor in network.tensors.values():
        if tensor.name in lowered.inside:
            out.append(TensorPlace(tensor, "internal", ()))
            continue
        by = tuple(sorted({writer[p] for p in written_parts(tensor.name, views) if p in writer}))
        role = "output" if tensor.name in network.outputs else "input" if tensor.name in network.inputs else "internal"
        at = L2_BASE + placement.address[tensor.name]
        layout, stays = lowered.layouts[tensor.name], tensor.name in kept
        out.append(TensorPlace(tensor, role, (whole(tensor, "l2", at, layout, by),), stays))
    return tile_table(out)


def _inside(lowered: Lowered[Lowering], layers: Sequence[Layer]) -> dict[str, InsideNote]:
    """Where the tensors that stay in L1 are written."""
    out: dict[str, InsideNote] = {}
    for index, layer in enumerate(layers):
        plan = layer.code.plan
        if not isinstance(plan, FusedPlan):
            continue
        pieces: dict[str, list[tuple[int, ...]]] = {name: [] for name in layer.inside}
        for m in plan.made():
            run = sum(before.clusters >> m.cluster & 1 for before in layers[:index])
            rectangle = (m.tile.y0, m.tile.y1, m.tile.x0, m.tile.x1, m.width)
            pieces[m.tensor].append((run, m.cluster, m.first, m.lines, m.address, *rectangle))
        out |= {name: InsideNote(lowered.layouts[name], tuple(found)) for name, found in pieces.items()}
    return out


def notes_of(
    network: Network, platform: J3dai, lowered: Lowered[Lowering], placement: Placement, cycles: Sequence[int],
    repeat: Sequence[int], input_lists: int,
) -> Notes:
    """The schedule section.

    Args:
        cycles: of each list in the first inference on the ISS. repeat: in each later one.
        input_lists: see `J3daiNotes`.
    """
    layers = lowered.private.layers
    steps = [
        Step(
            layer.name, tuple(op.name for op in layer.ops), ("cluster",), Cost.exactly(cycles[i]),
            Cost.exactly(repeat[i]), estimate_of(layer.code.plan), tuple(layer.inputs), (layer.output,),
            tuple(layer.inside),
        )
        for i, layer in enumerate(layers)
    ]  # fmt: skip
    lists = [
        ListNote(
            placement.address[layer.list_buffer] // platform.word_bytes, sum(len(t.pieces) for t in layer.transfers),
            layer.clusters, layer.program_counter, layer.code.plan.line,
        )
        for layer in layers
    ]  # fmt: skip
    word = platform.word_bytes
    traffic = traffic_table(
        [first_words(layer.transfers, word) for layer in layers], lowered.buffers, placement, L2, word
    )
    runs = tuple(sum(layer.clusters >> c & 1 for layer in layers) for c in range(platform.clusters))
    return Notes(
        tuple(steps), Cost.exactly(sum(cycles)), Cost.exactly(sum(repeat)), tuple(network.inputs),
        tuple(network.outputs), streams=input_lists > 0,
        own=J3daiNotes(tuple(lists), traffic, platform.word_bytes, runs, input_lists, _inside(lowered, layers)),
    )  # fmt: skip
