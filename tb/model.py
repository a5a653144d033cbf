# SPDX-License-Identifier: Apache-2.0
"""For benches of your own: a built simulation as a Python object (`nncosim.tb.sim.model`)."""

from nncosim.tb.sim.model import Model, SavedState

__all__ = ["Model", "SavedState"]
