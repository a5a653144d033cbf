# SPDX-License-Identifier: Apache-2.0
"""Cycles are judged once: `nncosim run` and the regressions give the same verdict, at the same limits."""

from dataclasses import replace

import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import run_case
from nncosim.tb.report.pace import LAYER_CYCLES, LAYER_SHARE, TOTAL_SHARE, Pace, deviation, late
from nncosim.tb.report.report import build_report
from nncosim.tb.run.program import steps_of


@pytest.mark.parametrize(
    ("measured", "iss", "good"),
    [(1020, 1000, True), (980, 1000, True), (1021, 1000, False), (979, 1000, False), (1090, 1000, False),
     (102, 100, True), (103, 100, False), (10_200, 10_000, True), (10_201, 10_000, False), (None, 1000, False)],
)  # fmt: skip
def test_the_limit_of_a_total(measured, iss, good):
    assert (late([Pace(measured, iss)]) == ()) is good


@pytest.mark.parametrize(
    ("measured", "iss", "good"),
    [(1100, 1000, True), (900, 1000, True), (1101, 1000, False), (899, 1000, False), (8400, 8000, True),
     (8401, 8000, False), (7599, 8000, False), (None, 1000, False)],
)  # fmt: skip
def test_the_limit_of_a_layer(measured, iss, good):
    assert (late([], [("a", [Pace(measured, iss)])]) == ()) is good
    assert (TOTAL_SHARE, LAYER_SHARE, LAYER_CYCLES) == (0.02, 0.05, 100), "as the README has them"


def test_what_is_late_is_named_with_its_inference():
    found = late([Pace(1000, 1000), Pace(2000, 1000)], [("a", [Pace(1200, 1000), Pace(None, 1000)])])
    assert list(map(str, found)) == [
        "layer a: 1,200 cycles measured, 1,000 on the ISS",
        "layer a in inference 2: - cycles measured, 1,000 on the ISS",
        "total in inference 2: 2,000 cycles measured, 1,000 on the ISS",
    ]


def report_of(run):
    """As `nncosim run` makes it."""
    return build_report(
        run.compiled.network, PLATFORM, steps_of(run.compiled), run.compiled.iss_cycles, run.result, run.comparison,
        repeat_cycles=int(run.compiled.image.schedule["repeat_cycles"]), model="", settings={}, seed=1, input="",
        wall_seconds={}, versions={}, hashes={})  # fmt: skip


def with_cycles(run, change):
    """The run with the cycles of each inference and layer as `change` of (number, cycles) has them."""
    frames = []
    for number, frame in enumerate(run.result.frames):
        (interval,) = frame.intervals
        cycles = change(number, frame.cycles)
        frames.append(replace(frame, cycles=cycles, intervals=(replace(interval, end=cycles),)))
    return replace(run, result=replace(run.result, frames=tuple(frames)))


@pytest.fixture(scope="module")
def run():
    return run_case("conv3x3_16", "iss", frames=2)


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("percent", [-12, -9, -3, -2, -1, 0, 1, 2, 3, 9, 12])
def test_both_paths_judge_alike(run, frame, percent):
    changed = with_cycles(run, lambda number, cycles: cycles + int(cycles * percent / 100) * (number == frame))
    wrong = [str(each) for each in changed.late()]
    assert (report_of(changed).verdict == "pass") is (not wrong) is (abs(percent) <= 2)
    assert wrong == [str(each) for each in report_of(changed).late]
    assert wrong == [line for line in changed.problems() if "on the ISS" in line]


def test_nine_percent_more_in_all_fails_both(run):
    """It is under 100 cycles of 1,000, which one of the two once let pass."""
    changed = with_cycles(run, lambda number, cycles: cycles + 90 if number == 0 else cycles)
    assert report_of(changed).verdict == "cycles" and any(line.startswith("total: ") for line in changed.problems())


def test_the_planners_estimate_is_reported_and_judged_by_nobody(run):
    report = report_of(run)
    (layer,) = report.layers
    assert report.estimated_cycles == layer.estimated_cycles != report.cycles
    data = report.to_json()
    assert data["estimate_deviation"] == pytest.approx(deviation(report.estimated_cycles, report.cycles), abs=1e-6)
    assert data["layers"][0]["estimated_cycles"] == layer.estimated_cycles and report.verdict == "pass"
    assert deviation(None, 5) is None and deviation(5, None) is None and deviation(3, 2) == 0.5
