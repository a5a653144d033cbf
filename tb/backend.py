# SPDX-License-Identifier: Apache-2.0
"""One run interface for every platform and every backend (iss, rtl; later netlist).

A platform's own module in `nncosim.tb.<platform>` provides a `Bench` and registers nothing: it is found by the
platform's name (`get_bench`). A bench takes the bytes of an image and integer inputs, runs them on one of its
backends, and gives back every tensor as it was written and, where it stays, as it lies in memory; every cycle with
what each engine did in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypedDict, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value
from nncosim.platforms.parts import Part
from nncosim.tb.errors import BenchError
from nncosim.tb.fault_target import FaultTarget
from nncosim.tb.floor_plan import FloorPlan
from nncosim.tb.lockstep import Channel, Difference
from nncosim.tb.sim.waves import Trace, Waveform

if TYPE_CHECKING:
    from nncosim.tb.timing.sta import TimingReport

__all__ = [
    "Activity", "AnyBench", "Bench", "BootFacts", "Diagnosis", "ElementOrigin", "Entering", "EntryFacts", "Frame",
    "GateChoice", "Gated", "HasInterval", "Injectable", "Interval", "Mutable", "MutationPlan", "Observable", "Passage",
    "Patchable", "RunResult", "StreamFacts", "Timed", "get_bench", "predicted_interval", "register_bench",
]  # fmt: skip


PlatformT = TypeVar("PlatformT", bound=Platform, contravariant=True)


@dataclass(frozen=True)
class Interval:
    """One schedule step (a layer, or a fused group) as it ran.

    `step`: its index in the image's schedule. `start`, `end`: cycles since the frame began. Steps may overlap; on a
    machine that does one after the other, a step's start is the completion of the one before it.
    `counters`: engine -> category -> cycles within [start, end), the categories adding up to end - start ("busy",
    "wait_data", "wait_port", "wait_host", "control", "idle").
    `transfers`: kind of transfer between memories -> what was counted of it, where the machine counts that; names are
    the platform's own.
    """

    step: int
    start: int
    end: int
    counters: Mapping[str, Mapping[str, int]]
    transfers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Activity:
    """What one engine did in one inference, as n spans, ascending, without gaps and without overlaps.

    `start`, `end`: int64 (n,), cycles since the frame began; no span reaches over the end of an `Interval`.
    `kind`: (n,) index into `kinds`, a few words that a picture gives colours ("compute", "load weights", "store",
        "control", "idle"; "wait: input" and the like for waiting, with its reason).
    `text`: (n,) index into `texts`: the same in detail. `buffer`: (n,) index into `buffers`, what it read or wrote in a
        memory that the memory map shows, or -1.
    `step`: (n,) the schedule step it served, or -1. `bytes`: (n,) moved between memories in the span; a
        transfer cut in several spans counts in its first.
    `cycles`: category (as in `Interval.counters`) -> (n,); of each span they add up to end - start, and those of the
        spans within an interval to the interval's counters.
    """

    engine: str
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    kinds: tuple[str, ...]
    kind: npt.NDArray[np.int64]
    texts: tuple[str, ...]
    text: npt.NDArray[np.int64]
    buffers: tuple[str, ...]
    buffer: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    cycles: Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class ElementOrigin:
    """Where an element of a tensor lies, and what wrote it last.

    `address`: physical, of its first byte; of a memory that each engine has for itself, from that memory's begin.
    `cycle`: since reset, in which it was written; None: nothing wrote it. `engine`: that wrote it; "": not known.
    """

    memory: str
    address: int
    cycle: int | None = None
    engine: str = ""


@dataclass(frozen=True)
class Passage:
    """When a graph input or output passed a port of the machine. `port`: a mover of the platform, or one of its
    instances, as in `Interval.counters`. `start`, `end`: cycles since the run began; the first word passed in cycle
    `start`, the last before `end`.
    """

    port: str
    start: int
    end: int


@dataclass(frozen=True)
class Frame:
    """One inference. `cycles`: from its start (reset release, the request for it, its inputs' entering) to its end (the
    machine's own completion, its outputs' leaving); 0 if it did not end. `start`: cycles since the run began; None:
    when the inference before it ended. Inferences may overlap.

    `tensors`: each tensor that an operator makes, as integers, captured on its way into memory. One of which no byte
    was written is absent; bytes never written keep the poison, so they show in a comparison.
    `memory`: tensors read back after an inference that ended, from the memory where a host would find them: each one
    that the image's tile table calls `kept`, all graph outputs among them. The bench poisons these places before it
    starts the inference, so that what the one before left there is not taken for a result.
    `loaded`: graph inputs, read back from memory when they had been put there, before the start.
    `activity`: what each engine did when, of the first inference, where the bench can tell; up to where it stopped, if
        it did not end.
    `origin`: (tensor, index) to where that element comes from, where the bench can tell.
    `passages`: graph inputs and outputs that went through the machine's own ports; not those that a back door put
        there, or that the host finds in memory.
    """

    cycles: int
    tensors: Mapping[str, np.ndarray]
    intervals: tuple[Interval, ...]
    activity: tuple[Activity, ...] = ()
    memory: Mapping[str, np.ndarray] = field(default_factory=dict)
    loaded: Mapping[str, np.ndarray] = field(default_factory=dict)
    origin: Callable[[str, tuple[int, ...]], ElementOrigin | None] | None = field(default=None, compare=False)
    start: int | None = None
    passages: Mapping[str, Passage] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """Why a run stopped early: `kind` "trap", "hang" (no end within the limit) or "check" (a protocol check failed).

    `text` says who waits for whom, one line an engine.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Entering:
    """How image and inputs come in. Without either, by back doors.

    bus: over the machine's own port, before its host begins. stream: inputs over that port, each while the inference
    before it runs.
    """

    bus: bool = False
    stream: bool = False

    def __bool__(self) -> bool:
        return self.bus or self.stream


class BootFacts(TypedDict):
    """What came in by the entry port before the host began. `cycles`: in all; `port_share`: of them, in which it was
    busy. `input_bytes`: of `bytes`, the first input's."""

    bytes: int
    input_bytes: int
    cycles: int
    port_share: float


class StreamFacts(TypedDict):
    """Inputs that came in by the entry port while inferences ran. `input_bytes`, `input_cycles`: of one that comes
    alone. `cycles_without`, `cycles_with`: from one inference to the next, if each waited for its input, and as it was
    (None of a single one). `words`: moved; cycles that they waited for the memory, in all and the longest, and for
    the place of the input before."""

    inputs: int
    input_bytes: int
    input_cycles: int
    cycles_without: int
    cycles_with: int | None
    words: int
    wait_port: int
    longest_wait: int
    wait_input: int


class EntryFacts(TypedDict, total=False):
    """What the machine's own port was used for."""

    boot: BootFacts
    stream: StreamFacts


@dataclass(frozen=True)
class RunResult:
    backend: str
    driver: str | None
    frames: tuple[Frame, ...]
    diagnosis: Diagnosis | None = None
    wall_seconds: Mapping[str, float] = field(default_factory=dict)  # "build", "simulate"
    rtl_hash: str | None = None  # of what was built, where it is RTL
    entry: EntryFacts = field(default_factory=EntryFacts)
    waveform: Waveform | None = None  # that was written
    floor_plan: FloorPlan | None = None  # of a machine whose parts have places
    channels: tuple[Channel, ...] = ()  # of a run that was observed
    modelled: tuple[tuple[Channel, Channel], ...] = ()  # of it too: what a block did, and what its model does with that


class Bench(Protocol[PlatformT]):
    """A platform's test bench."""

    backends: tuple[str, ...]
    drivers: Mapping[str, tuple[str, ...]]  # backend -> drivers, the default first; () where there is no choice
    # Optional: `waveforms`, the backends that can write one. Only they are given a `trace`.
    # Optional: `entries`, the backends with a port for image and inputs. Only they are given `entering`.
    # Optional: `hazard_checks`, the backends that check latencies of a program. Only they are given `hazards`.

    def run(
        self,
        platform: PlatformT,
        image: bytes,
        inputs: Sequence[Mapping[str, np.ndarray]],
        *,
        backend: str,
        driver: str | None = None,
        limit_cycles: int | None = None,
        seed: int = 0,
        trace: Trace | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Run one inference per element of `inputs`, back to back without reset.

        Args:
            image: the bytes of an ELF image.
            inputs: per frame, each graph input by name as integers of its tensor's shape.
            limit_cycles: a frame past this ends the run with a "hang" diagnosis.
            seed: of the poison in memories and registers.
            trace: a waveform to write, and of which part of the run. A backend without waveforms raises BenchError.
            progress: called with short texts during long steps.
        """
        ...


@runtime_checkable
class HasInterval(Protocol[PlatformT]):
    """A bench of a machine that takes the next inputs as soon as it has room."""

    def interval(self, platform: PlatformT, image: bytes) -> float | None:
        """Predicted: the mean cycles from an inference's end to the next one's in a long stream without gaps; None: it
        comes to no end."""


@runtime_checkable
class Observable(Protocol[PlatformT]):
    """A bench whose runs can be laid beside each other, event by event.

    `observable`: the backends that can; only they are given `observe`, and then a run's result has `channels`.
    """

    observable: ClassVar[tuple[str, ...]]

    def standing(
        self, platform: PlatformT, image: bytes, inputs: Sequence[Mapping[str, np.ndarray]], seed: int,
        first: Difference,
    ) -> list[str]:
        """Where everybody stands in a right run in the cycle of a difference, a line each; those near its block if they
        are too many."""
        ...

    def module_of(self, platform: PlatformT, block: str) -> str:
        """The module of `nncosim.hdl` that describes a block which a channel blames."""
        ...


@runtime_checkable
class Patchable(Protocol[PlatformT]):
    """A bench whose RTL can be patched for a run. `patchable`: the backends that can; only they are given `patch`, a
    `nncosim.tb.sim.patches.RtlPatch` or None."""

    patchable: ClassVar[tuple[str, ...]]

    def verilog(self, platform: PlatformT) -> Mapping[str, str]:
        """What is patched: file name to text."""
        ...


@dataclass(frozen=True)
class GateChoice:
    """What of a machine is gates in a run on a netlist. `blocks`: names of the bench's, or "all"; the rest is RTL.
    `liberty`: file of the cell library; None: the default one's. `beside_rtl`: the RTL of blocks runs beside their
    gates, and the first register that differs is a failure."""

    blocks: tuple[str, ...] = ("all",)
    liberty: Path | None = None
    beside_rtl: bool = False


@runtime_checkable
class Gated(Protocol):
    """A bench whose machine can be mapped to gates. `gates`: the backends that run them, which alone are given `gates`,
    a `GateChoice` or None. `gate_blocks`: what can be gates while the rest is RTL."""

    gates: ClassVar[tuple[str, ...]]
    gate_blocks: ClassVar[tuple[str, ...]]


@runtime_checkable
class Timed(Protocol[PlatformT]):
    """A bench whose machine's blocks can be mapped to a cell library and timed. `timing_blocks`: name of each to what
    it is, in a few words; some may lie within others."""

    timing_blocks: ClassVar[Mapping[str, str]]

    def time_block(self, platform: PlatformT, block: str, liberty: Path) -> TimingReport:
        """A block of `timing_blocks`, by the cells of a liberty file, as `nncosim.tb.timing.sta.time_design` has it.
        The first time may take minutes."""
        ...


@runtime_checkable
class Injectable(Protocol[PlatformT]):
    """A bench whose machine takes faults. `injectable`: the backends that can."""

    injectable: ClassVar[tuple[str, ...]]

    def fault_target(
        self, platform: PlatformT, image: bytes, inputs: Mapping[str, np.ndarray],
        progress: Callable[[str], None] | None = None,
    ) -> FaultTarget:
        """The machine with a program and the inputs of one inference, built."""
        ...


@dataclass(frozen=True)
class MutationPlan:
    """How bugs are planted in a platform's RTL (`nncosim.tb.mutation`).

    top: the module of `nncosim.hdl` that describes all of it: its blocks are the modules which that one reaches.
    machines: parameters of small machines that together have all there is to emit; `network` (a path in the project)
    runs on the first. debug: a module to run with --platform, --set and --json, which says in that file where RTL and
    simulator part `first`, on networks that use all of it; "" for none. tools: modules of `nncosim.hdl` that hardware
    is emitted with, and that are none.
    """

    top: str
    machines: tuple[Mapping[str, Value], ...]
    network: str
    debug: str = ""
    tools: tuple[str, ...] = ("nncosim.hdl.emit", "nncosim.hdl.names")


@runtime_checkable
class Mutable(Protocol[PlatformT]):
    """A bench of RTL in which bugs can be planted, to see whether the regressions notice."""

    mutation: ClassVar[MutationPlan]

    def verilog(self, platform: PlatformT) -> Mapping[str, str]:
        """All RTL of the platform's own: file name to text."""
        ...


AnyBench: TypeAlias = Bench[Any]
"""That of a platform which the shared layers need not know."""

BENCHES: Part[AnyBench] = Part("nncosim.tb.{}.bench", "BENCH")


def register_bench(name: str, bench: AnyBench) -> None:
    """Add the bench of a platform that is defined outside the package."""
    BENCHES.register(name, bench)


def get_bench(platform: Platform) -> AnyBench:
    """The bench of a platform: `BENCH` in `nncosim.tb.<parts>.bench`.

    Raises:
        BenchError: the platform has none.
    """
    bench = BENCHES.find(platform.parts)
    if bench is None:
        where = BENCHES.module(platform.parts)
        raise BenchError(f"platform {platform.name!r} has no test bench (no module {where})")
    return bench


def predicted_interval(platform: Platform, image: bytes) -> float | None:
    """As of `HasInterval`; None of a platform whose bench is none."""
    bench = BENCHES.find(platform.name)
    return bench.interval(platform, image) if isinstance(bench, HasInterval) else None
