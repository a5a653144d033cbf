# SPDX-License-Identifier: Apache-2.0
"""Waveforms of the whole SoC, by both drivers. Slow: they need a simulation of their own."""

from pathlib import Path

import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.j3dai.waves import groups
from nncosim.tb.waves import Trace, changes, save_file, variables

LAYER = 2
BYTES_PER_CYCLE = 4000
"""Less than a waveform of six clusters takes; it was 80,000 when every anonymous signal was in it, as VCD."""


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["direct", "cocotb"])
def test_one_layer_of_a_network(driver: str, tmp_path: Path) -> None:
    """Its cycles and no others, all that the save file wants to show, nothing without a name."""
    compiled = compile_digits()
    trace = Trace(tmp_path / "layer.fst", step=LAYER)
    result = run_built(build_soc(PLATFORM, trace="fst"), PLATFORM, compiled.image.to_bytes(),
                       digits_images(compiled, 0), driver=driver, trace=trace)
    (frame,) = result.frames
    interval = frame.intervals[LAYER]
    cycles = [cycle for _, cycle in changes(trace.path, "j3dai_tb.probe_cycle")]
    assert cycles == list(range(cycles[0], cycles[-1] + 1))
    assert abs(cycles[0] - interval.start) <= 2 and abs(cycles[-1] - interval.end) <= 2
    assert {value for _, value in changes(trace.path, "j3dai_tb.lists_done")} == {LAYER}
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
