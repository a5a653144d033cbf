# SPDX-License-Identifier: Apache-2.0
"""Windows of ONNX's convolutions and pools, after the text of the standard, and the pools themselves.

The onnx package's reference evaluator has pools too, but its 1.22 gives other shapes where paddings differ from side to
side, and takes a Python loop over all windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Attributes", "OnnxWindows", "pool"]

Attributes: TypeAlias = Mapping[str, Any]
"""A node's, as onnx reads them: the standard says of each name what it is (number, bytes, list of these)."""


class OnnxWindows:
    """The windows of one node.

    Args:
        attributes: of the node. size: of the map, without batch and channels. kernel: its size.

    Attributes:
        stride, dilation, before, after: a number for each axis; the last two are paddings, `ceil_mode` included.
        beyond: whether windows reach past the padding, by `ceil_mode`.
    """

    def __init__(self, attributes: Attributes, size: Sequence[int], kernel: Sequence[int]):
        def numbers(name: str, default: list[int]) -> list[int]:
            return [int(v) for v in attributes.get(name, default)]

        axes = len(size)
        self.kernel = list(kernel)
        self.stride, self.dilation = numbers("strides", [1] * axes), numbers("dilations", [1] * axes)
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        auto = attributes.get("auto_pad", b"NOTSET").decode()
        pads = numbers("pads", [0] * 2 * axes) if auto in ("NOTSET", "") else [0] * 2 * axes
        self.before, self.after = pads[:axes], pads[axes:]
        self.beyond = False
        for axis in range(axes):
            n, s, e = size[axis], self.stride[axis], extent[axis]
            if auto in ("SAME_UPPER", "SAME_LOWER"):
                total = max((math.ceil(n / s) - 1) * s + e - n, 0)
                less, more = total // 2, total - total // 2
                upper = auto == "SAME_UPPER"
                self.before[axis], self.after[axis] = (less, more) if upper else (more, less)
            if attributes.get("ceil_mode", 0):
                padded = n + self.before[axis] + self.after[axis]
                count = math.ceil((padded - e) / s) + 1
                if (count - 1) * s >= n + self.before[axis]:
                    count -= 1  # none begins in the padding at the end
                more = max((count - 1) * s + e - padded, 0)
                self.after[axis] += more
                self.beyond |= more > 0

    def view(self, data: np.ndarray, fill: float) -> np.ndarray:
        """(N, C, OH, OW, KH, KW) of a map (N, C, H, W) padded with `fill`."""
        padded = np.pad(data, [(0, 0), (0, 0), *zip(self.before, self.after, strict=True)], constant_values=fill)
        axes = tuple(range(2, data.ndim))
        extent = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        found = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=axes)  # type: ignore[call-overload]
        steps = (*(slice(None, None, s) for s in self.stride), *(slice(None, None, d) for d in self.dilation))
        return found[(slice(None), slice(None), *steps)]


def pool(op: str, attributes: Attributes, data: np.ndarray) -> np.ndarray:
    """MaxPool or AveragePool of a float64 map (N, C, H, W)."""
    windows = OnnxWindows(attributes, data.shape[2:], attributes["kernel_shape"])
    axes = tuple(range(-len(windows.kernel), 0))
    if op == "MaxPool":
        return windows.view(data, -np.inf).max(axis=axes)
    if windows.beyond:
        raise ValueError("windows beyond the padding (ceil_mode) of an AveragePool")
    total = windows.view(data, 0.0).sum(axis=axes)
    if attributes.get("count_include_pad", 0):
        return total / math.prod(windows.kernel)
    return total / windows.view(np.ones((1, 1, *data.shape[2:])), 0.0).sum(axis=axes)
