# SPDX-License-Identifier: Apache-2.0
"""Exact integer convolutions over a batch, and statistics that come out the same on every machine.

Maps are (C, N, H, W): channels first, so that a 1x1 convolution is one matrix product. Values are integers held in
floating point; products and sums stay below the width of the mantissa, so that no order of summation matters.
"""

from __future__ import annotations

import numpy as np

__all__ = ["convolve", "moments", "upper"]


def convolve(x: np.ndarray, weights: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """sum(w * q) with zeros around the map ("same" padding of odd kernels).

    Args:
        x: (IC, N, H, W). weights: integers (OC, IC // groups, K, K); groups is 1 or IC (depthwise).

    Returns:
        (OC, N, OH, OW), float32 or float64, all integers.
    """
    outputs, _, k, _ = weights.shape
    reach = int(np.abs(weights).reshape(outputs, -1).sum(axis=1).max()) * int(np.abs(x).max(initial=0))
    kind = np.float32 if reach < 1 << 24 else np.float64
    x, weights = x.astype(kind, copy=False), weights.astype(kind)
    channels, count, height, width = x.shape
    if k == 1 and stride == 1:
        return (weights.reshape(outputs, channels) @ x.reshape(channels, -1)).reshape(outputs, count, height, width)
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    total = np.zeros((outputs, count, rows, columns), dtype=kind)
    for i in range(k):
        for j in range(k):
            plane = padded[:, :, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
            if groups == 1:
                product = weights[:, :, i, j] @ np.ascontiguousarray(plane).reshape(channels, -1)
                total += product.reshape(total.shape)
            else:
                total += plane * weights[:, 0, i, j, None, None, None]
    return total


def moments(acc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of integers (C, ...), float64 (C,); the latter is at least 1."""
    flat = acc.reshape(acc.shape[0], -1).astype(np.int64)
    count = flat.shape[1]
    mean = flat.sum(axis=1) / count
    apart = flat - np.rint(mean).astype(np.int64)[:, None]
    # 20 bits a value: sums of squares stay within 64 bits
    shift = max(0, int(np.abs(apart).max(initial=0)).bit_length() - 20)
    apart >>= shift
    return mean, np.maximum(np.sqrt((apart * apart).sum(axis=1) / count) * (1 << shift), 1.0)


def upper(values: np.ndarray, share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    flat = values.ravel()
    at = min(int(flat.size * share), flat.size - 1)
    return float(np.partition(flat, at)[at])
