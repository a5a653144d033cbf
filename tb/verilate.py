# SPDX-License-Identifier: Apache-2.0
"""For benches of your own: Verilog in, a built simulation out (`nncosim.tb.sim.verilate`)."""

from nncosim.tb.sim.verilate import BuildOptions, BuildProgress, BuiltModel, build

__all__ = ["BuildOptions", "BuildProgress", "BuiltModel", "build"]
