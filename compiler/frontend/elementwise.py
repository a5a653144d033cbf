# SPDX-License-Identifier: Apache-2.0
"""Nodes that act on each element, or only change shape: they fold, or become a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import isqrt, prod

import numpy as np
from nncosim.compiler.frontend import inputs
from nncosim.compiler.frontend.builder import Builder, Node, Refusal, channel_constant
from nncosim.compiler.frontend.curves import product, scaled
from nncosim.compiler.frontend.layers import add_tensors
from nncosim.compiler.frontend.moved import move
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.values import (
    Affine,
    Constant,
    Curve,
    FloatInput,
    Moved,
    Parts,
    QuantConstant,
    Quantised,
    Value,
    fractions,
)
from nncosim.compiler.ir.host import HostStep
from nncosim.compiler.ir.operators import Resize
from onnx import TensorProto

__all__ = [
    "add", "batch_normalization", "cast", "clip", "concat", "divide", "flatten", "identity", "multiply", "relu",
    "reshape", "resize", "subtract",
]

_ROOT_BITS = 160
"""Binary digits of a square root that is irrational; thresholds are decided far above this."""


def identity(builder: Builder, node: Node) -> Value:
    """Identity, and Dropout in inference."""
    value = node.input(0)
    if value is None:
        raise Refusal("expected an input")
    return value


def cast(builder: Builder, node: Node) -> Value:
    """Cast to float32 of what is float32 already."""
    if node.integer("to", 0) != TensorProto.FLOAT:
        raise Refusal("a Cast of an activation to another type than float32 is not supported", "leave it out")
    return identity(builder, node)


def _on_forms(builder: Builder, node: Node, change: Callable[[Affine, int], Affine]) -> Value:
    """Apply `change(form, first channel)` to a value, or to each part of a concatenation."""
    value = node.input(0)
    if isinstance(value, Parts):
        parts, first = [], 0
        for part in value.parts:
            form = builder.affine(part)
            parts.append(change(form, first).through(node.name))
            first += form.channels
        return replace(value, parts=tuple(parts))
    return change(builder.affine(value), 0).through(node.name)


def relu(builder: Builder, node: Node) -> Value:
    """Relu becomes a clip of the operator before it."""
    value = node.input(0)
    if isinstance(value, FloatInput):
        return inputs.clipped(value, node, 0, None)
    return _on_forms(builder, node, lambda form, first: form.clip(Fraction(0), None))


def clip(builder: Builder, node: Node) -> Value:
    """Clip (Relu6) with constant bounds."""
    bounds: list[Fraction | None] = []
    for index, name in ((1, "min"), (2, "max")):
        if name in node.attributes:
            bounds.append(Fraction(float(node.attributes[name])))  # type: ignore[arg-type]
        elif node.input(index) is None:
            bounds.append(None)
        else:
            bound = node.constant(index, f"the {name} of Clip")
            bounds.append(None if np.isinf(bound).all() else fractions(bound)[0])
    value = node.input(0)
    if isinstance(value, Constant):
        ends = (None if bound is None else value.array.dtype.type(bound) for bound in bounds)
        return Constant(np.clip(value.array, *ends))
    if isinstance(value, FloatInput):
        return inputs.clipped(value, node, bounds[0], bounds[1])
    return _on_forms(builder, node, lambda form, first: form.clip(bounds[0], bounds[1]))


def _per_channel(value: Value | None, builder: Builder, array: np.ndarray, what: str) -> np.ndarray:
    if not isinstance(value, Affine | Quantised | Parts):
        raise Refusal("expected a quantised activation as the first input")
    return channel_constant(array, value.shape, builder.extents(value), what)


def _scale_shift(builder: Builder, node: Node, factor: np.ndarray | None, shift: np.ndarray | None) -> Value:
    """factor * x + shift with per-channel Fractions (object arrays)."""
    def change(form: Affine, first: int) -> Affine:
        last = first + form.channels
        f = (Fraction(1),) * form.channels if factor is None else tuple(factor[first:last])
        s = (Fraction(0),) * form.channels if shift is None else tuple(shift[first:last])
        return form.scaled(f, s, tuple(abs(float(x)) for x in s))
    return _on_forms(builder, node, change)


def _is_constant(value: Value | None) -> bool:
    return isinstance(value, Constant | QuantConstant)


def _constant_array(value: Value | None) -> np.ndarray:
    """A constant as an object array of exact Fractions, in its shape."""
    if isinstance(value, QuantConstant):
        flat: tuple[Fraction, ...] = value.fractions
    elif isinstance(value, Constant):
        flat = fractions(value.array)
    else:
        raise Refusal("expected a constant operand, got two activations")
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(value.shape)


def _with_constant(
    builder: Builder, node: Node, what: str, use: Callable[[np.ndarray], tuple[np.ndarray | None, np.ndarray | None]]
) -> Value:
    """An operator on an activation and a constant, in either order."""
    if any(isinstance(node.input(i), FloatInput) for i in range(2)):
        return inputs.arithmetic(node)
    if _is_constant(node.input(0)) and not _is_constant(node.input(1)):
        node = replace(node, inputs=(node.inputs[1], node.inputs[0]))
    value = node.input(0)
    constant = _constant_array(node.input(1))
    if isinstance(value, Curve):
        return scaled(value, *use(channel_constant(constant, value.shape, value.extents, what)), node)
    factor, shift = use(_per_channel(value, builder, constant, what))
    return _scale_shift(builder, node, factor, shift)


def add(builder: Builder, node: Node) -> Value:
    """Add of two activations, or of a constant per channel (a bias)."""
    if _is_constant(node.input(0)) or _is_constant(node.input(1)):
        return _with_constant(builder, node, "the constant of Add", lambda c: (None, c))
    return add_tensors(builder, node)


def subtract(builder: Builder, node: Node) -> Value:
    """Sub of a constant per channel."""
    if _is_constant(node.input(0)) and not isinstance(node.input(1), FloatInput):
        return _with_constant(builder, node, "the constant of Sub", lambda c: (np.full_like(c, Fraction(-1)), c))
    return _with_constant(builder, node, "the constant of Sub", lambda c: (None, -c))


def multiply(builder: Builder, node: Node) -> Value:
    """Mul by a constant per channel, or of two functions of the same tensor."""
    if not _is_constant(node.input(0)) and not _is_constant(node.input(1)):
        return product(builder, node)
    return _with_constant(builder, node, "the constant of Mul", lambda c: (c, None))


def divide(builder: Builder, node: Node) -> Value:
    """Div by a constant per channel."""
    if _is_constant(node.input(0)):
        raise Refusal("a constant divided by an activation is not supported")
    if any(c == 0 for c in _constant_array(node.input(1)).ravel()):
        raise Refusal("division by zero")
    return _with_constant(builder, node, "the constant of Div", lambda c: (1 / c, None))


def _square_root(value: Fraction) -> Fraction:
    """The square root: exact if it is rational, otherwise to `_ROOT_BITS` binary digits."""
    p, q = isqrt(value.numerator), isqrt(value.denominator)
    if p * p == value.numerator and q * q == value.denominator:
        return Fraction(p, q)
    shift = max(_ROOT_BITS - (value.numerator.bit_length() - value.denominator.bit_length()) // 2, 0)
    return Fraction(isqrt((value.numerator << 2 * shift) // value.denominator), 1 << shift)


def batch_normalization(builder: Builder, node: Node) -> Value:
    """BatchNormalization in inference: (x - mean) / sqrt(var + epsilon) * gamma + beta."""
    if node.integer("training_mode", 0):
        raise Refusal("training_mode=1 is not supported", "export the model in evaluation mode")
    if not node.integer("spatial", 1):
        raise Refusal("spatial=0 gives each pixel numbers of its own", "export the model with ONNX opset 9 or later")
    value = node.input(0)
    names = ("the scale", "the bias", "the mean", "the variance")
    gamma, beta, mean, var = (
        fractions(node.constant(i, f"{name} of BatchNormalization")) for i, name in enumerate(names, 1)
    )
    if not isinstance(value, Affine | Parts):
        value = builder.quantised(value)
    if builder.chw(value)[0] != len(gamma):
        raise Refusal(f"{len(gamma)} parameters do not fit {builder.chw(value)[0]} channels")
    epsilon = Fraction(float(np.float32(node.attributes.get("epsilon", 1e-5))))  # type: ignore[arg-type]
    if any(v + epsilon <= 0 for v in var):
        raise Refusal("the variance plus epsilon must be positive")
    factor = tuple(g / _square_root(v + epsilon) for g, v in zip(gamma, var, strict=True))
    shift = tuple(b - m * f for b, m, f in zip(beta, mean, factor, strict=True))
    size = tuple(abs(float(b)) + abs(float(m * f)) for b, m, f in zip(beta, mean, factor, strict=True))

    def change(form: Affine, first: int) -> Affine:
        part = slice(first, first + form.channels)
        return form.scaled(factor[part], shift[part], size[part])
    return _on_forms(builder, node, change)


def _reshaped(builder: Builder, node: Node, value: Value | None, shape: tuple[int, ...]) -> Value:
    if isinstance(value, Constant):
        return Constant(value.array.reshape(shape))
    if isinstance(value, QuantConstant):
        return QuantConstant(value.ints.reshape(shape), value.scale.reshape(shape), value.bits)
    if isinstance(value, FloatInput):
        return inputs.moved(value, node, "Reshape", shape)
    if isinstance(value, Moved) or (isinstance(value, Affine | Quantised) and len(shape) > 4):
        return move(builder, node, value, HostStep("Reshape", shape))
    if not isinstance(value, Affine):
        value = builder.quantised(value)
    old, batch = builder.extents(value), value.shape[0]
    length = prod(value.shape) // batch
    flat = shape == (batch, length) and "T" not in old
    if not flat and shape not in (value.shape, (batch, *(size for axis, size in old.items() if axis != "N"))):
        raise Refusal(
            f"expected a flattening to ({batch}, {length}), not {value.shape} to {shape}" if "T" not in old else
            f"tokens {value.shape} cannot be reshaped to {shape}",
            "reshapes that move data between channels are not supported",
        )
    if isinstance(value, Affine) and flat and length != value.channels:
        raise Refusal("Flatten of a map must follow its Quant", "put a Quant before this node")
    return replace(value, shape=shape)


def _value_shape(value: Value | None) -> tuple[int, ...]:
    if value is None or not hasattr(value, "shape"):
        raise Refusal("expected an activation")
    return tuple(value.shape)


def flatten(builder: Builder, node: Node) -> Value:
    """Flatten: the same integers; the next Gemm takes its kernel from the map."""
    shape = _value_shape(node.input(0))
    axis = node.integer("axis", 1) % max(len(shape), 1)
    return _reshaped(builder, node, node.input(0), (prod(shape[:axis]), prod(shape[axis:])))


def reshape(builder: Builder, node: Node) -> Value:
    """Reshape, Squeeze and Unsqueeze to a flat vector, or back to the map."""
    shape = _value_shape(node.input(0))
    if node.op == "Reshape":
        wanted = [int(n) for n in node.constant(1, "the new shape")]
        if not node.integer("allowzero", 0):
            wanted = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted)]
    else:
        given = node.integers("axes", ())
        if not given and node.input(1) is not None:
            given = tuple(int(a) for a in node.constant(1, "axes"))
        wanted = _squeezed(shape, given) if node.op == "Squeeze" else _unsqueezed(shape, given)
    if wanted.count(-1) == 1:
        rest = -prod(wanted)
        wanted[wanted.index(-1)] = prod(shape) // rest if rest else -1
    if prod(wanted) != prod(shape) or min(wanted, default=1) < 0:
        raise Refusal(f"cannot reshape {shape} to {wanted}")
    return _reshaped(builder, node, node.input(0), tuple(wanted))


def _squeezed(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[int]:
    drop = {a % len(shape) for a in axes} if axes else {i for i, n in enumerate(shape) if n == 1}
    return [n for i, n in enumerate(shape) if i not in drop]


def _unsqueezed(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[int]:
    rank = len(shape) + len(axes)
    new = {a % rank for a in axes}
    rest = iter(shape)
    return [1 if i in new else next(rest) for i in range(rank)]


def concat(builder: Builder, node: Node) -> Value:
    """Concat on channels; written once it is known whether a Quant follows."""
    parts: list[Quantised | Affine] = []
    for value in node.inputs:
        if isinstance(value, Parts):
            parts += value.parts
        elif isinstance(value, Affine):
            parts.append(value)
        else:
            parts.append(builder.quantised(value, "an input of Concat"))
    shapes = [p.shape for p in parts]
    axis = node.integer("axis", 1) % len(shapes[0])
    channels = 2 if len(shapes[0]) == 3 else 1
    if axis != channels or len({(*s[:axis], *s[axis + 1:]) for s in shapes}) > 1:
        raise Refusal(f"Concat works on channels of equal maps, not on {shapes} along axis {axis}",
                      f"concatenate on axis {channels}")
    if any(p.shape[axis] != builder.extents(p)["C"] for p in parts):
        raise Refusal("Concat of flattened maps is not supported", "pool or concatenate before Flatten")
    shape = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1:])
    return Parts(tuple(parts), shape, node.name, node.outputs[0])


def _source_rows(node: Node, size: int, new: int) -> np.ndarray:
    """Which input row each output row takes in nearest mode, by ONNX's formulas."""
    old_style = node.op == "Upsample"
    how = "asymmetric" if old_style else node.text("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if old_style else node.text("nearest_mode", "round_prefer_floor")
    x, scale = np.arange(new, dtype=np.float64), new / size
    if how == "align_corners":
        at = x * (size - 1) / max(new - 1, 1)
    elif how in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        at = (x + 0.5) / scale - 0.5 if new > 1 or how != "pytorch_half_pixel" else x * 0
    elif how == "tf_half_pixel_for_nn":
        at = (x + 0.5) / scale
    elif how == "asymmetric":
        at = x / scale
    else:
        raise Refusal(f"coordinate_transformation_mode {how!r} is not supported", "use asymmetric")
    rows = {"floor": np.floor(at), "ceil": np.ceil(at), "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5)}[nearest]
    return np.clip(rows, 0, size - 1).astype(np.int64)


def resize(builder: Builder, node: Node) -> Value:
    """Resize or Upsample: nearest neighbour, enlarging by whole factors."""
    mode = node.text("mode", "nearest")
    if mode != "nearest":
        name = "bilinear" if mode in ("linear", "bilinear") else mode
        raise Refusal(f"{name} is not supported", "use nearest")
    value = builder.quantised(node.input(0))
    chw = builder.chw(value)
    sizes = _new_sizes(node, value.shape)
    factors = []
    for old, new in zip(chw[1:], sizes[2:], strict=True):
        if new % old or (_source_rows(node, old, new) != np.arange(new) // (new // old)).any():
            raise Refusal(
                f"nearest resizing from {chw[1:]} to {sizes[2:]} must repeat each pixel a whole number of times",
                "use a whole factor, asymmetric coordinates and nearest_mode floor",
            )
        factors.append(new // old)
    output = unique_name(node.outputs[0], builder.tensors)
    extents = {**builder.extents(value), "H": sizes[2], "W": sizes[3]}
    builder.add_tensor(output, extents, builder.tensors[value.tensor].type, node.outputs[0])
    builder.ops.append(Resize(
        builder.op_name(node.name), (value.tensor,), output, onnx_nodes=(node.name,),
        factors=(factors[0], factors[1]),
    ))
    return Quantised(output, sizes, value.kind)


def _new_sizes(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    def given(index: int, what: str) -> np.ndarray | None:
        value = node.input(index)
        empty = value is None or (isinstance(value, Constant) and value.array.size == 0)
        return None if empty else node.constant(index, what)
    modern = node.op == "Resize" and len(node.inputs) > 2
    scales = given(2 if modern else 1, "the scales of Resize")
    sizes = given(3, "the sizes of Resize") if modern else None
    if "scales" in node.attributes:
        scales = np.array(node.attributes["scales"])
    if len(shape) != 4 or (scales is None) == (sizes is None):
        raise Refusal("Resize needs a map (1, C, H, W) and either scales or sizes")
    if scales is not None:
        sizes = np.floor(np.array(shape) * np.asarray(scales, dtype=np.float64))
    new = tuple(int(n) for n in np.asarray(sizes))
    if len(new) != 4 or new[:2] != shape[:2]:
        raise Refusal(f"Resize must keep batch and channels, not turn {shape} into {new}")
    return new
