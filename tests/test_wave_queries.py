# SPDX-License-Identifier: Apache-2.0
"""Questions to a waveform: signals by pattern, values, samples at clock edges, types, conditions, transactions."""

import enum
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import signed
from amaranth.lib import data
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.isa import Mac, MacOp, Opcode
from nncosim.tb.errors import BenchError, UnknownValueError
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.payload import encode_payload
from nncosim.tb.sim.verilate import build
from nncosim.tb.waves.streams import Transaction, stream_of
from nncosim.tb.waves.wave import Wave
from test_names import Kind as OrderKind
from test_names import Order, Outer
from vcd import VCDWriter

PERIOD = 10


class Kind(enum.IntEnum):
    READ = 0
    WRITE = 2


def write(path: Path, signals: dict[str, tuple[int, list[object]]], start: int = 5) -> Wave:
    """A VCD file of a block ``top.dut``: of each signal its bits and its value in each cycle, set just after the edge
    before it; None is x. The edge that ends cycle n is at `start` + n * PERIOD."""
    with path.open("w") as file, VCDWriter(file, timescale="1 ns") as writer:
        clock = writer.register_var("top", "clk", "wire", 1, init=0)
        made = [(writer.register_var("top.dut", name, "wire", bits, init="x"), values)
                for name, (bits, values) in signals.items()]
        cycles = max(len(values) for _, values in made)
        for cycle in range(cycles + 1):
            edge = start + PERIOD * (cycle - 1)
            if cycle:
                writer.change(clock, edge, 1)
            for var, values in made:
                if cycle < len(values):
                    writer.change(var, max(edge, 0), "x" if values[cycle] is None else values[cycle])
            if cycle:
                writer.change(clock, edge + PERIOD // 2, 0)
        writer.change(clock, start + PERIOD * cycles - 1, 0)
    return Wave.open(path)


@pytest.fixture(scope="module", params=["fst", "vcd"])
def outer(request, tmp_path_factory):
    """Our own waveforms: a Verilated block, whose input is the number of the cycle."""
    path = tmp_path_factory.mktemp("outer") / f"run.{request.param}"
    with Model(build(emit_design(Outer(), "outer"), "outer", trace=request.param), period_ps=1000) as model:
        model.trace(path)
        for cycle in range(40):
            model.i, model.kind = cycle, cycle % 4
            model.tick()
    return Wave.open(path)


@pytest.mark.parametrize(("pattern", "names"), [
    ("outer.i", ["outer.i"]), ("outer.count*.count", ["outer.count.count", "outer.counter_2.count"]),
    ("count*.count", ["outer.count.count", "outer.counter_2.count"]), ("outer.twice_?", ["outer.twice_2"]),
    ("order.*", ["outer.order.address", "outer.order.kind"]),
    ("**.clk", ["outer.clk", "outer.count.clk", "outer.counter_2.clk", "outer.unnamed2.clk"]),
    ("count.**", ["outer.count.busy", "outer.count.clk", "outer.count.count", "outer.count.rst"]),
])
def test_patterns(outer, pattern, names):
    assert [signal.name for signal in outer.signals(pattern)] == names


def test_what_fits_no_signal_or_several(outer):
    with pytest.raises(BenchError, match=r"has no signal 'outer\.ordr\.kind'; near it are outer\.order\.kind"):
        outer["outer.ordr.kind"]
    with pytest.raises(BenchError, match=r"near it are outer\.private"):
        outer.signals("privat")
    with pytest.raises(BenchError, match=r"no signal 'qqq'; it has 26 others"):
        outer.signals("qqq")
    with pytest.raises(BenchError, match=r"'\*\*\.clk' fits 4 signals .* one is wanted: outer\.clk, outer\.count\.clk"):
        outer["**.clk"]


@pytest.mark.parametrize("rest", [0, 100, 400, 1000, 1400])
def test_a_file_that_ends_early(outer, rest, tmp_path):
    """A message each, even where the reader itself gives up; of VCD, all that is before the end."""
    path = tmp_path / outer.path.name
    path.write_bytes(outer.path.read_bytes()[:rest])
    if path.suffix == ".vcd" and rest == 1400:
        assert Wave.open(path)["outer.i"].changes == [(0, 0)]
        return
    with pytest.raises(BenchError, match="cannot be read"):
        Wave.open(path)["outer.i"].changes  # noqa: B018


def test_values_over_time(outer):
    assert outer.unit == "1ps" and outer["outer.i"].bits == 8
    assert outer["outer.i"].changes[:3] == [(0, 0), (1000, 1), (2000, 2)]
    assert outer["outer.i"].at(1999) == 1 and outer["outer.i"].at(2000) == 2 and outer["outer.i"].at(10**9) == 39
    assert outer["outer.i"].at(-1) == "x" * 8
    order = outer["outer.order"].typed(Order)
    assert order.at(7000) == {"kind": 3, "address": 7}


def test_samples_at_the_edge(outer):
    """A register's value is the one that the edge finds; with `inputs`, so is that of a port set before the tick."""
    clock = outer.clocked("outer.clk", inputs=["outer.i"])
    assert len(clock) == 39 and clock.times[0] == 1000 and clock.cycles[-1] == 38
    i, count = clock["outer.i"], clock["outer.count.count"]
    assert i.values.tolist() == list(range(1, 40)) and i.values.dtype == np.int64
    assert count.values[1:].tolist() == [value * (value + 1) // 2 & 255 for value in range(1, 39)]
    assert np.array_equal(count.values[1:], (count.values + i.values)[:-1] & 255)
    assert outer.clocked("outer.clk")["outer.i"].values.tolist() == list(range(39))


def test_numbered_by_a_counter(tmp_path):
    """Cycles as a counter has them; a counter in reset, or x, numbers none."""
    wave = write(tmp_path / "x.vcd", {"n": (8, [None, 0, 0, 0, 1, 2, 3]), "a": (4, [1, 2, 3, 4, 5, 6, 7])})
    clock = wave.clocked("top.clk", count="dut.n")
    assert clock.cycles.tolist() == [0, 1, 2, 3] and clock["dut.a"].values.tolist() == [4, 5, 6, 7]
    assert clock["dut.a"].at(2) == 6 and clock.window(1, 3)["dut.a"].values.tolist() == [5, 6]
    with pytest.raises(BenchError, match="there is no cycle 9; there are 0 to 3"):
        clock["dut.a"].at(9)
    poisoned = write(tmp_path / "y.vcd", {"n": (8, [77, 77, 0, 0, 1, 2])}).clocked("clk", count="n")
    assert poisoned.cycles.tolist() == [0, 1, 2] and poisoned.times.tolist() == [35, 45, 55]


@pytest.mark.parametrize(("count", "message"), [
    ([3, 2], "it falls"), ([0, 1, 2, 0, 1], "it falls"), ([5, 0, 1, 0], "it falls"), ([None, None], "it is unknown")])
def test_what_counts_no_cycles(count, message, tmp_path):
    wave = write(tmp_path / "x.vcd", {"n": (4, count)})
    with pytest.raises(BenchError, match=rf"top\.dut\.n does not count the cycles of top\.clk: {message}"):
        wave.clocked("clk", count="n")


def test_windows(tmp_path):
    clock = write(tmp_path / "x.vcd", {"a": (4, list(range(10)))}).clocked("clk")
    assert clock.window(2, 5)["a"].values.tolist() == [2, 3, 4] and clock.window(end=2)["a"].values.tolist() == [0, 1]
    assert clock.between(25, 45)["a"].values.tolist() == [2, 3] and clock.window(8)["a"].values.tolist() == [8, 9]
    with pytest.raises(BenchError, match=r"clock top\.clk has no edge in cycles 10 to the end; there are 0 to 9"):
        clock.window(10)
    with pytest.raises(BenchError, match="no edge in times 7 to 9"):
        clock.between(7, 9)
    with pytest.raises(BenchError, match="of different clocks or windows"):
        clock["a"] == clock.window(2)["a"]  # noqa: B015


def test_unknown_values_are_never_numbers(tmp_path):
    clock = write(tmp_path / "x.vcd", {"a": (4, [None, 1, "1x0z", 3]), "b": (1, [1, None, 0, None]),
                                       "c": (1, [0, 1, 1, 1])}).clocked("clk")  # fmt: skip
    a, b, c = clock["a"], clock["b"], clock["c"]
    assert a.known.tolist() == [False, True, False, True] and a.at(2) == "1x0x" and a.at(3) == 3
    with pytest.raises(UnknownValueError, match=r"top\.dut\.a is xxxx in cycle 0 and in 1 more"):
        a.values  # noqa: B018
    assert (a == 1).cycles.tolist() == [1] and (a != 1).cycles.tolist() == [3]
    assert (a == 1).unknown_cycles.tolist() == (~(a == 1)).unknown_cycles.tolist() == [0, 2]
    assert (b & c).cycles.tolist() == [] and (b & c).unknown_cycles.tolist() == [1, 3]
    assert (b | c).cycles.tolist() == [0, 1, 2, 3] and (~b).cycles.tolist() == [2]
    assert a.changed.cycles.tolist() == []


def test_conditions(tmp_path):
    clock = write(tmp_path / "x.vcd", {"v": (1, [0, 1, 1, 0, 1]), "a": (4, [9, 9, 10, 11, 3]),
                                       "b": (4, [9, 8, 10, 12, 3])}).clocked("clk")  # fmt: skip
    v, a, b = clock["v"], clock["a"], clock["b"]
    assert (v & (a > 3)).spans == [(1, 3)] and (v & (a > 3)).text == "top.dut.v & top.dut.a > 3"
    assert v.nonzero.spans == [(1, 3), (4, 5)] and (a == b).cycles.tolist() == [0, 2, 4]
    assert (a <= 9).cycles.tolist() == [0, 1, 4] and (a < b).cycles.tolist() == [3] and (a >= b).true.sum() == 4
    assert a.changed.cycles.tolist() == [2, 3, 4] and v.nonzero.previous().cycles.tolist() == [2, 3]
    assert clock.condition(a.values % 2 == 1, "a is odd").cycles.tolist() == [0, 1, 3, 4]
    with pytest.raises(BenchError, match=r"top\.dut\.a has 4 bits and is no condition"):
        v & a
    with pytest.raises(BenchError, match="true in some cycles and not in others"):
        bool(a == 1)


class Beat(data.Struct):
    kind: Kind
    offset: signed(5)
    wide: 70
    lanes: data.ArrayLayout(signed(4), 2)


@pytest.mark.parametrize("beat", [{"kind": Kind.WRITE, "offset": -16, "wide": 1 << 69, "lanes": [7, -8]},
                                  {"kind": Kind.READ, "offset": 15, "wide": 5, "lanes": [-1, 0]}])
def test_layouts(beat, tmp_path):
    """Fields by name: enumerations as members, signs, elements, and more bits than numpy's numbers have."""
    bits = encode_payload(Beat, beat)
    clock = write(tmp_path / "x.vcd", {"beat": (85, [bits, "x" * 4 + f"{bits:085b}"[4:]])}).clocked("clk")
    found = clock["beat"].typed(Beat)
    assert found.at(0) == beat and isinstance(found.at(0)["kind"], Kind) and found["kind"].at(0) is beat["kind"]
    assert found["offset"].values.tolist() == [beat["offset"]] * 2 and found["offset"].values.dtype == np.int64
    assert found["wide"].values.tolist() == [beat["wide"]] * 2 and found["wide"].values.dtype == object
    assert found["lanes"][1].at(0) == beat["lanes"][1] and found["lanes"][0].at(1) == beat["lanes"][0]
    assert found["lanes"][1].at(1) == "xxxx" and found["lanes"][1].name == "top.dut.beat.lanes[1]"
    assert (found["kind"] == beat["kind"]).cycles.tolist() == [0, 1] and (found["offset"] < 0).true[0] == (
        beat["offset"] < 0)


@pytest.mark.parametrize(("bits", "shape", "value", "number"), [
    (64, 64, (1 << 64) - 1, (1 << 64) - 1), (64, signed(64), (1 << 64) - 1, -1), (63, 63, 1 << 62, 1 << 62),
    (65, signed(65), 1 << 64, -(1 << 64)), (8, signed(8), 0x80, -128)])
def test_numbers_of_any_width(bits, shape, value, number, tmp_path):
    found = write(tmp_path / "x.vcd", {"a": (bits, [value])}).clocked("clk")["a"].typed(shape)
    assert found.values.tolist() == [number] and found.at(0) == number and (found == number).cycles.tolist() == [0]


def test_instructions_of_the_product(tmp_path):
    """J3DAI's formats; an opcode's signal may have more bits than Python's enumeration needs."""
    word = encode_payload(Mac, {"opcode": Opcode.MAC, "op": MacOp.MAX})
    clock = write(tmp_path / "x.vcd", {"ir": (64, [word, word]), "opcode": (6, [17, 63])}).clocked("clk")
    mac = clock["ir"].typed(data.StructLayout({"mac": Mac, "rest": 64 - Mac.as_shape().size}))["mac"]
    assert mac["op"].at(0) is MacOp.MAX and (mac["op"] == MacOp.MAX).cycles.tolist() == [0, 1]
    opcode = clock["opcode"].typed(Opcode)
    assert opcode.at(0) is Opcode.MAC and opcode.at(1) == 63 and (opcode == Opcode.MAC).cycles.tolist() == [0]


def test_shapes_that_do_not_fit(tmp_path):
    clock = write(tmp_path / "x.vcd", {"a": (8, [1])}).clocked("clk")
    with pytest.raises(BenchError, match=r"top\.dut\.a has 8 bits, and Beat has 85"):
        clock["a"].typed(Beat)
    with pytest.raises(BenchError, match=r"has 8 bits, and signed\(9\) has 9"):
        clock["a"].typed(signed(9))
    with pytest.raises(BenchError, match="'x' is no shape of Amaranth's"):
        clock["a"].typed("x")
    with pytest.raises(BenchError, match="has no field 'kind': give it a layout"):
        clock["a"]["kind"]
    assert clock["a"][0].at(0) == 1 and clock["a"][0].name == "top.dut.a[0]" and clock["a"][7].at(0) == 0
    with pytest.raises(BenchError, match="has no bit 8; it has 8"):
        clock["a"][8]
    with pytest.raises(BenchError, match=r"has no field 'size'; its fields are kind, address"):
        clock["a"].typed(Order)["size"]


def test_clocks_that_are_none(tmp_path):
    path = tmp_path / "x.vcd"
    with path.open("w") as file, VCDWriter(file) as writer:
        writer.register_var("top", "clk", "wire", 1, init=0)
        writer.register_var("top", "real", "real", init=1.0)
    with pytest.raises(BenchError, match=r"clock top\.clk of waveform .*x\.vcd never rises from 0 to 1"):
        Wave.open(path).clocked("clk")
    ticking = write(path, {"a": (1, [0])})
    assert ticking["clk"].at(5) == 1
    with pytest.raises(BenchError, match="cannot be read: there is no such file"):
        Wave.open(tmp_path / "none.fst")


def test_a_real_number_has_changes_only(tmp_path):
    path = tmp_path / "x.vcd"
    with path.open("w") as file, VCDWriter(file) as writer:
        clock = writer.register_var("top", "clk", "wire", 1, init=0)
        writer.register_var("top", "real", "real", init=1.5)
        writer.change(clock, 5, 1)
    wave = Wave.open(path)
    assert wave["real"].changes == [(0, 1.5)] and wave["real"].bits is None
    with pytest.raises(BenchError, match=r"top\.real .* is a real number or a text, which is not sampled"):
        wave.clocked("clk")["real"]
    with pytest.raises(BenchError, match="has no bits, and signed"):
        wave["real"].typed(signed(8))


def test_transactions(tmp_path):
    signals = {"o__valid": (1, [0, 1, 1, 1, 1, 0, 1, 1]), "o__ready": (1, [1, 0, 0, 1, 1, 1, 0, 0]),
               "o__payload": (8, [0, 0x41, 0x41, 0x41, 0x82, 0, 7, 7])}  # fmt: skip
    clock = write(tmp_path / "x.vcd", signals).clocked("clk")
    found = stream_of(clock, "dut.o", Order)
    assert found.transactions() == [Transaction(1, 3, {"kind": OrderKind.WRITE, "address": 16}, 2),
                                    Transaction(4, 4, {"kind": 2, "address": 32}, 0)]
    assert found.stalled.cycles.tolist() == [1, 2, 6, 7]
    always = stream_of(clock, "o", valid=clock["o__valid"] & clock["o__ready"])
    assert [(each.end, each.payload) for each in always.transactions()] == [(3, None), (4, None)]
    with pytest.raises(BenchError, match=r"has no signal 'dut\.p__valid'; near it are top\.dut\.o__valid"):
        stream_of(clock, "dut.p")
    unknown = write(tmp_path / "y.vcd", {**signals, "o__ready": (1, [None, 1, None, 1, 1, 1, 1, 1])}).clocked("clk")
    with pytest.raises(UnknownValueError, match=r"stream dut\.o, cycle 2: valid or ready is x or z"):
        stream_of(unknown, "dut.o").transactions()
