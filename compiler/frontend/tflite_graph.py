# SPDX-License-Identifier: Apache-2.0
"""An int8 TensorFlow Lite graph as an ONNX model of quantised operators, with the kernels' arithmetic noted beside it.

Tensors keep their names. Maps are (N, H, W, C) there and (N, C, H, W) here: the graph's ends keep their own order, by
Transposes that no machine carries out. What the runtime computes is in `meanings.FixedPoint`; sources are the kernels'
`Prepare` functions in `tensorflow/lite/kernels` and `internal/reference/integer_ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
import tflite
from nncosim.compiler.frontend.meanings import FixedPoint, note, remark
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.tflite_file import TfliteGraph, TfliteOperator, TfliteTensor
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Place", "Unfit", "Writer", "activation_bounds", "clip_bounds", "require_int8"]

OPSET = 17
"""The oldest with all that is written here."""
_CONTRIBUTED = "com.microsoft"
_ELEMENTS = {"int8": TensorProto.INT8, "float32": TensorProto.FLOAT}


Attributes = Mapping[str, int | Sequence[int]]


class Unfit(Exception):
    """An operator that cannot be written; `expected` and `remedy` as of a `Problem`."""

    def __init__(self, expected: str, remedy: str = ""):
        super().__init__(expected)
        self.expected, self.remedy = expected, remedy


@dataclass(frozen=True)
class Place:
    """Which tensor of the file an ONNX value has the integers of; `maps`: as (N, C, H, W); `flat`: as (N, all)."""

    tensor: int
    maps: bool = False
    flat: bool = False


@dataclass
class Writer:
    """The ONNX graph under construction.

    `maps`, `plain`: names of the ONNX values of each tensor, by its index, as (N, C, H, W) and in the file's order.
    `padding`: of a tensor that is another one with a border of its zero point: that one, and rows and columns
    (top, left, bottom, right). `refused`: tensors that are not there, because their operator was refused. `places`: of
    ONNX values.
    """

    graph: TfliteGraph
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    shapes: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    meanings: dict[str, FixedPoint] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    maps: dict[int, str] = field(default_factory=dict)
    plain: dict[int, str] = field(default_factory=dict)
    padding: dict[int, tuple[TfliteTensor, tuple[int, int, int, int]]] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    places: dict[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {tensor.name for tensor in self.graph.tensors}
        self._read_as: dict[int, bool] = {}  # graph inputs, whether as maps

    def fresh(self, name: str) -> str:
        """A name that no tensor of the file has, nor anything else."""
        name = unique_name(name, self._names)
        self._names.add(name)
        return name

    def constant(self, array: np.ndarray | np.generic, name: str) -> str:
        """An initializer that nothing else shares."""
        name = self.fresh(name)
        self.constants[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    def node(
        self, op: str, inputs: Sequence[str], output: str, shape: Sequence[int], dtype: str, name: str = "",
        attributes: Attributes | None = None,
    ) -> str:
        """A node with one output, of that ONNX shape and element type. `name`: of the node, where it is another one."""
        domain = _CONTRIBUTED if op == "QGemm" else ""
        made = helper.make_node(op, [*inputs], [output], name=name or output, domain=domain)
        made.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
        self.nodes.append(made)
        self.shapes[output] = helper.make_tensor_value_info(output, _ELEMENTS[dtype], [*shape])
        return output

    def value(self, tensor: TfliteTensor, maps: bool) -> str:
        """The ONNX value of an activation, as (N, C, H, W) or in the file's order."""
        require_int8(tensor)
        have, other = (self.maps, self.plain) if maps else (self.plain, self.maps)
        if tensor in self.graph.inputs and self._read_as.setdefault(tensor.index, maps) != maps:
            raise Unfit(f"the graph's input {tensor.name!r} is read as a map, and as a vector",
                        "put a layer between, or give the graph two inputs")  # fmt: skip
        if tensor.index not in have:
            if tensor.index not in other:
                raise Unfit(self._missing(tensor))
            shape, perm = self.shape(tensor, maps), (0, 3, 1, 2) if maps else (0, 2, 3, 1)
            keep = tensor in self.graph.outputs and not maps
            name = tensor.name if keep else self.fresh(f"{tensor.name}.{'nchw' if maps else 'nhwc'}")
            have[tensor.index] = self.node("Transpose", [other[tensor.index]], name, shape, tensor.dtype,
                                            attributes={"perm": perm})  # fmt: skip
            self.places[name] = Place(tensor.index, maps)
        return have[tensor.index]

    def _missing(self, tensor: TfliteTensor) -> str:
        if tensor.index in self.padding:
            return f"{tensor.name!r} is padded, and only convolutions take that"
        if tensor.values is not None:
            return f"{tensor.name!r} is a constant; expected an activation"
        return f"no operator before it makes {tensor.name!r}, and it is no input of the graph"

    def shape(self, tensor: TfliteTensor, maps: bool) -> tuple[int, ...]:
        """The ONNX shape. Refused where it is no map and has to be."""
        if not maps:
            return tensor.shape
        if len(tensor.shape) != 4:
            raise Unfit(f"expected {tensor.name!r} as a map (N, H, W, C), found shape {tensor.shape}")
        n, h, w, c = tensor.shape
        return n, c, h, w

    def quantisation(self, tensor: TfliteTensor) -> list[str]:
        """Scale and zero point of an activation, as constants."""
        require_int8(tensor)
        if len(tensor.scales) > 1:
            raise Unfit(f"expected one scale for {tensor.name!r}, found {len(tensor.scales)}")
        return [self.constant(np.float32(tensor.scale), f"{tensor.name}.scale"),
                self.constant(np.int8(tensor.zero_point), f"{tensor.name}.zero_point")]  # fmt: skip

    def real(self, tensor: TfliteTensor, maps: bool) -> str:
        """The reals that an activation's integers stand for."""
        source = self.value(tensor, maps)
        inputs = [source, *self.quantisation(tensor)]
        name = self.fresh(f"{source}.real")
        self.places[name] = Place(tensor.index, maps)
        return self.node("DequantizeLinear", inputs, name, self.shape(tensor, maps), "float32")

    def flat(self, tensor: TfliteTensor, output: TfliteTensor, length: int) -> str:
        """An activation as vectors of that length, for a layer that makes `output`."""
        source, batch = self.value(tensor, False), tensor.shape[0] if tensor.shape else 0
        if tensor.shape == (batch, length):
            return source
        if len(tensor.shape) < 2 or prod(tensor.shape[1:]) != length or len(output.shape) != 2:
            raise Unfit(f"expected vectors of {length}, found {tensor.name!r} of shape {tensor.shape}",
                        "reshape it to (N, all) before, without keep_num_dims")  # fmt: skip
        shape = self.constant(np.array([batch, length]), f"{output.name}.shape")
        name = self.fresh(f"{output.name}.flat")
        self.places[name] = Place(tensor.index, flat=True)
        return self.node("Reshape", [source, shape], name, (batch, length), "int8")

    def write(
        self, op: TfliteOperator, kind: str, inputs: Sequence[str], maps: bool, meaning: FixedPoint | None,
        attributes: Attributes | None = None, *, name: str = "", clip: tuple[int, int] | None = None,
    ) -> None:
        """The node that makes the operator's integers, with the clip that is fused into the operator behind it.

        Args:
            kind: the ONNX operator. name: of its node, else the tensor's. meaning: of the result. clip: what the
                operator itself is, beside a function that is fused into it.
        """
        out = op.outputs[0]
        require_int8(out)
        value = self.fresh(f"{out.name}.nchw") if maps and out in self.graph.outputs else out.name
        (self.maps if maps else self.plain)[out.index] = value
        self.places[value] = Place(out.index, maps)
        if meaning is not None:
            self.meanings[value] = meaning
        bounds = clip or activation_bounds(op, out)
        inner = value if bounds is None else self.fresh(f"{value}.unclipped")
        self.node(kind, inputs, inner, self.shape(out, maps), "int8", name or out.name, attributes)
        if bounds is not None:
            low, high = (self.constant(np.int8(bound), f"{value}.clip.{i}") for i, bound in enumerate(bounds))
            self.node("Clip", [inner, low, high], value, self.shape(out, maps), "int8", self.fresh(f"{out.name}.clip"))

    def quantise(self, op: TfliteOperator, real: str, maps: bool, meaning: FixedPoint | None) -> None:
        """The operator's integers from the reals that its node made."""
        inputs = [real, *self.quantisation(op.outputs[0])]
        self.write(op, "QuantizeLinear", inputs, maps, meaning, name=self.fresh(f"{op.name}.quantise"))

    def model(self) -> onnx.ModelProto:
        """The whole, once all operators are written."""
        made = [self.shapes[self.value(t, False)] for t in self.graph.outputs]
        given = [helper.make_tensor_value_info(t.name, _ELEMENTS[t.dtype], t.shape) for t in self.graph.inputs]
        ends = {value.name for value in (*given, *made)}
        inner = [value for name, value in self.shapes.items() if name not in ends]
        used = {name for node in self.nodes for name in node.input}
        constants = [tensor for name, tensor in self.constants.items() if name in used]
        graph = helper.make_graph(self.nodes, self.graph.name, given, made, constants, value_info=inner)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIBUTED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="nncosim, from TensorFlow Lite")
        for name, meaning in self.meanings.items():
            note(model, name, meaning)
        for text in self.remarks:
            remark(model, text)
        return model


def require_int8(tensor: TfliteTensor, what: str = "") -> None:
    """Refuse what is no quantised int8; `what` to call it before its name."""
    if tensor.dtype != "int8" or not len(tensor.scales):
        raise Unfit(f"expected {what}{tensor.name!r} as quantised int8, found {tensor.dtype or 'another type'}",
                    "convert with full-integer quantisation: TFLITE_BUILTINS_INT8 and a representative dataset")


def activation_bounds(op: TfliteOperator, out: TfliteTensor) -> tuple[int, int] | None:
    """The integers that the function fused into an operator clips to (CalculateActivationRangeQuantized); None: all.

    Raises:
        Unfit: it is no clip.
    """
    code = op.options.get("FusedActivationFunction", tflite.ActivationFunctionType.NONE)
    if code == tflite.ActivationFunctionType.NONE:
        return None
    if code not in _CLIPS:
        names = {v: k for k, v in vars(tflite.ActivationFunctionType).items() if isinstance(v, int)}
        raise Unfit(f"the function {names.get(int(code), code)} fused into it is not supported", "use RELU or RELU6")
    return clip_bounds(out, *_CLIPS[int(code)])


def clip_bounds(tensor: TfliteTensor, low: float, high: float | None) -> tuple[int, int] | None:
    """Real bounds as the runtime makes integers of them: divided in float32, half away from zero. None: all."""
    def integer(bound: float) -> int:
        quotient = float(np.float32(bound) / tensor.scale)
        return tensor.zero_point + int(np.copysign(np.floor(abs(quotient) + 0.5), quotient))

    bounds = max(-128, integer(low)), 127 if high is None else min(127, integer(high))
    return None if bounds == (-128, 127) else bounds


_CLIPS: Mapping[int, tuple[float, float | None]] = {
    tflite.ActivationFunctionType.RELU: (0, None), tflite.ActivationFunctionType.RELU6: (0, 6),
    tflite.ActivationFunctionType.RELU_N1_TO_1: (-1, 1),
}  # fmt: skip
