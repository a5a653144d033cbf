# SPDX-License-Identifier: Apache-2.0
"""`nncosim timing` on J3DAI's control registers, mapped and timed: by OSU's cells, and by libraries made from them.

A library with other names gives the same figures; a period that is too short, a library whose flip-flops want their
data longer, and a slow path that is planted, are told. The first run takes a minute; results are cached by content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nncosim.hdl.j3dai import control
from nncosim.regress.planted import planted
from nncosim.tb.cli.main import invoke
from nncosim.tb.j3dai import blocks
from nncosim.tb.timing.opensta import run_opensta
from nncosim.tb.timing.sta import OSU018

pytestmark = pytest.mark.text

BLOCK = ("timing", "--platform", "j3dai", "--block", "control")
OSU = OSU018.read_text()
PINS = r"(?<![\w.])(A|B|C|D|S|R|EN|CLK|Q|Y|YC|YS)(?![\w.])"


def measured(tmp_path: Path, *more: object, status: int = 0) -> dict[str, Any]:
    """The JSON of the block."""
    file = tmp_path / "timing.json"
    assert invoke([*BLOCK, "--json", str(file), *map(str, more)]) == status
    return json.loads(file.read_text())


def library(tmp_path: Path, text: str) -> Path:
    assert text != OSU
    file = tmp_path / "cells.lib"
    file.write_text(text)
    return file


def scaled(text: str, factor: float) -> str:
    return re.sub(r"-?\b\d+(?:\.\d+)?", lambda number: f"{float(number[0]) * factor:.9g}", text)


def in_ps_and_ff(text: str) -> str:
    """OSU's library in other units: delays and edges in ps, loads in fF."""
    def table(found: re.Match[str]) -> str:
        kind, head, body = found.groups()
        # Delays by load and edge, constraints by two edges: all of them grow alike.
        return f"{kind}{head}{{" + re.sub(r'"[^"]*"', lambda quoted: scaled(quoted[0], 1000), body) + "}"

    text = re.sub(r"\b(cell_rise|cell_fall|rise_transition|fall_transition|rise_constraint|fall_constraint)"
                  r"(\s*\([^)]*\)\s*)\{([^}]*)\}", table, text)
    text = re.sub(r"\b((?:\w+_)?capacitance\s*:\s*)([\d.]+)", lambda found: found[1] + scaled(found[2], 1000), text)
    return text.replace('time_unit : "1ns"', 'time_unit : "1ps"').replace("(1,pf)", "(1,ff)")


def figures(data: dict[str, Any]) -> object:
    """All that is measured; nothing with a name of a cell or pin in it."""
    (block,) = data["blocks"]
    paths = [[path[key] for key in ("ns", "fo4", "gates", "start", "end")] + [step["fo4"] for step in path["steps"]]
             for path in block["paths"]]  # fmt: skip
    return data["library"]["fo4_ns"], [block[key] for key in ("period", "period_without_ports", "hold", "area")], paths


@pytest.fixture(scope="module")
def osu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measured(tmp_path_factory.mktemp("osu"))


@pytest.fixture
def planted_control(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two multiplications in a row before a register that a comparison feeds."""
    slow = planted(control, "self.input_free.eq(requested == stored[Reg.INPUTS_FREE])",
                   "self.input_free.eq(((requested * requested)[:32] * requested)[:32] == stored[Reg.INPUTS_FREE])")
    monkeypatch.setattr(blocks, "ControlRegisters", slow.ControlRegisters)
    blocks.control.cache_clear()
    yield
    blocks.control.cache_clear()


def test_a_period_between(osu: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One a little longer than the longest path holds; a little shorter does not, and the path is named."""
    best, worst = osu["blocks"][0]["period"]["ns"], osu["blocks"][0]["paths"][0]
    assert measured(tmp_path, "--period", best + 0.01)["failed"] == []
    assert "every path holds" in capsys.readouterr().out
    late = measured(tmp_path, "--period", best - 0.01, status=1)
    assert len(late["failed"]) == 1
    assert f"control: {worst['start']['name']} -> {worst['end']['name']} takes" in capsys.readouterr().out
    slacks = [path["slack_ns"] for path in late["blocks"][0]["paths"]]
    assert slacks[0] == pytest.approx(-0.01) and slacks == sorted(slacks)


def test_ends_are_told_with_their_lines(osu: dict[str, Any]) -> None:
    """The line of an end declares it; the kinds are those of the names."""
    ends = [path[side] for path in osu["blocks"][0]["paths"] for side in ("start", "end")]
    assert {end["kind"] for end in ends} == {"port", "register"}
    root = Path(control.__file__).parents[2]
    for end in ends:
        assert end["name"].startswith("port ") == (end["kind"] == "port")
        if end["declared"] is None:
            assert end["kind"] == "port"  # that is nothing but another one
            continue
        file, _, line = end["declared"].rpartition(":")
        text = (root / file).read_text().splitlines()[int(line) - 1]
        name = re.sub(r"(\[\d+\]|_\d+)$", "", end["name"].removeprefix("port "))
        assert f'"{name}":' in text or f"{name} = " in text or file == "hdl/registers.py", (end, text)
    assert sum(end["declared"] is not None for end in ends) > len(ends) // 2


@pytest.mark.parametrize("names", ["cells", "cells and pins"])
def test_names_of_a_library_say_nothing(names: str, osu: dict[str, Any], tmp_path: Path) -> None:
    """Every cell renamed, and every pin: the same netlist, and so every figure to the last digit."""
    text = re.sub(r"\bcell \((\w+)\)", r"cell (MY_\1)", OSU)
    if names != "cells":
        text = re.sub(PINS, r"P\1", text)
    renamed = measured(tmp_path, "--liberty", library(tmp_path, text))
    assert figures(renamed) == figures(osu)
    assert renamed["library"]["cells"] == {key: f"MY_{name}" for key, name in osu["library"]["cells"].items()}
    cells = {step["cell"] for path in renamed["blocks"][0]["paths"] for step in path["steps"]} - {"in", "out"}
    assert cells and all(cell.startswith("MY_") for cell in cells)


def test_units_of_a_library_say_nothing(osu: dict[str, Any], tmp_path: Path) -> None:
    """In ps and fF instead of ns and pF: the same, but for the last digits that OpenSTA prints."""
    other = measured(tmp_path, "--liberty", library(tmp_path, in_ps_and_ff(OSU)))
    assert other["library"]["load_pf"] == osu["library"]["load_pf"]
    assert other["library"]["fo4_ns"] == pytest.approx(osu["library"]["fo4_ns"], rel=1e-3)
    ours, theirs = (data["blocks"][0] for data in (osu, other))
    assert theirs["area"]["library_units"] == pytest.approx(ours["area"]["library_units"], rel=0.01)
    for key in ("period", "period_without_ports"):
        assert theirs[key]["ns"] == pytest.approx(ours[key]["ns"], rel=0.02)


def test_hold_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flip-flops that want their data for 2 ns after the edge: no period helps, and only --period asks."""
    text = re.sub(r"(hold_rising;\s*rise_constraint.*?values \().*?(\);.*?values \().*?(\);)",
                  lambda found: "".join(f"{part}{values}" for part, values in zip(
                      found.groups(), ('"2,2,2,2,2","2,2,2,2,2","2,2,2,2,2"',) * 2 + ("",), strict=True)),
                  OSU, flags=re.DOTALL)  # fmt: skip
    file = library(tmp_path, text)
    data = measured(tmp_path, "--liberty", file, "--period", 100, status=1)
    hold = data["blocks"][0]["hold"]
    assert -2 < hold["slack_ns"] < -1 and len(data["failed"]) == 1
    assert f"{hold['start']} -> {hold['end']} does not hold" in capsys.readouterr().out
    assert measured(tmp_path, "--liberty", file)["failed"] == []


def test_a_wire_load_of_the_library_is_taken(osu: dict[str, Any], tmp_path: Path) -> None:
    """It is named, it lengthens paths, and an FO4 is free of it."""
    model = ('wire_load ("long") { resistance : 0.001; capacitance : 0.02; area : 1; slope : 1; '
             'fanout_length (1, 1); fanout_length (20, 20); }\n  default_wire_load : "long";\n')
    text = OSU.replace("  lu_table_template", f"  {model}  lu_table_template", 1)
    loaded = measured(tmp_path, "--liberty", library(tmp_path, text))
    assert "long" in loaded["assumed"]["wires"] and "none" in osu["assumed"]["wires"]
    assert loaded["library"]["fo4_ns"] == osu["library"]["fo4_ns"]
    assert loaded["blocks"][0]["period_without_ports"]["fo4"] > 1.2 * osu["blocks"][0]["period_without_ports"]["fo4"]


@pytest.mark.usefixtures("planted_control")
def test_a_planted_slow_path_is_named(osu: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = measured(tmp_path, "--period", osu["blocks"][0]["period"]["ns"] + 0.1, status=1)
    path = data["blocks"][0]["paths"][0]
    assert path["start"]["name"].startswith("requested[") and path["end"]["name"] == "input_free"
    assert [path[side]["kind"] for side in ("start", "end")] == ["register", "register"] and path["gates"] > 40
    assert path["start"]["declared"].startswith("hdl/j3dai/control.py:")
    assert "-> input_free takes" in capsys.readouterr().out


def test_what_is_written_times_the_block_again(osu: dict[str, Any], tmp_path: Path) -> None:
    """OpenSTA finds all it needs in --out, and the same longest path."""
    out = tmp_path / "out"
    data = measured(tmp_path, "--out", out)
    assert json.loads((out / "timing.json").read_text()) == data and figures(data) == figures(osu)
    assert "best period by block" in (out / "timing.txt").read_text()
    report = run_opensta(out / "control.tcl")
    assert float(re.findall(r"([\d.]+)\s+slack", report)[0]) == pytest.approx(
        70 * data["library"]["fo4_ns"] - data["blocks"][0]["period"]["ns"], abs=1e-5)
