# SPDX-License-Identifier: Apache-2.0
"""Circuits through the stream switches, splits of layers, buffer descriptors: what is made, and what is refused."""

import numpy as np
import pytest
from nncosim.compiler.aie_ml.descriptors import Descriptor, chain
from nncosim.compiler.aie_ml.mapping import Split, boxes_of, overlaps, parts, ranked_splits
from nncosim.compiler.aie_ml.routes import EDGE, Grid, Net, Port, problems, routed
from nncosim.compiler.aie_ml.walks import Matrix, Order, Storage
from nncosim.compiler.errors import CompileError
from nncosim.compiler.frontend import import_model
from nncosim.kernels.aie_ml.product import Role
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML
from nncosim.regress.dense_models import DenseSpec, dense_network

COLUMNS, ROWS = 6, 4
GRID = Grid(COLUMNS, 0, ROWS)


def random_nets(seed: int) -> list[Net]:
    """Each DMA channel and each stream of the shim once at most."""
    rng = np.random.default_rng(seed)
    tiles = [(c, 1 + r) for c in range(COLUMNS) for r in range(ROWS)]
    targets = [Port(*tile, channel) for tile in tiles for channel in range(2)]
    rng.shuffle(targets)
    sources = [Port(*tile, channel) for tile in tiles for channel in range(2)]
    sources += [Port(column, EDGE, stream) for column in range(COLUMNS) for stream in range(2)]
    rng.shuffle(sources)
    nets = []
    for source in sources[: int(rng.integers(6, 16))]:
        count = int(rng.integers(1, 5))
        taken = tuple(targets.pop() for _ in range(count))
        if source.row != EDGE and rng.random() < 0.3:
            taken = (Port(source.column, EDGE),)
        nets.append(Net(source, taken))
    return nets


@pytest.mark.parametrize("seed", range(30))
def test_circuits_are_right(seed):
    nets = random_nets(seed)
    routes = routed(GRID, nets)
    assert problems(GRID, nets, routes.masters) == []
    links = [link for each in routes.links.values() for link in each]
    assert len(links) == len(set(links))


@pytest.mark.parametrize("seed", range(10))
def test_a_wrong_circuit_is_seen(seed):
    """Any setting that is dropped, or another slave's, or one more to a DMA channel."""
    nets, rng = random_nets(seed), np.random.default_rng(seed)
    routes = routed(GRID, nets)
    for tile, settings in routes.masters.items():
        for master, slave in settings.items():
            without = {**routes.masters, tile: {k: v for k, v in settings.items() if k != master}}
            assert problems(GRID, nets, without)
            other = int(rng.choice([k for k in range(20) if k != slave]))
            assert problems(GRID, nets, {**routes.masters, tile: {**settings, master: other}})
        for master in (0, 1):
            if master not in settings:
                more = {**settings, master: next(iter(settings.values()))}
                assert problems(GRID, nets, {**routes.masters, tile: more})


def test_more_streams_than_links_are_refused():
    nets = [Net(Port(0, row, channel), (Port(1, row, channel),)) for row in (1, 2) for channel in range(2)]
    assert routed(Grid(2, 0, 2), nets).links
    crowd = [Net(Port(0, row, channel), (Port(0, EDGE),), "result") for row in range(1, 9) for channel in range(2)]
    with pytest.raises(CompileError, match="no way through the stream switches was found for result"):
        routed(Grid(1, 0, 8), crowd)


def test_parts_are_padded_as_a_whole():
    assert parts(160, 4) == ((0, 40), (40, 80), (80, 120), (120, 160))
    assert parts(20, 2) == ((0, 16), (16, 20)) and parts(12, 1) == ((0, 12),)
    assert parts(16, 3) == ()  # the third would begin at the end
    assert overlaps(parts(64, 4), parts(64, 2)) == [[0, 1], [2, 3]]


def test_roles_and_boxes():
    split = Split(3, 2)
    assert [split.role(k) for k in range(3)] == [Role.FIRST, Role.MIDDLE, Role.LAST]
    assert Split(1, 2).role(0) == Role.SINGLE
    first, second = boxes_of([split, Split(2, 1)], 1)
    assert second.column == 3 and len(first.tiles) == 6 and not {*first.tiles} & {*second.tiles}


def test_splits_keep_to_the_room_they_have():
    network = import_model(dense_network(DenseSpec((64, 64, 64, 16))), name="dense", keep_batch=True)
    small = AieMl(columns=3, rows=1)
    for platform, most in ((AieMl(), None), (AieMl(), 6), (AieMl(columns=4, rows=4), None), (small, 3)):
        splits = ranked_splits(network, platform, most)[0]
        assert sum(each.tiles for each in splits) <= (most or platform.tiles)
        assert sum(each.cascade for each in splits) <= platform.columns
        assert max(each.rows for each in splits) <= platform.rows


def addresses(descriptor: Descriptor) -> list[int]:
    """Words that it moves, by the manual's formula."""
    n0, n1 = (max(1, n) for n in descriptor.counts)
    s0, s1, s2 = descriptor.steps
    return [descriptor.base + n % n0 * s0 + n // n0 % n1 * s1 + n // (n0 * n1) * s2 for n in range(descriptor.length)]


def place(storage: Storage, bits: int, stride: int, row: int, word: int) -> int:
    """Where a word of a row lies, from the formats of the manual."""
    if storage == Storage.ROWS:
        return row * stride + word
    if storage == Storage.BLOCKS:  # byte n * 8 + k, halfword n * 4 + k
        return word // 2 * stride + row * 2 + word % 2
    within = word % 2 * 4 + row % 4 if bits == 8 else row % 4 * 2 + word % 2
    return row // 4 * stride + word // 2 * 8 + within


CASES = [(storage, order, bits, rows, columns) for storage in Storage for order in Order for bits in (8, 16)
         for rows, columns in ((8, 16), (5, 10), (1, 24), (7, 8), (20, 4), (16, 40))]  # fmt: skip


@pytest.mark.parametrize(("storage", "order", "bits", "rows", "columns"), CASES)
def test_a_walk_takes_each_word_of_a_matrix_in_the_order_of_the_stream(storage, order, bits, rows, columns):
    words, tiles, up = columns * bits // 32 + (columns * bits % 32 > 0), -(-columns * bits // 64), -(-rows // 4)
    words = 2 * tiles if bits == 16 else words
    if storage == Storage.BLOCKS and order == Order.ROWS and words % 2:
        with pytest.raises(CompileError, match="do not end with a block"):
            Matrix(storage, 0, 512, bits, rows, columns, AIE_ML).walk(order)
        return
    if order in (Order.ROWS, Order.WHOLE_ROWS):
        whole = words if order == Order.ROWS else 2 * tiles
        wanted = [(row, word) for row in range(rows) for word in range(whole)]
    elif order == Order.TURNED or bits == 16:
        wanted = [(4 * u + r, 2 * t + w) for u in range(up) for t in range(tiles) for r in range(4) for w in range(2)]
    else:
        wanted = [(4 * u + r, 2 * t + w) for u in range(up) for t in range(tiles) for w in range(2) for r in range(4)]
    walk = Matrix(storage, 100, 512, bits, rows, columns, AIE_ML).walk(order)
    made = chain(Descriptor, walk, (4900, 2), 3, (1, 1), (2, 1))
    assert [at for each in made for at in addresses(each)] == [
        100 + place(storage, bits, 512, row, word) for row, word in wanted]  # fmt: skip
    assert made[0].acquire == (1, 1) and made[-1].release == (2, 1)
    assert all(each.acquire is None for each in made[1:]) and all(each.release is None for each in made[:-1])
    assert [each.next for each in made] == [3 + (k + 1) % len(made) for k in range(len(made))]
    assert all(each.iteration == (4900, 2) and len(each.words) == 6 for each in made)


def test_a_field_that_does_not_hold_its_value_is_an_error():
    with pytest.raises(CompileError, match="a field of 14 bits of a buffer descriptor cannot be 16384"):
        _ = Descriptor(1 << 14, 4).words
    with pytest.raises(CompileError, match="15 signed bits"):
        _ = Descriptor(0, 4, steps=(1 << 14, 0, 0)).words
