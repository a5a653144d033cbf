# SPDX-License-Identifier: Apache-2.0
"""A graph that Aidge has quantised (aidge_quantization 0.10, integers), as a QONNX model that means the same bits.

    graph = aidge_onnx.load_onnx("float.onnx"); ...; aidge_quantization.quantize_network(network=graph, ...)
    onnx.save(onnx_of(graph), "net.onnx")

Aidge's own ONNX of it is refused: it holds shifts as integer scales, which no reader of ONNX knows. In the graph, int8
data and weights and 32-bit biases make 32-bit sums, which a Quantizer multiplies, shifts right and rounds half up, and
clips; ReLU acts on its int8. All scales are 1 here: what an integer is worth in reals Aidge does not keep. The input's
Quantizer works in float32, and is left to the host. Nothing here imports Aidge: the graph brings its classes along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.forms import DOMAIN
from nncosim.compiler.frontend.meanings import FixedPoint, note
from nncosim.platforms.rounding import Rounding
from onnx import TensorProto, helper, numpy_helper

__all__ = ["onnx_of"]

AidgeNode: TypeAlias = Any
AidgeGraph: TypeAlias = Any
_OPSET = 17


class _Unfit(Exception):
    """What a node has that cannot be written."""


@dataclass
class _Writer:
    """The model under construction. `values`: ONNX value of each node's output, by its name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    meanings: dict[str, FixedPoint] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, array: object, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype=np.float32), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, [*inputs], [output], name=output, domain=domain, **attributes))
        return output

    def quant(self, value: str, output: str, bits: int = 8, rounding: str = "ROUND") -> str:
        """Integers of so many bits, of scale 1."""
        numbers = [self.constant(v, f"{output}.{k}") for k, v in (("scale", 1), ("zero", 0), ("bits", bits))]
        return self.node("Quant", [value, *numbers], output, DOMAIN, signed=1, narrow=0, rounding_mode=rounding)

    def source(self, node: AidgeNode, index: int = 0) -> str:
        """The value that input `index` of a node reads."""
        producer, _ = node.inputs()[index]
        if producer is None or producer.name() not in self.values:
            raise _Unfit(f"its input {index} is no activation that could be read")
        return self.values[producer.name()]


def onnx_of(graph: AidgeGraph) -> onnx.ModelProto:
    """The model of a quantised `aidge_core.GraphView`; graph inputs are floats, as its first Quantizer takes them.

    Raises:
        ModelError: with every node that is not supported, or a graph that is not quantised.
    """
    writer, problems, refused = _Writer(), [], set[str]()
    ordered = [node for node in graph.get_ordered_nodes() if node.type() != "Producer"]
    if not any(node.type() == "Quantizer" and node.inputs()[0][0] is None for node in ordered):
        text = "no Quantizer reads the graph's input: it is not quantised, or not with rescale_inputs=True"
        remedy = "aidge_quantization.quantize_network(..., single_shift=True, rescale_inputs=True)"
        raise ModelError("of Aidge", [Problem("graph", "", text, remedy)])
    for node in ordered:
        if any(producer is not None and producer.name() in refused for producer, _ in node.inputs()):
            refused.add(node.name())
            continue
        try:
            if node.type() not in _WRITERS:
                raise _Unfit(f"{node.type()} is not supported; supported are {', '.join(sorted(_WRITERS))}")
            writer.values[node.name()] = _WRITERS[node.type()](writer, node)
        except _Unfit as unfit:
            problems.append(Problem(node.name(), node.type(), str(unfit)))
            refused.add(node.name())
    if problems:
        raise ModelError("of Aidge", problems)
    outputs = [helper.make_tensor_value_info(writer.values[node.name()], TensorProto.FLOAT, None)
               for node in ordered if node in graph.get_output_nodes()]  # fmt: skip
    made = helper.make_graph(writer.nodes, "aidge", writer.inputs, outputs, writer.constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="nncosim, from Aidge")
    for name, meaning in writer.meanings.items():
        note(model, name, meaning)
    return model


def _array(node: AidgeNode, index: int) -> np.ndarray | None:
    """A parameter, as it lies in the graph."""
    producer, _ = node.inputs()[index] if index < len(node.inputs()) else (None, 0)
    if producer is None:
        return None
    if producer.type() != "Producer":
        raise _Unfit(f"its parameter {producer.name()!r} is computed: fold the parameters' quantisers")
    array = np.array(producer.get_operator().get_output(0))
    if array.dtype.kind not in "iu":
        raise _Unfit(f"its parameter {producer.name()!r} is {array.dtype}: the graph is not in integers")
    return array


def _parameters(writer: _Writer, node: AidgeNode) -> list[str]:
    """Weights as integers of 8 bits, and the bias."""
    weights, bias = _array(node, 1), _array(node, 2)
    if weights is None:
        raise _Unfit("it has no weights")
    if weights.min(initial=0) < -128 or weights.max(initial=0) > 127:
        raise _Unfit(f"its weights are {weights.min()}..{weights.max()}, expected int8")
    found = [writer.quant(writer.constant(weights, f"{node.name()}.weights"), f"{node.name()}.quantised")]
    if bias is not None:
        if np.abs(bias.astype(np.int64)).max(initial=0) >= 1 << 24:
            raise _Unfit("its bias has numbers of more than 24 bits")
        found.append(writer.constant(bias.ravel(), f"{node.name()}.bias"))
    return found


def _inner(node: AidgeNode) -> dict[str, AidgeNode]:
    """By operator type, the nodes of a meta-operator, the last of each type."""
    return {each.type(): each for each in node.get_operator().get_micro_graph().get_ordered_nodes()}


def _convolution(writer: _Writer, node: AidgeNode) -> str:
    parts = _inner(node) if node.type().startswith("Padded") else {node.type(): node}
    core = next(part for kind, part in parts.items() if kind.startswith("Conv"))
    attributes = core.get_operator().attr
    pads = [0, 0, 0, 0]
    if "Pad" in parts:
        pad = parts["Pad"].get_operator().attr
        if "CONSTANT" not in str(pad.mode) or float(np.array(pad.constant_value)):
            raise _Unfit("its padding is not with zeros")
        pads = [int(p) for p in pad.pads]
    inputs = [writer.source(node), *_parameters(writer, node)]
    depthwise = "DepthWise" in core.type()
    return writer.node(
        "Conv", inputs, node.name(), kernel_shape=[*map(int, attributes.kernel_dims)],
        strides=[*map(int, attributes.stride_dims)], dilations=[*map(int, attributes.dilation_dims)], pads=pads,
        group=int(node.get_operator().get_output(0).dims[1]) if depthwise else 1,
    )  # fmt: skip


def _dense(writer: _Writer, node: AidgeNode) -> str:
    flat = writer.node("Flatten", [writer.source(node)], f"{node.name()}.flat", axis=1)
    return writer.node("Gemm", [flat, *_parameters(writer, node)], node.name(), transB=1)


def _quantizer(writer: _Writer, node: AidgeNode) -> str:
    inner = _inner(node)
    if node.inputs()[0][0] is None:
        return _input(writer, node, inner)
    if "BitShift" not in inner:
        raise _Unfit("it multiplies by a float: only single shifts are integers (quantize_network(single_shift=True))")
    numbers = _numbers(node)
    shift, factor = int(numbers["bitShiftAmount"]), int(numbers.get("", numbers.get("ScalingFactor", 1)))
    attributes = inner["BitShift"].get_operator().attr
    if "RIGHT" not in str(attributes.direction) or not attributes.rounding or numbers.get("ZeroPoint", 0):
        raise _Unfit("expected a rounding shift to the right, without a zero point")
    value = writer.source(node)
    scaled = writer.constant(factor / (1 << shift), f"{node.name()}.factor")
    value = writer.node("Mul", [value, scaled], f"{node.name()}.scaled")
    if _only_relu(node):  # on what is rounded or before it, a ReLU is the same
        value = writer.node("Relu", [value], f"{node.name()}.relu")
    clip = inner["Clip"].get_operator().attr
    if (int(clip.min), int(clip.max)) != (-128, 127):
        raise _Unfit(f"it clips to {clip.min}..{clip.max}, expected -128..127")
    writer.meanings[node.name()] = FixedPoint(rounding=Rounding.HALF_UP, whole=True)
    return writer.quant(value, node.name())


def _numbers(node: AidgeNode) -> dict[str, float]:
    """The constants of a Quantizer, by their names."""
    producers = [n for n in node.get_operator().get_micro_graph().get_nodes() if n.type() == "Producer"]
    return {n.name(): float(np.array(n.get_operator().get_output(0)).ravel()[0]) for n in producers}


def _input(writer: _Writer, node: AidgeNode, inner: Mapping[str, AidgeNode]) -> str:
    """What Aidge computes of a graph input in float32: a product, rounded half away from zero, clipped."""
    if "Mul" not in inner or "Round" not in inner:
        raise _Unfit("expected a product and a rounding of the graph's input")
    name, shape = f"{node.name()}.input", [int(d) for d in node.get_operator().get_output(0).dims]
    writer.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    factor = writer.constant(_numbers(node)["ScalingFactor"], f"{node.name()}.factor")
    scaled = writer.node("Mul", [name, factor], f"{node.name()}.scaled")
    return writer.quant(scaled, node.name(), rounding="HALF_UP")


def _only_relu(node: AidgeNode) -> bool:
    readers = list(node.get_children())
    return bool(readers) and all(reader.type() == "ReLU" for reader in readers)


def _relu(writer: _Writer, node: AidgeNode) -> str:
    producer, _ = node.inputs()[0]
    value = writer.source(node)
    if producer.type() == "Quantizer" and producer.inputs()[0][0] is not None and _only_relu(producer):
        return value  # it is done there
    return writer.quant(writer.node("Relu", [value], f"{node.name()}.relu"), node.name())


def _add(writer: _Writer, node: AidgeNode) -> str:
    return writer.node("Add", [writer.source(node), writer.source(node, 1)], node.name())


def _max_pool(writer: _Writer, node: AidgeNode) -> str:
    attributes = node.get_operator().attr
    if any(int(d) != 1 for d in attributes.dilation_dims):
        raise _Unfit("its dilation is not 1")
    return writer.node("MaxPool", [writer.source(node)], node.name(), kernel_shape=[*map(int, attributes.kernel_dims)],
                       strides=[*map(int, attributes.stride_dims)], ceil_mode=int(attributes.ceil_mode))  # fmt: skip


def _mean(writer: _Writer, node: AidgeNode) -> str:
    """Of int8 values a whole number, rounded half away from zero."""
    mean = writer.node("GlobalAveragePool", [writer.source(node)], f"{node.name()}.mean")
    return writer.quant(mean, node.name(), rounding="HALF_UP")


def _same(writer: _Writer, node: AidgeNode) -> str:
    return writer.source(node)


_WRITERS: Mapping[str, Callable[[_Writer, AidgeNode], str]] = {
    "Add": _add,
    "Conv2D": _convolution,
    "ConvDepthWise2D": _convolution,
    "FC": _dense,
    "GlobalAveragePooling": _mean,
    "Identity": _same,
    "MaxPooling2D": _max_pool,
    "PaddedConv2D": _convolution,
    "PaddedConvDepthWise2D": _convolution,
    "Quantizer": _quantizer,
    "ReLU": _relu,
}
"""By Aidge's operator type; a new one is one more line here."""
