# SPDX-License-Identifier: Apache-2.0
"""The comparison finds every planted error, names the first wrong element, and never passes what it did not see."""

import numpy as np
import pytest
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.tb.backend import Frame
from nncosim.tb.reference.compare import Comparison, compare_frames, compare_tensor
from nncosim.tb.run.inputs import random_frames
from small_network import small_network


@pytest.fixture
def network():
    return small_network()


@pytest.fixture
def reference(network):
    return tuple(evaluate(network, frame) for frame in random_frames(network, 11, 2))


def copies(reference):
    """Inferences as a bench gives them: everything as it was written, `b` and the output in memory, the input."""
    out = []
    for frame in reference:
        made, kept, given = ({n: frame[n].copy() for n in names} for names in ("aby", "by", "x"))
        out.append(Frame(1, made, (), memory=kept, loaded=given))
    return out


def both(frame, tensor):
    """Each array that a frame has of a tensor."""
    return [held[tensor] for held in (frame.tensors, frame.memory, frame.loaded) if tensor in held]


def test_equal_tensors_are_exact(network, reference):
    found = compare_frames(network, reference, tuple(copies(reference)))
    assert found.bit_exact and found.first is None
    assert [t.tensor for t in found.tensors] == ["a", "b", "y"] * 2
    assert [t.from_memory for t in found.tensors] == [False, True, True] * 2 and found.from_memory == 4
    assert found.elements == 2 * (2 * 32 + 8), "inputs are no results"
    assert [t.tensor for t in found.inputs] == ["x"] * 2


@pytest.mark.parametrize("tensor", ["x", "a", "b", "y"])
@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_found(network, reference, tensor, frame, bit):
    rng = np.random.default_rng([frame, bit])
    got = copies(reference)
    index = tuple(int(rng.integers(n)) for n in reference[frame][tensor].shape)
    for array in both(got[frame], tensor):
        array[index] ^= 1 << bit
    found = compare_frames(network, reference, tuple(got))
    assert not found.bit_exact
    first = found.first
    assert (first.tensor, first.frame, first.index) == (tensor, frame, index)
    assert first.expected == reference[frame][tensor][index] and first.got == both(got[frame], tensor)[0][index]
    assert sum(t.wrong for t in (*found.inputs, *found.tensors)) == 1


@pytest.mark.parametrize("spoilt", ["memory", "tensors"])
@pytest.mark.parametrize("tensor", ["b", "y"])
def test_memory_and_what_was_written_are_both_compared(network, reference, tensor, spoilt):
    got = copies(reference)
    getattr(got[1], spoilt)[tensor][0, 0, 0] ^= 3
    found = compare_frames(network, reference, tuple(got))
    first, right = found.first, int(reference[1][tensor][0, 0, 0])
    assert (first.tensor, first.frame, first.index, first.expected) == (tensor, 1, (0, 0, 0), right)
    written, there = (right ^ 3, right) if spoilt == "tensors" else (right, right ^ 3)
    assert first.got == there and first.note == f"in memory, but {written} was written"
    getattr(got[1], spoilt)[tensor][:] = 99
    note = compare_frames(network, reference, tuple(got)).first.note
    assert "memory holds something else than was written in" in note


def test_an_output_that_was_not_read_from_memory_is_wrong(network, reference):
    got = copies(reference)
    del got[0].memory["b"]
    assert compare_frames(network, reference, tuple(got)).bit_exact, "no output: another tensor may lie over it"
    del got[0].memory["y"]
    found = compare_frames(network, reference, tuple(got))
    assert (found.first.tensor, found.first.note) == ("y", "never read back from memory")


def test_an_input_that_is_wrong_at_the_end_only_is_told(network, reference):
    got = copies(reference)
    got[0].memory["x"] = reference[0]["x"] ^ 1
    found = compare_frames(network, reference, tuple(got))
    assert not found.bit_exact and "graph input, as it lies in memory at the end" in found.first.note


def test_the_first_is_the_first_in_layer_order_and_in_the_tensor(network, reference):
    got = copies(reference)
    for array in both(got[0], "y"):
        array += 1
    got[0].tensors["a"][1, 2, 3] += 5
    got[0].tensors["a"][1, 3, 0] -= 7
    found = compare_frames(network, reference, tuple(got))
    assert (found.first.tensor, found.first.index) == ("a", (1, 2, 3))
    assert found.first.got == found.first.expected + 5
    wrong = {t.tensor: (t.wrong, t.max_difference) for t in found.tensors if not t.exact}
    assert wrong == {"a": (2, 7), "y": (8, 1)}
    assert [t.op for t in found.of_op("conv")] == ["conv", "conv"]


def test_a_tensor_that_was_not_written_is_wrong(network, reference):
    got = copies(reference)
    del got[0].tensors["b"]
    found = compare_frames(network, reference, tuple(got))
    assert not found.bit_exact
    assert (found.first.tensor, found.first.got, found.first.note) == ("b", None, "never written")


def test_an_inference_that_did_not_run_is_wrong(network, reference):
    found = compare_frames(network, reference, tuple(copies(reference)[:1]))
    assert not found.bit_exact and found.first.frame == 1 and found.first.tensor == "a"


def test_an_uncaptured_input_is_no_error(network, reference):
    got = copies(reference)
    for frame in got:
        del frame.loaded["x"]
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
