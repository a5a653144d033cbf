# SPDX-License-Identifier: Apache-2.0
"""Element-wise real functions in exact arithmetic: bounds as close as asked for, and float32's error beside them.

exp comes from Python's decimal module, which rounds it correctly, so a result of n digits encloses the true value
within one unit in its last place. All else is rational. exp of a rational number other than 0 is transcendental, and
so is each function here that is made from it; it never meets a rounding threshold, and enough digits decide every
rounding.
"""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from fractions import Fraction

__all__ = [
    "MAX_ARGUMENT", "UNIT", "Real", "elu", "hard_sigmoid", "leaky_relu", "product", "sigmoid", "softplus", "tanh",
]  # fmt: skip

UNIT = Fraction(1, 1 << 24)
"""Half the spacing of float32 relative to the value."""

MAX_ARGUMENT = 4096
"""Exponentials of larger numbers are refused: they would take more than 1,800 digits."""

_ONE = Fraction(1)
_OPERATIONS = 16
"""Error of a float32 library's exp, tanh and the like, in units of 2**-24 of the result or of 1."""


@dataclass(frozen=True)
class Real:
    """A real number within lo..hi. `error`: how far float32 arithmetic may be from it."""

    lo: Fraction
    hi: Fraction
    error: Fraction = Fraction(0)

    @property
    def size(self) -> Fraction:
        return max(abs(self.lo), abs(self.hi))

    def affine(self, factor: Fraction, shift: Fraction) -> Real:
        """factor * self + shift."""
        ends = self.lo * factor + shift, self.hi * factor + shift
        rounding = 3 * UNIT * (self.size * abs(factor) + abs(shift))
        return Real(min(ends), max(ends), self.error * abs(factor) + rounding)

    def clip(self, low: Fraction | None, high: Fraction | None) -> Real:
        lo, hi = (v if low is None else max(v, low) for v in (self.lo, self.hi))
        if high is not None:
            lo, hi = min(lo, high), min(hi, high)
        return Real(lo, hi, self.error)


def _bounds(name: str, low: Fraction, high: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Bounds of decimal's increasing function `name` ("exp" or "ln") at low and high, to about 10**-digits of it."""
    context = decimal.Context(prec=digits + 8, Emax=10**6, Emin=-(10**6))
    ends = []
    for x, rounding, step in (
        (low, decimal.ROUND_FLOOR, context.next_minus), (high, decimal.ROUND_CEILING, context.next_plus)
    ):  # fmt: skip
        context.rounding = rounding
        argument = context.divide(decimal.Decimal(x.numerator), decimal.Decimal(x.denominator))
        ends.append(Fraction(step(getattr(context, name)(argument))))
    return ends[0], ends[1]


def _exp(low: Fraction, high: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Bounds of exp; exact for 0."""
    return (_ONE, _ONE) if low == high == 0 else _bounds("exp", low, high, digits)


def _smooth(x: Real, lo: Fraction, hi: Fraction, slope: Fraction) -> Real:
    """The value of a library function: `slope` bounds its derivative."""
    return Real(lo, hi, slope * x.error + _OPERATIONS * UNIT * max(_ONE, abs(lo), abs(hi)))


def _bent(x: Real, ends: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    """Bounds of a function that is x where x is positive, and lies between `ends` and 0 elsewhere."""
    if x.hi <= 0:
        return min(ends), max(ends)
    return min(*ends, Fraction(0)), max(*ends, x.hi)


def sigmoid(x: Real, digits: int) -> Real:
    """1 / (1 + exp(-x))."""
    low, high = _exp(-x.hi, -x.lo, digits)
    return _smooth(x, 1 / (1 + high), 1 / (1 + low), Fraction(1, 4))


def tanh(x: Real, digits: int) -> Real:
    """1 - 2 / (exp(2 x) + 1)."""
    low, high = _exp(2 * x.lo, 2 * x.hi, digits)
    return _smooth(x, 1 - 2 / (low + 1), 1 - 2 / (high + 1), _ONE)


def elu(x: Real, digits: int, alpha: Fraction) -> Real:
    """x, or alpha * (exp(x) - 1) where x is negative."""
    if x.lo >= 0:
        return x
    low, high = _exp(x.lo, min(x.hi, Fraction(0)), digits)
    return _smooth(x, *_bent(x, (alpha * (low - 1), alpha * (high - 1))), max(_ONE, abs(alpha)))


def softplus(x: Real, digits: int) -> Real:
    """ln(1 + exp(x))."""
    low, high = _exp(x.lo, x.hi, digits)
    return _smooth(x, *_bounds("ln", 1 + low, 1 + high, digits), _ONE)


def hard_sigmoid(x: Real, alpha: Fraction, beta: Fraction) -> Real:
    """alpha * x + beta, within 0..1."""
    return x.affine(alpha, beta).clip(Fraction(0), _ONE)


def leaky_relu(x: Real, alpha: Fraction) -> Real:
    """x, or alpha * x where x is negative."""
    if x.lo >= 0:
        return x
    lo, hi = _bent(x, (alpha * x.lo, alpha * min(x.hi, Fraction(0))))
    return Real(lo, hi, max(_ONE, abs(alpha)) * x.error + 2 * UNIT * abs(alpha) * x.size)


def product(a: Real, b: Real) -> Real:
    ends = [p * q for p in (a.lo, a.hi) for q in (b.lo, b.hi)]
    error = a.size * b.error + b.size * a.error + a.error * b.error + 2 * UNIT * a.size * b.size
    return Real(min(ends), max(ends), error)
