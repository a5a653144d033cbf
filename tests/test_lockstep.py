# SPDX-License-Identifier: Apache-2.0
"""Two runs laid beside each other: the first difference in time, whatever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import toy
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import BenchError
from nncosim.tb.lockstep import Channel, differences
from toy_models import branching_model, save

EVENT = np.dtype([("cycle", "<u8"), ("word", "<u4"), ("data", "u1", (4,))])
COUNT = 50


def channel(name: str, seed: int, count: int = COUNT) -> Channel:
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["cycle"] = np.cumsum(rng.integers(1, 9, count))
    events["word"], events["data"] = rng.integers(1 << 16, size=count), rng.integers(256, size=(count, 4))
    return Channel(name, events, lambda want, got: f"{name}: {want is not None} {got is not None}",
                   lambda event: f"word {event['word']}")  # fmt: skip


def machine(count: int = COUNT) -> list[Channel]:
    return [channel(name, seed, count) for seed, name in enumerate(("first", "second", "third"))]


def changed(channels: list[Channel], index: int, events: npt.NDArray[np.void]) -> list[Channel]:
    return [replace(each, events=events) if k == index else each for k, each in enumerate(channels)]


def test_equal_runs() -> None:
    assert differences(machine(), machine()) == []
    assert differences(machine(0), machine(0)) == []


@pytest.mark.parametrize(("field", "at"), [("cycle", 0), ("word", 17), ("data", COUNT - 1)])
def test_a_field_of_one_event(field: str, at: int) -> None:
    right = machine()
    events = right[1].events.copy()
    value = events[field][at] ^ np.uint8(1)
    events[field][at] = value
    (found,) = differences(changed(right, 1, events), right)
    assert (found.channel, found.number, found.block) == ("second", at, "second: True True")
    assert set(found.fields) == {field}
    cycle = int(right[1].events["cycle"][at])
    assert found.wanted_cycle == cycle and found.cycle == min(cycle, int(events["cycle"][at]))
    if field == "data":
        want = right[1].events["data"][at].tobytes().hex(" ")
        assert found.fields["data"] == (want, events["data"][at].tobytes().hex(" "))


def test_an_event_that_is_missing_and_one_too_many() -> None:
    """At the end of a channel only one run has one; within it, the next takes its place."""
    right = machine()
    shorter = changed(right, 2, right[2].events[:-1])
    (found,) = differences(shorter, right)
    last = int(right[2].events["cycle"][-1])
    assert (found.cycle, found.found, found.found_cycle, found.block) == (last, "", None, "third: True False")
    assert found.lines() == [f"expected: cycle {last:,}: {found.wanted}", "got: nothing more"]
    (found,) = differences(right, shorter)
    assert (found.cycle, found.wanted, found.block) == (last, "", "third: False True")
    (found,) = differences(changed(right, 2, np.delete(right[2].events, 20)), right)
    assert (found.number, found.cycle) == (20, int(right[2].events["cycle"][20]))


def test_the_earliest_is_first_and_of_one_cycle_the_channels_order_counts() -> None:
    right = machine()
    wrong = right
    for index, at in ((0, 40), (1, 30), (2, 10)):
        events = right[index].events.copy()
        events["word"][at] += 1
        wrong = changed(wrong, index, events)
    found = differences(wrong, right)
    cycles = [each.cycle for each in found]
    assert len(found) == 3 and cycles == sorted(cycles) and found[0].channel == "third"
    same = [replace(each, name=name) for name, each in zip("ab", [machine()[0]] * 2, strict=True)]
    events = same[0].events.copy()
    events["word"][5] += 1
    assert [each.channel for each in differences([replace(each, events=events) for each in same], same)] == ["a", "b"]


def test_what_comes_after_a_stop_does_not_count() -> None:
    right = machine()
    stop = int(right[0].events["cycle"][25])
    wrong = [replace(each, events=each.events[each.events["cycle"] < stop]) for each in right]
    assert len(differences(wrong, right)) == 3
    assert differences(wrong, right, until=stop) == []
    assert differences(wrong, right, until=stop + 1) != []


def test_what_a_stopped_run_could_not_record_yet_does_not_count() -> None:
    """Of a channel that records its events some cycles late; what is missing before that counts, and what is there."""
    right = [replace(each, late=12) for each in machine()]
    stop = int(right[0].events["cycle"][25])
    wrong = [replace(each, events=each.events[each.events["cycle"] < stop - 12]) for each in right]
    assert differences(wrong, right, until=stop, stopped=True) == []
    assert len(differences(wrong, right, until=stop)) == 3
    shorter = changed(wrong, 1, wrong[1].events[:-1])
    (found,) = differences(shorter, right, until=stop, stopped=True)
    assert found.cycle == int(wrong[1].events["cycle"][-1]) and not found.found
    kept = right[2].events[right[2].events["cycle"] < stop].copy()
    kept["word"][-1] += 1
    (found,) = differences(changed(wrong, 2, kept), right, until=stop, stopped=True)
    assert found.number == len(kept) - 1 and found.found


def test_runs_of_two_machines() -> None:
    with pytest.raises(BenchError, match="two runs cannot be compared: one has the channels"):
        differences(machine(), machine()[:2])


def test_a_machine_without_channels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.install()
    model = tmp_path / "m.onnx"
    save(branching_model(), model)
    assert invoke(["debug", str(model), "--platform=toy", f"--out={tmp_path / 'out'}"]) == 2
    assert "cannot be laid beside its simulator; nncosim run --trace writes a waveform" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
