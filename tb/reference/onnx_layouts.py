# SPDX-License-Identifier: Apache-2.0
"""qonnx's operators on maps with channels last, as those of the ONNX standard that they are defined by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from nncosim.tb.reference.onnx_values import Value

__all__ = ["CHANNELS_LAST", "LAST", "first_layout", "turned"]

CHANNELS_LAST, LAST = "qonnx.custom_op.channels_last", ".last"
"""The domain of these operators, and how their names differ from the standard's in a reference."""


def first_layout(node: onnx.NodeProto) -> onnx.NodeProto:
    """Such a node as one of the standard; any other as it is."""
    if node.domain == CHANNELS_LAST:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        node.domain = ""
    return node


def turned(value: Value, last: bool) -> Value:
    """A value with its channels moved from the last place to the second, or back."""
    places = (1, -1) if last else (-1, 1)
    parts = {name: getattr(value, name) for name in ("floats", "ints", "scale")}
    return replace(value, **{name: np.moveaxis(a, *places) for name, a in parts.items() if a is not None})
