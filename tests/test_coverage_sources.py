# SPDX-License-Identifier: Apache-2.0
"""Coverage taken back to the Python that RTL was written in: a branch that is never taken is listed with its line."""

import copy
import gc
import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from command_line import refused, runner
from nncosim.hdl import emit as emission
from nncosim.hdl.emit import Block, emit_design
from nncosim.hdl.source_lines import SourceLines, Verilog, convert, taken_out
from nncosim.tb.coverage.code import coverage_files, read_coverage
from nncosim.tb.coverage.collect import collecting
from nncosim.tb.coverage.sources import PythonCoverage, SourceCoverage, check_sources, read_source_lines
from nncosim.tb.errors import BenchError
from nncosim.tb.pytest_plugin import pytest_configure
from nncosim.tb.sim.coverage import FOLDER_VARIABLE
from nncosim.tb.sim.emitted import emitted
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build, build_library

THIS = Path(__file__)
DIGITS = THIS.parent.parent / "regress/networks/digits.onnx"


class Steps(wiring.Component):
    """Two copies of a counter, of which only the first is ever told to jump."""

    clear: In(1)
    step: In(2)
    jump: In(2)
    count: Out(8)
    unused: Out(4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = [Signal(4, name=f"count_{k}") for k in range(2)]
        for k, count in enumerate(counts):
            with m.If(self.clear):
                m.d.sync += count.eq(0)  # clear
            with m.Elif(self.jump[k]):
                m.d.sync += count.eq(9)  # jump
            with m.Else():
                with m.Switch(self.step):
                    with m.Case(1):
                        m.d.sync += count.eq(count + 1)  # one
                    with m.Case(2):
                        m.d.sync += count.eq(count + 2)  # two
                    with m.Default():
                        m.d.sync += count.eq(count)  # neither
        with m.If(self.step == 3):
            with m.If(self.clear):
                m.d.comb += self.unused.eq(15)  # both
        chosen = Mux(self.step[1], counts[1], counts[0])  # mux
        m.d.comb += [self.count[:4].eq(chosen), self.count[4:].eq(counts[1])]
        return m


def line_of(text: str) -> int:
    """The one line of this file that ends with a remark."""
    (line,) = [number for number, each in enumerate(THIS.read_text().splitlines(), 1) if each.endswith(f"# {text}")]
    return line


class Top(wiring.Component):
    """The counter as a block of its own."""

    clear: In(1)
    step: In(2)
    jump: In(2)
    count: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.steps = steps = Block(Steps(), "steps")
        m.d.comb += [steps.clear.eq(self.clear), steps.step.eq(self.step), steps.jump.eq(self.jump),
                     self.count.eq(steps.count)]  # fmt: skip
        return m


def run(built, **inputs: int) -> None:
    model = Model(built)
    model.reset()
    for port, value in inputs.items():
        model[port] = value
    model.tick(20)
    model.close()
    del model
    gc.collect()


def seen(folder: Path) -> SourceCoverage:
    """Of this file."""
    python = PythonCoverage(read_coverage(coverage_files(folder)), read_source_lines(folder))
    (file,) = [each for each in python.files if each.file.endswith(THIS.name)]
    return file


def test_a_branch_that_is_never_taken_is_listed_with_its_line_of_amaranth(tmp_path):
    folder = tmp_path / "coverage"
    with collecting(folder):
        built = build(emit_design(Steps(), "steps"), "steps", optimize="-O0")
        run(built, step=1)
    first = seen(folder)
    never = {line_of(text) for text in ("clear", "jump", "two", "both")}
    assert set(first.missed) == never | {line - 1 for line in never} | {line_of("both") - 2}  # with their conditions
    assert first.lines[line_of("one")] >= 2 * 20
    assert first.missed_sides == [(line_of("both") - 1, "false"), (line_of("mux"), "true")]
    with collecting(folder):
        run(built, step=2, jump=1)
    both = seen(folder)
    assert line_of("jump") not in both.missed and line_of("two") not in both.missed and line_of("both") in both.missed
    assert both.partly[line_of("jump")] == both.partly[line_of("two")] == (2, 1)  # the second counter counts on
    with collecting(folder):
        run(built, step=3, clear=1)
    assert seen(folder).missed == []


def test_bits_that_never_turn_are_listed_with_the_declaration_of_their_signal(tmp_path):
    with collecting(tmp_path):
        run(build(emit_design(Steps(), "steps"), "steps", optimize="-O0"), jump=2)
    missed = seen(tmp_path).missed_signals()
    declared = THIS.read_text().splitlines().index("    unused: Out(4)") + 1
    assert missed[declared, "unused"] == [f"[{bit}]:{edge}" for bit in range(4) for edge in ("0->1", "1->0")]
    (second,) = [edges for (_, signal), edges in missed.items() if signal == "count_1"]
    assert "[3]:0->1" not in second and "[1]:0->1" in second  # 9 is in it


def test_modules_that_are_compiled_by_themselves_count(tmp_path):
    """In the file of the design that they stand in; and two runs add up."""
    sources = emit_design(Top(), "top", without=("steps",))
    with collecting(tmp_path):
        library = build_library(emit_design(Steps(), "steps"), "steps", optimize="-O0")
        built = build(sources, "top", libraries=[library], optimize="-O0")
        run(built, step=1)
        assert len(coverage_files(tmp_path)) == 1
        once = seen(tmp_path).lines[line_of("one")]
        assert once >= 2 * 20 and line_of("two") in seen(tmp_path).missed
        run(built, step=2)
    assert seen(tmp_path).lines[line_of("one")] == once and seen(tmp_path).lines[line_of("two")] >= 2 * 20
    names = {each.module for each in read_coverage(coverage_files(tmp_path)).modules()}
    assert "steps" in names


def test_what_has_no_line_is_counted(tmp_path):
    """The other side of a condition without an `Else`, and what no condition guards."""
    with collecting(tmp_path):
        run(build(emit_design(Steps(), "steps"), "steps", optimize="-O0"))
    python = PythonCoverage(read_coverage(coverage_files(tmp_path)), read_source_lines(tmp_path))
    assert python.to_json()["unmapped"]["lines"] > 0  # type: ignore[index]
    points = [parts for parts, _ in read_coverage(coverage_files(tmp_path)).points() if parts["t"] != "toggle"]
    mapped = sum(copies for file in python.files for copies, _ in file.copies.values())
    assert mapped + python.unmapped["line"] >= len(points)


def test_coverage_of_sources_that_were_edited_is_not_added_to(tmp_path):
    with collecting(tmp_path):
        emitted = emit_design(Steps(), "steps")
        run(build(emitted, "steps", optimize="-O0"), step=1)
    check_sources(tmp_path)
    (file,) = tmp_path.glob("*.lines.json")
    data = json.loads(file.read_text())
    (name,) = [name for name in data["files"] if name.endswith(THIS.name)]
    data["files"][name] = "0" * 64
    file.write_text(json.dumps(data))
    message = f"has coverage of .*{THIS.name} as it was before an edit.*give another folder"
    with pytest.raises(BenchError, match=message), collecting(tmp_path):
        pass
    config = SimpleNamespace(getoption=lambda name: str(tmp_path))
    with pytest.raises(pytest.UsageError, match=f"--coverage: {tmp_path} has coverage of"):
        pytest_configure(config)  # type: ignore[arg-type]
    assert FOLDER_VARIABLE not in os.environ
    file.write_text("{")
    with pytest.raises(BenchError, match="is no file of coverage, or damaged"):
        check_sources(tmp_path)
    file.unlink()
    with pytest.raises(BenchError, match="has coverage of sources that it does not tell"):
        check_sources(tmp_path)


def test_the_text_is_what_it_is_without_lines(monkeypatch):
    """What marks the lines leaves no trace in the Verilog: simulations without coverage are the same as ever."""
    text = emit_design(Steps(), "steps")["steps.v"]
    assert isinstance(text, Verilog) and text.lines.branches

    def plain(design, ports, name):
        recorded = convert(design, ports, name)[1]
        return rtlil.convert_fragment(design, ports, name, emit_src=False)[0], recorded

    monkeypatch.setattr(emission, "convert", plain)
    without = emit_design(Steps(), "steps")["steps.v"]
    assert str(without) == str(text) and not without.lines.branches
    assert SourceLines.from_json(json.loads(json.dumps(text.lines.to_json()))) == text.lines
    assert copy.deepcopy(text).lines == pickle.loads(pickle.dumps(text)).lines == text.lines


def test_cached_verilog_has_its_lines_where_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    whole = emit_design(Steps(), "steps")
    plain = emitted("steps", (), lambda: whole)
    assert plain == whole and not isinstance(plain["steps.v"], Verilog)
    with collecting(tmp_path / "coverage"):
        for _ in range(2):
            found = emitted("steps", (), lambda: whole)
            text = found["steps.v"]
            assert found == whole and isinstance(text, Verilog) and text.lines == whole["steps.v"].lines


def test_what_cannot_count_is_refused(tmp_path, capfd):
    command, folder = runner(capfd), tmp_path / "coverage"
    no_rtl = "backend 'iss' of platform 'j3dai' has no RTL to count (--coverage); use --backend rtl"
    refused(command("run", DIGITS, "--backend", "iss", "--coverage", folder), no_rtl)
    assert command("compile", DIGITS, "--out", tmp_path / "out").status == 0
    refused(command("run", tmp_path / "out" / "image.elf", "--backend", "iss", "--coverage", folder), no_rtl)
    (tmp_path / "file").write_text("")
    refused(command("run", DIGITS, "--coverage", tmp_path / "file"), "--coverage", "this is a file")
    patch = ("--rtl-patch", tmp_path / "file")
    refused(command("run", DIGITS, "--coverage", folder, *patch), "--rtl-patch makes others")
    folder.mkdir()
    (folder / "steps.0123456789ab.v.lines.json").write_text("{")
    refused(command("run", DIGITS, "--coverage", folder), "is no file of coverage, or damaged")


SWITCH = """
    (* nncosim_lines = "1:2|:|:3|:" *)
    casez (x)
      1'h0:
          y = 1;
      1'h1:
          /* empty */;
      default:
          y = 2;
    endcase
    (* nncosim_lines = "4:|:5" *)
    if (a) begin
      y = 3;
      if (b) begin
        y = 0;
      end else begin
        y = 1;
      end
    end
    x = 1;
    assign m = c ? (* nncosim_lines = "8" *) a : b;
"""


def test_a_switch_that_lost_cases_tells_nothing():
    text, branches, choices = taken_out(SWITCH)
    assert "nncosim_lines" not in text and branches == {3: [1, 2], 7: [3]} and choices == {19: 8}
    inner = '      (* nncosim_lines = "9:6|:7" *)\n      if (b) begin'
    whole = SWITCH.replace('"4:|:5"', '"4:|:"').replace("      if (b) begin", inner)
    text, branches, choices = taken_out(whole)
    assert branches == {3: [1, 2], 7: [3], 10: [4], 12: [9, 6], 14: [7]} and choices == {10: 4, 12: 9, 19: 8}
    assert text.splitlines()[11] == "      if (b) begin" and text.endswith("\n    assign m = c ? a : b;\n")
