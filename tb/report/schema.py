# SPDX-License-Identifier: Apache-2.0
"""The form of report.json: what `Report.to_json` writes, and what draws it reads. README says what each key means."""

from __future__ import annotations

from typing import TypedDict

from nncosim.tb.backend import EntryFacts
from nncosim.tb.sim.waves import WaveformJson

__all__ = [
    "ClueJson", "DiagnosisJson", "DivergenceJson", "LayerJson", "MemberJson", "PassageJson", "PublishedJson",
    "ReportJson", "RequantizationJson", "TensorsJson",
]  # fmt: skip


class DivergenceJson(TypedDict):
    tensor: str
    index: list[int]
    expected: int
    got: int | None
    frame: int
    note: str


class DiagnosisJson(TypedDict):
    kind: str
    text: str


class ClueJson(TypedDict):
    layer: str | None
    memory: str | None
    address: int | None
    cycle: int | None
    engine: str | None
    trace: str | None


class RequantizationJson(TypedDict):
    layers: int
    exact_layers: int
    max_lsb: int
    inexact: list[str]
    deviations: dict[str, str]


class TensorsJson(TypedDict):
    compared: int
    elements: int
    wrong: int
    from_memory: int
    inputs: int


class PublishedJson(TypedDict):
    network: str
    quantity: str
    value: float
    unit: str
    source: str
    configuration: str
    topology: str
    published_for: str
    default_machine: bool
    this_network: bool
    measured: float | None


class PassageJson(TypedDict):
    port: str
    start: int
    end: int


class MemberJson(TypedDict):
    name: str
    op: str
    macs: int
    bit_exact: bool
    first_divergence: DivergenceJson | None


class LayerJson(TypedDict):
    name: str
    op: str
    members: list[MemberJson]
    engine: str
    instances: list[str]
    macs: int
    start: int | None
    cycles: int | None
    iss_cycles: int
    bounds: list[int]
    estimated_cycles: int | None
    estimate_deviation: float | None
    mac_per_cycle: float | None
    bit_exact: bool
    first_divergence: DivergenceJson | None
    requantization: str
    in_time: bool
    frames: list[int | None]
    iss_frames: list[int]
    counters: dict[str, dict[str, int]]
    transfers: dict[str, dict[str, int]]


class ReportJson(TypedDict):
    model: str
    platform: str
    settings: dict[str, str | int | float]
    compiler_options: dict[str, str]
    backend: str
    driver: str | None
    verdict: str
    bit_exact: bool
    first_divergence: DivergenceJson | None
    diagnosis: DiagnosisJson | None
    seed: int
    input: str
    macs: int
    topology: str
    cycles: int | None
    frames: list[int]
    iss_frames: list[int]
    intervals: list[int]
    iss_intervals: list[int]
    interval_cycles: float | None
    steady_interval: float | None
    iss_cycles: int
    bounds: list[int]
    limits: dict[str, float]
    estimated_cycles: int | None
    estimate_deviation: float | None
    cycles_hold: bool
    mac_per_cycle: float | None
    utilization: float | None
    requantization: RequantizationJson
    tensors: TensorsJson
    wall_seconds: dict[str, float]
    layers: list[LayerJson]
    entry: EntryFacts
    passages: list[dict[str, PassageJson]]
    remarks: list[str]
    published: list[PublishedJson]
    versions: dict[str, str]
    hashes: dict[str, str | None]
    command: str
    date: str
    clue: ClueJson | None
    waveform: WaveformJson | None
