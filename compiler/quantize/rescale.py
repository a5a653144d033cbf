# SPDX-License-Identifier: Apache-2.0
"""The same float function with other numbers inside: a layer's results scaled up, the weights that read them down.

What lies between two layers commutes with a positive factor: Relu, pooling, and, when their constants are scaled too,
bias, Clip and BatchNormalization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from nncosim.compiler.quantize.graph import FloatGraph, along
from nncosim.compiler.quantize.points import Layer, Plan, Point

__all__ = ["apply_factors", "scale_nodes", "scale_outputs", "scale_sources", "scaled_with"]

Factor = npt.NDArray[np.float64]


def scaled_with(plan: Plan, point: Point) -> tuple[str, ...]:
    """The points that must have the factor of `point`, because no weights lie between."""
    return point.sources if point.kind in ("add", "average", "concat", "scale") else ()


def _multiply(graph: FloatGraph, node: onnx.NodeProto, index: int, factor: Factor) -> None:
    name = graph.own_constant(node, index)
    old = graph.constants[name]
    graph.constants[name] = (old.astype(np.float64) * factor).astype(old.dtype)


def scale_outputs(graph: FloatGraph, layer: Layer, factor: Factor) -> None:
    """Multiply what a layer computes. `factor`: (1,), or (OC,)."""
    node = layer.node
    weights = graph.constants[layer.weights]
    _multiply(graph, node, 1, along(factor, weights.ndim, layer.axis))
    if layer.bias is not None:
        bias = graph.constants[layer.bias]
        _multiply(graph, node, 2, factor.reshape([1] * (bias.ndim - 1) + [-1]) if bias.ndim else factor[0])


def scale_sources(graph: FloatGraph, layer: Layer, factor: Factor) -> None:
    """Divide what a layer's weights do to its input. `factor`: (1,), or (IC,), of the input's channels."""
    weights = graph.constants[layer.weights]
    depthwise = layer.node.op_type == "Conv" and weights.shape[1] == 1 and len(factor) > 1
    axis = 1 - layer.axis if not depthwise else 0
    inverse = 1 / factor
    size = weights.shape[axis]
    if len(inverse) > 1 and size != len(inverse):  # a Flatten before it: so many pixels a channel
        inverse = np.repeat(inverse, size // len(inverse))
    _multiply(graph, layer.node, 1, along(inverse, weights.ndim, axis))


def scale_nodes(graph: FloatGraph, point: Point, factor: Factor) -> None:
    """Let the nodes of a point that have constants of their own follow its inputs, multiplied by `factor`."""
    for node in _constant_nodes(graph, point):
        ndim = len(graph.shapes.get(point.value, (1, 1, 1, 1)))
        wide = along(factor, ndim, 1 if ndim != 3 else 2) if len(factor) > 1 else factor[0]
        if node.op_type == "BatchNormalization":
            for index in (2, 3):  # B and the mean
                _multiply(graph, node, index, factor if len(factor) > 1 else factor[0])
        elif node.op_type in ("Add", "Sub"):
            (index,) = (i for i, name in enumerate(node.input) if name in graph.constants)
            _multiply(graph, node, index, wide)
        elif node.op_type == "Clip":
            _scale_clip(graph, node, float(factor[0]))


def _scale_clip(graph: FloatGraph, node: onnx.NodeProto, factor: float) -> None:
    for attribute in node.attribute:
        if attribute.name in ("min", "max"):
            attribute.f *= factor
    for index in range(1, len(node.input)):
        if node.input[index]:
            _multiply(graph, node, index, np.array([factor])[0])


def _constant_nodes(graph: FloatGraph, point: Point) -> Iterator[onnx.NodeProto]:
    if point.kind == "scale":
        yield next(node for node in graph.nodes if node.name == point.node)
    yield from point.chain


def apply_factors(graph: FloatGraph, plan: Plan, factors: Mapping[str, float]) -> None:
    """Multiply the value of every point by its factor, and change nothing at the graph's outputs.

    factors: by point. Points of one `scaled_with` set must have one, graph inputs and outputs and those of curves 1.
    """
    for point in plan.points.values():
        factor = np.array([factors[point.value]])
        layer = plan.layer_of(point)
        if layer is not None:
            scale_sources(graph, layer, np.array([factors[layer.source]]))
            scale_outputs(graph, layer, factor)
        if point.kind != "curve":
            scale_nodes(graph, point, factor)
