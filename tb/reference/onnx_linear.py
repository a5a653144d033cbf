# SPDX-License-Identifier: Apache-2.0
"""DequantizeLinear, and QLinear operators written out as the standard defines them: DequantizeLinear, an operator on
reals, QuantizeLinear.

onnxruntime's own ones (domain com.microsoft) are defined the same way, by its document of contributed operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from nncosim.tb.reference.onnx_values import ReferenceFailure, ReferenceNode, Value, whole
from onnx import TensorProto, helper

__all__ = ["along", "dequantize_linear", "integer_range", "integer_type", "narrowed", "written_out"]

_READS = {  # operator on reals; where each input of integers stands; where the output's scale does
    "QLinearConv": ("Conv", (0, 3), 6),
    "QLinearMatMul": ("MatMul", (0, 3), 6),
    "QGemm": ("Gemm", (0, 3), 7),
    "QLinearAdd": ("Add", (0, 3), 6),
    "QLinearMul": ("Mul", (0, 3), 6),
    "QLinearAveragePool": ("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 3),
    "QLinearSigmoid": ("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": ("LeakyRelu", (0,), 3),
}


def along(numbers: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Scales or zero points of a tensor of that rank: one for all, or one for each index of `axis`."""
    if numbers.size == 1:
        return numbers.reshape(())
    if numbers.ndim == rank:
        return numbers
    if numbers.ndim != 1:
        raise ValueError(f"scales of shape {numbers.shape}")
    return np.expand_dims(numbers, [i for i in range(rank) if i != axis % rank])


def integer_range(kind: int) -> tuple[int, int]:
    """Of an ONNX element type, by its name: INT8, UINT16, INT4."""
    name = TensorProto.DataType.Name(kind)
    bits = int(name.lstrip("UINT"))
    return (0, 2**bits - 1) if name[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def integer_type(attributes: Mapping[str, object], zero: str, types: Mapping[str, int]) -> int:
    """The ONNX element type that a QuantizeLinear makes: of its zero point, or as the attribute says, or UINT8."""
    named = int(attributes.get("output_dtype", 0))  # type: ignore[call-overload]
    return types[zero] if zero else named or int(TensorProto.UINT8)


def _scales_and_ends(proto: onnx.NodeProto) -> tuple[str, list[int], int]:
    if proto.op_type == "QLinearConcat":
        return "Concat", list(range(2, len(proto.input), 3)), 0
    op, reads, writes = _READS[proto.op_type]
    return op, list(reads), writes


def written_out(
    proto: onnx.NodeProto, constants: Mapping[str, np.ndarray]
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """The nodes that a QLinear node stands for, and constants that these need besides; any other node is itself.

    Args:
        constants: the graph's, by name.
    """
    if proto.op_type not in _READS and proto.op_type != "QLinearConcat":
        return [proto], {}
    op, reads, writes = _scales_and_ends(proto)
    name, ends = proto.output[0], [*proto.input, "", ""]
    attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    if attributes.pop("channels_last", 0):
        raise ValueError(f"{proto.name} ({proto.op_type}): channels_last")
    nodes, real, more = [], [], {}
    for at in reads:
        weights = at == 3 and op in ("Conv", "Gemm", "MatMul")
        axis = 0 if op == "Conv" or attributes.get("transB", 0) else 1
        real.append(f"{name}/real/{at}")
        nodes.append(helper.make_node("DequantizeLinear", ends[at:at + 3], [real[-1]], axis=axis if weights else 1))
    bias = {"Conv": 8, "Gemm": 6}.get(op)
    if bias is not None and ends[bias]:
        step = f"{name}/bias step"
        more[step] = constants[ends[1]].astype(np.float64) * constants[ends[4]].astype(np.float64).ravel()
        real.append(f"{name}/real/bias")
        nodes.append(helper.make_node("DequantizeLinear", [ends[bias], step], [real[-1]], axis=-1))
    if op == "Gemm":
        attributes["beta"] = attributes.get("alpha", 1.0)
    result = name if not ends[writes] else f"{name}/real"
    nodes.append(helper.make_node(op, real, [result], **attributes))
    if ends[writes]:
        nodes.append(helper.make_node("QuantizeLinear", [result, *filter(None, ends[writes:writes + 2])], [name]))
    for node in nodes:
        node.name = proto.name or name
    return nodes, more


def dequantize_linear(node: ReferenceNode, given: list[Value]) -> Value:
    """(q - zero) * scale, the integers of a constant without their zero point."""
    data, axis = given[0], int(node.attributes.get("axis", 1))
    scale = np.broadcast_to(along(given[1].real, axis, len(data.shape)), data.shape)
    zeros = given[2].real.astype(np.int64) if len(given) > 2 else np.zeros((), np.int64)
    if data.integer:
        return replace(data, scale=scale, zero=whole(Value(zeros)), integer=False)
    if not data.constant or data.floats is None:
        raise ReferenceFailure(f"{node.name} ({node.op}): of what is no integers")
    return Value(None, data.floats.astype(np.int64) - along(zeros, axis, len(data.shape)), scale, constant=True)


def narrowed(node: ReferenceNode, given: list[Value | None]) -> Value:
    """Clip or Relu of integers as they are."""
    data = given[0]
    assert data is not None and data.ints is not None
    if node.op == "Relu":
        low, high = 0.0, np.inf
    else:
        ends = [*given[1:], None, None]
        low, high = (bound if e is None else float(e.real) for e, bound in zip(ends, (-np.inf, np.inf), strict=False))
    ints = np.clip(data.ints, low, high).astype(np.int64)
    return replace(data, ints=ints, low=max(low, data.low), high=min(high, data.high))
