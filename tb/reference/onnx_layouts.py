# SPDX-License-Identifier: Apache-2.0
"""qonnx's operators on maps with channels last, as those of the ONNX standard that they are defined by."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import onnx

__all__ = ["CHANNELS_LAST", "LAST", "first_layout", "turned"]

V = TypeVar("V")

CHANNELS_LAST, LAST = "qonnx.custom_op.channels_last", ".last"
"""The domain of these operators, and how their names differ from the standard's in a reference."""


def first_layout(node: onnx.NodeProto) -> onnx.NodeProto:
    """Such a node as one of the standard; any other as it is."""
    if node.domain == CHANNELS_LAST:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        node.domain = ""
    return node


def turned(value: V, last: bool) -> V:
    """An `onnx_reference.Value` with its channels moved from the last place to the second, or back."""
    places = (1, -1) if last else (-1, 1)
    parts = {name: getattr(value, name) for name in ("floats", "ints", "scale")}
    moved = {name: np.moveaxis(array, *places) for name, array in parts.items() if array is not None}
    return replace(value, **moved)  # type: ignore[type-var]
