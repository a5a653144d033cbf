# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalisation: the channels between two layers are brought to ranges of weights that are alike.

After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, equation 11:
channel c of the first layer is divided by sqrt(r1 / r2), and of the second multiplied, where r1 and r2 are the largest
weights of the channel in each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from nncosim.compiler.quantize.graph import FloatGraph
from nncosim.compiler.quantize.points import Layer, Plan, Point
from nncosim.compiler.quantize.rescale import scale_nodes, scale_outputs, scale_sources

__all__ = ["equalize"]

_ROUNDS = 20
_SETTLED = 1e-3
"""Rounds end when no factor is further from 1."""


def equalize(graph: FloatGraph, plan: Plan) -> dict[str, float]:
    """Equalise all pairs in place. Returns, by layer, the largest factor by which one of its channels changed."""
    pairs = list(_pairs(graph, plan))
    total = {first.name: np.ones(_outputs(graph, first)) for first, _, _ in pairs}
    for _ in range(_ROUNDS):
        furthest = 0.0
        for first, point, second in pairs:
            factor = _factor(graph, first, second)
            scale_outputs(graph, first, factor)
            scale_nodes(graph, point, factor)
            scale_sources(graph, second, factor)
            total[first.name] *= factor
            furthest = max(furthest, float(np.abs(np.log(factor)).max()))
        if furthest < _SETTLED:
            break
    return {name: float(np.exp(np.abs(np.log(factor)).max())) for name, factor in total.items()}


def _outputs(graph: FloatGraph, layer: Layer) -> int:
    return int(graph.constants[layer.weights].shape[layer.axis])


def _magnitudes(weights: npt.NDArray[np.generic], axis: int, channels: int) -> npt.NDArray[np.float64]:
    flat = np.abs(np.moveaxis(weights, axis, 0)).astype(np.float64).reshape(channels, -1)
    return flat.max(axis=1)


def _factor(graph: FloatGraph, first: Layer, second: Layer) -> npt.NDArray[np.float64]:
    channels = _outputs(graph, first)
    one = _magnitudes(graph.constants[first.weights], first.axis, channels)
    weights = graph.constants[second.weights]
    depthwise = second.node.op_type == "Conv" and weights.shape[1] == 1 and channels > 1
    two = _magnitudes(weights, 0 if depthwise else 1 - second.axis, channels)
    alive = (one > 0) & (two > 0)
    return np.where(alive, np.sqrt(np.where(alive, two, 1) / np.where(alive, one, 1)), 1.0)


def _pairs(graph: FloatGraph, plan: Plan) -> Iterator[tuple[Layer, Point, Layer]]:
    """A layer, its point, and the only layer that reads it, where their channels are the same."""
    readers: dict[str, list[str]] = {}
    for point in plan.points.values():
        for source in point.sources:
            readers.setdefault(source, []).append(point.value)
    kept = {plan.point_of[name] for name in graph.outputs}
    joined = set().union(*plan.joined)
    for point in plan.points.values():
        first = plan.layer_of(point)
        if first is None or point.value in kept | joined or len(readers.get(point.value, ())) != 1:
            continue
        second = plan.layer_of(plan.points[readers[point.value][0]])
        if second is not None and _homogeneous(point) and _same_channels(graph, first, second):
            yield first, point, second


def _homogeneous(point: Point) -> bool:
    """Whether its chain takes a factor of its own for each channel: a Clip's bound is one for all."""
    return all(node.op_type in ("Add", "BatchNormalization", "Div", "Mul", "Relu", "Sub") for node in point.chain)


def _same_channels(graph: FloatGraph, first: Layer, second: Layer) -> bool:
    channels, weights = _outputs(graph, first), graph.constants[second.weights]
    if second.node.op_type != "Conv":
        return weights.shape[1 - second.axis] % channels == 0
    groups = next((a.i for a in second.node.attribute if a.name == "group"), 1)
    return bool(groups == 1 and weights.shape[1] == channels) or bool(groups == channels == len(weights))
