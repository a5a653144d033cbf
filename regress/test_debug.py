# SPDX-License-Identifier: Apache-2.0
"""`nncosim debug`: bugs planted in J3DAI's RTL, each found by one command, with its block and its cycle."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from nncosim.hdl.j3dai import (
    cluster,
    control,
    controller,
    dmpa_paths,
    dmpa_semaphores,
    dmpa_walk,
    drain,
    entry,
    fetch,
    ncb,
    requantizer,
    sequencer,
    settle,
    soc,
    window,
    writes,
)
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.planted import plant, some
from nncosim.tb.backend import RunResult
from nncosim.tb.cli.main import invoke
from nncosim.tb.debug import story as telling
from nncosim.tb.errors import ToolError
from nncosim.tb.j3dai import build
from nncosim.tb.run.flow import RunOptions
from nncosim.tb.run.program import Program
from nncosim.tb.sim.waves import changes, command_file, save_file, variables

CLUSTERS = 1
WRONG, CHECK = "first wrong element", "check: "
CYCLES = "every bit is right, and cycles or counters are not"


@dataclass(frozen=True)
class Bug:
    """A line of a module, planted; which block is to be named, and how the run ends: what it computes is wrong, or only
    its cycles, or it does not end."""

    module: ModuleType
    right: str
    wrong: str
    block: str
    verdict: str = WRONG

    def emitted(self, platform: J3dai) -> Mapping[str, str]:
        return emitted(self, platform)


@functools.cache
def emitted(bug: Bug, platform: J3dai) -> Mapping[str, str]:
    """The Verilog with a bug; each run and each replay asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, bug.module, bug.right, bug.wrong)
        return soc.emit_soc(platform, soc.Cluster)


BUGS = {
    "a weight's bit in one NCB": Bug(
        cluster, "group.weight_s3[k].eq(weights_s3[8 * n:8 * n + 8])",
        "group.weight_s3[k].eq(weights_s3[8 * n:8 * n + 8] ^ int(n == 3))", "cluster0 NCB 3"),
    "a store without its second word": Bug(
        dmpa_paths, "first.mask.eq(self.mask)", "first.mask.eq(self.mask & ~2)", "dmpa paths", CHECK),
    "padding a row late": Bug(
        fetch, "self._agu.at_y >= settings.height", "self._agu.at_y > settings.height", "cluster0 fetch (padding)"),
    "a loop's last turn missing": Bug(
        controller, "left[depth].eq(fields.count - 1)", "left[depth].eq(fields.count - 1 - (fields.count > 1))",
        "cluster0 controller"),
    "an end that does not wait": Bug(
        controller, "m.d.comb += ready.eq(~self.sequencer_busy & ~self.in_flight)",
        "m.d.comb += ready.eq(~self.sequencer_busy)", "cluster0 controller"),
    "a beat too many at the end of a run": Bug(
        dmpa_walk, "run_ends.eq(rest0 <= words)", "run_ends.eq(rest0 < words)", "dmpa walk", CYCLES),
    "a semaphore's last token is not taken": Bug(
        dmpa_semaphores, "with m.Elif(~signals[i] & taken):", "with m.Elif(~signals[i] & taken & (value != 1)):",
        "dmpa semaphores"),
    "a signal a cycle late": Bug(
        settle, "due.eq(Mux(left > SIGNAL_CYCLES, left, SIGNAL_CYCLES))",
        "due.eq(Mux(left > SIGNAL_CYCLES, left, SIGNAL_CYCLES) + 1)", "cluster0 settle", CYCLES),
    "no interrupt for an inference": Bug(
        control, "| (requested != stored[Reg.IRQ_FRAMES_SEEN])", "| (requested != requested)", "control registers",
        CYCLES),
    "a category of cycles": Bug(
        cluster, "m.d.comb += state.eq(Counter.WAIT_DATA)", "m.d.comb += state.eq(Counter.WAIT_PORT)",
        "cluster0 counters", CYCLES),
    "weights do not begin again with a job": Bug(
        sequencer, "Mux(job_start & self.mac.rewind_w, self.w_base, pointer)",
        "Mux(job_start & self.mac.rewind_w & (pointer == 0), self.w_base, pointer)", "cluster0 sequencer"),
    "a result beyond the map's edge": Bug(
        drain, "inside[p].eq(x < jobs[-1].width)", "inside[p].eq(x <= jobs[-1].width)", "cluster0 drain",
        CYCLES),
    "words turned by one too few": Bug(
        writes, "amount.eq(-address[:bits])", "amount.eq(-address[:bits] ^ (address[:bits] == 4))", "cluster0 writes"),
    "a neighbour's lane": Bug(
        window, "Mux(self.table_s3, self.select_lane, self.lane_s3)",
        "Mux(self.table_s3, self.select_lane, self.lane_s3 ^ (self.lane_s3 == 9))", "cluster0 window"),
    "a tie is rounded down": Bug(
        requantizer, "Rounding.HALF_EVEN: above | tie & floor[0]", "Rounding.HALF_EVEN: above", "cluster0 requantizer"),
    "a bound missing": Bug(
        requantizer, "Mux(rounded < lo, lo, rounded)", "rounded", "cluster0 requantizer"),
    "an output that nothing drives": Bug(drain, "self.write.eq(lower | upper_valid), ", "", "cluster0 drain"),
    "a product's sign": Bug(
        ncb, "own = Cat(own, (own[7] & self.sext_s3[p]) | self.one_s3[p])", "own = Cat(own, self.one_s3[p])",
        "cluster0 NCB"),
    "a shadow register's bit": Bug(
        ncb, "shadow_s7[:KEPT_BITS].eq(acc_s6[:KEPT_BITS])", "shadow_s7[:KEPT_BITS - 1].eq(acc_s6[:KEPT_BITS])",
        "cluster0 NCB"),
}  # fmt: skip


def on_digits(command: str, tmp_path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """A command on the digits; its status and its JSON."""
    networks, told = files("nncosim.regress.networks"), tmp_path / "told.json"
    with as_file(networks / "digits.onnx") as model, as_file(networks / "digits_test.npz") as images:
        status = invoke([command, str(model), f"--set=clusters={CLUSTERS}", "--driver=direct", f"--input={images}",
                         "--index=0", *options, f"--json={told}"])  # fmt: skip
    return status, json.loads(told.read_text())


def debug(out: Path, tmp_path: Path) -> tuple[int, list[str]]:
    """The command on the digits; its status and its story."""
    status, told = on_digits("debug", tmp_path, f"--out={out}")
    assert told["bundle"] == str(out)
    return status, told["story"]


def replayed(bundle: Path, tmp_path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """A bundle, run again; its status and its JSON."""
    told = tmp_path / "replayed.json"
    status = invoke(["replay", str(bundle), *options, f"--json={told}"])
    return status, json.loads(told.read_text())


def test_a_right_machine(tmp_path: Path) -> None:
    status, story = debug(tmp_path / "out", tmp_path)
    assert status == 0 and story == [
        "the run passes, and the machine does in each cycle what its simulator does: nothing to debug"]
    assert not (tmp_path / "out" / "cause.fst").exists()


@pytest.mark.parametrize("name", some(BUGS, 1))
def test_a_planted_bug(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named by block, in a cycle not after the one in which the first wrong element was written; the waveform
    shows that cycle, with a marker."""
    bug, out = BUGS[name], tmp_path / "out"
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))
    status, story = debug(out, tmp_path)
    assert status == 1 and story[0].startswith(bug.verdict), story
    assert (out / "story.txt").read_text().splitlines() == story
    first = next(line for line in story if line.startswith("first difference: "))
    assert f": {bug.block}" in first, story
    cycle = int(first.split()[3].rstrip(",:").replace(",", ""))
    written = (json.loads((out / "report.json").read_text())["clue"] or {}).get("cycle")
    assert written is None or cycle <= written
    cycles = [value for _, value in changes(out / "cause.fst", "j3dai_tb.probe_cycle")]
    assert cycle in cycles and len(cycles) <= 2000
    times = [time for time, value in changes(out / "cause.fst", "j3dai_tb.probe_cycle") if value == cycle]
    assert f" {times[-1]} " in next(line for line in save_file(out / "cause.fst").read_text().splitlines()
                                   if line.startswith("*"))  # fmt: skip
    for_surfer = command_file(out / "cause.fst").read_text().splitlines()
    assert f"marker_set A {times[-1]}" in for_surfer
    named = {line.split()[1] for line in for_surfer if line.startswith("variable_add ")}
    assert len(named) > 50 and named <= set(variables(out / "cause.fst"))


def test_a_bundle_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `run --debug`, on planted RTL: it fails as then; on the simulator and on the right RTL it passes, and it is
    said that the RTL is another. The bundle holds all that is needed, wherever it lies."""
    out, moved = tmp_path / "out", tmp_path / "elsewhere" / "bundle"
    bug = next(iter(BUGS.values()))
    with monkeypatch.context() as wrong:
        wrong.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))
        status, report = on_digits("run", tmp_path, f"--debug={out}")
        assert status == 1 and report["verdict"] != "pass"
        moved.parent.mkdir()
        out.rename(moved)
        story = (moved / "story.txt").read_text()
        assert f": {bug.block}" in story
        assert changes(moved / "cause.fst", "j3dai_tb.probe_cycle")
        status, told = replayed(moved, tmp_path)
        assert status == 1 and told["same"] and told["unlike"] == []
        assert told["rtl"] == {"verilog": [], "sources": []} and told["versions"] == {}
        assert told["lines"][-1].startswith("fails as then: first wrong element: ")
        assert told["then"] == told["now"] and told["then"]["difference"].startswith("cycle ")
        status, other = replayed(moved, tmp_path, "--driver=cocotb")
        assert status == 1 and other["same"] and other["driver"] == "cocotb"
    status, told = replayed(moved, tmp_path)
    assert status == 0 and not told["same"] and told["rtl"] == {"verilog": ["j3dai_cluster.v"], "sources": []}
    assert [line.split(":")[0] for line in told["unlike"]] == ["verdict", "first wrong element", "first difference"]
    status, told = replayed(moved, tmp_path, "--backend=iss")
    assert status == 0 and told["backend"] == "iss" and told["rtl"]["verilog"] is None


def test_a_bundle_with_a_patch(tmp_path: Path) -> None:
    """The same bug as a patch, which the bundle keeps."""
    out, patch = tmp_path / "out", tmp_path / "bug.patch"
    platform = PLATFORM.with_parameters(clusters=CLUSTERS)
    right, wrong = build.soc_verilog(platform), next(iter(BUGS.values())).emitted(platform)
    lines = [difflib.unified_diff(right[name].splitlines(True), wrong[name].splitlines(True), name, name)
             for name in right]  # fmt: skip
    patch.write_text("".join(line for each in lines for line in each))
    assert on_digits("debug", tmp_path, f"--out={out}", f"--rtl-patch={patch}")[0] == 1
    patch.unlink()
    status, told = replayed(out, tmp_path)
    assert status == 1 and told["same"] and told["rtl"]["verilog"] == []
    status, told = replayed(out, tmp_path, "--backend=iss")
    assert status == 0 and told["without"] == ["the patch of the RTL"]
    (out / "rtl.patch").write_text("")
    assert invoke(["replay", str(out)]) == 2


def test_a_bundle_of_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image and inputs come in by the port, which the simulator has not: no story, and it runs again as it did."""
    out = tmp_path / "out"
    bug = next(iter(BUGS.values()))
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))
    assert on_digits("run", tmp_path, "--boot=bus", "--stream=2", f"--debug={out}")[0] == 1
    last = (out / "story.txt").read_text().splitlines()[-1]
    assert last.startswith("not laid beside the simulator, which has no port")
    status, told = replayed(out, tmp_path)
    assert status == 1 and told["same"] and len(told["now"]["cycles"]) == 2 and told["now"]["difference"] is None
    status, told = replayed(out, tmp_path, "--backend=iss")
    assert status == 0 and told["without"] == ["image or inputs entering by a port"]


def test_a_bug_of_the_entry_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the image comes in by the port, the port is laid beside its model."""
    out = tmp_path / "out"
    bug = Bug(entry, "m.d.sync += part.eq(part + 1)", "m.d.sync += part.eq(part + 1 + (address == 9))", "entry")
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))
    assert on_digits("run", tmp_path, "--boot=bus", f"--debug={out}")[0] == 1
    story = (out / "story.txt").read_text()
    assert f": {bug.block} (entry port, event " in story and "described by nncosim.hdl.j3dai.entry" in story
    status, told = replayed(out, tmp_path)
    assert status == 1 and told["same"] and told["now"]["difference"] == told["then"]["difference"] is not None


@pytest.mark.parametrize("what", ["waveform", "simulator"])
def test_what_cannot_be_done_costs_no_more(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a waveform there is a story, and without the simulator at least a bundle; the run is reported."""
    out = tmp_path / "out"
    bug, right = next(iter(BUGS.values())), telling.execute
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))

    def execute(program: Program, platform: Platform, inputs: list[Any], options: RunOptions, say: Any) -> RunResult:
        if (options.trace is not None) == (what == "waveform"):
            raise ToolError("no such header")
        return right(program, platform, inputs, options, say)

    monkeypatch.setattr(telling, "execute", execute)
    status, report = on_digits("run", tmp_path, f"--debug={out}")
    assert status == 1 and report["verdict"] == "mismatch" and not (out / "cause.fst").exists()
    last = {"waveform": "waveform: none, no such header", "simulator": "cannot be debugged: no such header"}
    told = (out / "story.txt").read_text().splitlines()
    assert told[-1] == last[what] and any(f": {bug.block}" in line for line in told) == (what == "waveform")
    monkeypatch.setattr(telling, "execute", right)
    status, again = replayed(out, tmp_path)
    assert status == 1 and again["same"]


def test_a_run_that_passes_leaves_no_bundle(tmp_path: Path) -> None:
    assert on_digits("run", tmp_path, f"--debug={tmp_path / 'out'}")[0] == 0
    assert not (tmp_path / "out").exists()
