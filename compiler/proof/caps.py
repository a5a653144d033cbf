# SPDX-License-Identifier: Apache-2.0
"""What the requantizer of an engine can do, for the proof: the forms that it has, and within each its widths, its
roundings, and whether a number may differ from channel to channel or is one for a layer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nncosim.platforms.errors import NncosimError
from nncosim.platforms.rounding import HARDWARE_ROUNDINGS, Rounding

__all__ = [
    "CapsError", "ChainCaps", "FormCaps", "LookupCaps", "MultiplyShiftCaps", "Per", "RequantCaps", "ThresholdCaps",
]  # fmt: skip


class CapsError(NncosimError):
    """Capabilities that contradict each other."""


class Per(enum.Enum):
    """Of what a requantizer holds a number each."""

    CHANNEL = "channel"
    LAYER = "layer"


@dataclass(frozen=True)
class MultiplyShiftCaps:
    """(acc * m + c) >> s, rounded and clipped, in 64 bits.

    multiplier_bits: width of the signed m; 0: there is no multiplier, only the shift. negative: m may be negative.
    constant_bits: width of the signed c; 0: there is none. max_shift: largest s. roundings: the modes it has.
    multiplier_per, constant_per: whether channels have their own m, or c. shift_per: their own s and rounding mode.
    """

    multiplier_bits: int = 32
    constant_bits: int = 64
    max_shift: int = 62
    roundings: frozenset[Rounding] = frozenset(HARDWARE_ROUNDINGS)
    negative: bool = True
    multiplier_per: Per = Per.CHANNEL
    constant_per: Per = Per.CHANNEL
    shift_per: Per = Per.CHANNEL

    def __post_init__(self) -> None:
        if self.multiplier_bits == 1:
            raise CapsError("a signed multiplier has at least 2 bits, or 0 where there is none; got 1")
        if not self.roundings:
            raise CapsError("a shift needs at least one rounding mode; got none")
        if self.multiplier_bits and self.multiplier_per == Per.LAYER and self.shift_per == Per.CHANNEL:
            raise CapsError("one multiplier for a layer needs one shift for it; got a shift for each channel")

    @property
    def free(self) -> bool:
        """Each channel's numbers can be sought by themselves."""
        shared = Per.LAYER in (self.multiplier_per, self.constant_per, self.shift_per)
        return bool(self.multiplier_bits and self.constant_bits and self.negative and not shared)


@dataclass(frozen=True)
class ThresholdCaps:
    """A result is the number of thresholds that the accumulator reaches.

    most: thresholds at most. threshold_bits: signed width. falling: a greater accumulator may give a smaller result.
    """

    most: int
    threshold_bits: int = 32
    falling: bool = True
    per: Per = Per.CHANNEL


@dataclass(frozen=True)
class LookupCaps:
    """A table of 2**address_bits results, addressed by the accumulator minus its least value."""

    address_bits: int = 8
    per: Per = Per.CHANNEL


@dataclass(frozen=True)
class ChainCaps:
    """A shift that rounds and clips to between (lowest, highest), and what is done to its result."""

    first: MultiplyShiftCaps
    between: tuple[int, int]
    then: FormCaps


FormCaps = MultiplyShiftCaps | ThresholdCaps | LookupCaps | ChainCaps


@dataclass(frozen=True)
class RequantCaps:
    """What one kernel on one engine can do.

    forms: in the order of preference: the first that is exact is taken; where none is, the last that gives a result.
    accumulator_bits: width of the signed accumulator. tables: whether a Requantize may become an operator `ir.Table`.
    as_given: whether what a function says in integers (`QuantFunction.integers`) is itself what is computed.
    """

    forms: tuple[FormCaps, ...] = (MultiplyShiftCaps(),)
    accumulator_bits: int = 32
    tables: bool = False
    as_given: bool = False
