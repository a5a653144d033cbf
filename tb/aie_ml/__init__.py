# SPDX-License-Identifier: Apache-2.0
"""The test bench of the AIE-ML-like tile."""
