# SPDX-License-Identifier: Apache-2.0
"""What a machine's requantizer can do, for the proof."""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.platforms.rounding import Rounding

__all__ = ["RequantCaps"]


@dataclass(frozen=True)
class RequantCaps:
    """What a platform's requantizer can do.

    multiplier_bits, constant_bits: widths of the signed m and c. narrow_multiplier_bits: a width of m with which the
    platform requantizes faster: taken wherever it is exact. max_shift: largest s. roundings: the
    modes it has. accumulator_bits: width of the signed accumulator. The sum acc * m + c has 64 bits.
    tables: whether the platform has an operator `ir.Table`.
    """

    multiplier_bits: int = 32
    constant_bits: int = 64
    max_shift: int = 62
    roundings: frozenset[Rounding] = frozenset(Rounding)
    accumulator_bits: int = 32
    tables: bool = False
    narrow_multiplier_bits: int | None = None
