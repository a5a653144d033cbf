# SPDX-License-Identifier: Apache-2.0
"""Bugs planted in hardware descriptions, one at a time, and what the regressions say of each."""

__all__ = ["MUTANT"]

MUTANT = "NNCOSIM_MUTANT"
"""Environment variable, set while tests run on a mutant: its key. Tests that plant bugs themselves are skipped then."""
