# SPDX-License-Identifier: Apache-2.0
"""Graph outputs that are what arithmetic makes of stored integers: these are stored, and mean something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nncosim.compiler.frontend.builder import Builder, Node
from nncosim.compiler.frontend.values import Affine, Parts, Quantised, Value

__all__ = ["restated"]


def _reads(value: Value | None, tensor: str) -> bool:
    """Whether a value is made of the tensor as it is stored."""
    if isinstance(value, Parts):
        return any(_reads(part, tensor) for part in value.parts)
    return tensor in value.op.inputs if isinstance(value, Affine) else getattr(value, "tensor", None) == tensor


def restated(builder: Builder, node: Node, form: Affine, others: Sequence[Value | None]) -> Quantised | None:
    """Integers whose scale and offset (of each channel) are those of an affine form of one tensor's integers.

    They are that tensor's own where nothing else reads it, else a copy. None where the form is a sum, clips, or falls.
    `others`: the other graph outputs' values.
    """
    if not form.rescales:
        return None
    source, ratios = form.op.inputs[0], form.ratios[0]
    old = builder.tensors[source]
    scale = ratios[:1] if len(set(ratios)) == 1 else ratios
    kind = replace(old.type, scale=scale, zero_point=0, offset=form.offset if any(form.offset) else ())
    made = any(op.output == source for op in builder.ops)
    if made and not any(source in op.inputs for op in builder.ops) and not any(_reads(v, source) for v in others):
        builder.tensors[source] = replace(old, type=kind)
        builder.onnx_names[source] = (node.outputs[0], 0)
        return Quantised(source, form.shape)
    return Quantised(builder.copy(node, source, kind, form.nodes), form.shape)
