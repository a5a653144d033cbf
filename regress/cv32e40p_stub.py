# SPDX-License-Identifier: Apache-2.0
"""The host's core as a bench plays on it."""

from nncosim.hdl.cv32e40p import CORE, CORE_PARAMETERS, CORE_PORTS
from nncosim.regress.puppet import puppet_verilog

__all__ = ["CORE_PORTS", "CORE_VERILOG"]

CORE_VERILOG = puppet_verilog(CORE, CORE_PORTS, tuple(CORE_PARAMETERS))
