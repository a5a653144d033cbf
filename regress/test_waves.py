# SPDX-License-Identifier: Apache-2.0
"""Waveforms of the whole SoC, by both drivers. Slow: they need a simulation of their own."""

from pathlib import Path

import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.tb.backend import Frame, Interval
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.j3dai.waves import groups
from nncosim.tb.sim.waves import Trace, changes, save_file, variables

LAYER = 2
BYTES_PER_CYCLE = 4000
"""Less than a waveform of six clusters takes; it was 80,000 when every anonymous signal was in it, as VCD."""


def mac_cycles(path: Path, cluster: int) -> list[int]:
    """The cycles in which a cluster's sequencer is busy, from the waveform alone."""
    times = changes(path, "j3dai_tb.probe_cycle")
    busy = changes(path, f"j3dai_tb.soc.cluster{cluster}.sequencer.busy")
    return [cycle for time, cycle in times if [value for at, value in busy if at <= time][-1:] == [1]]


def timeline_cycles(frame: Frame, engine: str, kind: str, interval: Interval) -> list[int]:
    """The cycles of an interval in which an engine does something of a kind, from the timeline."""
    (a,) = (activity for activity in frame.activity if activity.engine == engine)
    spans = [(s, e) for s, e, k in zip(a.start, a.end, a.kind, strict=True) if a.kinds[k] == kind]
    return [c for s, e in spans for c in range(int(s), int(e)) if interval.start <= c < interval.end]


@pytest.mark.slow
@pytest.mark.parametrize(("driver", "layer"), [("direct", 0), ("direct", LAYER), ("cocotb", LAYER), ("cocotb", -1)])
def test_one_layer_of_a_network(driver: str, layer: int, tmp_path: Path) -> None:
    """Its cycles and no others, as the timeline has them; all that the save file wants to show, nothing unnamed."""
    compiled = compile_digits()
    layer %= len(compiled.image.notes.steps)
    trace = Trace(tmp_path / "layer.fst", step=layer)
    result = run_built(build_soc(PLATFORM, trace="fst"), PLATFORM, compiled.image.to_bytes(),
                       digits_images(compiled, 0), driver=driver, trace=trace)
    (frame,) = result.frames
    interval = frame.intervals[layer]
    cycles = [cycle for _, cycle in changes(trace.path, "j3dai_tb.probe_cycle")]
    assert cycles == list(range(interval.start, interval.end))
    assert result.waveform is not None
    assert (result.waveform.first, result.waveform.end) == (interval.start, interval.end)
    assert mac_cycles(trace.path, 0) == timeline_cycles(frame, "cluster0", "compute", interval)
    found = variables(trace.path)
    assert len(found) > 10_000
    assert not [name for name in found if "$" in name or "._" in name]
    assert {line.name for group in groups(PLATFORM, compiled.image) for line in group.lines} <= set(found)
    assert trace.path.stat().st_size < BYTES_PER_CYCLE * len(cycles)
    shown = save_file(trace.path).read_text()
    assert "[treeopen] j3dai_tb.soc." in shown and "{instruction} j3dai_tb.soc.cluster0.controller.ir[63:0]" in shown


@pytest.mark.slow
def test_some_cycles(tmp_path: Path) -> None:
    compiled = compile_digits()
    trace = Trace(tmp_path / "some.fst", start=100, stop=160)
    run_built(build_soc(PLATFORM, trace="fst"), PLATFORM, compiled.image.to_bytes(), digits_images(compiled, 0),
              driver="direct", trace=trace)
    assert [cycle for _, cycle in changes(trace.path, "j3dai_tb.probe_cycle")] == list(range(100, 160))
