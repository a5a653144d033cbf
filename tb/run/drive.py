# SPDX-License-Identifier: Apache-2.0
"""A chip's inferences on its Verilated top, by the direct driver or by cocotb.

Both drivers do the same over the same build: poison all memories, let the chip put in what it begins with, release
reset; then for each inference set ports of the top, let the clock run until the top's output `stopped` is high, and
take what its monitors recorded. Python wakes at the end of an inference only. What is particular to a chip is a `Chip`,
which travels to the process that simulates, and the `Session` that it makes there.

Ports of every top: clk, rst, stopped (an inference has ended, or the chip has given up); X_clk, and X_rst where there
is one, of each further clock. Ports are set and read between cycles of `clk`, by both drivers: what has a clock of its
own sees the same under both, too.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from nncosim.tb.errors import SimulationError, SimulationTimeout
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.cocotb_runner import run_cocotb
from nncosim.tb.sim.model import Model, OtherClock
from nncosim.tb.sim.verilate import BuiltModel
from nncosim.tb.system.cache import cache_root
from nncosim.tb.system.progress import tell_cycles

__all__ = ["RESET_CYCLES", "Begun", "Chip", "Driven", "Session", "Window", "at_reset", "drive"]

RESET_CYCLES = 4

Read = Callable[[str], int]
"""The value of a port of the top."""

Begin = TypeVar("Begin")
Records = TypeVar("Records")
Taken = TypeVar("Taken", covariant=True)


@dataclass(frozen=True)
class Begun(Generic[Begin]):
    """How an inference begins: ports that keep a value, ports that are high for one cycle; `known`: the chip's own."""

    held: Mapping[str, int]
    pulsed: Sequence[str]
    known: Begin

    @property
    def first(self) -> dict[str, int]:
        """All of these ports, as they are in its first cycle."""
        return {**self.held, **dict.fromkeys(self.pulsed, 1)}


class Session(Protocol[Begin, Taken]):
    """A run of a chip, in the process that simulates it. `held`: inputs of the top from before reset on."""

    held: Mapping[str, int]

    def begin(self, number: int, read: Read) -> Begun[Begin]:
        """Prepare an inference. Before the first cycle `read` gives 0 for every port."""
        ...

    def take(self, begun: Begun[Begin]) -> Taken:
        """What was recorded of it; whether it ended or not."""
        ...


class Chip(Protocol[Taken]):
    """What is to be run; it can be pickled.

    failed: outputs of the top that end a run when they are not 0. probes: outputs that are read at its end.
    other_clocks: clock ports besides `clk`, such as those of engines with a `clock_hz` of their own; see
    `nncosim.tb.sim.model.Model`. period_ps: of `clk`.
    """

    failed: ClassVar[Sequence[str]]
    probes: ClassVar[Sequence[str]]

    @property
    def other_clocks(self) -> Mapping[str, OtherClock]: ...

    @property
    def period_ps(self) -> int: ...

    @property
    def inferences(self) -> int: ...

    def attach(self, memories: Backdoor, seed: int) -> Session[Any, Taken]:
        """Load what the chip begins with; the memories are full of poison."""
        ...


@dataclass(frozen=True)
class Driven(Generic[Records]):
    """What a run gave: of each inference, the last one perhaps unfinished; the probes at its end; why the simulation
    stopped itself, or ""."""

    raw: list[Records]
    probes: dict[str, int]
    stopped: str


@dataclass(frozen=True)
class Window:
    """A waveform to write: cycles in which all ports are in their range, see `nncosim.tb.sim.model.Model.trace`."""

    path: Path
    when: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def at_reset(port: str) -> int:
    """What a port reads before the first cycle."""
    return 0


def drive(
    built: BuiltModel, chip: Chip[Records], driver: str, limit: int, seed: int, trace: Window | None = None,
    watch: Callable[[int], None] | None = None, plusargs: Sequence[str] = (),
) -> Driven[Records]:
    """Run a chip's inferences.

    Args:
        driver: "direct" or "cocotb". limit: cycles of an inference. seed: of all poison.
        watch: told the cycles from time to time. plusargs: for the simulation, without the ``+``.
    """
    return (_direct if driver == "direct" else _cocotb)(built, chip, limit, seed, trace, watch, plusargs)


def _direct(
    built: BuiltModel, chip: Chip[Records], limit: int, seed: int, trace: Window | None,
    watch: Callable[[int], None] | None, plusargs: Sequence[str],
) -> Driven[Records]:
    raw: list[Records] = []
    stopped = ""
    with Model(built, seed=seed, period_ps=chip.period_ps, other_clocks=chip.other_clocks, watch=watch,
               plusargs=plusargs) as model:
        model.poison(seed)
        session = chip.attach(model, seed)
        for port, value in session.held.items():
            model[port] = value
        if trace is not None:
            model.trace(trace.path, when=trace.when)
        model.reset(cycles=RESET_CYCLES)
        for number in range(chip.inferences):
            begun = session.begin(number, model.__getitem__ if raw else at_reset)
            try:
                _until_stopped(model, begun, limit)
            except SimulationTimeout:
                raw.append(session.take(begun))
                break
            except SimulationError as error:
                stopped = str(error)
                raw.append(session.take(begun))
                break
            raw.append(session.take(begun))
            if any(model[port] for port in chip.failed):
                break
        probes = {name: model[name] for name in chip.probes}
    return Driven(raw, probes, stopped)


def _until_stopped(model: Model, begun: Begun[Begin], limit: int) -> None:
    for port, value in begun.first.items():
        model[port] = value
    model.tick()
    for port in begun.pulsed:
        model[port] = 0
    model.run_until("stopped", 1, limit)


def _cocotb(
    built: BuiltModel, chip: Chip[Records], limit: int, seed: int, trace: Window | None,
    watch: Callable[[int], None] | None, plusargs: Sequence[str],
) -> Driven[Records]:
    with tempfile.TemporaryDirectory(prefix="nncosim-") as name:
        folder = Path(name)
        (folder / "job.pickle").write_bytes(pickle.dumps({"chip": chip, "limit": limit}))
        run_cocotb(
            built, "nncosim.tb.run.cocotb_drive", folder, seed=seed, arguments={"folder": name, "seed": seed},
            trace=None if trace is None else trace.path, trace_when=None if trace is None else trace.when,
            limit_cycles=None,  # the test has its own
            plusargs=plusargs,
            watch=None if watch is None else partial(tell_cycles, folder, watch),
            keep_log=cache_root() / "logs" / f"cocotb-{built.top}-{built.key[:16]}.log",
        )
        result: Driven[Records] = pickle.loads((folder / "result.pickle").read_bytes())
    return result
