# SPDX-License-Identifier: Apache-2.0
"""Which network it is, whatever it was trained to: its operators, how they are connected, shapes, bit widths."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields

import numpy as np
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.platforms.plain import Json

__all__ = ["topology"]

_COMMON = {field.name for field in fields(Op)}


def topology(network: Network) -> str:
    """16 hexadecimal digits: equal for networks that differ in names, weights, scales, signs and zero points only.

    A kept batch does not count: it is how the network is run.
    """
    numbers = {name: number for number, name in enumerate(network.inputs)}
    parts: list[Json] = [_tensor(network.tensors[name]) for name in network.inputs]
    for op in network.ops:
        numbers[op.output] = len(numbers)
        own = {field.name: _plain(getattr(op, field.name)) for field in fields(op)
               if field.name not in _COMMON and field.name not in op.trained}  # fmt: skip
        parts.append([op.kind, [numbers[name] for name in op.inputs], own, _tensor(network.tensors[op.output])])
    parts.append([numbers[name] for name in network.outputs])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _tensor(tensor: Tensor) -> list[Json]:
    sizes: list[Json] = [[axis, size] for axis, size in tensor.extents.items() if axis != "N"]
    return [sizes, tensor.type.bits]


def _plain(value: Json | np.ndarray) -> Json:
    """A number or text as it is; of an array its shape."""
    return list(value.shape) if isinstance(value, np.ndarray) else value
