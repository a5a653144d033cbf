# SPDX-License-Identifier: Apache-2.0
"""What only this platform's bench understands of an image's notes; and where memories are in its addresses."""

from __future__ import annotations

from dataclasses import dataclass

from nncosim.platforms.aie_ml import BANK_BYTES

__all__ = ["PROGRAM_BASE", "AieMlNotes", "data_address"]

PROGRAM_BASE = 0x20000
"""Of program memory in the tile's address map (AM020, table "AIE-ML Core Module"); data memory is at 0."""


@dataclass(frozen=True)
class AieMlNotes:
    """ends: of each step, how many stores of the inference have been made when it is complete."""

    ends: tuple[int, ...] = ()


def data_address(bank: int, address: int) -> int:
    """Of a byte of a logical bank."""
    return bank * BANK_BYTES + address
