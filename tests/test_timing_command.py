# SPDX-License-Identifier: Apache-2.0
"""`nncosim timing` without mapping anything: bad input, tables and JSON; liberty files, and lines that declare."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
import toy
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from command_line import refused
from nncosim.hdl.emit import Block, emit_design
from nncosim.tb.cli.about import library_json
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.system.terminal import Terminal
from nncosim.tb.timing.declared import source_line
from nncosim.tb.timing.liberty import read_groups, truth_table
from nncosim.tb.timing.library import Gate, read_library, without_wires
from nncosim.tb.timing.sta import OSU018, PORT, LeastHold, LogicArea, TimedPath, TimingReport
from nncosim.tb.timing.synthesis import CONSTRAINTS
from nncosim.tb.timing.table import (
    BlockTiming,
    Clocking,
    failures,
    paths_table,
    summary_table,
    timing_header,
    timing_json,
)

toy.install()
OSU = OSU018.read_text()


def without(*cells: str) -> str:
    """OSU's library without cells whose names begin so."""
    head, *rest = re.split(r"(?m)^(?=cell \()", OSU)
    return head + "".join(cell for cell in rest if not cell.startswith(tuple(f"cell ({name}" for name in cells)))


BAD = {
    "no flip-flop": (without("DFF"), "a flip-flop on a rising edge without set and reset"),
    "no NAND": (without("NAND2"), "no cell with an area that is a NAND of two inputs"),
    "no inverter": (without("INV"), "an inverter"),
    "no buffer": (without("BUF", "CLKBUF"), "a buffer"),
    "empty": ("", "no group `library`"),
    "a text": ("this is a letter\n", "line 1: after 'this' there is 'is'"),
    "bytes": ("\x00\x01\x02}{", "line 1"),
    "broken off": (OSU[: OSU.index("cell (BUFX2)") + 40], "the file ends within a group"),
    "unit": (OSU.replace("(1,pf)", "(1,foot)"), "capacitive_load_unit (1,foot)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_library_that_will_not_do(command, tmp_path, kind):
    text, message = BAD[kind]
    file = tmp_path / "cells.lib"
    file.write_text(text)
    refused(command("timing", "--liberty", file, "--block", "control"), f"cell library {file}", message)


def test_a_library_that_cannot_be_read(command, tmp_path):
    for file in (tmp_path / "none.lib", tmp_path):
        refused(command("timing", "--liberty", file), f"cannot read the cell library {file}")
    (tmp_path / "cells.lib").write_text(OSU)
    refused(command("timing", "--liberty", tmp_path / "cells.lib", "--json", tmp_path / "cells.lib"), "--json",
            "would replace the cell library")  # fmt: skip


def test_what_is_refused(command):
    refused(command("timing", "--block", "xyzzy"), "j3dai has no block 'xyzzy'", "ncb, requantizer, cluster")
    refused(command("timing", "--platform", "aie_ml", "--block", "ncb"), "aie_ml has no block 'ncb'", "tile, fetch")
    refused(command("timing", "--platform", "toy"), "'toy' says of no block how it is timed")
    refused(command("timing", "--period", "0"), "--period")
    refused(command("timing", "--period", "fast"), "--period")
    refused(command("timing", "--set", "cluster=3"), "did you mean 'clusters'?")


def report(**changes: object) -> TimingReport:
    paths = (
        TimedPath("port in_0", "b[3]", 66.0, ((0.0, "in", "in_0"), (36.0, "INVX1", "u1/Y")), 1, ("port", "register"),
                  ("hdl/part.py:3", "hdl/part.py:9")),
        TimedPath("l1.bank0", "[bold]a[7]", 50.0, kinds=("SRAM", "register"), gates=12, declared=("", "hdl/part.py:8")),
    )
    return TimingReport(**{
        "top": "part", "fo4_ns": 0.1, "port": PORT, "paths": paths, "inputs": {}, "flip_flops": {"a": 8, "b": 4},
        "storage": (), "cells": 1235, "area": LogicArea(100.5, 50), "seconds": 1.0,
        "hold": LeastHold("b[0]", "a[0]", 0.25), "nand2": 24.0, "macros": 1, **changes})  # fmt: skip


def shown(renderable: object) -> str:
    console = Terminal(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.fixture
def clocking() -> Clocking:
    return Clocking(OSU018, read_library(OSU018), 0.1, 6.0)


def test_tables(clocking):
    block = BlockTiming("part", "some part", report())
    row = shown(summary_table([block], clocking)).splitlines()[-1].split()
    assert row == ["part", "6.600", "66.0", "5.000", "50.0", "0.250", "1,234", "12", "3,612", "150", "no"]
    text = shown(paths_table(block, clocking))
    assert re.search(r"6\.600 +66\.0 +-0\.600 +1 +port -> register +port in_0 +hdl/part\.py:3 +b\[3\] +hdl/part\.py:9",
                     text)
    assert re.search(r"5\.000 +50\.0 +1\.000 +12 +SRAM -> register +l1\.bank0 +- +\[bold\]a\[7\] +hdl/part\.py:8", text)
    assert "least slack of hold: 0.250 ns, b[0] -> a[0]" in text
    head = shown(timing_header([block], clocking))
    for said in (str(OSU018), "100.0 ps, of INVX1", "conditions typical, process 1, 1.8 V, 25 degrees C", "ideal",
                 "none: before placement", "30 FO4", "25 FO4 from clock to output", "NAND2X1 of 24"):  # fmt: skip
        assert said in head


def test_what_fails(clocking):
    slow = BlockTiming("part", "", report())
    loose = BlockTiming("loose", "", report(hold=LeastHold("x", "y", -0.125), paths=report().paths[1:]))
    empty = BlockTiming("empty", "", report(hold=None, paths=()))
    assert failures([slow, loose, empty], clocking) == [
        "part: port in_0 -> b[3] takes 6.600 ns (3.000 are budgeted beyond ports), 0.600 more than the period",
        "loose: x -> y does not hold: slack -0.125 ns"]  # fmt: skip
    free = Clocking(clocking.liberty, clocking.library, clocking.fo4)
    assert failures([slow, loose, empty], free) == []
    assert "slack, ns" not in shown(paths_table(slow, free)) and "holds" not in shown(summary_table([slow], free))
    assert "there is no hold to check" in shown(paths_table(empty, clocking))
    assert [line.split()[-1] for line in shown(summary_table([slow, loose, empty], clocking)).splitlines()[-3:]] == [
        "no", "no", "yes"]  # fmt: skip


def test_the_longest_without_ports_is_among_those_shown():
    paths = tuple(TimedPath(f"port i_{n}", "a", 90.0 - n, kinds=("port", "register")) for n in range(15))
    inside = TimedPath("a", "b", 20.0)
    block = BlockTiming("part", "", report(paths=(*paths, inside)))
    assert block.shown == (*paths[:10], inside) and block.inside == inside and block.worst == paths[0]


def test_json_has_all_that_the_tables_show(clocking):
    timed = [BlockTiming("part", "some part", report())]
    data = json.loads(json.dumps(timing_json(timed, clocking, {"platform": "p"})))
    assert data["platform"] == "p" and data["period_ns"] == 6.0 and len(data["failed"]) == 1
    assert data["library"]["corner"] == {
        "conditions": "typical", "process": 1, "temperature": 25, "voltage": 1.8, "wire_load": ""}
    assert {key: data["library"][key] for key in library_json(OSU018)} == library_json(OSU018), "as of other commands"
    (block,) = data["blocks"]
    assert block["period"] == {"ns": pytest.approx(6.6), "fo4": 66.0} and block["period_without_ports"]["fo4"] == 50
    assert block["hold"] == {"slack_ns": 0.25, "start": "b[0]", "end": "a[0]"}
    assert block["area"] == {"cells": 1234, "cut_out": 1, "flip_flops": 12, "library_units": 3612.0, "nand2": 150.5,
                             "nand2_gates": 100.5, "nand2_flip_flops": 50}  # fmt: skip
    first, second = block["paths"]
    assert first["end"] == {"name": "b[3]", "kind": "register", "declared": "hdl/part.py:9"}
    assert second["start"]["declared"] is None and first["slack_ns"] == pytest.approx(-0.6)
    assert first["steps"][1] == {"fo4": 36.0, "pin": "u1/Y", "cell": "INVX1"}


# ---- liberty files

def test_osu_has_the_cells_that_it_always_had():
    library = read_library(OSU018)
    assert (library.inverter, library.nand2) == (Gate("INVX1", ("A",), "Y"), Gate("NAND2X1", ("A", "B"), "Y"))
    assert (library.driver.name, library.buffer.name, library.load) == ("BUFX2", "BUFX4", 0.02)
    assert library.constraints == CONSTRAINTS
    assert {name for name, cell in library.storage.items() if cell.plain} == {"DFFPOSX1"}
    assert library.storage["DFFSR"].asynchronous == ("R", "S") and library.storage["DFFSR"].outputs == ("Q",)


@pytest.mark.parametrize(("function", "inputs", "values"), [
    ("!A", "A", "10"), ("A'", "A", "10"), ("(A)", "A", "01"), ("A B", "AB", "0001"), ("A*B", "AB", "0001"),
    ("A & !B", "AB", "0010"), ("(A+B)'", "AB", "1000"), ("!A|!B", "AB", "1110"), ("A ^ B", "AB", "0110"),
    ("A+B C", "ABC", "00011111"), ("A^B C", "ABC", "00010100"), ("!A B", "AB", "0100"), ("A B' + A' B", "AB", "0110"),
    ("1", "", "1"), ("A B", "A", None), ("(A", "A", None), ("A)", "A", None), ("A +", "A", None), ("", "A", None),
    ("A ? B", "AB", None),
])  # fmt: skip
def test_functions(function, inputs, values):
    assert truth_table(function, tuple(inputs)) == (None if values is None else tuple(map(int, values)))


def test_functions_are_those_that_yosys_reads():
    """Of every combinational cell of OSU's, for all values of its inputs."""
    checked = 0
    models = cell_models(OSU018)
    for cell in read_groups(OSU).of("cell"):
        inputs = tuple(pin.name for pin in cell.of("pin") if pin.attributes["direction"] == "input")
        for pin in cell.of("pin"):
            if pin.name not in models[cell.name].outputs or models[cell.name].refused:
                continue
            text = models[cell.name].outputs[pin.name]
            values = [eval(text.format(**dict(zip(inputs, bits, strict=True)))) & 1
                      for bits in itertools.product((0, 1), repeat=len(inputs))]  # fmt: skip
            assert truth_table(pin.attributes["function"], inputs) == tuple(values), (cell.name, pin.name)
            checked += 1
    assert checked > 25


def test_forms_of_a_liberty_file():
    """Comments, lines that go on, a semicolon left out, complex attributes, names in quotes."""
    library = read_groups('/* a\n b */ library ("l") { // c\n time_unit : "1ns" ;\n  x : 1\n  y : a b;\n'
                          " unit (1, pf);\n"
                          '  cell ("c 1") { area : 2.5; pin (A) { values ("1, 2", \\\n "3"); } }\n'
                          " define (a, b, c);\n}\n")
    assert library.name == "l" and library.attributes == {
        "time_unit": "1ns", "x": "1", "y": "a b", "unit": "1,pf", "define": "a,b,c"}
    (cell,) = library.of("cell")
    assert (cell.name, cell.number("area"), cell.number("none"), cell.groups[0].attributes) == (
        "c 1", 2.5, None, {"values": "1, 2,3"})
    with pytest.raises(BenchError, match="line 3: "):
        read_groups("library (l) {\n a : 1;\n ) }")


def cell(name: str, area: int, inputs: str, outputs: dict[str, str], more: str = "", of_output: str = "") -> str:
    """A cell of a liberty file. `outputs`: pin to function."""
    pins = [f"pin ({pin}) {{ direction : input; capacitance : 1.1; }}" for pin in inputs.split()]
    pins += [f'pin ({pin}) {{ direction : output; function : "{function}"; {of_output} }}'
             for pin, function in outputs.items()]  # fmt: skip
    return f"cell ({name}) {{ area : {area}; {more} {' '.join(pins)} }}\n"


FLIP_FLOP = 'ff (IQ, IQN) {{ clocked_on : "CK"; next_state : "D"; {} }}'
CELLS = "".join([
    cell("X1", 2, "I", {"Z": "I'"}), cell("X0", 1, "I", {"Z": "!I"}, "dont_use : true;"),
    cell("B1", 3, "I", {"Z": "I"}), cell("T1", 1, "I", {"Z": "I"}, of_output='three_state : "I";'),
    cell("N1", 4, "I J", {"Z": "!I+!J"}),
    cell("F1", 9, "CK D", {"QN": "IQN", "O": "IQ"}, FLIP_FLOP.format("")),
    cell("F0", 8, "CK D RN", {"O": "IQ"}, FLIP_FLOP.format('clear : "!(RN)";')),
])


def test_cells_are_known_by_what_they_do(tmp_path):
    """Whatever their names, pins and functions look like; not those that must not be used, or let their output go."""
    file = tmp_path / "small.lib"
    file.write_text('library (small) { capacitive_load_unit (1, ff); nom_voltage : 0.9; nom_temperature : 25;\n'
                    'default_wire_load : "w"; operating_conditions (hot) { temperature : 125; }\n'
                    f"default_operating_conditions : hot;\n{CELLS}}}\n")
    library = read_library(file)
    assert [gate.name for gate in (library.inverter, library.driver, library.buffer, library.nand2)] == [
        "X1", "B1", "B1", "N1"]  # fmt: skip
    assert library.nand2.inputs == ("I", "J") and library.load == pytest.approx(0.002)
    flip_flop, other = library.storage["F1"], library.storage["F0"]
    assert flip_flop.outputs == ("O", "QN") and flip_flop.plain and not other.plain and other.asynchronous == ("RN",)
    corner = library.corner
    assert (corner.conditions, corner.process, corner.temperature, corner.voltage, corner.wire_load) == (
        "hot", None, 125, 0.9, "w")  # fmt: skip
    assert "default_wire_load" not in without_wires(file.read_text())
    assert without_wires(OSU) == OSU


@pytest.mark.parametrize("name", ["timing.json", "timing.txt", "cells.lib", "control.v", "control_cut.lib"])
def test_outputs_that_collide(command, tmp_path, name):
    """--json is a file that --out writes; so is the library that is read."""
    place, block = tmp_path / name, ("timing", "--platform", "j3dai", "--block", "control", "--out", tmp_path)
    refused(command(*block, "--json", place), "writes a file of that name")
    place.write_text("")
    refused(command(*block, "--liberty", place), "would replace the cell library")


# ---- lines that declare

class Inner(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        held = Signal(4)  # here
        m.d.sync += [held.eq(self.i), self.o.eq(held)]
        return m


class Passing(wiring.Component):
    """Amaranth has one place for a port and another that is the same."""

    def __init__(self) -> None:
        super().__init__({
            "coming": In(4), "other": Out(4),
            "going": Out(4),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.going.eq(self.coming)
        m.d.sync += self.other.eq(self.coming)
        return m


class Outer(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"i": In(4), "o": Out(4)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.part = part = Inner()
        m.submodules.block = block = Block(Inner(), "inner")
        kept = Signal(4)  # there
        m.d.sync += kept.eq(part.o)
        m.d.comb += [part.i.eq(self.i), block.i.eq(kept), self.o.eq(block.o)]
        return m


def told(sources, place, name):
    """File and line; Python may have been given the file by a relative name."""
    file, _, line = source_line(sources, place, name).rpartition(":")
    return Path(file).resolve(), int(line)


def test_lines_of_registers():
    """From the line of a wire in any of the files to the line of Python; nothing where a line declares none."""
    sources = emit_design(Outer(), "outer")
    here, there = (next(number for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
                        if line.endswith(f"# {mark}")) for mark in ("here", "there"))  # fmt: skip
    expected = {("outer.v", "held"): here, ("outer.v", "kept"): there, ("inner.v", "held"): here}
    for (file, name), line in expected.items():
        found = [number for number, text in enumerate(sources[file].splitlines(), 1)
                 if re.match(rf"\s*reg \[3:0\] {name}\b", text)]
        assert len(found) == 1
        place = f"{file}:{found[0]}.3-{found[0]}.9"
        assert told(sources, f"outer.v:2.1-2.9|{place}", name) == (Path(__file__).resolve(), line)
        assert told(sources, f"{place}|outer.v:2.1-2.9", name) == (Path(__file__).resolve(), line)
        assert source_line(sources, place, "other") == ""
    for place in ("outer.v:1.1-1.2", "none.v:1.1", "", "outer.v:100000.1"):
        assert source_line(sources, place, "held") == ""
    core = {"core.sv": "module m;\n  logic [3:0] held_q;"}
    assert source_line(core, "core.sv:1.1|core.sv:2.3-2.4", "held_q") == "core.sv:2"
    assert source_line(core, "core.sv:2.3|core.sv:9.1", "held") == ""


def test_lines_of_ports():
    """A line that is told names the port; none is told of one for which Amaranth has another's."""
    sources = emit_design(Passing(), "passing")
    lines = Path(__file__).read_text().splitlines()
    declared = {}
    for number, text in enumerate(sources["passing.v"].splitlines(), 1):
        if (found := re.match(r"\s*(?:in|out)put \[3:0\] (\w+);", text)) is not None:
            declared[found[1]] = source_line(sources, f"passing.v:{number}.1", found[1])
    assert declared.keys() == {"coming", "going", "other"} and list(declared.values()).count("") == 1
    for name, place in declared.items():
        assert not place or f'"{name}"' in lines[int(place.rpartition(":")[2]) - 1]
