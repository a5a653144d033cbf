# SPDX-License-Identifier: Apache-2.0
"""Blocks placed and routed in OSU's cells, and timed with their wires; and whoever looks notices what is wrong in one.

The small block takes seconds, J3DAI's units minutes: `-m slow`. Results are cached by content.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.odometer import Odometer
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.cli import layout
from nncosim.tb.cli.about import library_json
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.units import unit_part
from nncosim.tb.layout.annotation import check_annotation
from nncosim.tb.layout.connectivity import check_connectivity
from nncosim.tb.layout.def_file import read_def
from nncosim.tb.layout.flow import OSU018_LEF, Routed, place_and_route, time_routed
from nncosim.tb.layout.lef import read_lef
from nncosim.tb.layout.nets import nets_of
from nncosim.tb.layout.table import layout_json
from nncosim.tb.netlist.mapping import Part, mapped_file
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.opensta import run_opensta
from nncosim.tb.timing.sta import OSU018, StaOptions, time_netlist

pytestmark = pytest.mark.text

LEF = read_lef(OSU018_LEF)
SMALL = Part("small", emit_design(Odometer(2, 0, {"a": 6}, {"a": 6}, 4), "small"))


@pytest.fixture(scope="module")
def routed() -> Routed:
    return place_and_route(SMALL)


def annotated(folder: Path, routed: Routed, text: str) -> None:
    (folder / "other.spef").write_text(text)
    check_annotation(folder, folder / "other.spef", routed.netlist, nets_of(routed.netlist), OSU018)


def test_all_is_wired_and_annotated(routed: Routed, tmp_path: Path) -> None:
    """Every net has wires, and OpenSTA parasitics of every pin; the layout has the mapped netlist's cells, each pin on
    the net that it is on there."""
    block, nets = read_def(routed.def_file, LEF), nets_of(routed.netlist)
    assert {name for name, net in block.nets.items() if net.segments or net.vias} == set(nets)
    assert {name: set(net.pins) for name, net in block.nets.items()} == {name: set(pins) for name, pins in nets.items()}
    annotated(tmp_path, routed, routed.spef.read_text())
    assert routed.pins == sum(len(net.pins) for net in block.nets.values())
    mapped = Netlist.read(mapped_file(SMALL, OSU018), "small", read_library(OSU018))
    assert {name: cell for name, cell in routed.netlist.cells.items() if name in mapped.cells} == mapped.cells
    assert {name: kind for name, (kind, _) in mapped.cells.items()} == {
        name: cell.cell for name, cell in block.cells.items() if name in mapped.cells}
    assert 0.08 < routed.per_um < 0.17  # fF: between the least and the most of the layers that are used


def nets_written(text: str) -> dict[str, set[tuple[str, str]]]:
    """Net to pins, of the Verilog that is written: cells with pins by name, and ports."""
    nets: dict[str, set[tuple[str, str]]] = {}
    for instance, wired in re.findall(r"^  \w+ (\w+) \((\..*)\);$", text, re.MULTILINE):
        for pin, net in re.findall(r"\.(\w+)\((\w+)\)", wired):
            nets.setdefault(net, set()).add((instance, pin))
    for port in re.findall(r"^  (?:input|output) (\w+);$", text, re.MULTILINE):
        nets.setdefault(port, set()).add(("PIN", port))
    return {name: pins for name, pins in nets.items() if len(pins) > 1}


def test_the_layout_is_the_netlist_that_is_written(routed: Routed) -> None:
    """`nets_of` is what is placed and what is checked: here nets are read from the Verilog text instead."""
    nets = nets_written(routed.verilog.read_text())
    assert nets == {name: set(pins) for name, pins in nets_of(routed.netlist).items()}
    check_connectivity(read_def(routed.def_file, LEF), LEF, {name: tuple(sorted(pins)) for name, pins in nets.items()})


def test_names_are_those_that_were_asked_for(routed: Routed, tmp_path: Path) -> None:
    """Of files, tables and JSON, whatever the module's name."""
    block = time_routed(routed, name="asked")
    data: Any = layout_json([block], LEF, {})
    assert [(row["name"], row["top"]) for row in data["blocks"]] == [("asked", "small")]
    layout._write(tmp_path / "out", [block], LEF, data, OSU018)
    ends = (".v", ".spef", ".def", ".svg", ".tcl", "_cut.lib")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "layout.txt", "layout.json", "cells.lib", *(f"asked{end}" for end in ends)}
    assert "small" not in (tmp_path / "out" / "layout.txt").read_text()
    assert library_json(OSU018)["name"] == read_library(OSU018).name


def test_cells_do_not_overlap(routed: Routed) -> None:
    """Cells of a row lie side by side within the die, rows are equally long, and each port has a place of its own."""
    block = read_def(routed.def_file, LEF)
    rows: dict[int, list[tuple[int, int]]] = {}
    for cell in block.cells.values():
        rows.setdefault(cell.y, []).append((cell.x, cell.x + LEF.cells[cell.cell].width))
    for row in rows.values():
        spans = sorted(row)
        assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
        assert block.die.x0 <= spans[0][0] and spans[-1][1] <= block.die.x1
    assert len({(min(row)[0], max(row)[1]) for row in rows.values()}) == 1
    assert len({tuple(shape.rect) for shape in block.ports.values()}) == len(block.ports)


def test_wires_cost_time(routed: Routed) -> None:
    timing = time_routed(routed)
    assert 1 < timing.wired.worst / timing.without.worst < timing.doubled.worst / timing.without.worst < 2
    assert timing.wired.cells == timing.without.cells == routed.cells
    assert timing.wired.flip_flops == timing.without.flip_flops


def test_a_wire_load_of_the_library_is_no_wire(routed: Routed, tmp_path: Path) -> None:
    """A library that loads each net by default: neither what has wires nor what has none is timed with that."""
    model = ('wire_load ("long") { resistance : 0.001; capacitance : 0.02; area : 1; slope : 1; '
             'fanout_length (1, 1); fanout_length (20, 20); }\n  default_wire_load : "long";\n')
    (tmp_path / "cells.lib").write_text(OSU018.read_text().replace("  lu_table", f"  {model}  lu_table", 1))
    assert read_library(tmp_path / "cells.lib").corner.wire_load == "long"
    plain, loaded = time_routed(routed), time_routed(routed, StaOptions(liberty=tmp_path / "cells.lib"))
    for ours, theirs in ((plain.without, loaded.without), (plain.wired, loaded.wired)):
        assert theirs.paths == ours.paths and theirs.hold == ours.hold
    assert loaded.wired.folder is not None
    assert "default_wire_load" not in (loaded.wired.folder / "cells.lib").read_text()


def test_the_same_again(routed: Routed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an empty cache: to the last bit."""
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    again = place_and_route(SMALL)
    for one, other in ((routed.def_file, again.def_file), (routed.spef, again.spef), (routed.verilog, again.verilog)):
        assert one != other and one.read_bytes() == other.read_bytes()


def test_missing_wires_are_found(routed: Routed, tmp_path: Path) -> None:
    """Some ten, one at a time: wires above the cells, with the via at their end."""
    nets, text = nets_of(routed.netlist), routed.def_file.read_text()
    lines = list(re.finditer(r"^  NEW metal[3-6] .*M\d_M\d $", text, re.MULTILINE))
    assert len(lines) > 20
    for line in lines[:: len(lines) // 10]:
        (tmp_path / "cut.def").write_text(text[:line.start()] + text[line.end() + 1:])
        with pytest.raises(BenchError, match="is open"):
            check_connectivity(read_def(tmp_path / "cut.def", LEF), LEF, nets)


def test_a_short_is_found(routed: Routed, tmp_path: Path) -> None:
    """A wire right through the block, on each layer in turn: it meets something."""
    nets, text = nets_of(routed.netlist), routed.def_file.read_text()
    block = read_def(routed.def_file, LEF)
    name = next(iter(nets))
    for layer in ("metal1", "metal2", "metal3"):
        y = (block.die.y0 + block.die.y1) // 2
        planted = f"END NETS\nSPECIALNETS 1 ;\n- {name} + ROUTED {layer} 300 ( 0 {y} ) ( {block.die.x1} {y} ) ;\n"
        (tmp_path / "short.def").write_text(text.replace("END NETS\n", planted + "END SPECIALNETS\n", 1))
        with pytest.raises(BenchError, match=r"shorted|touches metal"):
            check_connectivity(read_def(tmp_path / "short.def", LEF), LEF, nets)


def test_two_pins_exchanged_are_found(routed: Routed) -> None:
    nets = {name: list(pins) for name, pins in nets_of(routed.netlist).items()}
    one, other = [name for name, pins in nets.items() if len(pins) > 2][:2]
    nets[one][-1], nets[other][-1] = nets[other][-1], nets[one][-1]
    with pytest.raises(BenchError, match="the layout of 'small' is not its netlist"):
        check_connectivity(read_def(routed.def_file, LEF), LEF, {name: tuple(pins) for name, pins in nets.items()})


@pytest.mark.parametrize("kind", ["net", "pin", "underscores", "half"])
def test_parasitics_that_do_not_arrive(routed: Routed, kind: str, tmp_path: Path) -> None:
    """A net that is left out, a pin that is, nodes with names that OpenSTA does not know, and half of everything."""
    text = routed.spef.read_text()
    net, pins = next((name, pins) for name, pins in nets_of(routed.netlist).items() if len(pins) > 2)
    instance, pin = pins[-1]
    wrong = {
        "net": re.sub(rf"^\*D_NET {net} .*?\*END\n", "", text, flags=re.MULTILINE | re.DOTALL),
        "pin": text.replace(f"*I {instance}:{pin} I\n", ""),
        "underscores": text.replace(f"{instance}:{pin}", f"{instance}_{pin}"),
        "half": text.replace("*C_UNIT 1 FF", "*C_UNIT 0.5 FF"),
    }[kind]
    assert wrong != text
    with pytest.raises(BenchError, match="parasitics of 'small' are not complete"):
        annotated(tmp_path, routed, wrong)


def test_timing_refuses_parasitics_of_something_else(routed: Routed, tmp_path: Path) -> None:
    """OpenSTA would warn of nodes that it does not know, and find a shorter path."""
    (tmp_path / "other.spef").write_text(re.sub(r"\b(u\d+):", r"\1_", routed.spef.read_text()))
    with pytest.raises(BenchError, match="not found"):
        time_netlist(routed.netlist, spef=tmp_path / "other.spef")


def test_a_router_that_gives_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """qrouter that says it left a net, and qrouter that writes no layout."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tools}:{Path(shutil.which('graywolf') or '').parent}:/bin:/usr/bin")
    for script, message in (("touch routed.def; echo unrouted 3", "left 3 of .* nets of 'small' without wires"),
                            ("echo of no avail", "could not route 'small'")):  # fmt: skip
        (tools / "qrouter").write_text(f'#!/bin/sh\ncase "$*" in *-h) echo version 0;; *) {script};; esac\n')
        (tools / "qrouter").chmod(0o755)
        with pytest.raises(BenchError, match=message):
            place_and_route(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["settle", "sequencer", "counters", "requantizer"])
def test_units(unit: str, tmp_path: Path) -> None:
    """By the command: tables, files, and OpenSTA finds the same period again in what is written."""
    out = tmp_path / "out"
    assert invoke(["layout", "--platform", "j3dai", "--block", unit, "--out", str(out)]) == 0
    (data,) = json.loads((out / "layout.json").read_text())["blocks"]
    assert data["name"] == unit and data["slow_down"] > 0
    assert {path.name for path in out.iterdir()} >= {f"{unit}.{end}" for end in ("v", "spef", "def", "svg", "tcl")}
    slack = float(re.findall(r"(-?[\d.]+)\s+slack", run_opensta(out / f"{unit}.tcl"))[0])
    again = 70 * data["with_wires"]["fo4_ns"] - slack
    assert again == pytest.approx(data["with_wires"]["period_ns"], abs=1e-5)
    assert place_and_route(unit_part(PLATFORM, unit)).cells == data["cells"]
