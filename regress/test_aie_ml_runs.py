# SPDX-License-Identifier: Apache-2.0
"""Runs of the AIE-ML tile as a user asks for them: waveforms of a part, and images that are not for it."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from nncosim.compiler.aie_ml.notes import AieMlNotes, tile_address
from nncosim.compiler.image.image import ImageError, Segment
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_checks import normal_inputs
from nncosim.regress.aie_ml_whole import streamed
from nncosim.regress.dense_models import DenseSpec, compiled, dense_network, frames_of, random_inputs
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.build import FEEDER_WORDS
from nncosim.tb.aie_ml.segments import loads_of
from nncosim.tb.aie_ml.streaming import stream_rtl
from nncosim.tb.aie_ml.waves import groups
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import BenchError, CapacityError
from nncosim.tb.sim.waves import Trace, changes, save_file, variables

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
SPEC = DenseSpec((16, 32, 16, 8), batch=8)


@pytest.fixture(scope="module")
def made():
    return compiled(SPEC, PLATFORM)


def cycles_in(path) -> list[int]:
    """The values of `probe_cycle` in a VCD file."""
    text = path.read_text()
    (code,) = re.findall(r"\$var wire +64 (\S+) probe_cycle ", text)[:1]
    return [int(bits, 2) for bits in re.findall(rf"^b([01]+) {re.escape(code)}$", text, re.M)]


def test_a_waveform_of_a_layer_shows_that_layer(made, tmp_path):
    shown = []
    for step in range(3):
        path = tmp_path / f"{step}.vcd"
        given = frames_of(SPEC, made.network, 2)  # of the first inference only
        run = BENCH.run(PLATFORM, made.image.to_bytes(), given, backend="rtl", driver="direct",
                        trace=Trace(path, step=step))  # fmt: skip
        assert run.diagnosis is None
        cycles, interval = cycles_in(path), run.frames[0].intervals[step]
        shown.append((cycles[0], cycles[-1]))
        assert abs(len(set(cycles)) - (interval.end - interval.start)) <= 5, "a few cycles of start and end"
    assert all(abs(after[0] - before[1]) <= 1 for before, after in pairwise(shown))


def test_a_waveform_of_some_cycles(made, tmp_path):
    path = tmp_path / "w.vcd"
    BENCH.run(PLATFORM, made.image.to_bytes(), frames_of(SPEC, made.network, 1), backend="rtl", driver="direct",
              trace=Trace(path, start=20, stop=31))  # fmt: skip
    assert cycles_in(path)[0] <= 20 and {*range(20, 31)} <= {*cycles_in(path)} and max(cycles_in(path)) <= 31


def test_the_save_file_shows_what_is_there(tmp_path):
    """Every signal that it wants to show, of cores, their cascade, a memory tile, the shim; values as words."""
    spec = DenseSpec((64, 32, 16), batch=8)
    made = compiled(spec, PLATFORM, splits=[(2, 4), (1, 1)])
    trace = Trace(tmp_path / "w.vcd")
    run = BENCH.run(PLATFORM, made.image.to_bytes(), frames_of(spec, made.network, 1), backend="rtl", driver="direct",
                    trace=trace)  # fmt: skip
    wanted, cycles = groups(PLATFORM, made.image), cycles_in(trace.path)
    assert run.waveform is not None and run.diagnosis is None
    assert (run.waveform.first, run.waveform.end) == (0, max(cycles) + 1) and "w.gtkw" in str(run.waveform)
    assert {line.name for group in wanted for line in group.lines} <= set(variables(trace.path))
    titles = [group.title for group in wanted]
    assert titles[:2] == ["run", "shim"] and sum(title.startswith("tile (") for title in titles) == 9
    assert sum(title.endswith(" dense0") for title in titles) == 8 and titles[-1].startswith("memory tile (")
    assert [group.closed for group in wanted[:4]] == [False, False, False, True]
    shown = save_file(trace.path).read_text()
    assert all(f"-{title}\n" in shown for title in titles)
    # GTKWave finds a value in the file as it writes it.
    words = [path.read_text() for path in tmp_path.glob("w.*.txt") if " " not in path.name]
    ((_, program),) = [item for item in loads_of(made.image, PLATFORM).items() if item[1].program][:1]
    first = program.program[:16][::-1].hex().upper()
    assert len(words) == 3 and any(re.search(rf"^{first} .*(SET|ACQUIRE|LOOP)", text, re.M) for text in words)
    assert any("5 RELEASE\n" in text for text in words) and any("2 lock\n" in text for text in words)


def test_a_waveform_shows_what_the_report_counts(made, tmp_path):
    """Instructions issued by each core, and the cycles of an inference."""
    trace = Trace(tmp_path / "w.vcd")
    run = BENCH.run(PLATFORM, made.image.to_bytes(), frames_of(SPEC, made.network, 1), backend="rtl", driver="direct",
                    trace=trace)  # fmt: skip
    (frame,) = run.frames
    times = changes(trace.path, "aie_ml_array_tb.probe_since")
    begin = next(time for time, since in times if since == 0)
    period = times[-1][0] - times[-2][0]
    assert times[-1][1] == frame.cycles
    for site in made.image.notes.own_as(AieMlNotes).sites:
        at = f"aie_ml_array_tb.array.tile_{site.column}_{site.row}.tile.core.issue"
        found = [*changes(trace.path, at), (times[-1][0], 0)]
        issued = sum((until - since) // period for (since, value), (until, _) in pairwise(found)
                     if value and since >= begin)  # fmt: skip
        counted = sum(each.counters.get(f"core{PLATFORM.number(site.column, site.row)}", {}).get("busy", 0)
                      for each in frame.intervals)  # fmt: skip
        assert issued == counted > 0


@pytest.mark.parametrize(("window", "limit", "text"), [
    ({"start": 9000}, None, "would begin at cycle 9000, but the run ended"),
    ({"step": 2}, 40, "would show a layer that was not reached; the run stopped in layer dense0"),
])  # fmt: skip
def test_a_window_behind_the_end_leaves_no_file(made, tmp_path, window, limit, text):
    path = tmp_path / "w.vcd"

    def run():
        return BENCH.run(PLATFORM, made.image.to_bytes(), frames_of(SPEC, made.network, 1), backend="rtl",
                         driver="direct", limit_cycles=limit, trace=Trace(path, **window))  # fmt: skip

    if limit is None:
        with pytest.raises(BenchError, match=text):
            run()
    else:
        found = run().diagnosis
        assert found is not None and found.kind == "hang" and text in found.text
    assert not path.exists()


@pytest.mark.parametrize("backend", ["rtl", "iss"])
@pytest.mark.parametrize(("address", "data"), [
    (0x10000, bytes(32)), (0xFFE0, bytes(64)), (16, bytes(32)), (0x20010, bytes(16)), (0x20000, bytes(24)),
    (0x30040, bytes(4)), (0x30402, bytes(4)), (0x40000, bytes(4)),
])  # fmt: skip
def test_a_segment_outside_the_memories_is_refused(made, backend, address, data):
    image = replace(made.image, segments=(Segment("data", tile_address(0, PLATFORM.first_row) + address, data),))
    with pytest.raises(ImageError, match=r"does not lie in data\s+memory"):
        BENCH.run(PLATFORM, image.to_bytes(), frames_of(SPEC, made.network, 1), backend=backend)


@pytest.mark.parametrize("backend", ["iss", "rtl"])
def test_inferences_of_a_command_follow_each_other(tmp_path, capfd, backend):
    """They do not overlap: there is no interval to be as predicted, and each takes the cycles of the first."""
    onnx.save(dense_network(SPEC), tmp_path / "d.onnx")
    np.savez(tmp_path / "i.npz", x=(random_inputs(SPEC, 2, 1) * 2.0**-7).astype(np.float32))
    settings = [word for name in ("columns", "rows", "memory_rows")
                for word in ("--set", f"{name}={getattr(PLATFORM, name)}")]  # fmt: skip
    status = invoke(["run", str(tmp_path / "d.onnx"), "--platform", "aie_ml", *settings, "--backend", backend,
                     "--input", str(tmp_path / "i.npz"), "--index", "0", "--index", "1"])  # fmt: skip
    out, err = capfd.readouterr()
    assert status == 0 and "cycles of inference 2" in out and "interval" not in out and "PASS" in out, (out, err)


def test_eight_batches_of_a_whole_array_fit():
    """By default so many are streamed; a feeder of the test bench takes those of its stream."""
    assert len(streamed(1, 1, 8, "rtl").ends) == 8


def test_more_words_than_a_feeder_holds_are_refused(made):
    """Before anything is built."""
    words = max(stream.words for stream in made.image.notes.own.inputs)
    count = FEEDER_WORDS // words + 1
    text = f"is to bring {count * words:,} words, and its feeder on RTL holds 32,767; take smaller or fewer batches"
    with pytest.raises(CapacityError, match=text):
        stream_rtl(AieMl(columns=9, rows=7), made.image.to_bytes(), normal_inputs(made.network, 1, 1) * count)


def test_an_image_that_is_too_large_for_the_bus_is_refused(made):
    """Data of a whole memory tile are 131,072 words; by the back door they are none."""
    whole = Segment("memory_tile", tile_address(0, 1), bytes(4 << 17))
    image = replace(made.image, segments=(whole, *made.image.segments)).to_bytes()
    given = normal_inputs(made.network, 2, 1)
    assert len(stream_rtl(PLATFORM, image, given).ends) == 2
    with pytest.raises(CapacityError, match=r"^13\d,\d{3} words .* bus, and the test bench holds 131,072"):
        stream_rtl(PLATFORM, image, given, bus=True)
