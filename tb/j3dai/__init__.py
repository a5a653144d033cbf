# SPDX-License-Identifier: Apache-2.0
"""What is particular to J3DAI in the test bench: its backends and its timing."""
