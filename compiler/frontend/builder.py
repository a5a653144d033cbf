# SPDX-License-Identifier: Apache-2.0
"""The network under construction, and how an affine form becomes an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import onnx
from nncosim.compiler.errors import Problem
from nncosim.compiler.frontend.examine import excess
from nncosim.compiler.frontend.meanings import FixedPoint
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.values import (
    Affine,
    Constant,
    Curve,
    FloatInput,
    Moved,
    Parts,
    Quantised,
    Value,
)
from nncosim.compiler.ir.arithmetic import Chain, MultiplyShift, Requant
from nncosim.compiler.ir.host import HostStep
from nncosim.compiler.ir.network import MAP, Op, QuantFunction, Tensor, TensorType
from nncosim.compiler.ir.operators import Concat, Requantize
from nncosim.compiler.ir.thresholds import round_fraction
from nncosim.platforms.rounding import Rounding

__all__ = ["Builder", "Handler", "Node", "Refusal", "axes_of", "channel_constant"]


T = TypeVar("T")


class Refusal(Exception):
    """Raised inside a node's handler; the importer turns it into a `Problem` and goes on.

    `where`: (name, operator type) of the node at fault where it is not the one being handled.
    """

    def __init__(self, expected: str, remedy: str = "", where: tuple[str, str] | None = None):
        super().__init__(expected)
        self.expected, self.remedy, self.where = expected, remedy, where

    def problem(self, node: Node) -> Problem:
        name, op = self.where or (node.name, node.op)
        return Problem(name, op, self.expected, self.remedy)


@dataclass(frozen=True)
class Node:
    """An ONNX node with its attributes as Python values and its inputs as `Value`s, which are called `names`."""

    name: str
    op: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object]
    names: tuple[str, ...] = ()

    @classmethod
    def read(cls, proto: onnx.NodeProto, values: Mapping[str, Value]) -> Node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        inputs = tuple(values.get(name) if name else None for name in proto.input)
        return cls(proto.name, proto.op_type, inputs, tuple(proto.output), attributes, tuple(proto.input))

    def input(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def integer(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))  # type: ignore[call-overload]

    def integers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(v) for v in self.attributes.get(name, default))  # type: ignore[attr-defined]

    def text(self, name: str, default: str) -> str:
        return str(self.attributes.get(name, default))

    def constant(self, index: int, what: str) -> np.ndarray:
        """Input `index` as an array; refused when it is not known at compile time."""
        value = self.input(index)
        if isinstance(value, Constant):
            return value.array
        raise Refusal(f"{what} must be a constant", "export the model with constant parameters")


def axes_of(shape: Sequence[int]) -> dict[str, int]:
    """Names and sizes of the axes of an ONNX shape, batch first: (N, C, H, W), tokens (N, T, C) or vectors (N, C)."""
    names = {2: ("N", "C"), 3: ("N", "T", "C"), 4: ("N", *MAP)}.get(len(shape))
    if names is None or min(shape) < 1:
        raise Refusal(
            f"activations must have shape (1, C, H, W), (1, T, C) or (1, N), not {tuple(shape)}",
            "reshape them to one of these",
        )
    sizes = dict(zip(names, map(int, shape), strict=True))
    return sizes if len(shape) > 2 else {**sizes, "H": 1, "W": 1}


def channel_constant(array: np.ndarray, shape: Sequence[int], extents: Mapping[str, int], what: str) -> np.ndarray:
    """One number per channel of a constant that broadcasts against an activation.

    Args:
        array: the constant. `shape`: the activation's ONNX shape. `extents`: its axes, see `Affine`.
        what: how to call the constant in a refusal.

    Returns:
        Array (C,). Refused when the constant varies within a channel.
    """
    try:
        full = np.broadcast_to(array, tuple(shape))
    except ValueError:
        raise Refusal(f"{what} of shape {array.shape} does not broadcast to {tuple(shape)}") from None
    whole = full.reshape(tuple(extents.values()))
    flat = np.moveaxis(whole, list(extents).index("C"), 0).reshape(extents["C"], -1)
    if not (flat == flat[:, :1]).all():
        raise Refusal(
            f"{what} must be one number, or one per channel", "use a per-tensor or per-channel value"
        )
    return flat[:, 0]


@dataclass
class Builder:
    """Collects tensors and operators; handlers ask it for operands and give it results.

    `batch`: of the graph, where tensors keep it as an axis "N"; None where they hold one of its inferences. `written`:
    tensors of ONNX values that are written when they are read first (`Integers`), by these.
    `onnx_names`: the ONNX value, its first channel, and the steps of layout (if any) that bring it into the tensor's.
    `meanings`: by ONNX value of integers, how these are computed where it is not by exact arithmetic, rounded once.
    `relabelled`: by graph input, a tensor for what steps of layout make of it, and these; one of the two has readers.
    `exchanged`: by tensor of tokens, the one with tokens and channels in each other's place.
    """

    batch: int | None = None

    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    input_rounding: dict[str, Rounding] = field(default_factory=dict)
    input_steps: dict[str, tuple[HostStep, ...]] = field(default_factory=dict)
    linear_inputs: list[str] = field(default_factory=list)
    written: dict[str, Quantised] = field(default_factory=dict)
    onnx_names: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    magnitudes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    relabelled: dict[str, tuple[str, tuple[HostStep, ...]]] = field(default_factory=dict)
    exchanged: dict[str, str] = field(default_factory=dict)
    meanings: Mapping[str, FixedPoint] = field(default_factory=dict)

    def type_of(self, value: Quantised) -> TensorType:
        return value.kind or self.tensors[value.tensor].type

    def axes(self, shape: Sequence[int]) -> dict[str, int]:
        """The axes of a tensor for an ONNX value of that shape."""
        sizes = axes_of(shape)
        if sizes["N"] != (self.batch or 1):
            raise Refusal(f"expected a batch of {self.batch or 1} as the first size, not {tuple(shape)}",
                          "keep what belongs to one inference apart from the batch")
        return sizes if self.batch else {axis: size for axis, size in sizes.items() if axis != "N"}

    def extents(self, value: Quantised | Affine | Curve | Parts) -> Mapping[str, int]:
        if isinstance(value, Affine | Curve):
            return value.extents
        return self.tensors[value.tensor].extents if isinstance(value, Quantised) else self.axes(value.shape)

    def chw(self, value: Quantised | Affine | Parts) -> tuple[int, int, int]:
        """(C, H, W) of a map."""
        sizes = self.extents(value)
        if not {*MAP} <= {*sizes}:
            raise Refusal(f"expected a map (1, C, H, W), not {value.shape}", "reshape it to a map before this node")
        return sizes["C"], sizes["H"], sizes["W"]

    def add_tensor(
        self, name: str, extents: Mapping[str, int], kind: TensorType, onnx_name: str, first: int = 0
    ) -> None:
        """Add a tensor with the channels from `first` on of ONNX value `onnx_name`; refused if it is too large."""
        shape = tuple(extents.values())
        text, remedy = excess(shape, extents["C"])
        if text:
            raise Refusal(text, remedy)
        self.tensors[name] = Tensor(name, shape, kind, tuple(extents))
        self.onnx_names[name] = (onnx_name, first)

    def in_layout(self, back: Sequence[HostStep], outputs: Sequence[str], made: Callable[[], T]) -> T:
        """`made()`; tensors that it adds for ONNX values `outputs` stand for them in another layout, which the steps
        `back` bring into the tensors'."""
        before = set(self.tensors)
        result = made()
        for name in set(self.tensors) - before if back else ():
            place = self.onnx_names[name]
            if place[0] in outputs:  # else a relabelled input
                self.onnx_names[name] = (*place[:2], (*back, *(place[2] if len(place) > 2 else ())))
        return result

    def copy(self, node: Node, tensor: str, kind: TensorType, onnx_nodes: Sequence[str]) -> str:
        """A second tensor with the same integers, of type `kind`, as the output of `node`."""
        old = self.tensors[tensor]
        name = unique_name(node.outputs[0], self.tensors)
        self.add_tensor(name, old.extents, kind, node.outputs[0])
        one, zero = ((Fraction(1),) * old.channels,), (Fraction(0),) * old.channels
        function = QuantFunction(one, zero, Rounding.HALF_EVEN, kind.lo, kind.hi)
        op = Requantize(self.op_name(node.name), (tensor,), name, onnx_nodes=tuple(onnx_nodes), function=function)
        self.ops.append(op)
        self.magnitudes[op.name] = (0.0,) * old.channels
        return name

    def op_name(self, wanted: str) -> str:
        return unique_name(wanted, {op.name: None for op in self.ops})

    def channel_scales(self, value: Quantised) -> tuple[Fraction, ...]:
        """The scale of each channel of a quantised value."""
        scale = self.type_of(value).scale
        return scale if len(scale) > 1 else scale * self.tensors[value.tensor].channels

    def quantised(self, value: Value | None, what: str = "the input") -> Quantised:
        """The value as integers in a tensor; refused while it is still a real number."""
        if isinstance(value, Parts):
            return self.concatenate(value)
        if isinstance(value, Quantised):
            return value
        if isinstance(value, Moved):
            raise Refusal("it makes another order of stored values, and nothing here moves these",
                          "transpose back behind it: maps are (1, C, H, W), tokens (1, T, C)", value.by)
        if isinstance(value, FloatInput):
            raise _float_input(value)
        found = self.as_integers(value) if isinstance(value, Affine) else None
        if found is not None:
            return found
        if isinstance(value, Affine | Curve):
            raise Refusal(
                f"{what} is not quantised (a float lies between quantised operators)",
                "add a Quant (Brevitas: QuantIdentity or QuantReLU) or a QuantizeLinear before this node",
            )
        raise Refusal(f"{what} must be a quantised activation, not a constant")

    def as_integers(self, form: Affine) -> Quantised | None:
        """An affine form as the integers that it is made of, with another scale and zero point; None if it is not that:
        a sum, a clip, or a zero point or sign of each channel's own."""
        if not form.rescales:
            return None
        zeros = {-o / r for r, o in zip(form.ratios[0], form.offset, strict=True)}
        if len(zeros) > 1:
            return None
        source, zero, ratios = self.tensors[form.op.inputs[0]].type, zeros.pop(), form.ratios[0]
        scale = ratios[:1] if len(set(ratios)) == 1 else ratios
        whole = int(zero) if zero.denominator == 1 else zero
        kind = replace(source, scale=scale, zero_point=whole, offset=())  # type: ignore[arg-type]
        return Quantised(form.op.inputs[0], form.shape, kind)

    def affine(self, value: Value | None) -> Affine:
        """The value as an affine form; of integers: the form that a Requantize computes."""
        if isinstance(value, Affine):
            return value
        source = self.quantised(value)
        kind, extents = self.type_of(source), self.extents(source)
        scales = self.channel_scales(source)
        offset = tuple(-kind.zero_point * s for s in scales)
        none = (None,) * extents["C"]
        op = Requantize("", (source.tensor,), "")
        return Affine(op, extents, source.shape, (scales,), offset, none, none,
                      tuple(abs(float(o)) for o in offset))

    def emit(
        self, form: Affine, kind: TensorType, rounding: Rounding, node: Node,
        unit: Sequence[Fraction] | None = None, part: tuple[int, int] | None = None, integers: Requant | None = None,
    ) -> Quantised:
        """Write `form` as integers of type `kind`: q = clip(round(form / unit + zero point), lo, hi).

        `unit`: the divisor per channel where it is not the type's scale. `part`: (index, first channel)
        where this is one part of a concatenation. `integers`: what is computed of the accumulators where the form is
        only near to it; it is clipped like the form.
        """
        if unit is None:
            unit = kind.scale if len(kind.scale) > 1 else kind.scale * form.channels
        zp = kind.zero_point
        inverse = tuple(1 / s for s in unit)
        scaled = form.scaled(inverse, (Fraction(zp),) * form.channels, (abs(float(zp)),) * form.channels)
        meaning = self.meanings.get(node.outputs[0])
        if meaning and meaning.whole and meaning.rounding is not None:
            rounding, meaning = meaning.rounding, None
        lo, hi = _integer_clip(scaled, rounding, kind.lo, kind.hi)
        if meaning:
            ends = form.op.bounds([self.tensors[name] for name in form.op.inputs])
            steps = form.scaled(inverse, (Fraction(0),) * form.channels, (0.0,) * form.channels)
            try:
                integers = meaning.integers(steps, np.maximum(*map(np.abs, ends)), int(zp), lo, hi)
            except ValueError as error:
                raise Refusal(str(error), "convert the model again", (node.name, node.op)) from None
        elif integers is not None and (lo, hi) != (kind.lo, kind.hi):
            integers = Chain((integers, MultiplyShift.uniform(form.channels, lo=lo, hi=hi)))
        function = QuantFunction(scaled.ratios, scaled.offset, rounding, lo, hi, integers)
        suffix, first = ("", 0) if part is None else (f".{part[0]}", part[1])
        output = unique_name(node.outputs[0] + suffix, self.tensors)
        nodes = (*form.nodes, node.name)
        name = self.op_name(form.nodes[0] if form.nodes else node.name + suffix)
        self.add_tensor(output, form.extents, replace(kind, lo=lo, hi=hi), node.outputs[0], first)
        self.ops.append(replace(form.op, name=name, output=output, onnx_nodes=nodes, function=function))
        self.magnitudes[name] = scaled.magnitude
        return Quantised(output, form.shape)

    def concatenate(self, value: Parts) -> Quantised:
        """Write a concatenation whose parts have one scale, zero point and sign."""
        parts = []
        for part in value.parts:
            parts.append(self.quantised(part, "an input of Concat"))
        kinds = [self.type_of(p) for p in parts]
        if len({(k.zero_point, k.signed) for k in kinds}) > 1 or len({k.scale for k in kinds}) > 1:
            raise Refusal(
                "expected inputs of one scale, zero point and sign, because no Quant follows",
                "share one activation quantiser between the inputs, or add a Quant after the Concat",
                (value.node, "Concat"),
            )
        if any(Fraction(k.zero_point).denominator > 1 for k in kinds):
            raise Refusal("the arithmetic on an input gave it a zero point that is no integer", "put a Quant after it",
                          (value.node, "Concat"))
        if len(kinds[0].scale) > 1:
            raise Refusal("per-channel scales are not supported here", "use per-tensor scales", (value.node, "Concat"))
        made = self.write_concat(value, parts, value.output)
        if value.back:
            self.onnx_names[made.tensor] = (value.output, 0, value.back)
        return made

    def write_concat(self, value: Parts, parts: Sequence[Quantised], onnx_name: str) -> Quantised:
        """Write a Concat of parts that agree in zero point and sign, as ONNX value `onnx_name`."""
        kinds = [self.type_of(p) for p in parts]
        scales = {k.scale for k in kinds}
        scale = kinds[0].scale if len(scales) == 1 and len(kinds[0].scale) == 1 else tuple(
            s for p in parts for s in self.channel_scales(p)
        )
        kind = TensorType(
            max(k.bits for k in kinds), kinds[0].signed, scale, kinds[0].zero_point,
            min(k.lo for k in kinds), max(k.hi for k in kinds),
        )
        output = unique_name(onnx_name, self.tensors)
        extents = self.extents(value)
        self.add_tensor(output, extents, kind, onnx_name)
        self.ops.append(Concat(
            self.op_name(value.node), tuple(p.tensor for p in parts), output, onnx_nodes=(value.node,),
            axis=list(extents).index("C") - len(extents),
        ))
        return Quantised(output, value.shape)


def _float_input(value: FloatInput) -> Refusal:
    """No Quant, annotation or option says what integers the graph input is."""
    after = value.at if value.at not in ("", value.name) else ""
    more = f" (or --input-quant {after}=..., for what the host makes of it up to {after!r})" if after else ""
    return Refusal(
        f"the graph input {value.name!r} is a float, and nothing says which integers stand for it",
        f"give --input-quant {value.name}=BITS,signed|unsigned,SCALE, such as {value.name}=8,unsigned,1 for bytes{more}"
        ", or --calibrate X.npz with images, or put a Quant (Brevitas: QuantIdentity) on it",
    )


def _integer_clip(form: Affine, rounding: Rounding, lo: int, hi: int) -> tuple[int, int]:
    """The real bounds of `form` as integer bounds: rounding is monotone, so clipping commutes with it."""
    lows = {lo if b is None else min(max(round_fraction(b, rounding), lo), hi) for b in form.low}
    highs = {hi if b is None else min(max(round_fraction(b, rounding), lo), hi) for b in form.high}
    if len(lows) > 1 or len(highs) > 1:
        raise Refusal(
            "the clip (Relu) before this Quant differs from channel to channel after a scaling",
            "quantise between the Relu and the BatchNormalization or Mul",
        )
    return lows.pop(), highs.pop()


Handler = Callable[[Builder, Node], Value]
