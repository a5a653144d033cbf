# SPDX-License-Identifier: Apache-2.0
"""Dense networks of random weights as ONNX with QuantizeLinear and DequantizeLinear, scales being powers of two.

The forms are those of tools that take or give such graphs: int8 weights and int32 bias behind a DequantizeLinear and
Gemm (AIE4ML's reader), or MatMul and Add; Clip between QuantizeLinear and DequantizeLinear where a range is narrow,
uint8 behind a ReLU (Brevitas). Scales are fitted layer by layer on random inputs, so that few values saturate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from nncosim.regress.dense_models import fitted_scale
from onnx import TensorProto, helper, numpy_helper

__all__ = ["QdqForm", "QdqNetwork", "qdq_network"]

_SAMPLES = 64
_SHARE = 0.999
_IR = 10


@dataclass(frozen=True)
class QdqForm:
    """How a graph is written.

    opset: of the default domain. product: "Gemm"; "MatMul" and an Add; or "Transpose", that with weights stored as
    (outputs, inputs) and transposed in the graph. transposed: Gemm's transB. bias: "int32" behind a DequantizeLinear;
    "float", no whole number of steps; or "none". per_channel: there is a scale for each channel's weights; they are
    equal, or down to 2**-finer of the greatest. relu: behind all layers but the last. unsigned: what it gives is uint8.
    narrow: what has a sign is clipped to -127..127, "behind" QuantizeLinear (weights, too) or as floats "before" it.
    stored: weights as integers, else as floats with a QuantizeLinear. zeros: zero points are written where they may be
    left out. integers: the graph's input and output are integers. tokens: rows are tokens of one sample, not samples;
    of MatMul only. bits: of activations.
    """

    opset: int = 21
    product: str = "Gemm"
    transposed: bool = True
    bias: str = "int32"
    per_channel: bool = False
    finer: int = 0
    relu: bool = True
    unsigned: bool = False
    narrow: str = ""
    stored: bool = True
    zeros: bool = True
    integers: bool = False
    tokens: bool = False
    bits: int = 8


@dataclass(frozen=True, eq=False)
class QdqNetwork:
    """A model with input `x` (batch, sizes[0]) and output `y` (batch, sizes[-1]), or (1, batch, ...) of tokens.

    scales: of the input and of each layer's results. results: names of the integers that layers give. bits: of
    activations.
    """

    model: onnx.ModelProto
    scales: tuple[float, ...]
    results: tuple[str, ...]
    bits: int

    def inputs(self, seed: int) -> np.ndarray:
        """Random integers of `x`."""
        shape = [each.dim_value for each in self.model.graph.input[0].type.tensor_type.shape.dim]
        return _random(np.random.default_rng([seed, 7]), shape, self.bits)


def _random(rng: np.random.Generator, shape: Sequence[int], bits: int) -> np.ndarray:
    """Integers over most of the range; none is at its ends."""
    most = (1 << bits - 1) - 1
    return np.clip(np.rint(rng.normal(0, most / 3, shape)), 1 - most, most - 1).astype(np.int64)


class _Writer:
    def __init__(self, form: QdqForm) -> None:
        self.form = form
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: object, kind: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values).astype(kind), name))
        return name

    def node(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Its output is called as it is."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, op: str, name: str, source: str, scale: object, kind: str, **attributes: Any) -> str:
        inputs = [source, self.constant(f"{name}.scale", scale, "float32")]
        if self.form.zeros or (op == "QuantizeLinear" and kind != "uint8"):
            inputs.append(self.constant(f"{name}.zero", np.zeros_like(np.asarray(scale)), kind))
        return self.node(op, name, inputs, **attributes)

    def activation(self, name: str, source: str, scale: float, kind: str) -> str:
        """QuantizeLinear and DequantizeLinear, with a Clip where that is narrow."""
        most = (1 << self.form.bits - 1) - 1
        if self.form.narrow == "before" and not kind.startswith("u"):
            source = self.between(source, -most * scale, most * scale, "float32")
        at = self.linear("QuantizeLinear", f"{name}.q", source, scale, kind)
        return self.linear("DequantizeLinear", name, self.clipped(at, kind, most), scale, kind)

    def clipped(self, ints: str, kind: str, most: int) -> str:
        if self.form.narrow != "behind" or kind.startswith("u"):
            return ints
        return self.between(ints, -most, most, kind)

    def between(self, source: str, low: float, high: float, kind: str) -> str:
        ends = [self.constant(f"{source}.{end}", value, kind) for end, value in (("low", low), ("high", high))]
        return self.node("Clip", f"{source}.clip", [source, *ends])

    def weights(self, name: str, ints: np.ndarray, unit: np.ndarray) -> str:
        """ints: (outputs, inputs); unit: of each output. The operand as the product takes it."""
        form, scale = self.form, unit if self.form.per_channel else unit[0]
        rows = form.product == "Transpose" or (form.product == "Gemm" and form.transposed)
        stored, more = ints if rows else ints.T, {"axis": 0 if rows else 1} if form.per_channel else {}
        if form.stored:
            at = self.constant(f"{name}.ints", stored, "int8")
        else:
            spread = unit[:, None] if rows else unit
            at = self.linear("QuantizeLinear", f"{name}.q", self.constant(f"{name}.float", stored * spread, "float32"),
                             scale, "int8", **more)  # fmt: skip
        at = self.linear("DequantizeLinear", name, self.clipped(at, "int8", 127), scale, "int8", **more)
        return self.node("Transpose", f"{name}.turned", [at], perm=[1, 0]) if form.product == "Transpose" else at

    def bias(self, name: str, ints: np.ndarray, unit: np.ndarray) -> list[str]:
        if self.form.bias == "none":
            return []
        if self.form.bias == "float":
            return [self.constant(name, ints * unit, "float32")]
        more, scale = ({"axis": 0}, unit) if self.form.per_channel else ({}, unit[0])
        return [self.linear("DequantizeLinear", name, self.constant(f"{name}.ints", ints, "int32"), scale, "int32",
                            **more)]  # fmt: skip

    def product(self, name: str, source: str, weights: str, bias: list[str]) -> str:
        if self.form.product == "Gemm":
            return self.node("Gemm", name, [source, weights, *bias], transB=int(self.form.transposed))
        at = self.node("MatMul", name, [source, weights])
        return self.node("Add", f"{name}.add", [*bias, at]) if bias else at


def qdq_network(sizes: Sequence[int], form: QdqForm | None = None, *, batch: int = 8, seed: int = 0) -> QdqNetwork:
    """A chain of dense layers; `sizes`: of the input and of each layer's results."""
    form = form or QdqForm()
    rng, w, signed = np.random.default_rng([seed, 5]), _Writer(form), f"int{form.bits}"
    values, scales = _random(rng, (_SAMPLES, sizes[0]), form.bits).astype(np.float64), [2.0 ** (1 - form.bits)]
    results = []
    at = w.linear("DequantizeLinear", "x.real", "x", scales[0], signed) if form.integers else \
        w.activation("x.real", "x", scales[0], signed)
    for k, (inputs, outputs) in enumerate(pairwise(sizes)):
        name, relu = f"dense{k}", form.relu and k < len(sizes) - 2
        ints = np.clip(np.rint(rng.normal(0, 42, (outputs, inputs))), -127, 127)
        unit = 2.0 ** -(9 + rng.integers(0, form.finer + 1, outputs))
        sums = values @ ints.T
        bias = np.rint(rng.normal(0, sums.std() / 2, outputs)) + 0.25 * (form.bias == "float")
        bias *= form.bias != "none"
        at = w.product(name, at, w.weights(f"{name}.w", ints, unit), w.bias(f"{name}.b", bias, unit * scales[-1]))
        real = (sums + bias) * unit * scales[-1]
        if relu:
            at, real = w.node("Relu", f"{name}.relu", [at]), np.maximum(real, 0)
        kind = f"uint{form.bits}" if relu and form.unsigned else signed
        results.append("y" if form.integers and k == len(sizes) - 2 else f"{name}.y.q")
        top = (1 << form.bits - (kind == signed)) - 1
        scales.append(fitted_scale(real, top, _SHARE))
        values = np.clip(np.rint(real / scales[-1]), 0 if kind != signed else -top - 1, top)
        at = w.activation(f"{name}.y", at, scales[-1], kind)
    shape = (1, batch) if form.tokens else (batch,)
    return QdqNetwork(_model(w, (*shape, sizes[0]), (*shape, sizes[-1])), tuple(scales), tuple(results), form.bits)


def _model(w: _Writer, given: Sequence[int], made: Sequence[int]) -> onnx.ModelProto:
    """given, made: shapes of the input and of the output."""
    kind = TensorProto.FLOAT
    if w.form.integers:
        kind = TensorProto.DataType.Value(f"INT{w.form.bits}")
        w.nodes.pop()  # the last DequantizeLinear
    w.nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(n, kind, shape) for n, shape in (("x", given), ("y", made))]
    used = {each for node in w.nodes for each in node.input}
    graph = helper.make_graph(w.nodes, "dense", ends[:1], ends[1:], [each for each in w.constants if each.name in used])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", w.form.opset)], ir_version=_IR)
