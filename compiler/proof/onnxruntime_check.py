# SPDX-License-Identifier: Apache-2.0
"""The network against onnxruntime, layer by layer, in the way of `qonnx_check`.

The layers are compared with a session that runs the graph's nodes as they stand; graph outputs, from the image to the
end, with one that optimizes as onnxruntime does by default (a QLinearConv in place of DequantizeLinear, Conv and
QuantizeLinear). On x86 processors without VNNI, onnxruntime's kernels of uint8 data and int8 weights add two products
in 16 bits and saturate, far from any rounding error. The first session has such weights as uint8 instead, with another
zero point: the same numbers, and kernels that are exact. The second is left as users have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend import import_details, quantise_input
from nncosim.compiler.frontend.prepare import QUANT_OPS, prepare, title_of
from nncosim.compiler.frontend.user_arrays import user_array
from nncosim.compiler.ir.network import Network
from nncosim.compiler.proof.qonnx_check import Arrays, ExecutorReport, compare_with_executor, random_images
from onnx import numpy_helper

__all__ = ["OnnxruntimeExecutor", "compare_with_onnxruntime"]



class OnnxruntimeExecutor:
    """All tensors of a graph, by onnxruntime.

    Args:
        source: the model. network: imported from it.

    Raises:
        ModelError: Quant nodes, which onnxruntime does not know, or a graph that it refuses.
    """

    def __init__(self, source: str | Path | onnx.ModelProto, network: Network):
        self._source, self._network = source, network
        self._sessions: dict[int, tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]] = {}

    def __call__(self, inputs: Mapping[str, np.ndarray], size: int) -> tuple[Arrays, Arrays]:
        """Every tensor by name, of a batch of `size`; and graph outputs by the optimizing session."""
        if size not in self._sessions:
            self._sessions[size] = self._made(size)
        plain, fast = self._sessions[size]
        given = {node.name: self._given(node, inputs[node.name], size) for node in plain.get_inputs()}
        found = []
        for session in (plain, fast):
            names = [output.name for output in session.get_outputs()]
            found.append(dict(zip(names, session.run(names, given), strict=True)))
        return given | found[0], found[1]

    def _given(self, node: onnxruntime.NodeArg, data: np.ndarray, size: int) -> np.ndarray:
        """What graph input `node` takes: floats, or the integers that the network makes of them."""
        if node.type == "tensor(float)":
            return data.astype(np.float32)
        tensor = self._network.tensors[node.name]
        step = len(data) // (size // self._network.inference_batch)
        images = [data[i:i + step] for i in range(0, len(data), step)]
        whole = (tensor.to_onnx(quantise_input(self._network, node.name, image)) for image in images)
        parts = [user_array(self._network, node.name, data) for data in whole]
        kind = np.dtype(node.type.removeprefix("tensor(").removesuffix(")"))
        return np.stack(parts).reshape(data.shape).astype(kind)

    def _made(self, size: int) -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
        model = prepare(self._source, size)[0].model
        unknown = sorted({n.op_type for n in model.graph.node if n.op_type in QUANT_OPS})
        if unknown:
            raise self._refused(f"onnxruntime does not know {', '.join(unknown)}", "compare with --against qonnx")
        known = {"", "com.microsoft"}
        kept = [entry for entry in model.opset_import if entry.domain in known]
        del model.opset_import[:]
        model.opset_import.extend(kept)
        open_model = onnx.ModelProto()
        open_model.CopyFrom(model)
        _unsign_weights(open_model.graph)
        there = {output.name for output in model.graph.output}
        names = [name for node in model.graph.node for name in node.output if name and name not in there]
        open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        return self._session(open_model, plain=True), self._session(model, plain=False)

    def _session(self, model: onnx.ModelProto, plain: bool) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if plain:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors have no common base
            text = f"onnxruntime refuses the graph ({str(error).strip().splitlines()[0]})"
            raise self._refused(text, "compare with --against onnx") from error

    def _refused(self, text: str, remedy: str) -> ModelError:
        return ModelError(title_of(self._source), [Problem("graph", "", text, remedy)])


def _unsign_weights(graph: onnx.GraphProto) -> None:
    """Of operators on uint8 data, int8 weights as uint8 ones, 128 higher as their zero points are."""
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("QGemm", "QLinearConv", "QLinearMatMul"):
            continue
        data, weights, zero = (arrays.get(node.input[i]) for i in (2, 3, 5))
        if data is None or weights is None or (data.dtype, weights.dtype) != (np.uint8, np.int8):
            continue
        for at, array in ((3, weights), (5, np.zeros((), np.int8) if zero is None else zero)):
            node.input[at] = f"{node.output[0]}/unsigned/{at}"
            moved = (array.astype(np.int16) + 128).astype(np.uint8)
            graph.initializer.append(numpy_helper.from_array(moved, node.input[at]))


def compare_with_onnxruntime(
    source: str | Path | onnx.ModelProto, network: Network, images: int | list[dict[str, np.ndarray]] = 10,
    seed: int = 0, progress: Callable[[int, int], None] | None = None,
) -> ExecutorReport:
    """Compare a proved network with the model it was imported from; see `compare_with_qonnx`.

    Raises:
        ModelError: a graph that onnxruntime does not run.
    """
    details = import_details(source, name=network.name, keep_batch=network.keeps_batch)
    data = random_images(network, images, seed) if isinstance(images, int) else images
    report = ExecutorReport("onnxruntime", len(data), seed)
    return compare_with_executor(details, network, data, report, OnnxruntimeExecutor(source, network), progress)
