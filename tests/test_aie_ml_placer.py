# SPDX-License-Identifier: Apache-2.0
"""Rectangles in the array: what is made is legal and the best there is, and what is not is seen."""

import time
from itertools import pairwise, product

import numpy as np
import pytest
from nncosim.compiler.aie_ml.floorplan import Floor, Rectangle
from nncosim.compiler.aie_ml.legal import problems
from nncosim.compiler.aie_ml.mapping import OBJECTIVES, Box, Split, overlaps, parts, ranked_splits
from nncosim.compiler.aie_ml.placer import STRATEGIES, cost_of, fits, placed
from nncosim.compiler.aie_ml.routes import EDGE, Grid, Net, Port, routed
from nncosim.compiler.aie_ml.routes import problems as wrong_circuits
from nncosim.compiler.aie_ml.search import fitting
from nncosim.compiler.aie_ml.solver import COST, LATENCY, solved
from nncosim.compiler.errors import CompileError
from nncosim.compiler.frontend import import_model
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.dense_models import DenseSpec, dense_network

COLUMNS, ROWS = 38, 8
PUBLISHED = {
    "jet_tagger": ((16, 64, 32, 32, 8), "1x4 4x2 2x2 2x1"),
    "tau_event_selection": ((160, 64, 64, 64, 8), "5x4 2x4 2x4 2x1"),
    "vae_lhc_medium": ((64, 64, 32, 8, 32, 64, 64), "4x4 4x2 2x1 1x2 2x4 4x4"),
    "vae_lhc_large": ((64, 128, 64, 12, 64, 128, 64), "4x4 4x4 4x1 1x4 4x4 8x4"),
    "multi_qubit_readout": ((256, 128, 128, 128, 128, 8), "8x8 4x8 4x8 4x8 4x1"),
    "deep_autoencoder": ((128, 128, 128, 128, 128, 8, 128, 128, 128, 128), "4x4 4x4 2x8 2x8 2x1 1x3 2x8 2x8 2x8"),
    "seven": ((512,) * 8, "4x4 4x4 4x4 4x4 4x4 4x4 4x4"),
}


def splits(text: str) -> list[Split]:
    return [Split(*map(int, each.split("x"))) for each in text.split()]


def chain(count: int) -> list[tuple[int, int]]:
    return list(pairwise(range(count)))


def equation_2(boxes: list[tuple[Split, int, int]], edges: list[tuple[int, int]]) -> float:
    """As the paper has it, for (split, column, row from 0)."""
    total = 0.05 * sum(row for _, _, row in boxes)
    for a, b in edges:
        (first, x, y), (second, u, v) = boxes[a], boxes[b]
        total += abs(u - (x + first.cascade - 1)) + 1.0 * abs(v + second.rows // 2 - y - first.rows // 2)
    return total


def random_task(seed: int) -> tuple[list[Split], list[tuple[int, int]]]:
    """A chain, or a graph in which each layer but the first takes from one or two before it."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 8))
    made = [Split(int(rng.integers(1, 6)), int(rng.integers(1, 6))) for _ in range(count)]
    if seed % 2:
        return made, chain(count)
    edges = {(int(a), b) for b in range(1, count) for a in rng.integers(max(0, b - 3), b, int(rng.integers(1, 3)))}
    return made, sorted(edges)


@pytest.mark.parametrize("seed", range(40))
def test_placements_are_legal_and_the_best_has_no_more_cost(seed):
    made, edges = random_task(seed)
    columns, rows, first_row, margin = (38, 8, 3, 0) if seed % 3 else (16, 8, 0, seed // 3 % 2)
    found = {}
    for strategy in STRATEGIES:
        boxes = placed(made, edges, columns, rows, strategy=strategy, first_row=first_row, margin=margin)
        assert problems(boxes, columns, rows, first_row=first_row, margin=margin, splits=made) == []
        plain = [(box.split, box.column, box.row - first_row) for box in boxes]
        found[strategy] = equation_2(plain, edges)
        assert found[strategy] == pytest.approx(cost_of(boxes, edges, first_row))
        again = placed(made, edges, columns, rows, strategy=strategy, first_row=first_row, margin=margin)
        assert again == boxes
    assert found["best"] <= found["branch-and-bound"] + 1e-9


def every_placement(made: list[Split], columns: int, rows: int) -> list[list[tuple[Split, int, int]]]:
    places = [[(s, x, y) for x in range(columns - s.cascade + 1) for y in range(rows - s.rows + 1)] for s in made]
    return [list(each) for each in product(*places)
            if problems([Box(*place) for place in each], columns, rows) == []]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_optimum_is_known_where_all_placements_can_be_tried(seed):
    rng = np.random.default_rng(seed)
    made = [Split(int(rng.integers(1, 4)), int(rng.integers(1, 4))) for _ in range(3)]
    edges = chain(3) if seed % 2 else [(0, 1), (0, 2), (1, 2)]
    columns, rows = 5, 4
    every = every_placement(made, columns, rows)
    assert fits(made, columns, rows) == bool(every)
    if not every:
        with pytest.raises(CompileError, match="no placement of 3 layers with"):
            placed(made, edges, columns, rows)
        return
    best = min(equation_2(each, edges) for each in every)
    floor = Floor(tuple(Rectangle(s.cascade, s.rows) for s in made), tuple(edges), columns, rows, 0, {})
    alone = [(s, *spot) for s, spot in zip(made, solved(floor, COST), strict=True)]
    assert equation_2(alone, edges) == pytest.approx(best)
    assert cost_of(placed(made, edges, columns, rows), edges) == pytest.approx(best)
    # An array of 5 columns is within the window: the paper's search sees all placements with the first in the corner.
    corner = [equation_2(each, edges) for each in every if each[0][1:] == (0, 0)]
    if corner:
        bound = placed(made, edges, columns, rows, strategy="branch-and-bound")
        assert cost_of(bound, edges) == pytest.approx(min(corner))


def longest_way(boxes: list[tuple[Split, int, int]], edges: list[tuple[int, int]]) -> int:
    """Cycles from the shim, below row 0, to its last word: 4 a hop, 20 a core of a chain."""

    def end(layer: int, row: int) -> int:
        """Of a chain."""
        (split, x, y), at = boxes[layer], 0
        for column in range(split.cascade):
            comes = [4 * (y + row + 1)] * (not any(b == layer for _, b in edges))
            for a in (a for a, b in edges if b == layer):
                giver, u, v = boxes[a]
                comes += [
                    end(a, r) + 4 * (abs(x + column - u - giver.cascade + 1) + abs(y + row - v - r))
                    for r in range(giver.rows)
                    if r * split.cascade < (column + 1) * giver.rows and column * giver.rows < (r + 1) * split.cascade
                ]
            at = max(at, *comes) + 20
        return at

    last = set(range(len(boxes))) - {a for a, _ in edges}
    return max(end(k, r) + 4 * (boxes[k][2] + r + 1) for k in last for r in range(boxes[k][0].rows))


@pytest.mark.parametrize("seed", range(8))
def test_the_shortest_circuits_are_known_where_all_placements_can_be_tried(seed):
    rng = np.random.default_rng(seed)
    made = [Split(int(rng.integers(1, 4)), int(rng.integers(1, 4))) for _ in range(3)]
    edges = chain(3) if seed % 2 else [(0, 2), (1, 2)]
    every = every_placement(made, 5, 4)
    found = solved(Floor(tuple(Rectangle(s.cascade, s.rows) for s in made), tuple(edges), 5, 4, 0, {}), LATENCY)
    assert (found is not None) == bool(every)
    if found is not None:
        mine = longest_way([(s, *spot) for s, spot in zip(made, found, strict=True)], edges)
        assert mine == min(longest_way(each, edges) for each in every)


def test_a_planted_error_is_seen():
    made = splits("3x2 2x4 1x1")
    good = placed(made, chain(3), 8, 4, first_row=1, margin=1)
    whole = dict(columns=8, rows=4, first_row=1, splits=made)
    assert problems(good, **whole, margin=1) == []
    first = good[0]
    for column, row in first.tiles:
        assert any("share tiles" in each for each in problems([*good[:2], Box(made[2], column, row)], **whole))
    beside = Box(made[0], 1, 1), Box(made[1], 4, 1), Box(made[2], 6, 1)
    assert problems(beside, **whole) == []
    assert problems(beside, **whole, margin=1) == ["layers 0 and 1 share tiles", "layers 1 and 2 share tiles"]
    # The margin of a box that comes first counts as well.
    assert problems([Box(made[2], 4, 1), Box(made[2], 3, 1)], 8, 4, first_row=1, margin=1)
    for box in (Box(made[0], 6, 1), Box(made[0], 0, 4), Box(made[0], 0, 0), Box(made[0], -1, 1)):
        assert any("outside the array" in each for each in problems([box], 8, 4, first_row=1))
    assert any("were to be placed" in each for each in problems([Box(Split(2, 2), 0, 1), *good[1:]], **whole))
    assert problems(good[:2], **whole)
    assert problems(good, **whole, anchors={0: (first.column + 1, first.row)})

    class Ragged(Box):
        """Not all tiles of a rectangle; one of them twice."""

        tiles = ((0, 1), (1, 1), (0, 2), (1, 2), (2, 1), (2, 1))

    assert any("no rectangle" in each for each in problems([Ragged(made[0], 0, 1)], 8, 4, first_row=1))


def test_anchors_are_kept():
    made, edges = splits("4x4 4x2 2x2 2x1"), chain(4)
    anchors = {1: (10, 5), 3: (0, 1)}
    for strategy in STRATEGIES:
        boxes = placed(made, edges, 20, 8, strategy=strategy, first_row=1, anchors=anchors)
        assert problems(boxes, 20, 8, first_row=1, splits=made, anchors=anchors) == []


@pytest.mark.parametrize(("anchors", "message"), [
    ({1: (18, 1)}, r"dense1 cannot lie at column 18, row 1: its 4 columns and 2 rows .* columns 0 to 19 and rows 1 to"),
    ({1: (0, 0)}, "dense1 cannot lie at column 0, row 0"),
    ({0: (3, 2), 1: (6, 5)}, "dense1 cannot lie at column 6, row 5: dense0 takes some of these tiles"),
    ({2: (0, 1)}, "layer 2 has a fixed place, and there are 2 layers"),
])  # fmt: skip
def test_wrong_anchors_are_refused(anchors, message):
    with pytest.raises(CompileError, match=message):
        placed(splits("4x4 4x2"), chain(2), 20, 8, first_row=1, anchors=anchors, names=["dense0", "dense1"])


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="strategy must be best or branch-and-bound, not 'beam'"):
        placed(splits("1x1"), [], 4, 4, strategy="beam")
    for edge in ((1, 0), (0, 2), (1, 1)):
        with pytest.raises(ValueError, match="does not lead from one of 2 layers to a later one"):
            placed(splits("1x1 1x1"), [edge], 4, 4)


def test_a_measurement_chooses():
    """Of the candidates, whatever they cost; those that cannot be measured never."""
    made, edges = splits(PUBLISHED["deep_autoencoder"][1]), chain(9)
    seen = []

    def measured(boxes: tuple[Box, ...]) -> int | None:
        seen.append(boxes)
        return None if len(seen) == 1 else 100 - len(seen)

    assert placed(made, edges, COLUMNS, ROWS, measure=measured) == seen[-1]
    assert len(seen) == len(set(seen)) > 2
    assert cost_of(seen[0], edges) < cost_of(seen[-1], edges)
    bound = placed(made, edges, COLUMNS, ROWS, strategy="branch-and-bound")
    assert bound in seen
    with pytest.raises(CompileError, match=r"none of \d placements of .* has a circuit for each stream"):
        placed(made, edges, COLUMNS, ROWS, measure=lambda boxes: None)


def test_what_does_not_fit_side_by_side_fits_above_each_other():
    made = splits("4x4 " * 12)
    boxes = placed(made, chain(12), 24, 8)
    assert problems(boxes, 24, 8, splits=made) == []
    assert fits(made, 24, 8) and not fits(made, 23, 8)
    assert not fits(splits("3x3 3x3"), 5, 5)  # 18 of 25 tiles
    with pytest.raises(CompileError, match=r"\(3x3 3x3, columns x rows\) was found in 5 x 5 tiles"):
        placed(splits("3x3 3x3"), chain(2), 5, 5)


def nets_of(sizes: tuple[int, ...], boxes: tuple[Box, ...]) -> list[Net]:
    """Streams of a chain; without those of two layers that need more channels than a tile has."""
    first, last = boxes[0], boxes[-1]
    nets = [Net(Port(c, EDGE), tuple(Port(c, first.row + r) for r in range(first.split.rows)))
            for c in range(first.column, first.column + first.split.cascade)]  # fmt: skip
    for size, a, b in zip(sizes[1:], boxes, boxes[1:], strict=False):
        given, taken = parts(size, a.split.rows), parts(size, b.split.cascade)
        pairs = [(r, c, n) for c, rows in enumerate(overlaps(given, taken)) for n, r in enumerate(rows)]
        out = {r: [c for k, c, _ in pairs if k == r] for r in range(len(given))}
        if max(n for *_, n in pairs) > 1 or max(map(len, out.values())) > 2:
            continue
        for r, c, n in pairs:
            targets = tuple(Port(b.column + c, b.row + k, n) for k in range(b.split.rows))
            nets.append(Net(Port(a.column + a.split.cascade - 1, a.row + r, out[r].index(c)), targets))
    return nets + [Net(Port(last.column + last.split.cascade - 1, last.row + r), (Port(last.column, EDGE),))
                   for r in range(last.split.rows)]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("columns", [COLUMNS, 24])
def test_published_splits_are_placed_and_have_circuits(name, columns):
    sizes, text = PUBLISHED[name]
    made, grid = splits(text), Grid(columns, 0, ROWS)
    for strategy in STRATEGIES:
        begin = time.process_time()
        boxes = placed(made, chain(len(made)), columns, ROWS, strategy=strategy, first_row=1)
        assert time.process_time() - begin < 10
        assert problems(boxes, columns, ROWS, first_row=1, splits=made) == []
        nets = nets_of(sizes, boxes)
        assert wrong_circuits(grid, nets, routed(grid, nets).masters) == []


def network_of(*sizes: int):
    return import_model(dense_network(DenseSpec(sizes)), name="dense", keep_batch=True)


def test_layers_above_each_other_let_a_network_have_more_tiles():
    network, platform = network_of(*[64] * 11), AieMl(columns=12)
    beside = ranked_splits(network, platform)[0]
    packed, few = (next(fitting(ranked_splits(network, platform, most, packed=True), lambda each: fits(each, 12, 8)))
                   for most in (None, 40))  # fmt: skip
    assert sum(each.cascade for each in beside) <= 12 < sum(each.cascade for each in packed)
    assert 40 < sum(each.tiles for each in packed) <= 96
    assert sum(each.tiles for each in few) <= 40
    small = AieMl(columns=4, rows=4)
    with pytest.raises(CompileError, match="does not fit 16 tiles in 4 columns"):
        ranked_splits(network, small)
    assert len(next(fitting(ranked_splits(network, small, packed=True), lambda each: fits(each, 4, 4)))) == 10


def test_where_there_is_no_place_less_room_is_taken():
    network, platform = network_of(*[64] * 6), AieMl(columns=6, rows=5)
    ranked = ranked_splits(network, platform, packed=True)
    tried = []

    def fit(each):
        tried.append(each)
        return len(tried) == 3

    assert next(fitting(ranked, fit)) == ranked[2] == tried[2]
    assert list(fitting(ranked, lambda each: True)) == [*ranked]
    tried.clear()
    assert list(fitting(ranked, lambda each: tried.append(each) or False)) == [] and tried[-1] in ranked
    assert len(ranked) == len(set(ranked))


def test_objectives():
    network, platform = network_of(128, 128, 64, 16), AieMl(columns=16)
    found = {objective: ranked_splits(network, platform, objective=objective)[0] for objective in OBJECTIVES}
    tiles = {objective: sum(split.tiles for split in each) for objective, each in found.items()}
    assert tiles["fewest"] == 3 and found["latency"] != found["throughput"]

    def kernel(op, split):  # multiply-accumulates of a core, rows of the batch up to whole blocks of 8
        outputs, inputs = op.weights.shape[:2]
        return -(-inputs // split.cascade) * -(-outputs // split.rows)

    slowest = {o: max(kernel(op, split) for op, split in zip(network.ops, each, strict=True))
               for o, each in found.items()}  # fmt: skip
    assert slowest["throughput"] <= slowest["latency"] < slowest["fewest"]
    with pytest.raises(ValueError, match="objective must be one of latency, throughput, fewest, not 'area'"):
        ranked_splits(network, platform, objective="area")
