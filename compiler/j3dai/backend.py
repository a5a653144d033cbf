# SPDX-License-Identifier: Apache-2.0
"""The J3DAI back end: operators to kernels, nests to programs and lists, everything to one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import Problem
from nncosim.compiler.frontend import raw_outputs
from nncosim.compiler.fusion.chains import may_stay
from nncosim.compiler.fusion.explain import schedule_files
from nncosim.compiler.image.image import Image, Segment, merged
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Concat
from nncosim.compiler.j3dai.accesses import L2, accesses
from nncosim.compiler.j3dai.cycle_model import Timeline, cycle_model
from nncosim.compiler.j3dai.firmware import LayerStart, firmware_segments
from nncosim.compiler.j3dai.fusion import NestFuser
from nncosim.compiler.j3dai.layer import Layer, layer_buffers, layer_tasks
from nncosim.compiler.j3dai.lists import descriptor_list
from nncosim.compiler.j3dai.lowering import Lowering
from nncosim.compiler.j3dai.prefetch import prefetch
from nncosim.compiler.j3dai.relax import roomier_layers
from nncosim.compiler.j3dai.sections import notes_of, tensor_places
from nncosim.compiler.j3dai.tensors import concat_views, tensor_buffers, tensor_layouts
from nncosim.compiler.j3dai.tiling import LayerCode, compile_nest
from nncosim.compiler.placement.accesses import lists_that_read, lives_in_order
from nncosim.compiler.placement.placement import Placement, PlacementError
from nncosim.compiler.placement.room import Room
from nncosim.compiler.placement.views import is_view
from nncosim.compiler.proof.caps import MultiplyShiftCaps, RequantCaps
from nncosim.compiler.schedule import Schedule
from nncosim.hdl.j3dai.isa import NARROW_M_BITS
from nncosim.hdl.j3dai.regs import HOST_IMEM_BASE, L2_BASE
from nncosim.kernels.base import Cost, candidate_kernels
from nncosim.kernels.j3dai import KERNELS
from nncosim.platforms.j3dai import J3dai

__all__ = ["BACKEND", "J3daiBackend"]

_ELF_RISCV = 243
# of 16 bits a multiplier takes half of the time
_CAPS = RequantCaps((MultiplyShiftCaps(multiplier_bits=NARROW_M_BITS), MultiplyShiftCaps()), tables=True)


@dataclass(frozen=True)
class J3daiBackend:
    """See `backends.Backend`.

    fusion: "cost" fuses operators where that is faster, "prefer" wherever it saves L2, "off" nowhere.
    stream: the inputs' place in L2 is theirs alone, and the host tells when they have been read: the next ones may be
        written while the network runs. One place rather than two in turn: those would take twice the bytes and a second
        copy of the lists that read them, and gain time only where an input is still read near the end.
    """

    fusion: str = "cost"
    stream: bool = False
    kernels = KERNELS

    def problems(self, network: Network, platform: J3dai) -> tuple[Problem, ...]:
        found = []
        if not network.ops:
            found.append(Problem(network.name, "", "has no operators", "nothing would run"))
        whole = set(raw_outputs(network))
        for tensor in network.tensors.values():
            if tensor.type.bits > 8 and not (tensor.name in whole and not network.consumers(tensor.name)):
                what = f"tensor has {tensor.type.bits} bits, but activations have at most 8"
                found.append(Problem(tensor.name, "", what, "quantise it to 8 bits or less"))
        return tuple(found)

    def streaming(self) -> J3daiBackend:
        return replace(self, stream=True)

    def room(self, network: Network, platform: J3dai) -> Room:
        """Everything lies in L2; in L1 there is what a tile needs, and what passes between fused operators."""
        return Room("l2", 8, may_stay(network), NestFuser.most_members)

    def candidates(
        self, op: Op, network: Network, platform: J3dai
    ) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
        kernels, reasons = candidate_kernels(KERNELS, op, network, platform)
        ready = op.requant is not None or op.function is None or not op.requantized
        found = tuple(
            Candidate(k, k.engine, k.cycles(op, network, platform) if ready else Cost.exactly(0), _CAPS)
            for k in kernels
        )
        return found, reasons

    def lower(self, network: Network, platform: J3dai, choice: Mapping[str, Candidate]) -> Lowered[Lowering]:
        views = concat_views(network, platform)
        ops = [op for op in network.ops if not (isinstance(op, Concat) and is_view(op, views))]
        nests = [choice[op.name].kernel.code(op, network, platform) for op in ops]
        alone = [compile_nest(nest, platform) for nest in nests]
        fuser = NestFuser(network, platform, ops, nests, alone, views)
        avoid = fuser.could_stay(list(network.tensors)) if self.fusion == "prefer" else ()
        return self._lowered(fuser, views, frozenset(avoid), {})

    def _lowered(
        self, fuser: NestFuser, views: Mapping[str, str], avoid: frozenset[str],
        roomy: Mapping[tuple[int, ...], LayerCode],
    ) -> Lowered[Lowering]:
        """See `Lowering`."""
        network, platform = fuser.network, fuser.platform
        chosen = fuser.separate() if self.fusion == "off" else fuser.layers(avoid)
        chosen = [replace(each, code=roomy.get(each.ops, each.code)) for each in chosen]
        layers = tuple(
            Layer(tuple(fuser.ops[i] for i in each.ops), ahead.code, ahead.programs_at, ahead.transfers)
            for each, ahead in zip(chosen, prefetch([each.code for each in chosen], platform), strict=True)
        )
        inside = frozenset(name for layer in layers for name in layer.inside)
        schedule = Schedule(tuple(layer_tasks(layers, views)))
        layouts = tensor_layouts(network, platform)
        tensors = [b for b in tensor_buffers(network, platform, views, layouts) if b.name not in inside]
        if self.stream:
            tensors = [replace(b, to_end=b.to_end or b.name in network.inputs) for b in tensors]
        buffers = (*tensors, *(b for layer in layers for b in layer_buffers(layer)))
        word = platform.word_bytes
        lists = [(layer.name, accesses(layer.transfers, word)) for layer in layers]
        lives = lives_in_order(lists, buffers, L2, word)
        files = schedule_files(fuser, chosen, avoid, roomy.keys(), "L2", "L1")
        made = Lowering(layers, tuple(each.ops for each in chosen), fuser, views, avoid, roomy)
        return Lowered(schedule, buffers, layouts, made, files, lives=(lives,), inside=inside)

    def relax(self, lowered: Lowered[Lowering], error: PlacementError) -> Lowered[Lowering] | None:
        """With other plans where a layer's result cannot lie over its input; else with the largest tensors where the
        memory is fullest kept in L1, one more at a time. Each layer gets another plan once, and each tensor is kept
        once, so it comes to an end."""
        made = lowered.private
        fuser, avoid, roomy = made.fuser, made.avoid, made.roomy
        lists = [(layer.code, layer.transfers) for layer in made.layers]
        other_code = roomier_layers(lists, lowered.buffers, lowered.lives[0], fuser.platform, error.missing)
        if other_code and not any(made.ops[i] in roomy for i in other_code):
            roomy = {**roomy, **{made.ops[i]: code for i, code in other_code.items()}}
            return self._lowered(fuser, made.views, avoid, roomy)
        if self.fusion == "off":
            return None
        names = [name for name, _ in sorted(error.alive, key=lambda item: (-item[1], item[0]))]
        for name in fuser.could_stay(names):
            if name not in avoid:
                avoid |= {name}
                other = self._lowered(fuser, made.views, avoid, roomy)
                if other.inside - lowered.inside:
                    return other
        return None

    def link(
        self, network: Network, platform: J3dai, lowered: Lowered[Lowering], placement: Placement
    ) -> Image:
        layers = lowered.private.layers
        contents = {b.name: b.content for b in lowered.buffers if b.content}
        address = placement.address
        for layer in layers:
            made = descriptor_list(layer.transfers, address, platform)
            contents[layer.list_buffer] = made.to_bytes()
        starts = [
            LayerStart(i, address[layer.list_buffer] // platform.word_bytes, layer.clusters, layer.program_counter)
            for i, layer in enumerate(layers)
        ]
        l2 = merged({address[name]: data for name, data in contents.items()}, platform.line_bytes)
        lists = (accesses(layer.transfers, platform.word_bytes) for layer in layers)
        input_lists = lists_that_read(network.inputs, lists, lowered.buffers) if self.stream else 0
        host = firmware_segments(platform, starts, input_lists)
        segments = (*host, *(Segment("l2", L2_BASE + at, data) for at, data in l2))
        bare = Image(segments, HOST_IMEM_BASE, _ELF_RISCV)
        first, repeat = (_cycles(timeline) for timeline in cycle_model().frames(bare.to_bytes(), platform, 2))
        notes = notes_of(network, platform, lowered, placement, first, repeat, input_lists)
        return replace(bare, tiles=tensor_places(network, platform, lowered, placement), notes=notes)

    def audit(self, image: Image, platform: J3dai) -> str:
        """Whether every transfer of a linked image finds what it means; "" if so. Shares nothing with placement."""
        return cycle_model().audit(image, platform)


def _cycles(timeline: Timeline) -> list[int]:
    """Cycles of each list by the cycle model; the last lasts until the host has reported the inference done."""
    ends = [*(layer.end for layer in timeline.layers[:-1]), timeline.cycles]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


BACKEND = J3daiBackend()
