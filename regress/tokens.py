# SPDX-License-Identifier: Apache-2.0
"""A network of tokens: the block of an MLP-Mixer that works over channels."""

from __future__ import annotations

import numpy as np
import onnx
from nncosim.regress.zoo.writer import Writer

__all__ = ["mixer_model", "token_inputs"]

TOKENS, CHANNELS, HIDDEN = 37, 20, 45
"""Multiples of nothing that a machine has of anything."""


def mixer_model(
    seed: int = 1, tokens: int = TOKENS, channels: int = CHANNELS, hidden: int = HIDDEN
) -> onnx.ModelProto:
    """x (1, tokens, channels): MatMul, bias, Relu, MatMul, bias, and the sum with x, -> y of the same shape.

    All scales are powers of two, those of the weights by channel: float32 has nothing to round. Under 1 % of each
    tensor's values are at an end of its range, zeros of the Relu apart.
    """
    rng, w = np.random.default_rng([seed, 3]), Writer()

    def product(name: str, source: str, rows: int, columns: int) -> str:
        raw = w.constant(f"{name}.weight", rng.normal(0, 0.5, (rows, columns)))
        weights = w.quant(f"{name}.weight_quant", raw, 2.0 ** -rng.integers(5, 8, (1, columns)), signed=True)
        offsets = w.constant(f"{name}.bias", rng.normal(0, 1, columns))
        bias = w.quant(f"{name}.bias_quant", offsets, 2.0**-5, signed=True)
        return w.node("Add", f"{name}_bias", [w.node("MatMul", name, [source, weights]), bias])

    x = w.quant("x_quant", "x", 2.0**-4, signed=True)
    wide = w.node("Relu", "relu", [product("widen", x, channels, hidden)])
    inner = w.quant("inner_quant", wide, 2.0**-4, signed=False)
    narrow = w.quant("narrow_quant", product("narrow", inner, hidden, channels), 2.0**-1, signed=True)
    y = w.quant("y_quant", w.node("Add", "residual", [x, narrow]), 2.0**-1, signed=True, output="y")
    shape = (1, tokens, channels)
    return w.model("mixer", "Channel mixing of an MLP-Mixer.", ("x", shape), (y, shape))


def token_inputs(seed: int, count: int = 1, tokens: int = TOKENS, channels: int = CHANNELS) -> np.ndarray:
    """x of `mixer_model`, (count, tokens, channels) float32: most of the range, hardly anything beyond it."""
    return np.random.default_rng([seed, 4]).normal(0, 2, (count, tokens, channels)).astype(np.float32)
