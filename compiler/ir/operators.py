# SPDX-License-Identifier: Apache-2.0
"""The operators of the integer network: all that the shared layers know of each is its class.

A new operator is one more class, here or anywhere; kernels say by name (`Op.kind`) which ones they take.
Maps are (..., C, H, W): whatever stands before the channels is computed one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import numpy as np
from nncosim.compiler.ir.network import Op, Tensor

__all__ = ["Add", "Concat", "Conv", "MatMul", "Pool", "Requantize", "Resize", "Table", "Transpose"]

Bounds = tuple[np.ndarray, np.ndarray]


def _span(inputs: Sequence[Tensor]) -> tuple[int, int]:
    """The values that the inputs can hold."""
    return min(t.type.lo for t in inputs), max(t.type.hi for t in inputs)


def _alike(channels: int, lo: int, hi: int) -> Bounds:
    return np.full(channels, lo, dtype=np.int64), np.full(channels, hi, dtype=np.int64)


def _padded(x: np.ndarray, pads: tuple[int, int, int, int], value: int) -> np.ndarray:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0),) * (x.ndim - 2) + ((top, bottom), (left, right)), constant_values=value)


def _taps(
    x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """View of shape (..., KH, KW, OH, OW) on a padded map (..., H, W)."""
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(-2, -1))  # type: ignore[call-overload]
    windows = windows[..., ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
    return np.moveaxis(windows, (-2, -1), (-4, -3))


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Convolution, and Gemm/MatMul as a convolution whose kernel is the whole map.

    `weights`: int64 (OC, IC // groups, KH, KW). `pads`: (top, left, bottom, right) filled with
    `pad_value` (the input's zero point, so that padding is a real zero).
    The accumulator is sum(w * q) over raw input integers; zero points are in `function.offset`.
    `onnx_op`: "Conv", "Gemm" or "MatMul", for reports. `weight_bits`: that the graph gives the weights; 0: not known.
    """

    trained: ClassVar[tuple[str, ...]] = ("pad_value",)

    weights: np.ndarray = field(kw_only=True)
    stride: tuple[int, int] = field(default=(1, 1), kw_only=True)
    pads: tuple[int, int, int, int] = field(default=(0, 0, 0, 0), kw_only=True)
    dilation: tuple[int, int] = field(default=(1, 1), kw_only=True)
    groups: int = field(default=1, kw_only=True)
    pad_value: int = field(default=0, kw_only=True)
    onnx_op: str = field(default="Conv", kw_only=True)
    weight_bits: int = field(default=0, kw_only=True)

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        x = inputs[0]
        maps = [self._convolve(one) for one in x.reshape(-1, *x.shape[-3:])]
        return [np.stack(maps).reshape(*x.shape[:-3], *maps[0].shape)]

    def _convolve(self, x: np.ndarray) -> np.ndarray:
        """sum(w * q) of one (C, H, W), exactly: in float64 (BLAS) where no sum can reach 2**53, else in int64."""
        outputs, depth, kh, kw = self.weights.shape
        taps = _taps(_padded(x, self.pads, self.pad_value), (kh, kw), self.stride, self.dilation)
        out_map = taps.shape[3:]
        if depth == 1:
            repeat = outputs // x.shape[0]
            total = np.zeros((outputs, *out_map), dtype=np.int64)
            for i in range(kh):
                for j in range(kw):
                    plane = np.repeat(taps[:, i, j], repeat, axis=0) if repeat > 1 else taps[:, i, j]
                    total += plane * self.weights[:, 0, i, j, None, None]
            return total
        reach = int(np.abs(self.weights).reshape(outputs, -1).sum(axis=1).max()) * int(np.abs(taps).max(initial=0))
        kind = np.float64 if reach < 1 << 53 else np.int64
        columns = taps.reshape(self.groups, depth * kh * kw, -1).astype(kind)
        weights = self.weights.reshape(self.groups, outputs // self.groups, -1).astype(kind)
        return (weights @ columns).astype(np.int64).reshape(outputs, *out_map)

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        low, high = self._products(inputs)
        return low.sum(axis=1), high.sum(axis=1)

    def partial_bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        low, high = self._products(inputs)
        return np.minimum(low, 0).sum(axis=1), np.maximum(high, 0).sum(axis=1)

    def _products(self, inputs: Sequence[Tensor]) -> Bounds:
        """Least and greatest product of each weight, (OC, terms)."""
        lo, hi = _span(inputs)
        if any(self.pads):
            lo, hi = min(lo, self.pad_value), max(hi, self.pad_value)
        weights = self.weights.reshape(self.weights.shape[0], -1).astype(np.int64)
        return np.minimum(weights * lo, weights * hi), np.maximum(weights * lo, weights * hi)

    def absolute(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
        positive = replace(self, weights=np.abs(self.weights), pad_value=abs(self.pad_value))
        return positive.accumulate([np.abs(inputs[0])]), int(np.prod(self.weights.shape[1:]))

    def macs(self, inputs: Sequence[Tensor], output: Tensor) -> int:
        return int(self.weights[0].size) * output.elements

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        return (self.weights,)

    @property
    def title(self) -> str:
        if self.onnx_op != "Conv":
            return self.onnx_op
        depth, rows, columns = self.weights.shape[1:]
        text = f"Conv {rows}x{columns}"
        if self.groups > 1:
            text += " dw" if depth == 1 else f" g{self.groups}"
        text += f" s{self.stride[0]}" if max(self.stride) > 1 else ""
        return text + (f" d{self.dilation[0]}" if max(self.dilation) > 1 else "")


@dataclass(frozen=True, eq=False)
class MatMul(Op):
    """Product of the channels, which are the last axis, with constant weights, for all other axes one by one.

    `weights`: int64 (OC, IC). The accumulator is sum(w * q) over raw input integers, as of a `Conv`.
    """

    weights: np.ndarray = field(kw_only=True)
    weight_bits: int = field(default=0, kw_only=True)

    @property
    def _conv(self) -> Conv:
        """What it is of one vector (C, 1, 1)."""
        return Conv(self.name, self.inputs, self.output, weights=self.weights[:, :, None, None])

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = inputs[0].reshape(1, -1, self.weights.shape[1])
        columns = self._conv.accumulate([rows.transpose(2, 0, 1)])[0]
        return [columns.transpose(1, 2, 0).reshape(*inputs[0].shape[:-1], -1)]

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return self._conv.bounds(inputs)

    def partial_bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return self._conv.partial_bounds(inputs)

    def absolute(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
        positive = replace(self, weights=np.abs(self.weights))
        return positive.accumulate([np.abs(inputs[0])]), self.weights.shape[1]

    def macs(self, inputs: Sequence[Tensor], output: Tensor) -> int:
        return output.elements * self.weights.shape[1]

    def on_pixels(self) -> Op:
        """A convolution of 1 x 1."""
        common = {each.name: getattr(self, each.name) for each in fields(self)}
        return Conv(**{**common, "weights": self.weights[:, :, None, None]}, onnx_op="MatMul")

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        return (self.weights,)


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """`mode` "max" (accumulator = maximum) or "sum" (accumulator = sum; the average is in the ratio).

    `pad_value` is neutral for max, the zero point for sum.
    """

    trained: ClassVar[tuple[str, ...]] = ("pad_value",)

    mode: str = field(kw_only=True)
    kernel: tuple[int, int] = field(kw_only=True)
    stride: tuple[int, int] = field(default=(1, 1), kw_only=True)
    pads: tuple[int, int, int, int] = field(default=(0, 0, 0, 0), kw_only=True)
    pad_value: int = field(default=0, kw_only=True)

    @property
    def _terms(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        taps = _taps(_padded(inputs[0], self.pads, self.pad_value), self.kernel, self.stride)
        return [taps.max(axis=(-4, -3)) if self.mode == "max" else taps.sum(axis=(-4, -3))]

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return self._bounds(inputs, with_zero=False)

    def partial_bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return self._bounds(inputs, with_zero=True)

    def _bounds(self, inputs: Sequence[Tensor], with_zero: bool) -> Bounds:
        lo, hi = _span(inputs)
        if self.mode == "sum":
            if any(self.pads):
                lo, hi = min(lo, self.pad_value), max(hi, self.pad_value)
            lo, hi = (min(lo, 0), max(hi, 0)) if with_zero else (lo, hi)
            lo, hi = lo * self._terms, hi * self._terms
        return _alike(inputs[0].channels, lo, hi)

    def absolute(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
        positive = replace(self, pad_value=abs(self.pad_value))
        return positive.accumulate([np.abs(inputs[0])]), self._terms

    @property
    def title(self) -> str:
        kind = "MaxPool" if self.mode == "max" else "AveragePool"
        return f"{kind} {self.kernel[0]}x{self.kernel[1]}"


class _EachElement(Op):
    """An operand per input, each the input itself."""

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(inputs)

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return _alike(inputs[0].channels, *_span(inputs))

    def on_pixels(self) -> Op:
        return self


@dataclass(frozen=True, eq=False)
class Add(_EachElement):
    """Element-wise sum of two tensors of one shape; the two operands have a ratio each."""


@dataclass(frozen=True, eq=False)
class Requantize(_EachElement):
    """Element-wise change of scale, type or clip (a Quant on quantised data, a stand-alone Relu)."""


@dataclass(frozen=True, eq=False)
class Table(Op):
    """Element-wise function of one tensor of at most 8 bits: the output is `values[q & 255]`, and `requant` is None.

    `values`: 256 integers, for signed inputs q = -1 is the last. `nearby`: empty, or for each of them (lowest, highest)
    result that float32 arithmetic may give instead, for comparisons with a float executor. `function` is there where
    the table stands for a Requantize.
    """

    requantized: ClassVar[bool] = False
    trained: ClassVar[tuple[str, ...]] = ("values", "nearby")

    values: tuple[int, ...] = field(kw_only=True)
    nearby: tuple[tuple[int, int], ...] = field(default=(), kw_only=True)

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.array(self.values, dtype=np.int64)[inputs[0] & 255]]

    def operands(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The input: `function` is that of the Requantize for which the table stands."""
        return list(inputs)

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return _alike(inputs[0].channels, min(self.values), max(self.values))

    def float_reach(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.nearby:
            return None
        low, high = np.array(self.nearby, dtype=np.int64).T
        return low[inputs[0] & 255], high[inputs[0] & 255]

    def on_pixels(self) -> Op:
        return self


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Concatenation on channels; values are copied, `function` is None. `axis`: the channels', from the end."""

    requantized: ClassVar[bool] = False
    copies: ClassVar[bool] = True
    joins: ClassVar[bool] = True

    axis: int = field(default=-3, kw_only=True)

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate(inputs, axis=self.axis)]

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return _alike(sum(t.channels for t in inputs), *_span(inputs))

    def on_pixels(self) -> Op:
        return replace(self, axis=-3)


@dataclass(frozen=True, eq=False)
class Resize(Op):
    """Nearest-neighbour enlargement by whole factors (rows, columns); values are copied."""

    requantized: ClassVar[bool] = False
    copies: ClassVar[bool] = True

    factors: tuple[int, int] = field(kw_only=True)

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [inputs[0].repeat(self.factors[0], axis=-2).repeat(self.factors[1], axis=-1)]

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        return _alike(inputs[0].channels, *_span(inputs))


@dataclass(frozen=True, eq=False)
class Transpose(Op):
    """Channels and tokens change places; values are copied. `axes`: of the two, from the end."""

    requantized: ClassVar[bool] = False
    copies: ClassVar[bool] = True

    axes: tuple[int, int] = field(default=(-2, -1), kw_only=True)

    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.swapaxes(inputs[0], *self.axes)]

    def bounds(self, inputs: Sequence[Tensor]) -> Bounds:
        (source,) = inputs
        first, second = (source.shape[axis] for axis in self.axes)
        return _alike(first * second // source.channels, *_span(inputs))

    def on_pixels(self) -> Op:
        return replace(self, axes=(-3, -1))
