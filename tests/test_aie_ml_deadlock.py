# SPDX-License-Identifier: Apache-2.0
"""Images that come to no end: the account names who waits for whom, and why nothing comes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from nncosim.compiler.aie_ml.notes import AieMlNotes, Stream, tile_of
from nncosim.compiler.compile import Compiled
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.layout import Layout
from nncosim.hdl.aie_ml.config import BDS_AT, CORE_AT, LOCKS_AT, STARTS_AT, SWITCH_AT
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_memory_images import Bd, MemoryTile, image_of
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.hazards import HAZARD
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.aie_ml.iss_backend import hang_of, run_iss
from nncosim.tb.aie_ml.rtl import Taken, _diagnosis
from nncosim.tb.backend import Frame
from nncosim.tb.run.drive import Driven

PLATFORM = AieMl(columns=4, rows=2, memory_rows=0)
SPEC = DenseSpec((32, 32, 16), batch=8)
MADE_BY_TWO = "tile (1,1) (layer dense0)"
SOUTH_SLAVE, SOUTH_MASTER = 10, 12


@cache
def made() -> Compiled:
    """dense0 on the chain (0,1), (1,1), whose sums go by the cascade; dense1 on (2,1)."""
    return compiled(SPEC, PLATFORM, splits=[(2, 1), (1, 1)], share=False)


def changed(tile: tuple[int, int], at: int, value: int | None) -> Image:
    """The image with another word of the configuration; None: what writes it is left out."""
    out = []
    for segment in made().image.segments:
        column, row, first = tile_of(segment.address)
        words = np.frombuffer(segment.data, "<u4").copy()
        if (column, row) == tile and first <= at < first + 4 * len(words):
            if value is None:
                continue
            words[(at - first) // 4] = value
        out.append(replace(segment, data=words.tobytes()))
    assert out != list(made().image.segments)
    return replace(made().image, segments=tuple(out))


def word_at(tile: tuple[int, int], at: int) -> int:
    for segment in made().image.segments:
        column, row, first = tile_of(segment.address)
        if (column, row) == tile and first <= at < first + len(segment.data):
            return int.from_bytes(segment.data[at - first :][:4], "little")
    raise AssertionError(f"nothing writes {at:#x} of {tile}")


def account(image: Image, limit: int = 10_000_000) -> list[str]:
    """Lines of the diagnosis behind the first."""
    diagnosis = run_iss(PLATFORM, image.to_bytes(), frames_of(SPEC, made().network, 2), limit_cycles=limit).diagnosis
    assert diagnosis is not None and diagnosis.kind == "hang"
    first, *lines = diagnosis.text.splitlines()
    assert first.startswith("shim: 0 of 32 words of results came")
    assert ("nothing goes on any more" in first) == (limit == 10_000_000)
    assert all(line.startswith("- ") for line in lines)
    return [line[2:] for line in lines]


BEFORE = [
    "the shim waits for words of stream 0 of column 2 from MM2S 0 of tile (2,1) (layer dense1), descriptor 1",
    "MM2S 0 of tile (2,1) (layer dense1), descriptor 1 waits for lock 5 to be at least 1, which is 0; the core of "
    "tile (2,1) (layer dense1) would release it",
    "the core of tile (2,1) (layer dense1) waits for lock 1 to be at least 1, which is 0; S2MM 0 of tile (2,1) "
    "(layer dense1), descriptor 0 would release it",
]  # fmt: skip
FROM_DENSE0 = [
    *BEFORE,
    f"S2MM 0 of tile (2,1) (layer dense1), descriptor 0 waits for words from MM2S 0 of {MADE_BY_TWO}, descriptor 1",
    f"MM2S 0 of {MADE_BY_TWO}, descriptor 1 waits for lock 5 to be at least 1, which is 0; the core of {MADE_BY_TWO} "
    "would release it",
]  # fmt: skip
CASCADE = f"the core of {MADE_BY_TWO} waits for a word of the cascade from the core of tile (0,1) (layer dense0)"


def test_an_image_that_ends_has_no_account():
    assert run_iss(PLATFORM, made().image.to_bytes(), frames_of(SPEC, made().network, 2)).diagnosis is None


def test_a_broken_lock_is_a_circle():
    """Lock 0 counts free buffers for the input of (1,1); it says that there are none."""
    want = [
        f"the core of {MADE_BY_TWO} waits for lock 1 to be at least 1, which is 0; S2MM 0 of {MADE_BY_TWO}, "
        "descriptor 0 would release it",
        f"S2MM 0 of {MADE_BY_TWO}, descriptor 0 waits for lock 0 to be at least 1, which is 0; the core of "
        f"{MADE_BY_TWO} would release it",
        "the last 2 wait for each other, in a circle",
    ]  # fmt: skip
    assert account(changed((1, 1), LOCKS_AT, 0)) == FROM_DENSE0 + want


def test_through_a_cascade():
    lines = account(changed((0, 1), LOCKS_AT, 0))
    assert lines[:6] == [*FROM_DENSE0, CASCADE] and lines[-1] == "the last 2 wait for each other, in a circle"
    assert "S2MM 0 of tile (0,1)" in lines[-2] and len(lines) == 9


@pytest.mark.parametrize(("tile", "master", "line"), [
    ((2, 1), 0, "S2MM 0 of tile (2,1) (layer dense1), descriptor 0 waits for words: master DMA 0 of tile (2,1) listens "
                "to nothing"),
    ((1, 1), 16, "S2MM 0 of tile (2,1) (layer dense1), descriptor 0 waits for words from slave west 0 of tile (2,1): "
                 "master east 0 of tile (1,1) listens to nothing"),
])  # fmt: skip
def test_a_switch_that_listens_to_nothing(tile, master, line):
    assert account(changed(tile, SWITCH_AT + 4 * master, 0)) == [*BEFORE, line]


def test_a_result_that_nobody_listens_to():
    (line,) = account(changed((2, 1), SWITCH_AT + 4 * 8, 0))
    assert line == "the shim waits for words of stream 0 of column 2: master south 0 of tile (2,1) listens to nothing"


def test_a_channel_that_is_not_started():
    lines = account(changed((1, 1), STARTS_AT + 8, None))
    assert lines[:3] == BEFORE
    assert lines[-1] == f"MM2S 0 of {MADE_BY_TWO} was never started: the image does not start it"
    lines = account(changed((2, 1), STARTS_AT, None))
    assert lines[:2] == BEFORE[:2] and len(lines) == 3
    assert lines[2].endswith("lock 1 to be at least 1, which is 0: descriptor 0 would release it, which no channel "
                             "comes to")  # fmt: skip


def test_a_core_that_is_not_started():
    lines = account(changed((0, 1), CORE_AT, None))
    assert lines[:6] == [*FROM_DENSE0, CASCADE]
    assert lines[6:] == ["the core of tile (0,1) (layer dense0) was never started: the image does not start it"]


def test_a_descriptor_that_releases_another_lock():
    """Bits 18 to 21 of its last word: the lock."""
    at = BDS_AT + 4 * 5
    lines = account(changed((2, 1), at, word_at((2, 1), at) & ~(15 << 18) | 9 << 18))
    assert lines[-1] == ("the core of tile (2,1) (layer dense1) waits for lock 1 to be at least 1, which is 0: nobody "
                         "releases it")  # fmt: skip


def test_words_that_are_not_there():
    """A buffer one word longer than what comes."""
    lines = account(changed((0, 1), BDS_AT, word_at((0, 1), BDS_AT) + (1 << 16)))
    assert lines[:6] == [*FROM_DENSE0, CASCADE] and len(lines) == 8
    assert lines[-1] == ("S2MM 0 of tile (0,1) (layer dense0), descriptor 0 waits for words from stream 0 of column 0: "
                         "the shim has no more words")  # fmt: skip


def test_what_is_at_work_is_no_deadlock():
    lines = account(made().image, limit=150)
    assert lines[:2] == BEFORE[:2] and lines[-1].endswith(" is at work: so the array is not at rest")


@pytest.mark.parametrize("broken", [True, False])
def test_a_hang_of_the_rtl_has_the_simulators_account(broken):
    """With the same image and inputs; or it says that the simulator comes to an end."""
    image = changed((1, 1), LOCKS_AT, 0) if broken else made().image
    inputs = frames_of(SPEC, made().network, 2)
    driven = Driven([Taken(Frame(0, {}, ()), np.zeros(0, HAZARD), ())], {"probe_results": 7}, "")
    found = _diagnosis(driven, 5000, PLATFORM, image.to_bytes(), inputs)
    assert found is not None and found.kind == "hang"
    first, *rest = found.text.splitlines()
    assert first == "shim: 7 words of results came within 5000 cycles"
    if broken:
        assert rest[0].startswith("on the simulator: shim: 0 of 32 words of results came; nothing goes on any more")
        assert rest[-1] == "- the last 2 wait for each other, in a circle"
    else:
        cycles = run_iss(PLATFORM, image.to_bytes(), inputs).frames[0].cycles
        assert rest == [f"the simulator ends this inference after {cycles} cycles, where the RTL does not"]


def by_hand(tile: MemoryTile, given: Sequence[int], more: dict[tuple[int, int], MemoryTile] | None = None) -> list[str]:
    """Lines of the account, of words that are to come out of stream 0."""
    stream = Stream(0, 0, "y", ((0, 8),), Layout("N", 8, 8, "low", "little"), 1000)
    image = image_of({(0, 1): tile, **(more or {})}, memory_rows=2)
    notes = replace(image.notes.own_as(AieMlNotes), outputs=(stream,))
    image = replace(image, notes=replace(image.notes, own=notes))
    array = Array(image, PLATFORM)
    records = array.stream({0: np.array(given, np.uint32)}, 1000, 10_000_000)
    return hang_of(image, array, records, 10_000_000).splitlines()


def test_the_last_descriptor_of_a_memory_tile():
    bds = {2: Bd(0, 4, release=(50, 1)), 30: Bd(0, 4, acquire=(50, 1, True), next=30)}
    found = by_hand(MemoryTile(bds, {0: 2, 7: 30}, {0: SOUTH_SLAVE, SOUTH_MASTER: 1}), range(8))
    assert found == [
        "shim: 4 of 1000 words of results came; nothing goes on any more after 22 cycles",
        "- the shim waits for words of stream 0 of column 0 from MM2S 1 of memory tile (0,1), descriptor 30",
        "- MM2S 1 of memory tile (0,1), descriptor 30 waits for lock 50 to be at least 1, which is 0: descriptor 2 "
        "would release it, which no channel comes to",
    ]  # fmt: skip


def test_a_stream_that_waits_for_another_listener():
    """Two listen to the shim's words, a channel whose words are to come out and one that waits for what never comes."""
    bds = {0: Bd(0, 4, release=(0, 1), next=0), 24: Bd(64, 4, acquire=(2, 3, False)),
           1: Bd(0, 4, acquire=(0, 1, True), next=1)}  # fmt: skip
    listens = {0: SOUTH_SLAVE, 1: SOUTH_SLAVE, SOUTH_MASTER: 0}
    found = by_hand(MemoryTile(bds, {0: 0, 1: 24, 6: 1}, listens, {2: 4}), range(100))
    assert found[-2:] == [
        "- S2MM 0 of memory tile (0,1), descriptor 0 waits for words; they are at slave south 0 of memory tile (0,1), "
        "from which they go to others, too; S2MM 1 of memory tile (0,1), descriptor 24 takes nothing",
        "- S2MM 1 of memory tile (0,1), descriptor 24 waits for lock 2 to be 3, which is 4: nobody makes it less",
    ]  # fmt: skip


def test_a_circle_of_streams():
    """Of two memory tiles each sends what it has got from the other."""
    one, other = Bd(0, 4, next=0, release=(0, 1)), Bd(0, 4, next=1, acquire=(0, 1, True), release=(1, 1))
    low = MemoryTile({0: one, 1: other, 24: Bd(0, 4, acquire=(1, 1, True))}, {0: 0, 6: 1, 7: 24},
                     {0: 6, 6: 0, SOUTH_MASTER: 1})  # fmt: skip
    high = MemoryTile({0: one, 1: replace(other, release=None)}, {0: 0, 6: 1}, {0: SOUTH_SLAVE, SOUTH_MASTER: 0})
    found = by_hand(low, (), {(0, 2): high})
    wait = "waits for lock 0 to be at least 1, which is 0; S2MM 0 of memory tile"
    assert found[2:] == [
        "- MM2S 1 of memory tile (0,1), descriptor 24 waits for lock 1 to be at least 1, which is 0; MM2S 0 of memory "
        "tile (0,1), descriptor 1 would release it",
        f"- MM2S 0 of memory tile (0,1), descriptor 1 {wait} (0,1), descriptor 0 would release it",
        "- S2MM 0 of memory tile (0,1), descriptor 0 waits for words from MM2S 0 of memory tile (0,2), descriptor 1",
        f"- MM2S 0 of memory tile (0,2), descriptor 1 {wait} (0,2), descriptor 0 would release it",
        "- S2MM 0 of memory tile (0,2), descriptor 0 waits for words from MM2S 0 of memory tile (0,1), descriptor 1",
        "- the last 4 wait for each other, in a circle",
    ]  # fmt: skip
    low.locks[0] = 1  # what one may begin with
    assert run_without_end(low, high) == 1000


def run_without_end(low: MemoryTile, high: MemoryTile) -> int:
    """Words that come out, of as many as are wanted."""
    low.bds[24] = replace(low.bds[24], next=24)
    array = Array(image_of({(0, 1): low, (0, 2): high}, memory_rows=2), PLATFORM)
    return len(array.stream({}, 1000, 1_000_000).results)
