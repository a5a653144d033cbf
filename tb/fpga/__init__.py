# SPDX-License-Identifier: Apache-2.0
"""Blocks on an FPGA, a Lattice ECP5: synthesized (Yosys), placed and routed (nextpnr), timed, and the routed netlist
simulated beside what the RTL did."""
