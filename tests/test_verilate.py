# SPDX-License-Identifier: Apache-2.0
"""Builds, their cache, and the direct driver, on a small Verilog design."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from nncosim.hdl.sram import SRAM_VERILOG
from nncosim.tb.errors import BenchError, BuildError, CacheError, SimulationError, SimulationTimeout, ToolError
from nncosim.tb.sim.backdoor import load_library
from nncosim.tb.sim.model import SLICE_CYCLES, Model
from nncosim.tb.sim.toolchain import require_header
from nncosim.tb.sim.verilate import BuiltModel, build, build_library
from nncosim.tb.system.cache import cache_root, obtain
from vcdvcd import VCDVCD

TOY = """
module toy #(parameter STEP = 1) (
    input clk, input rst, input [7:0] add, input [99:0] wide, input stop, input finish, input fatal,
    input log, input [3:0] address, input write,
    output reg [31:0] count, output [99:0] inverse, output [7:0] doubled, output [7:0] read
);
    `include "eventlog.svh"
    assign inverse = ~wide;
    assign doubled = {add[6:0], 1'b0};
    always @(posedge clk) begin
        count <= rst ? 32'd0 : count + 32'(add) + STEP - 1;
        if (log) nncosim_log4(7, 64'(count), {56'd0, add}, wide[63:0], 64'hffff_0000_1111_2222);
        if (log) nncosim_log(8, 2, {1984'd0, count, 24'd0, add});
        if (stop) $error("count is %0d", count);
        if (fatal) $fatal(1, "no way");
        if (finish) $finish;
    end
    nncosim_sram #(.DEPTH(12), .WIDTH(8)) table_0 (
        .clk(clk), .r_en(1'b1), .r_addr(address), .r_data(read), .w_en(write), .w_addr(address), .w_data(add));
    nncosim_sram #(.DEPTH(5), .WIDTH(96), .GRAN(32)) table_1 (
        .clk(clk), .r_en(1'b0), .r_addr(3'd0), .r_data(), .w_en(3'd0), .w_addr(3'd0), .w_data(96'd0));
endmodule
"""
SOURCES = {"toy.sv": TOY, "sram.v": SRAM_VERILOG.read_text()}


@pytest.fixture(scope="module")
def built() -> BuiltModel:
    return build(SOURCES, "toy")


@pytest.fixture
def model(built):
    with Model(built) as running:
        assert not any(running[name] for name, (direction, _) in running.ports.items() if direction == "in")
        running.reset()
        yield running


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch, built):
    """An empty cache, but with the design-independent part of builds already there."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "runtimes").symlink_to(cache_root() / "runtimes")
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# The cache


def entries(root: Path, kind: str = "simulations") -> list[str]:
    return sorted(path.name for path in (root / kind).iterdir() if path.suffix != ".lock")


def test_an_interrupted_fill_leaves_no_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))

    def interrupted(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain("k", interrupted)
    assert entries(tmp_path) == []
    (tmp_path / "simulations" / "k.1.partial").mkdir()  # as after a kill
    assert obtain("k", lambda folder: (folder / "whole").touch()) == tmp_path / "simulations" / "k"
    assert entries(tmp_path) == ["k"]


def test_a_cache_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=r"cannot be kept in .*file: Not a directory; set NNCOSIM_CACHE"):
        obtain("k", lambda folder: None)


def test_a_truncated_simulation_is_built_again(fresh_cache):
    built = build(SOURCES, "toy")
    whole = built.library.stat().st_size
    os.truncate(built.library, 4096)
    again = build(SOURCES, "toy")
    assert again.path == built.path and again.library.stat().st_size == whole
    with Model(again) as model:
        model.tick(3)
    part = fresh_cache / "part.so"
    part.write_bytes(again.library.read_bytes()[:100])
    with pytest.raises(CacheError, match=r"part\.so cannot be loaded"):
        load_library(part)


def _fill_slowly(root: str, results) -> None:
    os.environ["NNCOSIM_CACHE"] = root

    def fill(folder):
        results.put("filled")
        time.sleep(0.3)
        (folder / "done").touch()

    assert (obtain("k", fill) / "done").exists()


def test_processes_fill_an_entry_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_fill_slowly, args=(str(tmp_path), results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert results.get(timeout=5) == "filled" and results.empty()


BUILD_SCRIPT = "from test_verilate import SOURCES, build; build(SOURCES, 'toy'); print('built')"


def _start_build() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", BUILD_SCRIPT], cwd=Path(__file__).parent, text=True,
                            stdout=subprocess.PIPE, start_new_session=True)


def test_a_killed_build_is_built_again_by_two_at_once(fresh_cache):
    victim = _start_build()
    while not list(fresh_cache.glob("simulations/*.partial/work/*.cpp")):
        assert victim.poll() is None
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert all(name.endswith(".partial") for name in entries(fresh_cache))
    rivals = [_start_build(), _start_build()]
    assert [rival.communicate()[0] for rival in rivals] == ["built\n", "built\n"]
    assert len(entries(fresh_cache)) == 1 and not entries(fresh_cache)[0].endswith(".partial")


# Builds


def test_a_second_build_builds_nothing(built):
    steps = []
    again = build(SOURCES, "toy", progress=lambda *step: steps.append(step))
    assert (again.path, again.key, steps) == (built.path, built.key, [])


def test_a_build_outlives_the_environment_that_built_it(built):
    """Its libraries would be looked for where they no longer are."""
    command = ["objdump", "-p", str(built.executable)]
    dynamic = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "NEEDED               libcocotbvpi_verilator.so" in dynamic
    assert not re.search(r"R(UN)?PATH", dynamic)


def test_progress_and_parameters(fresh_cache, built):
    steps = []
    other = build(SOURCES, "toy", parameters={"STEP": 5}, progress=lambda *step: steps.append(step))
    assert other.key != built.key
    assert {name for name, _, _ in steps} == {"verilate", "compile", "link"}
    with Model(other) as model:
        model.reset()
        model.tick(3)
        assert model.count == 12


def test_key_depends_on_everything(built, tmp_path):
    header, extra = tmp_path / "h.svh", tmp_path / "x.cpp"
    header.write_text("// 1")
    extra.write_text("int nncosim_test_extra;")

    def key(**changes) -> str:
        from nncosim.tb.sim.building import BuildOptions, Inputs  # the key without the build
        values = {"sources": SOURCES, "top": "toy", "files": (), "include_dirs": (tmp_path,), "vlt": "",
                  "cpp_sources": (extra,), "options": BuildOptions()} | changes
        return Inputs(**values).key()

    from nncosim.tb.sim.building import BuildOptions, BuiltLibrary
    keys = [key(), key(sources=SOURCES | {"toy.sv": TOY + " "}), key(vlt="// x"), key(cpp_sources=()),
            key(files=(header,)), key(options=BuildOptions(trace="vcd")), key(options=BuildOptions(defines={"A": "1"})),
            key(library=True), *(key(libraries=(BuiltLibrary(tmp_path, "m", digest),)) for digest in "12")]
    header.write_text("// 2")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key()


def test_verilator_error_is_shown(fresh_cache):
    with pytest.raises(BuildError, match=r"'toy' did not build:\n.*toy\.sv:\d+:.*nosuch") as caught:
        build(SOURCES | {"toy.sv": TOY.replace("~wide", "~nosuch")}, "toy")
    assert caught.value.log.is_file() and str(caught.value.log) in str(caught.value)
    assert entries(fresh_cache) == []


def test_compiler_error_is_shown(fresh_cache, tmp_path):
    bad = tmp_path / "monitor.cpp"
    bad.write_text("int broken(;\n")
    with pytest.raises(BuildError, match=r"monitor\.cpp:1:\d+: error"):
        build(SOURCES, "toy", cpp_sources=[bad])
    assert entries(fresh_cache) == []


def test_a_given_file_is_compiled_once_for_all_designs(fresh_cache, tmp_path):
    """Until it, or what it includes, says something else."""
    given, header = tmp_path / "given.cpp", tmp_path / "value.h"
    given.write_text('#include "value.h"\nextern "C" int nncosim_value() { return VALUE; }\n')
    found = []
    for value, step in ((1, 2), (1, 3), (4, 5)):
        header.write_text(f"// step {step}\n#define VALUE {value}\n")
        with_it = build(SOURCES, "toy", parameters={"STEP": step}, cpp_sources=[given], optimize="-O0")
        found.append((load_library(with_it.library).nncosim_value(), f"{given} -c" in with_it.log.read_text()))
    assert found == [(1, True), (1, False), (4, True)]


def test_bad_build_arguments():
    with pytest.raises(BenchError, match=r"gone\.v of the design 'toy' does not exist"):
        build(SOURCES, "toy", files=[Path("gone.v")])
    with pytest.raises(BenchError, match="trace must be 'vcd', 'fst' or None, not 'lxt'"):
        build(SOURCES, "toy", trace="lxt")


def test_missing_tools_are_named(fresh_cache, monkeypatch):
    with pytest.raises(ToolError, match=r"FST waveforms need the C header no_such\.h.*apt-get install libnone-dev"):
        require_header("no_such.h", "libnone-dev", "FST waveforms")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError, match=r"C\+\+ compiler 'no-such-compiler' is not on PATH; install g\+\+"):
        build(SOURCES, "toy", parameters={"STEP": 9})
    assert entries(fresh_cache) == []


# The direct driver


def test_ports(model):
    assert model.ports["wide"] == ("in", 100) and model.ports["inverse"] == ("out", 100)
    model.wide = 0x123456789ABCDEF0123456789
    assert model.inverse == ~model.wide & (1 << 100) - 1
    model["add"] = 70
    assert (model.doubled, model["doubled"]) == (140, 140)  # combinational, without a tick
    model.tick()
    model.tick(9)
    assert (model.count, model.cycles) == (700, 12)


@pytest.mark.parametrize("value", [-1, 256])
def test_port_range(model, value):
    with pytest.raises(BenchError, match=f"port 'add' has 8 bits and holds 0 to 255, not {value}"):
        model.add = value


@pytest.mark.parametrize("value", [1.5, np.float32(1), "1"])
def test_values_that_are_no_integers(model, value):
    with pytest.raises(BenchError, match=f"port 'add' of 'toy' takes an integer, not {re.escape(repr(value))}"):
        model.add = value


def test_port_mistakes(model):
    with pytest.raises(BenchError, match="'toy' has no port 'adder'; ports: add,"):
        model["adder"] = 1
    with pytest.raises(BenchError, match="has no port 'adder'"):
        model.adder = 1
    with pytest.raises(AttributeError, match="no attribute or port 'adder'"):
        _ = model.adder
    with pytest.raises(BenchError, match="'count' of 'toy' is an output"):
        model.count = 1
    with pytest.raises(BenchError, match=r"no one-bit clock port 'clock'; ports: .*wide.*; give clock=NAME"):
        Model(model.built, clock="clock")


def test_run_until(model):
    model.add = 3
    assert model.run_until("count", 30, max_cycles=10) == 10
    assert model.run_until("count", 30) == 0
    with pytest.raises(SimulationTimeout, match="count did not become 31 within 5 cycles; it is 45 at cycle 17"):
        model.run_until("count", 31, max_cycles=5)
    with pytest.raises(BenchError, match="port 'wide' has 100 bits; at most 64"):
        model.run_until("wide", 0)


ENDLESS = """
import signal, threading, os, sys
from test_verilate import SOURCES, Model, build
with Model(build(SOURCES, 'toy')) as model:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        model.tick(10**11) if sys.argv[1] == "tick" else model.run_until("count", 1, max_cycles=10**11)
    except KeyboardInterrupt:
        model.eval()
        print("interrupted", 0 < model.cycles < 10**10)
"""


@pytest.mark.parametrize("what", ["tick", "run_until"])
def test_an_interrupt_ends_a_long_run(built, what):
    ran = subprocess.run([sys.executable, "-c", ENDLESS, what], cwd=Path(__file__).parent, text=True, timeout=60,
                         capture_output=True)  # fmt: skip
    assert ran.stdout == "interrupted True\n", ran.stderr


def test_slices_are_not_seen(model):
    """Around the length of a slice: the same cycles, and not one more."""
    for count in (0, 1, SLICE_CYCLES - 1, SLICE_CYCLES, SLICE_CYCLES + 1, 3 * SLICE_CYCLES):
        before = model.cycles
        assert model.tick(count) == count == model.cycles - before
    model.add = 1
    for count in (1, SLICE_CYCLES - 1, SLICE_CYCLES, SLICE_CYCLES + 1, 3 * SLICE_CYCLES):
        goal = model["count"] + count
        assert model.run_until("count", goal, max_cycles=count) == count and model["count"] == goal
    with pytest.raises(SimulationTimeout, match=f"within {2 * SLICE_CYCLES} cycles"):
        model.run_until("count", goal + 2 * SLICE_CYCLES + 1, max_cycles=2 * SLICE_CYCLES)
    with pytest.raises(BenchError, match="-1 clock cycles cannot be run"):
        model.tick(-1)


def test_a_limit_in_cycles(built):
    with Model(built, limit_cycles=5000) as model:
        model.reset(cycles=2)
        assert model.tick(4998) == 4998
        with pytest.raises(SimulationTimeout, match="has run the 5000 clock cycles that it may"):
            while not model["finish"]:  # a bench that waits for ever
                model.tick()
        assert model.cycles == 5000
    with Model(built, limit_cycles=5000) as model, pytest.raises(SimulationTimeout, match="5000"):
        model.run_until("count", 77)


def test_memories(model):
    assert sorted(model.memories) == ["toy.table_0", "toy.table_1"]
    small, large = model.memory("table_0"), model.memory("toy.table_1")
    assert (small.shape, small.dtype, large.shape, large.dtype) == ((12,), np.uint8, (5, 3), np.uint32)
    assert model.memory("table_1", np.uint8).shape == (5, 12)
    small[:] = np.arange(12) + 100
    model.address = 7
    model.tick()
    assert model.read == 107
    model.add, model.write = 9, 1
    model.tick()
    assert (model.read, small[7]) == (107 ^ 0xFF, 9)  # what is read of a word that is being written is poison
    with pytest.raises(BenchError, match=r"memory 'table' not found; the memories are: toy\.table_0, toy\.table_1"):
        model.memory("table")


def test_unknowns_come_from_the_seed(built):
    def contents(seed: int) -> bytes:
        with Model(built, seed=seed) as model:
            return model.memory("table_1").tobytes()
    assert contents(1) == contents(1) != contents(2)


def test_poison_fills_every_memory(model):
    model.poison(3)
    first = {name: model.memory(name).copy() for name in model.memories}
    model.poison(3)
    assert all(np.array_equal(first[name], model.memory(name)) for name in first)
    assert all(len(np.unique(array)) > 4 for array in first.values())
    model.poison(4)
    assert not any(np.array_equal(first[name], model.memory(name)) for name in first)


def test_two_models_are_independent(built):
    one, two = Model(built), Model(built)
    for model in (one, two):
        model.reset()
    one.add, two.add = 1, 2
    one.tick(5)
    two.tick(5)
    one.tick(5)
    assert (one.count, two.count) == (10, 10)
    one.close()
    two.tick()
    assert two.count == 12
    with pytest.raises(BenchError, match="the simulation is closed"):
        one.tick()


def test_arrays_outlive_the_model(built):
    model = Model(built)
    array = model.memory("table_0")
    array[:] = 3
    model.close()
    del model
    assert array.sum() == 36


def test_save_and_restore(model):
    model.add = 5
    model.memory("table_0")[:] = 77
    model.tick(4)
    state = model.save()
    model.memory("table_0")[:] = 78
    model.add = 6
    model.tick(3)
    assert (model.count, model.cycles) == (38, 9)
    model.restore(state)
    assert (model.count, model.cycles, model.add) == (20, 6, 5)
    assert (model.memory("table_0") == 77).all()
    with Model(model.built) as other:
        other.restore(state)
        other.tick()
        assert (other.count, other.cycles) == (25, 7)


def test_a_state_of_another_build_is_refused(model):
    state = model.save()
    state.key = "another"
    with pytest.raises(BenchError, match="belongs to another build"):
        model.restore(state)


def test_an_error_in_the_design_stops_it(model):
    model.add, model.stop = 1, 0
    model.tick(5)
    model.stop = 1
    with pytest.raises(SimulationError, match=r"'toy' stopped at cycle 8: assertion at .*toy\.sv:14: .*count is 5"):
        model.tick(10)


def test_fatal_stops_it(model):
    model.fatal = 1
    with pytest.raises(SimulationError, match=r"at cycle 3: .*toy\.sv:15: .*no way"):
        model.tick(10)


def test_finish(model):
    model.finish = 1
    assert model.tick(10) == 1
    assert model.finished
    with pytest.raises(SimulationError, match=r"ended by \$finish before count became 5"):
        model.run_until("count", 5)


def test_event_log(model):
    assert model.log(7).shape == (0, 1)
    model.add, model["log"] = 2, 1
    model.wide = 0x1_0000_0005
    model.tick(3)
    assert model.log(8).tolist() == [[2, 0], [2, 2], [2, 4]]
    record = np.dtype([("count", "<u8"), ("add", "<u8"), ("wide", "<u8"), ("tag", "<u8")])
    events = model.log(7, record, clear=True)
    assert events["count"].tolist() == [0, 2, 4] and set(events["wide"].tolist()) == {0x1_0000_0005}
    assert set(events["tag"].tolist()) == {0xFFFF_0000_1111_2222}
    model.tick()
    assert model.log(7, record)["count"].tolist() == [6]
    with pytest.raises(BenchError, match="stream 8 has records of 8 bytes, and the dtype asked for has 32"):
        model.log(8, record)


def test_waveform_needs_its_build(model, tmp_path):
    with pytest.raises(BenchError, match="built without waveforms; build it with trace='vcd' or 'fst'"):
        model.trace(tmp_path / "x.vcd")


def test_waveform_window(tmp_path):
    with Model(build(SOURCES, "toy", trace="vcd"), period_ps=5000) as model:
        model.reset()
        model.add = 4
        model.trace(tmp_path / "x.vcd", start=10, stop=15)
        model.tick(30)
        model.trace_off()
    changes = VCDVCD(str(tmp_path / "x.vcd"))["toy.count[31:0]"].tv
    assert [int(value, 2) for _, value in changes] == [36, 40, 44, 48, 52]
    assert all(10 * 5000 <= time_ps < 15 * 5000 for time_ps, _ in changes)


INNER = """
module inner (input clk, input [7:0] step, output reg [7:0] total);
    always @(posedge clk) total <= total + step;
    wire [7:0] stored;
    nncosim_sram #(.DEPTH(4), .WIDTH(8)) notes (
        .clk(clk), .r_en(1'b1), .r_addr(total[1:0]), .r_data(stored), .w_en(1'b0), .w_addr(2'b0), .w_data(8'b0));
    initial total = 0;
endmodule
"""
OUTER = """
module outer (input clk, output [7:0] a, output [7:0] b);
    inner one (.clk(clk), .step(8'd1), .total(a));
    inner two (.clk(clk), .step(8'd3), .total(b));
endmodule
"""


@pytest.mark.parametrize("trace", [None, "vcd"])
def test_a_module_that_is_compiled_by_itself(tmp_path, trace):
    """It counts, its memories are found in each place, and it is in the waveform."""
    macro = {"sram.v": SRAM_VERILOG.read_text()}
    library = build_library({"inner.v": INNER} | macro, "inner", trace=trace, optimize="-O1")
    built = build({"outer.v": OUTER}, "outer", libraries=[library], trace=trace, optimize="-O1")
    with Model(built, seed=1) as model:
        assert sorted(model.memories) == ["outer.one.inner.notes", "outer.two.inner.notes"]
        model.memory("two.inner.notes")[:] = [1, 2, 3, 4]
        assert list(model.memory("two.inner.notes")) == [1, 2, 3, 4]
        if trace is not None:
            model.trace(tmp_path / "w.vcd")
        model.tick(10)
        assert (model["a"], model["b"]) == (10, 30)
    if trace is not None:
        text = (tmp_path / "w.vcd").read_text()
        assert text.count(" stored ") == 2


def objects(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "objects").iterdir() if path.suffix != ".lock")


def test_a_changed_library_is_linked_anew_and_no_more(tmp_path, monkeypatch):
    """What stands on it is compiled again only where the library's ports are others."""
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    macro = {"sram.v": SRAM_VERILOG.read_text()}
    steps: list[str] = []

    def counts(inner: str, outer: str = OUTER) -> tuple[int, int]:
        library = build_library({"inner.v": inner} | macro, "inner", optimize="-O0")
        steps.clear()
        built = build({"outer.v": outer}, "outer", libraries=[library], optimize="-O0",
                      progress=lambda step, *_: steps.append(step))
        with Model(built, seed=1) as model:
            model.tick(10)
            return model["a"], model["b"]

    assert counts(INNER) == (10, 30)
    first = objects(tmp_path)
    assert len(first) == 1 and "compile" in steps
    changed = INNER.replace("total + step", "total + 2 * step")
    assert changed != INNER
    assert counts(changed) == (20, 60)
    assert objects(tmp_path) == first and set(steps) == {"link"}
    assert counts(INNER) == (10, 30) and not steps
    assert counts(changed, OUTER + "// another text\n") == (20, 60)
    assert len(objects(tmp_path)) == 2
