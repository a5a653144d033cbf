# SPDX-License-Identifier: Apache-2.0
"""Energies of a library's tables and of gates, against values computed by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from command_line import refused
from nncosim.platforms.base import Published
from nncosim.tb.cli.about import library_json
from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.cells import CellModel, FlipFlop
from nncosim.tb.netlist.counting import Counter, Memory, counter_of
from nncosim.tb.netlist.gates import Cell, Gates, Port, Register
from nncosim.tb.power.account import KINDS, BlockEnergy, EnergyAccount, Process, account, counts_of
from nncosim.tb.power.gates import ModuleEnergy, Wiring, module_energy
from nncosim.tb.power.memories import MemoryModel, scaling
from nncosim.tb.power.report import EnergyReport, Layer, Target, energy_json, energy_tables
from nncosim.tb.power.run import EnergyRun
from nncosim.tb.power.tables import Table, power_library
from nncosim.tb.system.terminal import Terminal
from nncosim.tb.timing.sta import OSU018

LIBERTY = """library (tiny) {
  time_unit : "1ps"; voltage_unit : "1V"; leakage_power_unit : "1uW"; capacitive_load_unit (1, ff);
  nom_voltage : 2.0;
  lu_table_template (times) { variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("0, 100"); index_2 ("0, 10"); }
  power_lut_template (energies) { variable_1 : total_output_net_capacitance; variable_2 : input_transition_time;
    index_1 ("0, 10"); index_2 ("0, 100"); }
  cell (INV) { cell_leakage_power : 3;
    pin (A) { direction : input; capacitance : 2; }
    pin (Y) { direction : output; function : "!A";
      timing () { related_pin : "A"; timing_sense : negative_unate;
        rise_transition (times) { values ("10, 110", "30, 130"); }
        fall_transition (times) { values ("20, 120", "40, 140"); } }
      internal_power () { related_pin : "A";
        rise_power (energies) { values ("1, 3", "5, 7"); } fall_power (energies) { values ("2, 4", "6, 8"); } } } }
  cell (AND3) { pin (A) { direction : input; capacitance : 1; } pin (B) { direction : input; capacitance : 1; }
    pin (C) { direction : input; capacitance : 1; }
    pin (Y) { direction : output; function : "(A (B + C))";
      internal_power () { related_pin : "A"; power (scalar) { values ("8"); } }
      internal_power () { related_pin : "B C"; when : "A"; power (scalar) { values ("16"); } }
      internal_power () { related_pin : "B C"; when : "!A"; power (scalar) { values ("32"); } } } }
  cell (DFF) { ff (IQ, IQN) { next_state : "D"; clocked_on : "CK"; } cell_leakage_power : 5;
    pin (CK) { direction : input; capacitance : 4;
      internal_power () { rise_power (scalar) { values ("10"); } fall_power (scalar) { values ("20"); } } }
    pin (D) { direction : input; capacitance : 1;
      internal_power () { rise_power (scalar) { values ("6"); } fall_power (scalar) { values ("8"); } } }
    pin (Q) { direction : output; function : "IQ"; internal_power () { related_pin : "CK";
      rise_power (scalar) { values ("1"); } fall_power (scalar) { values ("2"); } }
    } } }"""

INV = CellModel("INV", ("A",), {"Y": "(~{A})"})
DFF = CellModel("DFF", ("CK", "D"), {}, FlipFlop("CK", "D", "Q"))
DIGITS = Path(__file__).parent.parent / "regress" / "networks" / "digits.onnx"
MODELS = {"INV": INV, "DFF": DFF}


def of_tiny(tmp_path: Path, change: tuple[str, str] = ("", "")) -> Path:
    path = tmp_path / "tiny.lib"
    path.write_text(LIBERTY.replace(*change))
    return path


def chain() -> Gates:
    """An input through an inverter to a flip-flop, through another inverter out."""
    ports = [Port("clk", "input", (2,)), Port("a", "input", (3,)), Port("y", "output", (6,))]
    cells = [Cell("u0", INV, {"A": 3, "Y": 4}), Cell("u1", INV, {"A": 5, "Y": 6})]
    return Gates("chain", ports, "clk", cells, [Register("r", "DFF", 4, 5)])


def test_a_table_of_the_library_between_its_points_and_beyond() -> None:
    """AND2X1 of OSU 180 nm, rise of Y by A: 0.012351 and 0.01753 pJ at 5 fF, 0.013339 and 0.017698 pJ at 12.5 fF, for
    edges of 60 and 180 ps."""
    library = power_library(OSU018)
    (arc,) = (each for each in library.cells["AND2X1"].outputs["Y"] if each.related == "A")
    assert arc.tables.rise.at(0.06, 0.005) == pytest.approx(0.012351)
    assert arc.tables.rise.at(0.12, 0.00875) == pytest.approx(0.0152295)  # the mean of the four
    assert arc.tables.rise.at(0.03, 0.005) == pytest.approx(0.01105625)  # 0.012351 - 0.25 * 0.005179
    assert (arc.weight, arc.inverting, library.voltage) == (0.5, False, 1.8)
    clock = library.cells["DFFPOSX1"].inputs["CLK"]
    assert clock.rise.at(0.06, 0.0) + clock.fall.at(0.06, 0.0) == pytest.approx(0.117205)
    assert library.cells["DFFPOSX1"].leakage == pytest.approx(0.160725e-9)


def test_a_table_of_one_variable() -> None:
    table = Table((0.0, 2.0), (0.0,), ((1.0,), (5.0,)))
    assert [table.at(slew, load) for slew, load in ((0, 0), (1, 7), (3, -7))] == [1.0, 3.0, 7.0]


def test_shares_of_inputs(tmp_path: Path) -> None:
    """Y = A (B + C): A decides unless B and C are 0, in 3 of 4 cases; B where A is 1 and C is 0, in one, and so C. Of
    what holds for different conditions, the mean."""
    arcs = {each.related: each for each in power_library(of_tiny(tmp_path)).cells["AND3"].outputs["Y"]}
    assert {name: each.decides for name, each in arcs.items()} == {"A": 0.75, "B": 0.25, "C": 0.25}
    assert {name: each.weight for name, each in arcs.items()} == pytest.approx({"A": 0.6, "B": 0.2, "C": 0.2})
    assert arcs["B"].tables.rise.at(0.0, 0.0) == pytest.approx(0.024)


def of_chain(tmp_path: Path, wiring: Wiring) -> ModuleEnergy:
    return module_energy(chain(), MODELS, power_library(of_tiny(tmp_path)), wiring)


def test_energy_of_nets(tmp_path: Path) -> None:
    """Of a change, in fJ, at 2 V: half of C V^2 is 2 V^2 C, C in fF. Wires are 1 fF a pin.

    net 3: goes to an inverter: 2 + 1 fF, so 6 fJ.
    net 4: is driven by one whose input takes 50 ps and whose load is a D: 1 + 1 fF, so 4 fJ. The rise's table gives
    (1, 3; 5, 7): 1 + 2 * 0.5 + 4 * 0.2 = 2.8; the fall's 3.8: 3.3 in the mean. D takes 6 or 8: 7.
    net 5: Q, 1.5 in the mean; to an inverter, 6.
    net 6: goes out: nothing hangs on it here. The edges of Q are not told, so 0: (1 + 2) / 2 = 1.5.
    """
    energy = of_chain(tmp_path, Wiring(0.02, 0.05, 1.0))
    found = {net: [1000 * value for value in (each.inside, each.switching, each.sinks)]
             for net, each in energy.nets.items()}  # fmt: skip
    assert found == {3: pytest.approx([0, 6, 0]), 4: pytest.approx([3.3, 4, 7]), 5: pytest.approx([1.5, 6, 0]),
                     6: pytest.approx([1.5, 0, 0])}  # fmt: skip
    assert energy.leakage == pytest.approx((2 * 3 + 5) * 1e-6)


def test_energy_of_the_clock(tmp_path: Path) -> None:
    """A rise and a fall: 10 + 20 fJ, and C V^2 of 4 fF: 16."""
    energy = of_chain(tmp_path, Wiring())
    assert (energy.clock_inside, energy.clock_switching) == (pytest.approx(0.030), pytest.approx(0.016))


def test_edges_go_from_gate_to_gate(tmp_path: Path) -> None:
    """A fall of 50 ps at the input, load 1 fF: the rise takes 10 + 20 * 0.5 + 100 * 0.1 ps; the fall 40."""
    energy = of_chain(tmp_path, Wiring(input_slew=0.05))
    assert energy.slews[4] == (pytest.approx(0.030), pytest.approx(0.040))


def test_what_a_library_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="states no voltage"):
        power_library(of_tiny(tmp_path, ("nom_voltage : 2.0;", "")))
    with pytest.raises(BenchError, match="time_unit"):
        power_library(of_tiny(tmp_path, ("1ps", "1h")))
    with pytest.raises(BenchError, match="3 values for 2 x 2 points"):
        power_library(of_tiny(tmp_path, ('"10, 110", "30, 130"', '"10, 110", "30"')))
    with pytest.raises(BenchError, match="depends on weather"):
        power_library(of_tiny(tmp_path, ("variable_1 : input_net_transition", "variable_1 : weather")))
    with pytest.raises(BenchError, match="it has no internal_power"):
        power_library(of_tiny(tmp_path, ("internal_power", "external_power")))
    with pytest.raises(BenchError, match="cannot read"):
        power_library(tmp_path / "none.lib")


def test_energy_of_memories() -> None:
    """8 KiB as 1,024 words of 64 bits take 10 pJ at 45 nm and 0.9 V; 32 KiB twice that, as published."""
    model = MemoryModel()
    assert model.access(Memory("m", 1024, 64), 45, 0.9) == pytest.approx(10)
    assert model.access(Memory("m", 4096, 64), 45, 0.9) == pytest.approx(20)
    assert model.access(Memory("m", 1024, 64), 180, 1.8) == pytest.approx(160)
    assert scaling(180, 1.8, 28, 0.9) == pytest.approx(28 / 180 / 4)


COUNTER = Counter("chain", 1000, 0, (5, 3, 4, 6), ("r",), (Memory("m", 1024, 64),))


def test_counts_cost_what_their_nets_do(tmp_path: Path) -> None:
    """Two instances, spans of 10 and 20 cycles."""
    records = np.array([[10, 1, 2, 3, 4, 1, 5, 0], [10, 0, 0, 0, 1, 0, 0, 0],
                        [30, 2, 0, 0, 0, 2, 0, 7], [30, 0, 0, 0, 0, 0, 0, 0]], np.uint32)  # fmt: skip
    ends, counts, instances = counts_of(COUNTER, records)
    assert (list(ends), instances) == ([10, 30], 2)
    assert counts.tolist() == [[1, 2, 3, 5, 1, 5, 0], [2, 0, 0, 0, 2, 0, 7]]
    process = Process(power_library(of_tiny(tmp_path)), 45, 1e6, Wiring(0.02, 0.05, 1.0))
    spent = account({"chain": chain()}, MODELS, [COUNTER], {1000: records}, process, lambda _: "all", ["all", "none"])
    (block, nothing) = spent.blocks
    data = [1 * 7.5 + 2 * 6 + 3 * 14.3 + 5 * 1.5, 2 * 7.5]
    access = 10 * (2 / 0.9) ** 2
    assert block.energy[:, KINDS.index("data")] == pytest.approx([each / 1000 for each in data])
    # A clock's cycle: 30 fJ inside, and 4 fF with its wire of 1 fF at 2 V: 20 fJ.
    assert block.energy[:, KINDS.index("clock")] == pytest.approx([10 * 2 * 0.050, 20 * 2 * 0.050])
    assert block.energy[:, KINDS.index("memory")] == pytest.approx([5 * access, 7 * access])
    assert block.energy[:, KINDS.index("leakage")] == pytest.approx([10 * 2 * 11, 20 * 2 * 11])
    assert (block.cells, block.flip_flops, block.bit_cycles, block.accesses) == (6, 2, (60, 3, 3), (5, 7))
    assert nothing.energy.sum() == 0


def test_counts_that_do_not_fit_are_refused() -> None:
    records = np.array([[10, *range(7)], [10, *range(7)], [30, *range(7)]], np.uint32)
    with pytest.raises(BenchError, match="did not count as often"):
        counts_of(COUNTER, records)
    with pytest.raises(BenchError, match="nothing was counted"):
        counts_of(COUNTER, records[:0])


def test_a_counter_as_json() -> None:
    assert counter_of(COUNTER.to_json()) == COUNTER


def a_report(target: Target, tmp_path: Path) -> EnergyReport:
    """Two layers of 100 and 300 cycles, behind a span of none: 4, 40 and 60 pJ of data, 0, 100 and 300 of the clock."""
    energy = np.array([[4, 0, 0, 0], [40, 100, 20, 1], [60, 300, 40, 3]], float)
    block = BlockEnergy("all", energy, 10, 4, (1600, 160, 320), (5, 7))
    spent = EnergyAccount((3, 103, 403), (block,))
    layers = [Layer("a", "Conv", 10, 100, (1,)), Layer("b", "Pool", 0, 300, (2,))]
    published = [Published("N", "power", 50.0, "mW", "a book", topology="t"), Published("M", "power", 9.0, "mW", "-")]
    process = Process(power_library(of_tiny(tmp_path)), 180, 1e6)
    return EnergyReport({"model": "m"}, "t", True, spent, process, target, layers, ["glitches"], published)


def test_the_report_adds_up(tmp_path: Path) -> None:
    data: Any = energy_json(a_report(Target(90, 1.0), tmp_path))
    assert data["energy_pj"] == {"data": 100, "clock": 400, "memory": 60, "leakage": 4, "total": 564}
    assert [each["energy_pj"]["total"] for each in data["layers"]] == [161, 403]
    assert data["layers"][0]["pj_per_mac"] == pytest.approx(16.1)
    assert data["layers"][0]["pj_per_mac_without_clock"] == pytest.approx(6.1)
    assert data["layers"][1]["pj_per_mac"] is None
    assert (data["pj_per_mac"], data["cycles"], data["macs"]) == (pytest.approx(56.4), 400, 10)
    assert data["clock_gating"] == {
        "clock_of_energy": pytest.approx(400 / 564), "bit_keeps": 0.9, "register_keeps": 0.8}
    assert [each["this_network"] for each in data["scaled"]["published"]] == [True, False]
    console = Terminal(file=io.StringIO(), width=200)
    console.print(energy_tables(a_report(Target(), tmp_path)))
    assert "16.1" in console.file.getvalue() and "published: 50 mW, power, N (this network)" in console.file.getvalue()


def test_power_beside_what_is_published(tmp_path: Path) -> None:
    """From 180 nm and 2 V to 90 nm and 1 V: an eighth. 564 pJ with leakage, 30 times a second; and at 1 MHz the
    clock takes 1 pJ in each of the 33,333.3 - 400 cycles in between."""
    report = a_report(Target(90, 1.0), tmp_path)
    assert report.factor == pytest.approx(1 / 8)
    assert report.milliwatts(False) == pytest.approx(564 / 8 * 30 * 1e-9)
    assert report.milliwatts(True) == pytest.approx((564 + 1e6 / 30 - 400) / 8 * 30 * 1e-9)
    assert a_report(Target(factor=0.5), tmp_path).factor == 0.5


def test_frames_that_a_machine_does_not_reach_are_said(tmp_path: Path) -> None:
    """400 cycles at 1 MHz are 2,500 frames/s, at 10 kHz 25."""
    for hertz, fastest in ((1e6, 2500), (12e3, 30), (1e4, 25)):
        report = a_report(Target(), tmp_path)
        report = replace(report, process=replace(report.process, clock_hz=hertz))
        console, data = Terminal(file=io.StringIO(), width=200), cast(Any, energy_json(report))
        console.print(energy_tables(report))
        assert data["scaled"]["frames_per_second_at_most"] == pytest.approx(fastest)
        said = "this machine does not reach 30 frames/s: at 0.01 MHz an inference of 400 cycles allows 25"
        assert (said in console.file.getvalue()) == ("does not reach" in console.file.getvalue()) == (fastest < 30)


def test_the_command(command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the gates, which take many minutes: its files, and a library as `timing` and `layout` have it."""
    report = a_report(Target(), tmp_path)
    counted = EnergyRun(cast(Any, None), report.account, (), ("glitches",), ())
    cli = import_module("nncosim.tb.cli.power")
    monkeypatch.setattr(cli, "_run", lambda *_: (counted, True))
    monkeypatch.setattr(cli, "_layers", lambda *_: report.layers)
    out = tmp_path / "out"
    status, text, err = command("power", DIGITS, "--platform", "j3dai", "--set", "clusters=1", "--out", out, "--json",
                                tmp_path / "p.json")  # fmt: skip
    assert status == 0, err
    assert {path.name for path in out.iterdir()} == {"power.txt", "power.json"}
    assert (out / "power.txt").read_text() == text
    assert (out / "power.json").read_text() == (tmp_path / "p.json").read_text()
    data = json.loads((out / "power.json").read_text())
    assert data["library"] == library_json(OSU018) and data["library"]["file"] == str(OSU018)
    assert data["settings"] == {"clusters": "1"} and "library" not in data["process"]
    refused(command("power", DIGITS, "--out", out, "--json", out / "power.txt"), "writes a file of that name")


def test_a_library_comes_with_its_feature_size(command: Callable[..., Any], tmp_path: Path) -> None:
    for given in (("--node", "45"), ("--liberty", of_tiny(tmp_path))):
        status, _, err = command("power", DIGITS, "--platform", "j3dai", *given)
        assert status == 2 and "--liberty and --node go together" in err


def test_a_machine_without_gates_is_refused(command: Callable[..., Any]) -> None:
    status, _, err = command("power", DIGITS, "--platform", "aie_ml")
    assert status == 2 and "no backend 'netlist'" in err
