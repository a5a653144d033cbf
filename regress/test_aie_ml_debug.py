# SPDX-License-Identifier: Apache-2.0
"""`nncosim debug` on AIE-ML: bugs planted in its RTL, each found by one command, with its block and its cycle."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from nncosim.compiler.aie_ml.notes import AieMlNotes
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml import (
    agu,
    core,
    dma_channel,
    fetch,
    locks,
    srs,
    stream,
    vmac,
)
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.dense_models import DenseSpec, dense_network
from nncosim.regress.planted import plant, some
from nncosim.tb.aie_ml import build
from nncosim.tb.aie_ml.observe import scope_of
from nncosim.tb.cli.main import invoke
from nncosim.tb.sim.waves import changes, command_file, save_file, variables

WRONG, HANG, CHECK = "first wrong element", "hang: ", "check: "
TOP = "aie_ml_array_tb"


@dataclass(frozen=True)
class Bug:
    """A line of a module, planted; which block is to be named, behind its tile, and how the run ends: what it computes
    is wrong, or it does not end, or a check stops it."""

    module: ModuleType
    right: str
    wrong: str
    block: str
    verdict: str = WRONG


@functools.cache
def emitted(bug: Bug, design: str) -> Mapping[str, str]:
    """The Verilog of a kind of tile with a bug; each run and each replay asks for it."""
    emit: Callable[[], Mapping[str, str]] = {
        build.TILE: lambda: build.emit_tile(PLATFORM.instructions, PLATFORM.generation),
        build.MEMORY_TILE: lambda: build.emit_memory_tile(PLATFORM.generation),
    }[design]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, bug.module, bug.right, bug.wrong)
        return emit()


def planted(patch: pytest.MonkeyPatch, bug: Bug) -> None:
    """Whatever is built from now on has it."""
    right = build.emitted

    def wrong(
        design: str, parameters: object, emit: Callable[[], Mapping[str, str]], outside: Collection[str] = ()
    ) -> Mapping[str, str]:
        tiles = (build.TILE, build.MEMORY_TILE)
        return emitted(bug, design) if design in tiles else right(design, parameters, emit, outside)

    patch.setattr(build, "emitted", wrong)


BUGS = {
    "a sum in a neighbour's lane": Bug(
        vmac, "getattr(lane, name).eq(value)", "getattr(lane, name).eq(value) if number != 5 else "
        "getattr(lane, name).eq(_operands(self.a, self.b, 4, self.generation)[name])", "core VMAC"),
    "a stale accumulator": Bug(
        core, "vmac.acc.eq(accumulators.read_data[0])",
        "vmac.acc.eq(delayed(m, advance, accumulators.read_data[0], 1, 'stale'))", "core VMAC"),
    "results that are not saturated below": Bug(
        srs, "Mux(value < low, low, value)", "value", "core SRS"),
    "a tie that is rounded down": Bug(
        srs, "RoundingCode.HALF_EVEN: half & (rest | floor[0])", "RoundingCode.HALF_EVEN: half & rest", "core SRS"),
    "a pointer's outer step after a turn too few": Bug(
        agu, "with m.If(c1 + 1 < n1):", "with m.If(c1 + 2 < n1):", "core address generators"),
    "an instruction lost in a stall": Bug(
        fetch, "program.r_en.eq(running & self.advance)", "program.r_en.eq(running)", "core fetch", CHECK),
    "a buffer a word too short": Bug(
        dma_channel, "self.left.eq(fetched.length)", "self.left.eq(fetched.length - (fetched.length > 8))", "dma s2mm0",
        HANG),
    "a line's step for a word's": Bug(
        dma_channel, 'step = now[f"step{k}"]', 'step = now[f"step{min(k, 1)}"]', "dma"),
    "an acquire that does not wait": Bug(
        locks, "Cat(value >= asked.value, value == asked.value, 1)", "Cat(1, value == asked.value, 1)", "locks",
        CHECK),
    "a release that adds one more": Bug(
        locks, "Mux(asked.op == LockOp.RELEASE, value + asked.value, value - asked.value)",
        "Mux(asked.op == LockOp.RELEASE, value + asked.value + (asked.value == 1), value - asked.value)", "locks",
        HANG),
    "a word lost where there is no room": Bug(
        stream, "with m.Elif(self.i.valid & ~both):", "with m.Elif(self.i.valid & ~both & ~some):", "switch", HANG),
}  # fmt: skip


@functools.cache
def model_in(folder: Path) -> Path:
    """Dense layers."""
    path = folder / "dense.onnx"
    onnx.save(dense_network(DenseSpec((16, 64, 32))), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def on_model(command: str, model: Path, tmp_path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """A command; its status and its JSON."""
    told = tmp_path / "told.json"
    status = invoke([command, str(model), "--platform=aie_ml", "--driver=direct", *options, f"--json={told}"])
    return status, json.loads(told.read_text())


def first_difference(story: list[str]) -> tuple[int, str]:
    """Its cycle, and the line."""
    line = next(line for line in story if line.startswith("first difference: "))
    return int(line.split()[3].rstrip(",:").replace(",", "")), line


def test_a_right_machine(tmp_path: Path, folder: Path) -> None:
    status, told = on_model("debug", model_in(folder), tmp_path, f"--out={tmp_path / 'out'}")
    assert status == 0 and told["story"] == [
        "the run passes, and the machine does in each cycle what its simulator does: nothing to debug"]
    assert not (tmp_path / "out" / "cause.fst").exists()


@pytest.mark.parametrize("name", some(BUGS, 1))
def test_a_planted_bug(name: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named by tile and block, in a cycle that the waveform shows, with a marker and the block's signals."""
    bug, out = BUGS[name], tmp_path / "out"
    planted(monkeypatch, bug)
    status, told = on_model("debug", model_in(folder), tmp_path, f"--out={out}")
    story = told["story"]
    assert status == 1 and story[0].startswith(bug.verdict), story
    assert (out / "story.txt").read_text().splitlines() == story
    cycle, line = first_difference(story)
    assert f") {bug.block}" in line, story
    times = {value: time for time, value in changes(out / "cause.fst", f"{TOP}.probe_cycle")}
    assert cycle in times and len(times) <= 2000
    assert f" {times[cycle]} " in next(line for line in save_file(out / "cause.fst").read_text().splitlines()
                                       if line.startswith("*"))  # fmt: skip
    for_surfer = command_file(out / "cause.fst").read_text().splitlines()
    assert f"marker_set A {times[cycle]}" in for_surfer
    named = {line.split()[1] for line in for_surfer if line.startswith("variable_add ")}
    assert len(named) > 50 and named <= set(variables(out / "cause.fst"))
    image = Image.from_bytes(next(out.glob("*.elf")).read_bytes())
    block = line.split(": ", 2)[2].rpartition(" (tile")[0]
    scope = scope_of(image.notes.own_as(AieMlNotes), block)
    assert any(each.startswith(f"{TOP}.{scope}.") for each in named), scope
    assert any(each.startswith("rows.") for each in named)


def test_a_bundle_with_a_patch(tmp_path: Path, folder: Path) -> None:
    """The first bug as a patch, which the bundle keeps: it fails as then; on the simulator it passes."""
    bug, model, out, patch = next(iter(BUGS.values())), model_in(folder), tmp_path / "out", tmp_path / "bug.patch"
    right, wrong = build.small_array(PLATFORM), emitted(bug, build.TILE)
    lines = [difflib.unified_diff(right[name].splitlines(True), wrong[name].splitlines(True), name, name)
             for name in wrong]  # fmt: skip
    patch.write_text("".join(line for each in lines for line in each))
    status, report = on_model("run", model, tmp_path, f"--debug={out}", f"--rtl-patch={patch}")
    assert status == 1 and report["verdict"] == "mismatch"
    assert f") {bug.block}" in first_difference((out / "story.txt").read_text().splitlines())[1]
    patch.unlink()
    for backend, same in (("rtl", True), ("iss", False)):
        told = tmp_path / f"{backend}.json"
        assert invoke(["replay", str(out), f"--backend={backend}", f"--json={told}"]) == int(same)
        replayed = json.loads(told.read_text())
        assert replayed["same"] == same and (same or replayed["without"] == ["the patch of the RTL"])


@pytest.mark.parametrize(("text", "message"), [
    ("nothing", "holds no change of a file"),
    ("--- a/aie_ml_tiel.v\n+++ b/aie_ml_tiel.v\n@@ -1 +1 @@\n-a\n+b\n",
     "changes aie_ml_tiel.v, which this design has not; did you mean aie_ml_tile.v?"),
    ("--- a/aie_ml_tile.v\n+++ b/aie_ml_tile.v\n@@ -1 +1 @@\n-a\n+b\n", "does not fit aie_ml_tile.v"),
])  # fmt: skip
def test_a_patch_that_does_not_fit(
    text: str, message: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = tmp_path / "bug.patch"
    patch.write_text(text)
    status = invoke(["run", str(model_in(folder)), "--platform=aie_ml", f"--rtl-patch={patch}"])
    assert status == 2 and message in " ".join(capsys.readouterr().err.split())
