# SPDX-License-Identifier: Apache-2.0
"""Float models that round and clip as the quantised network does, for onnxruntime: fast, and right to float32."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx
from nncosim.compiler.quantize.emit import quantised_bias, quantised_weights
from nncosim.compiler.quantize.graph import FloatGraph
from nncosim.compiler.quantize.points import Plan
from nncosim.compiler.quantize.scales import Scales
from onnx import helper

__all__ = ["ALONE", "isolated", "simulated"]

ALONE = "alone:"
"""What the names of values begin with that are quantised by themselves, from float inputs."""


def _rounded(graph: FloatGraph, scales: Scales, value: str, source: str, output: str) -> list[onnx.NodeProto]:
    chosen = scales.points[value]
    low, high = chosen.levels
    names = [f"{output}.step", f"{output}.low", f"{output}.high"]
    for name, number in zip(names, (chosen.scale, low, high), strict=True):
        graph.constants[name] = np.array(number, np.float32)
    step = names[0]
    return [
        helper.make_node("Div", [source, step], [f"{output}.div"]),
        helper.make_node("Round", [f"{output}.div"], [f"{output}.round"]),
        helper.make_node("Max", [f"{output}.round", names[1]], [f"{output}.max"]),
        helper.make_node("Min", [f"{output}.max", names[2]], [f"{output}.min"]),
        helper.make_node("Mul", [f"{output}.min", step], [output]),
    ]


def _copy(graph: FloatGraph) -> FloatGraph:
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    return FloatGraph(graph.name, model, dict(graph.constants), graph.shapes)


def _quantise_constants(graph: FloatGraph, plan: Plan, scales: Scales, node: onnx.NodeProto, prefix: str = "") -> None:
    layer = plan.layers.get(node.name.removeprefix(prefix))
    if layer is None:
        return
    name = f"{node.name}.w"
    graph.constants[name] = quantised_weights(graph, scales, layer)
    if layer.bias is not None:
        graph.constants[f"{node.name}.b"] = quantised_bias(graph, plan, scales, layer)
        node.input[2] = f"{node.name}.b"
    node.input[1] = name


def simulated(
    graph: FloatGraph, plan: Plan, scales: Scales, points: Collection[str] | None = None,
    weights: Collection[str] | None = None,
) -> onnx.ModelProto:
    """The network with some points rounded and some layers' weights quantised; None: all. Values keep their names."""
    points = plan.points.keys() if points is None else points
    weights = plan.layers.keys() if weights is None else weights
    changed = _copy(graph)
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    for name in graph.inputs:
        if name in points:
            renamed[name] = f"{name}.integers"
            nodes += _rounded(changed, scales, name, name, renamed[name])
    for node in changed.nodes:
        if node.name in weights:
            _quantise_constants(changed, plan, scales, node)
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        value = node.output[0]
        nodes.append(node)
        if value in points:
            node.output[0] = f"{value}.float"
            nodes += _rounded(changed, scales, value, node.output[0], value)
    return _with_nodes(changed, nodes)


def isolated(graph: FloatGraph, plan: Plan, scales: Scales) -> onnx.ModelProto:
    """The float network, and beside each point what it would be if it alone were quantised: `ALONE` + its value."""
    changed = _copy(graph)
    nodes = list(changed.nodes)
    for point in plan.points.values():
        source = point.value
        if point.node:
            first = next(node for node in graph.nodes if node.name == point.node)
            copies = _branch(changed, plan, scales, [first, *point.chain])
            nodes += copies
            source = copies[-1].output[0]
        nodes += _rounded(changed, scales, point.value, source, ALONE + point.value)
    return _with_nodes(changed, nodes)


def _branch(
    graph: FloatGraph, plan: Plan, scales: Scales, originals: Iterable[onnx.NodeProto]
) -> list[onnx.NodeProto]:
    copies: list[onnx.NodeProto] = []
    made: dict[str, str] = {}
    for original in originals:
        copy = onnx.NodeProto()
        copy.CopyFrom(original)
        copy.name = ALONE + original.name
        _quantise_constants(graph, plan, scales, copy, ALONE)
        for index, name in enumerate(copy.input):
            copy.input[index] = made.get(name, name)
        made[original.output[0]] = copy.output[0] = f"{ALONE}{original.output[0]}.float"
        copies.append(copy)
    return copies


def _with_nodes(graph: FloatGraph, nodes: Iterable[onnx.NodeProto]) -> onnx.ModelProto:
    kept = list(nodes)
    del graph.model.graph.node[:]
    del graph.model.graph.value_info[:]
    graph.model.graph.node.extend(kept)
    return graph.proto()
