# SPDX-License-Identifier: Apache-2.0
"""A Pad before convolutions, as Keras writes it: their own padding."""

import numpy as np
import onnx
import pytest
from corpus_check import imported, refused, same
from float_models import FloatModel
from models import Graph
from nncosim.compiler.frontend import import_details, import_model
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.proof.qonnx_check import random_images
from nncosim.compiler.quantize import QuantizeOptions, quantize
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference


def padded(border=(0, 1, 2, 0), *, own=None, zero=0, readers=1, opset=13, **more):
    """rows before, columns before, rows after, columns after."""
    g = Graph((1, 3, 9, 8), seed=4, opset=opset)
    amounts = [0, 0, *border[:2], 0, 0, *border[2:]]
    source = g.quant("x", 0.05, zero=zero, name="x_q")
    if opset < 11:
        y = g.node("Pad", [source], name="pad", pads=amounts, **more)
    else:
        y = g.node("Pad", [source, g.constant(amounts, dtype=np.int64)], name="pad", **more)
    made = [g.quant(g.conv(y, 3, 6, name=f"conv{n}", pads=own or [0] * 4, strides=[2, 2]), 0.1, name=f"y{n}")
            for n in range(readers)]  # fmt: skip
    return g.model(g.quant(g.node("Add", made), 0.15, name="sum") if readers > 1 else made[0])


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("own", [None, [1, 0, 1, 2]])
@pytest.mark.parametrize("zero", [0, -7])
def test_it_becomes_the_convolution_s_padding(opset, own, zero):
    model = padded(own=own, zero=zero, opset=opset)
    network = imported(model)
    (op,) = network.ops
    assert isinstance(op, Conv) and op.pads == tuple(a + b for a, b in zip((0, 1, 2, 0), own or [0] * 4, strict=True))
    for image in random_images(network, 3, 0):
        same(model, network, image)
    names = import_details(model).onnx_names
    assert compare_with_reference(OnnxReference(model), network, names, random_images(network, 2, 1)).ok


def test_several_convolutions_read_it():
    model = padded(readers=2)
    network = imported(model)
    assert [op.title for op in network.ops] == ["Conv 3x3 s2", "Conv 3x3 s2", "Add"]
    for image in random_images(network, 2, 0):
        same(model, network, image)


def test_of_a_float_network():
    """MobileNet in Keras pads before its convolutions of stride 2."""
    m = FloatModel((1, 3, 13, 12), seed=3)
    first = m.conv("x", 3, 8, 3, "one", normalise=False)
    pads = onnx.numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 1]), "pads")
    m.constants.append(pads)
    pad = m.node("Pad", [first, "pads"], "pad")
    last = m.conv(pad, 8, 8, 3, "two", groups=8, stride=2, normalise=False)
    next(a for a in m.nodes[-2].attribute if a.name == "pads").ints[:] = [0, 0, 0, 0]
    model = m.model(last, (1, 8, 6, 6))
    images = m.rng.standard_normal((8, 3, 13, 12)).astype(np.float32)
    network = import_model(quantize(model, {"x": images}, QuantizeOptions()).model)
    assert [op.title for op in network.ops] == ["Conv 3x3", "Conv 3x3 dw s2"]
    assert network.ops[1].pads == (0, 0, 1, 1)


@pytest.mark.parametrize("what", ["mode", "value", "channels", "pool", "output", "crop"])
def test_what_is_no_padding_of_a_convolution_stays_refused(what):
    if what == "mode":
        model = padded(mode="reflect")
    elif what == "crop":
        model = padded((0, -1, 0, 0))
    else:
        g = Graph((1, 3, 9, 8), seed=4)
        amounts = g.constant([0, 1 if what == "channels" else 0, 1, 1, 0, 0, 1, 1], dtype=np.int64)
        extra = [g.constant(0.5)] if what == "value" else []
        y = g.node("Pad", [g.quant("x", 0.05), amounts, *extra], name="pad")
        if what == "pool":
            model = g.model(g.node("MaxPool", [y], kernel_shape=[2, 2]))
        elif what == "output":
            model = g.model(g.quant(g.conv(y, 3, 4, pads=[0] * 4), 0.1, name="c"), y)
        else:
            model = g.model(g.quant(g.conv(y, 4 if what == "channels" else 3, 4, pads=[0] * 4), 0.1))
    refused(model, r"Pad 'pad': Pad is not supported; leave it out; a Conv has its padding itself")
