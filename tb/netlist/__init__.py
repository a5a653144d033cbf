# SPDX-License-Identifier: Apache-2.0
"""A design as gates: mapped to a cell library with its hierarchy, and simulated as Verilog or, many equal instances at
a time, as C++; or with delays, in Icarus Verilog."""
