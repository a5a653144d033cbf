# SPDX-License-Identifier: Apache-2.0
"""J3DAI's blocks as they are put on an FPGA: its units, a group of NCBs with its requantizer, and a whole cluster with
its memories in block RAM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.cluster import GROUP_MODULE
from nncosim.hdl.j3dai.soc import CLUSTER_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.fpga.block import FpgaBlock
from nncosim.tb.j3dai.recorded import component_of, record_unit
from nncosim.tb.j3dai.units import UNITS
from nncosim.tb.netlist.recorded import Vectors

__all__ = ["FPGA_BLOCKS", "fpga_block", "fpga_vectors"]

FPGA_BLOCKS: Mapping[str, tuple[str, str]] = {
    "ncb": (GROUP_MODULE, "a group of NCBs with their requantizer"),
    "cluster": (CLUSTER_MODULE, "a whole cluster, its memories in block RAM"),
    **{name: (f"j3dai_{name}", "a unit of a cluster, of the DMPA or of what is around them") for name in UNITS
       if name != "entry_l2_port"},  # which has no register
}  # fmt: skip
"""Name on the command line to its module, and what it is."""


def fpga_block(platform: J3dai, name: str) -> FpgaBlock:
    """A block of `FPGA_BLOCKS`."""
    module, what = FPGA_BLOCKS[name]
    sources = emit_design(component_of(platform, _recorded_as(name)), module)
    return FpgaBlock(name, what, module, {file: str(text) for file, text in sources.items()})


def fpga_vectors(platform: J3dai, name: str, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]]) -> Vectors:
    """What the first instance of a block is given and gives in a run of an image on the RTL.

    Raises:
        BenchError: the run fails.
    """
    return record_unit(platform, _recorded_as(name), image, inputs)


def _recorded_as(name: str) -> str:
    """What `nncosim.tb.j3dai.recorded` calls a block."""
    return name if name in UNITS else FPGA_BLOCKS[name][0]
