# SPDX-License-Identifier: Apache-2.0
"""What the importer knows about an ONNX value: a constant, integers, or an affine form not yet rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from nncosim.compiler.frontend.enclosures import Real
from nncosim.compiler.ir.host import HostStep
from nncosim.compiler.ir.network import Op, TensorType
from nncosim.compiler.ir.operators import Requantize
from nncosim.platforms.rounding import Rounding

__all__ = [
    "Affine", "Constant", "Curve", "FloatInput", "Integers", "Moved", "Parts", "QuantConstant", "QuantParameters",
    "Quantised", "Unknown", "Value", "fractions",
]

Bound = Fraction | None


def fractions(values: np.ndarray) -> tuple[Fraction, ...]:
    """float32 or float64 numbers as the exact rationals they are."""
    return tuple(Fraction(float(v)) for v in np.asarray(values).ravel())


@dataclass(frozen=True)
class Unknown:
    """The output of a node that has been refused; whatever reads it stays silent."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A float or integer initializer."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


@dataclass(frozen=True, eq=False)
class QuantConstant:
    """A quantised weight or bias: real = ints * scale (the zero point is already subtracted).

    `ints` int64 and `scale` have one shape; `scale` is float32, or float64 where it is a product of two such. `bits`:
    of its Quant.
    """

    ints: np.ndarray
    scale: np.ndarray
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ints.shape

    @property
    def fractions(self) -> tuple[Fraction, ...]:
        return tuple(int(i) * s for i, s in zip(self.ints.ravel(), fractions(self.scale), strict=True))


@dataclass(frozen=True)
class FloatInput:
    """A graph input before its Quant, after `steps` on the host. `at`: the ONNX value that this is."""

    name: str
    shape: tuple[int, ...]
    steps: tuple[HostStep, ...] = ()
    at: str = ""


@dataclass(frozen=True)
class Quantised:
    """Integers in network tensor `tensor`. `shape`: the value's ONNX shape, row-major over the tensor's axes.

    `kind`: what the integers mean here, where arithmetic after their Quant gave them another scale or zero point than
    their tensor's; that zero point may be a fraction.
    """

    tensor: str
    shape: tuple[int, ...]
    kind: TensorType | None = None


@dataclass(frozen=True, eq=False)
class Affine:
    """A real value clip(sum_i acc_i * ratios[i] + offset, low, high), per channel, waiting for its Quant.

    `op` is the operator that makes the accumulators, still without name and output. `extents`: the sizes of the
    result's axes by their names (see `ir.Tensor`), which hold the elements of the ONNX `shape` in the same order.
    `low`, `high`: one bound per channel, None where there is none. `magnitude`: per channel, the sum of absolute
    values of everything that was added into `offset` (for bounds of float32 error). `nodes`: ONNX nodes folded in.
    """

    op: Op
    extents: Mapping[str, int]
    shape: tuple[int, ...]
    ratios: tuple[tuple[Fraction, ...], ...]
    offset: tuple[Fraction, ...]
    low: tuple[Bound, ...]
    high: tuple[Bound, ...]
    magnitude: tuple[float, ...]
    nodes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return len(self.offset)

    @property
    def clipped(self) -> bool:
        return any(b is not None for b in self.low + self.high)

    @property
    def rescales(self) -> bool:
        """Whether it is one tensor's integers with another scale and offset: no sum, no clip, no sign turned."""
        return isinstance(self.op, Requantize) and not self.clipped and all(r > 0 for r in self.ratios[0])

    def through(self, node: str) -> Affine:
        """The same value, with one more ONNX node folded into it."""
        return replace(self, nodes=(*self.nodes, node))

    def scaled(self, factor: tuple[Fraction, ...], shift: tuple[Fraction, ...], size: tuple[float, ...]) -> Affine:
        """factor * self + shift, per channel; `size`: what `shift` adds to `magnitude`."""
        low, high = [], []
        for f, s, a, b in zip(factor, shift, self.low, self.high, strict=True):
            first = None if a is None or f == 0 else a * f + s
            second = None if b is None or f == 0 else b * f + s
            low.append(first if f >= 0 else second)
            high.append(second if f >= 0 else first)
        return replace(
            self,
            ratios=tuple(tuple(r * f for r, f in zip(one, factor, strict=True)) for one in self.ratios),
            offset=tuple(o * f + s for o, f, s in zip(self.offset, factor, shift, strict=True)),
            low=tuple(low), high=tuple(high),
            magnitude=tuple(
                m * abs(float(f)) + z for m, f, z in zip(self.magnitude, factor, size, strict=True)
            ),
        )

    def clip(self, low: Bound, high: Bound) -> Affine:
        """Clip to low..high in real numbers (Relu is clip(0, None))."""
        def into(value: Fraction) -> Fraction:
            value = value if low is None else max(value, low)
            return value if high is None else min(value, high)
        return replace(
            self,
            low=tuple(low if a is None else into(a) for a in self.low),
            high=tuple(high if b is None else into(b) for b in self.high),
        )


@dataclass(frozen=True, eq=False)
class QuantParameters:
    """How reals become integers. `scale`: float32 array as in the model, not yet broadcast.

    `linear`: by a QuantizeLinear, which adds the zero point after rounding; else by a Quant.
    """

    scale: np.ndarray
    zero_point: int
    bits: int
    signed: bool
    lo: int
    hi: int
    rounding: Rounding
    linear: bool = False


@dataclass(frozen=True, eq=False)
class Parts:
    """A concatenation on channels that has not been written yet, so that its Quant can act on the parts.

    `back`: steps of layout from the ONNX value `output` to this one.
    """

    parts: tuple[Quantised | Affine, ...]
    shape: tuple[int, ...]
    node: str
    output: str
    back: tuple[HostStep, ...] = ()


@dataclass(frozen=True, eq=False)
class Curve:
    """A real function of the integers of network tensor `tensor`, the same for all elements, waiting for its Quant.

    `real`: of (integer, decimal digits), the function's value enclosed to about so many digits.
    """

    tensor: str
    extents: Mapping[str, int]
    shape: tuple[int, ...]
    real: Callable[[int, int], Real]
    nodes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Integers:
    """An ONNX value of integer type: what a QuantizeLinear makes of `source`, until a DequantizeLinear reads it.

    Nothing is written before that, so that a Clip of the integers only narrows `parameters`. The scale of a graph input
    of integers is NaN: the node that reads them says what it is. `node`: (name, operator type) of the node that makes
    them, as ONNX value `output`. `back`: steps of layout from that value to this one.
    """

    source: FloatInput | Quantised | Affine | Parts | Curve
    parameters: QuantParameters
    node: tuple[str, str]
    output: str
    back: tuple[HostStep, ...] = ()

    @property
    def has_scale(self) -> bool:
        return bool(np.isfinite(self.parameters.scale).all())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape


@dataclass(frozen=True, eq=False)
class Moved:
    """A stored value, or one waiting for its Quant, in another order: `steps` of layout after it give `shape`.

    `by`: the node that last moved it, (name, operator).
    """

    inner: Quantised | Affine | Parts | Curve | Integers
    steps: tuple[HostStep, ...]
    shape: tuple[int, ...]
    by: tuple[str, str]


Value = Unknown | Constant | QuantConstant | FloatInput | Quantised | Affine | Parts | Curve | Integers | Moved
