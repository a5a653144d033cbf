# SPDX-License-Identifier: Apache-2.0
"""Cutting layers, placing their buffers and choosing among plans, on no machine in particular."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from nncosim.compiler.placement.accesses import lists_that_read, lives_in_order
from nncosim.compiler.placement.placement import Buffer
from nncosim.compiler.tiling.deal import dealt
from nncosim.compiler.tiling.grids import grids
from nncosim.compiler.tiling.search import Recent, fastest, ranking
from nncosim.compiler.tiling.slots import opposite_ends, two_of_each
from nncosim.compiler.tiling.tiles import chain_tiles, reads_all


@dataclass(frozen=True)
class Layer:
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (1, 1)
    in_map: tuple[int, int] = (8, 8)
    out_map: tuple[int, int] = (8, 8)


def touched(layer, axis, outputs):
    """Input positions on an axis that windows read, one by one."""
    at = [y * layer.stride[axis] - layer.pads[axis] + k * layer.dilation[axis]
          for y in outputs for k in range(layer.kernel[axis])]  # fmt: skip
    return sorted({p for p in at if 0 <= p < layer.in_map[axis]})


@pytest.mark.parametrize("layer", [
    Layer(), Layer(stride=(2, 1), out_map=(4, 8)), Layer(kernel=(1, 1), stride=(2, 2), pads=(0, 0), out_map=(4, 4)),
    Layer(kernel=(2, 2), stride=(2, 2), pads=(0, 0), out_map=(4, 4)), Layer(dilation=(2, 2), pads=(2, 2)),
    Layer(pads=(0, 0), in_map=(8, 8), out_map=(6, 5)), Layer(stride=(1, 2), dilation=(1, 2), out_map=(8, 4)),
])  # fmt: skip
def test_whether_windows_read_everything(layer):
    """What is said to be read is read; a dilated window with a stride may be refused although it reads everything."""
    read = all(touched(layer, axis, range(layer.out_map[axis])) == list(range(layer.in_map[axis])) for axis in (0, 1))
    assert reads_all(layer) == read if layer.dilation == (1, 1) else read or not reads_all(layer)


def test_a_chain_of_tiles_holds_what_each_window_reads():
    layers = [Layer(), Layer(stride=(2, 2), out_map=(4, 4)), Layer(in_map=(4, 4), out_map=(4, 4))]
    first, middle, last = chain_tiles(layers, (1, 2), (3, 4))
    assert (last.iy0, last.iy1, last.ix0, last.ix1) == (0, 3, 2, 4) == (middle.y0, middle.y1, middle.x0, middle.x1)
    for layer, tile in zip(layers, (first, middle, last), strict=True):
        assert set(touched(layer, 0, range(tile.y0, tile.y1))) <= set(range(tile.iy0, tile.iy1))
        assert set(touched(layer, 1, range(tile.x0, tile.x1))) <= set(range(tile.ix0, tile.ix1))


def test_grids_leave_no_engine_idle_that_an_axis_could_take():
    found = {(g.rows, g.columns, g.channels) for g in grids(4, 2, 3, 6)}
    fits = {g for g in itertools.product(range(1, 5), range(1, 3), range(1, 4)) if np.prod(g) <= 6}
    most = {g for g in fits if not any(g != h and all(a <= b for a, b in zip(g, h, strict=True)) for h in fits)}
    assert found == most


def test_tiles_dealt_out_in_turn():
    """Two bands of rows, of one group; a third engine of another group keeps its own."""
    assert dealt([("a", [0, 0, 1]), ("a", [2, 3]), ("b", [0, 1])], lambda row: row) == [(0, 0, 2), (1, 3), (0, 1)]


@pytest.mark.parametrize(("room", "counts"), [(60, (2, 2)), (59, (1, 2)), (49, (1, 1)), (30, (1, 1)), (29, None)])
def test_as_many_buffers_as_fit(room, counts):
    found = two_of_each((10, 20), (5, 5), room)
    assert (found and tuple(slots.count for slots in found)) == counts
    assert found is None or found[1].end <= room


def test_neighbours_of_a_chain_lie_apart():
    sizes = [5, 9, 2, 7]
    places, total = opposite_ends(sizes)
    assert total == 14
    for (a, size), (b, other) in itertools.pairwise(zip(places, sizes, strict=True)):
        assert (a + size <= b or b + other <= a) and max(a + size, b + other) <= total
    assert opposite_ends([]) == ((), 0)


@dataclass(frozen=True)
class Made:
    cycles: int


def test_the_fastest_of_the_promising_ones():
    real = {"a": Made(130), "b": Made(90), "c": "its program is too long", "d": Made(1)}
    plans = ranking(["d", "a", "b", "c"], {"a": 100, "b": 110, "c": 105, "d": 1000}.__getitem__)
    best, looked = fastest(plans, 3, 1.5, real.__getitem__, str.upper)
    assert best == Made(90)
    assert [(x.plan, x.cycles, x.verdict) for x in looked] == [
        ("A", 130, "slower by 40 cycles"), ("C", None, "its program is too long"), ("B", 90, "chosen"),
        ("D", None, "not measured: others are faster by estimate"),
    ]  # fmt: skip


def test_only_the_latest_are_remembered():
    known = Recent[str, int](2)
    for number, name in enumerate("abc"):
        assert known.keep(name, number) == number
    assert dict(known) == {"b": 1, "c": 2}


@dataclass(frozen=True)
class Access:
    buffer: str
    write: bool
    first: int
    count: int

    def units(self):
        return np.arange(self.first, self.first + self.count)


def test_lives_of_one_memory_among_several():
    """x comes from outside, h is made of it, z lies in another instance, whose accesses do not count."""
    buffers = [Buffer("x", "m", 16, "tensor", from_start=True), Buffer("h", "m", 16, "tensor", to_end=True),
               Buffer("z", "m", 16, "tensor", instance=1)]  # fmt: skip
    first = [Access("x", False, 0, 2), Access("h", True, 0, 2), Access("z", True, 0, 4), Access("x", False, 2, 2)]
    lists = [("one", first), ("two", [Access("h", True, 2, 2), Access("h", False, 0, 4)])]
    lives = lives_in_order(lists, buffers, ("m", 0), 4)
    assert set(lives.of) == {"x", "h"} and lives.steps == ((0, "one"), (4, "two"))
    assert lives.of["x"].dies.tolist() == [0, 2] and lives.of["x"].start.tolist() == [0, 2]
    assert lives.of["h"].born.tolist() == [1, 4]
    assert lists_that_read(["x"], [each for _, each in lists], buffers) == 1
    assert lists_that_read(["h"], [each for _, each in lists], buffers) == 2
