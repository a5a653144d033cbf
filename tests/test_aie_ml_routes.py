# SPDX-License-Identifier: Apache-2.0
"""Circuits through the stream switches, splits of layers, buffer descriptors: what is made, and what is refused."""

import numpy as np
import pytest
from nncosim.compiler.aie_ml.descriptors import Descriptor, Region, matrix, rows_of_tiles, words_of_row
from nncosim.compiler.aie_ml.mapping import Split, boxes_of, overlaps, parts, splits_of
from nncosim.compiler.aie_ml.routes import EDGE, Net, Port, problems, routed
from nncosim.compiler.errors import CompileError
from nncosim.compiler.frontend import import_model
from nncosim.kernels.aie_ml.dense import Role
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.dense_models import DenseSpec, dense_network

COLUMNS, ROWS = 6, 4


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
    routes = routed(COLUMNS, ROWS, nets)
    assert problems(COLUMNS, ROWS, nets, routes.masters) == []
    links = [link for each in routes.links.values() for link in each]
    assert len(links) == len(set(links))


@pytest.mark.parametrize("seed", range(10))
def test_a_wrong_circuit_is_seen(seed):
    """Any setting that is dropped, or another slave's, or one more to a DMA channel."""
    nets, rng = random_nets(seed), np.random.default_rng(seed)
    routes = routed(COLUMNS, ROWS, nets)
    for tile, settings in routes.masters.items():
        for master, slave in settings.items():
            without = {**routes.masters, tile: {k: v for k, v in settings.items() if k != master}}
            assert problems(COLUMNS, ROWS, nets, without)
            other = int(rng.choice([k for k in range(20) if k != slave]))
            assert problems(COLUMNS, ROWS, nets, {**routes.masters, tile: {**settings, master: other}})
        for master in (0, 1):
            if master not in settings:
                more = {**settings, master: next(iter(settings.values()))}
                assert problems(COLUMNS, ROWS, nets, {**routes.masters, tile: more})


def test_more_streams_than_links_are_refused():
    nets = [Net(Port(0, row, channel), (Port(1, row, channel),)) for row in (1, 2) for channel in range(2)]
    assert routed(2, 2, nets).links
    crowd = [Net(Port(0, row, channel), (Port(0, EDGE),), "result") for row in range(1, 9) for channel in range(2)]
    with pytest.raises(CompileError, match="no way through the stream switches was found for result"):
        routed(1, 8, crowd)


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
        splits = splits_of(network, platform, most)
        assert sum(each.tiles for each in splits) <= (most or platform.tiles)
        assert sum(each.cascade for each in splits) <= platform.columns
        assert max(each.rows for each in splits) <= platform.rows


def addresses(descriptor: Descriptor) -> list[int]:
    """Words that it moves, by the manual's formula."""
    n0, n1 = (max(1, n) for n in descriptor.counts)
    s0, s1, s2 = descriptor.steps
    return [descriptor.base + n % n0 * s0 + n // n0 % n1 * s1 + n // (n0 * n1) * s2 for n in range(descriptor.length)]


@pytest.mark.parametrize(("bits", "rows", "columns"), [(8, 8, 16), (8, 5, 10), (8, 1, 24), (16, 8, 8), (16, 5, 12)])
def test_rows_of_a_matrix_are_found_in_its_tiles(bits, rows, columns):
    """Each word once, in the user's order, where the layout of tiles has it."""
    per_tile = 32 // bits * 2  # columns of a tile: 8 bytes or 4 halfwords
    row_words = -(-columns // 16) * 16 * bits // 8
    region = Region((100, 5000), row_words, bits, rows, columns)
    made = matrix(region, (1, 2), 3)
    found = [at for each in made for at in addresses(each)]
    want = []
    for row in range(rows):
        for word in range(words_of_row(columns, bits)):
            column = word * 32 // bits
            byte = row // 4 * 4 * row_words + column // per_tile * 32
            byte += (column % 8 // 4 * 16 + row % 4 * 4) if bits == 8 else row % 4 * 8 + column % 4 * 2
            want.append(100 + byte // 4)
    assert found == want
    assert made[0].acquire == (1, 1) and made[-1].release == (2, 1)
    assert [each.next for each in made] == [3 + (k + 1) % len(made) for k in range(len(made))]
    assert all(each.iteration == (4900, 2) for each in made)


def test_whole_tiles_lie_in_a_row():
    (made,) = rows_of_tiles(Region((0,), 32, 8, 8, 16), (0, 1), 0)
    assert addresses(made) == [*range(16), *range(32, 48)]


def test_a_field_that_does_not_hold_its_value_is_an_error():
    with pytest.raises(CompileError, match="a field of 14 bits of a buffer descriptor cannot be 16384"):
        _ = Descriptor(1 << 14, 4).words
    with pytest.raises(CompileError, match="15 signed bits"):
        _ = Descriptor(0, 4, steps=(1 << 14, 0, 0)).words
