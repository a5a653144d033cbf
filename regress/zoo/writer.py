# SPDX-License-Identifier: Apache-2.0
"""QONNX nodes as Brevitas writes them: Quant on float weights, on the input and behind every operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Writer"]

_DOMAIN = "qonnx.custom_op.general"
_OPSET, _IR = 17, 8


class Writer:
    """Collects nodes and constants. Methods give the name of the tensor that the new node writes."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: object, kind: type = np.float32) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def node(
        self, op: str, name: str, inputs: Sequence[str], output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """A node called `name`; its output is `output`, or called like the node with `_out`."""
        output = output or f"{name}_out"
        self._nodes.append(helper.make_node(op, list(inputs), [output], name=name, domain=domain, **attributes))
        return output

    def quant(
        self, name: str, source: str, scale: object, *, signed: bool, narrow: bool = False, output: str = "",
        bits: int = 8,
    ) -> str:
        """A Quant. `scale`: a number, or an array that broadcasts against `source`."""
        inputs = [source, self.constant(f"{name}.scale", scale), self.constant(f"{name}.zero_point", 0.0),
                  self.constant(f"{name}.bit_width", float(bits))]  # fmt: skip
        return self.node("Quant", name, inputs, output, _DOMAIN, signed=int(signed), narrow=int(narrow),
                         rounding_mode="ROUND")  # fmt: skip

    def model(
        self, name: str, text: str, source: tuple[str, Sequence[int]], result: tuple[str, Sequence[int]]
    ) -> onnx.ModelProto:
        """The finished graph from one float input to one float output, each (name, shape)."""
        first, last = (helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in (source, result))
        graph = helper.make_graph(self._nodes, name, [first], [last], self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 2)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="nncosim.regress.zoo")
        model.doc_string = text
        return model
