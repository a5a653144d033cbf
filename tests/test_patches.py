# SPDX-License-Identifier: Apache-2.0
"""Patches of emitted Verilog: applied as they are written, or refused by name."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import toy
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai import bench as j3dai_bench
from nncosim.tb.sim.patches import RtlPatch, read_patch

toy.install()

DIGITS = Path(__file__).parents[1] / "regress" / "networks" / "digits.onnx"
SOURCES = {
    "a.v": "".join(f"line {k}\n" for k in range(40)),
    "b.v": "module b;\n  assign x = y;\nendmodule\n",
}  # fmt: skip


def diff(changed: dict[str, str], folder: str = "new/") -> str:
    """As `diff -u` writes it."""
    out = ""
    for name, text in changed.items():
        lines = [each.splitlines(keepends=True) for each in (SOURCES[name], text)]
        out += "".join(difflib.unified_diff(*lines, f"old/{name}", f"{folder}{name}"))
    return out


@pytest.mark.parametrize("folder", ["", "b/", "/some/where/"])
def test_changes_of_two_files(folder: str) -> None:
    changed = {"a.v": SOURCES["a.v"].replace("line 3\n", "").replace("line 30", "line thirty"),
               "b.v": SOURCES["b.v"].replace("y", "~y")}  # fmt: skip
    assert RtlPatch(Path("p"), diff(changed, folder)).applied(SOURCES) == changed
    assert SOURCES["b.v"].count("~") == 0


def test_what_is_no_patch(tmp_path: Path) -> None:
    for text in ("", "no patch at all\n", "--- a/a.v\n+++ b/a.v\n"):
        with pytest.raises(BenchError, match="holds no change of a file; expected what"):
            RtlPatch(Path("p"), text)
    with pytest.raises(BenchError, match="there is no file"):
        read_patch(tmp_path / "none.patch")


def test_what_does_not_fit() -> None:
    text = diff({"b.v": SOURCES["b.v"].replace("y", "~y")})
    with pytest.raises(BenchError, match=r"p changes b2\.v, which this design has not; did you mean b\.v\?"):
        RtlPatch(Path("p"), text.replace("b.v", "b2.v")).applied(SOURCES)
    with pytest.raises(BenchError, match=r"p does not fit b\.v: context line 2.*another version or another machine"):
        RtlPatch(Path("p"), text).applied({**SOURCES, "b.v": SOURCES["b.v"].replace("x", "z")})
    with pytest.raises(BenchError, match="p changes nothing"):
        RtlPatch(Path("p"), diff({"b.v": SOURCES["b.v"].replace(" x", "  x")})).applied(SOURCES)


@pytest.mark.parametrize(("options", "message"), [
    (["--platform=j3dai", "--backend=iss"], "has no RTL that can be patched (--rtl-patch); use --backend rtl"),
    (["--platform=toy"], "has no RTL that can be patched (--rtl-patch); no backend of this platform has"),
])  # fmt: skip
def test_refused_before_anything_is_compiled(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = tmp_path / "p.patch"
    patch.write_text(diff({"b.v": SOURCES["b.v"].replace("y", "~y")}))
    assert invoke(["run", str(DIGITS), f"--rtl-patch={patch}", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_verilog_that_is_patched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[J3dai] = []

    def verilog(platform: J3dai) -> dict[str, str]:
        asked.append(platform)
        return SOURCES

    monkeypatch.setattr(j3dai_bench, "soc_verilog", verilog)
    assert invoke(["platforms", "j3dai", "--set=clusters=3", f"--verilog={tmp_path / 'v'}"]) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "v").iterdir()} == SOURCES
    assert [each.clusters for each in asked] == [3]
    assert invoke(["platforms", f"--verilog={tmp_path / 'w'}"]) == 2
    assert invoke(["platforms", "toy", f"--verilog={tmp_path / 'w'}"]) == 2
    assert "has no Verilog of its own to write (--verilog)" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
