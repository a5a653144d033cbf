# SPDX-License-Identifier: Apache-2.0
"""A float network as the quantiser works on it: simplified by onnxruntime, constants as arrays, one batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.prepare import QUANT_OPS, name_nodes, prepare, title_of
from onnx import numpy_helper

__all__ = ["FloatGraph", "along", "read_float"]

_QDQ = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul")

TAIL = ("Softmax", "LogSoftmax", "ArgMax", "TopK")
"""Left to the user's host where they end the graph: they need no accelerator, and change no order."""


F = TypeVar("F", bound=np.floating)


def along(numbers: npt.NDArray[F], ndim: int, axis: int) -> npt.NDArray[F]:
    """One number a channel, or one for all, (1,), so that they broadcast along `axis` of an array."""
    shape = [1] * ndim
    shape[axis] = len(numbers)
    return numbers.reshape(shape)


@dataclass
class FloatGraph:
    """A graph that may be changed in place.

    Attributes:
        name: what messages call it. model: all nodes named, in order; initializers are in `constants` instead.
        shapes: of activations, with a batch of 1.
        dropped: nodes that were left to the host.
    """

    name: str
    model: onnx.ModelProto
    constants: dict[str, npt.NDArray[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    dropped: tuple[str, ...] = ()

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return list(self.model.graph.node)

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.model.graph.input if value.name not in self.constants]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.model.graph.output]

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def readers(self, value: str) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if value in node.input]

    def producer(self, value: str) -> onnx.NodeProto | None:
        return next((node for node in self.model.graph.node if value in node.output), None)

    def own_constant(self, node: onnx.NodeProto, index: int) -> str:
        """The name of input `index`, a constant that no other node reads: a copy is made where one does."""
        name = node.input[index]
        if sum(list(other.input).count(name) for other in self.model.graph.node) > 1:
            mine = f"{node.name}.{name}"
            self.constants[mine] = self.constants[name].copy()
            node.input[index] = name = mine
        return name

    def proto(self) -> onnx.ModelProto:
        """As a model that runs."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        used = {name for node in model.graph.node for name in node.input}
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in used
        )
        return model


def read_float(source: str | Path | onnx.ModelProto) -> FloatGraph:
    """Read a trained float network.

    onnxruntime folds constants and BatchNormalization into the layers before, and removes what does nothing.

    Raises:
        ModelError: no ONNX file, one that is quantised already, or one that onnxruntime cannot run.
    """
    title = title_of(source)
    wrapper, shape_problem, *_ = prepare(source, 1, as_written=True)
    done = [node for node in wrapper.graph.node if node.op_type in (*QUANT_OPS, *_QDQ)]
    if done:
        node = done[0]
        raise ModelError(title, [Problem(node.name, node.op_type, "the model is quantised already; expected a float "
                                         "network", "give it to nncosim run as it is")])  # fmt: skip
    if shape_problem is not None:
        raise ModelError(title, [shape_problem])
    dropped = tuple(_without_tail(wrapper.model))
    model = _simplified(title, wrapper.model)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    del model.graph.initializer[:]
    name_nodes(model)  # what onnxruntime fused or made has no name, or one that is taken
    inferred = onnx.shape_inference.infer_shapes(wrapper.model)
    graph = FloatGraph(title, model, constants, {}, dropped)
    graph.shapes = _shapes(onnx.shape_inference.infer_shapes(graph.proto())) | _shapes(inferred)
    return graph


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    found = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in found}


def _without_tail(model: onnx.ModelProto) -> Iterator[str]:
    """Remove what only orders or scales the classes; the outputs are then what went into it."""
    graph = model.graph
    while True:
        made = {name: node for node in graph.node for name in node.output}
        last = next((made[out.name] for out in graph.output if out.name in made and made[out.name].op_type in TAIL
                     and not any({*made[out.name].output} & {*node.input} for node in graph.node)), None)  # fmt: skip
        if last is None:
            return
        yield f"{last.op_type} {last.name!r}"
        gone = {*last.output}
        kept = [out for out in graph.output if out.name not in gone]
        inner = last.input[0]
        if inner not in {out.name for out in kept}:
            kept.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None))
        graph.node.remove(last)
        del graph.output[:]
        graph.output.extend(kept)


def _simplified(title: str, model: onnx.ModelProto) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return onnx.load(path)
        except Exception as error:  # onnxruntime's errors have no common base
            text = f"onnxruntime cannot run it: {str(error).strip().splitlines()[0]}"
            raise ModelError(title, [Problem("", "", text, "check the model with onnx.checker")]) from error
