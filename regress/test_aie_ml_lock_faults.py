# SPDX-License-Identifier: Apache-2.0
"""A lock that leaves its range ends a run, on RTL and on the simulator alike: in which tile, and in which cycle."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.aie_ml.notes import tile_of
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.config import BDS_AT, MEMORY_BDS_AT
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_checks import normal_inputs
from nncosim.regress.test_aie_ml_graphs import made_of
from nncosim.regress.token_models import residual_mlp
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.streaming import stream_iss, stream_rtl
from nncosim.tb.errors import SimulationError

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
KINDS = {"core tile": (BDS_AT, 16, 5, 17, 22), "memory tile": (MEMORY_BDS_AT, 48, 7, 14, 21)}
"""Where buffer descriptors are, and how many; the word with the release, and its bits: whether, the delta's first."""
Change = Callable[[np.ndarray, int, int, int], None]


def below(words: np.ndarray, word: int, valid: int, delta: int) -> None:
    """What gives a buffer on takes 1 from a lock of 0."""
    words[word] |= np.uint32(127 << delta)


def above(words: np.ndarray, word: int, valid: int, delta: int) -> None:
    """It adds 63, and the second time that is too much."""
    words[word] = words[word] & ~np.uint32(127 << delta) | np.uint32(63 << delta)


@pytest.fixture(scope="module")
def made():
    return made_of(residual_mlp(40, 1, batch=5), PLATFORM)


def spoilt(image: Image, kind: str, change: Change) -> tuple[Image, tuple[int, int]]:
    """With a change in all descriptors that release of one tile; and which tile that is."""
    first, count, word, valid, delta = KINDS[kind]
    segments, chosen = [], (-1, -1)
    for segment in image.segments:
        column, row, at = tile_of(segment.address)
        if first <= at < first + 32 * count and (row < PLATFORM.first_row) == (kind == "memory tile"):
            words = np.frombuffer(segment.data, "<u4").copy()
            if words[word] >> np.uint32(valid) & 1 and chosen in ((-1, -1), (column, row)):
                chosen = column, row
                change(words, word, valid, delta)
                segment = replace(segment, data=words.tobytes())
        segments.append(segment)
    return replace(image, segments=tuple(segments)), chosen


@pytest.mark.parametrize(("kind", "change", "inference"), [
    ("core tile", below, 1), ("core tile", above, 2), ("memory tile", below, 1), ("memory tile", above, 1),
])  # fmt: skip
def test_it_ends_the_run(made, kind, change, inference):
    image, tile = spoilt(made.image, kind, change)
    data, given = image.to_bytes(), normal_inputs(made.network, 3, 1)
    found = {}
    for backend in ("iss", "rtl"):
        run = BENCH.run(PLATFORM, data, given, backend=backend, driver="direct" if backend == "rtl" else None)
        assert run.diagnosis is not None and run.diagnosis.kind == "check"
        assert len(run.frames) == inference and run.frames[-1].cycles == 0
        found[backend] = run.diagnosis.text
    where = rf"tile \({tile[0]}, {tile[1]}\), cycle [\d,]+ of inference {inference}: "
    assert re.fullmatch(where + r"lock \d+ leaves its range of 0 to 63", found["iss"])
    first, second = found["rtl"].split("\n")
    assert first == re.sub(r"lock \d+", "a lock", found["iss"]) and second == f"on the simulator: {found['iss']}"


def test_one_before_the_first_inference(made):
    """A descriptor that waits for nothing and moves nothing gives on again and again."""
    def idle(words: np.ndarray, word: int, valid: int, delta: int) -> None:
        words[0] &= np.uint32(0x3FFF)
        words[5] = words[5] & ~np.uint32(127 << delta | 1 << 5) | np.uint32(40 << delta | 1 << 4)

    image, tile = spoilt(made.image, "core tile", idle)
    for backend in ("iss", "rtl"):
        run = BENCH.run(PLATFORM, image.to_bytes(), normal_inputs(made.network, 1, 1), backend=backend,
                        driver="direct" if backend == "rtl" else None)  # fmt: skip
        assert run.diagnosis is not None and run.diagnosis.kind == "check"
        assert run.diagnosis.text.startswith(f"tile ({tile[0]}, {tile[1]}), before inference 1: ")


@pytest.mark.parametrize("stream", [stream_iss, stream_rtl])
def test_it_ends_inferences_without_a_gap(made, stream):
    image, tile = spoilt(made.image, "memory tile", below)
    with pytest.raises(SimulationError, match=rf"tile \({tile[0]}, {tile[1]}\), cycle .* leaves its range of 0 to 63"):
        stream(PLATFORM, image.to_bytes(), normal_inputs(made.network, 4, 1))
