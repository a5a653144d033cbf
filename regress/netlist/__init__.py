# SPDX-License-Identifier: Apache-2.0
"""Regressions of the gate-level netlist: `pytest regress/netlist`."""
