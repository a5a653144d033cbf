# SPDX-License-Identifier: Apache-2.0
"""A TensorFlow Lite file as plain data, by the schema's own package; nothing here interprets it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tflite
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.names import unique_name

__all__ = ["TfliteGraph", "TfliteOperator", "TfliteTensor", "read_tflite"]

_DTYPES: Mapping[int, str] = {
    tflite.TensorType.FLOAT32: "float32", tflite.TensorType.FLOAT16: "float16", tflite.TensorType.INT32: "int32",
    tflite.TensorType.UINT8: "uint8", tflite.TensorType.INT64: "int64", tflite.TensorType.BOOL: "bool",
    tflite.TensorType.INT16: "int16", tflite.TensorType.INT8: "int8", tflite.TensorType.FLOAT64: "float64",
}  # fmt: skip

_SPATIAL = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_SPATIAL, "FilterHeight", "FilterWidth")),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": ("Conv2DOptions", (*_SPATIAL, "DilationHFactor", "DilationWFactor")),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions", (*_SPATIAL, "DilationHFactor", "DilationWFactor", "DepthMultiplier"),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "MAX_POOL_2D": ("Pool2DOptions", (*_SPATIAL, "FilterHeight", "FilterWidth")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
}  # fmt: skip
"""By operator, the schema's table of its options, and those that are read."""


@dataclass(frozen=True, eq=False)
class TfliteTensor:
    """A tensor of a file.

    Attributes:
        index: in the subgraph. dtype: "" for a type that is not known here.
        values: of a constant. scales: float32, one, or one by index of `axis`; none where it is not quantised.
        zero_points: int64, of the scales' shape.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    values: np.ndarray | None
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int

    @property
    def scale(self) -> np.float32:
        return np.float32(self.scales[0])

    @property
    def zero_point(self) -> int:
        return int(self.zero_points[0])


@dataclass(frozen=True, eq=False)
class TfliteOperator:
    """An operator; `kind` as the schema names it ("CONV_2D"), `name` is its first output's, as viewers have it."""

    kind: str
    name: str
    inputs: tuple[TfliteTensor | None, ...]
    outputs: tuple[TfliteTensor, ...]
    options: Mapping[str, int | float]

    def input(self, index: int) -> TfliteTensor | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def option(self, name: str) -> int:
        return int(self.options[name])


@dataclass(frozen=True, eq=False)
class TfliteGraph:
    """The one subgraph of a file, operators in their order."""

    name: str
    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[TfliteTensor, ...]
    outputs: tuple[TfliteTensor, ...]


def read_tflite(path: Path) -> TfliteGraph:
    """Read a file.

    Raises:
        ModelError: it is damaged, or has several subgraphs.
    """
    try:
        model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        count = model.SubgraphsLength()
        if not count:
            raise ValueError("it has no graph")
        graph = _graph(model, path.stem) if count == 1 else None
    except (struct.error, ValueError, IndexError, TypeError, UnicodeDecodeError, AttributeError) as error:
        text = f"this TensorFlow Lite file is damaged ({type(error).__name__}: {error})"
        raise ModelError(str(path), [Problem("", "", text, "convert or download it again")]) from error
    if graph is None:
        text = f"expected one subgraph, found {count}: control flow is not supported"
        raise ModelError(str(path), [Problem("", "", text, "export the model without loops and conditions")])
    return graph


def _graph(model: tflite.Model, name: str) -> TfliteGraph:
    graph = model.Subgraphs(0)
    names: set[str] = set()
    tensors = tuple(_tensor(model, graph.Tensors(i), i, names) for i in range(graph.TensorsLength()))
    operators = []
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        inputs = tuple(None if k == _ABSENT else tensors[_index(k)] for k in _numbers(op.InputsAsNumpy()))
        outputs = tuple(tensors[_index(k)] for k in _numbers(op.OutputsAsNumpy()))
        kind = _kind(model.OperatorCodes(op.OpcodeIndex()))
        operators.append(TfliteOperator(kind, outputs[0].name, inputs, outputs, _options(op, kind)))
    both = (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
    ends = [tuple(tensors[_index(k)] for k in _numbers(each)) for each in both]
    return TfliteGraph(name, tensors, tuple(operators), *ends)


_ABSENT = -1
"""An optional input that is not there."""


def _index(number: int) -> int:
    if number < 0:
        raise ValueError(f"a tensor has the number {number}")
    return number


def _numbers(values: np.ndarray | int) -> list[int]:
    """A vector of the file; the package gives 0 for one that is not there."""
    return [int(v) for v in np.atleast_1d(values)] if isinstance(values, np.ndarray) else []


def _kind(code: tflite.OperatorCode) -> str:
    """Old files keep the operator in a byte of its own."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == tflite.BuiltinOperator.CUSTOM:
        custom = code.CustomCode()
        return custom.decode() if custom else "CUSTOM"
    return str(tflite.opcode2name(number))


def _tensor(model: tflite.Model, tensor: tflite.Tensor, index: int, names: set[str]) -> TfliteTensor:
    dtype = _DTYPES.get(tensor.Type(), "")
    shape = tuple(_numbers(tensor.ShapeAsNumpy()))
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    values = None
    if tensor.Sparsity() is not None:
        dtype = "sparse " + dtype
    elif dtype and isinstance(data, np.ndarray) and data.size:
        values = np.frombuffer(data.tobytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)
    name = unique_name((tensor.Name() or b"").decode() or f"tensor{index}", names)
    names.add(name)
    known = tensor.Quantization()
    scales = np.array(known.ScaleAsNumpy(), np.float32).ravel() if known and known.ScaleLength() else np.zeros(0)
    zeros = _numbers(known.ZeroPointAsNumpy()) if known and known.ZeroPointLength() else [0] * len(scales)
    if len(zeros) != len(scales) or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"{name!r} has {len(zeros)} zero points and the scales {scales[:4].tolist()}")
    if dtype == "int8" and any(not -128 <= z <= 127 for z in zeros):
        raise ValueError(f"{name!r} has a zero point that is no int8")
    axis = known.QuantizedDimension() if known else 0
    return TfliteTensor(index, name, shape, dtype, values, scales.astype(np.float32), np.array(zeros, np.int64), axis)


def _options(op: tflite.Operator, kind: str) -> dict[str, int | float]:
    if kind not in _OPTIONS:
        return {}
    table, wanted = _OPTIONS[kind]
    options, raw = getattr(tflite, table)(), op.BuiltinOptions()
    if raw is None:
        raise ValueError(f"a {kind} has no options")
    options.Init(raw.Bytes, raw.Pos)
    return {name: getattr(options, name)() for name in wanted}
