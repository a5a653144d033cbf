# SPDX-License-Identifier: Apache-2.0
"""J3DAI's L2."""

from nncosim.hdl.line_memory import LineMemory
from nncosim.platforms.j3dai import J3dai

__all__ = ["L2_ADDRESS_BITS", "l2_memory"]

L2_ADDRESS_BITS = 20
"""Of a word address: descriptors have so many, on all machines."""


def l2_memory(platform: J3dai) -> LineMemory:
    """L2: a line wide, written by beats."""
    return LineMemory(platform.l2_words, platform.banks, platform.word_bits, platform.beat_words, L2_ADDRESS_BITS)
