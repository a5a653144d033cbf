# SPDX-License-Identifier: Apache-2.0
"""RTL of the AIE-ML-like tile: core, data memory, program memory."""
