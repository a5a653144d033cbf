# SPDX-License-Identifier: Apache-2.0
"""The machine whose gates the regressions run, and its simulations, built once a process."""

import functools

from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.j3dai_target import netlist
from nncosim.tb.j3dai.netlist import BLOCKS, build_netlist
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["SMALL", "gates"]

SMALL = PLATFORM.with_parameters(clusters=2, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256, l2_bytes=512 * 1024)
"""Two clusters, of which the gates are simulated at once, and in each eight NCBs. L2 is small: the multiplexers behind
its macros stay Verilog (`nncosim.tb.netlist.sliced.Slice.through`), and with 20 macros a bank, as in 5 MiB, they are
most of what is compiled. With two there still is one to choose."""


@functools.cache
def gates(*blocks: str) -> BuiltModel:
    """`SMALL` with these blocks as gates; all without any."""
    return build_netlist(SMALL, blocks, quick=True) if blocks and set(blocks) != set(BLOCKS) else netlist(SMALL)
