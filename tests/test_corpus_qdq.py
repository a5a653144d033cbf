# SPDX-License-Identifier: Apache-2.0
"""Layouts, arithmetic on the host and forms of inputs in QDQ graphs, against the plain evaluator and onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.frontend.prepare import tail_of
from nncosim.tb.run.network_json import network_from_json, network_to_json
from onnx import TensorProto
from qdq_models import LinearGraph
from test_import_qdq import judged, referred

X = (0.03, 7, "uint8")
Y = (0.05, 3, "uint8")
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def graph() -> LinearGraph:
    return LinearGraph((1, 6, 5, 3), seed=1, opset=17)


def turned(g: LinearGraph, x: str, perm: list[int]) -> str:
    return g.node("Transpose", [x], perm=perm)


def conv(g: LinearGraph, x: str) -> str:
    return g.node("Conv", [x, g.dq(g.integers((4, 3, 3, 3)), 0.01)], pads=[1, 1, 1, 1], name="conv")


def around_layers() -> onnx.ModelProto:
    g = graph()
    y = turned(g, conv(g, g.qdq(turned(g, "x", FIRST), *X)), LAST)
    y = turned(g, g.qdq(y, *Y, name="y"), FIRST)
    y = g.node("Conv", [y, g.dq(g.integers((5, 4, 1, 1)), 0.01)], name="next")
    return g.model(g.qdq(y, 0.1, 0, "int8", "z"))


def of_integers() -> onnx.ModelProto:
    g = graph()
    y = g.q(conv(g, g.dq(turned(g, g.q("x", *X), FIRST), *X)), *Y, name="y")
    return g.model(g.dq(turned(g, y, LAST), *Y))


def of_an_input_of_integers() -> onnx.ModelProto:
    g = graph()
    g.inputs[0].type.tensor_type.elem_type = TensorProto.UINT8
    return g.model(g.qdq(conv(g, g.dq(turned(g, "x", FIRST), *X)), *Y, name="y"))


def after_a_normalisation() -> onnx.ModelProto:
    g = graph()
    x = g.node("Mul", [g.node("Sub", ["x", g.constant(0.3)]), g.constant(2.0)])
    return g.model(g.qdq(conv(g, g.qdq(turned(g, x, FIRST), 0.06, 7, "uint8")), *Y, name="y"))


def before_qlinear_operators() -> onnx.ModelProto:
    g = graph()
    zero = [g.constant(n, dtype=t) for n, t in ((7, np.uint8), (0, np.int8), (3, np.uint8))]
    x = turned(g, g.q("x", *X), FIRST)
    y = g.node("QLinearConv", [x, g.constant(X[0]), zero[0], g.integers((4, 3, 3, 3)), g.constant(0.01), zero[1],
                               g.constant(Y[0]), zero[2]], pads=[1, 1, 1, 1], name="conv")  # fmt: skip
    y = turned(g, y, LAST)
    y = g.node("Clip", [y, g.constant(5, dtype=np.uint8), g.constant(250, dtype=np.uint8)], name="clip")
    return g.model(g.dq(g.linear("QLinearAdd", (y, *Y), (y, *Y), ("", 0.09, 5, "uint8"), name="add"), 0.09, 5, "uint8"))


MODELS = [around_layers, of_integers, of_an_input_of_integers, after_a_normalisation, before_qlinear_operators]


@pytest.mark.parametrize("made", MODELS, ids=lambda made: made.__name__)
def test_layouts(made):
    network, _ = judged(made())
    assert network.linear_inputs == ("x",) and any(s.op == "Transpose" for s in network.input_steps["x"])
    assert all(op.title.startswith(("Conv", "Add", "Requantize")) for op in network.ops)
    again = network_from_json(network_to_json(network))
    assert (again.linear_inputs, again.input_steps) == (network.linear_inputs, network.input_steps)


def test_a_layout_that_is_not_noted_is_seen(monkeypatch):
    """Integers in another layout than the graph's, and nothing that says so."""
    assert referred(around_layers())[1].ok
    monkeypatch.setattr("nncosim.compiler.frontend.moved.inverse", lambda *_: ())
    assert not referred(around_layers())[1].ok


def test_forms_are_of_float_inputs():
    with pytest.raises(ModelError, match="no graph input 'x' for --input-quant"):
        import_model(of_an_input_of_integers(), forms={"x": InputForm(8)})


def test_a_softmax_at_the_end_is_the_hosts():
    g = LinearGraph((1, 12), seed=1)
    y = g.node("Gemm", [g.qdq("x", *X), g.dq(g.integers((12, 5)), 0.01)])
    model = g.model(g.node("Softmax", [g.qdq(y, *Y, name="y")], name="soft", axis=1))
    assert import_model(model).outputs == ("y",) and tail_of(model) is not None


def test_an_input_quantised_by_both_kinds_of_node_is_refused():
    g = graph()
    quant = g.node("Quant", ["x", *(g.constant(n) for n in (X[0], X[1], 8))], domain=g.domain, signed=0, narrow=0)
    both = g.model(g.qdq("x", *X, name="a"), quant)
    both.opset_import.append(onnx.helper.make_opsetid(g.domain, 1))
    with pytest.raises(ModelError, match="quantised twice in different ways"):
        import_model(both)
