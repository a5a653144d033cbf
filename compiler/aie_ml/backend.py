# SPDX-License-Identifier: Apache-2.0
"""The AIE-ML back end: dense layers one after the other on a core.

Each kind of access has a logical bank of its own, so that the core never waits: bias in bank 1, weights in bank 2,
activations in 0 and 3 in turn (AIE4ML's order).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from nncosim.compiler.aie_ml.checker import wrong_in
from nncosim.compiler.aie_ml.cycle_model import cycle_model
from nncosim.compiler.aie_ml.notes import PROGRAM_BASE, AieMlNotes, data_address
from nncosim.compiler.aie_ml.program import Addresses, program_of
from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import CompileError, ModelError, Problem
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes, Step
from nncosim.compiler.image.tiles import Fragment, TensorPlace, tile_table
from nncosim.compiler.ir.layout import size_bytes
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.placement.kept import kept_buffers
from nncosim.compiler.placement.placement import Buffer, Placement
from nncosim.compiler.proof.caps import MultiplyShiftCaps, Per, RequantCaps
from nncosim.compiler.schedule import Schedule, Task
from nncosim.hdl.aie_ml.isa import BEAT_BYTES, Mac
from nncosim.kernels.aie_ml import KERNELS
from nncosim.kernels.aie_ml.dense import Dense, layout_of, mode_of
from nncosim.kernels.base import Cost, candidate_kernels
from nncosim.platforms.aie_ml import BANK_BYTES, BANKS, AieMl

__all__ = ["BACKEND", "AieMlBackend"]

BIAS_BANK, WEIGHT_BANK = 1, 2
ACTIVATION_BANKS = (0, 3)


def _caps(bits: int) -> RequantCaps:
    """A shift, one for a layer; a bias of as many bits as a sum."""
    return RequantCaps((MultiplyShiftCaps(0, bits, shift_per=Per.LAYER),), accumulator_bits=bits)


_CAPS = {Mac.I8X8: _caps(32), Mac.I16X8: _caps(32), Mac.I16X16: _caps(64)}


@dataclass(frozen=True)
class Lowering:
    """The layers in order, and in which bank each tensor lies."""

    layers: tuple[Dense, ...]
    banks: Mapping[str, int]


class AieMlBackend:
    """See `nncosim.compiler.backends.Backend`."""

    kernels = KERNELS

    def problems(self, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        if network.ops:
            return ()
        return (Problem(network.name, "", "has no operators", "nothing would run"),)

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
        banks = _banks(network)
        layouts = {name: layout_of(tensor) for name, tensor in network.tensors.items()}
        buffers = [
            Buffer(name, "data", size_bytes(t.shape, layouts[name], t.axes), "tensor", BEAT_BYTES, instance=banks[name],
                   from_start=name in network.inputs, to_end=name in network.outputs)
            for name, t in network.tensors.items()
        ]  # fmt: skip
        layers, tasks = [], []
        for op in network.ops:
            dense: Dense = choice[op.name].kernel.code(op, network, platform)
            weights, bias = f"{op.name} weights", f"{op.name} bias"
            buffers += [
                Buffer(weights, "data", len(dense.weights), "weights", BEAT_BYTES, dense.weights, instance=WEIGHT_BANK),
                Buffer(bias, "data", len(dense.bias), "parameters", BEAT_BYTES, dense.bias, instance=BIAS_BANK),
            ]
            layers.append(dense)
            reads = (*op.inputs, weights, bias)
            tasks.append(Task(op.name, "core", op.name, (), reads, (op.output,), choice[op.name].cost))
        nowhere = Addresses(0, 0, 0, 0)
        code = program_of([(dense, nowhere) for dense in layers], platform.instructions)
        buffers.append(Buffer("program", "program", len(code.words), "program", 16, permanent=True))
        return Lowered(Schedule(tuple(tasks)), tuple(buffers), layouts, Lowering(tuple(layers), banks))

    def link(
        self, network: Network, platform: AieMl, lowered: Lowered[Lowering], placement: Placement
    ) -> Image:
        made, at = lowered.private, placement.address
        home = {b.name: data_address(b.instance, at[b.name]) for b in lowered.buffers if b.memory == "data"}
        layers = []
        for op, dense in zip(network.ops, made.layers, strict=True):
            names = (op.inputs[0], f"{op.name} weights", f"{op.name} bias", op.output)
            layers.append((dense, Addresses(*(home[name] // BEAT_BYTES for name in names))))
        code = program_of(layers, platform.instructions)
        found = wrong_in(code.words, layers)
        if found:
            raise CompileError(f"the program that was made breaks rules of the core: {'; '.join(found[:3])}")
        segments = _data_segments({b.name: b.content for b in lowered.buffers if b.content}, home)
        segments.append(Segment("program", PROGRAM_BASE + at["program"], code.words, 5))
        bare = Image(tuple(segments), PROGRAM_BASE)
        cycles = cycle_model().layers(replace(bare, notes=Notes(own=AieMlNotes(code.ends))).to_bytes(), platform)
        steps = tuple(
            Step(op.name, (op.name,), ("core",), Cost.exactly(count), estimated_cycles=task.cost.best,
                 reads=op.inputs, writes=(op.output,))
            for op, count, task in zip(network.ops, cycles, lowered.schedule.tasks, strict=True)
        )  # fmt: skip
        notes = Notes(steps, Cost.exactly(sum(cycles)), None, tuple(network.inputs), tuple(network.outputs),
                      own=AieMlNotes(code.ends))  # fmt: skip
        return replace(bare, tiles=_tiles(network, lowered, placement, home), notes=notes)


def _data_segments(contents: Mapping[str, bytes], home: Mapping[str, int]) -> list[Segment]:
    """What lies in data memory, in pieces without gaps. Equal constants may share a place, whole or in part."""
    memory, used = bytearray(BANKS * BANK_BYTES), np.zeros(BANKS * BANK_BYTES + 2, bool)
    for name, data in contents.items():
        memory[home[name] : home[name] + len(data)] = data
        used[home[name] + 1 : home[name] + len(data) + 1] = True
    edges = np.flatnonzero(used[1:] != used[:-1])
    return [Segment("data", int(a), bytes(memory[a:b])) for a, b in edges.reshape(-1, 2)]


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


def _banks(network: Network) -> dict[str, int]:
    """A layer reads one of the two banks and writes the other."""
    out = {name: ACTIVATION_BANKS[0] for name in network.inputs}
    for op in network.ops:
        out[op.output] = ACTIVATION_BANKS[1 - ACTIVATION_BANKS.index(out[op.inputs[0]])]
    return out


def _tiles(
    network: Network, lowered: Lowered[Lowering], placement: Placement, home: Mapping[str, int]
) -> dict[str, TensorPlace]:
    kept = kept_buffers(lowered.buffers, placement, lowered.schedule)
    writer = {op.output: (k,) for k, op in enumerate(network.ops)}
    roles = dict.fromkeys(network.inputs, "input") | dict.fromkeys(network.outputs, "output")
    return tile_table(
        TensorPlace(tensor, roles.get(name, "internal"), (
            Fragment("data", home[name], tuple((0, size) for size in tensor.shape), lowered.layouts[name],
                     writer.get(name, ()), lowered.private.banks[name]),
        ), name in kept)
        for name, tensor in network.tensors.items()
    )  # fmt: skip


BACKEND = AieMlBackend()
