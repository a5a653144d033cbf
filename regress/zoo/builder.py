# SPDX-License-Identifier: Apache-2.0
"""Layers with random weights, each calibrated on what the layers before it give for a few images.

A network with weights drawn blindly dies: after some layers everything saturates or is constant, and a wrong bit goes
unseen. Here every layer is normalised as training with batch normalization would leave it: its sums are brought to a
spread and a level of their own in each channel, and the scale of its Quant is fitted to what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from nncosim.regress.zoo.batch import convolve, moments, upper
from nncosim.regress.zoo.images import images
from nncosim.regress.zoo.writer import Writer

__all__ = ["Activation", "Layers"]

_SHARE, _ROOM = 0.998, 1.25
"""Of the values seen in calibration this share lies below 1 / _ROOM of the range."""
_RELU6 = 6.0
_WEIGHTS = 1 << 16
"""The number of the series of random weights, apart from those of images."""
_EPSILON = np.float32(1e-5)


@dataclass(frozen=True, eq=False)
class Activation:
    """A quantised map: the tensor's name in the graph, real = q * scale, and q (C, N, H, W) for the calibration."""

    tensor: str
    scale: np.float32
    signed: bool
    values: np.ndarray

    @property
    def channels(self) -> int:
        return int(self.values.shape[0])


class Layers:
    """A network under construction. Methods add a layer called `name` and give its activation.

    Args:
        seed: of weights and calibration images. count: of the latter.
        normalise: write BatchNormalization nodes; otherwise they are folded into weights and bias.
    """

    def __init__(self, seed: int, count: int, normalise: bool):
        self._seed, self._count, self._normalise = seed, count, normalise
        self._rng = np.random.default_rng([seed, _WEIGHTS])
        self._writer = Writer()
        self._shape: tuple[int, ...] = ()

    def image(self, height: int, width: int, signed: bool) -> Activation:
        """The graph's input `image`, (1, 3, height, width).

        Unsigned: pixels 0..255 stand for 0..1. Signed: pixels less 128, for -2..2.
        """
        pixels = images(self._seed, self._count, height, width).astype(np.float32).transpose(1, 0, 2, 3)
        self._shape = (1, 3, height, width)
        scale = np.float32(1 / 64) if signed else np.float32(1 / 255)
        tensor = self._writer.quant("image.quant", "image", scale, signed=signed, output="image_q")
        return Activation(tensor, scale, signed, pixels - 128 if signed else pixels)

    def conv(
        self, name: str, x: Activation, channels: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False,
        act: str = "relu", output: str = "",
    ) -> Activation:
        """Convolution with "same" padding, normalisation, activation ("relu", "relu6" or "none") and Quant."""
        groups = x.channels if depthwise else 1
        ints, raw, step = self._weights((channels, x.channels // groups, kernel, kernel))
        acc = convolve(x.values, ints, stride, groups)
        mean, spread = moments(acc)
        gamma, beta = self._normal(channels, act)
        real = (acc - mean[:, None, None, None]) * (gamma / spread)[:, None, None, None] + beta[:, None, None, None]
        scale = _fitted(real, act == "none")
        if act == "relu6":  # the range is given: the layer's gain makes use of it
            gain = _RELU6 / 255 / np.float64(scale)
            gamma, beta, real, scale = gamma * gain, beta * gain, real * gain, np.float32(_RELU6 / 255)
        unit = step * np.float64(x.scale)  # what 1 in acc stands for
        attributes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4,
                      "dilations": [1, 1], "group": groups}  # fmt: skip
        if self._normalise:
            inputs = [x.tensor, self._weight_quant(name, raw, step)]
            at = self._writer.node("Conv", name, inputs, **attributes)
            at = self._batch_normalization(name, at, gamma, beta, mean * unit, spread * unit)
        else:
            fold = gamma / (spread * unit)
            bias = self._writer.constant(f"{name}.bias", beta - mean * unit * fold)
            inputs = [x.tensor, self._weight_quant(name, raw, step, fold), bias]
            at = self._writer.node("Conv", name, inputs, **attributes)
        return self._quantise(name, self._activation(name, at, act), real, scale, act == "none", output)

    def _weights(self, shape: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integers -127..127, raw values before quantisation, and what an integer stands for (C,) by default."""
        raw = self._rng.integers(-400, 401, (3, *shape)).sum(axis=0)  # three dice: nearly normal
        if shape[1] > 8:  # as trained filters do, they look at differences more than at the common level
            raw = raw - np.rint(raw.mean(axis=(1, 2, 3), keepdims=True)).astype(np.int64)
        peak = np.maximum(np.abs(raw).max(axis=(1, 2, 3)), 1)
        ints = np.rint(raw * (127 / peak)[:, None, None, None])
        step = self._rng.integers(500, 1500, shape[0]) / (1000 * 127 * np.sqrt(shape[1] * shape[2] * shape[3]))
        return ints, raw / peak[:, None, None, None] * 127, step

    def _weight_quant(self, name: str, raw: np.ndarray, step: np.ndarray, gain: np.ndarray | float = 1.0) -> str:
        """Quant of per-channel scale on float weights. A negative gain changes their signs."""
        scale = (step * np.abs(gain)).astype(np.float32)
        signs = np.sign(np.broadcast_to(gain, scale.shape))
        shape = (-1,) + (1,) * (raw.ndim - 1)
        values = raw * (scale.astype(np.float64) * signs).reshape(shape)
        constant = self._writer.constant(f"{name}.weight", values)
        return self._writer.quant(f"{name}.weight_quant", constant, scale.reshape(shape), signed=True, narrow=True,
                                  output=f"{name}.weight_q")  # fmt: skip

    def _normal(self, channels: int, act: str) -> tuple[np.ndarray, np.ndarray]:
        """Spread (gamma, some negative) and level (beta) of each channel after normalisation."""
        gamma = self._rng.integers(600, 1400, channels) / 1000
        level = self._rng.integers(-300, 301, channels) / 1000 + (0.0 if act == "none" else 0.5)
        signs = np.where(self._rng.integers(0, 16, channels) == 0, -1.0, 1.0)
        return gamma * signs, level * gamma

    def _batch_normalization(
        self, name: str, source: str, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, spread: np.ndarray
    ) -> str:
        name = f"{name}.norm"
        variance = np.maximum(spread * spread - _EPSILON, _EPSILON)
        parts = {"gamma": gamma, "beta": beta, "mean": mean, "var": variance}
        inputs = [self._writer.constant(f"{name}.{part}", values) for part, values in parts.items()]
        return self._writer.node("BatchNormalization", name, [source, *inputs], epsilon=float(_EPSILON))

    def _activation(self, name: str, source: str, act: str) -> str:
        w = self._writer
        if act == "relu":
            return w.node("Relu", f"{name}.relu", [source])
        if act == "relu6":
            bounds = [w.constant(f"{name}.min", 0.0), w.constant(f"{name}.max", _RELU6)]
            return w.node("Clip", f"{name}.relu6", [source, *bounds])
        return source

    def _quantise(
        self, name: str, source: str, real: np.ndarray, scale: np.float32, signed: bool, output: str = ""
    ) -> Activation:
        """A Quant on `source`, whose values are `real`."""
        low, high = (-128, 127) if signed else (0, 255)
        values = np.clip(np.rint(real / np.float64(scale)), low, high).astype(np.float32)
        tensor = self._writer.quant(f"{name}.quant", source, scale, signed=signed, output=output or f"{name}.q")
        return Activation(tensor, scale, signed, values)

    def add(self, name: str, a: Activation, b: Activation) -> Activation:
        """The sum of two maps, int8."""
        real = a.values * np.float64(a.scale) + b.values * np.float64(b.scale)
        at = self._writer.node("Add", name, [a.tensor, b.tensor])
        return self._quantise(name, at, real, _fitted(real, True), True)

    def upsample(self, name: str, x: Activation) -> Activation:
        """Nearest neighbour, twice the rows and columns."""
        factors = self._writer.constant(f"{name}.scales", [1, 1, 2, 2])
        tensor = self._writer.node("Resize", name, [x.tensor, "", factors], mode="nearest", nearest_mode="floor",
                                   coordinate_transformation_mode="asymmetric")  # fmt: skip
        return Activation(tensor, x.scale, x.signed, x.values.repeat(2, axis=2).repeat(2, axis=3))

    def mean(self, name: str, x: Activation) -> Activation:
        """Global average pool with a Quant of its own, and Flatten: (C, N, 1, 1)."""
        total = x.values.astype(np.int64).sum(axis=(2, 3), keepdims=True)
        real = total * (np.float64(x.scale) / (x.values.shape[2] * x.values.shape[3]))
        at = self._writer.node("GlobalAveragePool", name, [x.tensor])
        made = self._quantise(name, at, real, _fitted(real, x.signed), x.signed)
        flat = self._writer.node("Flatten", f"{name}.flatten", [made.tensor], axis=1)
        return Activation(flat, made.scale, made.signed, made.values)

    def classify(self, name: str, x: Activation, classes: int, output: str) -> Activation:
        """Gemm with a float bias and an int8 Quant."""
        ints, raw, step = self._weights((classes, x.channels, 1, 1))
        real = step * np.float64(x.scale)
        logits = convolve(x.values, ints, 1, 1).astype(np.float64)
        mean, _ = moments(logits)
        # the level that all images share is taken out: what is left tells one image from another
        bias = -mean * real + self._rng.integers(-100, 101, classes) / 1000 * np.abs(mean * real)
        logits = logits * real[:, None, None, None] + bias[:, None, None, None]
        weights = self._weight_quant(name, raw[:, :, 0, 0], step)
        at = self._writer.node("Gemm", name, [x.tensor, weights, self._writer.constant(f"{name}.bias", bias)],
                               alpha=1.0, beta=1.0, transB=1)  # fmt: skip
        scale = np.float32(2) * _fitted(logits, True)  # with one number an image and class, little is known of them
        return self._quantise(name, at, logits, scale, True, output)

    def model(self, name: str, text: str, result: Activation, flat: bool = False) -> onnx.ModelProto:
        """The finished network with one output, (1, C, H, W), or (1, C) if `flat`."""
        shape = [1, result.channels] + ([] if flat else list(result.values.shape[2:]))
        return self._writer.model(name, text, ("image", self._shape), (result.tensor, shape))


def _fitted(real: np.ndarray, signed: bool) -> np.float32:
    """The scale of an 8-bit Quant of `real`."""
    peak = max(upper(real, _SHARE), upper(-real, _SHARE) if signed else 0.0)
    return np.float32(_ROOM * peak / (127 if signed else 255))
