# SPDX-License-Identifier: Apache-2.0
"""The quantised network as QONNX: the float graph with a Quant behind each point, and on weights and biases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from nncosim.compiler.frontend.forms import DOMAIN
from nncosim.compiler.quantize.graph import FloatGraph, along
from nncosim.compiler.quantize.points import Layer, Plan
from nncosim.compiler.quantize.scales import Scales
from onnx import helper, numpy_helper

__all__ = ["emit", "quantised_bias", "quantised_weights"]

BIAS_BITS = 32


def bias_scale(plan: Plan, scales: Scales, layer: Layer) -> npt.NDArray[np.float32]:
    """A step of the layer's accumulator: what its input's step and its weights' step make, (1,) or (OC,)."""
    return scales.points[layer.source].scale * scales.layers[layer.name].scale


def quantised_weights(graph: FloatGraph, scales: Scales, layer: Layer) -> npt.NDArray[np.float32]:
    """What the weights are worth once they are integers."""
    weights, chosen = graph.constants[layer.weights].astype(np.float32), scales.layers[layer.name]
    scale = along(chosen.scale, weights.ndim, layer.axis)
    return (np.clip(np.rint(weights / scale), -chosen.largest, chosen.largest) * scale).astype(np.float32)


def quantised_bias(graph: FloatGraph, plan: Plan, scales: Scales, layer: Layer) -> npt.NDArray[np.float32]:
    """The same of a layer's bias, which it must have."""
    assert layer.bias is not None
    bias, scale = graph.constants[layer.bias].astype(np.float32), bias_scale(plan, scales, layer)
    return (np.rint(bias / scale) * scale).astype(np.float32)


class _Writer:
    def __init__(self, graph: FloatGraph):
        self.nodes: list[onnx.NodeProto] = []
        self.constants = dict(graph.constants)

    def constant(self, name: str, value: object) -> str:
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def quant(
        self, name: str, source: str, output: str, scale: object, bits: int, *, signed: bool, narrow: bool
    ) -> str:
        inputs = [source, self.constant(f"{name}.scale", scale), self.constant("quant.zero", 0),
                  self.constant(f"quant.bits{bits}", bits)]  # fmt: skip
        self.nodes.append(helper.make_node(
            "Quant", inputs, [output], name=name, domain=DOMAIN, signed=int(signed), narrow=int(narrow),
            rounding_mode="ROUND",
        ))  # fmt: skip
        return output


def emit(graph: FloatGraph, plan: Plan, scales: Scales) -> onnx.ModelProto:
    """The QONNX model. Graph inputs and outputs keep their names."""
    writer = _Writer(graph)
    renamed = {name: f"{name}.integers" for name in graph.inputs}
    for name, new in renamed.items():
        _point(writer, scales, name, name, new)
    for node in graph.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        layer = plan.layers.get(node.name)
        if layer is not None:
            _constants(writer, graph, plan, scales, layer, copy)
        for index, name in enumerate(copy.input):
            copy.input[index] = renamed.get(name, name)
        writer.nodes.append(copy)
        value = node.output[0]
        if value in plan.points:
            copy.output[0] = f"{value}.float"
            _point(writer, scales, value, copy.output[0], value)
    return _model(graph, writer)


def _point(writer: _Writer, scales: Scales, value: str, source: str, output: str) -> None:
    chosen = scales.points[value]
    writer.quant(f"{value}.quant", source, output, chosen.scale, chosen.bits, signed=chosen.signed, narrow=False)


def _constants(
    writer: _Writer, graph: FloatGraph, plan: Plan, scales: Scales, layer: Layer, node: onnx.NodeProto
) -> None:
    weights, chosen = graph.constants[layer.weights], scales.layers[layer.name]
    scale = along(chosen.scale, weights.ndim, layer.axis)
    name = f"{layer.name}.weights"
    node.input[1] = writer.quant(name, layer.weights, f"{name}.q", scale, chosen.bits, signed=True, narrow=True)
    if layer.bias is not None:
        step, name = bias_scale(plan, scales, layer), f"{layer.name}.bias"
        node.input[2] = writer.quant(name, layer.bias, f"{name}.q", step, BIAS_BITS, signed=True, narrow=False)


def _model(graph: FloatGraph, writer: _Writer) -> onnx.ModelProto:
    used = {name for node in writer.nodes for name in node.input}
    old = graph.model.graph
    model = helper.make_model(helper.make_graph(
        writer.nodes, old.name, list(old.input),
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, graph.shapes.get(name)) for name in graph.outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in writer.constants.items() if name in used],
    ), producer_name="nncosim", ir_version=graph.model.ir_version)  # fmt: skip
    del model.opset_import[:]
    for entry in graph.model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            model.opset_import.append(helper.make_opsetid("", entry.version))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model
