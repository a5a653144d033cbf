# SPDX-License-Identifier: Apache-2.0
"""Small QDQ and QOperator models for tests: by onnxruntime's static quantizer, and node by node."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from models import Graph
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

__all__ = ["LinearGraph", "float_model", "quantized"]


def float_model(seed: int = 0) -> onnx.ModelProto:
    """A float network of random weights: Conv, Relu, MaxPool, depthwise Conv, Clip 6, Add, Concat, pool, Gemm."""
    g = Graph((1, 3, 12, 10), seed=seed, opset=17)

    def conv(x: str, inputs: int, outputs: int, kernel: int, name: str, groups: int = 1) -> str:
        shape = (outputs, inputs // groups, kernel, kernel)
        weights = g.constant(g.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
        return g.conv(x, inputs, outputs, kernel, weights=weights, groups=groups, name=name)

    first = g.relu(conv("x", 3, 8, 3, "first"))
    pool = g.node("MaxPool", [first], kernel_shape=[2, 2], strides=[2, 2], name="pool")
    deep = g.node("Clip", [conv(pool, 8, 8, 3, "deep", 8), g.constant(0), g.constant(6)], name="six")
    add = g.node("Add", [conv(deep, 8, 8, 1, "point"), pool], name="add")
    last = g.relu(conv(g.node("Concat", [add, deep], axis=1, name="cat"), 16, 8, 3, "last"))
    flat = g.node("Flatten", [g.node("GlobalAveragePool", [last], name="mean")], name="flat")
    weights = g.constant(g.rng.standard_normal((5, 8)))
    return g.model(g.node("Gemm", [flat, weights, g.bias(5)], transB=1, name="head"), name="float")


class _Images(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.images = iter([{"x": rng.standard_normal((1, 3, 12, 10)).astype(np.float32)} for _ in range(6)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.images, None)


def quantized(
    folder: Path, form: str, activations: str, weights: str, *, per_channel: bool = False, symmetric: bool = False,
    contributed: bool = False,
) -> onnx.ModelProto:
    """`float_model` by onnxruntime's static quantizer.

    form: "QDQ" or "QOperator". activations, weights: "QInt8" and the like. contributed: nodes of onnxruntime's domain.
    """
    onnx.save(float_model(), folder / "float.onnx")
    logging.disable(logging.WARNING)  # "consider pre-processing"
    try:
        quantize_static(
            folder / "float.onnx", folder / "quantized.onnx", _Images(), quant_format=QuantFormat[form],
            activation_type=QuantType[activations], weight_type=QuantType[weights], per_channel=per_channel,
            extra_options={"ActivationSymmetric": symmetric, "UseQDQContribOps": contributed},
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(folder / "quantized.onnx")


class LinearGraph(Graph):
    """A graph of QuantizeLinear, DequantizeLinear and QLinear nodes."""

    def q(self, x: str, scale: object = 0.05, zero: object = 0, kind: str = "int8", name: str = "", **more) -> str:
        zeros = self.constant(zero, dtype=helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind.upper())))
        return self.node("QuantizeLinear", [x, self.constant(scale), zeros], name=name, **more)

    def dq(self, x: str, scale: object = 0.05, zero: object = 0, kind: str = "int8", name: str = "", **more) -> str:
        zeros = self.constant(zero, dtype=helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind.upper())))
        return self.node("DequantizeLinear", [x, self.constant(scale), zeros], name=name, **more)

    def qdq(self, x: str, scale: object = 0.05, zero: int = 0, kind: str = "int8", name: str = "", **more) -> str:
        """Both; the integers are called `name` + "_q"."""
        ints = self.q(x, scale, zero, kind, name and f"{name}_q", **more)
        return self.dq(ints, scale, zero, kind, name, **more)

    def integers(self, shape: Sequence[int], kind: str = "int8", low: int = -100, high: int = 100) -> str:
        dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind.upper()))
        return self.constant(self.rng.integers(low, high, shape), dtype=dtype)

    def linear(self, op: str, *parts: object, domain: str = "com.microsoft", name: str = "", **more) -> str:
        """A QLinear node. parts: (value, scale, zero point, type) for three inputs each, ("", ...) without a value for
        the output's two, or names."""
        inputs: list[str] = []
        for part in parts:
            if isinstance(part, str):
                inputs.append(part)
                continue
            value, scale, zero, kind = part  # type: ignore[misc]
            dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind.upper()))
            inputs += [*filter(None, [value]), self.constant(scale), self.constant(zero, dtype=dtype)]
        return self.node(op, inputs, domain=domain, name=name, **more)

    def model(self, *outputs: str, name: str = "linear", kinds: Sequence[int] = ()) -> onnx.ModelProto:
        """kinds: element types of the outputs, FLOAT by default."""
        infos = [helper.make_tensor_value_info(o, k, None) for o, k in
                 zip(outputs, kinds or [TensorProto.FLOAT] * len(outputs), strict=True)]
        graph = helper.make_graph(self.nodes, name, self.inputs, infos, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
