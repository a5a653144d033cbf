# SPDX-License-Identifier: Apache-2.0
"""The comparison finds every planted error, names the first wrong element, and never passes what it did not see."""

import numpy as np
import pytest
from nncosim.compiler.evaluate import evaluate
from nncosim.tb.compare import Comparison, compare_frames, compare_tensor
from nncosim.tb.inputs import random_frames
from small_network import small_network


@pytest.fixture
def network():
    return small_network()


@pytest.fixture
def reference(network):
    return tuple(evaluate(network, frame) for frame in random_frames(network, 11, 2))


def copies(reference):
    return [{name: array.copy() for name, array in frame.items()} for frame in reference]


def test_equal_tensors_are_exact(network, reference):
    found = compare_frames(network, reference, tuple(copies(reference)))
    assert found.bit_exact and found.first is None
    assert [t.tensor for t in found.tensors] == ["x", "a", "b", "y"] * 2
    assert found.elements == 2 * (3 * 32 + 8)


@pytest.mark.parametrize("tensor", ["x", "a", "b", "y"])
@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_found(network, reference, tensor, frame, bit):
    rng = np.random.default_rng([frame, bit])
    got = copies(reference)
    index = tuple(int(rng.integers(n)) for n in got[frame][tensor].shape)
    got[frame][tensor][index] ^= 1 << bit
    found = compare_frames(network, reference, tuple(got))
    assert not found.bit_exact
    first = found.first
    assert (first.tensor, first.frame, first.index) == (tensor, frame, index)
    assert first.expected == reference[frame][tensor][index] and first.got == got[frame][tensor][index]
    assert sum(t.wrong for t in found.tensors) == 1


def test_the_first_is_the_first_in_layer_order_and_in_the_tensor(network, reference):
    got = copies(reference)
    got[0]["y"] += 1
    got[0]["a"][1, 2, 3] += 5
    got[0]["a"][1, 3, 0] -= 7
    found = compare_frames(network, reference, tuple(got))
    assert (found.first.tensor, found.first.index) == ("a", (1, 2, 3))
    assert found.first.got == found.first.expected + 5
    wrong = {t.tensor: (t.wrong, t.max_difference) for t in found.tensors if not t.exact}
    assert wrong == {"a": (2, 7), "y": (8, 1)}
    assert [t.op for t in found.of_op("conv")] == ["conv", "conv"]


def test_a_tensor_that_was_not_written_is_wrong(network, reference):
    got = copies(reference)
    del got[0]["b"]
    found = compare_frames(network, reference, tuple(got))
    assert not found.bit_exact
    assert (found.first.tensor, found.first.got, found.first.note) == ("b", None, "never written")


def test_an_inference_that_did_not_run_is_wrong(network, reference):
    found = compare_frames(network, reference, tuple(copies(reference)[:1]))
    assert not found.bit_exact and found.first.frame == 1 and found.first.tensor == "a"


def test_an_uncaptured_input_is_no_error(network, reference):
    got = copies(reference)
    for frame in got:
        del frame["x"]
    assert compare_frames(network, reference, tuple(got)).bit_exact


@pytest.mark.parametrize(
    ("got", "note"),
    [
        (np.zeros((2, 4, 3), dtype=np.int8), "shape"),
        (np.zeros((2, 4, 4), dtype=np.float32), "float32"),
        (np.zeros((1, 2, 4, 4), dtype=np.int8), "shape"),
    ],
)
def test_wrong_shape_and_type_make_every_element_wrong(got, note):
    found = compare_tensor("t", np.zeros((2, 4, 4), dtype=np.int64), got)
    assert found.wrong == 32 and note in found.first.note


def test_narrow_types_are_compared_by_value():
    expected = np.array([[[-128, 127, -1]]])
    assert compare_tensor("t", expected, expected.astype(np.int8)).exact
    # the same bytes read as unsigned are other numbers
    assert compare_tensor("t", expected, expected.astype(np.uint8)).wrong == 2


def test_a_comparison_of_nothing_is_not_exact():
    assert not Comparison(()).bit_exact
