# SPDX-License-Identifier: Apache-2.0
"""Graphs that Aidge itself quantised (PyPI, extra `aidge`): its integers, tensor by tensor; and its own ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_details
from nncosim.compiler.frontend.aidge import onnx_of
from nncosim.compiler.frontend.user_arrays import quantise_inputs
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.j3dai import PLATFORM
from onnx import TensorProto, helper, numpy_helper


def test_its_own_onnx_is_refused_by_name():
    """It holds a shift as an integer scale: this model has what `aidge_onnx.export_onnx` writes."""
    def constant(name, array):
        return numpy_helper.from_array(array, name)

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x_q"], name="InputRescaling"),
        helper.make_node("Conv", ["x_q", "w", "b"], ["conv"], name="one", kernel_shape=[1, 1]),
        helper.make_node("QuantizeLinear", ["conv", "shift", "z"], ["y"], name="one_Scaling"),
    ]
    constants = [
        constant("s", np.float32(29.3)), constant("z", np.int8(0)), constant("shift", np.int32(512)),
        constant("w", np.ones((2, 3, 1, 1), np.int8)), constant("b", np.ones(2, np.int32)),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "aidge", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [1, 2, 4, 4])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], producer_name="aidge_onnx")
    with pytest.raises(ModelError) as error:
        import_details(model)
    (problem,) = error.value.problems
    assert problem.node == "one_Scaling" and "integer scale (512)" in problem.expected
    assert "nncosim.compiler.frontend.aidge" in problem.remedy


@pytest.fixture(scope="module")
def aidge():
    """Its packages; their absence skips what needs them."""
    for name in ("aidge_backend_cpu", "aidge_onnx", "aidge_quantization"):
        pytest.importorskip(name)
    return pytest.importorskip("aidge_core")


def quantised(aidge, path: Path, calibration: np.ndarray, single_shift: bool = True):
    """A float network as Aidge's integers: as its own export does it."""
    import aidge_onnx
    import aidge_quantization

    graph = aidge_onnx.load_onnx(str(path))
    aidge.remove_flatten(graph)
    graph.compile("cpu", aidge.dtype.float32, dims=[[1, *calibration.shape[1:]]])
    images = [aidge.Tensor(np.ascontiguousarray(image[None])) for image in calibration]
    aidge_quantization.auto_assign_node_precision(graph, aidge.dtype.int8, aidge.dtype.int8, aidge.dtype.int32)
    aidge_quantization.quantize_network(
        network=graph, calibration_set=images, single_shift=single_shift, equalize=True, fake_quantize=False,
        rescale_inputs=True,
    )  # fmt: skip
    return graph


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_every_integer_is_aidges(aidge, tmp_path, name):
    import test_quantize_aidge as networks

    model, images = getattr(networks, name)()
    onnx.save(model, tmp_path / "net.onnx")
    graph = quantised(aidge, tmp_path / "net.onnx", images[:32])
    onnx.save(onnx_of(graph), tmp_path / "q.onnx")
    details = import_details(tmp_path / "q.onnx")
    network = compile_network(details.network, PLATFORM).network
    assert all(op.proof.exact for op in network.ops if op.proof)
    scheduler = aidge.SequentialScheduler(graph)
    scheduler.generate_scheduling()
    nodes = {node.name(): node for node in graph.get_ordered_nodes()}
    for image in images[32:40]:
        scheduler.forward(True, [aidge.Tensor(np.ascontiguousarray(image[None]))])
        values = evaluate(network, quantise_inputs(network, {network.inputs[0]: image[None]}))
        compared = 0
        for tensor in (*network.inputs, *(op.output for op in network.ops)):
            at = details.onnx_names[tensor][0]
            node = nodes[at]
            if any(reader.type() == "ReLU" for reader in node.get_children()):
                (node,) = node.get_children()
            theirs = np.array(node.get_operator().get_output(0)).astype(int)
            ours = network.tensors[tensor].to_onnx(values[tensor])
            assert (ours.ravel() == theirs.ravel()).all(), tensor
            assert len(np.unique(ours)) > 5
            compared += 1
        assert compared == len(network.ops) + 1 > 5


def test_what_is_no_integer_graph_is_refused(aidge, tmp_path):
    import aidge_onnx
    import test_quantize_aidge as networks

    model, images = networks.residual()
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="no Quantizer reads the graph's input: it is not quantised"):
        onnx_of(aidge_onnx.load_onnx(str(tmp_path / "net.onnx")))
    graph = quantised(aidge, tmp_path / "net.onnx", images[:8], single_shift=False)
    with pytest.raises(ModelError, match="only single shifts are integers"):
        onnx_of(graph)
