# SPDX-License-Identifier: Apache-2.0
"""Random images with the statistics that matter to a convolution: smooth fields, edges, a little noise.

White noise would be the easy case: it excites every filter alike, and averages to the same after a few layers. A
photograph is smooth over most of its area, has edges, and differs from another one in its large parts.
"""

from __future__ import annotations

import numpy as np

__all__ = ["images"]

_OCTAVES = ((2, 60), (4, 40), (9, 24), (19, 12))
"""(cells across the shorter side, amplitude in grey levels)."""
_SHAPES = 14


def images(seed: int, count: int, height: int, width: int, first: int = 0) -> np.ndarray:
    """RGB images number `first` and following of the series `seed`, uint8 (count, 3, height, width).

    Only integers and elementwise IEEE operations: the same bytes on every machine.
    """
    return np.stack([_image(np.random.default_rng([seed, n]), height, width) for n in range(first, first + count)])


def _image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    brightness = _field(rng, height, width)
    tint = np.stack([_field(rng, height, width) for _ in range(3)])
    total = 128.0 + brightness + tint * 0.4
    for _ in range(_SHAPES):
        total = total + _shape(rng, height, width) * rng.integers(-70, 71, (3, 1, 1))
    noise = rng.integers(-3, 4, total.shape)
    # bends what is too bright or too dark back into the range, as a camera's curve does
    middle = total + noise - 128.0
    bent = 128.0 + middle / (1.0 + np.abs(middle) / 250.0)
    return np.clip(np.rint(bent), 0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A sum of smooth random fields, float64 (height, width)."""
    total = np.zeros((height, width))
    for cells, amplitude in _OCTAVES:
        rows, columns = cells + 1, cells * width // height + 2
        grid = rng.integers(-amplitude, amplitude + 1, (rows, columns)).astype(np.float64)
        total = total + _enlarged(grid, height, width)
    return total


def _enlarged(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation without BLAS, whose order of sums would depend on the machine."""
    for axis, size in enumerate((height, width)):
        at = np.arange(size) * ((grid.shape[axis] - 1) / size)
        low = at.astype(np.int64)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        a, b = np.take(grid, low, axis), np.take(grid, low + 1, axis)
        grid = a * (1.0 - share) + b * share
    return grid


def _shape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A rectangle, an ellipse or a half plane with sharp edges, 0 or 1, int64 (height, width)."""
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    cy, cx = int(rng.integers(height)), int(rng.integers(width))
    ry, rx = int(rng.integers(4, height // 2)), int(rng.integers(4, width // 2))
    kind, dy, dx = int(rng.integers(3)), int(rng.integers(-9, 10)), int(rng.integers(-9, 10))
    if kind == 0:
        inside = (abs(y - cy) < ry) & (abs(x - cx) < rx)
    elif kind == 1:
        inside = (y - cy) ** 2 * rx**2 + (x - cx) ** 2 * ry**2 < ry**2 * rx**2
    else:
        inside = (y - cy) * dy + (x - cx) * dx > 0
    return inside.astype(np.int64)
