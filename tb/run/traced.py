# SPDX-License-Identifier: Apache-2.0
"""A run with a waveform of a part of it: the file is there when it shows something, and else as it was before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from nncosim.tb.errors import BenchError
from nncosim.tb.run.drive import Driven, Window
from nncosim.tb.sim.waves import Trace
from nncosim.tb.system.files import deliver

__all__ = ["traced"]

Records = TypeVar("Records")


def traced(
    trace: Trace, when: Mapping[str, tuple[int, int]], run: Callable[[Window], Driven[Records]], steps: Sequence[str],
    done: Callable[[Mapping[str, int]], int],
) -> tuple[Driven[Records], str]:
    """What was run; and why the waveform's window is behind the end of it, "" if it is not.

    Args:
        when: the window as conditions on ports of the top. run: with it. steps: names of an inference's.
        done: by the probes, one of which is `probe_cycle`: how many steps of the first inference are complete.
    """
    behind = ""
    try:
        with deliver(trace.path) as path:
            driven = run(Window(path, when))
            behind = _behind(trace, steps, driven.probes["probe_cycle"], done(driven.probes))
            if behind:
                raise BenchError(behind)
    except BenchError:
        if not behind:
            raise
    return driven, behind


def _behind(trace: Trace, steps: Sequence[str], cycles: int, done: int) -> str:
    if trace.start is not None and trace.start >= cycles:
        why = f"would begin at cycle {trace.start}, but the run ended at cycle {cycles}; begin earlier"
    elif trace.step is not None and trace.step > done:
        why = f"would show a layer that was not reached; the run stopped in layer {steps[done]}"
    else:
        return ""
    return f"waveform {trace.path} {why}"
