# SPDX-License-Identifier: Apache-2.0
"""Layouts without placing or routing anything: LEF and DEF files, parasitics by hand, what the checks find, pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from xml.etree import ElementTree

import pytest
import toy
from command_line import refused
from nncosim.tb.errors import BenchError
from nncosim.tb.layout.annotation import faults_of_spef
from nncosim.tb.layout.connectivity import check_connectivity, connectivity_faults
from nncosim.tb.layout.def_file import RoutedBlock, read_def
from nncosim.tb.layout.flow import OSU018_LEF
from nncosim.tb.layout.lef import Lef, Rect, read_lef
from nncosim.tb.layout.nets import nets_of, with_buffered_ports
from nncosim.tb.layout.parasitics import VIA_OHM, NetParasitics, extract, spef
from nncosim.tb.layout.picture import svg
from nncosim.tb.layout.placement import Placed, Placement
from nncosim.tb.layout.routing import placed_def
from nncosim.tb.layout.table import assumed
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Macro, Netlist
from nncosim.tb.timing.sta import OSU018

toy.install()


def layer(name: str, direction: str, ohm: float, area: float, edge: float) -> str:
    return (f"LAYER {name}\n TYPE ROUTING ;\n DIRECTION {direction} ;\n PITCH 1 ;\n WIDTH 0.4 ;\n SPACING 0.3 ;\n"
            f" RESISTANCE RPERSQ {ohm} ;\n CAPACITANCE CPERSQDIST {area} ;\n EDGECAPACITANCE {edge} ;\nEND {name}\n")


def via(name: str, *layers: str) -> str:
    shapes = "".join(f" LAYER {each} ; RECT -{half} -{half} {half} {half} ;\n"
                     for each, half in zip(layers, (0.2, 0.1, 0.2), strict=True))
    return f"VIA {name} DEFAULT\n{shapes}END {name}\n"


def pin(name: str, direction: str, rect: str, use: str = "SIGNAL") -> str:
    return f" PIN {name}\n DIRECTION {direction} ; USE {use} ;\n PORT\n LAYER m1 ; RECT {rect} ;\n END\n END {name}\n"


RAILS = pin("gnd", "INOUT", "0 -0.3 2 0.3", "GROUND") + pin("vdd", "INOUT", "0 9.7 2 10.3", "POWER")
LEF = (
    "VERSION 5.4 ; # a small library\nUNITS DATABASE MICRONS 1000 ; END UNITS\n"
    + layer("m1", "HORIZONTAL", 0.1, 1e-5, 5e-5) + "LAYER v1 TYPE CUT ; END v1\n"
    + layer("m2", "VERTICAL", 0.2, 2e-5, 6e-5) + "LAYER v2 TYPE CUT ; END v2\n"
    + layer("m3", "HORIZONTAL", 0.2, 1e-5, 4e-5) + via("V12", "m1", "v1", "m2") + via("V23", "m2", "v2", "m3")
    + "SITE core SIZE 1 BY 10 ; END core\n"
    + "MACRO INV\n SIZE 2 BY 10 ;\n" + pin("A", "INPUT", "0.3 4.8 0.7 5.2") + pin("Y", "OUTPUT", "1.3 4.8 1.7 5.2")
    + RAILS + " OBS LAYER m1 ; RECT 0.9 2 1.1 3 ; END\nEND INV\n"
    + "MACRO FILL\n SIZE 1 BY 10 ;\n" + RAILS.replace(" 2 ", " 1 ") + "END FILL\nEND LIBRARY\n")  # fmt: skip

DEF = """VERSION 5.6 ;
DESIGN block ;
UNITS DISTANCE MICRONS 1000 ;
DIEAREA ( 0 -1000 ) ( 13000 21000 ) ;
COMPONENTS 2 ;
- a INV + PLACED ( 0 0 ) N ;
- b INV + PLACED ( 10000 0 ) N ;
END COMPONENTS
PINS 2 ;
- p + NET p + LAYER m2 ( -200 -200 ) ( 200 200 ) + PLACED ( 5000 20000 ) N ;
- q + NET q + LAYER m2 ( -200 -200 ) ( 200 200 ) + PLACED ( 11500 20000 ) N ;
END PINS
NETS 3 ;
- p ( PIN p ) ( a A ) + ROUTED m2 ( 5000 20000 ) ( * 7000 ) V12
  NEW m1 ( 5000 7000 ) ( 500 * ) ( * 5000 ) ;
- n ( a Y ) ( b A ) + ROUTED m1 ( 1500 5000 ) ( 10500 * ) ;
- q ( b Y ) ( PIN q ) + ROUTED m1 ( 11500 5000 ) V12
  NEW m2 ( 11500 5000 ) ( * 20000 ) ;
END NETS
END DESIGN
"""
NETS = {"p": (("PIN", "p"), ("a", "A")), "n": (("a", "Y"), ("b", "A")), "q": (("b", "Y"), ("PIN", "q"))}
DRIVERS = {"p": ("PIN", "p"), "n": ("a", "Y"), "q": ("b", "Y")}
DIRECTIONS = {("PIN", "p"): "I", ("a", "A"): "I", ("a", "Y"): "O", ("b", "A"): "I", ("b", "Y"): "O", ("PIN", "q"): "O"}


@pytest.fixture
def lef(tmp_path) -> Lef:
    (tmp_path / "cells.lef").write_text(LEF)
    return read_lef(tmp_path / "cells.lef")


@pytest.fixture
def block(tmp_path, lef) -> Callable[..., RoutedBlock]:
    """`block(old, new)`: the block of `DEF`, with a text that occurs once in it replaced."""

    def read(old: str = "", new: str = "") -> RoutedBlock:
        assert not old or DEF.count(old) == 1
        (tmp_path / "block.def").write_text(DEF.replace(old, new) if old else DEF)
        return read_def(tmp_path / "block.def", lef)

    return read


def ohms(net: NetParasitics, start: str, end: str) -> float:
    """Along the tree."""
    before = {each.other: (each.one, each.ohm) for each in net.resistors}
    total, node = 0.0, end
    while node != start:
        node, ohm = before[node]
        total += ohm
    return total


def test_lef(lef):
    assert list(lef.layers) == ["m1", "m2", "m3"] and lef.cuts == ("v1", "v2") and lef.site == 1000
    m1 = lef.layers["m1"]
    assert (m1.horizontal, m1.pitch, m1.offset, m1.width, m1.ohm) == (True, 1000, 500, 400, 0.1)
    assert (m1.area, m1.edge) == pytest.approx((0.01, 0.05))
    assert [shape.rect for shape in lef.vias["V12"]] == [
        Rect(-200, -200, 200, 200), Rect(-100, -100, 100, 100), Rect(-200, -200, 200, 200)]
    assert lef.filler().name == "FILL"
    assert lef.cells["INV"].pins["vdd"].use == "POWER" and lef.cells["INV"].obstructions[0].layer == "m1"


@pytest.mark.parametrize("order", ["DIRECTION VERTICAL ;\n PITCH 1 ;", "PITCH 1 ;\n DIRECTION VERTICAL ;"])
def test_pitch_and_offset_by_x_and_y(tmp_path, order):
    """As LEF 5.7 has them: x is of tracks that stand, y of those that lie; whichever statement comes first."""
    text = LEF.replace("DIRECTION VERTICAL ;\n PITCH 1 ;", order)
    (tmp_path / "cells.lef").write_text(text.replace("PITCH 1 ;", "PITCH 0.8 1.2 ; OFFSET 0.3 0.5 ;"))
    found = read_lef(tmp_path / "cells.lef").layers
    assert [(each.pitch, each.offset) for each in found.values()] == [(1200, 500), (800, 300), (1200, 500)]


def test_lef_of_osu():
    """The values that MOSIS measured in TSMC's 0.18 um: aF/um2 of metal 1 to 6, over substrate."""
    osu = read_lef(OSU018_LEF)
    assert [round(1000 * each.area) for each in osu.layers.values()] == [38, 19, 13, 8, 8, 3]
    assert [each.horizontal for each in osu.layers.values()] == [True, False] * 3
    assert set(read_library(OSU018).areas) - {"PADINC", "PADINOUT", "PADOUT", "PADVDD", "PADGND"} <= set(osu.cells)


@pytest.mark.parametrize(("text", "message"), [
    ("", "it has no routing layer"), (LEF[:300], "ends within a statement"), ("a letter\n", "ends within a statement"),
    (LEF.replace("END v1", "END v7"), "out of form"), (LEF.replace("WIDTH 0.4", "WIDTH wide"), "out of form"),
    (LEF.replace(" RESISTANCE RPERSQ 0.1 ;\n", ""), "layer m1 has no RESISTANCE"),
    (re.sub(r" CAPACITANCE CPERSQDIST 2e-05 ;\n", "", LEF), "layer m2 has no CAPACITANCE"),
    (LEF.replace("DEFAULT\n", "DEFAULT RESISTANCE -1 ;\n", 1), "a resistance of -1 ohms"),
    (re.sub(r"MACRO.*", "END LIBRARY", LEF, flags=re.DOTALL), "it has no cell")])  # fmt: skip
def test_lef_that_will_not_do(tmp_path, text, message):
    (tmp_path / "cells.lef").write_text(text)
    with pytest.raises(BenchError, match=message):
        read_lef(tmp_path / "cells.lef")


def test_def(block):
    found = block()
    assert (found.top, found.die) == ("block", Rect(0, -1000, 13000, 21000))
    assert found.cells["b"] == Placed("INV", 10000, 0, "N")
    assert {name: net.pins for name, net in found.nets.items()} == NETS
    assert [(each.layer, each.length) for each in found.nets["p"].segments] == [
        ("m2", 13000), ("m1", 4500), ("m1", 2000)]
    assert [(each.name, each.x, each.y) for each in found.nets["q"].vias] == [("V12", 11500, 5000)]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("END DESIGN", "", "ends within a statement"), ("V12\n  NEW m1", "V99\n  NEW m1", "V99 within a wire"),
    ("- a INV", "- a NOR", "cell NOR of a"), ("10000 0 ) N", "10000 0 ) E", "b lies E"),
    ("NEW m2", "NEW m7", "layer m7"), ("( 10500 * )", "( ten * )", "out of form")])  # fmt: skip
def test_def_that_will_not_do(block, old, new, message):
    with pytest.raises(BenchError, match=message):
        block(old, new)


def test_turned_cells(lef, block):
    """Pins where the cell's turn puts them: mirrored left to right, and upside down."""
    for orientation, x, y in (("N", 10500, 5000), ("FN", 11500, 5000), ("S", 11500, 5000), ("FS", 10500, 5000)):
        ((_, rect),) = block("10000 0 ) N", f"10000 0 ) {orientation}").metal(lef, "b", "A")
        assert ((rect.x0 + rect.x1) // 2, (rect.y0 + rect.y1) // 2) == (x, y)
    ((_, rail),) = block("10000 0 ) N", "10000 0 ) FS").metal(lef, "b", "vdd")
    assert (rail.y0, rail.y1) == (-300, 300)


def test_parasitics_by_hand(lef, block):
    """R = 0.1 L / 0.4 and C = (0.01 * 0.4 + 2 * 0.05) L on m1; 0.2 L / 0.4 and (0.02 * 0.4 + 2 * 0.06) L on m2."""
    found = extract(block(), lef, DRIVERS)
    n = found["n"]
    assert n.capacitances == pytest.approx({"a:Y": 0.104 * 4.5, "b:A": 0.104 * 4.5})
    assert ohms(n, "a:Y", "b:A") == pytest.approx(0.1 * 9 / 0.4) and n.lengths == {"m1": 9.0}
    p = found["p"]
    assert p.capacitance == pytest.approx(0.128 * 13 + 0.104 * 6.5)
    assert p.capacitances["p"] == pytest.approx(0.128 * 13 / 2) and p.capacitances["a:A"] == pytest.approx(0.104)
    assert ohms(p, "p", "a:A") == pytest.approx(0.2 * 13 / 0.4 + VIA_OHM + 0.1 * 6.5 / 0.4)
    assert (p.vias, p.loops) == (1, 0)
    q = found["q"]  # the via lies on the pin: its metal is there already
    assert q.capacitance == pytest.approx(0.128 * 15) and ohms(q, "b:Y", "q") == pytest.approx(VIA_OHM + 0.2 * 15 / 0.4)


STATED = (LEF.replace("VIA V12 DEFAULT\n", "VIA V12 DEFAULT\n RESISTANCE 2.5 ;\n")
          .replace("LAYER v2 TYPE CUT ;", "LAYER v2 TYPE CUT ; RESISTANCE 6 ;")
          .replace("LAYER v2 ; RECT -0.1 -0.1 0.1 0.1 ;", "LAYER v2 ; RECT -0.1 0 0 0.1 ; RECT 0.1 0 0.2 0.1 ;"))
"""A via with a resistance of its own; one of two cuts, whose layer has that of one."""


def test_resistance_of_vias_is_the_files(tmp_path, block):
    """Where it states it; and what is told of where it comes from."""
    lefs = {}
    for name, text in (("none", LEF), ("all", STATED), ("some", STATED.replace(" RESISTANCE 2.5 ;", ""))):
        (tmp_path / f"{name}.lef").write_text(text)
        lefs[name] = read_lef(tmp_path / f"{name}.lef")
    assert {name: each.ohms for name, each in lefs.items()} == {
        "none": {}, "all": {"V12": 2.5, "V23": 3.0}, "some": {"V23": 3.0}}
    wires = 0.2 * 13 / 0.4 + 0.1 * 6.5 / 0.4
    for name, ohm in (("none", VIA_OHM), ("all", 2.5), ("some", VIA_OHM)):
        assert ohms(extract(block(), lefs[name], DRIVERS)["p"], "p", "a:A") == pytest.approx(wires + ohm)
    stack = block("( 10500 * ) ;", "( 3500 * ) V12 V23 NEW m3 ( 3500 5000 ) ( 10500 * ) V23 V12 ;")
    assert ohms(extract(stack, lefs["all"], DRIVERS)["n"], "a:Y", "b:A") == pytest.approx(
        0.1 * 2 / 0.4 + 0.2 * 7 / 0.4 + 2 * 2.5 + 2 * 3)
    guess = "4.8 ohms a cut, of OSU018's process: the LEF file has no resistance of "
    assert {name: assumed(each)["via"] for name, each in lefs.items()} == {
        "none": f"{guess}vias", "all": "2.5 to 3 ohms, from the LEF file",
        "some": f"3 ohms, from the LEF file; {guess}V12"}


def test_branches_loops_and_stacks(lef, block):
    """A wire that ends in the middle of another; one that goes around; vias between with metal of their own."""
    branch = block("( 1500 5000 ) ( 10500 * ) ;", "( 1500 5000 ) ( 10500 * ) NEW m1 ( 6500 5000 ) ( * 8000 ) ;")
    n = extract(branch, lef, DRIVERS)["n"]
    assert n.capacitance == pytest.approx(0.104 * 12) and ohms(n, "a:Y", "b:A") == pytest.approx(2.25)
    assert len(n.resistors) == 3
    around = block("( 1500 5000 ) ( 10500 * ) ;",
                   "( 1500 5000 ) ( 10500 * ) NEW m1 ( 6500 5000 ) ( * 8000 ) ( 8500 * ) ( * 5000 ) ;")
    n = extract(around, lef, DRIVERS)["n"]
    assert n.loops == 1 and n.capacitance == pytest.approx(0.104 * 17) and ohms(n, "a:Y", "b:A") == pytest.approx(2.25)
    stack = block("( 10500 * ) ;", "( 3500 * ) V12 V23 NEW m3 ( 3500 5000 ) ( 10500 * ) V23 V12 ;")
    n = extract(stack, lef, DRIVERS)["n"]
    pads = 0.02 * 0.16 + 0.06 * 1.6  # on m2 twice, where there is no wire
    assert n.capacitance == pytest.approx(0.104 * 2 + 0.084 * 7 + 2 * pads)
    assert ohms(n, "a:Y", "b:A") == pytest.approx(0.1 * 2 / 0.4 + 0.2 * 7 / 0.4 + 4 * VIA_OHM)


def test_a_via_beside_its_wire_joins_it(lef, block):
    """qrouter moves vias off the track where a pin asks for it: metal that touches is one."""
    beside = block("( 5000 7000 ) ( 500 * )", "( 5000 7200 ) ( 500 * )")
    assert extract(beside, lef, DRIVERS)["p"].loops == 0 and list(connectivity_faults(beside, lef, NETS)) == []


@pytest.mark.parametrize(("old", "new", "net"), [
    (" V12\n  NEW m1", "\n  NEW m1", "p"), ("( 1500 5000 ) ( 10500 * )", "( 1500 5000 ) ( 9500 * )", "n"),
    ("\n  NEW m2 ( 11500 5000 ) ( * 20000 )", "", "q")])  # fmt: skip
def test_an_open_net_is_told(lef, block, old, new, net):
    """By its metal, and where parasitics are asked for."""
    wrong = block(old, new)
    assert [fault.partition(":")[0] for fault in connectivity_faults(wrong, lef, NETS)] == [
        f"net {net} is open"]
    with pytest.raises(BenchError, match=f"net {net} is open"):
        extract(wrong, lef, DRIVERS)


@pytest.mark.parametrize(("old", "new", "fault"), [
    ("( 1500 5000 ) ( 10500 * ) ;", "( 1500 5000 ) ( 10500 * ) NEW m1 ( 6500 5000 ) ( * 7000 ) ( 5000 * ) ;",
     "n, p are shorted"),
    ("( 1500 5000 ) ( 10500 * ) ;", "( 1500 5000 ) ( 10500 * ) NEW m1 ( 6500 5000 ) ( * 2500 ) ( 10900 * ) ;",
     "n touches metal inside of cell b"),
    ("( 1500 5000 ) ( 10500 * ) ;", "( 1500 5000 ) ( 10500 * ) NEW m1 ( 10500 5000 ) ( * 0 ) ;",
     "n, supply gnd are shorted"),
    ("- b INV", "- c INV", "net n: there is no b A")])  # fmt: skip
def test_a_wrong_layout_is_told(lef, block, old, new, fault):
    assert any(fault in each for each in connectivity_faults(block(old, new), lef, NETS))
    with pytest.raises(BenchError, match="the layout of 'block' is not its netlist"):
        check_connectivity(block(old, new), lef, NETS)


def test_a_layout_of_another_netlist_is_told(lef, block):
    check_connectivity(block(), lef, NETS)
    other = {**NETS, "p": (("PIN", "p"), ("b", "A")), "n": (("a", "Y"), ("a", "A"))}
    assert any("shorted" in fault for fault in connectivity_faults(block(), lef, other))


def written(lef, block) -> str:
    lines = spef("block", extract(block(), lef, DRIVERS), DIRECTIONS, {"p": "I", "q": "O"})
    return "\n".join(lines) + "\n"


def test_spef(lef, block):
    text = written(lef, block)
    assert list(faults_of_spef(text, NETS)) == []
    assert text.partition("*D_NET n ")[2].partition("*D_NET")[0].split("\n") == [
        "0.936000", "*CONN", "*I a:Y O", "*I b:A I", "*CAP", "1 a:Y 0.468000", "2 b:A 0.468000", "*RES",
        "1 a:Y b:A 2.2500", "*END", "", ""]
    assert "*C_UNIT 1 FF" in text and "*P p I" in text and "*P q O" in text


@pytest.mark.parametrize(("old", "new", "fault"), [
    ("*I b:A I\n", "", "net n has no pin b:A"), ("1 a:Y b:A 2.2500\n", "", "no resistors join pin b:A to net n"),
    ("*D_NET n 0.93", "*D_NET n 0.53", "the capacitances of net n do not add up"),
    ("*D_NET n ", "*D_NET n_1 ", "net n is missing"), ("*I b:A I\n", "*I b:A I\n*I c:A I\n", "pin c:A too many")])
def test_incomplete_parasitics_are_told(lef, block, old, new, fault):
    text = written(lef, block)
    assert text.count(old) == 1
    assert any(fault in each for each in faults_of_spef(text.replace(old, new), NETS))


def test_what_is_placed_comes_back(lef, tmp_path):
    """From a placement to DEF and back."""
    placement = Placement({"a": Placed("INV", 6500, 6500, "FS"), "b": Placed("INV", 8500, 6500, "S")},
                          {"p": ("m2", 3000, 0)}, Rect(6500, 6500, 10500, 16500), Rect(0, 0, 17000, 23000))
    nets = {"p": (("PIN", "p"), ("a", "A"))}
    (tmp_path / "placed.def").write_text("\n".join(placed_def("block", placement, nets, lef)))
    found = read_def(tmp_path / "placed.def", lef)
    assert (found.cells, found.die) == (placement.cells, placement.die) and found.nets["p"].pins == nets["p"]
    assert found.ports["p"] == ("m2", Rect(2800, -200, 3200, 200))


def test_ports_that_share_a_net_get_buffers():
    netlist = Netlist("part", {"i_0": ("input", "n1"), "o_0": ("output", "n1"), "o_1": ("output", "n2"),
                               "o_2": ("output", "n2"), "z_0": ("output", "1'b0")},
                      {"u0": ("INVX1", {"A": "n1", "Y": "n2"})})  # fmt: skip
    made = with_buffered_ports(netlist, read_library(OSU018))
    assert nets_of(made) == {
        "i_0": (("PIN", "i_0"), ("u0", "A"), ("p1", "A")), "o_0": (("PIN", "o_0"), ("p1", "Y")),
        "o_1": (("PIN", "o_1"), ("u0", "Y"), ("p2", "A")), "o_2": (("PIN", "o_2"), ("p2", "Y"))}
    assert made.ports["z_0"] == ("output", "1'b0") and netlist.cells.keys() == {"u0"}


def test_netlists_that_cannot_be_laid_out():
    tied = Netlist("part", {"o_0": ("output", "n2")}, {"u0": ("INVX1", {"A": "1'b0", "Y": "n2"})})
    with pytest.raises(BenchError, match=r"pin A of u0 \(INVX1\) is constant"):
        nets_of(tied)
    with pytest.raises(BenchError, match="there is no layout of sram in it"):
        nets_of(Netlist("part", macros={"u0": Macro("sram", "cut_sram", ())}))


def test_picture(lef, block):
    root = ElementTree.fromstring("\n".join(svg(block(), lef, {"INV"}, "a < b")))
    space = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{space}text")]
    assert texts[0] == "a < b" and {"m1", "m2", "port", "13.0 x 22.0 um", "2 um"} <= set(texts) and "m3" not in texts
    assert {each.text for each in root.iter(f"{space}title")} == {"p", "q"}
    drawn = {each.get("stroke") for each in root.iter(f"{space}path")}
    assert {"#4c72b0", "#c44e52"} <= drawn


@pytest.mark.parametrize("name", ["layout.json", "layout.txt", "cells.lib", "settle.def", "settle_cut.lib"])
def test_outputs_that_collide(command, tmp_path, name):
    """--json is a file that --out writes; so is the library that is read."""
    place = tmp_path / name
    refused(command("layout", "--block", "settle", "--out", tmp_path, "--json", place), "writes a file of that name")
    place.write_text("")
    refused(command("layout", "--block", "settle", "--out", tmp_path, "--liberty", place, "--lef", OSU018_LEF),
            "would replace the cell library")


def test_where_osus_cells_are_is_said(command, tmp_path, monkeypatch):
    """Only their timing is missing, as an installation that was torn apart has it."""
    none = tmp_path / "osu018_stdcells.lib"
    for name in ("nncosim.tb.cli.layout", "nncosim.tb.layout.flow"):
        monkeypatch.setattr(import_module(name), "OSU018", none)
    refused(command("layout", "--block", "settle"), f"cell library {none} does not exist",
            "apt-get install qflow-tech-osu018")


def test_what_is_refused(command, tmp_path, monkeypatch):
    refused(command("layout"), "--block")
    refused(command("layout", "--block", "xyzzy"), "j3dai has no unit 'xyzzy'", "counters, odometer")
    refused(command("layout", "--platform", "toy", "--block", "x"), "'toy' has no units that can be laid out")
    refused(command("layout", "--block", "settle", "--lef", OSU018_LEF), "give both, or neither")
    none = tmp_path / "none.lef"
    refused(command("layout", "--block", "settle", "--lef", none, "--liberty", OSU018),
            f"cannot read the LEF file {none}")
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(command("layout", "--block", "settle"), "graywolf is not on PATH", "apt-get install graywolf qrouter")
