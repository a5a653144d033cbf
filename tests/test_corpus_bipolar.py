# SPDX-License-Identifier: Apache-2.0
"""BipolarQuant: networks of +1 and -1, as FINN's tutorials train them."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from command_line import runner
from corpus_check import executor, imported, outputs, refused, same
from models import Graph
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.frontend import bipolar as module
from nncosim.compiler.frontend import import_details, import_model, quantise_input
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference


def bipolar(g, x, scale=1.0, name=""):
    return g.node("BipolarQuant", [x, g.constant(scale)], name=name, domain=g.domain)


def weights(g, *shape, scale=1.0):
    return bipolar(g, g.constant(g.rng.standard_normal(shape)), scale)


def tfc(seed=0):
    """A fully connected network of +1 and -1 with BatchNormalization, as FINN's TFC-w1a1: scaled images 2 x - 1."""
    g = Graph((1, 1, 7, 7), seed=seed)
    x = g.node("Sub", [g.node("Mul", ["x", g.constant(2.0)]), g.constant(1.0)])
    x = bipolar(g, g.node("Reshape", [x, g.constant([1, -1], dtype=np.int64)]), name="x_b")
    for n, (inputs, outs) in enumerate(((49, 32), (32, 32))):
        x = g.node("MatMul", [x, weights(g, inputs, outs, scale=0.5)], name=f"fc{n}")
        x = g.node("Unsqueeze", [x, g.constant([2, 3], dtype=np.int64)])
        x = g.node("Squeeze", [g.batch_norm(x, outs), g.constant([2, 3], dtype=np.int64)])
        x = bipolar(g, x, name=f"fc{n}_b")
    x = g.node("MatMul", [x, weights(g, 32, 10)], name="last")
    return g.model(g.quant(g.node("Mul", [x, g.constant(0.1)]), 0.1, name="y"))


def cnv(seed=1, pads=(0, 0, 0, 0)):
    """Convolutions of +1 and -1 behind one of 8-bit images, with a residual sum and a concatenation."""
    g = Graph((1, 3, 8, 8), seed=seed)
    x = g.quant("x", 1 / 128, name="x_q")
    a = g.conv(x, 3, 8, 3, weights=weights(g, 8, 3, 3, 3), bias=None, name="conv0", pads=pads)
    a = bipolar(g, g.batch_norm(a, 8), name="conv0_b")
    b = bipolar(g, g.conv(a, 8, 8, 1, weights=weights(g, 8, 8, 1, 1), name="conv1"), 0.5, name="conv1_b")
    c = bipolar(g, g.node("Add", [a, g.node("Mul", [b, g.constant(1.7)])], name="add"), name="add_b")
    d = bipolar(g, g.node("Concat", [a, g.conv(c, 8, 4, 1, weights=weights(g, 4, 8, 1, 1))], axis=1), name="cat_b")
    e = g.node("MaxPool", [d], kernel_shape=[2, 2], strides=[2, 2], name="pool")
    y = g.conv(e, 12, 6, 1, weights=weights(g, 6, 12, 1, 1), bias=None, name="last")
    return g.model(g.quant(y, 1.0, bits=5, name="y"))


def images(network, count=3, seed=0):
    return random_images(network, count, seed)


@pytest.mark.parametrize("build", [tfc, cnv])
@pytest.mark.parametrize("seed", range(2))
def test_networks_of_signs(build, seed):
    model = build(seed)
    network = imported(model)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        shape = network.onnx_shapes["x"]
        image = {"x": (rng.random(shape) if build is tfc else rng.normal(0, 0.4, shape)).astype(np.float32)}
        same(model, network, image, least=5)
        values = evaluate(network, {"x": quantise_input(network, "x", image["x"])})
        signs = [v for name, v in values.items() if network.tensors[name].type.bits == 2]
        assert len(signs) >= 2 and all(set(np.unique(v)) == {-1, 1} for v in signs)
    assert compare_with_qonnx(model, network, images(network)).ok
    names = import_details(model).onnx_names
    assert compare_with_reference(OnnxReference(model), network, names, images(network, 2)).ok


def test_zero_is_plus_one_with_any_sign_of_the_scale_before_it():
    """Exactly on the threshold, and one accumulator to either side of it."""
    g = Graph((1, 4), seed=0)
    x = g.quant("x", 1.0, bits=4, name="x_q")
    w = g.quant(g.constant(np.eye(4)), 1.0, bits=2, narrow=1)
    y = g.node("MatMul", [x, w], name="fc")
    y = g.node("Mul", [y, g.constant([1.0, -1.0, 0.75, -0.3])])
    y = bipolar(g, g.node("Add", [y, g.constant([0.0, 2.0, 1.5, -0.8999999761581421])]), name="b")
    model = g.model(y)
    network = imported(model)
    assert all(op.signs for op in network.ops)
    seen = set()
    for v in range(-8, 8):
        x = {"x": np.full((1, 4), v, np.float32)}
        ours = outputs(network, x)["b"]
        assert (ours == executor(model, x)["b"]).all()
        seen |= {(c, int(s)) for c, s in enumerate(ours.ravel())}
    assert len(seen) == 8


def test_a_sum_of_two_and_what_a_clip_before_it_does():
    g = Graph((1, 2, 4, 4), seed=4)
    x = g.quant("x", 0.25, bits=5, name="x_q")
    z = g.quant(x, 0.37, bits=5, name="z_q")
    total = g.node("Add", [x, g.node("Identity", [z])], name="add")
    low = g.node("Clip", [total, g.constant(-0.5), g.constant(0.5)])
    made = [bipolar(g, total, name="b"), bipolar(g, low, 0.5, name="clip"), bipolar(g, g.relu(total), name="always")]
    model = g.model(*made)
    network = imported(model)
    image = {"x": np.random.default_rng(0).normal(0, 1.5, (1, 2, 4, 4)).astype(np.float32)}
    ours, right = outputs(network, image), executor(model, image)
    for name in made:
        assert (ours[name] == right[name]).all()
    assert set(np.unique(ours["b"])) == {-1, 1} and set(np.unique(ours["clip"])) == {-0.5, 0.5}
    assert (ours["always"] == 1).all()


def test_a_wrong_sign_of_zero_is_seen(monkeypatch):
    """A planted error: 0 taken for -1."""
    original = module._sign

    def wrong(builder, node, form, kind, part=None):
        made = original(builder, node, form, kind, part)
        op = builder.ops[-1]
        moved = tuple(o - 2 for o in op.function.offset)
        builder.ops[-1] = replace(op, function=replace(op.function, offset=moved))
        return made

    monkeypatch.setattr(module, "_sign", wrong)
    with pytest.raises(AssertionError):
        test_zero_is_plus_one_with_any_sign_of_the_scale_before_it()


def test_an_input_of_signs_takes_plus_and_minus_one_only():
    g = Graph((1, 8), seed=1)
    network = import_model(g.model(g.quant(g.gemm(bipolar(g, "x", 0.5, name="x_b"), 8, 4), 0.1, name="y")))
    assert (quantise_input(network, "x", np.float32([[-3, -0.0, 0, 1e-9, 2, -1e-9, 5, -5]])) ==
            np.array([-1, 1, 1, 1, 1, -1, 1, -1]).reshape(8, 1, 1)).all()  # fmt: skip
    with pytest.raises(InputDataError, match=r"\+1 or -1"):
        quantise_input(network, "x", np.array([[1, 1, 1, 1, 1, 1, 1, 0]]))


def test_padding_and_other_refusals():
    g = Graph((1, 4, 5, 5))
    x = g.quant("x", name="x_q")
    scale = g.node("BipolarQuant", [x, g.constant(-1.0)], name="b", domain=g.domain)
    refused(g.model(scale), r"BipolarQuant 'b': the scale must be positive")
    g = Graph((1, 4, 5, 5))
    y = bipolar(g, g.node("Tanh", [g.quant("x", name="x_q")], name="t"), name="b")
    refused(g.model(y), r"BipolarQuant 'b': .*quantised")
    padded = cnv(pads=(1, 1, 1, 1))  # a real zero in the padding is a third value, which 2 bits hold
    image = {"x": np.random.default_rng(0).normal(0, 0.4, (1, 3, 8, 8)).astype(np.float32)}
    same(padded, imported(padded), image, least=5)


def test_on_j3dai(tmp_path, capfd):
    onnx.save(cnv(), tmp_path / "m.onnx")
    done = runner(capfd)("run", tmp_path / "m.onnx", "--backend", "iss")
    assert done.status == 0 and "exact in all" in done.out, done
