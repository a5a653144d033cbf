# SPDX-License-Identifier: Apache-2.0
"""A part of a run, for a waveform, in terms of the top's ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nncosim.tb.sim.waves import Trace

__all__ = ["steps_done", "trace_conditions"]


def trace_conditions(trace: Trace, ends: Sequence[int]) -> dict[str, tuple[int, int]]:
    """A waveform's window as conditions on ports of the top.

    Args:
        ends: of each step, the stores of an inference that have been made when it is complete. The last step lasts
            until the core is idle.
    """
    conditions, step = trace.cycles("probe_cycle"), trace.step
    if step is not None:
        begin = ends[step - 1] if step else 0
        last = step == len(ends) - 1
        conditions |= {"probe_stores": (begin, ends[step] + last), "probe_inferences": (0, 1)}
    return conditions


def steps_done(probes: Mapping[str, int], ends: Sequence[int]) -> int:
    """How many steps of the first inference are complete."""
    return len(ends) if probes["probe_inferences"] else sum(end <= probes["probe_stores"] for end in ends)
