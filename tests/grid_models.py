# SPDX-License-Identifier: Apache-2.0
"""A network for the grid: fully connected layers on a batch, in 16 bits with scales that are powers of two."""

import onnx
from models import Graph

__all__ = ["BATCH", "dense_model"]

BATCH = 4


def dense_model(seed: int = 3, batch: int = BATCH) -> onnx.ModelProto:
    """x (batch, 32) -> 48 channels, of which two layers of 20 are made and added -> 8 bits -> y (batch, 10)."""
    g = Graph((batch, 32), seed=seed)

    def dense(x: str, inputs: int, outputs: int, name: str) -> str:
        weights = g.weights((outputs, inputs), axis=None, scale=2.0 ** -7)
        bias = g.bias(outputs, scale=2.0 ** -6)
        return g.node("Gemm", [x, weights, bias], name=name, transB=1)

    x = g.quant("x", 2.0 ** -12, bits=16)
    wide = g.quant(g.relu(dense(x, 32, 48, "wide")), 2.0 ** -10, bits=16, signed=0)
    left = g.quant(dense(wide, 48, 20, "left"), 2.0 ** -8, bits=16)
    right = g.quant(dense(wide, 48, 20, "right"), 2.0 ** -8, bits=16, rounding="FLOOR")
    both = g.quant(g.node("Add", [left, right], name="sum"), 2.0 ** 1, bits=8)
    return g.model(g.quant(dense(both, 20, 10, "head"), 2.0 ** 3, name="y"))
