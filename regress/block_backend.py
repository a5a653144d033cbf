# SPDX-License-Identifier: Apache-2.0
"""What benches of single blocks run on; `regress/conftest.py` sets it from ``--backend``."""

__all__ = ["GATES"]

GATES = False
"""Whether blocks are mapped to gates (``--backend netlist``)."""
