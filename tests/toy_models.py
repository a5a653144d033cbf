# SPDX-License-Identifier: Apache-2.0
"""A model whose two branches keep both engines of the toy platform busy at once, in 4 bits."""

from pathlib import Path

import onnx
from models import Graph

__all__ = ["LAYERS", "branching_model", "save"]

LAYERS = {"matrix": ("branch", "head"), "stream": ("pool", "sum")}


def branching_model(seed: int = 5) -> onnx.ModelProto:
    """x (1, 2, 8, 8) in 4 bits -> conv 3x3 beside max pool 3x3 -> add -> fully connected, 8 bits."""
    g = Graph((1, 2, 8, 8), seed=seed)
    x = g.quant("x", 0.25, bits=4, signed=0)
    weights = g.weights((2, 2, 3, 3), bits=4)
    conv = g.relu(g.conv(x, 2, 2, 3, name="branch", weights=weights))
    left = g.quant(conv, 1.375, bits=4, signed=0)
    right = g.node("MaxPool", [x], name="pool", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    both = g.quant(g.node("Add", [left, right], name="sum"), 1.625, bits=4, signed=0)
    flat = g.node("Flatten", [both], axis=1)
    return g.model(g.quant(g.gemm(flat, 128, 6, name="head"), 0.75, name="y"))


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path
