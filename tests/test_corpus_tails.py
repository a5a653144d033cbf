# SPDX-License-Identifier: Apache-2.0
"""What the host does with a network's results: Softmax, ArgMax, TopK and their like at the end of a graph."""

import json

import numpy as np
import onnx
import pytest
from command_line import runner
from corpus_check import executor, imported, outputs, refused
from models import Graph
from nncosim.compiler.frontend import import_details
from nncosim.compiler.frontend.prepare import tail_of, with_forms
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference
from nncosim.tb.run.evaluate import accuracy
from nncosim.tb.run.flow import RunOptions
from nncosim.tb.run.program import compile_model
from onnx import TensorProto


def classifier(*tail, outputs=None, quantised=True, batch=1, shape=None):
    """Ten classes of a Gemm; then (operator, attributes, further constants), one after the other."""
    g = Graph((batch, 12), seed=1)
    y = g.gemm(g.quant("x", 0.05, name="x_q"), 12, 10, name="fc")
    y = g.quant(y, 0.02, name="logits") if quantised else y
    for op, attributes, constants in tail:
        more = [g.constant(c, dtype=np.int64) for c in constants]
        y = g.node(op, [y, *more], name=op.lower(), outputs=2 if op == "TopK" else 1, **attributes)
    model = g.model(*(outputs or [y]))
    for value in model.graph.output:
        integers = value.name in ("argmax", "topk.1") or (tail and tail[0][0] == "ArgMax")
        value.type.tensor_type.elem_type = TensorProto.INT64 if integers else TensorProto.FLOAT
    return model


TAILS = {
    "Softmax": (("Softmax", {"axis": 1}, ()),), "LogSoftmax": (("LogSoftmax", {"axis": 1}, ()),),
    "ArgMax": (("ArgMax", {"axis": 1, "keepdims": 0}, ()),), "Sigmoid": (("Sigmoid", {}, ()),),
    "HardSigmoid": (("HardSigmoid", {}, ()),), "TopK": (("TopK", {"axis": 1}, ([3],)),),
    "Softmax, TopK": (("Softmax", {"axis": 1}, ()), ("TopK", {"axis": 1}, ([1],))),
    "Flatten, Softmax": (("Flatten", {}, ()), ("Softmax", {"axis": 1}, ())),
    "smallest": (("Reshape", {}, ([1, 10],)), ("TopK", {"axis": 1, "largest": 0}, ([1],))),
}  # fmt: skip


def image(seed=0, count=1):
    return np.random.default_rng(seed).normal(0, 2.2, (count, 12)).astype(np.float32)


@pytest.mark.parametrize("name", TAILS)
def test_the_tail_is_left_to_the_host(name):
    """The run's output is what goes in, under its own name; with the host's part it gives what the whole graph does."""
    tail = TAILS[name]
    ends = ["topk", "topk.1"] if "TopK" in name or name == "smallest" else None
    model = classifier(*tail, outputs=ends)
    network = imported(model)
    first = next(op for op, *_ in tail if op not in ("Flatten", "Reshape"))
    assert len(network.outputs) == 1 and len(network.ops) == 1
    assert network.remarks == (f"{first} {first.lower()!r} is left to the host: the output of a run is "
                               f"{network.outputs[0]!r}, what goes into it",)  # fmt: skip
    host = tail_of(model)
    ours = outputs(network, {"x": image()})
    if name not in ("Flatten, Softmax", "smallest"):
        assert network.outputs == ("logits",)
    for label, theirs in executor(model, {"x": image()}).items():
        mine = host.run(ours)[label]
        assert mine.shape == theirs.shape and np.allclose(mine, theirs, atol=1e-6)
    logits = ours[network.outputs[0]]
    right = logits.argmin() if name == "smallest" else logits.argmax()
    assert host.classes(ours, 1).tolist() == [right]


def test_several_outputs_of_which_some_have_a_tail():
    model = classifier(*TAILS["Softmax"], outputs=["softmax", "logits"])
    network = imported(model)
    assert network.outputs == ("logits",) and [v.name for v in tail_of(model).model.graph.output] == ["softmax"]
    model = classifier(*TAILS["Softmax, TopK"], outputs=["softmax", "topk.1"])
    assert imported(model).outputs == ("logits",) and len(tail_of(model).model.graph.node) == 2
    assert tail_of(classifier()) is None and imported(classifier()).remarks == ()


def test_nodes_without_names_and_a_softmax_that_is_no_tail():
    model = classifier(*TAILS["Softmax"])
    for node in model.graph.node:
        node.name = ""
    assert imported(model).remarks[0].startswith("Softmax 'softmax' is left to the host")
    g = Graph((1, 12))
    y = g.node("Softmax", [g.gemm(g.quant("x"), 12, 10)], name="soft", axis=1)
    refused(g.model(g.quant(y)), r"Softmax 'soft': .*at the end it is left to the host")
    g = Graph((1, 12))
    g.quant(g.gemm("x", 12, 10))
    refused(g.model(g.node("Softmax", ["x"], name="soft")), "the model is float")


def test_raw_sums_that_eight_bits_hold_are_eight_bits():
    """A last layer without a Quant, as FINN's classifiers have it before TopK."""
    g = Graph((1, 20), seed=3)
    x = g.node("BipolarQuant", ["x", g.constant(1.0)], domain=g.domain)
    w = g.node("BipolarQuant", [g.constant(g.rng.standard_normal((20, 10))), g.constant(1.0)], domain=g.domain)
    y = g.node("Add", [g.node("Mul", [g.node("MatMul", [x, w]), g.constant(0.3)]), g.constant(0.1)], name="logits")
    model = g.model(g.node("TopK", [y, g.constant([1], dtype=np.int64)], name="topk", outputs=2), "topk.1")
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    network = imported(model)
    assert network.tensors["logits"].type.bits == 8
    found = outputs(network, {"x": image()[:, :1] * np.linspace(-1, 1, 20, dtype=np.float32)[None]})["logits"]
    signs = np.where(image()[:, :1] * np.linspace(-1, 1, 20)[None] >= 0, 1, -1)
    numbers = np.where(onnx.numpy_helper.to_array(model.graph.initializer[1]) >= 0, 1, -1)
    assert np.allclose(found, signs @ numbers * 0.3 + 0.1, atol=1e-6) and len(np.unique(found)) > 3
    images, written = random_images(network, 2, 0), with_forms(model, {})
    assert compare_with_qonnx(model, network, images).ok
    assert compare_with_reference(OnnxReference(written), network, import_details(model).onnx_names, images).ok


def test_evaluate_judges_by_what_the_graph_says(tmp_path):
    """By the smallest logit, which no argmax of the outputs gives."""
    from nncosim.platforms.registry import get_platform

    path, platform = tmp_path / "m.onnx", get_platform("j3dai")
    model = classifier(*TAILS["smallest"], outputs=["topk.1"])
    onnx.save(model, path)
    x = image(4, 8)
    network = imported(model)
    labels = np.array([outputs(network, {"x": one[None]})[network.outputs[0]].argmin() for one in x])
    program = compile_model(path, path.read_bytes(), platform, {})
    arrays, options = {"x": x, "labels": labels}, RunOptions("iss")
    assert accuracy(program, platform, arrays, options, "f", tail=tail_of(path)).right == 8
    assert accuracy(program, platform, arrays, options, "f").right == 0


def test_on_the_command_line(tmp_path, capfd):
    command = runner(capfd)
    onnx.save(classifier(*TAILS["Softmax"]), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=image(2, 3), labels=np.array([1, 2, 3]))
    done = command("evaluate", tmp_path / "m.onnx", "--data", tmp_path / "x.npz", "--against", "qonnx", "--json", "-")
    report = json.loads(done.out)
    assert done.status == 0 and report["remarks"] and report["executor_agrees"] == 3, done
    assert "Softmax 'softmax' is left to the host: the output of a run is 'logits'" in done.err
