# SPDX-License-Identifier: Apache-2.0
"""The shipped digits network: is it what its README says, and does it classify as well as it says?

Nothing of the training script is used here: the split and the accuracy are computed anew.
"""

from collections import Counter
from importlib.resources import files

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FOLDER = files("nncosim.regress.networks")
RIGHT, IMAGES = 448, 450  # the figure in the README: 99.56 %
COMPUTE = [
    "Conv", "BatchNormalization", "Relu", "MaxPool", "Conv", "BatchNormalization", "Relu", "Conv", "Add",
    "Conv", "Relu", "AveragePool", "Trunc", "Flatten", "Gemm",
]  # fmt: skip
NOT_YET_QUANTISED = ("Conv", "BatchNormalization", "Relu", "Add", "Gemm", "AveragePool")  # by their outputs


@pytest.fixture(scope="module")
def proto():
    return onnx.load(str(FOLDER / "digits.onnx"))


@pytest.fixture(scope="module")
def constants(proto):
    return {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}


@pytest.fixture(scope="module")
def split():
    with np.load(str(FOLDER / "digits_test.npz")) as data:
        return dict(data)


@pytest.fixture(scope="module")
def logits(proto, split):
    """(450, 10): the shipped model, as it is, on each image of the split."""
    return run(proto, split["image"])


def run(proto, images):
    model = ModelWrapper(proto)
    return np.concatenate([execute_onnx(model, {"image": i[np.newaxis]})["logits"] for i in images])


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def quants(proto, constants):
    """Per Quant node (data, shape of scale, bits, signed, narrow); data: "weights" or "activations"."""
    for node in proto.graph.node:
        if node.op_type == "Quant":
            kind = "weights" if node.input[0] in constants else "activations"
            a, bits = attributes(node), int(constants[node.input[3]])
            yield kind, constants[node.input[1]].shape, bits, a["signed"], a["narrow"]


def test_accuracy_on_the_whole_split(logits, split):
    right = int((logits.argmax(axis=1) == split["labels"]).sum())
    assert right / IMAGES >= 0.97
    assert right == RIGHT, "the README's figure"


def test_a_damaged_network_fails_the_accuracy_test(proto, split):
    damaged = onnx.ModelProto.FromString(proto.SerializeToString())
    first = next(n for n in damaged.graph.node if n.op_type == "Conv")
    quant = next(n for n in damaged.graph.node if first.input[1] in n.output)
    weights = next(i for i in damaged.graph.initializer if i.name == quant.input[0])
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    predictions = run(damaged, split["image"][:60]).argmax(axis=1)
    assert (predictions == split["labels"][:60]).mean() < 0.9


def test_predictions_do_not_hang_on_one_lsb(proto, constants, logits):
    """A clipped logit shows no wrong bit and a tie no digit: few of the one, none of the other."""
    scale = constants[proto.graph.node[-1].input[1]]
    integers = np.rint(logits / scale).astype(int)
    assert np.array_equal(integers.astype(np.float32) * scale, logits)
    assert np.mean((integers == 127) | (integers == -128)) < 0.01
    assert len(np.unique(integers)) > 200
    ranked = np.sort(integers, axis=1)
    assert (ranked[:, -1] - ranked[:, -2]).min() >= 3


def test_split_is_the_seeded_quarter_of_sklearns_digits(split):
    data = load_digits()
    train, test = train_test_split(np.arange(1797), test_size=0.25, random_state=2026, stratify=data.target)
    assert len(train) == 1347 and not set(train) & set(test)
    assert np.array_equal(split["image"], data.images[test][:, np.newaxis].astype(np.float32))
    assert np.array_equal(split["labels"], data.target[test])


def test_split_is_named_and_shaped_as_the_graph(proto, split):
    assert {k: (v.shape, v.dtype) for k, v in split.items()} == {
        "image": ((IMAGES, 1, 8, 8), np.float32),
        "labels": ((IMAGES,), np.int64),
    }
    ports = [*proto.graph.input, *proto.graph.output]
    shapes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in ports}
    assert shapes == {"image": [1, 1, 8, 8], "logits": [1, 10]}


def test_files_are_small_and_opsets_as_documented(proto):
    assert len((FOLDER / "digits.onnx").read_bytes()) < 150_000
    assert len((FOLDER / "digits_test.npz").read_bytes()) < 50_000
    assert {o.domain: o.version for o in proto.opset_import} == {"": 17, "qonnx.custom_op.general": 2}
    assert not any(n.doc_string or n.metadata_props for n in proto.graph.node)


def test_operators_in_order(proto):
    assert [n.op_type for n in proto.graph.node if n.op_type != "Quant"] == COMPUTE
    groups = [attributes(n)["group"] for n in proto.graph.node if n.op_type == "Conv"]
    assert groups == [1, 24, 1, 1], "the second convolution is depthwise"


def test_quantisers(proto, constants):
    assert Counter(quants(proto, constants)) == Counter(
        {
            ("weights", (24, 1, 1, 1), 8, 1, 1): 2,  # first and depthwise convolution: per channel
            ("weights", (40, 1, 1, 1), 8, 1, 1): 1,
            ("weights", (), 8, 1, 1): 2,  # pointwise, fully connected: per tensor
            ("weights", (40,), 32, 1, 0): 1,  # the Int32 bias
            ("activations", (), 8, 0, 0): 4,  # input, and after each ReLU
            ("activations", (), 8, 1, 0): 3,  # pointwise, sum, logits
        }
    )


def test_no_float_between_quantised_operators(proto):
    """Every chain of computing nodes that starts at a quantised tensor ends in a Quant or Trunc."""
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    for node in proto.graph.node:
        if node.op_type in NOT_YET_QUANTISED:
            follower = consumers[node.output[0]]
            assert len(follower) == 1, node.name
            assert follower[0].op_type in ("BatchNormalization", "Relu", "Quant", "Trunc"), node.name


def test_the_sum_has_two_quantised_inputs_of_unequal_scale(proto, constants):
    maker = {n.output[0]: n for n in proto.graph.node}
    add = next(n for n in proto.graph.node if n.op_type == "Add")
    branches = [maker[name] for name in add.input]
    branches = [maker[b.input[0]] if b.op_type == "MaxPool" else b for b in branches]
    assert [b.op_type for b in branches] == ["Quant", "Quant"]
    assert sorted(attributes(b)["signed"] for b in branches) == [0, 1]
    assert constants[branches[0].input[1]] != constants[branches[1].input[1]]
