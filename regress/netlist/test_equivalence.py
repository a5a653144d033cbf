# SPDX-License-Identifier: Apache-2.0
"""Netlists against RTL: units are equal, and what is planted in a netlist, in a cell or in a claim is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from nncosim.hdl.emit import ports_of
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.netlist.equivalence import block_equivalence, main
from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.j3dai.units import UNITS, unit_part
from nncosim.tb.netlist.aig import FALSE, TRUE, Aig
from nncosim.tb.netlist.cells import CellModel, cell_models
from nncosim.tb.netlist.circuit import netlist_circuit, rtl_circuit, wires_of
from nncosim.tb.netlist.decide import decide
from nncosim.tb.netlist.equivalence import (
    DIFFERS,
    EQUAL,
    NOT_PROVED,
    VECTORS,
    Equivalence,
    compare,
    part_equivalence,
)
from nncosim.tb.netlist.gates import Cell, Gates, Net, read_gates
from nncosim.tb.netlist.mapping import Part, mapped_file, unpacked
from nncosim.tb.netlist.rtl import rtl_modules
from nncosim.tb.timing.sta import OSU018

pytestmark = pytest.mark.skipif(not OSU018.is_file(), reason="no cell library: apt-get install qflow-tech-osu018")

SMALL = J3dai(clusters=1, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256, l1_bytes=4096, wmem_bytes=4096,
              imem_bytes=1024, l2_bytes=65536, host_imem_bytes=8192, host_dmem_bytes=8192)  # fmt: skip
FAST = ("counters", "odometer", "settle", "semaphores", "entry_l2_port", "writes")


def judged(part: Part, change: Callable[[Gates], None] | None = None, models: Mapping[str, CellModel] | None = None,
           wires: Mapping[str, Net] | None = None) -> Equivalence:
    """A part of one module, its netlist as `change` makes it, or as cells compute by `models`."""
    file = mapped_file(part, OSU018)
    gates = read_gates(file, models or cell_models(OSU018))[part.top]
    if change is not None:
        change(gates)
    known = wires_of(unpacked(file)[part.top]) | dict(wires or {})
    return compare(rtl_circuit(part.top, rtl_modules(part)[part.top]), netlist_circuit(gates, known), 20)


def gates_of(part: Part) -> Gates:
    return read_gates(mapped_file(part, OSU018), cell_models(OSU018))[part.top]


def counters() -> Part:
    return unit_part(SMALL, "counters")


@pytest.mark.parametrize("unit", FAST)
def test_a_unit_is_equal(unit: str) -> None:
    found = block_equivalence(SMALL, unit)[unit]
    assert found.verdict == EQUAL, found
    outputs = sum(bits for _, bits, way in ports_of(UNITS[unit](SMALL)) if way == "Output")
    removed = sum(count for kind, count in found.claims.items() if kind != "retimed")
    assert found.proved == found.points == outputs + found.flip_flops + removed
    assert not found.missing and not found.unexplained


def test_a_wrong_gate_differs() -> None:
    """A NOR2 where a NAND2 was."""
    models = cell_models(OSU018)

    def swap(gates: Gates) -> None:
        place = next(index for index, cell in enumerate(gates.cells) if cell.model.name == "NAND2X1")
        gates.cells[place] = replace(gates.cells[place], model=models["NOR2X1"])

    found = judged(counters(), swap)
    assert found.verdict == DIFFERS and 0 < len(found.differences) < found.points
    assert all(difference.assignment for difference in found.differences)


def test_a_dropped_reset_differs() -> None:
    """One register's next value without reset: the gates before it once more, with the input `rst` at 0."""
    def drop(gates: Gates) -> None:
        (reset,) = next(port.nets for port in gates.ports if port.name == "rst")
        drivers = {net: cell for cell in gates.cells for pin, net in cell.pins.items() if pin in cell.model.outputs}
        copied: dict[Net, Net] = {reset: "0"}
        place, = (k for k, each in enumerate(gates.registers) if each.name == name)
        cone = [gates.registers[place].data]
        for net in cone:
            if net in drivers and net not in copied:
                copied[net] = 1_000_000 + len(copied)
                cone += drivers[net].pins.values()
        gates.cells += [Cell(f"{cell.name}_copy", cell.model, {pin: copied.get(net, net) for pin, net in
                                                               cell.pins.items()})
                        for net, cell in drivers.items() if net in copied]
        gates.registers[place] = replace(gates.registers[place], data=copied[gates.registers[place].data])

    name = next(each.name for each in gates_of(counters()).registers if each.name.endswith("[7]"))
    found = judged(counters(), drop)
    assert found.verdict == DIFFERS and [each.name for each in found.differences] == [name]
    assert found.differences[0].assignment["rst[0]"] == 1


def test_a_wrong_cell_differs() -> None:
    """The library's XNOR2 as an XOR2."""
    models = cell_models(OSU018)
    wrong = {**models, "XNOR2X1": replace(models["XNOR2X1"], outputs=models["XOR2X1"].outputs)}
    assert wrong["XNOR2X1"].outputs != models["XNOR2X1"].outputs
    found = judged(counters(), models=wrong)
    assert found.verdict == DIFFERS and all(each.assignment for each in found.differences)


def test_a_wrong_table_differs() -> None:
    """A flip-flop that keeps what a table gives, which the RTL reads a cycle later: inverted."""
    inverter = cell_models(OSU018)["INVX1"]

    def invert(gates: Gates) -> None:
        place = next(k for k, each in enumerate(gates.registers) if "signal_out" in each.name)
        gates.cells.append(Cell("planted", inverter, {"A": gates.registers[place].data, "Y": 1_000_000}))
        gates.registers[place] = replace(gates.registers[place], data=1_000_000)

    found = judged(unit_part(SMALL, "settle"), invert)
    assert found.verdict == DIFFERS and all(each.name.startswith("signal_out[") for each in found.differences)


def test_what_vectors_do_not_find_is_found_and_what_they_do_not_show_is_proved() -> None:
    """Conjunctions of 24 literals, from the left and from the right, and one that differs where all are 1."""
    graph = Aig()
    variables = [graph.input() ^ place % 2 for place in range(24)]
    left, right = TRUE, TRUE
    for one, two in zip(variables, reversed(variables), strict=True):
        left, right = graph.land(left, one), graph.land(right, two)
    decided = decide(graph, [(left, right), (left, FALSE), (left, variables[0])], 20)
    assert (decided.equal, decided.how) == ([True, False, False], ["SAT", "SAT", "vectors"])
    assert decided.witness[1] == {literal >> 1: 1 - literal % 2 for literal in variables}
    assert graph.evaluate(decided.witness[2], [left, variables[0]], 1) in ([0, 1], [1, 0])


TWICE = """module twice(input clk, input rst, input en, input d, output reg a, output reg b);
  always @(posedge clk) if (rst & RESET) begin a <= 0; b <= 0; end else if (en) begin a <= d; b <= d; end
endmodule
"""


def twice(reset: str) -> Part:
    return Part("twice", {"twice.v": TWICE.replace("RESET", reset)})


def test_a_duplicate_is_explained_by_its_reset() -> None:
    found = judged(twice("1'b1"))
    assert (found.verdict, found.claims, found.flip_flops) == (EQUAL, {"duplicate": 1}, 1), found


def test_a_duplicate_that_nothing_makes_equal_is_not_proved() -> None:
    """Two registers that power up as they like, of which the netlist has one."""
    found = judged(twice("1'b0"))
    assert found.verdict == NOT_PROVED and found.unsettled == ("b[0]",) and found.proved == found.points, found


def test_a_register_that_is_no_constant_differs() -> None:
    def cut(gates: Gates) -> None:
        gone = next(each for each in gates.registers if each.name == name)
        gates.registers.remove(gone)
        gates.cells[:] = [replace(cell, pins={pin: "0" if net == gone.output else net for pin, net in
                                              cell.pins.items()}) for cell in gates.cells]
        gates.ports[:] = [replace(port, nets=tuple("0" if net == gone.output else net for net in port.nets))
                          for port in gates.ports]

    rtl = rtl_circuit("counters", rtl_modules(counters())["counters"])
    flop = next(iter(rtl.flops.values()))
    name = next(each.name for each in gates_of(counters()).registers if each.name in flop.names)
    found = judged(counters(), cut, wires={label: "0" for label in flop.names})
    assert found.verdict == DIFFERS and flop.names[0] in [each.name for each in found.differences]


def test_other_ports_are_refused() -> None:
    def lose(gates: Gates) -> None:
        gates.ports.pop()

    with pytest.raises(BenchError, match="only the RTL has the output"):
        judged(twice("1'b1"), lose)


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    json_file = tmp_path / "found.json"
    for block, status in (("settle", 0), ("nothing", 2)):
        monkeypatch.setattr("sys.argv", ["equivalence", "--platform", "j3dai", "--block", block,
                                         "--json", str(json_file)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
    shown = capsys.readouterr()
    assert "1 modules: 1 equal (0 with products by vectors), 0 differ, 0 not proved" in shown.out
    (module,) = json.loads(json_file.read_text())["modules"]
    assert (module["module"], module["verdict"], module["claims"]) == ("settle", EQUAL, {"retimed": 8})
    with pytest.raises(ToolError, match="does not exist"):
        part_equivalence(counters(), tmp_path / "none.lib")


@pytest.mark.slow
@pytest.mark.parametrize("unit", [name for name in UNITS if name not in FAST])
def test_a_larger_unit_is_equal(unit: str) -> None:
    found = part_equivalence(unit_part(SMALL, unit), OSU018)[unit]
    assert found.verdict == (VECTORS if unit == "requantizer" else EQUAL), found


@pytest.mark.slow
@pytest.mark.parametrize("block", ["soc", "cluster", "ncb"])
@pytest.mark.parametrize("platform", [SMALL, J3dai()], ids=["small", "default"])
def test_the_chip_is_equal(platform: J3dai, block: str) -> None:
    for found in block_equivalence(platform, block).values():
        assert found.verdict == (VECTORS if block == "ncb" else EQUAL), found
