# SPDX-License-Identifier: Apache-2.0
"""One element of an ONNX value in rational arithmetic, by the definition of each operator, back to quantised values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Protocol

import numpy as np
from nncosim.tb.reference.onnx_windows import Attributes, OnnxWindows

__all__ = ["ROUNDINGS", "QonnxRounding", "Undecidable", "exact_element"]

Index = tuple[int, ...]
_HALF = Fraction(1, 2)


class Undecidable(Exception):
    """The element has no rational value that is known here."""


@dataclass(frozen=True)
class QonnxRounding:
    """A rounding mode of QONNX. `array`: of float64. `exact`: of a rational. `half`: it steps between integers."""

    array: Callable[[np.ndarray], np.ndarray]
    exact: Callable[[Fraction], int]
    half: bool

    def distance(self, steps: np.ndarray) -> np.ndarray:
        """How far each number is from where the result steps."""
        return np.abs(steps - np.floor(steps) - 0.5) if self.half else np.abs(steps - np.rint(steps))


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


_NEAREST = QonnxRounding(np.rint, round, True)  # both to even
ROUNDINGS: Mapping[str, QonnxRounding] = {
    "ROUND": _NEAREST,
    "HALF_EVEN": _NEAREST,
    "FLOOR": QonnxRounding(np.floor, math.floor, False),
    "CEIL": QonnxRounding(np.ceil, math.ceil, False),
    "DOWN": QonnxRounding(np.trunc, math.trunc, False),
    "UP": QonnxRounding(lambda x: np.copysign(np.ceil(np.abs(x)), x), lambda x: _sign(x) * math.ceil(abs(x)), False),
    "HALF_UP": QonnxRounding(lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
                        lambda x: _sign(x) * math.floor(abs(x) + _HALF), True),
    "HALF_DOWN": QonnxRounding(lambda x: np.copysign(np.ceil(np.abs(x) - 0.5), x),
                          lambda x: _sign(x) * math.ceil(abs(x) - _HALF), True),
}  # fmt: skip
"""By QONNX name: UP is away from zero, DOWN toward it; HALF_UP and HALF_DOWN likewise, of ties."""


class _Value(Protocol):
    """See `onnx_reference.Value`."""

    @property
    def ints(self) -> np.ndarray | None: ...
    @property
    def floats(self) -> np.ndarray | None: ...
    @property
    def constant(self) -> bool: ...
    @property
    def shape(self) -> Index: ...
    @property
    def real(self) -> np.ndarray: ...
    def exact(self, index: Index) -> Fraction: ...


class _Node(Protocol):
    """See `onnx_reference.ReferenceNode`."""

    @property
    def op(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def attributes(self) -> Attributes: ...


def exact_element(name: str, index: Index, values: Mapping[str, _Value], makers: Mapping[str, _Node]) -> Fraction:
    """Element `index` of ONNX value `name`.

    Args:
        values: `onnx_reference.Value` by name, of at least all quantised values and constants before it. makers:
            `onnx_reference.ReferenceNode` by the values that it makes.

    Raises:
        Undecidable: there is an operator on the way that this knows no rational definition of.
    """
    known = values.get(name)
    if known is not None and (known.ints is not None or known.constant):
        return known.exact(index)
    node = makers.get(name)
    if node is None or node.op not in _DEFINITIONS:
        raise Undecidable(name)
    return _DEFINITIONS[node.op](_Element(node, index, values, makers))


@dataclass(frozen=True)
class _Element:
    """What a definition works with: its node and the element wanted."""

    node: _Node
    index: Index
    values: Mapping[str, _Value]
    makers: Mapping[str, _Node]

    def given(self, n: int) -> bool:
        return n < len(self.node.inputs) and bool(self.node.inputs[n])

    def known(self, n: int) -> _Value:
        """Input `n`; of maps of floats the shape alone is left."""
        return self.values[self.node.inputs[n]]

    def at(self, n: int, index: Index) -> Fraction:
        return exact_element(self.node.inputs[n], index, self.values, self.makers)

    def spread(self, n: int) -> Fraction:
        """Input `n` at this element's index, with ONNX's (numpy's) broadcasting."""
        shape = self.known(n).shape
        own = self.index[len(self.index) - len(shape):]
        return self.at(n, tuple(0 if size == 1 else i for i, size in zip(own, shape, strict=True)))

    def channel(self, n: int) -> Fraction:
        """The parameter of this element's channel."""
        return self.at(n, (self.index[1],))

    def numbers(self, name: str, default: list[int]) -> list[int]:
        return [int(v) for v in self.node.attributes.get(name, default)]


def _taps(e: _Element, size: list[int], kernel: list[int]) -> list[tuple[Index, Index]]:
    """(position in the kernel, position in the map) of each tap that does not fall on the padding."""
    windows, found = OnnxWindows(e.node.attributes, size, kernel), []
    for tap in product(*map(range, kernel)):
        places = zip(e.index[2:], windows.stride, tap, windows.dilation, windows.before, strict=True)
        at = tuple(o * s + t * d - p for o, s, t, d, p in places)
        if all(0 <= i < n for i, n in zip(at, size, strict=True)):
            found.append((tap, at))
    return found


def _conv(e: _Element) -> Fraction:
    x, w = e.known(0), e.known(1)
    outputs, depth = w.shape[:2]
    channel = e.index[1]
    first = channel // (outputs // int(e.node.attributes.get("group", 1))) * depth
    total = e.at(2, (channel,)) if e.given(2) else Fraction(0)
    for tap, at in _taps(e, list(x.shape[2:]), list(w.shape[2:])):
        for d in range(depth):
            total += w.exact((channel, d, *tap)) * e.at(0, (e.index[0], first + d, *at))
    return total


def _average_pool(e: _Element) -> Fraction:
    kernel = e.numbers("kernel_shape", [])
    taps = _taps(e, list(e.known(0).shape[2:]), kernel)
    total = sum((e.at(0, (*e.index[:2], *at)) for _, at in taps), Fraction(0))
    return total / (math.prod(kernel) if e.node.attributes.get("count_include_pad", 0) else len(taps))


def _mean(e: _Element) -> Fraction:
    """Over height and width."""
    rows, columns = e.known(0).shape[2:]
    total = sum((e.at(0, (*e.index[:2], r, c)) for r in range(rows) for c in range(columns)), Fraction(0))
    return total / (rows * columns)


def _reduce_mean(e: _Element) -> Fraction:
    axes = e.numbers("axes", []) or [int(a) for a in e.known(1).real.ravel()]
    if {a % 4 for a in axes} != {2, 3}:
        raise Undecidable("axes")
    return _mean(e)


def _gemm(e: _Element) -> Fraction:
    if e.node.attributes.get("transA", 0):
        raise Undecidable("transA")
    a, b = e.known(0), e.known(1)
    *rows, column = e.index
    flipped = e.node.attributes.get("transB", 0)
    total = sum((e.at(0, (*rows, k)) * b.exact((column, k) if flipped else (k, column)) for k in range(a.shape[-1])),
                Fraction(0))  # fmt: skip
    alpha, beta = (Fraction(float(e.node.attributes.get(k, 1.0))) for k in ("alpha", "beta"))
    return alpha * total + (beta * e.spread(2) if e.given(2) else 0)


def _batch_normalization(e: _Element) -> Fraction:
    epsilon = Fraction(float(e.node.attributes.get("epsilon", np.float32(1e-5))))
    square = e.channel(4) + epsilon
    shift = 512  # binary digits behind the point, of the root
    root = Fraction(math.isqrt((square.numerator << 2 * shift) // square.denominator), 1 << shift)
    return e.channel(1) * (e.at(0, e.index) - e.channel(3)) / root + e.channel(2)


def _clip(e: _Element) -> Fraction:
    value = e.at(0, e.index)
    bounds = [e.known(n).real.item() if e.given(n) else e.node.attributes.get(name)
              for n, name in ((1, "min"), (2, "max"))]  # fmt: skip
    if bounds[0] is not None and bounds[0] > -math.inf:
        value = max(value, Fraction(bounds[0]))
    return min(value, Fraction(bounds[1])) if bounds[1] is not None and bounds[1] < math.inf else value


def _concat(e: _Element) -> Fraction:
    axis, index = e.node.attributes["axis"] % len(e.index), list(e.index)
    for n in range(len(e.node.inputs)):
        size = e.known(n).shape[axis]
        if index[axis] < size:
            return e.at(n, tuple(index))
        index[axis] -= size
    raise Undecidable("axis")


_DEFINITIONS: Mapping[str, Callable[[_Element], Fraction]] = {
    "Add": lambda e: e.spread(0) + e.spread(1),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": lambda e: e.spread(0) / e.spread(1),
    "Dropout": lambda e: e.at(0, e.index),
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "Identity": lambda e: e.at(0, e.index),
    "MatMul": _gemm,
    "Mul": lambda e: e.spread(0) * e.spread(1),
    "ReduceMean": _reduce_mean,
    "Relu": lambda e: max(e.at(0, e.index), Fraction(0)),
    "Sub": lambda e: e.spread(0) - e.spread(1),
}
