# SPDX-License-Identifier: Apache-2.0
"""The west neighbour's memory and locks on the simulator, by hand-written programs: the manual's cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from nncosim.compiler.aie_ml.descriptors import Descriptor
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.image.image import Image
from nncosim.hdl.aie_ml.array import SHIM_IN, SHIM_OUT
from nncosim.hdl.aie_ml.isa import AguRegister, Control, ControlOp, Load, Post, Set, Store, StoreOp
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_columns import BEGIN, FROM_SHIM, TO_SHIM, Column, columns_image, lock
from nncosim.tb.aie_ml.deadlock import explained
from nncosim.tb.aie_ml.frames import store_of, written_to
from nncosim.tb.aie_ml.iss import Tile
from nncosim.tb.aie_ml.iss_array import Array

OWN, WEST = np.random.default_rng(6).integers(0, 256, (2, 65536), dtype=np.uint8)
HALT = Line((("control", encode(Control, op=ControlOp.HALT.value)),))
OUT, THERE, NOTHING = 100, 2048, Line()
ISSUES, LOCK_WAIT, END = 1, 3, 9


def line(**slots: int) -> Line:
    return Line(tuple(sorted(slots.items())))


def point(pointer: int, beat: int) -> Line:
    payload = encode(Set, register=AguRegister.POINTER << 3 | pointer, value=beat)
    return line(control=encode(Control, op=ControlOp.SET.value, payload=payload))


def load(vector: int, pointer: int = 0) -> int:
    return encode(Load, valid=1, vector=vector, pointer=pointer, post=Post.ADD.value, step=1)


def store(vector: int, pointer: int = 7) -> int:
    return encode(Store, op=StoreOp.VST.value, source=vector, pointer=pointer, post=Post.ADD.value, step=1)


def run(*lines: Line) -> Tile:
    tile = Tile(seed=3)
    tile.memory[:], tile.west_memory[:] = OWN, WEST
    tile.load_program(assembled([*lines, HALT]))
    tile.start()
    tile.run(10_000)
    assert tile.halted and tile.problems == ()
    return tile


def beat(data: np.ndarray, number: int) -> bytes:
    return data[32 * number :][:32].tobytes()


# Memory


@pytest.mark.parametrize(("between", "there"), [(5, False), (6, True)])
def test_a_vector_is_there_after_seven_cycles(between, there):
    first = [point(0, 3), line(load_a=load(1)), point(0, THERE + 5), point(7, OUT), *[NOTHING] * 4]
    tile = run(*first, line(load_a=load(1)), *[NOTHING] * between, line(store=store(1)))
    assert beat(tile.memory, OUT) == (beat(WEST, 5) if there else beat(OWN, 3)) and tile.wait_port == 0


@pytest.mark.parametrize(("after", "sees"), [(1, False), (2, True), (3, True)])
def test_a_load_sees_a_store_by_their_cycles(after, sees):
    """t+4 of the one, t+6 of the other. In the same cycle on the same bank the store comes first, and costs a cycle."""
    lines = [point(0, 3), line(load_a=load(1)), point(0, THERE + 5), point(6, THERE + 5), point(7, OUT), *[NOTHING] * 4,
             line(store=store(1, 6)), *[NOTHING] * (after - 1), line(load_a=load(2)), *[NOTHING] * 6]  # fmt: skip
    tile = run(*lines, line(store=store(2)))
    assert beat(tile.west_memory, 5) == beat(OWN, 3)
    assert beat(tile.memory, OUT) == (beat(OWN, 3) if sees else beat(WEST, 5)) and tile.wait_port == (after == 2)


SAME = (1, 2)


@pytest.mark.parametrize(("groups", "waits"), [
    ([SAME], 1), ([(1, 600)], 0), ([SAME, SAME], 2), ([SAME, None, SAME], 1), ([SAME, (600, 1200), (601, 1201)], 1),
    ([SAME] * 4, 4), ([(1, 600)] * 4, 0),
])  # fmt: skip
def test_what_conflicts_cost(groups, waits):
    """Loads a and b in cycles in a row: on one bank they take two, of which the core may wait for one elsewhere."""
    setting, loads = [], []
    for number, beats in enumerate(groups):
        for slot, at in enumerate(beats or ()):
            setting.append(point(2 * number + slot, THERE + at))
        a, b = load(number, 2 * number), load(8 + number, 2 * number + 1)
        loads.append(line(load_a=a, load_b=b) if beats else NOTHING)
    assert run(*setting, *loads).wait_port == waits


@pytest.mark.parametrize(("stores", "waits"), [(1, 0), (2, 0), (3, 0)])
def test_a_store_is_not_waited_for(stores, waits):
    """Full rate; they are in memory in the end."""
    tile = run(point(6, THERE + 5), *[NOTHING] * 2, *[line(store=store(1, 6))] * stores)
    assert tile.wait_port == waits and len({beat(tile.west_memory, 5 + k) for k in range(stores)}) == 1
    assert tile.writes()["beat"].tolist() == [THERE + 5 + k for k in range(stores)]
    assert np.diff(tile.writes()["cycle"]).tolist() == [1] * (stores - 1) and tile.writes()["cycle"][0] == 3 + 6


def test_whose_memory_a_store_is_in():
    """Core tiles are counted column by column, here of two rows."""
    stores = np.zeros(3, store_of(PLATFORM.generation))
    stores["tile"], stores["beat"] = (5, 5, 2), (7, THERE + 7, 4095)
    found = written_to(stores, rows=2, beats=THERE)
    assert found["tile"].tolist() == [5, 3, 0] and found["beat"].tolist() == [7, 7, 2047]
    assert stores["tile"].tolist() == [5, 5, 2]


# Locks, of two tiles beside each other

ACQUIRE, RELEASE = ControlOp.ACQUIRE, ControlOp.RELEASE


def column(lines: Sequence[Line], locks: Mapping[int, int] | None = None) -> Column:
    """A core that begins when a word has come; a word comes out when it has released END."""
    descriptors = [Descriptor(16000, 1, release=(BEGIN, 1)), Descriptor(0, 1, acquire=(END, 1))]
    program = assembled([lock(ACQUIRE, BEGIN), *lines, HALT])
    return Column(program, descriptors, {0: 0, 2: 1}, {0: FROM_SHIM, TO_SHIM: 0}, locks or {})


def ran(
    west: Sequence[Line], east: Sequence[Line], locks: Mapping[int, int] | None = None
) -> tuple[Image, Array, dict[int, list[tuple[int, int]]]]:
    """Two tiles until nothing goes on any more, and the states of both cores, by cycles since they got BEGIN.

    Args:
        locks: of the west tile.
    """
    image = columns_image({0: column(west, locks), 1: column(east)}, [OWN.tobytes(), WEST.tobytes()])
    array = Array(image, PLATFORM, seed=1)
    states = array.stream({SHIM_IN * k: np.array([1], np.uint32) for k in range(2)}, 100, 10_000).states
    begin = int(states["cycle"][states["state"] == ISSUES].min())
    out = {tile: [(int(each["cycle"]) - begin, int(each["state"])) for each in states
                  if each["tile"] == tile and each["cycle"] >= begin] for tile in range(2)}  # fmt: skip
    return image, array, out


@pytest.mark.parametrize(("lines", "waits"), [
    ([lock(ACQUIRE, 3, 0)], 0), ([lock(ACQUIRE, 3, 0, west=True)], 2),
    ([lock(ACQUIRE, 3, 0, west=True)] * 2, 4),
    ([lock(RELEASE, 3, west=True), lock(ACQUIRE, 3, west=True)], 3),
    ([lock(RELEASE, 3, west=True), NOTHING, lock(ACQUIRE, 3, west=True)], 2),
    ([lock(RELEASE, 3, west=True), lock(ACQUIRE, 3, 0)], 0),
    ([lock(RELEASE, 3, west=True)] * 2, 1), ([lock(RELEASE, 3, west=True), NOTHING] * 2, 0),
])  # fmt: skip
def test_cycles_of_a_lock_in_the_west(lines, waits):
    """Of the east core: what waits for locks. Behind HALT it runs 8 more cycles."""
    _, array, states = ran([], lines)
    assert array.problems == ()
    lost = sum(after - cycle for (cycle, state), (after, _) in pairwise(states[1]) if state == LOCK_WAIT)
    assert lost == waits and states[1][-1] == (len(lines) + 2 + waits + 8, 0)


@pytest.mark.parametrize(("west", "after"), [(False, 1), (True, 2)])
def test_when_a_release_holds(west, after):
    """The west core waits for a lock that the east one releases, or that it releases itself: an ACQUIRE behind it."""
    wait, give = [lock(ACQUIRE, 3)], [NOTHING, NOTHING, lock(RELEASE, 3, west=True)]
    _, _, states = ran(wait, give) if west else ran([*give[:2], lock(RELEASE, 3), *wait], [])
    acquired = 1 + 2 + after  # BEGIN, two instructions, RELEASE; behind it HALT, and 8 cycles
    assert states[0][-1] == (acquired + 1 + 8 + 1, 0)


def test_an_access_where_there_is_no_neighbour():
    for lines in ([point(0, THERE), line(load_a=load(1))], [point(7, THERE), line(store=store(1))],
                  [lock(ACQUIRE, 3, 0, west=True)], [lock(RELEASE, 3, west=True)]):  # fmt: skip
        _, array, _ = ran(lines, [])
        assert ["where there is none" in each.text for each in array.problems] == [True]


# Who waits for whom


def account(west: Sequence[Line], east: Sequence[Line]) -> list[str]:
    """Why no word comes out of the second column."""
    image, array, _ = ran(west, east)
    assert array.quiet
    return [each.removeprefix("- ") for each in explained(image.notes, array.account(), [SHIM_OUT]).splitlines()]


SHIM = [
    "the shim waits for words of stream 0 of column 1 from MM2S 0 of tile (1,1), descriptor 1",
    "MM2S 0 of tile (1,1), descriptor 1 waits for lock 9 to be at least 1, which is 0; the core of tile (1,1) would "
    "release it",
]  # fmt: skip


def test_a_lock_of_the_west_that_nobody_releases():
    """Not even who releases the own one of that number."""
    assert account([], [lock(ACQUIRE, 3, 2, west=True), lock(RELEASE, 3), lock(RELEASE, END)]) == [
        *SHIM, "the core of tile (1,1) waits for lock 3 of tile (0,1) to be at least 2, which is 0: nobody releases it",
    ]  # fmt: skip


def test_a_circle_of_two_cores():
    """Each waits for a lock of the west tile, the own one or the west's, that the other one would release."""
    west = [lock(ACQUIRE, 3), lock(RELEASE, 4)]
    east = [lock(ACQUIRE, 4, west=True), lock(RELEASE, 3, west=True), lock(RELEASE, END)]
    assert account(west, east) == [
        *SHIM,
        "the core of tile (1,1) waits for lock 4 of tile (0,1) to be at least 1, which is 0; the core of tile (0,1) "
        "would release it",
        "the core of tile (0,1) waits for lock 3 to be at least 1, which is 0; the core of tile (1,1) would release it",
        "the last 2 wait for each other, in a circle",
    ]  # fmt: skip
