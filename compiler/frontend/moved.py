# SPDX-License-Identifier: Apache-2.0
"""Layouts: transpositions and the like of activations, which a machine rarely has to carry out.

A `Moved` value is a stored (or coming) one in another order of its elements. Nodes on each element work on what is
stored, and the order stays; a transposition back drops it; a Gemm's weights are put in order instead; graph inputs and
outputs have it carried out by the host. Where values have to be moved in between, an operator does it if tokens and
channels change places; else it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend import inputs
from nncosim.compiler.frontend.builder import Builder, Handler, Node, Refusal
from nncosim.compiler.frontend.curves import FUNCTIONS
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.prepare import FIRST, LINEAR_OPS
from nncosim.compiler.frontend.values import (
    Affine,
    Constant,
    Curve,
    FloatInput,
    Integers,
    Moved,
    Parts,
    QuantConstant,
    Quantised,
    Value,
)
from nncosim.compiler.ir.host import HostStep, arrange, inverse, rearrange, shapes_of
from nncosim.compiler.ir.network import Op, Tensor
from nncosim.compiler.ir.operators import Transpose as TransposeOp

__all__ = ["LAYOUT_OPS", "depth_to_space", "handled", "move", "relabelled", "space_to_depth", "transpose"]

_EACH = ("Add", "BipolarQuant", "Clip", "DequantizeLinear", "Div", "IntQuant", "MultiThreshold", "Mul", "Quant",
         "QuantizeLinear", "Relu", "Sub", "Trunc", *FUNCTIONS)  # fmt: skip
"""Operators on each element by itself."""
LAYOUT_OPS = (
    "DepthToSpace", "Dropout", "Flatten", "Identity", "Reshape", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators that move values and change none; their handlers take a moved value as it is."""


@dataclass(frozen=True)
class _Where:
    """A node's moved inputs agree: `steps` from the stored layout to the graph's."""

    steps: tuple[HostStep, ...]
    shape: tuple[int, ...]
    stored: tuple[int, ...]


def order(value: Moved) -> np.ndarray:
    """For each element of the moved value its place in the stored one, row-major."""
    return arrange(np.arange(prod(value.inner.shape)).reshape(value.inner.shape), value.steps)


def move(builder: Builder, node: Node, value: Value | None, *steps: HostStep) -> Value:
    """The value after steps of layout; the stored one where they end in its own order."""
    if isinstance(value, FloatInput):
        for step in steps:
            value = inputs.moved(value, node, step.op, step.numbers)
        return value
    if isinstance(value, Moved):
        inner, done = value.inner, (*value.steps, *steps)
    elif isinstance(value, Affine | Curve | Parts | Quantised):
        inner, done = value, steps
    else:
        raise Refusal("expected an activation")
    if isinstance(inner, Quantised) and builder.relabelled.get(inner.tensor, ("", ()))[1] == done:
        return replace(inner, tensor=builder.relabelled[inner.tensor][0], shape=shapes_of(inner.shape, done)[-1])
    found = Moved(inner, done, shapes_of(inner.shape, done)[-1], (node.name, node.op))
    same = np.array_equal(order(found).ravel(), np.arange(prod(inner.shape)))
    if same and found.shape in (inner.shape, (inner.shape[0], prod(inner.shape) // inner.shape[0])):
        flat = isinstance(inner, Quantised) or found.shape == inner.shape or prod(inner.shape[2:]) == 1
        if flat and not isinstance(inner, Parts | Curve | Integers):
            return replace(inner, shape=found.shape)
        if found.shape == inner.shape:
            return inner
    return found


def transpose(builder: Builder, node: Node) -> Value:
    """Transpose of a constant, or of an activation."""
    value = node.input(0)
    if isinstance(value, Constant):
        return Constant(value.array.transpose(node.integers("perm", range(value.array.ndim)[::-1])))
    if isinstance(value, QuantConstant):
        perm = node.integers("perm", range(value.ints.ndim)[::-1])
        return QuantConstant(value.ints.transpose(perm), value.scale.transpose(perm), value.bits)
    if value is None:
        raise Refusal("expected an input")
    perm = node.integers("perm", range(len(value.shape))[::-1])  # type: ignore[union-attr]
    if perm[0] != 0:
        raise Refusal(f"Transpose by {perm} moves the batch", "keep the batch first")
    made = move(builder, node, value, HostStep("Transpose", perm))
    spelled = f"{node.outputs[0]}{FIRST}"
    if isinstance(made, Moved) and isinstance(made.inner, Quantised):
        place = builder.onnx_names[made.inner.tensor]
        if place[0] == spelled:  # a pool that `prepare` spelled out: the graph as it was written knows its result alone
            builder.onnx_names[made.inner.tensor] = (node.outputs[0], 0, inverse(made.steps, made.inner.shape))
    return made


def _map_shape(value: Value | None) -> tuple[int, int, int, int]:
    shape = tuple(getattr(value, "shape", ()))
    if len(shape) != 4:
        raise Refusal(f"expected a map (1, C, H, W), not {shape}")
    return shape[0], shape[1], shape[2], shape[3]


def depth_to_space(builder: Builder, node: Node) -> Value:
    """DepthToSpace: channels become pixels."""
    n, c, h, w = _map_shape(node.input(0))
    b = node.integer("blocksize", 0)
    if b < 1 or c % (b * b):
        raise Refusal(f"a block of {b} x {b} does not divide {c} channels")
    first = node.text("mode", "DCR") == "DCR"
    split = (n, b, b, c // b**2, h, w) if first else (n, c // b**2, b, b, h, w)
    turned = (0, 3, 4, 1, 5, 2) if first else (0, 1, 4, 2, 5, 3)
    return move(builder, node, node.input(0), HostStep("Reshape", split), HostStep("Transpose", turned),
                HostStep("Reshape", (n, c // b**2, h * b, w * b)))  # fmt: skip


def space_to_depth(builder: Builder, node: Node) -> Value:
    """SpaceToDepth: pixels become channels."""
    n, c, h, w = _map_shape(node.input(0))
    b = node.integer("blocksize", 0)
    if b < 1 or h % b or w % b:
        raise Refusal(f"a block of {b} x {b} does not divide a map of {h} x {w}")
    split, turned = (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4)
    return move(builder, node, node.input(0), HostStep("Reshape", split), HostStep("Transpose", turned),
                HostStep("Reshape", (n, c * b * b, h // b, w // b)))  # fmt: skip


def handled(builder: Builder, node: Node, handler: Handler) -> Value:
    """What the handler makes of a node, some of whose inputs may be moved."""
    moved = [value for value in node.inputs if isinstance(value, Moved)]
    if not moved or node.op in (*LAYOUT_OPS, "Cast"):
        return handler(builder, node)
    if node.op in ("Gemm", "MatMul") and isinstance(node.input(0), Moved) and len(moved[0].shape) == 2:
        return handler(builder, _ordered_weights(builder, node, moved[0]))
    if any(isinstance(v, Affine | Quantised) for v in node.inputs) and all(map(_exchanges, moved)):
        return handler(builder, _carried_out(builder, node))
    where = _Where(moved[0].steps, moved[0].shape, moved[0].inner.shape)
    if any((m.steps, m.inner.shape) != (where.steps, where.stored) for m in moved):
        raise Refusal("its inputs lie in different layouts", "transpose both in the same way")
    if node.op in _EACH or node.op in ("Concat", "ReduceMean"):
        inner = _stored(node, where)
        back = inverse(where.steps, where.stored)
        made = builder.in_layout(back, node.outputs, lambda: handler(builder, inner))
        if isinstance(made, Parts | Integers):
            made = replace(made, back=back)
        if node.op == "ReduceMean" and not node.integer("keepdims", 1):
            return made
        shape = shapes_of(made.shape, where.steps)[-1]  # type: ignore[union-attr]
        return Moved(made, where.steps, shape, moved[0].by)  # type: ignore[arg-type]
    settled = tuple(_settled(builder, node, v) if isinstance(v, Moved) else v for v in node.inputs)
    return handler(builder, replace(node, inputs=settled))


def _exchanges(value: Moved) -> bool:
    """Whether tokens (1, T, C) become (1, C, T)."""
    shape = value.inner.shape
    if len(shape) != 3 or value.shape != (shape[0], shape[2], shape[1]):
        return False
    return np.array_equal(order(value), np.arange(prod(shape)).reshape(shape).transpose(0, 2, 1))


def _exchanges_tokens(tensor: Tensor, steps: Sequence[HostStep]) -> bool:
    shape = (1, *tensor.shape) if "N" not in tensor.axes else tensor.shape
    return _exchanges(Moved(Quantised(tensor.name, shape), tuple(steps), shapes_of(shape, steps)[-1], ("", "")))


def _carried_out(builder: Builder, node: Node) -> Node:
    """The node on tensors that operators have put into its inputs' order."""
    return replace(node, inputs=tuple(_exchanged(builder, v) if isinstance(v, Moved) else v for v in node.inputs))


def _exchanged(builder: Builder, value: Moved) -> Quantised:
    """Tokens and channels in each other's place: a tensor of its own, once for all that read it."""
    inner = builder.as_integers(value.inner) if isinstance(value.inner, Affine) else value.inner
    if not isinstance(inner, Quantised):
        raise Refusal("expected quantised values before a transposition", "quantise them before it", value.by)
    if inner.tensor in builder.exchanged:
        return replace(inner, tensor=builder.exchanged[inner.tensor], shape=value.shape)
    old = builder.tensors[inner.tensor]
    if len(builder.type_of(inner).scale) > 1:
        raise Refusal("per-channel scales are not supported here", "use a per-tensor scale", value.by)
    name, by = unique_name(f"{inner.tensor}.turned", builder.tensors), value.by[0]
    extents = builder.axes(value.shape)
    builder.tensors[name] = Tensor(name, tuple(extents.values()), old.type, tuple(extents))
    place = builder.onnx_names[inner.tensor]
    steps = (HostStep("Reshape", inner.shape), *value.steps)
    builder.onnx_names[name] = (*place[:2], (*(place[2] if len(place) > 2 else ()), *steps))
    builder.ops.append(TransposeOp(builder.op_name(by), (inner.tensor,), name, onnx_nodes=(by,)))
    builder.exchanged[inner.tensor] = name
    return replace(inner, tensor=name, shape=value.shape)


def _stored(node: Node, where: _Where) -> Node:
    """The node on stored values: its constants in their layout, its axes theirs."""
    given: list[Value | None] = []
    for value in node.inputs:
        if isinstance(value, Moved):
            given.append(value.inner)
        elif isinstance(value, Constant) and node.op in ("MultiThreshold", *LINEAR_OPS):
            given.append(value)  # a row, or a scale, a channel, wherever the channels are
        elif isinstance(value, Constant) and node.op in _EACH:
            given.append(Constant(_unmoved(value.array, where)))
        elif isinstance(value, QuantConstant) and node.op in _EACH:
            given.append(QuantConstant(_unmoved(value.ints, where), _unmoved(value.scale, where), value.bits))
        elif value is None or node.op == "ReduceMean":
            given.append(value)
        else:
            raise Refusal("its inputs lie in different layouts", "transpose both in the same way")
    attributes = dict(node.attributes)
    if node.op == "MultiThreshold":
        axis = node.text("data_layout", "").find("C") % len(where.shape)
        if _permutation(where)[axis] != 1:
            raise Refusal("the channels of its data_layout are not the channels of the layer before it")
        attributes["data_layout"] = ""
    if node.op in LINEAR_OPS and any(isinstance(v, Constant) and v.array.size > 1 for v in node.inputs):
        attributes["axis"] = _permutation(where)[node.integer("axis", 1) % len(where.shape)]
    if node.op in ("Concat", "ReduceMean"):
        perm = _permutation(where)
        if node.op == "Concat":
            attributes["axis"] = perm[node.integer("axis", 1) % len(perm)]
        else:
            axes = node.integers("axes", ()) or tuple(int(a) for a in node.constant(1, "axes"))
            attributes["axes"], given = [perm[a % len(perm)] for a in axes], given[:1]
    return replace(node, inputs=tuple(given), attributes=attributes)


def _unmoved(array: np.ndarray, where: _Where) -> np.ndarray:
    if array.size == 1:
        return array.reshape(())
    try:
        full = np.broadcast_to(array, where.shape)
    except ValueError:
        raise Refusal(f"a constant of shape {array.shape} does not broadcast to {where.shape}") from None
    return rearrange(full, where.steps, where.stored)


def _permutation(where: _Where) -> tuple[int, ...]:
    """The one Transpose that all steps are."""
    axes = tuple(range(len(where.stored)))
    for step in where.steps:
        if step.op != "Transpose":
            raise Refusal("the layout before it is no transposition", "put this node before the Reshape")
        axes = tuple(axes[a] for a in step.numbers)
    return axes


def _ordered_weights(builder: Builder, node: Node, value: Moved) -> Node:
    """A Gemm on the stored values, the rows of its weights in their order."""
    weights, batch = node.input(1), value.shape[0]
    length = prod(value.shape) // batch
    rows = order(value).reshape(batch, -1)
    if value.shape != (batch, length) or not isinstance(value.inner, Quantised) or (
        rows != rows[0] + np.arange(batch)[:, None] * length
    ).any():
        raise _unmovable(node, value)
    axis = 1 if node.integer("transB", 0) else 0
    back = np.argsort(rows[0])
    if isinstance(weights, QuantConstant) and weights.ints.ndim == 2 and weights.ints.shape[axis] == length:
        ints, scale = weights.ints.take(back, axis), weights.scale.take(back, axis)
        weights = QuantConstant(ints, scale, weights.bits)
    return replace(node, inputs=(replace(value.inner, shape=value.shape), weights, *node.inputs[2:]))


def _unmovable(node: Node, value: Moved) -> Refusal:
    return Refusal(
        f"{node.op} {node.name!r} would read {value.shape}, another order of values that are stored as "
        f"{value.inner.shape}, and nothing here moves stored values",
        "transpose back before that node: maps are (1, C, H, W), tokens (1, T, C)", value.by,
    )  # fmt: skip


def _settled(builder: Builder, node: Node, value: Moved) -> Quantised:
    """A graph input in the order that the graph puts it into: the host gives it so. Else refused."""
    inner = builder.as_integers(value.inner) if isinstance(value.inner, Affine) else value.inner
    if not isinstance(inner, Quantised) or inner.tensor not in builder.input_rounding:
        if _exchanges(value):
            return _exchanged(builder, value)
        raise _unmovable(node, value)
    if inner.tensor in builder.relabelled:
        raise Refusal(f"graph input {inner.tensor!r} is used in two layouts", "transpose it once, before all uses")
    old = builder.tensors[inner.tensor]
    if len(old.type.scale) > 1:
        raise Refusal("per-channel scales are not supported here", "use a per-tensor scale")
    extents, steps = builder.axes(value.shape), (HostStep("Reshape", inner.shape), *value.steps)
    name = unique_name(f"{inner.tensor}.turned", builder.tensors)
    builder.tensors[name] = Tensor(name, tuple(extents.values()), old.type, tuple(extents))
    builder.onnx_names[name] = (*builder.onnx_names[inner.tensor][:2], steps)
    builder.input_steps[name] = (*builder.input_steps.get(inner.tensor, ()), *steps)
    builder.relabelled[inner.tensor] = (name, value.steps)
    return Quantised(name, value.shape, inner.kind)


def relabelled(builder: Builder, ops: Sequence[Op], name: str) -> tuple[Op, ...]:
    """The operators, with the relabelled graph inputs under these inputs' own names.

    One that is used as it was, too, is transposed by an operator.

    `name`: of the model.

    Raises:
        ModelError: one of them is used as it was, too, and tokens and channels do not change places.
    """
    for old, (new, steps) in builder.relabelled.items():
        readers = {tensor for op in ops for tensor in op.inputs}
        if {old, new} <= readers:
            if _exchanges_tokens(builder.tensors[old], steps):
                ops = [TransposeOp(builder.op_name(f"{old}.Transpose"), (old,), new), *ops]
                del builder.input_steps[new]
                continue
            text = "it is used in two layouts"
            raise ModelError(name, [Problem(old, "graph input", text, "transpose it once, before all uses")])
        if new in readers:
            ops = [replace(op, inputs=tuple(old if i == new else i for i in op.inputs)) for op in ops]
            builder.tensors[old] = replace(builder.tensors.pop(new), name=old)
            builder.onnx_names[old] = builder.onnx_names.pop(new)
            builder.input_steps[old] = builder.input_steps.pop(new)
    return tuple(ops)
