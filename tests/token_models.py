# SPDX-License-Identifier: Apache-2.0
"""Models of tokens (batch, T, C), in arithmetic that float32 does exactly."""

import numpy as np
import onnx
from models import Graph

__all__ = ["Dyadic", "joined_model", "token_model"]


class Dyadic(Graph):
    """All scales are powers of two, so that float32 computes every sum exactly."""

    def weights(self, shape, **more):
        return super().weights(shape, **{"scale": 2.0**-6, **more})

    def bias(self, channels, size=1.0, **more):
        return super().bias(channels, size, **{"scale": 2.0**-12, **more})


def token_model(batch: int = 1, tokens: int = 16) -> onnx.ModelProto:
    """x (batch, tokens, 64): MatMul, bias, Relu, Add, Concat, HardSigmoid -> y (batch, tokens, 12)."""
    g = Dyadic((batch, tokens, 64), seed=5)
    x = g.quant("x", 2.0**-4)

    def product(value: str, rows: int, columns: int) -> str:
        return g.node("Add", [g.node("MatMul", [value, g.weights((rows, columns))]), g.bias(columns)])

    left = g.quant(g.relu(product(x, 64, 6)), np.array([4, 8, 2, 4, 8, 4]) ** -1.0)
    right = g.quant(product(x, 64, 6), 0.25)
    both = g.quant(g.node("Add", [left, right]), 0.5, name="both")
    joined = g.node("Concat", [both, g.quant(product(x, 64, 3), 0.5, name="third")], axis=2)
    curve = g.quant(g.node("HardSigmoid", [joined], alpha=0.03125, name="curve"), 2.0**-7, name="half")
    return g.model(g.quant(product(curve, 9, 12), 2.0**-4, name="y"))


def joined_model(batch: int = 1, tokens: int = 11) -> onnx.ModelProto:
    """x (batch, tokens, 16): two products, joined before they are quantised -> y (batch, tokens, 14)."""
    g = Dyadic((batch, tokens, 16), seed=6)
    x = g.quant("x", 2.0**-4)
    parts = [g.node("MatMul", [x, g.weights((16, columns))]) for columns in (5, 9)]
    return g.model(g.quant(g.node("Concat", parts, axis=2), 0.25, name="y"))
