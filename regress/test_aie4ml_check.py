# SPDX-License-Identifier: Apache-2.0
"""AIE4ML, where it is installed (extra `aie4ml`), as an outside judge: of our splits and places, and of our numbers."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.compiler.aie_ml.legal import problems
from nncosim.compiler.aie_ml.mapping import Box, Split
from nncosim.compiler.aie_ml.placer import placed
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie4ml_check import directives, outputs, planned
from nncosim.regress.aie_ml_networks import NETWORKS
from nncosim.regress.dense_qdq import QdqNetwork, qdq_network
from nncosim.tb.aie_ml.bench import BENCH

errors = pytest.importorskip("aie4ml.errors", reason="the extra aie4ml is not installed")

COLUMNS, ROWS = PLATFORM.columns, PLATFORM.rows
OWN = {
    "jet_tagger": "1x4 4x2 2x2 2x1", "tau_event_selection": "5x4 2x4 2x4 2x1",
    "vae_lhc_medium": "4x4 4x2 2x1 1x2 2x4 4x4", "vae_lhc_large": "4x4 4x4 4x1 1x4 4x4 8x4",
    "multi_qubit_readout": "8x8 4x8 4x8 4x8 4x1", "deep_autoencoder": "4x4 4x4 2x8 2x8 2x1 1x3 2x8 2x8 2x8",
    "seven of 512": "4x4 4x4 4x4 4x4 4x4 4x4 4x4",
}  # fmt: skip
"""AIE4ML's splits of these networks, as published."""
SIZES = {name: (each.sizes, each.tiles) for name, each in NETWORKS.items()} | {
    "seven of 512": ((512,) * 8, 112), "fourteen of 64": ((64,) * 15, 152)}
"""Layers' sizes, and tiles at most: with a free column left of each layer it has to fit the array."""


def splits(text: str) -> list[Split]:
    return [Split(*map(int, each.split("x"))) for each in text.split()]


def spaced(parts: list[Split]) -> tuple[Box, ...]:
    """Placed with a free column left of each box, the first column free."""
    boxes = placed(parts, list(pairwise(range(len(parts)))), COLUMNS - 1, ROWS, margin=1)
    moved = tuple(replace(box, column=box.column + 1) for box in boxes)
    assert problems(moved, COLUMNS, ROWS, margin=1, splits=parts) == []
    return moved


def compiled(network: QdqNetwork, **options: Any) -> Compiled:
    made = import_model(network.model, name="dense", keep_batch=True)
    return compile_network(made, PLATFORM, backend=AieMlBackend(**options))


@cache
def published(name: str) -> tuple[QdqNetwork, Compiled]:
    """A network of `SIZES`, compiled with splits of our own choice."""
    sizes, tiles = SIZES[name]
    network = qdq_network(sizes, seed=3)
    return network, compiled(network, most_tiles=tiles)


def by_array(made: Compiled, x: np.ndarray) -> list[np.ndarray]:
    """Results of our layers, by the cycle-exact simulator."""
    run = BENCH.run(PLATFORM, made.image.to_bytes(), [{"x": x.reshape(made.network.tensors["x"].shape)}], backend="iss")
    assert not run.diagnosis
    return [run.frames[0].tensors[op.output].reshape(len(x), -1) for op in made.network.ops]


def refused(network: QdqNetwork, boxes: list[Box] | tuple[Box, ...], folder, text: str = "") -> str:
    """Why; it has to be refused, for that reason."""
    made = import_model(network.model, name="dense", keep_batch=True)
    with pytest.raises(errors.ConfigRefused) as caught:
        planned(network.model, directives(made, boxes), folder)
    assert text in str(caught.value), str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", SIZES)
def test_our_splits_with_a_free_column(tmp_path, name):
    """Accepted where we say; what it would compute is what our array computes, layer by layer."""
    network, made = published(name)
    boxes = spaced([box.split for box in made.lowered.private.boxes])
    project = planned(network.model, directives(made.network, boxes), tmp_path)
    assert list(project.places.values()) == [(b.column, b.row, b.split.cascade, b.split.rows) for b in boxes]
    x = network.inputs(4)
    theirs, ours = outputs(project, x), by_array(made, x)
    assert len(theirs) == len(ours) == len(SIZES[name][0]) - 1
    for a, b in zip(theirs, ours, strict=True):
        assert np.array_equal(a, b) and b.std() > 10 and (np.abs(b) >= 127).mean() < 0.01


@pytest.mark.parametrize("name", OWN)
def test_its_own_splits_where_our_placer_puts_them(tmp_path, name):
    network, parts = qdq_network(SIZES[name][0], seed=3), splits(OWN[name])
    boxes = spaced(parts)
    made = import_model(network.model, name="dense", keep_batch=True)
    project = planned(network.model, directives(made, boxes), tmp_path)
    assert list(project.places.values()) == [(b.column, b.row, b.split.cascade, b.split.rows) for b in boxes]


@pytest.mark.parametrize("name", SIZES)
def test_places_of_our_compiler(tmp_path, name):
    """Ours may be side by side, whose activations lie in the tile itself; it refuses that, and only that."""
    network, made = published(name)
    boxes = [replace(box, row=box.row - PLATFORM.first_row) for box in made.lowered.private.boxes]
    assert problems(boxes, COLUMNS, ROWS) == []
    if any(box.column == 0 for box in boxes) or problems(boxes, COLUMNS, ROWS, margin=1):
        refused(network, boxes, tmp_path, "Invalid fixed anchor")
    else:
        planned(network.model, directives(made.network, boxes), tmp_path)


def test_it_and_our_check_agree_on_random_places(tmp_path):
    """Of which a half is legal; none of these layers may share a buffer with the next."""
    rng, network = np.random.default_rng(5), qdq_network((16, 64, 32, 32, 8), seed=3)
    made = import_model(network.model, name="dense", keep_batch=True)
    parts, legal = splits("1x4 2x2 2x2 2x1"), 0
    for n in range(60):
        boxes = [Box(s, int(rng.integers(0 if n % 9 == 0 else 1, 13)), int(rng.integers(0, ROWS - s.rows + 1)))
                 for s in parts]  # fmt: skip
        ours = bool(problems(boxes, COLUMNS, ROWS, margin=1)) or any(box.column == 0 for box in boxes)
        try:
            planned(network.model, directives(made, boxes), tmp_path / str(n))
            theirs = False
        except errors.ConfigRefused:
            theirs = True
        assert ours == theirs, boxes
        legal += not ours
    assert 15 < legal < 45


@pytest.mark.parametrize(("second", "text"), [
    ((4, 0), "conflicts with another anchor"), ((5, 1), "conflicts with another anchor"), ((37, 0), "out of bounds"),
    ((0, 0), "out of bounds"), ((9, 7), "out of bounds"),
], ids=["overlap", "no free column", "over the right edge", "first column", "over the upper edge"])  # fmt: skip
def test_planted_places_are_refused(tmp_path, second, text):
    network, parts = qdq_network((64, 64, 64), seed=3), splits("2x2 2x2")
    made = import_model(network.model, name="dense", keep_batch=True)
    good = [Box(parts[0], 3, 0), Box(parts[1], 6, 0)]
    planned(network.model, directives(made, good), tmp_path / "good")
    refused(network, [good[0], Box(parts[1], *second)], tmp_path / "wrong", text)


@pytest.mark.parametrize(("sizes", "split", "text"), [
    ((512, 64), "1x1", "does not tile it"), ((196, 64), "2x1", "does not tile it"),
    ((64, 64), "8x1", "does not tile it"),
    ((40, 36, 16), "2x2 1x1", "BDs from a memory tile whose pools hold 24 each"),
], ids=["bank overflow", "98 bytes", "a part behind the end", "descriptors"])  # fmt: skip
def test_planted_splits_are_refused(tmp_path, sizes, split, text):
    refused(qdq_network(sizes, seed=3), spaced(splits(split)), tmp_path, text)


def test_planted_errors_in_its_numbers_are_seen(tmp_path):
    network, parts = qdq_network((40, 32, 16), seed=3), splits("2x2 1x1")
    made = compiled(network, splits=[(2, 2), (1, 1)])
    project = planned(network.model, directives(made.network, spaced(parts)), tmp_path)
    x = network.inputs(4)
    ours = by_array(made, x)

    def same(constants) -> bool:
        found = outputs(replace(project, constants=constants), x)
        return all(np.array_equal(*each) for each in zip(found, ours, strict=True))

    assert same(project.constants)
    for name in project.constants:
        other = dict(project.constants)
        other[name] = other[name] + 64 * (name.startswith("bias") or np.arange(len(other[name])) % 2)
        assert not same(other), name


def test_another_scale_is_seen(tmp_path):
    """It takes the shift from the file, as we do: from another file another one."""
    network = qdq_network((40, 32), seed=3)
    made = compiled(network, splits=[(1, 2)])
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(network.model)
    for tensor in spoilt.graph.initializer:
        if tensor.name in ("dense0.w.scale", "dense0.b.scale"):
            value = 2 * onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    x = network.inputs(4)
    boxes = spaced(splits("1x2"))
    for model, equal in ((network.model, True), (spoilt, False)):
        project = planned(model, directives(made.network, boxes), tmp_path / str(equal))
        assert np.array_equal(outputs(project, x)[0], by_array(made, x)[0]) == equal
