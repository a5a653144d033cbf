# SPDX-License-Identifier: Apache-2.0
"""Rounding modes, and how hardware encodes them."""

from __future__ import annotations

import enum

__all__ = ["Rounding"]


class Rounding(enum.IntEnum):
    """What becomes of the bits that a right shift drops. The number is the hardware's encoding.

    QONNX names: FLOOR, CEIL, DOWN (toward zero), UP (away from zero), ROUND = HALF_EVEN,
    HALF_UP (ties away from zero), HALF_DOWN (ties toward zero).
    """

    FLOOR = 0
    CEIL = 1
    TOWARD_ZERO = 2
    AWAY = 3
    HALF_UP = 4  # ties toward +infinity (Aidge's single shift)
    HALF_EVEN = 5
    HALF_AWAY = 6
    HALF_TOWARD_ZERO = 7
