# SPDX-License-Identifier: Apache-2.0
"""One inference again and again on one simulation, each time with another bit turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nncosim.tb.errors import BenchError, SimulationError, SimulationTimeout
from nncosim.tb.fault_target import FaultTarget, Observed
from nncosim.tb.faults.model import FaultModel, Flip
from nncosim.tb.faults.outcomes import Injection, Outcome
from nncosim.tb.run.drive import RESET_CYCLES, Begun, Session, at_reset
from nncosim.tb.sim.model import SavedState

__all__ = ["CHECKPOINTS", "CHECKPOINT_CYCLES", "Injector"]

CHECKPOINTS, CHECKPOINT_CYCLES = 8, 20_000
"""States of the run without a fault that are kept at most, and cycles between them at least: a run begins at the last
before its flip, and ends at the first after it at which all is as without the fault. One is 14 MB of J3DAI."""


@dataclass(frozen=True)
class _Ended:
    """How a run ended. `kind`: "done", "hang" or "check", or "same": from here on it is the run without a fault."""

    kind: str
    cycles: int = 0
    text: str = ""


class Injector:
    """A target's simulation, at the begin of its inference.

    Args:
        limit: cycles after which an inference hangs. seed: of the poison in memories and registers.

    Raises:
        BenchError: the inference does not end without a fault.
    """

    healthy: Observed
    """What is left without a fault."""
    cycles: int
    """Of the inference without a fault."""
    seen: Observed
    """What the last run left that was not found to be as without a fault before its end."""

    def __init__(self, target: FaultTarget, limit: int, seed: int, checkpoint_cycles: int = CHECKPOINT_CYCLES):
        self.target, self.limit, self.seed = target, limit, seed
        self._start()
        self._states: dict[int, SavedState] = {1: self.model.save()}
        ended = self._run_on(1, None)
        self.healthy, self.cycles = self._observed(), ended.cycles
        if ended.kind != "done" or self.healthy.detected:
            text = ended.text or self.healthy.detected or self.healthy.standing
            raise BenchError(f"without a fault the inference does not end ({ended.kind}): {text}")
        step = max(checkpoint_cycles, self.cycles // CHECKPOINTS)
        self.model.restore(self._states[1])
        for at in range(1 + step, self.cycles, step):
            self.model.tick(step)
            self._states[at] = self.model.save()

    def _start(self) -> None:
        """Up to the end of the inference's first cycle."""
        chip = self.target.chip
        self.model = model = FaultModel(self.target.built, seed=self.seed, period_ps=chip.period_ps,
                                        other_clocks=chip.other_clocks)  # fmt: skip
        model.poison(self.seed)
        self._session: Session[Any, Any] = chip.attach(model, self.seed)
        for port, value in self._session.held.items():
            model[port] = value
        model.reset(cycles=RESET_CYCLES)
        self._begun: Begun[Any] = self._session.begin(0, at_reset)
        for port, value in self._begun.first.items():
            model[port] = value
        model.tick()
        for port in self._begun.pulsed:
            model[port] = 0
        model.eval()

    def run(self, flip: Flip) -> Injection:
        """The inference with one bit turned.

        Raises:
            BenchError: there is no such bit or no such cycle, or the bit did not turn.
        """
        if not 1 <= flip.cycle < self.cycles:
            raise BenchError(f"{flip}: the inference has cycles 1 to {self.cycles - 1:,} to turn a bit after")
        at = max(cycle for cycle in self._states if cycle <= flip.cycle)
        self.model.restore(self._states[at])
        self.model.tick(flip.cycle - at)
        try:
            self.model.flip(flip)
            ended = self._run_on(flip.cycle, flip)
        except SimulationError as error:
            ended = _Ended("check", text=str(error))
        if ended.kind == "same":
            return Injection(flip, Outcome.MASKED, self.cycles, False)
        if ended.kind == "check":  # the simulation has stopped for good
            self.model.close()
            self._start()
            return Injection(flip, Outcome.CHECK, 0, False, ended.text)
        self.seen = self._observed()
        return self._judged(flip, ended, self.seen)

    def _run_on(self, cycle: int, flip: Flip | None) -> _Ended:
        """From `cycle` to the end. With a flip, only as far as it makes a difference."""
        try:
            for at in sorted(self._states) if flip is not None else ():
                if at > cycle:
                    ran = self._until_stopped(at - cycle)
                    cycle += ran
                    if self.model["stopped"]:
                        break
                    if self.model.save().data == self._states[at].data:
                        return _Ended("same")
            cycle += self._until_stopped(self.limit - cycle)
        except SimulationError as error:
            return _Ended("check", text=str(error))
        return _Ended("done" if self.model["stopped"] else "hang", cycle - self.target.late)

    def _until_stopped(self, most: int) -> int:
        """Cycles run, at most so many."""
        begin = self.model.cycles
        try:
            self.model.run_until("stopped", 1, max(most, 0))
        except SimulationTimeout:
            pass
        return self.model.cycles - begin

    def _observed(self) -> Observed:
        probes = {name: self.model[name] for name in self.target.chip.probes}
        return self.target.observed(self._session.take(self._begun), probes)

    def _judged(self, flip: Flip, ended: _Ended, seen: Observed) -> Injection:
        counters = seen.counters != self.healthy.counters
        if seen.detected:
            return Injection(flip, Outcome.TRAP, 0, counters, seen.detected)
        if ended.kind == "hang":
            text = f"no end within {self.limit:,} cycles\n{seen.standing}"
            return Injection(flip, Outcome.HANG, 0, counters, text)
        wrong = first_wrong(self.healthy.outputs, seen.outputs)
        if wrong:
            return Injection(flip, Outcome.SDC, ended.cycles, counters, wrong)
        if ended.cycles != self.cycles:
            text = f"{ended.cycles:,} cycles instead of {self.cycles:,}"
            return Injection(flip, Outcome.TIMING, ended.cycles, counters, text)
        return Injection(flip, Outcome.MASKED, ended.cycles, counters)

    def close(self) -> None:
        self.model.close()


def first_wrong(right: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray]) -> str:
    """The first output element that differs, and how many do; "" if none does."""
    for name, want in right.items():
        got = seen.get(name)
        if got is None:
            return f"{name} is not there"
        places = np.argwhere(want != got)
        if len(places):
            at = tuple(map(int, places[0]))
            return f"{name}{list(at)} is {got[at]}, not {want[at]}; {len(places)} of {want.size} elements are wrong"
    return ""
