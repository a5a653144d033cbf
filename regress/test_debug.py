# SPDX-License-Identifier: Apache-2.0
"""`nncosim debug`: bugs planted in J3DAI's RTL, each found by one command, with its block and its cycle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType

import pytest
from nncosim.hdl.j3dai import (
    cluster,
    control,
    controller,
    dmpa_paths,
    dmpa_semaphores,
    dmpa_walk,
    drain,
    fetch,
    ncb,
    requantizer,
    sequencer,
    settle,
    soc,
    window,
    writes,
)
from nncosim.regress.planted import plant, some
from nncosim.tb.cli.main import invoke
from nncosim.tb.j3dai import build
from nncosim.tb.sim.waves import changes, save_file

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
        "m.d.comb += ready.eq(~self.sequencer_busy)", "cluster0 controller", CYCLES),
    "a beat too many at the end of a run": Bug(
        dmpa_walk, "run_ends.eq(rest0 <= words)", "run_ends.eq(rest0 < words)", "dmpa walk", CYCLES),
    "a semaphore's last token is not taken": Bug(
        dmpa_semaphores, "with m.Elif(~signals[i] & taken):", "with m.Elif(~signals[i] & taken & (value != 1)):",
        "dmpa semaphores"),
    "a signal a cycle late": Bug(
        settle, "due.eq(Mux(left > SIGNAL_CYCLES, left, SIGNAL_CYCLES))",
        "due.eq(Mux(left > SIGNAL_CYCLES, left, SIGNAL_CYCLES) + 1)", "cluster0 settle", CYCLES),
    "no interrupt for an inference": Bug(
        control, "| (requested != stored[Reg.IRQ_FRAMES_SEEN])", "| (requested != requested)", "control registers", "hang"),
    "a category of cycles": Bug(
        cluster, "with m.Elif(self._blocked & (f.wants | s.table_valid)):",
        "with m.Elif(self._blocked & (f.wants & s.table_valid)):", "cluster0 counters", CYCLES),
    "weights do not begin again with a job": Bug(
        sequencer, "Mux(job_start & self.mac.rewind_w, self.w_base, pointer)",
        "Mux(job_start & self.mac.rewind_w & (pointer == 0), self.w_base, pointer)", "cluster0 sequencer"),
    "a result beyond the map's edge": Bug(
        drain, "inside[p].eq(x < jobs[-1].width)", "inside[p].eq(x <= jobs[-1].width)", "cluster0 drain"),
    "words turned by one too few": Bug(
        writes, "amount.eq(-address[:bits])", "amount.eq(-address[:bits] ^ (address[:bits] == 4))", "cluster0 writes"),
    "a neighbour's lane": Bug(
        window, "Mux(self.table_s3, self.select_lane, self.lane_s3)",
        "Mux(self.table_s3, self.select_lane, self.lane_s3 ^ (self.lane_s3 == 9))", "cluster0 window"),
    "a tie is rounded down": Bug(
        requantizer, "Rounding.HALF_EVEN: above | tie & floor[0]", "Rounding.HALF_EVEN: above", "cluster0 requantizer"),
    "a bound of nine bits missing": Bug(
        requantizer, "Mux((rounded > hi) | (lo > hi), hi,", "Mux(lo > hi, hi,", "cluster0 requantizer"),
    "a product's sign": Bug(
        ncb, "own = Cat(own, (own[7] & self.sext_s3[p]) | self.one_s3[p])", "own = Cat(own, self.one_s3[p])", "cluster0 NCB"),
}  # fmt: skip


def debug(out: Path, tmp_path: Path) -> tuple[int, list[str]]:
    """The command on the digits; its status and its story."""
    networks, told = files("nncosim.regress.networks"), tmp_path / "told.json"
    with as_file(networks / "digits.onnx") as model, as_file(networks / "digits_test.npz") as images:
        status = invoke(["debug", str(model), f"--set=clusters={CLUSTERS}", "--driver=direct", f"--input={images}",
                         "--index=0", f"--out={out}", f"--json={told}"])  # fmt: skip
    return status, json.loads(told.read_text())["story"]


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
    plant(monkeypatch, bug.module, bug.right, bug.wrong)
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: soc.emit_soc(platform, soc.Cluster))
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
    assert f" {times[0]} " in next(line for line in save_file(out / "cause.fst").read_text().splitlines()
                                   if line.startswith("*"))  # fmt: skip
