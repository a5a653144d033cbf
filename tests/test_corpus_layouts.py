# SPDX-License-Identifier: Apache-2.0
"""Channels last, transpositions around layers, DepthToSpace and SpaceToDepth: a layout is not the user's problem."""

import io
import json

import numpy as np
import onnx
import pytest
from command_line import runner
from corpus_check import annotate, bytes_image, executor, imported, outputs, refused, same
from models import Graph
from nncosim.compiler.frontend import import_details, moved, quantise_input
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference
from nncosim.tb.run.inputs import outputs_npz
from nncosim.tb.run.network_json import network_from_json, network_to_json

LAST = "qonnx.custom_op.channels_last"
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def turned(g, x, perm, name=""):
    return g.node("Transpose", [x], perm=perm, name=name)


def conv_last(g, x, c_in, c_out, kernel, name, size=(1, 6, 7), bias=False):
    """A Conv of qonnx's channels-last domain, with its kernel (O, H, W, C)."""
    w = turned(g, g.weights((c_out, c_in, kernel, kernel)), TO_LAST)
    pad = kernel // 2
    g.shapes = getattr(g, "shapes", {}) | {x: (*size, c_in), name: (*size, c_out), w: (c_out, kernel, kernel, c_in)}
    return g.node("Conv", [x, w, *([g.bias(c_out)] if bias else [])], name=name, domain=LAST, kernel_shape=[kernel] * 2,
                  strides=[1, 1], dilations=[1, 1], pads=[pad] * 4, group=1)  # fmt: skip


def shaped(g, y):
    """The model with the shapes that files with these operators have in them, and without which qonnx runs none."""
    model = g.model(y)
    for name, shape in g.shapes.items():
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    model.opset_import.append(onnx.helper.make_opsetid(LAST, 13))
    return model


def keras(seed=0):
    """NHWC input and output; each Conv between two Transposes, elements and a residual sum in NHWC: Keras exports."""
    g = Graph((1, 6, 7, 3), seed=seed)
    x = g.quant("x", 0.05, name="x_q")
    a = turned(g, g.conv(turned(g, x, TO_FIRST), 3, 8, 3, name="conv0"), TO_LAST)
    a = g.quant(g.relu(g.node("Add", [a, g.constant(g.rng.standard_normal((1, 1, 1, 8)))])), 0.1, signed=0, name="a")
    b = turned(g, g.conv(turned(g, a, TO_FIRST), 8, 8, 3, bias=None, name="conv1"), TO_LAST)
    b = g.quant(g.node("Mul", [b, g.constant(g.rng.uniform(0.5, 2, 8))]), 0.8, name="b")
    both = g.node("Concat", [g.quant(g.node("Add", [a, b]), 0.79, name="sum"), g.quant(a, 0.79)], axis=3)
    pooled = turned(g, g.node("MaxPool", [turned(g, both, TO_FIRST)], kernel_shape=[2, 2], strides=[1, 1]), TO_LAST)
    return g.model(g.node("Identity", [pooled], name="y"))


def channels_last(norm=False, seed=0):
    """The same with qonnx's channels-last operators, and none of its Transposes on activations."""
    g = Graph((1, 6, 7, 3), seed=seed)
    a = conv_last(g, g.quant("x", 0.05, name="x_q"), 3, 8, 3, "conv0")
    numbers = (g.rng.uniform(0.5, 2, 8), *g.rng.standard_normal((2, 8)), g.rng.uniform(0.5, 2, 8))
    parameters = [g.constant(p) for p in numbers]
    if norm:
        a = g.node("BatchNormalization", [a, *parameters], name="norm", domain=LAST, epsilon=1e-5)
    a = g.quant(g.relu(a), 0.08, signed=0, name="a")
    a = g.node("MaxPool", [a], name="pool", domain=LAST, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    g.shapes |= {"a": (1, 6, 7, 8)}
    return shaped(g, g.quant(conv_last(g, a, 8, 5, 1, "conv1", (1, 3, 3)), 0.3, name="y"))


def flattened(seed=0):
    """A Conv, its NHWC map flattened, and a Gemm on that order."""
    g = Graph((1, 5, 4, 3), seed=seed)
    a = g.quant(g.conv(turned(g, g.quant("x", 0.05), TO_FIRST), 3, 6, 3, name="conv"), 0.3, name="a")
    a = g.node("Reshape", [turned(g, a, TO_LAST), g.constant([1, -1], dtype=np.int64)])
    weights = g.weights((5 * 4 * 6, 7), axis=1)
    return g.model(g.quant(g.node("MatMul", [a, weights], name="fc"), 3.0, name="y"))


def pooled(keep):
    g = Graph((1, 5, 4, 3), seed=3)
    a = g.conv(turned(g, g.quant("x", 0.05), TO_FIRST), 3, 12, 3, name="conv")
    a = g.quant(turned(g, a, TO_LAST), 0.3, name="a")
    a = g.quant(g.node("ReduceMean", [a], axes=[1, 2], keepdims=keep, name="mean"), 0.05, name="m")
    a = g.node("Reshape", [a, g.constant([1, 12], dtype=np.int64)])
    return g.model(g.quant(g.gemm(a, 12, 9), 0.5, name="y"))


MODELS = {"keras": keras, "channels last": channels_last, "flattened": flattened, "mean": lambda: pooled(0),
          "mean kept": lambda: pooled(1)}  # fmt: skip


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_channels_last(build):
    """User's arrays in the graph's own shapes; layer by layer against two other evaluations of the graph as written."""
    model = build()
    network = imported(model)
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    assert network.onnx_shapes["x"] == shape and network.tensors["x"].shape == (shape[3], *shape[1:3])
    for seed in range(2):
        image = {"x": np.random.default_rng(seed).normal(0, 2.2, shape).astype(np.float32)}
        same(model, network, image)
        same(model, network_from_json(json.loads(json.dumps(network_to_json(network)))), image)
    images = random_images(network, 2, 0)
    assert images[0]["x"].shape == shape
    assert compare_with_qonnx(model, network, images).ok
    assert compare_with_reference(OnnxReference(model), network, import_details(model).onnx_names, images).ok


def test_a_batch_normalization_channels_last():
    """Against the evaluator of the project alone: qonnx 1.0 gives this node to onnxruntime as one of opset 1."""
    model = channels_last(norm=True)
    network = imported(model)
    images = random_images(network, 2, 0)
    report = compare_with_reference(OnnxReference(model), network, import_details(model).onnx_names, images)
    assert report.ok and not report.output_differences and report.outputs == 90
    other = OnnxReference(channels_last())
    assert not compare_with_reference(other, network, import_details(model).onnx_names, images).ok


def test_integer_arrays_and_output_files_have_the_graphs_shape():
    model = keras()
    network = imported(model)
    image = {"x": np.random.default_rng(0).normal(0, 2.2, (1, 6, 7, 3)).astype(np.float32)}
    steps = np.clip(np.rint(image["x"] / np.float32(0.05)), -128, 127).astype(np.int64)
    found = quantise_input(network, "x", steps)
    assert (found == quantise_input(network, "x", image["x"])).all() and (found == steps[0].transpose(2, 0, 1)).all()
    result = evaluate(network, {"x": found})["y"]
    file = np.load(io.BytesIO(outputs_npz(network, [{"y": result}])))
    assert file["y"].shape == (1, 5, 6, 16) and (file["y__float"] == outputs(network, image)["y"]).all()
    assert (file["y"].astype(np.float32) * np.float32(0.79) == file["y__float"]).all()


def test_a_float_input_is_transposed_and_normalised_by_the_host():
    g = Graph((1, 6, 7, 3), seed=2)
    x = g.node("Div", [g.node("Sub", ["x", g.constant([124, 116, 104])]), g.constant([58, 57, 57.5])])
    y = g.conv(g.quant(turned(g, x, TO_FIRST), 0.02, name="x_q"), 3, 8, 3, name="conv")
    model = g.model(g.quant(y, 0.05, name="y"))
    network = imported(model)
    assert [s.op for s in network.input_steps["x"]] == ["Sub", "Div", "Transpose"] and len(network.ops) == 1
    same(model, network, {"x": bytes_image((1, 6, 7, 3))})


@pytest.mark.parametrize("domain", [True, False])
def test_bytes_channels_last(domain):
    """An annotated NHWC input into the first layer: a relabelled input, folded arithmetic."""
    g = Graph((1, 6, 7, 3), seed=2)
    x = g.node("Mul", ["x", g.constant(1 / 255)])
    y = conv_last(g, x, 3, 8, 3, "conv") if domain else g.conv(turned(g, x, TO_FIRST), 3, 8, 3, name="conv", bias=None)
    y = g.quant(y, 0.02, name="y")
    model = annotate(shaped(g, y) if domain else g.model(y), x="UINT8")
    network = imported(model)
    assert len(network.ops) == 1
    same(model, network, {"x": bytes_image((1, 6, 7, 3))})


def upscaled(mode, quant_first):
    g = Graph((1, 3, 5, 6), seed=4)
    y = g.conv(g.quant("x", 0.05), 3, 8, 3, name="conv")
    y = g.quant(y, 0.3) if quant_first else y
    y = g.node("DepthToSpace", [y], blocksize=2, mode=mode, name="d2s")
    return g.model(y if quant_first else g.quant(y, 0.3, name="y"))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("quant_first", [True, False])
def test_depth_to_space_at_the_end(mode, quant_first):
    model = upscaled(mode, quant_first)
    network = imported(model)
    shape = network.onnx_shapes[network.outputs[0]]
    assert shape == (1, 2, 10, 12) and len(network.ops) == 1
    same(model, network, {"x": np.random.default_rng(0).normal(0, 2.2, (1, 3, 5, 6)).astype(np.float32)})
    images = random_images(network, 2, 0)
    assert compare_with_qonnx(model, network, images).ok
    assert compare_with_reference(OnnxReference(model), network, import_details(model).onnx_names, images).ok


def test_space_to_depth_at_the_start_and_pixel_shuffle_spelled_out():
    g = Graph((1, 3, 8, 6), seed=5)
    x = g.quant(g.node("SpaceToDepth", ["x"], blocksize=2), 0.05)
    y = g.quant(g.conv(x, 12, 8, 3, name="conv"), 0.5, name="q")
    y = g.node("Reshape", [y, g.constant([1, 2, 2, 2, 4, 3], dtype=np.int64)])
    y = g.node("Reshape", [turned(g, y, [0, 1, 4, 2, 5, 3]), g.constant([1, 2, 8, 6], dtype=np.int64)], name="y")
    model = g.model(y)
    same(model, imported(model), {"x": np.random.default_rng(0).normal(0, 2.2, (1, 3, 8, 6)).astype(np.float32)})


def test_what_would_have_to_be_moved_is_refused():
    g = Graph((1, 3, 6, 6), seed=6)
    a = g.quant(g.conv(g.quant("x", 0.05), 3, 8, 3, name="conv0"), 0.3)
    late = g.conv(g.node("DepthToSpace", [a], blocksize=2, name="d2s"), 2, 4, 3, name="conv1")
    why = r"DepthToSpace 'd2s': Conv 'conv1' would read \(1, 2, 12, 12\).*nothing here moves.*back"
    refused(g.model(g.quant(late)), why)
    g = Graph((1, 6, 6, 6), seed=6)
    a = g.quant(g.conv(g.quant("x", 0.05), 6, 6, 3, name="conv0"), 0.3)
    late = g.conv(turned(g, a, [0, 2, 3, 1], "t"), 6, 6, name="conv1")
    refused(g.model(g.quant(late)), r"Transpose 't': Conv 'conv1' would read")
    g = Graph((1, 6, 6, 6), seed=6)
    a = g.quant(g.conv(g.quant("x", 0.05), 6, 6, 3, name="conv0"), 0.3)
    total = g.node("Add", [a, turned(g, a, [0, 2, 3, 1])], name="add")
    refused(g.model(g.quant(total)), r"Add 'add': .*different layouts")
    g = Graph((1, 6, 6, 6), seed=6)
    x = g.quant("x", 0.05)
    both = g.conv(x, 6, 6, 3, name="plain"), g.conv(turned(g, x, TO_FIRST), 6, 6, 3, name="turned")
    refused(g.model(g.quant(both[0]), g.quant(both[1])), r"graph input 'x': it is used in two layouts")
    g = Graph((4, 6), seed=6)
    refused(g.model(g.quant(turned(g, g.quant("x", 0.05), [1, 0], "t"))), r"Transpose 't': .*moves the batch")


def test_a_wrong_order_is_seen(monkeypatch):
    """Planted errors: weights in the wrong order, and an output whose Transpose is forgotten."""
    monkeypatch.setattr(moved.np, "argsort", lambda a: np.arange(len(a)))
    with pytest.raises(AssertionError):
        test_channels_last(flattened)


def test_on_j3dai(tmp_path, capfd):
    command = runner(capfd)
    onnx.save(keras(), tmp_path / "m.onnx")
    image = np.random.default_rng(0).normal(0, 2.2, (1, 6, 7, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=image)
    given = (tmp_path / "m.onnx", "--backend", "iss", "--input", tmp_path / "x.npz")
    done = command("run", *given, "--out", tmp_path / "o")
    assert done.status == 0, done
    found = np.load(tmp_path / "o" / "outputs.npz")["y__float"]
    assert (found == executor(keras(), {"x": image})["y"]).mean() > 0.995
