# SPDX-License-Identifier: Apache-2.0
"""The signals of the block that a waveform is made for."""

from __future__ import annotations

from pathlib import Path

from nncosim.tb.sim.waves import Line, SignalGroup, variables
from vcd.gtkw import GTKWColor

__all__ = ["cause_group"]

_MOST_SIGNALS = 60


def cause_group(trace: Path, scope: str, title: str) -> SignalGroup:
    """The signals of a block itself, in its order; not those of its parts, nor what has no name in the source.

    scope: its full name in the waveform.
    """
    own = [name for name in variables(trace) if name.rpartition(".")[0] == scope]
    named = [name for name in own if not name.rpartition(".")[2].startswith(("_", "$", "\\"))]
    return SignalGroup(title, [Line(name, color=GTKWColor.orange) for name in named[:_MOST_SIGNALS]])
