# SPDX-License-Identifier: Apache-2.0
"""What the tests of TensorFlow Lite files hold an import against: the reference kernels of `ai-edge-litert`."""

from collections.abc import Callable

import numpy as np
from nncosim.compiler.frontend import import_model, quantise_input
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.proof.litert_check import compare_with_litert
from nncosim.compiler.proof.qonnx_check import random_images
from nncosim.compiler.proof.requantization import prove
from nncosim.regress.tflite_models import TfliteModel

GIVEN = RequantCaps(tables=True, as_given=True)
"""Computes what a file says, whatever that is."""
SHAPE = (1, 12, 10, 4)


def written(folder, content: bytes):
    path = folder / "net.tflite"
    path.write_bytes(content)
    return path


def judged(path, images=6, seed=3):
    """The network after the comparison with the kernels; its values are neither constant nor saturated."""
    network = prove(import_model(path), GIVEN)
    report = compare_with_litert(path, network, images, seed)
    assert report.ok and not report.output_differences, report
    assert report.values == images * sum(network.tensors[op.output].elements for op in network.ops) > 0
    image = random_images(network, 1, seed)[0]
    values = evaluate(network, {name: quantise_input(network, name, array) for name, array in image.items()})
    for op in network.ops:
        kind, found = network.tensors[op.output].type, values[op.output]
        assert ((found > kind.lo) & (found < kind.hi)).mean() > 0.1, op.name
        assert len(np.unique(found)) > 4, op.name
    return network


def one(make: Callable[[TfliteModel, int], int], shape=SHAPE, seed=0) -> bytes:
    m = TfliteModel(seed)
    return m.finish(make(m, m.input("x", shape)))


def network_of(m: TfliteModel) -> bytes:
    """A residual block, a pyramid's join and a classifier."""
    x = m.input("x", (1, 12, 10, 3))
    a = m.conv("a", x, 8, activation="RELU6")
    c = m.conv("c", m.conv("b", a, 0, depthwise=True, activation="RELU"), 8, 1)
    d = m.add("d", a, c, activation="RELU")
    e = m.mean("e", m.pool("p", d))
    return m.finish(m.softmax("g", m.dense("f", e, 5)))
