# SPDX-License-Identifier: Apache-2.0
"""Debug bundles on the toy platform: what is in them, how they run again, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import toy.bench
from command_line import Result, refused
from nncosim.tb.cli.main import invoke
from nncosim.tb.debug.bundle import Rtl, Seen
from nncosim.tb.debug.replay import changed_rtl, changed_versions, unlike
from nncosim.tb.system.npz import read_arrays
from toy_models import branching_model, save

toy.install()
Command = Callable[..., Result]
IMAGES = (4, 1)
"""The inferences of the bundle, in this order."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, and `bundle`: of a run of two inferences on a machine that does not convolve."""
    folder = tmp_path_factory.mktemp("bundle")
    save(branching_model(), folder / "m.onnx")
    images = np.random.default_rng(4).integers(0, 15, (10, 2, 8, 8), endpoint=True)
    np.savez(folder / "x.npz", x=(images * 0.25).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        status = invoke(["run", str(folder / "m.onnx"), "--platform=toy", "--set=lanes=32", f"--input={folder}/x.npz",
                         *(f"--index={k}" for k in IMAGES), "--seed=3", f"--debug={folder}/bundle"])  # fmt: skip
    assert status == 1
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy of it, elsewhere."""
    return Path(shutil.copytree(made / "bundle", tmp_path / "copy"))


def break_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(toy.bench, "convolve", lambda memory, command: None)


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((bundle / "bundle.json").read_text())
    change(data)
    (bundle / "bundle.json").write_text(json.dumps(data))


def test_what_is_in_a_bundle(made: Path, bundle: Path) -> None:
    data = json.loads((bundle / "bundle.json").read_text())
    assert (data["schema"], data["model"], data["platform"], data["backend"]) == (1, "m.onnx", "toy", "python")
    assert data["settings"] == {"lanes": 32} and data["parameters"]["lanes"] == 32 and data["seed"] == 3
    assert set(data["files"]) == {"image.elf", "inputs.npz"} and data["rtl"]["verilog"] == {}
    assert "hdl/sram.py" in data["rtl"]["sources"] and not [n for n in data["rtl"]["sources"] if "j3dai" in n]
    assert data["versions"]["nncosim"] and "numpy" in data["versions"]
    assert data["seen"]["verdict"] == "mismatch" and data["seen"]["difference"] is None
    assert len(data["seen"]["cycles"]) == len(IMAGES) and data["seen"]["first"].startswith("Quant_16[")
    assert (bundle / "story.txt").read_text().splitlines() == data["story"]
    assert "cannot be laid beside its simulator" in data["story"][-1]
    given = np.load(made / "x.npz")["x"][list(IMAGES)] / 0.25
    assert np.array_equal(read_arrays(bundle / "inputs.npz")["x"], given.astype(np.int64))


def test_a_bundle_is_run_again(
    command: Command, made: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (made / "x.npz").rename(tmp_path / "gone.npz")  # it needs nothing but itself
    try:
        with monkeypatch.context() as patch:
            break_it(patch)
            status, out, _ = command("replay", bundle)
            assert status == 1 and "\nfails as then: first wrong element: Quant_16[" in out
            assert out.startswith("recorded: m.onnx on toy lanes=32; python, seed 3; ")
        told = json.loads(command("replay", bundle, "--json", "-").out)
    finally:
        (tmp_path / "gone.npz").rename(made / "x.npz")
    assert told["passed"] and not told["same"] and told["now"]["first"] == ""
    assert [line.partition(":")[0] for line in told["unlike"]] == ["verdict", "first wrong element"]
    assert any(line.startswith("passes now; then: first wrong element: Quant_16[") for line in told["lines"])


def test_a_failure_that_is_another(command: Command, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    edit(bundle, lambda data: data["seen"].update(first="y[0]: expected 1, got 2", cycles=[1, 2]))
    status, out, _ = command("replay", bundle)
    assert status == 1 and "\nfails otherwise: first wrong element: Quant_16[" in out
    assert "\n  first wrong element: y[0]: expected 1, got 2 then, Quant_16[" in out
    assert "\n  cycles: 1, 2 then, " in out


def test_a_run_that_passes_writes_none(command: Command, made: Path, tmp_path: Path) -> None:
    assert command("run", made / "m.onnx", "--platform=toy", f"--debug={tmp_path / 'none'}")[0] == 0
    assert not (tmp_path / "none").exists()


def test_without_a_name_it_goes_to_a_folder_of_its_own(
    command: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    break_it(monkeypatch)
    status, out, _ = command("run", made / "m.onnx", "--platform=toy", "--debug")
    assert status == 1 and out.splitlines()[-1] == "run it again with: nncosim replay debug"
    assert command("replay", "debug")[0] == 1


def test_outputs_of_a_bundle_are_refused_before_the_run(command: Command, made: Path, tmp_path: Path) -> None:
    model, out = made / "m.onnx", tmp_path / "out"
    refused(command("run", "--debug", model, "--platform=toy"), f"--debug {model}: this is a file; give a folder")
    refused(command("run", model, "--platform=toy", f"--debug={out}", f"--json={out}"), "are one place")
    refused(command("run", model, "--platform=toy", f"--debug={out}", f"--json={out / 'bundle.json'}"),
            f"--debug {out} writes a file of that name")  # fmt: skip
    (out / "story.txt").mkdir(parents=True)
    refused(command("run", model, "--platform=toy", f"--debug={out}"),
            f"--debug {out}: {out / 'story.txt'} is a folder")  # fmt: skip
    refused(command("replay", made / "bundle", f"--json={made / 'bundle' / 'bundle.json'}"), "would replace the bundle")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "no bundle": (lambda b: (b / "bundle.json").unlink(), "is no debug bundle: there is no file"),
    "no JSON": (lambda b: (b / "bundle.json").write_text("{"), "bundle.json is damaged: Expecting"),
    "a list": (lambda b: (b / "bundle.json").write_text("[]"), "has the schema None, and this version"),
    "another schema": (lambda b: edit(b, lambda d: d.update(schema=2)), "has the schema 2, and this version of"),
    "a field missing": (lambda b: edit(b, lambda d: d.pop("seed")), "is damaged: it lacks seed"),
    "a field of another type": (lambda b: edit(b, lambda d: d.update(seed="3")), "is damaged: seed: expected int"),
    "a file not named": (lambda b: edit(b, lambda d: d["files"].pop("inputs.npz")), "files lacks inputs.npz"),
    "a file too many": (lambda b: edit(b, lambda d: d["files"].update({"../x": ""})), "files names ../x"),
    "no image": (lambda b: (b / "image.elf").unlink(), "is incomplete: there is no file"),
    "no inputs": (lambda b: (b / "inputs.npz").unlink(), "is incomplete: there is no file"),
    "a spoilt image": (lambda b: flip(b / "image.elf"), "image.elf is not the file that the bundle was written with"),
    "spoilt inputs": (lambda b: flip(b / "inputs.npz"), "inputs.npz is not the file that the bundle was written with"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", SPOILT)
def test_a_bundle_that_is_incomplete_or_spoilt(command: Command, bundle: Path, name: str) -> None:
    spoil, message = SPOILT[name]
    spoil(bundle)
    assert message in refused(command("replay", bundle))


def test_a_backend_that_there_is_not(command: Command, bundle: Path) -> None:
    refused(command("replay", bundle, "--backend=rtl"), "has no backend 'rtl'; it has python")
    refused(command("replay", bundle, "--driver=direct"), "has no choice of drivers")


def test_other_tools_and_other_sources_are_told(command: Command, bundle: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["versions"] |= {"nncosim": "0.0.1", "gone": "7"}
        data["rtl"]["sources"]["hdl/sram.py"] = "0"

    edit(bundle, change)
    out = command("replay", bundle).out
    assert "\nsources of the RTL have changed: hdl/sram.py\n" in out
    assert "\nother versions: gone 7, now none; nncosim 0.0.1, now 0.1.0\n" in out and "nncosim 0.0.1\n" in out


# ---- two ends of a run

SEEN = Seen(False, "mismatch", "", "t[0]: expected 1, got 2", (100, 90), {"a": (60, 50), "b": (40, 40)}, "cycle 7, x")


def test_the_same_end() -> None:
    assert unlike(SEEN, replace(SEEN)) == [] == unlike(SEEN, replace(SEEN, difference=None))


@pytest.mark.parametrize(("change", "line"), [
    ({"verdict": "hang"}, "verdict: mismatch then, hang now"),
    ({"stopped": "hang: no end"}, "stopped by: none then, hang: no end now"),
    ({"first": ""}, "first wrong element: t[0]: expected 1, got 2 then, none now"),
    ({"cycles": (100,)}, "cycles: 100, 90 then, 100 now"),
    ({"layers": {"a": (60, None), "b": (40, 40)}}, "cycles of a: 60, 50 then, 60, no end now"),
    ({"layers": {"a": (60, 50)}}, "cycles of b: 40, 40 then,  now"),
    ({"difference": "cycle 8, x"}, "first difference: cycle 7, x then, cycle 8, x now"),
    ({"difference": ""}, "first difference: cycle 7, x then, none now"),
])  # fmt: skip
def test_another_end(change: dict[str, Any], line: str) -> None:
    assert unlike(SEEN, replace(SEEN, **change)) == [line]


def test_many_layers_are_counted() -> None:
    layers = {f"l{k}": (k,) for k in range(9)}
    then, now = (replace(SEEN, layers={name: (k + more,) for name, (k,) in layers.items()}) for more in (0, 1))
    assert len(unlike(then, now)) == 6 and unlike(then, now)[-1] == "and of 4 more layers"


def test_what_of_the_rtl_is_another() -> None:
    then = Rtl({"a.v": "1", "b.v": "2"}, {"a.py": "1", "gone.py": "2"})
    assert changed_rtl(then, then) == ((), ())
    assert changed_rtl(then, Rtl({"a.v": "1", "b.v": "3", "c.v": "4"}, {"a.py": "1", "new.py": "2"})) == (
        ("b.v", "c.v"), ("gone.py", "new.py"))  # fmt: skip
    assert changed_rtl(then, Rtl({}, then.sources)) == (None, ())
    assert changed_versions({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == {"b": ("2", ""), "c": ("", "3")}
