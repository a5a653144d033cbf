# SPDX-License-Identifier: Apache-2.0
"""Waveforms: what is in them, of which cycles, and the save file beside them."""

import re
from pathlib import Path

import pytest
from nncosim.compiler.image.image import Image
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.soc import emit_soc
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_case
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.waves import groups, instruction_words, trace_conditions
from nncosim.tb.sim.emitted import emitted
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build
from nncosim.tb.sim.waves import (
    Line,
    SignalGroup,
    Trace,
    Waveform,
    changes,
    command_file,
    save_file,
    trace_format,
    variables,
    write_save_file,
)
from test_names import Outer


@pytest.fixture(scope="module", params=["fst", "vcd"])
def built(request):
    return build(emit_design(Outer(), "outer"), "outer", trace=request.param)


def record(built, folder: Path, when=None, **window) -> Path:
    """40 cycles of the design, whose input is the number of the cycle."""
    path = folder / f"run.{built.options.trace}"
    with Model(built, period_ps=1000) as model:
        model.trace(path, when=when, **window)
        for cycle in range(40):
            model.i, model.kind = cycle, cycle % 4
            model.tick()
    return path


def test_named_signals_and_no_others(built, tmp_path):
    """Fields of structures, submodules by their names; nothing that nobody named, no second copy of the ports."""
    found = variables(record(built, tmp_path))
    assert {"outer.busy": 8, "outer.order.kind": 2, "outer.order.address": 6, "outer.count.busy": 8,
            "outer.counter_2.count": 8, "outer.twice_2": 8, "outer.private": 8}.items() <= found.items()
    parts = [part for name in found for part in name.split(".")]
    assert not [part for part in parts if part.startswith("_") or "$" in part]
    assert all(name.startswith("outer.") for name in found)


def test_values(built, tmp_path):
    path = record(built, tmp_path)
    assert [value for _, value in changes(path, "outer.i")] == list(range(40))
    assert [value for _, value in changes(path, "outer.order.kind")] == [cycle % 4 for cycle in range(40)]
    with pytest.raises(BenchError, match=r"no variable 'outer\.nothing'"):
        changes(path, "outer.nothing")


def test_cycles_of_a_window(built, tmp_path):
    path = record(built, tmp_path, start=10, stop=15)
    assert [value for _, value in changes(path, "outer.i")] == [10, 11, 12, 13, 14]


def test_window_by_the_values_of_ports(built, tmp_path):
    """All conditions hold; there may be several stretches."""
    path = record(built, tmp_path, when={"i": (20, 30), "kind": (1, 3)})
    assert [value for _, value in changes(path, "outer.i")] == [21, 22, 25, 26, 29]
    with Model(built) as model, pytest.raises(BenchError, match="no port 'x'"):
        model.trace(tmp_path / "y.vcd", when={"x": (0, 1)})


def test_a_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.fst"
    with pytest.raises(BenchError, match=r"x\.fst cannot be read"):
        variables(path)


def test_save_file(built, tmp_path):
    """Signals that are there, with ranges, labels and words; one file for lines with the same words."""
    path = record(built, tmp_path)
    words = {0: "READ", 1: "WRITE"}
    shown = [SignalGroup("all of it", [
        Line("outer.i", "input", "dec"), Line("outer.order.kind", words=words), Line("outer.kind", "kind", words=words),
        Line("outer.not_there"), Line("outer.clk")]), SignalGroup("nothing", [Line("outer.gone")], closed=True)]
    wave = write_save_file(path, shown, clock="outer.clk", marks="outer.kind", cycle="outer.i", open_scopes=["outer"])
    assert wave == Waveform(path, 0, 40, path.stat().st_size) and save_file(path) == path.with_suffix(".gtkw")
    assert str(wave) == (f"{path}, cycles 0 to 39, {path.stat().st_size:,} bytes; open it with: "
                         f"gtkwave {save_file(path)} (or surfer {path} --command-file {command_file(path)})")
    text = save_file(path).read_text()
    assert f'[dumpfile] "{path}"' in text and "[treeopen] outer." in text
    # What GTKWave 3.3.118 finds: in VCD, a dot in a name of its own is one of a scope unless it is escaped.
    dotted = "outer.\\order.kind[1:0]" if path.suffix == ".vcd" else "outer.order.kind[1:0]"
    assert "+{input} outer.i[7:0]" in text and f"+{{kind}} {dotted}" in text and "outer.clk\n" in text
    assert "not_there" not in text and "gone" not in text and "nothing" not in text
    (table,) = tmp_path.glob("*.txt")
    assert table.read_text() == "0 READ\n1 WRITE\n" and text.count(f"^1 {table}") == 2
    zoom, *markers = re.search(r"^\*(\S+) -1 (.*)$", text, re.M).groups()
    first, second = markers[0].split()[:2]
    assert float(zoom) < 0 and int(first) < int(second), "the changes of `marks` are marked"


@pytest.mark.parametrize(("name", "kind"), [("a.fst", "fst"), ("a/b.VCD", "vcd")])
def test_the_suffix_says_the_format(name, kind):
    assert trace_format(name) == trace_format(Path(name)) == kind


@pytest.mark.parametrize("name", ["a", "a.fst.gz", "a.lxt"])
def test_other_suffixes_are_refused(name):
    with pytest.raises(BenchError, match=r"\.fst \(small.* or \.vcd"):
        Trace(Path(name))


@pytest.mark.parametrize(("window", "message"), [
    ({"start": -1}, "cannot begin at cycle -1"), ({"start": 7, "stop": 7}, "from cycle 7 to 7 is empty"),
    ({"stop": 0}, "from cycle 0 to 0 is empty")])
def test_empty_windows_are_refused(window, message):
    with pytest.raises(BenchError, match=message):
        Trace(Path("a.vcd"), **window)


def test_windows_of_a_j3dai_run():
    def conditions(**window):
        return trace_conditions(Trace(Path("a.vcd"), **window), 5)
    assert trace_conditions(None, 5) == conditions() == {}
    assert conditions(start=5) == {"probe_cycle": (5, 2**64 - 1)}
    assert conditions(stop=9, step=3) == {"probe_cycle": (0, 9), "step": (3, 4), "frames_done": (0, 1)}
    assert conditions(step=4) == {"step": (4, 6), "frames_done": (0, 1)}, "the last one lasts until the frame is done"


def declared(sources: dict[str, str]) -> tuple[dict[str, set[str]], dict[str, dict[str, str]]]:
    """Of each Verilog module: its wires and registers, and the module of each instance."""
    names, instances = {}, {}
    for text in sources.values():
        for module, body in re.findall(r"^module \\?(\S+?) ?\((.*?)^endmodule", text, re.M | re.S):
            found = re.findall(r"^  (?:wire|reg)(?: signed)?(?: \[\d+:\d+\])? (\S+)", body, re.M)
            names[module] = {name.lstrip("\\").rstrip(";") for name in found}
            instances[module] = {instance: kind for kind, instance in re.findall(
                r"^  \\?(\S+)  ?(\w+) \($", body, re.M)}
    return names, instances


def test_what_is_shown_first_exists():
    """Every signal of the save file is in the Verilog; so a renamed one is noticed without a waveform."""
    names, instances = declared(emitted("j3dai_soc", PLATFORM, lambda: emit_soc(PLATFORM)))
    top = (Path(__file__).parents[1] / "tb" / "j3dai" / "j3dai_tb.sv").read_text()
    lines = [line.name for group in groups(PLATFORM, Image(())) for line in group.lines]
    assert len(lines) > 100
    missing = []
    for line in lines:
        parts = line.split(".")[1:]
        if parts[0] != "soc":
            missing += [] if re.search(rf"\b{parts[0]}\b", top) else [line]
            continue
        module = "j3dai_soc"
        parts = parts[1:]
        while parts and parts[0] in instances[module]:
            module = instances[module][parts.pop(0)]
        if ".".join(parts) not in names[module]:
            missing.append(line)
    assert missing == []


def test_instructions_as_words():
    """All instructions of an image's programs, as the assembler writes them."""
    words = instruction_words(compile_case("conv3x3_16", 1).image, PLATFORM)
    texts = set(words.values())
    assert {"halt", "fence"} & texts and any(text.startswith("mac op=MAC") for text in texts)
    assert all(0 < word < 1 << 64 for word in words)
