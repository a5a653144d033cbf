# SPDX-License-Identifier: Apache-2.0
"""Memory tiles in an array, RTL beside the simulator: each word in the same cycle, with walks, zeros, locks and
circuits at random."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from nncosim.compiler.aie_ml.notes import tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_memory_images import WORDS, MemoryTile, image_of, random_bd
from nncosim.tb.aie_ml.build import build_array, feed, load_image, run_once
from nncosim.tb.aie_ml.frames import RESULT
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.rtl import RESULTS, SETTLE_CYCLES
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.model import Model

COLUMNS, MEMORY_ROWS, ROWS = 2, 2, 1
PLATFORM = AieMl(columns=COLUMNS, rows=ROWS, memory_rows=MEMORY_ROWS)
NORTH_SLAVE, SOUTH_SLAVE, NORTH_MASTER, SOUTH_MASTER = 6, 10, 6, 12
CYCLES = 4000


def channels(rng: np.random.Generator, tile: MemoryTile, k: int) -> None:
    """S2MM k and MM2S k, with locks between them; some of their buffers are close to those of others."""
    pool = 24 * (k % 2)
    numbers = (pool + rng.permutation(8)[:4] + 8 * (k // 2)).tolist()
    for kind, two in enumerate((numbers[:2], numbers[2:])):
        for number, other in (two, two[::-1]):
            made = random_bd(rng, 60)
            if rng.random() < 0.5:
                made = replace(made, base=int(rng.integers(256)), steps=(int(rng.integers(-4, 70)), 1, 2, 4))
            amount = int(rng.integers(1, 3)) if rng.random() < 0.3 else 1
            acquire = (2 * k + kind, amount, bool(rng.random() < 0.9)) if rng.random() < 0.9 else None
            release = (2 * k + 1 - kind, amount if rng.random() < 0.7 else 1)
            tile.bds[number] = replace(made, next=other, acquire=acquire, release=release)
        tile.starts[6 * kind + k] = two[0]
    tile.locks |= {2 * k: int(rng.integers(1, 5)), 2 * k + 1: int(rng.integers(3))}


def random_image(seed: int) -> tuple[Image, dict[int, np.ndarray]]:
    """Two memory tiles in a column: words go from the shim into both, and from each to the other and the shim."""
    rng = np.random.default_rng(seed)
    low, high = MemoryTile(), MemoryTile()
    for tile in (low, high):
        for k in range(6):
            channels(rng, tile, k)
    ups, downs = rng.permutation(6), rng.permutation(4)
    low.listens = {k: int(rng.choice([*range(10, 16), 6, 7])) for k in range(6)}
    low.listens |= {NORTH_MASTER + k: int(rng.choice([10 + up, *range(6)])) for k, up in enumerate(ups)}
    low.listens |= {SOUTH_MASTER + int(k): [0, 1, 2, 8][k] if rng.random() < 0.8 else 9 for k in downs}
    high.listens = {k: SOUTH_SLAVE + int(k) for k in range(6)}
    high.listens |= {SOUTH_MASTER + k: int(rng.choice([*range(6), 10])) for k in range(4)}
    column = int(rng.integers(COLUMNS))
    made = image_of({(column, 1): low, (column, 2): high}, COLUMNS, MEMORY_ROWS, ROWS)
    data = [Segment("data", tile_address(column, row), rng.integers(0, 1 << 32, WORDS, dtype=np.uint32).tobytes())
            for row in (1, 2)]  # fmt: skip
    given = {6 * column + k: rng.integers(0, 1 << 32, int(rng.integers(20, 400)), dtype=np.uint32) for k in range(6)}
    return replace(made, segments=(*data, *made.segments)), given


@cache
def simulated(seed: int) -> np.ndarray:
    """None of what has no end: the RTL begins after another number of cycles."""
    image, given = random_image(seed)
    array = Array(image, PLATFORM, seed=seed)
    found = array.stream(given, 1 << 30, CYCLES).results
    return found if array.quiet else found[:0]


@cache
def model() -> Model:
    return Model(build_array(PLATFORM, COLUMNS, ROWS, MEMORY_ROWS), seed=1)


def on_rtl(seed: int, words: int) -> np.ndarray:
    image, given = random_image(seed)
    array = model()
    array.reset(cycles=RESET_CYCLES)  # what ran before writes no more
    array.poison(seed)
    writes = load_image(array, PLATFORM, image)
    feed(array, COLUMNS, given)
    array.log(RESULTS, RESULT, clear=True)
    held = {"config_writes": writes, "settle": SETTLE_CYCLES, "result_words": words, "gap_seed": 0}
    run_once(array, held, 4 * CYCLES)
    return array.log(RESULTS, RESULT, clear=True)


SEEDS = range(100)


def test_images_are_of_all_kinds():
    """Most give words, many in more than one stream."""
    counts = [len(simulated(seed)) for seed in SEEDS]
    streams = [len(set(simulated(seed)["stream"].tolist())) for seed in SEEDS]
    assert sum(count > 50 for count in counts) > 40 and sum(each > 1 for each in streams) > 50


@pytest.mark.parametrize("first", SEEDS[::5])
def test_each_word_in_the_same_cycle(first):
    words = {seed: len(simulated(seed)) for seed in range(first, first + 5)}
    assert sum(words.values()) > 0
    for seed, count in words.items():
        if count:
            assert np.array_equal(on_rtl(seed, count), simulated(seed)), seed
