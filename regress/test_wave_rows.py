# SPDX-License-Identifier: Apache-2.0
"""Rows of words in a waveform of the whole SoC: each says what signals, counters and schedule say in the same cycle."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import replace
from pathlib import Path

import pytest
from nncosim.hdl.j3dai.isa import DmpaOp, Opcode
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.tb.backend import RunResult
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.sim.waves import Trace, save_file
from nncosim.tb.waves.samples import Clock
from nncosim.tb.waves.wave import Wave

SMALL = replace(PLATFORM, clusters=1)
CONTROLLER, DMPA = "j3dai_tb.soc.cluster0.controller", "j3dai_tb.soc.dmpa"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult, Wave, Clock]:
    """A whole run, with a mark as `nncosim debug` sets it: the file, the run, and its cycles."""
    path, compiled = tmp_path_factory.mktemp("rows") / "cause.fst", compile_digits(SMALL)
    result = run_built(build_soc(SMALL, trace="fst"), SMALL, compiled.image.to_bytes(), digits_images(compiled, 0),
                       driver="direct", trace=Trace(path, marks=(500,)))  # fmt: skip
    wave = Wave.open(path)
    return path, result, wave, wave.clocked("j3dai_tb.clk", count="j3dai_tb.probe_cycle")


def said(wave: Wave, clock: Clock, row: str) -> list[str]:
    """A row in each cycle of the clock, just before the edge that ends it."""
    signal = wave[f"rows.{row}"]
    return [str(signal.at(int(time) - 1)) for time in clock.times]


def test_instructions(made: tuple[Path, RunResult, Wave, Clock]) -> None:
    _, _, wave, clock = made
    running, execute, pc = (clock[f"{CONTROLLER}.{name}"].values for name in ("running", "execute", "pc"))
    opcode, tally = clock[f"{CONTROLLER}.opcode"].values, Tally[str]()
    for k, text in enumerate(said(wave, clock, "cluster0_instruction")):
        if not running[k]:
            assert text == "none"
        elif not execute[k]:
            assert text.startswith(f"{pc[k]}: ")
        else:
            name = Opcode(int(opcode[k])).name.lower()
            assert text.split(": ")[0] == str(pc[k]) and text.split(": ")[1].split()[0] == name
            tally[name] += 1
    assert {"mac", "wait", "signal", "halt", "loop"} <= set(tally)


def test_layers_and_what_the_cluster_does(made: tuple[Path, RunResult, Wave, Clock]) -> None:
    """Layers begin and end with the run's intervals, and cycles of a kind are as many as the counters count."""
    _, result, wave, clock = made
    (frame,) = result.frames
    layers, does = said(wave, clock, "layer"), said(wave, clock, "cluster0_does")
    names = [step.name for step in compile_digits(SMALL).image.notes.steps]
    assert layers[frame.intervals[-1].end] == "done"
    for interval in frame.intervals:
        inside = range(interval.start, interval.end)
        assert {layers[c] for c in inside} == {names[interval.step]}
        found = Tally(does[c] for c in inside)
        counted = interval.counters["cluster0"]
        assert found["busy"] == counted["busy"] and found["control"] == counted["control"]
        assert sum(n for text, n in found.items() if text.startswith("wait")) == sum(
            n for kind, n in counted.items() if kind.startswith("wait"))  # fmt: skip


def test_transfers(made: tuple[Path, RunResult, Wave, Clock]) -> None:
    """While a descriptor is in execution, its list and operation; and the LOADs have as many words as were moved."""
    _, result, wave, clock = made
    running, number, op = (clock[f"{DMPA}.{name}"].values for name in ("running", "current_list", "current.op"))
    address = clock[f"{DMPA}.current_addr"].values
    texts, words = said(wave, clock, "dmpa"), 0
    for k, text in enumerate(texts):
        if running[k]:
            name = DmpaOp(int(op[k])).name.lower()
            assert text.startswith(f"list {number[k]}, descriptor at {address[k]}: {name}")
            if name == "load" and texts[k - 1] != text:
                words += int(text.split()[-2])
        else:
            assert text == "idle" or text.startswith("waits for semaphore")
    gathered = sum(1 for k, text in enumerate(texts) if "gather" in text and texts[k - 1] != text)
    loads = sum(interval.transfers["load"]["words"] for interval in result.frames[0].intervals)
    assert 0 < words <= loads and (gathered or words == loads)


def test_rows_are_shown_first(made: tuple[Path, RunResult, Wave, Clock]) -> None:
    path, *_ = made
    shown = [line for line in save_file(path).read_text().splitlines() if "j3dai_tb." in line or "rows." in line]
    first = [line.split()[-1] for line in shown if not line.startswith("[")][:5]
    assert first == ["rows.layer", "rows.dmpa", "rows.cluster0_instruction", "rows.cluster0_does", "j3dai_tb.clk"]
