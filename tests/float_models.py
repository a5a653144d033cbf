# SPDX-License-Identifier: Apache-2.0
"""Small float networks as an exporter writes them, with random weights that keep every layer alive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class FloatModel:
    """A float model under construction; each method adds nodes and returns the last one's output."""

    def __init__(self, shape: Sequence[int] = (1, 3, 16, 16), *, seed: int = 1, opset: int = 17):
        self.rng = np.random.default_rng(seed)
        self.shape, self.opset = tuple(shape), opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: object, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, name: str, *, groups: int = 1, stride: int = 1,
             act: str = "relu", normalise: bool = True, spread: float = 0.5) -> str:  # fmt: skip
        """`spread`: how much channels' weights differ in size."""
        rng = self.rng
        size = np.exp(rng.normal(0, spread, (outputs, 1, 1, 1))) * np.sqrt(2 * groups / (inputs * kernel * kernel))
        weights = self.constant(rng.standard_normal((outputs, inputs // groups, kernel, kernel)) * size, f"{name}.w")
        bias = self.constant(rng.normal(0, 0.1, outputs), f"{name}.b")
        y = self.node("Conv", [x, weights, bias], name, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4,
                      strides=[stride] * 2, group=groups)  # fmt: skip
        if normalise:
            numbers = [rng.uniform(0.5, 1.5, outputs), rng.normal(0, 0.2, outputs), rng.normal(0, 0.1, outputs),
                       rng.uniform(0.5, 2, outputs)]  # fmt: skip
            names = [self.constant(n, f"{name}.bn{i}") for i, n in enumerate(numbers)]
            y = self.node("BatchNormalization", [y, *names], f"{name}.bn")
        if act == "relu":
            return self.node("Relu", [y], f"{name}.relu")
        if act == "relu6":
            bounds = [self.constant(0, f"{name}.lo"), self.constant(6, f"{name}.hi")]
            return self.node("Clip", [y, *bounds], f"{name}.clip")
        return y

    def dense(self, x: str, inputs: int, outputs: int, name: str) -> str:
        """MatMul and Add, as PyTorch's exporter writes it."""
        weights = self.constant(self.rng.standard_normal((inputs, outputs)) / np.sqrt(inputs), f"{name}.w")
        y = self.node("MatMul", [x, weights], f"{name}.mm")
        return self.node("Add", [y, self.constant(self.rng.normal(0, 0.1, outputs), f"{name}.b")], name)

    def model(self, output: str, shape: Sequence[int]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "float_net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.shape))],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))], self.constants,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def images(self, count: int) -> np.ndarray:
        return self.rng.standard_normal((count, *self.shape[1:])).astype(np.float32)


def branched(*, softmax: bool = True) -> tuple[onnx.ModelProto, np.ndarray]:
    """Every kind of point: ReLU6, depthwise, residual Add, MaxPool, Concat, SiLU, average, Gemm; and 32 images."""
    m = FloatModel()
    x = m.conv("x", 3, 16, 3, "first", act="relu6")
    y = m.conv(m.conv(x, 16, 16, 3, "depthwise", groups=16), 16, 16, 1, "project", act="none")
    pooled = m.node("MaxPool", [m.node("Add", [x, y], "residual")], "pool", kernel_shape=[2, 2], strides=[2, 2])
    a, b = m.conv(pooled, 16, 8, 3, "left"), m.conv(pooled, 16, 8, 1, "right", normalise=False)
    d = m.conv(m.node("Concat", [a, b], "concat", axis=1), 16, 24, 3, "second", stride=2)
    d = m.node("Mul", [d, m.node("Sigmoid", [d], "sigmoid")], "silu")
    y = m.dense(m.node("Flatten", [m.node("GlobalAveragePool", [d], "average")], "flat"), 24, 10, "logits")
    out = m.node("Softmax", [y], "probabilities") if softmax else y
    return m.model(out, (1, 10)), m.images(32)


def plain(*, spread: float = 1.5) -> tuple[onnx.ModelProto, np.ndarray]:
    """A chain of convolutions whose channels differ in size, without joins; and 32 images."""
    m = FloatModel(seed=3)
    x = m.conv("x", 3, 16, 3, "one", spread=spread)
    x = m.conv(x, 16, 16, 3, "two", groups=16, spread=spread)
    x = m.node("MaxPool", [m.conv(x, 16, 24, 1, "three", spread=spread)], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = m.node("Flatten", [m.conv(x, 24, 8, 3, "four", stride=2, spread=spread)], "flat")
    return m.model(m.dense(x, 8 * 16, 10, "logits"), (1, 10)), m.images(32)
