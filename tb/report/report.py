# SPDX-License-Identifier: Apache-2.0
"""The report of a run: what every layer computed, whether it is right, and where each cycle went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from nncosim.compiler.image.expected import Expected
from nncosim.kernels.base import Cost
from nncosim.platforms.base import Limits, Platform
from nncosim.platforms.parameters import Value, plain_value
from nncosim.tb.backend import Diagnosis, EntryFacts, Passage
from nncosim.tb.floor_plan import FloorPlan
from nncosim.tb.reference.compare import Comparison, Divergence
from nncosim.tb.report.pace import Late, Pace, deviation, late, verdict
from nncosim.tb.report.published import published_json
from nncosim.tb.report.requantization import Requantization
from nncosim.tb.report.schema import DivergenceJson, LayerJson, MemberJson, PassageJson, ReportJson
from nncosim.tb.sim.waves import Waveform

if TYPE_CHECKING:
    from nncosim.tb.report.clue import Clue

__all__ = [
    "LayerReport",
    "Member",
    "Report",
    "divergence_json",
    "rounded",
]

@dataclass(frozen=True)
class Member:
    """One operator of a schedule step that runs several. `first`: the first wrong element of what it makes."""

    name: str
    op: str
    macs: int
    exact: bool
    first: Divergence | None

    def to_json(self) -> MemberJson:
        return {
            "name": self.name,
            "op": self.op,
            "macs": self.macs,
            "bit_exact": self.exact,
            "first_divergence": divergence_json(self.first),
        }


@dataclass(frozen=True)
class LayerReport:
    """One schedule step. `cycles`, `start` and `counters` are None and empty if the run stopped before its end.

    `start`: since the first inference began. `cycles`, `expected` (predicted), `counters`: in the first inference;
    `later`: in each inference after it.
    `limits`: by which the cycles are judged.
    `counters`: instance of an engine -> category -> cycles, as the bench read them; each one's add up to `cycles`.
    `instances`: those that the layer ran on, of what has counters.
    `tensors`: how many tensors were compared, `first` the first wrong element among them.
    `members`: the operators of a fused group, in order; empty where the step is one operator.
    """

    name: str
    op: str
    engine: str
    macs: int
    expected: Cost
    cycles: int | None
    limits: Limits
    counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    instances: tuple[str, ...] = ()
    transfers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    exact: bool = False
    first: Divergence | None = None
    requantization: str = ""
    later: tuple[Pace, ...] = ()
    members: tuple[Member, ...] = ()
    estimated_cycles: int | None = None
    start: int | None = None

    @property
    def mac_per_cycle(self) -> float | None:
        return self.macs / self.cycles if self.cycles else None

    @property
    def paces(self) -> tuple[Pace, ...]:
        """One an inference."""
        return (Pace(self.cycles, self.expected), *self.later)

    @property
    def late_frames(self) -> tuple[int, ...]:
        """The inferences in which this layer did not take the cycles predicted."""
        return tuple(found.frame for found in late(self.limits, (), [(self.name, self.paces)]))

    @property
    def in_time(self) -> bool:
        """In every inference."""
        return not self.late_frames

    def other_cycles(self) -> dict[str, float]:
        """Category -> share of this layer's cycles that its engine (mean of all instances) was not busy."""
        shares: dict[str, float] = {}
        for instance in self.instances:
            for category, cycles in self.counters[instance].items():
                if category != "busy" and cycles and self.cycles:
                    shares[category] = shares.get(category, 0.0) + cycles / self.cycles / len(self.instances)
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def to_json(self) -> LayerJson:
        return {
            "name": self.name,
            "op": self.op,
            "members": [member.to_json() for member in self.members],
            "engine": self.engine,
            "instances": list(self.instances),
            "macs": self.macs,
            "start": self.start,
            "cycles": self.cycles,
            "iss_cycles": self.expected.best,
            "bounds": list(self.expected.bounds),
            "estimated_cycles": self.estimated_cycles,
            "estimate_deviation": rounded(deviation(self.estimated_cycles, self.cycles), 6),
            "mac_per_cycle": rounded(self.mac_per_cycle),
            "bit_exact": self.exact,
            "first_divergence": divergence_json(self.first),
            "requantization": self.requantization,
            "in_time": self.in_time,
            "frames": [pace.cycles for pace in self.paces],
            "iss_frames": [pace.expected.best for pace in self.paces],
            "counters": {engine: dict(c) for engine, c in self.counters.items()},
            "transfers": {kind: dict(c) for kind, c in self.transfers.items()},
        }


@dataclass(frozen=True)
class Report:
    """What `nncosim run` prints and writes. `macs`: of the graph, for one inference. `topology`: see `Published`.

    `inferences`: what was predicted of each, the first since reset at least. `frame_cycles`: what each took, from its
    start to its end. `intervals`: from the end of each to the end of the next, where inferences overlap.
    `remarks`: what was assumed of the model, or is left to the host.
    `date`: when it ran, ISO 8601. `clue`: of a failure. `waveform`: that was written.
    `entry`: of image and inputs that came in by the machine's own port, and at what cost: "boot", "stream".
    `interval_cycles`: predicted, see `nncosim.tb.backend.HasInterval`; None: not known.
    `passages`: of each inference, when its inputs and outputs passed the machine's ports.
    """

    model: str
    platform: Platform
    settings: Mapping[str, Value]
    backend: str
    driver: str | None
    seed: int
    input: str
    macs: int
    topology: str
    layers: tuple[LayerReport, ...]
    frame_cycles: tuple[int, ...]
    inferences: tuple[Expected, ...]
    comparison: Comparison
    requantization: Requantization
    diagnosis: Diagnosis | None
    wall_seconds: Mapping[str, float]
    versions: Mapping[str, str]
    hashes: Mapping[str, str | None]
    command: str = ""
    intervals: tuple[int, ...] = ()
    date: str = ""
    clue: Clue | None = None
    waveform: Waveform | None = None
    entry: EntryFacts = field(default_factory=EntryFacts)
    remarks: tuple[str, ...] = ()
    passages: tuple[Mapping[str, Passage], ...] = ()
    floor_plan: FloorPlan | None = None
    compiler_options: Mapping[str, str] = field(default_factory=dict)
    interval_cycles: float | None = None

    @property
    def expected(self) -> Cost:
        """Cycles predicted of the first inference since reset."""
        return self.inferences[0].cycles

    @property
    def iss_cycles(self) -> int:
        """The best estimate of `expected`."""
        return self.expected.best

    @property
    def cycles(self) -> int | None:
        """Of the first inference, None if it did not end."""
        return self.frame_cycles[0] if self.frame_cycles else None

    @property
    def mac_per_cycle(self) -> float | None:
        return self.macs / self.cycles if self.cycles else None

    @property
    def utilization(self) -> float | None:
        """MAC per cycle as a share of the platform's peak."""
        peak = self.platform.peak_macs_per_cycle
        return self.mac_per_cycle / peak if self.mac_per_cycle is not None and peak else None

    @property
    def paces(self) -> tuple[Pace, ...]:
        """Cycles, and those predicted, of every inference that ended."""
        return tuple(Pace(c, each.cycles) for c, each in zip(self.frame_cycles, self.inferences, strict=False))

    @property
    def interval_paces(self) -> tuple[Pace, ...]:
        """From the end of each inference to the end of the next, where inferences overlap."""
        return tuple(Pace(c, each.interval) for c, each in zip(self.intervals, self.inferences[1:], strict=False))

    @property
    def steady(self) -> tuple[float, float] | None:
        """Cycles from one inference to the next, measured and predicted: the mean of the later half of a run, in which
        the pipeline is full. None where inferences do not overlap."""
        late = self.interval_paces[len(self.interval_paces) // 2:]
        if not late:
            return None
        return fmean(pace.cycles or 0 for pace in late), fmean(pace.expected.best for pace in late)

    @property
    def late(self) -> tuple[Late, ...]:
        """Layers and totals that did not take the cycles predicted."""
        layers = [(layer.name, layer.paces) for layer in self.layers]
        return late(self.platform.limits, self.paces, layers, self.interval_paces)

    @property
    def cycles_hold(self) -> bool:
        """Total and every layer of every inference within the limits; False if none ended."""
        return bool(self.frame_cycles) and not self.late

    @property
    def estimated_cycles(self) -> int | None:
        """Of an inference, by the planner alone; None where the image does not say."""
        known = [layer.estimated_cycles for layer in self.layers if layer.estimated_cycles is not None]
        return sum(known) if self.layers and len(known) == len(self.layers) else None

    @property
    def verdict(self) -> str:
        """See `nncosim.tb.report.pace.verdict`."""
        return verdict(self.diagnosis, self.comparison, len(self.frame_cycles), self.late)

    @property
    def passed(self) -> bool:
        return self.verdict == "pass"

    def to_json(self) -> ReportJson:
        first = self.comparison.first
        return {
            "model": self.model,
            "platform": self.platform.name,
            "settings": {name: plain_value(value) for name, value in self.settings.items()},
            "compiler_options": dict(self.compiler_options),
            "backend": self.backend,
            "driver": self.driver,
            "verdict": self.verdict,
            "bit_exact": self.comparison.bit_exact,
            "first_divergence": divergence_json(first),
            "diagnosis": {"kind": self.diagnosis.kind, "text": self.diagnosis.text} if self.diagnosis else None,
            "seed": self.seed,
            "input": self.input,
            "remarks": list(self.remarks),
            "macs": self.macs,
            "topology": self.topology,
            "cycles": self.cycles,
            "frames": list(self.frame_cycles),
            "iss_frames": [pace.expected.best for pace in self.paces],
            "intervals": list(self.intervals),
            "iss_intervals": [pace.expected.best for pace in self.interval_paces],
            "interval_cycles": rounded(self.interval_cycles),
            "steady_interval": rounded(self.steady[0]) if self.steady else None,
            "iss_cycles": self.iss_cycles,
            "bounds": list(self.expected.bounds),
            "limits": vars(self.platform.limits),
            "estimated_cycles": self.estimated_cycles,
            "estimate_deviation": rounded(deviation(self.estimated_cycles, self.cycles), 6),
            "cycles_hold": self.cycles_hold,
            "mac_per_cycle": rounded(self.mac_per_cycle),
            "utilization": rounded(self.utilization, 6),
            "requantization": self.requantization.to_json(),
            "tensors": {
                "compared": len(self.comparison.tensors),
                "elements": self.comparison.elements,
                "wrong": sum(not t.exact for t in self.comparison.tensors),
                "from_memory": self.comparison.from_memory,
                "inputs": len(self.comparison.inputs),
            },
            "wall_seconds": {key: round(value, 3) for key, value in self.wall_seconds.items()},
            "layers": [layer.to_json() for layer in self.layers],
            "entry": self.entry,
            "passages": [_passages_json(each) for each in self.passages],
            "published": published_json(self.platform, self.topology, self.cycles, rounded(self.mac_per_cycle)),
            "versions": dict(self.versions),
            "hashes": dict(self.hashes),
            "command": self.command,
            "date": self.date,
            "clue": self.clue.to_json() if self.clue else None,
            "waveform": self.waveform.to_json() if self.waveform else None,
        }


def _passages_json(passages: Mapping[str, Passage]) -> dict[str, PassageJson]:
    return {name: {"port": each.port, "start": each.start, "end": each.end} for name, each in passages.items()}


def rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def divergence_json(first: Divergence | None) -> DivergenceJson | None:
    if first is None:
        return None
    return {
        "tensor": first.tensor,
        "index": list(first.told),
        "expected": first.expected,
        "got": first.got,
        "frame": first.frame,
        "note": first.note,
    }
