# SPDX-License-Identifier: Apache-2.0
"""Rounding modes, and how hardware encodes them."""

from __future__ import annotations

import enum

__all__ = ["HARDWARE_ROUNDINGS", "Rounding"]


class Rounding(enum.IntEnum):
    """What becomes of the bits that a right shift drops. The number is the hardware's encoding.

    QONNX names: FLOOR, CEIL, DOWN (toward zero), UP (away from zero), ROUND = HALF_EVEN,
    HALF_UP (ties away from zero), HALF_DOWN (ties toward zero). HALF_ODD is what becomes of HALF_EVEN where an odd
    zero point is added after rounding (ONNX's QuantizeLinear); no hardware has it.
    """

    FLOOR = 0
    CEIL = 1
    TOWARD_ZERO = 2
    AWAY = 3
    HALF_UP = 4  # ties toward +infinity (Aidge's single shift)
    HALF_EVEN = 5
    HALF_AWAY = 6
    HALF_TOWARD_ZERO = 7
    HALF_ODD = 8


HARDWARE_ROUNDINGS = tuple(r for r in Rounding if r != Rounding.HALF_ODD)
"""Those that a requantizer can have."""
