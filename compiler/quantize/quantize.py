# SPDX-License-Identifier: Apache-2.0
"""The whole way from a float network to QONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.quantize.bits import spend
from nncosim.compiler.quantize.emit import emit
from nncosim.compiler.quantize.equalize import equalize
from nncosim.compiler.quantize.graph import FloatGraph, read_float
from nncosim.compiler.quantize.measure import LayerCost, Sensitivity, layer_costs, sensitivities
from nncosim.compiler.quantize.options import QuantizeOptions
from nncosim.compiler.quantize.points import Plan, plan_points
from nncosim.compiler.quantize.scales import Scales, choose_scales, normalise
from nncosim.compiler.quantize.statistics import Runner, collect

__all__ = ["Quantized", "quantize"]

Images = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Quantized:
    """`model`: QONNX. `costs`: a row a point. `dropped`: nodes left to the host. `options`: with each layer's bits.

    `graph`, `plan`, `scales`: what it was made of; the graph's constants are those after equalisation.
    """

    model: onnx.ModelProto
    costs: tuple[LayerCost, ...]
    dropped: tuple[str, ...]
    options: QuantizeOptions
    graph: FloatGraph
    plan: Plan
    scales: Scales
    images: Calibration

    @property
    def average_bits(self) -> float:
        """Of all weights."""
        sizes = {name: self.graph.constants[layer.weights].size for name, layer in self.plan.layers.items()}
        bits = sum(self.options.bits_of(name) * size for name, size in sizes.items())
        return bits / max(sum(sizes.values()), 1)

    def sensitivities(
        self, labels: npt.NDArray[np.int64] | None = None, say: Callable[[str], None] = lambda text: None
    ) -> list[Sensitivity]:
        """What each layer costs by itself; on the calibration's images, or as many of them as have labels."""
        return sensitivities(self.graph, self.plan, self.scales, self.images, labels, say)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Images by graph input, float32 (N, ...); called, it gives them one by one in the shape of the graph input."""

    arrays: Images
    shapes: Mapping[str, tuple[int, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __call__(self) -> Iterator[Images]:
        for number in range(len(self)):
            yield {name: array[number].reshape(self.shapes[name]) for name, array in self.arrays.items()}


def _calibration(graph: FloatGraph, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Calibration:
    """Arrays that fit the graph's inputs.

    Raises:
        InputDataError: one is missing, of another shape, or no numbers; or they are of different lengths, or empty.
    """
    found = {}
    for name in graph.inputs:
        if name not in arrays:
            raise InputDataError(f"the calibration data have no array {name!r}; expected one per graph input "
                                 f"({', '.join(graph.inputs)}), found {', '.join(arrays) or 'nothing'}")  # fmt: skip
        shape, array = graph.shapes[name], np.asarray(arrays[name])
        if array.dtype.kind not in "iuf":
            raise InputDataError(f"calibration array {name!r} holds {array.dtype}; expected numbers")
        if array.shape == shape[1:]:
            array = array[None]
        if array.shape[1:] != shape[1:] or not len(array):
            raise InputDataError(f"calibration array {name!r} has shape {array.shape}; expected (N, "
                                 f"{', '.join(map(str, shape[1:]))})")  # fmt: skip
        found[name] = array.astype(np.float32)
    sizes = {name: len(array) for name, array in found.items()}
    if len(set(sizes.values())) > 1:
        raise InputDataError(f"the calibration arrays are of different numbers of images: {sizes}")
    return Calibration(found, {name: graph.shapes[name] for name in graph.inputs})


def quantize(
    source: str | Path | onnx.ModelProto, arrays: Mapping[str, npt.NDArray[np.generic]], options: QuantizeOptions,
    *, average_bits: float | None = None, say: Callable[[str], None] = lambda text: None,
) -> Quantized:
    """Quantise a trained float network.

    Args:
        source: ONNX file or model. arrays: calibration images by graph input, (N, ...).
        average_bits: of all weights; layers get fewer bits where that costs least (see `bits`).

    Raises:
        ModelError: a network that cannot be quantised, with every reason.
        InputDataError: data that do not fit it.
    """
    say("reading the model")
    graph = read_float(source)
    plan = plan_points(graph, options.joins)
    images = _calibration(graph, arrays)
    unknown = sorted(set(options.layer_bits) - set(plan.layers))
    if unknown:
        raise InputDataError(f"there is no layer {unknown[0]!r}; layers are {', '.join(plan.layers)}")
    equalized = equalize(graph, plan) if options.equalize else {}
    seen = collect(Runner(graph.proto(), list(plan.points)), images, say)
    factors = normalise(graph, plan, seen, options) if options.scales != "float" else {}
    if average_bits is not None:
        options = replace(options, layer_bits=spend(graph, plan, seen, images, options, average_bits, say))
    scales = choose_scales(graph, plan, seen, options)
    costs = layer_costs(graph, plan, scales, seen, images, (equalized, factors), say)
    model = emit(graph, plan, scales)
    return Quantized(model, tuple(costs), graph.dropped, options, graph, plan, scales, images)
