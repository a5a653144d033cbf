# SPDX-License-Identifier: Apache-2.0
"""What a clock period holds beside mapped gates: assumptions, each with its source, in one place.

Mapped netlists have neither wires nor a clock tree, and SRAMs are cut out of them. A path is therefore judged as

    mapped length, SRAM by its size  +  `WIRES` of what is gates  +  `SKEW`     <=  `LIMIT` of `nncosim.tb.timing.sta`

None of this is measured on a layout of the whole chip.
"""

from __future__ import annotations

import math

__all__ = ["FO4_PS", "SKEW", "SRAM_SETUP", "WIRES", "sram_access"]

FO4_PS = 5000 / 70
"""An FO4 at 28 nm, in ps, for 70 of them to be the 5 ns of 200 MHz: an assumption, and a slow one. Published
is 8.7 ps for a 32 nm high-k process at nominal voltage. The rest is room for slow corners and a lower supply."""

WIRES = 0.10
"""Of the gates' delay. An address generator of this design was placed and routed in 180 nm (graywolf, qrouter): 6.1 %.
Wires weigh more at 28 nm and between blocks."""

SKEW = 3.5
"""FO4 for skew and jitter of the clock, and a margin on set-up: 5 % of the period."""

SRAM_SETUP = 5.0
"""FO4 from an SRAM's input to its clock."""

_ACCESS, _BITS = 25.0, 1 << 17


def sram_access(bits: int) -> float:
    """FO4 from the clock to the output of an SRAM macro of so many bits.

    25 at 128 Kibit is an assumption: CACTI gives 0.435 ns for 2,048 x 39 bits in 45 nm (fakeram45 of
    OpenROAD-flow-scripts), 15 to 20 FO4 of that process; a slow low-power compiler, IHP's in 130 nm, has 4.38 ns for
    1,024 x 64 (its published datasheet), which would not do here. About one gate delay is added with each doubling, up
    to 1 Mibit (Amrutur and Horowitz, Speed and Power Scaling of SRAM's, IEEE JSSC 35, 2000).
    """
    return _ACCESS + math.log2(bits / _BITS)
