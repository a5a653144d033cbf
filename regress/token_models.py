# SPDX-License-Identifier: Apache-2.0
"""Networks that are no chains of dense layers: residual ones and MLP-Mixer's, as QONNX with power-of-two scales.

Weights are random; scales are calibrated on random inputs, as those of `dense_models`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.compose
from nncosim.regress.dense_models import fitted_scale
from nncosim.regress.zoo.writer import Writer

__all__ = ["beside", "mixer_block", "residual_mlp"]


@dataclass(frozen=True)
class _Tensor:
    """Its name, real values for random samples, and the scale of its integers."""

    name: str
    values: np.ndarray
    scale: float


class _Calibrated:
    """A graph in the making."""

    def __init__(self, shape: tuple[int, ...], bits: int, seed: int):
        self.w, self.bits = Writer(), bits
        self.rng = np.random.default_rng([seed, 5])
        most = (1 << bits - 1) - 1
        ints = np.clip(np.rint(self.rng.normal(0, most / 3, (16, *shape))), -most - 1, most)
        self.nodes, scale = 0, 2.0 ** (1 - bits)
        self.input = _Tensor(self.w.quant("x.quant", "x", scale, signed=True, bits=bits), ints * scale, scale)

    def name(self, what: str) -> str:
        self.nodes += 1
        return f"{what}{self.nodes}"

    def quantised(self, at: str, real: np.ndarray, output: str = "") -> _Tensor:
        top = (1 << self.bits - 1) - 1
        scale = fitted_scale(real, top)
        name = self.w.quant(self.name("quant"), at, scale, signed=True, bits=self.bits, output=output)
        return _Tensor(name, np.clip(np.rint(real / scale), -top - 1, top) * scale, scale)

    def matmul(self, source: _Tensor, outputs: int, relu: bool = False) -> _Tensor:
        """With a bias, and quantised."""
        name, unit = self.name("matmul"), 2.0**-9
        ints = np.clip(np.rint(self.rng.normal(0, 42, (source.values.shape[-1], outputs))), -127, 127)
        weights = self.w.quant(f"{name}.w.quant", self.w.constant(f"{name}.w", ints * unit), unit, signed=True)
        real = source.values @ (ints * unit)
        at, grid = self.w.node("MatMul", name, [source.name, weights]), unit * source.scale
        bias = np.rint(self.rng.normal(0, real.std() / 2, outputs) / grid)
        quant = self.w.quant(f"{name}.b.quant", self.w.constant(f"{name}.b", bias * grid), grid, signed=True, bits=32)
        at, real = self.w.node("Add", f"{name}.bias", [at, quant]), real + bias * grid
        if relu:
            at, real = self.w.node("Relu", f"{name}.relu", [at]), np.maximum(real, 0)
        return self.quantised(at, real)

    def turned(self, source: _Tensor) -> _Tensor:
        name = self.w.node("Transpose", self.name("transpose"), [source.name], perm=[0, 2, 1])
        return _Tensor(name, source.values.swapaxes(-1, -2), source.scale)

    def added(self, first: _Tensor, second: _Tensor, output: str = "") -> _Tensor:
        at = self.w.node("Add", self.name("add"), [first.name, second.name])
        return self.quantised(at, first.values + second.values, output)


def mixer_block(
    tokens: int, channels: int, hidden: tuple[int, int], *, bits: int = 8, seed: int = 0
) -> onnx.ModelProto:
    """MLP-Mixer's block without its normalisations, and with Relu: tokens are mixed, then channels, each with a sum.

    Input `x` and output `y` are (1, tokens, channels). hidden: widths of the two MLPs.
    """
    made = _Calibrated((tokens, channels), bits, seed)
    mixed = made.turned(made.input)
    mixed = made.matmul(made.matmul(mixed, hidden[0], relu=True), tokens)
    at = made.added(made.input, made.turned(mixed))
    at = made.added(at, made.matmul(made.matmul(at, hidden[1], relu=True), channels), output="y")
    shape = 1, tokens, channels
    return made.w.model(f"mixer {tokens}x{channels} {hidden[0]} {hidden[1]}", "A block of an MLP-Mixer.", ("x", shape),
                        ("y", shape))  # fmt: skip


def residual_mlp(features: int, blocks: int, *, batch: int = 8, bits: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Blocks of two dense layers and the sum with what they take. `x` and `y` are (batch, features)."""
    made = _Calibrated((features,), bits, seed)
    at = made.input
    for k in range(blocks):
        branch = made.matmul(made.matmul(at, features, relu=True), features)
        at = made.added(at, branch, output="y" if k == blocks - 1 else "")
    shape = batch, features
    return made.w.model(f"residual {features} x {blocks}", "Dense layers with sums.", ("x", shape), ("y", shape))


def beside(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """Two graphs as one, without a tensor in common. Names of the second get "other." in front."""
    whole, other = onnx.ModelProto(), onnx.compose.add_prefix(second, "other.").graph
    whole.CopyFrom(first)
    for name in ("node", "input", "output", "initializer"):
        getattr(whole.graph, name).extend(getattr(other, name))
    return whole
