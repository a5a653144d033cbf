# SPDX-License-Identifier: Apache-2.0
"""`nncosim debug`: bugs planted in J3DAI's RTL, each found by one command, with its block and its cycle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType

import pytest
from nncosim.hdl.j3dai import cluster, controller, dmpa, dmpa_paths, fetch, soc
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.planted import planted, remade, some
from nncosim.tb.cli.main import invoke
from nncosim.tb.j3dai import build
from nncosim.tb.sim.waves import changes, save_file

CLUSTERS = 1


@dataclass(frozen=True)
class Bug:
    """A line of a module, planted; modules between it and the SoC; what is to be named, and how the run ends."""

    module: ModuleType
    right: str
    wrong: str
    above: tuple[tuple[str, ModuleType], ...]
    block: str
    verdict: str = "first wrong element"

    def emitted(self, platform: J3dai) -> Mapping[str, str]:
        wrong = planted(self.module, self.right, self.wrong)
        for name, parent in self.above:
            wrong = remade(parent, **{name: vars(wrong)[name]})
        if self.module is dmpa_paths:
            return wrong.emit_soc(platform)
        return soc.emit_soc(platform, wrong.Cluster)


BUGS = {
    "a weight's bit in one NCB": Bug(
        cluster, "group.weight_s3[k].eq(weights_s3[8 * n:8 * n + 8])",
        "group.weight_s3[k].eq(weights_s3[8 * n:8 * n + 8] ^ int(n == 3))", (), "cluster0 NCB 3 or its requantizer"),
    "a store without its second word": Bug(
        dmpa_paths, "first.mask.eq(self.mask)", "first.mask.eq(self.mask & ~2)",
        (("DmpaPaths", dmpa), ("Dmpa", soc)), "dmpa, store path", "check: frame 1: the DMPA read word"),
    "padding a row late": Bug(
        fetch, "self._agu.at_y >= settings.height", "self._agu.at_y > settings.height",
        (("WindowFetch", cluster),), "cluster0 window, weights or results"),
    "a loop's last turn missing": Bug(
        controller, "left[depth].eq(fields.count - 1)", "left[depth].eq(fields.count - 1 - (fields.count > 1))",
        (("Controller", cluster),), "cluster0 controller"),
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
    monkeypatch.setattr(build, "emitted", lambda design, platform, emit: bug.emitted(platform))
    status, story = debug(out, tmp_path)
    assert status == 1 and story[0].startswith(bug.verdict), story
    assert (out / "story.txt").read_text().splitlines() == story
    first = next(line for line in story if line.startswith("first difference: "))
    assert f": {bug.block}" in first, story
    cycle = int(first.split()[3].rstrip(",:").replace(",", ""))
    written = json.loads((out / "report.json").read_text())["clue"]["cycle"]
    assert written is None or cycle <= written
    cycles = [value for _, value in changes(out / "cause.fst", "j3dai_tb.probe_cycle")]
    assert cycle in cycles and len(cycles) <= 2000
    times = [time for time, value in changes(out / "cause.fst", "j3dai_tb.probe_cycle") if value == cycle]
    assert f" {times[0]} " in next(line for line in save_file(out / "cause.fst").read_text().splitlines()
                                   if line.startswith("*"))  # fmt: skip
