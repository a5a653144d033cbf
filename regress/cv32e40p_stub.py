# SPDX-License-Identifier: Apache-2.0
"""The host's core as a bench plays on it."""

from nncosim.regress.puppet import puppet_verilog
from nncosim.tb.j3dai.netlist import CORE, CORE_PARAMETERS, CORE_PORTS

__all__ = ["CORE_PORTS", "CORE_VERILOG"]

CORE_VERILOG = puppet_verilog(CORE, CORE_PORTS, tuple(CORE_PARAMETERS))
