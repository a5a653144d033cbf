# SPDX-License-Identifier: Apache-2.0
"""Built simulations: Verilator, the models it builds, their memories, cocotb."""
