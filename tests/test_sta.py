# SPDX-License-Identifier: Apache-2.0
"""The timing flow on small designs whose answer is known, and on planted faults."""

import functools
from pathlib import Path

import pytest
from amaranth.hdl import Array, Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.emit import Block, emit_design
from nncosim.hdl.sram import SRAM_MODULE, Sram
from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.timing import sta
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Macro, Netlist, Storage, array_name
from nncosim.tb.timing.opensta import macro_liberty, parse_paths, run_opensta
from nncosim.tb.timing.sta import (
    LIMIT,
    OSU018,
    SRAM,
    Budget,
    LogicArea,
    StaOptions,
    TimingReport,
    fo4_delay,
    map_area,
    time_design,
)


class Power(wiring.Component):
    """The square or cube of 32 bits, modulo 2**32, in one cycle between registers. A cube is more than one may hold."""

    def __init__(self, power: int):
        self.power = power
        super().__init__({"i": In(32), "o": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        base, result = Signal(32, name="base"), Signal(32, name="result")
        value = base * base
        for _ in range(self.power - 2):
            value = value[:32] * base
        m.d.sync += [base.eq(self.i), result.eq(value)]
        m.d.comb += self.o.eq(result.xor())
        return m


class ShiftRegister(wiring.Component):
    """A shift register of bytes: one bit enables all of its flip-flops."""

    def __init__(self, registers: int):
        self.registers = registers
        super().__init__({"enable": In(1), "i": In(8), "o": Out(8)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        words = [Signal(8, name=f"word{k}") for k in range(self.registers)]
        enable = Signal()
        m.d.sync += enable.eq(self.enable)
        with m.If(enable):
            m.d.sync += Cat(words).eq(Cat(self.i, words))
        m.d.comb += self.o.eq(words[-1])
        return m


class FlopMemory(wiring.Component):
    """2 Kibit of flip-flops that a designer took for a memory."""

    def __init__(self) -> None:
        super().__init__({"address": In(5), "enable": In(1), "i": In(64), "o": Out(64)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        words = Array(Signal(64, name=f"word{k}") for k in range(32))
        with m.If(self.enable):
            m.d.sync += words[self.address].eq(self.i)
        m.d.sync += self.o.eq(words[self.address])
        return m


class Inverter(wiring.Component):
    """A block with one inverter on either side of its register, and a wire through it."""

    def __init__(self) -> None:
        super().__init__({"i": In(4), "o": Out(4), "x": In(4), "wire": Out(4)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        held = Signal(4)
        m.d.sync += held.eq(~self.i)
        m.d.comb += [self.o.eq(~held), self.wire.eq(self.x)]
        return m


class Memories(wiring.Component):
    """Two SRAM macros with an exclusive-or between them, and two equal blocks of which one is cut."""

    def __init__(self) -> None:
        super().__init__({"address": In(6), "key": In(16), "write": In(1), "o": Out(16), "n": Out(4), "far": Out(4)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.first = first = Sram(64, 16)
        m.submodules.second = second = Sram(128, 16)
        m.submodules.near = near = Block(Inverter(), "inverter")
        m.submodules.remote = remote = Block(Inverter(), "inverter")
        key, address, write = Signal(16, name="key"), Signal(6, name="address"), Signal(name="write")
        m.d.sync += [key.eq(self.key), address.eq(self.address), write.eq(self.write)]
        for memory in (first, second):
            m.d.comb += [memory.r_en.eq(1), memory.r_addr.eq(address), memory.w_addr.eq(address), memory.w_en.eq(write)]
        m.d.comb += [first.w_data.eq(key), second.w_data.eq(first.r_data ^ key), self.o.eq(second.r_data)]
        m.d.comb += [near.i.eq(key[:4]), self.n.eq(near.o), remote.i.eq(first.r_data[:4]), self.far.eq(remote.o)]
        return m


def timed(component: wiring.Component, options: StaOptions | None = None) -> TimingReport:
    return time_design(emit_design(component, "design"), "design", options)


@functools.cache
def power(exponent: int) -> TimingReport:
    return timed(Power(exponent))


@functools.cache
def memories(setup: float = 5) -> TimingReport:
    return timed(Memories(), StaOptions(cut={SRAM_MODULE: Budget(25, setup), "inverter": Budget(7, 11)},
                                        keep={"near": "inverter"}))


def test_fo4() -> None:
    """The yardstick: about 0.1 ns in OSU 180 nm."""
    assert 0.08 < fo4_delay() < 0.12


def test_long_path_is_reported() -> None:
    """One multiplication in a cycle is in time. A second one planted behind it is not, and is reported by name."""
    assert power(2).between("base", "result")[0].fo4 < LIMIT
    report = power(3)
    worst = report.paths[0]
    assert LIMIT < worst.fo4 < 150
    assert worst.start.startswith("base[") and worst.end.startswith("result[")
    assert worst.gates > 30
    # What the steps lack is the set-up of the flip-flop.
    assert 0 < worst.fo4 - sum(step[0] for step in worst.steps) < 5
    assert str(worst) in report.table()


def test_ports_have_their_budget() -> None:
    """A register behind a port: 30 FO4 outside, a little inside, on both sides."""
    report = timed(Inverter())
    arriving, leaving = report.between("port i", "held"), report.between("held", "port o")
    assert 30 < arriving[0].fo4 < 36 and 30 < leaving[0].fo4 < 36
    assert report.flip_flops == {"held": 4}
    budget = report.budget()
    assert budget.pins["i"] == pytest.approx(arriving[0].fo4 - 30)
    assert 30 <= report.outputs["wire"] < 33 and report.outputs["wire"] == budget.clock_to_output
    assert set(report.inputs) == {"rst", "i", "x"}
    assert report.outputs["o"] == pytest.approx(leaving[0].fo4 - 30)
    wider = timed(Inverter(), StaOptions(port=Budget(50, 10)))
    assert wider.between("port i", "held")[0].fo4 == pytest.approx(arriving[0].fo4 + 20, abs=0.1)
    assert wider.between("held", "port o")[0].fo4 == pytest.approx(leaving[0].fo4 - 20, abs=0.1)


def test_cut_cells_have_their_budget() -> None:
    """From macro to macro: clock to output, a gate, set-up. A cut block likewise; the one kept is inside."""
    report = memories()
    assert 30 < report.between("first", "second")[0].fo4 < 36
    assert 25 + 30 <= report.between("second", "port o")[0].fo4 < 60
    assert 25 + 11 <= report.between("first", "remote")[0].fo4 < 40
    assert 7 + 30 < report.between("remote", "port far")[0].fo4 < 41
    assert report.between("near.held", "port n")
    assert report.flip_flop_bits("near.") == 4 and report.flip_flop_bits() == 4 + 16 + 6 + 1
    longer = memories(setup=9)
    assert longer.between("first", "second")[0].fo4 == pytest.approx(report.between("first", "second")[0].fo4 + 4)


def test_hold() -> None:
    """From register or macro to another. What a port feeds, or is fed by, has none: there is no path in `Inverter`."""
    assert timed(Inverter()).hold is None
    hold = memories().hold
    assert hold is not None and hold.slack > 0
    assert hold.start.startswith(("address", "write", "key", "near.held"))
    assert hold.end in ("first", "second", "remote")


def test_ends_of_paths_are_told() -> None:
    """What each is, how many gates lie between, and the line that declares it, where it can be told."""
    path = memories().between("first", "second")[0]
    assert path.kinds == ("SRAM", "SRAM") and path.gates > 0 and path.declared == ("", "")
    assert memories().between("first", "remote")[0].kinds == ("SRAM", "block")
    path = power(2).between("base", "result")[0]
    assert path.kinds == ("register", "register")
    lines = Path(__file__).read_text().splitlines()
    for place, name in zip(path.declared, ("base", "result"), strict=True):
        file, _, line = place.rpartition(":")
        assert Path(file).resolve() == Path(__file__).resolve() and name in lines[int(line) - 1]
    assert timed(Inverter()).between("port i", "held")[0].kinds == ("port", "register")


def test_storage_in_macros_is_listed() -> None:
    """64 x 16 bits are 1 Kibit, which is not over it; 128 x 16 are."""
    assert memories().storage == (Storage("second", 2048, SRAM_MODULE),)
    assert memories().storage_in_flip_flops() == []


def test_memory_of_flip_flops_is_reported() -> None:
    """An array of registers counts as one memory."""
    report = timed(FlopMemory())
    assert report.storage_in_flip_flops() == [Storage("word#", 2048)]
    assert report.flip_flop_bits() == 2048 + 64


def test_fan_out_is_buffered() -> None:
    """An enable of 1,024 flip-flops costs a tree of buffers, not one gate with a load of a thousand."""
    report = timed(ShiftRegister(128))
    path = report.between("enable", "word")[0]
    assert 5 < path.fo4 < 25
    assert max(step[0] for step in path.steps) < 6


class Counter(wiring.Component):
    """A counter of 64 bits, counted on by a flip-flop's four bits of which one never leaves 0."""

    def __init__(self) -> None:
        super().__init__({"i": In(3), "o": Out(64)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        step = Signal(4)
        m.d.sync += [step.eq(Cat(self.i, step[3] & self.i[0])), self.o.eq(self.o + step)]
        return m


def test_mapped_for_delay() -> None:
    """Carries get shorter, and a flip-flop that never leaves its reset value is none."""
    plain, fast = timed(Counter()), timed(Counter(), StaOptions(speed=True))
    lengths = [report.between("o", "o")[0].fo4 for report in (plain, fast)]
    assert lengths[1] < 0.9 * lengths[0]
    assert [report.flip_flop_bits("step") for report in (plain, fast)] == [4, 3]
    assert fast.flip_flop_bits("o") == 64


def test_results_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second analysis of the same design runs nothing; another budget is another analysis of the same netlist."""
    report = power(2)
    monkeypatch.setattr(sta, "synthesize", lambda *_, **__: pytest.fail("mapped again"))
    nearer = timed(Power(2), StaOptions(port=Budget(1, 1)))
    assert nearer.area == report.area
    assert nearer.between("port i")[0].fo4 == pytest.approx(report.between("port i")[0].fo4 - 29, abs=0.1)
    monkeypatch.setattr(sta, "run_opensta", lambda *_, **__: pytest.fail("timed again"))
    assert timed(Power(2)) == report
    with pytest.raises(pytest.fail.Exception, match="timed again"):
        timed(Power(2), StaOptions(port=Budget(2, 2)))
    with pytest.raises(pytest.fail.Exception, match="mapped again"):
        timed(Power(2), StaOptions(cut={"base": SRAM}, keep={"none": "base"}))


def test_area_of_known_cells() -> None:
    """In OSU 180 nm a NAND2X1 has 24, an inverter 16, a flip-flop 96, of the library's unit."""
    library = read_library(OSU018)
    areas = library.areas
    assert (areas["NAND2X1"], areas["INVX1"], areas["DFFPOSX1"]) == (24, 16, 96)
    cells = {"u0": "INVX1", "u1": "NAND2X1", "u2": "DFFPOSX1", "u3": "cut"}
    netlist = Netlist("t", cells={name: (cell, {}) for name, cell in cells.items()},
                      macros={"u3": Macro("m", "cut", ())})
    assert netlist.area(library) == LogicArea(gates=40 / 24, flip_flops=4)
    netlist.cells["u4"] = ("MUX9X1", {})
    with pytest.raises(BenchError, match="no area of MUX9X1"):
        netlist.area(library)


def test_area_of_a_design() -> None:
    """Four inverters on either side of four flip-flops; what is cut out has none; mapping alone finds the same."""
    report = timed(Inverter())
    assert report.area.flip_flops == 4 * 4
    assert 0 < report.area.gates < 4 * 2 * 2
    assert memories().area.flip_flops == 4 * memories().flip_flop_bits()
    assert map_area(emit_design(Inverter(), "design"), "design") == report.area


def test_missing_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is missing is named with the command that installs it; it is an error, whatever is cached."""
    with pytest.raises(ToolError, match="apt-get install qflow-tech-osu018"):
        fo4_delay(tmp_path / "none.lib")
    with pytest.raises(ToolError, match="apt-get install qflow-tech-osu018"):
        timed(Inverter(), StaOptions(liberty=tmp_path / "none.lib"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install opensta"):
        timed(Inverter())


def test_bad_design() -> None:
    """Yosys' complaint reaches the user, and no entry remains in the cache."""
    for _ in range(2):
        with pytest.raises(BenchError, match=r"could not map 'design'(?s:.*)no_such_module"):
            time_design({"design.v": "module design(input clk); no_such_module u(.clk(clk)); endmodule\n"}, "design")


def test_opensta_error(tmp_path: Path) -> None:
    """OpenSTA goes on after an error and ends with status 0; we do not."""
    (tmp_path / "bad.tcl").write_text("read_liberty no_such.lib\n")
    with pytest.raises(BenchError, match=r"no_such\.lib"):
        run_opensta(tmp_path / "bad.tcl")


def test_array_name() -> None:
    assert array_name("a.b3.word12[7]") == "a.b3.word#"
    assert array_name("word12[7][3]") == "word#"
    assert array_name("port x_3") == "port x_#"


def test_verilog_of_ports_that_share_a_net() -> None:
    """A port is a net of its own name; every net and every port has one driver."""
    netlist = Netlist("t", {"b_0": ("output", "n2"), "a_0": ("input", "n1"), "c_0": ("output", "n2"),
                            "d_0": ("output", "n1"), "e_0": ("output", "1'b0")},
                      {"u0": ("INVX1", {"A": "n1", "Y": "n2"}), "u1": ("NAND2X1", {"A": "n2", "B": "1'b0", "Y": "n3"})})
    lines = [line.strip() for line in netlist.verilog()]
    assert "INVX1 u0 (.A(a_0), .Y(b_0));" in lines
    assert "NAND2X1 u1 (.A(b_0), .B(1'b0), .Y(n3));" in lines
    assert [line for line in lines if line.startswith("wire")] == ["wire n3;"]
    assert [line for line in lines if line.startswith("assign")] == [
        "assign c_0 = b_0;", "assign d_0 = a_0;", "assign e_0 = 1'b0;"]


def test_liberty_of_cut_cells() -> None:
    macro = Macro("m", "cut_m", (("clk_0", "input"), ("d_0", "input"), ("e_1", "input"), ("q_0", "output")))
    text = macro_liberty([macro, macro], {"m": Budget(25, 5, {"e": 8})}, 0.1)
    assert text.count("cell (") == 1
    for value in ("2.500000", "0.500000", "0.800000"):
        assert value in text


@pytest.mark.parametrize("clocks", [(), ("clk_0", "other_clk_0")])
def test_a_cut_cell_has_one_clock(clocks: tuple[str, ...]) -> None:
    """Else nothing that begins or ends at it would be timed, or by a clock of another name."""
    pins = (("d_0", "input"), ("q_0", "output"))
    text = macro_liberty([Macro("m", "cut_m", (("tile_clk_0", "input"), *pins))], {"m": Budget(25, 5)}, 0.1)
    assert text.count('related_pin : "tile_clk_0"') == 3  # set-up and hold of `d`, and `q`
    with pytest.raises(BenchError, match=r"module 'm' cannot be cut .* clocks"):
        macro_liberty([Macro("m", "cut_m", (*((clock, "input") for clock in clocks), *pins))], {"m": Budget(1, 1)}, 0.1)


REPORT = """
Startpoint: u7 (rising edge-triggered flip-flop clocked by clk)
Endpoint: u9 (rising edge-triggered flip-flop clocked by clk)
Path Group: clk
Path Type: max

       Delay        Time   Description
-----------------------------------------------------------
    0.000000    0.000000   clock clk (rise edge)
    0.000000    0.000000 ^ u7/CLK (DFFPOSX1)
    0.200000    0.200000 v u7/Q (DFFPOSX1)
    0.100000    0.300000 ^ u8/Y (INVX1)
    0.000000    0.300000 ^ u9/D (DFFPOSX1)
                0.300000   data arrival time

    7.000000    7.000000   clock clk (rise edge)
                7.000000 ^ u9/CLK (DFFPOSX1)
   -0.150000    6.850000   library setup time
                6.850000   data required time
-----------------------------------------------------------
                6.850000   data required time
               -0.300000   data arrival time
-----------------------------------------------------------
                6.550000   slack (MET)
"""


def test_parse_paths() -> None:
    late = REPORT.replace("u7", "i_0").replace("6.550000   slack (MET)", "-1.5 slack (VIOLATED)")
    first, second = parse_paths(REPORT + late, 7.0)
    assert (first.start, first.end) == ("u7", "u9")
    assert first.length == pytest.approx(0.45)
    assert [step[1:] for step in first.steps] == [("u7/CLK", "DFFPOSX1"), ("u7/Q", "DFFPOSX1"), ("u8/Y", "INVX1")]
    assert second.start == "i_0" and second.length == pytest.approx(8.5)


def test_library_is_the_documented_one() -> None:
    assert OSU018.is_file(), "Debian: apt-get install qflow-tech-osu018"
    assert SRAM == Budget(25, 5) and LIMIT == 70
