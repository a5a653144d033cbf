# SPDX-License-Identifier: Apache-2.0
"""The same model as other exporters and older versions write it: the same network, and nothing on stderr."""

import numpy as np
import onnx
import pytest
from corpus_check import executor, imported, outputs, refused, same
from models import Graph, conv_model, residual_model
from nncosim.compiler.frontend import import_model
from onnx import TensorProto, helper, numpy_helper

OLD = ("finn", "finn.custom_op.general", "onnx.brevitas", "")


def domain(name):
    def change(model):
        for node in model.graph.node:
            node.domain = name if node.domain else node.domain
        kept = [entry for entry in model.opset_import if not entry.domain]
        del model.opset_import[:]
        model.opset_import.extend([*kept, *([helper.make_opsetid(name, 1)] if name else [])])

    return change


def opset(version):
    def change(model):
        for entry in model.opset_import:
            entry.version = entry.version if entry.domain else version

    return change


def nameless(model):
    for node in model.graph.node:
        node.name = ""


def retyped(dtype, only=lambda name: True):
    """Constants of another type; where they are numbers of the graph's arithmetic, converted from float32."""
    def change(model):
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and only(array):
                tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))

    return change


def whole(array):
    return array.size == 1 and float(array) == round(float(array))


def constant_nodes(model):
    """All constants in nodes of their own."""
    made = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes = [*made, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)


def as_inputs(model):
    """Constants are graph inputs too, as IR version 3 wants it."""
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def casts(model):
    """A Cast to float32 behind the input's Quant."""
    first = model.graph.node[0].output[0]
    for node in model.graph.node:
        node.input[:] = ["cast" if name == first else name for name in node.input]
    model.graph.node.insert(1, helper.make_node("Cast", [first], ["cast"], to=TensorProto.FLOAT))


CHANGES = {
    **{f"domain {name!r}": domain(name) for name in OLD}, **{f"opset {n}": opset(n) for n in (7, 8, 9, 10, 11, 12)},
    "no node names": nameless, "doubles": retyped(np.float64), "integers": retyped(np.int64, whole),
    "32-bit integers": retyped(np.int32, whole), "Constant nodes": constant_nodes, "constants as inputs": as_inputs,
    "a Cast": casts,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("build", [conv_model, residual_model])
def test_another_spelling(name, build, capfd):
    model = build()
    x = {"x": np.random.default_rng(1).normal(0, 2.2, (1, 3, 8, 8)).astype(np.float32)}
    right = outputs(imported(model), x)
    CHANGES[name](model)
    capfd.readouterr()
    network = imported(model)
    assert capfd.readouterr() == ("", "")
    found = outputs(network, x)
    assert list(found) == list(right) and all((found[k] == right[k]).all() for k in right)
    assert all(len(np.unique(v)) > 5 for v in right.values())


def test_a_changed_constant_is_seen():
    """The comparison above can fail."""
    model, x = conv_model(), {"x": np.random.default_rng(1).normal(0, 2.2, (1, 3, 8, 8)).astype(np.float32)}
    right = outputs(imported(model), x)["y"]
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.shape == (8,):
            tensor.CopyFrom(numpy_helper.from_array(array * np.float32(1.1), tensor.name))
    assert (outputs(imported(model), x)["y"] != right).any()


def test_batch_normalization_of_opset_7():
    g = Graph((1, 3, 6, 6), seed=3, opset=7)
    model = g.model(g.quant(g.batch_norm(g.conv(g.quant("x"), 3, 4, name="c"), 4, name="bn"), 0.1, name="y"))
    same(model, imported(model), {"x": np.random.default_rng(1).normal(0, 2.2, (1, 3, 6, 6)).astype(np.float32)})
    node = next(n for n in model.graph.node if n.name == "bn")
    node.attribute.append(helper.make_attribute("spatial", 0))
    refused(model, r"BatchNormalization 'bn': spatial=0")


def test_upsample_of_opset_7():
    g = Graph((1, 3, 4, 4), seed=3, opset=7)
    y = g.node("Upsample", [g.quant("x", 0.05, name="x_q")], mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])
    model = g.model(y)
    x = np.random.default_rng(1).normal(0, 2.2, (1, 3, 4, 4)).astype(np.float32)
    found = outputs(imported(model), {"x": x})[y]
    assert (found == executor(quantised(g), {"x": x})["x_q"].repeat(2, 2).repeat(3, 3)).all()


def quantised(g):
    other = Graph((1, 3, 4, 4), seed=3)
    return other.model(other.quant("x", 0.05, name="x_q"))


def test_messages_name_nameless_nodes_by_their_output():
    """As Netron shows them."""
    g = Graph((1, 3, 6, 6))
    model = g.model(g.quant(g.node("Erf", [g.quant("x")], name="odd"), name="y"))
    nameless(model)
    refused(model, r"Erf 'odd': Erf is not supported")


def test_a_cast_to_another_type_is_refused():
    g = Graph((1, 3, 6, 6))
    y = g.node("Cast", [g.quant("x")], name="half", to=TensorProto.FLOAT16)
    refused(g.model(g.quant(g.node("Cast", [y], name="back", to=TensorProto.FLOAT))), r"Cast 'half': .*float32")


def test_shapes_need_not_be_there():
    model = residual_model()
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    assert import_model(onnx.ModelProto.FromString(model.SerializeToString())).onnx_shapes["y"] == (1, 10)
