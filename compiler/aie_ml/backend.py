# SPDX-License-Identifier: Apache-2.0
"""The AIE-ML back end: layers to boxes of tiles, tiles to programs and descriptors, streams to circuits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from nncosim.compiler.aie_ml.linking import Lowering, buffers_of, linked
from nncosim.compiler.aie_ml.mapping import OBJECTIVES, Split
from nncosim.compiler.aie_ml.placer import STRATEGIES
from nncosim.compiler.aie_ml.search import searched
from nncosim.compiler.backends import Candidate, Lowered
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.ir.operators import Add, Conv, Requantize
from nncosim.compiler.options import CompilerOption, OptionError
from nncosim.compiler.placement.placement import Placement
from nncosim.compiler.proof.caps import MultiplyShiftCaps, Per, RequantCaps
from nncosim.compiler.proof.requantization import prove_op
from nncosim.compiler.schedule import Schedule, Task
from nncosim.hdl.aie_ml.isa import Mac
from nncosim.kernels.aie_ml import KERNELS
from nncosim.kernels.aie_ml.dense import mode_of
from nncosim.kernels.aie_ml.matrix import layout_of
from nncosim.kernels.aie_ml.scaling import MULTIPLIER_BITS
from nncosim.kernels.base import candidate_kernels
from nncosim.platforms.aie_ml import AieMl

__all__ = ["BACKEND", "AieMlBackend"]


def _caps(bits: int) -> RequantCaps:
    """A shift, one for a layer; a bias of as many bits as a sum."""
    return RequantCaps((MultiplyShiftCaps(0, bits, shift_per=Per.LAYER),), accumulator_bits=bits)


_SUM_CAPS = RequantCaps((MultiplyShiftCaps(MULTIPLIER_BITS, 32, multiplier_per=Per.LAYER, shift_per=Per.LAYER),))
_CAPS = {Mac.I8X8: _caps(32), Mac.I16X8: _caps(32), Mac.I16X16: _caps(64)}


class AieMlBackend:
    """See `nncosim.compiler.backends.Backend`.

    Args:
        splits: of the layers; by default the compiler's own. most_tiles: that those may take. objective, strategy,
            share: as of `nncosim.compiler.aie_ml.search.searched`.
    """

    def __init__(
        self, splits: Sequence[tuple[int, int]] = (), most_tiles: int | None = None, *, objective: str = "latency",
        strategy: str = "best", share: bool = True,
    ):
        self._splits = tuple(Split(*each) for each in splits)
        self._most_tiles, self._objective, self._strategy = most_tiles, objective, strategy
        self._share = share

    kernels = KERNELS
    options: ClassVar[tuple[CompilerOption, ...]] = (
        CompilerOption("objective", OBJECTIVES[0], "what the search of splits looks for", OBJECTIVES),
        CompilerOption("placement", STRATEGIES[0], "how layers are placed", STRATEGIES),
        CompilerOption("tiles", "", "most core tiles that a network may take"),
        CompilerOption("splits", "", "of each layer cascade x rows, such as 1x4,4x2,2x2"),
    )

    def with_options(self, given: Mapping[str, str]) -> AieMlBackend:
        """See `nncosim.compiler.options.HasOptions`."""
        splits = tuple(_split(text) for text in given["splits"].split(",")) if "splits" in given else ()
        if splits and "tiles" in given:
            raise OptionError("compiler options splits and tiles: splits say how many tiles they take; give one")
        return AieMlBackend(
            splits, _count("tiles", given["tiles"]) if "tiles" in given else None,
            objective=given.get("objective", self._objective), strategy=given.get("placement", self._strategy),
        )

    def problems(self, network: Network, platform: AieMl) -> tuple[Problem, ...]:
        if not network.ops:
            return (Problem(network.name, "", "has no operators", "nothing would run"),)
        return ()

    def candidates(
        self, op: Op, network: Network, platform: AieMl
    ) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
        if isinstance(op, Requantize):
            return (), (_not_computed(op, network),)
        kernels, reasons = candidate_kernels(KERNELS, op, network, platform)
        if kernels and isinstance(op, Add) and op.proof is None:  # whether its scales will do, the proof says
            op = prove_op(op, network.op_inputs(op), _SUM_CAPS)
            kernels, reasons = candidate_kernels(KERNELS, op, network, platform)
        found = tuple(
            Candidate(k, k.engine, k.cycles(op, network, platform),
                      _CAPS[mode_of(op, network)] if isinstance(op, Conv) else _SUM_CAPS)
            for k in kernels
        )
        return found, reasons

    def lower(self, network: Network, platform: AieMl, choice: Mapping[str, Candidate]) -> Lowered[Lowering]:
        _check_sums(network)
        made = searched(network, platform, self._splits, self._most_tiles, objective=self._objective,
                        strategy=self._strategy, share=self._share)  # fmt: skip
        buffers, tasks = buffers_of(made, platform), []
        for tile in made.plan.tiles:
            own = buffers[tile.name]
            reads, writes = ([b.name for b in own if (b.kind == "tensor") is w] for w in (False, True))
            west = (tile.west.maker,) if tile.west else ()
            reads += [b.name for maker in west for b in buffers[maker] if b.kind == "tensor"]
            tasks.append(Task(tile.name, "core", tile.op.name, west, tuple(reads), tuple(writes),
                              choice[tile.op.name].cost, (platform.number(tile.column, tile.row),)))  # fmt: skip
        layouts = {name: layout_of(tensor, platform.generation) for name, tensor in network.tensors.items()}
        return Lowered(Schedule(tuple(tasks)), tuple(each for own in buffers.values() for each in own), layouts, made,
                       inside=frozenset(network.tensors))  # fmt: skip

    def link(
        self, network: Network, platform: AieMl, lowered: Lowered[Lowering], placement: Placement
    ) -> Image:
        return linked(network, platform, lowered.private, placement)


def _not_computed(op: Requantize, network: Network) -> Problem:
    """Of a result without a layer of its own: a graph's Identity, Transpose or Relu alone."""
    source, out = network.tensors[op.inputs[0]], network.tensors[op.output]
    copied = (source.type.scale, source.type.zero_point) == (out.type.scale, out.type.zero_point)
    copied &= op.function is None or (op.function.lo <= source.type.lo and source.type.hi <= op.function.hi)
    makes, remedy = ("copy", "leave it out of the graph, and take those values for it") if copied else (
        "rescale or clip", "put it behind a Gemm, MatMul or Add, or leave it to the host")  # fmt: skip
    text = f"result {out.name!r} would only {makes} {source.name!r}"
    text += ", and results that do no more than that are not computed on this platform"
    return Problem(op.name, "", text, remedy)


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise OptionError(f"compiler option {name!r} takes a number of at least 1, not {text!r}")
    return int(text)


def _split(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*0*([1-9][0-9]*)x0*([1-9][0-9]*)\s*", text)
    if found is None:
        form = "cascade x rows of each layer, two numbers of at least 1, such as 1x4,4x2"
        raise OptionError(f"compiler option 'splits' takes {form}, not {text.strip()!r}")
    return int(found[1]), int(found[2])


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


BACKEND = AieMlBackend()
