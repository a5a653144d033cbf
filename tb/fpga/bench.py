# SPDX-License-Identifier: Apache-2.0
"""What a platform's bench has for an FPGA, beside what `nncosim.tb.backend` asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from nncosim.tb.backend import PlatformT
from nncosim.tb.fpga.block import FpgaBlock
from nncosim.tb.netlist.recorded import Vectors

__all__ = ["OnFpga", "RecordsBlocks"]


@runtime_checkable
class OnFpga(Protocol[PlatformT]):
    """A bench whose machine's blocks can be placed and routed on an FPGA. `fpga_blocks`: name of each to what it is, in
    a few words; some may lie within others."""

    fpga_blocks: ClassVar[Mapping[str, str]]

    def fpga_block(self, platform: PlatformT, block: str) -> FpgaBlock:
        """A block of `fpga_blocks`."""
        ...


@runtime_checkable
class RecordsBlocks(OnFpga[PlatformT], Protocol[PlatformT]):
    """A bench that can record such blocks in a run of the whole machine."""

    def fpga_vectors(self, platform: PlatformT, block: str, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]]
                     ) -> Vectors:
        """What an instance of a block is given, and gives, in a run of an image on the RTL."""
        ...
