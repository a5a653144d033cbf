# SPDX-License-Identifier: Apache-2.0
"""Memory tiles on the array's simulator, by images made by hand: what comes out, by the formula of the manual."""

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.image.image import Image
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_memory_images import WORDS, Bd, MemoryTile, image_of, random_bd
from nncosim.tb.aie_ml.iss_array import Array

PLATFORM = AieMl(columns=4, memory_rows=2)
MEMORY = np.random.default_rng(1).integers(0, 1 << 32, WORDS, dtype=np.uint32)
SOUTH_SLAVE, SOUTH_MASTER, NORTH_SLAVE, NORTH_MASTER = 10, 12, 6, 6
LIMIT = 100_000
TILE = (0, 1)
WALK = Bd(1000, 300, (3, 40, -7, 512), (4, 3, 2), ((1, 2), (1, 0), (1, 1)))


def filled(image: Image) -> Array:
    array = Array(image, PLATFORM)
    array.memory(TILE).view(np.uint32)[:] = MEMORY
    return array


def words_of(array: Array, given: dict[int, list[int]], count: int) -> dict[int, list[int]]:
    """What comes out, by stream."""
    records = array.stream({stream: np.array(each, np.uint32) for stream, each in given.items()}, count, LIMIT)
    assert records.done is not None
    out: dict[int, list[int]] = {}
    for result in records.results:
        out.setdefault(int(result["stream"]), []).append(int(result["word"]))
    return out


def sent(bd: Bd, turns: int = 1, channel: int = 0, number: int = 0) -> list[int]:
    """What MM2S sends of a descriptor begun so often."""
    tile = MemoryTile({number: replace(bd, next=number)}, {6 + channel: number}, {SOUTH_MASTER + 1: channel})
    return words_of(filled(image_of({TILE: tile})), {}, turns * bd.length)[1]


def expected(bd: Bd, turns: int = 1) -> list[int]:
    return [word for turn in range(turns) for word in bd.read(MEMORY, turn)]


@pytest.mark.parametrize("seed", range(60))
def test_a_walk_out_of_memory(seed):
    rng = np.random.default_rng(seed)
    bd, channel = random_bd(rng), int(rng.integers(6))
    number = channel % 2 * 24 + int(rng.integers(24))
    assert sent(bd, 3, channel, number) == expected(bd, 3)


def test_the_walks_are_of_all_kinds():
    bds = [random_bd(np.random.default_rng(seed)) for seed in range(60)]
    zeros = [sum(at is None for at in bd.places()) / bd.length for bd in bds]
    assert sum(0 < part < 0.9 for part in zeros) > 12 and sum(part == 0 for part in zeros) > 10
    assert sum(bd.places(1) != bd.places() for bd in bds) > 20


@pytest.mark.parametrize("change", [
    *({"steps": tuple(step + (k == d) for k, step in enumerate(WALK.steps))} for d in range(4)),
    *({"counts": tuple(count + (k == d) for k, count in enumerate(WALK.counts))} for d in range(3)),
    *({"pads": tuple((a + (k == d and not e), b + (k == d and e)) for k, (a, b) in enumerate(WALK.pads))}
      for d in range(3) for e in range(2)),
    {"base": 1001}, {"iteration": (1, 2)},
])  # fmt: skip
def test_a_wrong_field_is_seen(change):
    turns = 1 + ("iteration" in change)
    assert expected(WALK, turns) == sent(WALK, turns) != sent(replace(WALK, **change), turns)


@pytest.mark.parametrize("seed", range(30))
def test_a_walk_into_memory(seed):
    """Each word where the formula has it, the later of two at one place; all else as it was. S2MM does not pad."""
    rng = np.random.default_rng(100 + seed)
    bd, channel = random_bd(rng), int(rng.integers(6))
    first, second = (channel % 2 * 24 + k for k in (3, 4))
    tile = MemoryTile(
        {first: replace(bd, next=second), second: replace(bd, release=(63, 1)), 47: Bd(0, 1, acquire=(63, 1, True)),
         23: Bd(0, 1, acquire=(63, 1, True))},
        {channel: first, 6 + channel: 23 + channel % 2 * 24}, {channel: SOUTH_SLAVE + 2, SOUTH_MASTER: channel},
    )  # fmt: skip
    array, given = filled(image_of({TILE: tile})), [int(word) for word in rng.integers(0, 1 << 32, 2 * bd.length)]
    words_of(array, {2: given}, 1)
    want = MEMORY.copy()
    both = [*bd.places(0, pads=False), *bd.places(0, pads=False)]
    for word, at in zip(given, both, strict=True):
        want[at] = word
    found = array.memory(TILE).view(np.uint32)
    assert np.array_equal(found, want) and not np.array_equal(found, MEMORY)


def buffered(slots: int, words: int, full: int = 0) -> MemoryTile:
    """In by channel 0, out by channel 1, over as many buffers as there are slots; turned around by 4 words."""
    writes = Bd(4096, words, iteration=(words, slots), next=0, acquire=(40, 1, True), release=(41, 1))
    reads = Bd(4096 + words - 4, words, (1, 0, 0, -4), (4, 0, 0), iteration=(words, slots), next=24,
               acquire=(41, 1, True), release=(40, 1))  # fmt: skip
    return MemoryTile({0: writes, 24: reads}, {0: 0, 7: 24}, {0: SOUTH_SLAVE, SOUTH_MASTER: 1}, {40: slots, 41: full})


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_buffers_in_turn(slots):
    """Locks let no word be overwritten or read too early; one that says at the begin that a buffer is full does, and is
    seen."""
    words, turns = 32, 7
    given = list(range(1, words * turns + 1))
    want = [word for turn in range(turns)
            for word in np.array(given).reshape(turns, -1, 4)[turn, ::-1].reshape(-1).tolist()]  # fmt: skip
    found = words_of(filled(image_of({TILE: buffered(slots, words)})), {0: given}, len(given))
    assert found == {0: want}
    wrong = words_of(filled(image_of({TILE: buffered(slots, words, 1)})), {0: given}, len(given))
    assert wrong != {0: want}


def test_both_pools_and_all_channels():
    """Six buffers at once, of which three channels each share a pool. Numbers of the other pool are the own's."""
    tile = MemoryTile()
    for k in range(6):
        first = k % 2 * 24 + 4 * (k // 2)
        other = (first + 25) % 48  # as another pool has it
        tile.bds |= {first: Bd(1000 * k, 40, (25, 1, 0, 0), (8, 5, 0), release=(k, 1)),
                     first + 1: Bd(1000 * k, 40, (25, 1, 0, 0), (8, 5, 0), acquire=(k, 1, False))}  # fmt: skip
        tile.starts |= {k: first, 6 + k: other}
        tile.listens |= {k: SOUTH_SLAVE + k}
    tile.listens |= {SOUTH_MASTER + k: k for k in range(4)} | {NORTH_MASTER + k: 4 + k for k in range(2)}
    above = MemoryTile(listens={SOUTH_MASTER + k: SOUTH_SLAVE + k for k in range(2)})
    tile.listens |= {SOUTH_MASTER + 2: NORTH_SLAVE, SOUTH_MASTER + 3: NORTH_SLAVE + 1}
    rng = np.random.default_rng(5)
    given = {k: rng.integers(0, 1 << 32, 40).tolist() for k in range(6)}
    found = words_of(filled(image_of({TILE: tile, (0, 2): above}, memory_rows=2)), given, 160)
    assert found == {0: given[0], 1: given[1], 2: given[4], 3: given[5]}


def test_memory_tiles_above_each_other_and_beside():
    """Through two memory tiles up and down, in the second of two columns; nobody else is asked."""
    low = MemoryTile(listens={NORTH_MASTER + 5: SOUTH_SLAVE + 1, SOUTH_MASTER + 3: NORTH_SLAVE + 2})
    high = MemoryTile({0: Bd(0, 8, next=0, acquire=(0, 1, True), release=(1, 1)),
                       1: Bd(7, 8, (-1, 0, 0, 8), (8, 0, 0), acquire=(1, 1, True), release=(0, 1), next=1)},
                      {4: 0, 8: 1}, {4: SOUTH_SLAVE + 5, SOUTH_MASTER + 2: 2}, {0: 1})  # fmt: skip
    image = image_of({(1, 1): low, (1, 2): high}, columns=2, memory_rows=2)
    found = words_of(Array(image, PLATFORM), {6 + 1: list(range(64))}, 64)
    assert found == {4 + 3: [8 * (k // 8) + 7 - k % 8 for k in range(64)]}


def test_cycles_of_a_line_by_the_table():
    """The first word is offered in 0: at the shim's buffer 1, the slave 2, its head 3, the master 4, where S2MM takes
    it. The line is written in 8, the lock released in 9, acquired by MM2S in 10, the line read in 11; the word is at
    the Elastic's stream in 13, the slave 14, head 15, master 16, link 17, where it is out."""
    bds = {0: Bd(0, 4, release=(0, 1)), 2: Bd(0, 4, acquire=(0, 1, True))}
    tile = MemoryTile(bds, {0: 0, 6: 2}, {0: SOUTH_SLAVE, SOUTH_MASTER: 0})
    records = Array(image_of({TILE: tile}), PLATFORM).stream({0: np.arange(4, dtype=np.uint32)}, 4, LIMIT)
    assert records.results["word"].tolist() == [0, 1, 2, 3]
    assert records.results["cycle"].tolist() == [17, 18, 19, 20]


def test_padding_takes_no_access():
    """Channel 0 has the bank in every cycle but where it pads: as many words sooner does channel 2 have all of its."""

    def cycles(before: int) -> int:
        hog = Bd(0, 500, (64, 0, 0, 0), (500, 0, 0), ((before, 0), (0, 0), (0, 0)), next=0)
        other = Bd(1 << 16, 40, (64, 0, 0, 0), (40, 0, 0))
        tile = MemoryTile({0: hog, 2: other}, {6: 0, 8: 2}, {SOUTH_MASTER: 0, SOUTH_MASTER + 1: 2})
        records = Array(image_of({TILE: tile}), PLATFORM).stream({}, 3000, LIMIT)
        return int(records.results["cycle"][records.results["stream"] == 1].max())

    assert cycles(63) < cycles(0) / 2
