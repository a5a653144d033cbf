# SPDX-License-Identifier: Apache-2.0
"""The networks of the zoo: are they what the papers describe, and is every layer alive on images it has not seen?"""

import hashlib
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.ir.topology import topology
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress import zoo
from nncosim.regress.zoo.__main__ import main
from nncosim.regress.zoo.alive import dead_layers
from nncosim.regress.zoo.images import images
from nncosim.tb.report.published import is_of
from nncosim.tb.run.inputs import frames
from onnx import numpy_helper

NAMES = ("mobilenet_v1", "mobilenet_v2", "segmentation")
SEED = 2
"""Of the images here."""


@cache
def network(name):
    return prove(import_model(zoo.build(name)))


@cache
def tensors(name, index=0):
    net = network(name)
    (frame,) = frames(net, zoo.sample_inputs(name, SEED, 2), [index], "sample")
    return evaluate(net, frame)


def initializers(name):
    return {i.name: numpy_helper.to_array(i) for i in zoo.build(name).graph.initializer}


# --- topology: counted anew from the papers' tables, not from the zoo's own lists ---------------------------------


def separable(pixels, rows):
    """MACs of depthwise separable blocks given as (input channels, output channels, stride); pixels of the input."""
    total = 0
    for channels, out, stride in rows:
        pixels //= stride * stride
        total += pixels * channels * 9 + pixels * channels * out
    return total


def v1_rows(halved):
    """Howard et al., table 1."""
    rows = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    rows += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]
    return [(a // 2, b // 2, s) for a, b, s in rows] if halved else rows


def v1_macs():
    stem = 96 * 128 * 27 * 32
    return stem + separable(96 * 128, v1_rows(False)) + 1024 * 1000


def v2_macs():
    """Sandler et al., table 2: (expansion, channels, repetitions, stride)."""
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    pixels, channels = 96 * 128, 32
    total = pixels * 27 * channels
    for expansion, out, repetitions, stride in table:
        for n in range(repetitions):
            wide, step = channels * expansion, stride if n == 0 else 1
            total += pixels * channels * wide if expansion > 1 else 0
            pixels //= step * step
            total += pixels * wide * 9 + pixels * wide * out
            channels = out
    return total + pixels * 320 * 1280 + 1280 * 1000


def segmentation_macs():
    stem = 192 * 256 * 27 * 16
    laterals = sum((384 // s) * (512 // s) * channels * 96 for s, channels in ((4, 64), (8, 128), (16, 256), (32, 512)))
    head = 96 * 128 * (96 * 9 + 96 * 96 + 96 * 19)
    return stem + separable(192 * 256, v1_rows(True)) + laterals + head


MACS = {
    "mobilenet_v1": (v1_macs, 557_154_304, 557.15e6), "mobilenet_v2": (v2_macs, 294_662_144, 294.7e6),
    "segmentation": (segmentation_macs, 871_612_416, 871.6e6),
}  # fmt: skip
WEIGHTS = {"mobilenet_v1": 4_209_088, "mobilenet_v2": 3_469_760, "segmentation": 911_712}


@pytest.mark.parametrize("name", NAMES)
def test_macs(name):
    counted, exact, published = MACS[name]
    net, total = network(name), 0
    for op in net.ops:
        if isinstance(op, Conv):
            _, height, width = net.tensors[op.output].shape
            total += op.weights.size * height * width
    assert total == counted() == exact == zoo.NETWORKS[name].macs
    assert abs(total / published - 1) < 2e-4


ROWS = {
    "mobilenet_v1": "MobileNetV1 256x192", "mobilenet_v2": "MobileNetV2 256x192",
    "segmentation": "MobileNetV1-0.5 FPN 512x384",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_row_of_the_published_table(name):
    """And of one only: what is measured of it stands beside that row's figures."""
    own = [figure for figure in PLATFORM.published if is_of(figure, topology(network(name)))]
    assert [figure.network for figure in own] == [ROWS[name]] * 2
    assert {figure.unit for figure in own} == {"cycles", "MAC/cycle"}


def test_a_trained_file_of_the_same_topology_is_that_row_too():
    """Other weights, normalisation and biases, and other scales of the weights' channels."""
    model, rng = zoo.build("segmentation"), np.random.default_rng(3)
    for one in model.graph.initializer:
        array = numpy_helper.to_array(one)
        if array.size > 8 and array.dtype == np.float32:  # not the factors of a Resize
            other = rng.permutation(array.ravel()).reshape(array.shape) * np.float32(0.83)
            one.CopyFrom(numpy_helper.from_array(other, one.name))
    trained = import_model(model)
    assert not np.array_equal(trained.ops[0].weights, network("segmentation").ops[0].weights)
    assert topology(trained) == topology(network("segmentation"))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_int8_and_use_their_range(name):
    weights = [op.weights for op in network(name).ops if isinstance(op, Conv)]
    assert sum(w.size for w in weights) == WEIGHTS[name]
    for w in weights:
        peaks = np.abs(w).reshape(len(w), -1).max(axis=1)
        assert (peaks == 127).all(), "the scale of each channel is that of its largest weight"


def test_the_segmentation_model_is_under_4_megabytes():
    """As integers: a byte a weight; bias, multiplier and shift of a channel take 16 at most."""
    net = network("segmentation")
    channels = sum(len(op.function.offset) for op in net.ops if op.function is not None)
    assert WEIGHTS["segmentation"] + 16 * channels < 4_000_000


SHAPES = {
    "mobilenet_v1": ((3, 192, 256), (1000, 1, 1)), "mobilenet_v2": ((3, 192, 256), (1000, 1, 1)),
    "segmentation": ((3, 384, 512), (19, 96, 128)),
}  # fmt: skip
NODES = {
    "mobilenet_v1": {"Conv": 27, "BatchNormalization": 27, "Relu": 27, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    "mobilenet_v2": {"Conv": 52, "Clip": 35, "Add": 10, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    "segmentation": {"Conv": 34, "BatchNormalization": 34, "Relu": 29, "Add": 3, "Resize": 3},
}


@pytest.mark.parametrize("name", NAMES)
def test_nodes_and_quants(name):
    model = zoo.build(name)
    onnx.checker.check_model(model)
    kinds = Counter(node.op_type for node in model.graph.node)
    quants = kinds.pop("Quant")
    assert kinds == NODES[name]
    convolutions, copies = kinds["Conv"] + kinds["Gemm"], kinds["Add"] + kinds["GlobalAveragePool"]
    assert quants == 1 + 2 * convolutions + copies  # of the input, of weights and results
    net = network(name)
    assert (net.tensors["image"].shape, net.tensors["logits"].shape) == SHAPES[name]
    assert net.inputs == ("image",) and net.outputs == ("logits",)


@pytest.mark.parametrize("name", NAMES)
def test_signs(name):
    """Unsigned behind a ReLU and what averages it, signed where there is none."""
    made_by = {node.output[0]: node for node in zoo.build(name).graph.node}
    net = network(name)
    for op in net.ops:
        node = made_by[net.tensors[op.output].name]
        if node.op_type == "Quant":
            before = made_by[node.input[0]].op_type
            assert net.tensors[op.output].type.signed == (before not in ("Relu", "Clip", "GlobalAveragePool")), op.name


@pytest.mark.parametrize("name", NAMES)
def test_all_requantization_is_exact(name):
    assert [op.name for op in network(name).ops if op.proof is not None and not op.proof.exact] == []


# --- alive ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("index", (0, 1))
def test_every_layer_is_alive_on_images_that_took_no_part_in_calibration(name, index):
    assert dead_layers(network(name), tensors(name, index)) == []


@pytest.mark.parametrize("name", NAMES)
def test_two_images_give_different_values_in_every_layer(name):
    first, second = tensors(name, 0), tensors(name, 1)
    for op in network(name).ops:
        assert np.mean(first[op.output] != second[op.output]) > 0.5, op.name


@pytest.mark.parametrize(("name", "layer"), [("mobilenet_v1", "pw5"), ("mobilenet_v2", "add13")])
@pytest.mark.parametrize("shift", (-3, 3))
def test_a_layer_with_a_wrong_scale_is_found(name, layer, shift):
    """Eight times too large: it saturates; eight times too small: few values are left."""
    net = network(name)

    def spoilt(op):
        r = op.requant
        zero = np.zeros_like(r.c) if shift > 0 else r.c
        return replace(op, requant=MultiplyShift(r.m, zero, r.s + shift, r.lo, r.hi, r.rounding))

    wrong = net.with_ops(tuple(spoilt(op) if op.name == layer else op for op in net.ops))
    found = dead_layers(wrong, evaluate(wrong, {"image": tensors(name)["image"]}))
    assert found and found[0].startswith(f"{layer} ("), found


# --- the files ----------------------------------------------------------------------------------------------------

DIGESTS = {"mobilenet_v1": "539c6a396665bd7a", "mobilenet_v2": "d121c244baa2bac2", "segmentation": "bfb5e74ce9b28398"}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_on_every_machine(name):
    """SHA-256 over all constants, by name."""
    digest = hashlib.sha256()
    for key, value in sorted(initializers(name).items()):
        digest.update(key.encode() + value.tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[name]


def test_a_second_build_gives_the_same_bytes():
    description = zoo.NETWORKS["segmentation"]
    again = description.build(description.seed).SerializeToString(deterministic=True)
    assert again == zoo.model_path("segmentation").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_sample_images_are_not_the_calibration_images(name):
    d = zoo.NETWORKS[name]
    used = images(d.seed, 8, d.height, d.width)
    samples = zoo.sample_inputs(name, d.seed, 2)["image"] * (64 if d.signed else 255) + (128 if d.signed else 0)
    for sample in np.rint(samples).astype(np.uint8):
        assert min(np.mean(sample != image) for image in used) > 0.9


def test_sample_images_have_areas_and_edges():
    """Unlike noise: neighbours are mostly alike, and some differ much."""
    image = images(7, 1, 192, 256)[0].astype(np.int64)
    steps = np.abs(np.diff(image, axis=2))
    assert np.median(steps) <= 6 and (steps > 30).mean() > 0.002
    assert image.std() > 25 and len(np.unique(image)) > 150


def test_inputs_reach_the_network_as_they_are():
    for name in NAMES:
        d = zoo.NETWORKS[name]
        values = tensors(name)["image"] + (128 if d.signed else 0)
        assert np.array_equal(values, images(SEED, 1, d.height, d.width, first=1000)[0])


def test_the_command_writes_model_and_images(tmp_path):
    out, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    arguments = ["mobilenet_v2", "--out", str(out), "--images", str(data), "--count", "3", "--seed", str(SEED)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and "294,662,144 MAC" in done.output
    assert out.read_bytes() == zoo.model_path("mobilenet_v2").read_bytes()
    with np.load(data) as arrays:
        assert arrays["image"].shape == (3, 3, 192, 256)
    assert CliRunner().invoke(main, ["resnet", "--out", str(out)]).exit_code == 2


# --- another meaning of the same file -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param("mobilenet_v1", marks=pytest.mark.slow), *NAMES[1:]])
def test_the_qonnx_executor_gives_the_same(name):
    """Float32, by nobody of us: all values that differ lie within its error of a rounding threshold."""
    image = {"image": zoo.sample_inputs(name, SEED, 1)["image"]}
    report = compare_with_qonnx(zoo.build(name), network(name), [image])
    assert report.ok and report.values > 1e6
    assert report.float_differences < 1e-4 * report.values
    # From the image on, what one rounding tips reaches every output: random weights damp nothing.
    assert report.outputs == network(name).tensors["logits"].elements
    assert 0.5 * report.outputs < report.output_differences < 0.9 * report.outputs
