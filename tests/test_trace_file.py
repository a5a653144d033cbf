# SPDX-License-Identifier: Apache-2.0
"""Waveform files of other tools: the same by both readers, whatever their layout, and messages about bad ones."""

import signal

import pytest
from nncosim.tb.errors import BenchError
from nncosim.tb.sim import trace_file
from nncosim.tb.sim.trace_file import TraceFile, Variable
from vcd import VCDWriter

ODD = """$date today $end $version $var of no account $end
$timescale
  10 ns
$end
$scope module top $end $var wire 1 ! clk $end
$var
  wire 8 " a [7:0] $end
$var wire 8 # packed[7:0] $end
$var wire 2 $ queue.head $end $var wire 1 % bit [3] $end
$upscope $end
$enddefinitions $end
#0 0! b1 " bx # b10 $ 1%
#5 1! b10 "
b11 "
bzx1 #
#7
0!
"""


@pytest.fixture(params=["vcdvcd", "wellen"])
def reader(request, monkeypatch):
    if request.param == "wellen":
        monkeypatch.setattr(trace_file, "VCD_LIMIT", 0)
    return request.param


def test_every_kind_of_value(reader, tmp_path):
    """Left extension, x and z, more than 64 bits, the last of several changes at a time, real numbers."""
    path = tmp_path / "x.vcd"
    with path.open("w") as file, VCDWriter(file, timescale="1 ns") as writer:
        clock = writer.register_var("top", "clk", "wire", 1, init=0)
        narrow = writer.register_var("top.part", "a", "wire", 8, init="x")
        wide = writer.register_var("top.part", "wide", "wire", 72, init="z")
        real = writer.register_var("top", "r", "real", init=1.5)
        for time in (10, 20, 30):
            writer.change(clock, time, time // 10 & 1)
            writer.change(narrow, time, 255)
            writer.change(narrow, time, "1x" if time == 20 else time)
            writer.change(wide, time, (1 << 70) + time)
        writer.change(real, 30, -2.25)
    file = TraceFile(path)
    assert file.unit == "1ns"
    assert file.variables["top.part.wide"] == Variable("top.part.wide", "top.part", 72)
    assert file.variables["top.part.wide"].own_name == "wide" and file.variables["top.r"].bits is None
    found = file.changes(["top.clk", "top.part.a", "top.part.wide", "top.r"])
    assert found["top.clk"] == [(0, 0), (10, 1), (20, 0), (30, 1)]
    assert found["top.part.a"] == [(0, "xxxxxxxx"), (10, 10), (20, "0000001x"), (30, 30)]
    assert found["top.part.wide"] == [(0, "z" * 72), *((time, (1 << 70) + time) for time in (10, 20, 30))]
    assert found["top.r"] == [(0, 1.5), (30, -2.25)]


def test_any_layout_of_a_vcd_file(tmp_path):
    """Declarations and changes on one line or on several, ranges apart from their names or not."""
    path = tmp_path / "x.vcd"
    path.write_text(ODD)
    file = TraceFile(path)
    assert {name: var.bits for name, var in file.variables.items()} == {
        "top.clk": 1, "top.a": 8, "top.packed": 8, "top.queue.head": 2, "top.bit": 1}
    assert file.unit == "10ns" and file.variables["top.queue.head"].scope == "top"
    assert file.changes(file.variables) == {
        "top.clk": [(0, 0), (5, 1), (7, 0)], "top.a": [(0, 1), (5, 3)], "top.packed": [(0, "x" * 8), (5, "zzzzzzx1")],
        "top.queue.head": [(0, 2)], "top.bit": [(0, 1)]}


def test_a_broken_pipe_does_what_it_did(tmp_path):
    """Importing vcdvcd would make it end the process without a word."""
    (tmp_path / "x.vcd").write_text(ODD)
    before = signal.getsignal(signal.SIGPIPE)
    TraceFile(tmp_path / "x.vcd").changes(["top.clk"])
    assert signal.getsignal(signal.SIGPIPE) == before


@pytest.mark.parametrize(("text", "message"), [
    ("", "it is no VCD file with variables"), ("hello\n", "it is no VCD file with variables"),
    ("$enddefinitions $end\n", "it declares no variable"),
    ("$var wire 1 $end $enddefinitions $end\n", r"its declaration '\$var wire 1' names no variable"),
    (ODD.replace("#7", "#soon"), "invalid literal for int"), (ODD + "b1\n", "not enough values")])
def test_what_is_no_vcd_file(text, message, tmp_path):
    path = tmp_path / "x.vcd"
    path.write_text(text)
    with pytest.raises(BenchError, match=rf"x\.vcd cannot be read: {message}"):
        TraceFile(path).changes(["top.clk"])


@pytest.mark.parametrize("name", ["none.vcd", "none.fst"])
def test_no_file(name, tmp_path):
    with pytest.raises(BenchError, match="there is no such file"):
        TraceFile(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 400])
def test_what_is_no_fst_file(content, tmp_path):
    (tmp_path / "x.fst").write_bytes(content)
    with pytest.raises(BenchError, match=r"x\.fst cannot be read"):
        TraceFile(tmp_path / "x.fst")
