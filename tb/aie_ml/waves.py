# SPDX-License-Identifier: Apache-2.0
"""A part of a run, for a waveform, in terms of the top's ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from nncosim.compiler.image.image import Image
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.waves import Trace

__all__ = ["ends_of", "steps_done", "trace_conditions"]

_NEVER = (1 << 64) - 1
"""Of `probe_since`: no inference has begun."""


def ends_of(image: Image) -> list[int]:
    """Of each step, the cycle of an inference after which it is to be complete, as the cycle model has it."""
    return list(accumulate(step.cycles.best for step in image.notes.steps))


def trace_conditions(trace: Trace, ends: Sequence[int]) -> dict[str, tuple[int, int]]:
    """A waveform's window as conditions on ports of the top. A step is one of the first inference.

    Raises:
        BenchError: the step has no cycles of its own.
    """
    conditions, step = trace.cycles("probe_cycle"), trace.step
    if step is not None:
        begin = ends[step - 1] if step else 0
        if begin == ends[step]:
            raise BenchError("the layer has no cycles of its own to show: it is complete before those listed ahead of "
                             "it, beside which it runs")  # fmt: skip
        conditions |= {"probe_since": (begin, ends[step]), "probe_inferences": (0, 1)}
    return conditions


def steps_done(probes: Mapping[str, int], ends: Sequence[int]) -> int:
    """How many steps of the first inference are complete."""
    if probes["probe_inferences"]:
        return len(ends)
    since = probes["probe_since"]
    return 0 if since == _NEVER else sum(end <= since for end in ends)
