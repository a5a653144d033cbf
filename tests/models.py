# SPDX-License-Identifier: Apache-2.0
"""Small QONNX models for tests, written with onnx.helper in the way Brevitas and the qonnx tools write them.

A `Graph` collects nodes; each method adds one and returns its output's name. All numbers come from a seed.
Weights are scaled so that outputs use their range with few saturated values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"


class Graph:
    """A QONNX model under construction.

    Args:
        shape: ONNX shape of graph input "x". seed: of all weights. domain: of the Quant nodes.
        opset: of the default domain. trunc: version of Trunc.
    """

    def __init__(
        self, shape: Sequence[int | str] = (1, 3, 8, 8), *, seed: int = 0, domain: str = DOMAIN, opset: int = 13,
        trunc: int = 2,
    ):
        self.rng = np.random.default_rng(seed)
        self.domain, self.opset, self.trunc_version = domain, opset, trunc
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
        self.count = 0

    def input(self, name: str, shape: Sequence[int]) -> str:
        """One more graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return name

    def constant(self, array: object, name: str = "", dtype: type = np.float32) -> str:
        """An initializer; its name."""
        self.count += 1
        name = name or f"c{self.count}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def node(
        self, op: str, inputs: Sequence[str], *, name: str = "", domain: str = "", outputs: int = 1, **attributes
    ) -> str:
        """Any node; its first output is called like the node."""
        self.count += 1
        name = name or f"{op}_{self.count}"
        made = [name if i == 0 else f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, domain=domain, **attributes))
        return name

    def quant(
        self, x: str, scale: object = 0.05, *, bits: float = 8, zero: float = 0, signed: int = 1, narrow: int = 0,
        rounding: str = "ROUND", name: str = "", op: str = "Quant",
    ) -> str:
        """A Quant node; `scale` a number or an array that broadcasts against x."""
        inputs = [x, self.constant(scale), self.constant(zero), self.constant(bits)]
        return self.node(
            op, inputs, name=name, domain=self.domain, signed=signed, narrow=narrow, rounding_mode=rounding
        )

    def weights(
        self, shape: Sequence[int], *, bits: int = 8, scale: object = None, axis: int | None = 0, zero: int = 0,
        signed: int = 1, narrow: int = 1,
    ) -> str:
        """Quantised random weights; scale per `axis` (None: per tensor), spread over most of the range."""
        values = self.rng.standard_normal(shape).astype(np.float32)
        if scale is None:
            other = tuple(i for i in range(len(shape)) if i != axis)
            scale = np.abs(values).max(axis=other if axis is not None else None, keepdims=axis is not None)
            scale = np.float32(scale) / np.float32(2 ** (bits - 1) - 1)
        return self.quant(self.constant(values), scale, bits=bits, zero=zero, signed=signed, narrow=narrow)

    def bias(self, channels: int, size: float = 1.0, *, scale: float | None = None, bits: int = 32) -> str:
        """Random bias: float, or quantised where a scale is given."""
        values = self.constant(self.rng.standard_normal(channels) * size)
        return values if scale is None else self.quant(values, scale, bits=bits)

    def conv(
        self, x: str, channels_in: int, channels_out: int, kernel: int | Sequence[int] = 3, *,
        bias: str | None = "float", groups: int = 1, name: str = "", weights: str | None = None,
        bits: int = 8, pads: Sequence[int] | None = None,
        **attributes,
    ) -> str:
        """Conv; `pads` default to "same"; `bias`: "float", a tensor, or None."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        weights = weights or self.weights((channels_out, channels_in // groups, kh, kw), bits=bits)
        inputs = [x, weights]
        if bias is not None:
            inputs.append(self.bias(channels_out) if bias == "float" else bias)
        if pads is None:
            pads = [kh // 2, kw // 2, kh // 2, kw // 2]
        if "auto_pad" not in attributes:
            attributes["pads"] = list(pads)
        return self.node("Conv", inputs, name=name, kernel_shape=[kh, kw], group=groups, **attributes)

    def gemm(self, x: str, inputs: int, outputs: int, *, name: str = "", transposed: int = 1, **attributes) -> str:
        shape = (outputs, inputs) if transposed else (inputs, outputs)
        weights = self.weights(shape, axis=0 if transposed else 1)
        return self.node("Gemm", [x, weights, self.bias(outputs)], name=name, transB=transposed, **attributes)

    def batch_norm(self, x: str, channels: int, *, name: str = "", negative: bool = True) -> str:
        """BatchNormalization with random parameters, some gammas negative."""
        gamma = self.rng.uniform(0.5, 1.5, channels)
        if negative:
            gamma[::3] *= -1
        parameters = (gamma, self.rng.standard_normal(channels), self.rng.standard_normal(channels),
                      self.rng.uniform(0.5, 2, channels))
        return self.node("BatchNormalization", [x, *(self.constant(p) for p in parameters)], name=name, epsilon=1e-5)

    def relu(self, x: str, name: str = "") -> str:
        return self.node("Relu", [x], name=name)

    def trunc(
        self, x: str, scale: float, *, bits_in: int, bits: int = 8, out_scale: float = 0.0, rounding: str = "FLOOR",
        signed: int = 1, zero: float = 0, name: str = "",
    ) -> str:
        """Trunc in the graph's version: 1 has no output scale, sign or narrow."""
        inputs = [x, self.constant(scale), self.constant(zero), self.constant(bits_in)]
        if self.trunc_version == 1:
            inputs.append(self.constant(bits))
            return self.node("Trunc", inputs, name=name, domain=self.domain, rounding_mode=rounding)
        inputs += [self.constant(out_scale), self.constant(bits)]
        more = {"rounding_mode": rounding, "signed": signed, "narrow": 0}
        return self.node("Trunc", inputs, name=name, domain=self.domain, **more)

    def model(self, *outputs: str, name: str = "test") -> onnx.ModelProto:
        """The finished model; output shapes are left to inference."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, name, self.inputs, infos, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(self.domain, self.trunc_version)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def scale_for(channels_in: int, kernel: int = 3, groups: int = 1, *, scale_in: float = 0.05) -> float:
    """A scale of 8-bit outputs of `Graph.conv` that saturates under 1 % for inputs of about 50 steps."""
    terms = channels_in // groups * kernel * kernel
    return float(np.float32(np.sqrt(terms) * 50 * scale_in / 70))


def conv_model(
    channels_in: int = 3, channels_out: int = 8, kernel: int = 3, size: int = 8, *, groups: int = 1, seed: int = 0,
    rounding: str = "ROUND", bits: int = 8, weight_bits: int = 8, relu: bool = False, batch_norm: bool = False,
    **attributes,
) -> onnx.ModelProto:
    """Quant, Conv with a float bias (BatchNormalization) (Relu), Quant: one layer with random weights."""
    g = Graph((1, channels_in, size, size), seed=seed)
    x = g.quant("x", 0.05, bits=bits, name="x_q")
    y = g.conv(x, channels_in, channels_out, kernel, groups=groups, name="conv", bits=weight_bits, **attributes)
    if batch_norm:
        y = g.batch_norm(y, channels_out)
    if relu:
        y = g.relu(y)
    scale = scale_for(channels_in, kernel, groups)
    return g.model(g.quant(y, scale, signed=int(not relu), bits=bits, rounding=rounding, name="y"))


def residual_model(seed: int = 0, size: int = 8) -> onnx.ModelProto:
    """A small residual network with depthwise and pointwise layers, pooling and a classifier."""
    g = Graph((1, 3, size, size), seed=seed)
    x = g.quant("x", 0.05, name="x_q")
    a = g.conv(x, 3, 8, 3, name="stem")
    a = g.quant(g.relu(g.batch_norm(a, 8)), 0.08, signed=0, name="stem_q")
    b = g.conv(a, 8, 8, 3, groups=8, name="depthwise")
    b = g.quant(g.relu(b), 0.25, signed=0, name="depthwise_q")
    b = g.quant(g.conv(b, 8, 8, 1, name="pointwise"), 1.1, name="pointwise_q")
    y = g.quant(g.relu(g.node("Add", [a, b], name="add")), 0.8, signed=0, name="add_q")
    y = g.node("MaxPool", [y], name="max", kernel_shape=[2, 2], strides=[2, 2])
    y = g.node("GlobalAveragePool", [y], name="average")
    y = g.quant(y, 0.41, signed=0, name="average_q")
    y = g.gemm(g.node("Flatten", [y], name="flatten"), 8, 10, name="classifier")
    return g.model(g.quant(y, 2.0, name="y"))


def random_model(seed: int) -> onnx.ModelProto:
    """A chain of one to five random operators, each followed by a Quant with random parameters."""
    g = Graph((1, int(np.random.default_rng(seed).integers(1, 9)), 7, 6), seed=seed, trunc=1 + seed % 2)
    pick, chance = g.rng.integers, g.rng.random
    channels = g.inputs[0].type.tensor_type.shape.dim[1].dim_value

    def quant(x: str, low: float, high: float) -> str:
        signed = int(pick(2))
        zero = int([0, 0, 3, -5 if signed else 7][pick(4)])
        modes = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
        return g.quant(x, g.rng.uniform(low, high), bits=int([4, 6, 8, 8][pick(4)]), zero=zero, signed=signed,
                       narrow=int(pick(2)), rounding=modes[pick(len(modes))])

    x = quant("x", 0.04, 0.06)
    for _ in range(int(pick(1, 6))):
        step = ("conv", "depthwise", "max", "average", "add", "concat", "resize", "norm", "requantise", "mul")[pick(10)]
        if step == "conv":
            new = int(pick(1, 7))
            y = g.conv(x, channels, new, ((1, 1), (3, 3), (1, 3), (2, 2))[pick(4)], strides=[int(pick(1, 3)), 1])
            channels = new
            y = g.batch_norm(y, channels) if chance() < 0.4 else y
            x = quant(g.relu(y) if chance() < 0.4 else y, 0.05, 1)
        elif step == "depthwise":
            factor = int(pick(1, 3))
            x = quant(g.conv(x, channels, channels * factor, 3, groups=channels), 0.05, 0.5)
            channels *= factor
        elif step == "max":
            x = g.node("MaxPool", [x], kernel_shape=[2, 2], strides=[int(pick(1, 3))] * 2, pads=[1, 1, 0, int(pick(2))])
        elif step == "average":
            y = g.node("AveragePool", [x], kernel_shape=[2, 1], pads=[1, 0, 0, 0], count_include_pad=1)
            x = quant(y, 0.03, 0.2)
        elif step == "add":
            y = g.node("Add", [x, quant(x, 0.03, 0.2)])
            x = quant(g.relu(y) if chance() < 0.4 else y, 0.05, 0.3)
        elif step == "concat":
            extra = g.conv(x, channels, 3, 1) if chance() < 0.5 else ""
            y = g.node("Concat", [x, extra or quant(x, 0.1, 0.2)], axis=1)
            channels += 3 if extra else channels
            x = quant(y, 0.05, 0.2)
        elif step == "resize":
            x = g.node("Resize", [x, "", g.constant([1, 1, 2, 1])], mode="nearest", nearest_mode="floor",
                       coordinate_transformation_mode="asymmetric")
        else:
            y = g.batch_norm(x, channels) if step == "norm" else x
            x = quant(g.node("Mul", [y, g.constant(g.rng.uniform(-2, 2))]) if step == "mul" else y, 0.03, 0.2)
    return g.model(x)
