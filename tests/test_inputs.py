# SPDX-License-Identifier: Apache-2.0
"""Inputs from files and seeds, and outputs.npz."""

import io
import json

import numpy as np
import pytest
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.tb.run.inputs import InputError, batch_size, frames, outputs_npz, random_frames, read_npz
from nncosim.tb.run.network_json import NetworkDataError, network_from_json, network_to_json
from small_network import small_network


@pytest.fixture
def network():
    return small_network()


def test_floats_are_quantised_and_integers_are_taken_as_they_are(network):
    integers = random_frames(network, 5)[0]["x"]
    floats = (integers * 0.25).astype(np.float32)[np.newaxis]
    for array in (floats, floats[0], integers.astype(np.int8)[np.newaxis], integers):
        assert np.array_equal(frames(network, {"x": array}, [0], "f")[0]["x"], integers)


def test_random_frames_depend_on_the_seed_alone_and_use_the_whole_range(network):
    first, again, other = (random_frames(network, seed, 40) for seed in (3, 3, 4))
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0]["x"], other[0]["x"])
    values = np.stack([frame["x"] for frame in first])
    assert values.min() == -128 and values.max() == 127


def test_images_are_chosen_by_index(network):
    batch = np.stack([f["x"] for f in random_frames(network, 1, 6)])
    assert batch_size(network, {"x": batch}, "f") == 6
    chosen = frames(network, {"x": batch}, [4, 1], "f")
    assert [np.array_equal(c["x"], batch[i]) for c, i in zip(chosen, [4, 1], strict=True)] == [True, True]
    with pytest.raises(InputError, match=r"there is no image 6; it has 6"):
        frames(network, {"x": batch}, [6], "f")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"X": np.zeros((1, 2, 4, 4))}, r"f: no array 'x'; expected one per graph input \(x\), found X"),
        ({}, "found nothing"),
        ({"x": np.zeros((1, 2, 4, 5))}, r"has shape \(1, 2, 4, 5\); expected \(1, 2, 4, 4\)"),
        ({"x": np.zeros((0, 2, 4, 4))}, "has shape"),
        ({"x": np.zeros((2, 4, 4), dtype="U3")}, "expected floats or integers"),
        ({"x": np.full((2, 4, 4), np.nan)}, "not finite"),
    ],
)
def test_bad_arrays_are_refused_by_name(network, arrays, text):
    with pytest.raises(InputError, match=text):
        frames(network, arrays, [0], "f")


def test_integers_out_of_range_are_refused(network):
    with pytest.raises(InputError, match=r"f: input .x.: integers must be -128..127, got 128..128 \(image 0\)"):
        frames(network, {"x": np.full((2, 4, 4), 128)}, [0], "f")


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_npz(tmp_path / "no.npz")
    with pytest.raises(InputError, match="not a file"):
        read_npz(tmp_path)
    (tmp_path / "text.npz").write_text("labels")
    with pytest.raises(InputError, match=r"not an \.npz file"):
        read_npz(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="nameless"):
        read_npz(tmp_path / "one.npy")
    np.savez(tmp_path / "objects.npz", x=np.array([object()]))
    with pytest.raises(InputError, match="objects"):
        read_npz(tmp_path / "objects.npz")
    whole = io.BytesIO()
    np.savez(whole, x=np.zeros(1000))
    (tmp_path / "cut.npz").write_bytes(whole.getvalue()[:200])
    with pytest.raises(InputError, match=r"cut\.npz"):
        read_npz(tmp_path / "cut.npz")


def test_outputs_hold_integers_and_floats_in_onnx_layout(network):
    results = [evaluate(network, frame) for frame in random_frames(network, 8, 3)]
    data = np.load(io.BytesIO(outputs_npz(network, results)))
    assert set(data.files) == {"y", "y__float"}
    assert data["y"].shape == (3, 2, 2, 2) and np.array_equal(data["y"][1], results[1]["y"])
    assert np.array_equal(data["y__float"], data["y"] * np.float32(0.25))


def test_an_output_that_was_not_written_is_left_out(network):
    assert np.load(io.BytesIO(outputs_npz(network, [{}]))).files == []


def test_a_network_survives_its_journey_through_json(network):
    again = network_from_json(json.loads(json.dumps(network_to_json(network))))
    frame = random_frames(network, 21)[0]
    before, after = evaluate(network, frame), evaluate(again, frame)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert again.tensors == network.tensors and again.onnx_shapes == network.onnx_shapes
    assert [op.proof for op in again.ops] == [op.proof for op in network.ops]


@pytest.mark.parametrize("damage", ["tensors", "ops", "inputs"])
def test_a_damaged_network_is_refused(network, damage):
    data = network_to_json(network)
    del data[damage]
    with pytest.raises(NetworkDataError, match=r"i\.elf: .*compile it again"):
        network_from_json(data, "i.elf")
