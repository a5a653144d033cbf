# SPDX-License-Identifier: Apache-2.0
"""Line and toggle coverage: what a simulation of a small design has seen, under both drivers, added up."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
from nncosim.hdl.counters import EngineCounters
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.regs import Counter
from nncosim.tb.coverage.code import CodeCoverage, CodePoint, coverage_files, coverage_table, read_coverage
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.cocotb_runner import run_cocotb
from nncosim.tb.sim.coverage import FOLDER_VARIABLE
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.saved_state import saved_state_source
from nncosim.tb.sim.verilate import BuiltModel, build

DESIGN = """
module inner(input clk, input rst, input [1:0] d, output reg [3:0] q);
  always @(posedge clk) begin
    if (rst) q <= 0;
    else if (d == 2) q <= q + 1;
    else if (d == 3) begin
      q <= 4'd9;
    end
  end
endmodule
module top(input clk, input rst, input [1:0] d, output [3:0] q, output [3:0] r);
  inner a(clk, rst, d, q);
  inner b(clk, rst, d ^ 2'd1, r);
endmodule
"""

BENCH = """
import cocotb
from nncosim.tb.cocotb_bench import start_clock
from cocotb.triggers import RisingEdge

@cocotb.test()
async def counts(dut):
    start_clock(dut)
    dut.rst.value = 0
    dut.d.value = 1
    for _ in range(4):
        await RisingEdge(dut.clk)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "coverage"))
    return tmp_path / "coverage"


def built() -> BuiltModel:
    return build({"top.v": DESIGN}, "top", optimize="-O0")


def run(*values: int) -> None:
    """Reset, then five cycles of each input."""
    model = Model(built())
    model.reset()
    for value in values:
        model.d = value
        model.tick(5)
    model.close()
    del model
    gc.collect()


def missed(coverage: CodeCoverage, module: str) -> set[str]:
    return {point.what for each in coverage.modules() if each.module == module for point in each.missed}


def test_what_was_seen_and_what_never(folder):
    run(2)  # `a` counts from the reset on, `b` takes its 9
    coverage = read_coverage(coverage_files(folder))
    assert coverage.counts[CodePoint("inner", "line", "00004 elsif")] == 2 * 2  # the reset: two cycles, two instances
    assert coverage.counts[CodePoint("inner", "line", "00005 elsif")] == 5
    assert coverage.counts[CodePoint("inner", "line", "00006 if")] == 5
    assert missed(coverage, "inner") == {"00006 else", "d[0]:1->0", "d[1]:1->0"}
    assert {"d[0]:0->1", "d[0]:1->0"} <= missed(coverage, "top") and "d[1]:0->1" not in missed(coverage, "top")
    run(0, 3, 0)
    both = read_coverage(coverage_files(folder))
    assert missed(both, "inner") == set() and missed(both, "top") <= {"r[3]:1->0", "r[2]:1->0", "q[2]:1->0"}
    assert both.counts[CodePoint("inner", "line", "00004 elsif")] == 8
    assert coverage_table(both).row_count == 2
    (inner, _) = both.to_json()["modules"]  # type: ignore[misc]
    assert inner["module"] == "inner" and (inner["lines"], inner["toggles"], inner["lines_missed"]) == (5, 16, [])


def test_under_cocotb(folder, tmp_path, monkeypatch):
    (tmp_path / "coverage_bench.py").write_text(BENCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    run_cocotb(built(), "coverage_bench", tmp_path / "run")
    coverage = read_coverage(coverage_files(folder))
    assert coverage.counts[CodePoint("inner", "line", "00006 else")] >= 3
    assert coverage.counts[CodePoint("inner", "line", "00006 if")] == 0


def test_what_only_the_emission_wrote_is_no_branch(folder):
    """Amaranth's processes begin with a condition that is there to start them."""
    sources = emit_design(EngineCounters(Counter), "engine_counters")
    assert "if (_initial_" in sources["engine_counters.v"]
    model = Model(build(sources, "engine_counters", optimize="-O0"))
    model.reset()
    for state in Counter:
        model.state = state
        model.tick(3)
    model.close()
    del model
    gc.collect()
    coverage = read_coverage(coverage_files(folder))
    (module,) = coverage.modules()
    assert module.lines > 12 and module.missed_of("line") == []


def test_such_a_simulation_has_saved_states(folder):
    """Of registers, memories and cycles; what was counted is counted on."""
    model = Model(built())
    model.reset()
    model.d = 2
    model.tick(5)
    state, seen = model.save(), model.q
    model.tick(3)
    assert model.q != seen
    model.restore(state)
    assert (model.q, model.cycles) == (seen, 7)
    other = Model(built())
    other.restore(state)
    model.tick(4)
    other.tick(4)
    assert other.save().data == model.save().data and other.q == model.q != seen
    model.close()
    del model, other
    gc.collect()
    coverage = read_coverage(coverage_files(folder))
    assert coverage.counts[CodePoint("inner", "line", "00005 elsif")] == (5 + 3 + 4) + 4


def test_what_is_saved_is_what_verilator_would_save(monkeypatch, tmp_path):
    """Of a design without coverage, which has Verilator's own saved states."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    work = built().path / "work"
    own = {name for path in work.glob("*.cpp") for name in re.findall(r"\bos ?<< ?(\w+)", path.read_text())}
    source = saved_state_source(work)
    assert set(re.findall(r"save\(stream, module\.(\w+)\)", source)) == own - {"vlSymsp", "__Vm_didInit", "__Vcheckval"}
    assert len(own) > 10


def test_a_header_of_another_form_is_refused(tmp_path):
    """What saves a state is read off Verilator's headers."""
    work = built().path / "work"
    for path in work.glob("Vtop*.h"):
        (tmp_path / path.name).write_text(path.read_text())
    assert "save(stream, module.top__DOT__" in saved_state_source(tmp_path)
    header = tmp_path / "Vtop___024root.h"
    header.write_text(header.read_text().replace("    // INTERNAL", "    odd thing;\n\n    // INTERNAL"))
    with pytest.raises(BenchError, match="unknown form: odd thing;"):
        saved_state_source(tmp_path)
    (tmp_path / "Vtop__Syms.h").write_text("")
    header.unlink()
    with pytest.raises(BenchError, match=r"Vtop__Syms\.h is not as expected"):
        saved_state_source(tmp_path)


def test_without_coverage_nothing_is_counted(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    plain = built()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert built().key != plain.key
    Model(plain).close()
    gc.collect()
    assert coverage_files(tmp_path) == []


def test_what_is_no_such_file():
    with pytest.raises(BenchError, match="x is no file of Verilator's coverage"):
        CodeCoverage().add(b"# something\n", "x")
    with pytest.raises(BenchError, match="x is cut off, or damaged"):
        CodeCoverage().add(b"# SystemC::Coverage-3\nC '\x01t\x02toggle", "x")
    with pytest.raises(BenchError, match="cannot be read"):
        read_coverage([Path("/nowhere/at/all")])
