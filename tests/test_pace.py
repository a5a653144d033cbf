# SPDX-License-Identifier: Apache-2.0
"""Cycles are judged once: `nncosim run` and the regressions give the same verdict, at the same limits."""

from dataclasses import replace

import pytest
from nncosim.kernels.base import Cost
from nncosim.platforms.base import Limits
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.harness import run_case
from nncosim.tb.backend import Diagnosis, get_bench
from nncosim.tb.report.pace import Pace, deviation, late, verdict
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.program import compile_model

LIMITS = Limits()


def exact(measured, iss):
    return Pace(measured, Cost.exactly(iss))


@pytest.mark.parametrize(
    ("measured", "iss", "good"),
    [(1020, 1000, True), (980, 1000, True), (1021, 1000, False), (979, 1000, False), (1090, 1000, False),
     (102, 100, True), (103, 100, False), (10_200, 10_000, True), (10_201, 10_000, False), (None, 1000, False)],
)  # fmt: skip
def test_the_limit_of_a_total(measured, iss, good):
    assert (late(LIMITS, [exact(measured, iss)]) == ()) is good


@pytest.mark.parametrize(
    ("measured", "iss", "good"),
    [(1100, 1000, True), (900, 1000, True), (1101, 1000, False), (899, 1000, False), (8400, 8000, True),
     (8401, 8000, False), (7599, 8000, False), (None, 1000, False)],
)  # fmt: skip
def test_the_limit_of_a_layer(measured, iss, good):
    assert (late(LIMITS, [], [("a", [exact(measured, iss)])]) == ()) is good
    assert Limits(0.02, 0, 0.05, 100) == PLATFORM.limits, "as the README has them"


@pytest.mark.parametrize("measured", [899, 900, 1000, 1200, 1201])
def test_proved_bounds_are_limits_to_the_cycle(measured):
    """A platform that proves its bounds allows nothing beyond them, and anything between them."""
    proved, pace = Limits(0, 0, 0, 0), Pace(measured, Cost(900, 1000, 1200))
    good = 900 <= measured <= 1200
    assert (late(proved, [pace]) == ()) is (late(proved, [], [("a", [pace])]) == ()) is good


@pytest.mark.parametrize(("measured", "good"), [(980, True), (1020, True), (979, False), (1021, False)])
def test_what_has_no_bounds_is_held_against_the_best_estimate(measured, good):
    wrong = late(LIMITS, [Pace(measured, Cost.estimated(1000))])
    assert (wrong == ()) is good
    assert good or str(wrong[0]) == f"total: {measured:,} cycles measured, 1,000 predicted"


@pytest.mark.parametrize(("measured", "good"), [(879, False), (880, True), (1224, True), (1225, False)])
def test_shares_are_of_the_bound_that_is_passed(measured, good):
    limits = Limits(0.02, 20)
    (*wrong,) = late(limits, [Pace(measured, Cost(900, 1000, 1200))])
    assert (wrong == []) is good
    said = f"total: {measured:,} cycles measured, 1,000 (900 to 1,200) predicted"
    assert good or str(wrong[0]) == said


def test_what_is_late_is_named_with_its_inference():
    found = late(LIMITS, [exact(1000, 1000), exact(2000, 1000)], [("a", [exact(1200, 1000), exact(None, 1000)])])
    assert list(map(str, found)) == [
        "layer a: 1,200 cycles measured, 1,000 predicted",
        "layer a in inference 2: - cycles measured, 1,000 predicted",
        "total in inference 2: 2,000 cycles measured, 1,000 predicted",
    ]


def test_bits_come_before_cycles_and_a_stop_before_both(run):
    (other,) = late(LIMITS, [exact(2000, 1000)])
    wrong = replace(run.comparison, tensors=(replace(run.comparison.tensors[0], wrong=1),))
    assert verdict(None, run.comparison, 1, ()) == "pass"
    assert verdict(None, run.comparison, 1, (other,)) == verdict(None, run.comparison, 0, ()) == "cycles"
    assert verdict(None, wrong, 1, (other,)) == "mismatch"
    assert verdict(Diagnosis("trap", ""), wrong, 1, (other,)) == "trap"


# ---- the two doors

def with_cycles(result, change):
    """The result with the cycles of each inference and layer as `change` of (number, cycles) has them."""
    frames = []
    for number, frame in enumerate(result.frames):
        (interval,) = frame.intervals
        cycles = change(number, frame.cycles)
        frames.append(replace(frame, cycles=cycles, intervals=(replace(interval, end=cycles),)))
    return replace(result, frames=tuple(frames))


@pytest.fixture(scope="module")
def run():
    return run_case("conv3x3_16", "iss", frames=2)


@pytest.fixture
def both(run, tmp_path, monkeypatch):
    """A function: the verdicts of `nncosim run` and of the regressions on the run, with its cycles changed."""
    model = tmp_path / "model.onnx"
    network = replace(run.compiled.network, ops=tuple(replace(op, requant=None) for op in run.compiled.network.ops))
    bench = get_bench(PLATFORM)

    def judged(change, platform=PLATFORM):
        result = with_cycles(run.result, change)
        program = compile_model(model, b"", platform, {}, network=network)
        monkeypatch.setattr(type(bench), "run", lambda *_, **__: result)
        monkeypatch.setattr("nncosim.tb.run.flow.make_frames", lambda *_: (list(run.inputs), "given"))
        one = run_program(program, platform, {}, RunOptions(backend="iss")).report
        changed = replace(run, result=result, compiled=replace(run.compiled, platform=platform))
        problems = [line for line in changed.problems() if "add up" not in line and "by kind" not in line]
        assert list(map(str, one.late)) == list(map(str, changed.report.late)) == problems
        assert one.verdict == changed.report.verdict and (one.verdict == "pass") is (not problems)
        return one.verdict

    return judged


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("percent", [-12, -9, -3, -2, -1, 0, 1, 2, 3, 9, 12])
def test_both_paths_judge_alike(both, frame, percent):
    found = both(lambda number, cycles: cycles + int(cycles * percent / 100) * (number == frame))
    assert (found == "pass") is (abs(percent) <= 2)


def test_nine_percent_more_in_all_fails_both(both):
    """It is under 100 cycles of 1,000, which one of the two once let pass."""
    assert both(lambda number, cycles: cycles + 90 if number == 0 else cycles) == "cycles"


@pytest.mark.parametrize("limits", [Limits(0, 0, 0, 0), Limits(0, 7, 0, 7), Limits(0.1, 0, 0.1, 0)])
def test_both_take_the_limits_of_the_platform(both, run, limits, monkeypatch):
    monkeypatch.setattr(J3dai, "limits", limits)
    most = max(int(limits.total_share * run.cycles), limits.total_cycles)
    for more, good in ((most, True), (most + 1, False), (-most, True), (-most - 1, False)):
        found = both(lambda number, cycles, more=more: cycles + more * (number == 0))
        assert found == ("pass" if good else "cycles"), more


def test_the_planners_estimate_is_reported_and_judged_by_nobody(run):
    report = run.report
    (layer,) = report.layers
    assert report.estimated_cycles == layer.estimated_cycles != report.cycles
    data = report.to_json()
    assert data["estimate_deviation"] == pytest.approx(deviation(report.estimated_cycles, report.cycles), abs=1e-6)
    assert data["layers"][0]["estimated_cycles"] == layer.estimated_cycles and report.verdict == "pass"
    assert data["bounds"] == data["layers"][0]["bounds"] == [run.cycles] * 2 and data["limits"] == vars(PLATFORM.limits)
    assert deviation(None, 5) is None and deviation(5, None) is None and deviation(3, 2) == 0.5
