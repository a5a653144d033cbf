# SPDX-License-Identifier: Apache-2.0
"""Batch after batch through the array: nothing is lost or reordered, whatever the shim does; the interval is known."""

import numpy as np
import pytest
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_whole import KERNEL_CYCLES, streamed
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.streaming import stream_iss, stream_rtl

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
SPECS = {
    "one tile": (DenseSpec((32, 16), batch=8), [(1, 1)]),
    "one to many": (DenseSpec((16, 32, 32, 8), batch=8), [(1, 4), (2, 2), (1, 1)]),
    "many to one": (DenseSpec((64, 32, 24), batch=5), [(3, 2), (1, 3)]),
    "16 bits": (DenseSpec((24, 32, 10), batch=8, bits=16), [(2, 2), (2, 1)]),
}
BATCHES = 64


def right(made, given, found) -> bool:
    return all(np.array_equal(evaluate(made.network, each)["y"], got["y"])
               for each, got in zip(given, found.results, strict=True))  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_the_interval_is_the_predicted_one(name):
    spec, splits = SPECS[name]
    made = compiled(spec, PLATFORM, splits=splits)
    given, image = frames_of(spec, made.network, BATCHES), made.image.to_bytes()
    found, expected = stream_rtl(PLATFORM, image, given), stream_iss(PLATFORM, image, given)
    assert right(made, given, found) and right(made, given, expected)
    # The first one meets the words of the next on its way: it may wait for a bank now and then.
    assert found.ends == expected.ends and found.ends[0] >= made.iss_cycles
    steady = np.diff(found.ends)[-44:-12]  # while the last ones leave, no more come in
    assert (steady[:16] == steady[16:]).all() and steady.max() < made.iss_cycles
    assert BENCH.interval(PLATFORM, image) == steady.mean() == found.steady(len(splits))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", SPECS)
def test_random_gaps_change_no_word(name, seed):
    spec, splits = SPECS[name]
    made = compiled(spec, PLATFORM, splits=splits)
    given = frames_of(spec, made.network, 12)
    found = stream_rtl(PLATFORM, made.image.to_bytes(), given, gap_seed=seed * 0x12345)
    assert right(made, given, found)
    assert found.ends[-1] > stream_iss(PLATFORM, made.image.to_bytes(), given).ends[-1]


def test_a_whole_array():
    """All 16 of 16 tiles, as fast as the kernel alone but for 1.4 %."""
    found = streamed(4, 4, 4, "rtl")
    assert found.ends == streamed(4, 4, 4, "iss").ends
    assert KERNEL_CYCLES / found.interval >= 0.986


@pytest.mark.slow
def test_a_whole_vek280():
    """296 of 304 tiles."""
    found = streamed(37, 8, 3, "rtl", free=1)
    assert found.ends == streamed(37, 8, 3, "iss", free=1).ends
    assert KERNEL_CYCLES / found.interval >= 0.986


def test_an_image_over_the_bus_is_the_same():
    spec, splits = SPECS["one to many"]
    made = compiled(spec, PLATFORM, splits=splits)
    given, image = frames_of(spec, made.network, 3), made.image.to_bytes()
    found, other = stream_rtl(PLATFORM, image, given, bus=True, seed=7), stream_rtl(PLATFORM, image, given, seed=8)
    assert right(made, given, found) and found.ends == other.ends
