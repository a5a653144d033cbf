# SPDX-License-Identifier: Apache-2.0
"""What a graph does with its results at the very end, which is left to the user's host: Softmax, ArgMax, TopK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from nncosim.compiler.errors import InputDataError
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["HOST_OPS", "Tail", "cut_tail", "drop_unused"]

HOST_OPS = ("ArgMax", "HardSigmoid", "LogSoftmax", "Sigmoid", "Softmax", "TopK")
"""Operators that are the host's where nothing but graph outputs follows."""
_BESIDE = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that may stand among these."""


@dataclass(frozen=True, eq=False)
class Tail:
    """The end of a graph as a model of its own: from the outputs of a run to those of the graph as it was written."""

    model: onnx.ModelProto
    remarks: tuple[str, ...]

    def run(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The written graph's outputs, by the onnx package's reference evaluator.

        Args:
            outputs: of a run, float32 in ONNX layout.

        Raises:
            InputDataError: the evaluator cannot.
        """
        names = [value.name for value in self.model.graph.output]
        feeds = {value.name: np.asarray(outputs[value.name], np.float32) for value in self.model.graph.input}
        try:
            results = [*ReferenceEvaluator(self.model).run(None, feeds)]
        except Exception as error:  # the library's own errors have no common base
            raise InputDataError(f"the end of the model, left to the host, cannot be evaluated: {error}") from error
        return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}

    def classes(self, outputs: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """The class of each of `count` images, int64: what ArgMax or TopK name first, else the largest element."""
        found = self.run(outputs)
        named = [array for array in found.values() if array.dtype.kind in "iu"]
        if named:
            return named[0].reshape(count, -1)[:, 0].astype(np.int64)
        return next(iter(found.values())).reshape(count, -1).argmax(axis=1)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes that no graph output depends on."""
    wanted = {o.name for o in graph.output}
    keep = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            keep.append(node)
    keep.reverse()
    del graph.node[:]
    graph.node.extend(keep)


def _end(graph: onnx.GraphProto, name: str, makers: Mapping[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes up to graph output `name` that are the host's, the last first."""
    chain: list[onnx.NodeProto] = []
    given = {value.name for value in graph.input}
    while name in makers and makers[name].op_type in (*HOST_OPS, *_BESIDE):
        node = makers[name]
        if node.domain not in ("", "ai.onnx") or not node.input or node in chain:
            break
        chain.append(node)
        name = node.input[0]
    while chain and (chain[-1].op_type not in HOST_OPS or chain[-1].input[0] in given):
        chain.pop()
    return chain


def cut_tail(model: onnx.ModelProto) -> Tail | None:
    """Take the host's part off a model's end; its inputs become the graph's outputs. None: there is none.

    `model` is changed.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    ends = {value.name: _end(graph, value.name, makers) for value in graph.output}
    if not any(ends.values()):
        return None
    nodes = {node.output[0]: node for chain in ends.values() for node in chain}
    wanted = [ends[value.name][-1].input[0] if ends[value.name] else value.name for value in graph.output]
    outputs = dict.fromkeys(wanted)
    kept = {value.name: value for value in graph.output if not ends[value.name]}
    remarks = tuple(dict.fromkeys(
        f"{chain[-1].op_type} {chain[-1].name or chain[-1].output[0]!r} is left to the host: the output of a run is "
        f"{chain[-1].input[0]!r}, what goes into it" for chain in ends.values() if chain
    ))  # fmt: skip
    tail = _model_of(model, [node for node in graph.node if node.output[0] in nodes],
                     [*dict.fromkeys(chain[-1].input[0] for chain in ends.values() if chain)],
                     [value.name for value in graph.output if ends[value.name]])  # fmt: skip
    del graph.output[:]
    graph.output.extend(
        kept.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs
    )
    drop_unused(graph)
    return Tail(tail, remarks)


def _model_of(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """Nodes of a model as one of their own, whose Reshapes keep the batch that comes in."""
    graph, read = model.graph, {name for node in nodes for name in node.input}
    constants = {t.name: t for t in graph.initializer if t.name in read}
    made = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in read]
    for node in nodes:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if shape is not None:
            numbers = numpy_helper.to_array(shape).copy()
            if numbers.size and numbers[0] > 0:
                numbers[0] = 0
                constants[shape.name] = numpy_helper.from_array(numbers, shape.name)
    first = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    last = [value for value in graph.output if value.name in outputs]
    part = helper.make_graph([*made, *nodes], "tail", first, last, [*constants.values()])
    return helper.make_model(part, opset_imports=[o for o in model.opset_import if o.domain in ("", "ai.onnx")])
