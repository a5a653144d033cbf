# SPDX-License-Identifier: Apache-2.0
"""What a reader of another format notes in an ONNX model's metadata, for the importer: how single values are rounded.

ONNX has no words for arithmetic in integers: most of TensorFlow Lite's kernels multiply by a 32-bit number and round
twice. A graph read from there is an ordinary quantised one, which any tool can take; what its values are to the last
bit stands beside it. `https://www.tensorflow.org/lite/performance/quantization_spec` has the operators, and the
reference kernels (`tensorflow/lite/kernels/internal/common.h`, MultiplyByQuantizedMultiplier) the arithmetic; those of
the package `ai-edge-litert` 2.3 are what all of it was compared with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import frexp

import numpy as np
import onnx
from nncosim.compiler.frontend.values import Affine
from nncosim.compiler.image.plain import from_plain, to_plain
from nncosim.compiler.ir.arithmetic import Chain, MultiplyShift, Requant, Sum, Thresholds
from nncosim.compiler.ir.thresholds import boundaries, round_fraction, step_thresholds
from nncosim.platforms.rounding import Rounding

__all__ = ["FixedPoint", "Operand", "Rescale", "meanings_of", "note", "remark", "remarks_of"]

_VALUE = "nncosim.value."
_REMARK = "nncosim.remark."
_POINT = 31
_FAR = 1 << 40
"""A bound between two roundings that nothing reaches."""


@dataclass(frozen=True)
class Rescale:
    """x * multiplier / 2**31, rounded half up, times 2**shift, rounded half away from zero (shift < 0)."""

    multiplier: int
    shift: int

    @classmethod
    def of(cls, factor: float) -> Rescale:
        """The number nearest to a positive double, as QuantizeMultiplier makes it."""
        mantissa, shift = frexp(factor)
        multiplier = int(mantissa * (1 << _POINT) + 0.5)
        if multiplier == 1 << _POINT:
            multiplier, shift = multiplier // 2, shift + 1
        return cls(0, 0) if shift < -_POINT else cls(multiplier, shift)


@dataclass(frozen=True)
class Operand:
    """(q - zero_point) * 2**left, rescaled by itself before a sum."""

    zero_point: int
    left: int
    rescale: Rescale


@dataclass(frozen=True)
class FixedPoint:
    """How a value is computed from its accumulators.

    Attributes:
        rescales: of the accumulator with bias and without zero point: one, or one by channel.
        operands: of a sum; its operands in order.
        rounding: of the exact quotient, before the zero point is added; without `rescales`.
        whole: `rounding` is that of the quotient with the zero point in it.
    """

    rescales: tuple[Rescale, ...] = ()
    operands: tuple[Operand, ...] = ()
    rounding: Rounding | None = None
    whole: bool = False

    def integers(self, form: Affine, reach: np.ndarray, zero_point: int, lo: int, hi: int) -> Requant:
        """The whole function of `form`, in output steps before the zero point, with its zero point and clip.

        Args:
            reach: int64 (C,), the greatest magnitude of the accumulators.

        Raises:
            ValueError: `form` does not come from such accumulators (other operands, or an offset that is not a whole
                number of them), or the kernels' 32 bits may overflow on the way.
        """
        channels = form.channels
        if len(form.ratios) != max(len(self.operands), 1):
            raise ValueError("it has other operands than the file's operator")
        if self.rounding is not None:
            numbers = zip(form.ratios[0], form.offset, reach.tolist(), strict=True)
            _require_32_bits([abs(r) * a + abs(o) for r, o, a in numbers])
            return _rounded(form, self.rounding, zero_point, lo, hi)
        last = MultiplyShift.uniform(channels, c=zero_point, lo=lo, hi=hi)
        rescales = self.rescales if len(self.rescales) > 1 else self.rescales * channels
        if self.operands:
            terms = tuple(
                Chain(_stages((each.rescale,) * channels, [-each.zero_point] * channels, each.left))
                for each in self.operands
            )
            return Chain((Sum(terms), *_stages(rescales, [0] * channels), last))
        offsets = [o / r if r else Fraction(0) for r, o in zip(form.ratios[0], form.offset, strict=True)]
        if any(each.denominator > 1 for each in offsets):
            raise ValueError("its bias is no whole number of the accumulator's steps")
        _require_32_bits([
            (int(a) + abs(o)) * (1 << max(r.shift, 0)) for a, o, r in zip(reach, offsets, rescales, strict=True)
        ])  # fmt: skip
        return Chain((*_stages(rescales, [int(o) for o in offsets]), last))


def _require_32_bits(numbers: Sequence[Fraction]) -> None:
    largest = max(numbers)
    if largest >= 1 << 31:
        raise ValueError(f"numbers of up to {float(largest):.3g} leave the 32 bits of the file's kernel: its output's "
                         "scale is too small")  # fmt: skip


def _rounded(form: Affine, rounding: Rounding, zero_point: int, lo: int, hi: int) -> Requant:
    """The exact quotient, rounded before the zero point is added."""
    twice, strict = boundaries(rounding, lo - zero_point, hi - zero_point)
    first, far = np.empty((form.channels, hi - lo), dtype=np.int64), _FAR
    for row, ratio, offset in zip(first, form.ratios[0], form.offset, strict=True):
        if ratio:
            row[:] = step_thresholds(abs(ratio), offset, twice, strict, -far, far)
        else:
            row[:] = np.where(np.arange(lo + 1, hi + 1) - zero_point <= round_fraction(offset, rounding), -far, far)
    return Thresholds(first, lo, np.array([ratio < 0 for ratio in form.ratios[0]]))


def _stages(rescales: Sequence[Rescale], added: Sequence[int], left: int = 0) -> tuple[MultiplyShift, MultiplyShift]:
    """Both roundings of (accumulator + added) * 2**left, by channel."""
    channels = len(rescales)
    factors = [r.multiplier << left + max(r.shift, 0) for r in rescales]
    first = MultiplyShift.uniform(channels, s=_POINT, lo=-_FAR, hi=_FAR, rounding=Rounding.HALF_UP)
    then = MultiplyShift.uniform(channels, lo=-_FAR, hi=_FAR, rounding=Rounding.HALF_AWAY)
    first.m[0][:], first.c[:] = factors, [f * a for f, a in zip(factors, added, strict=True)]
    then.s[:] = [max(-r.shift, 0) for r in rescales]
    return first, then


def note(model: onnx.ModelProto, value: str, meaning: FixedPoint) -> None:
    """Write how an ONNX value is computed into the model."""
    _write(model, _VALUE + value, json.dumps(to_plain(meaning)))


def remark(model: onnx.ModelProto, text: str) -> None:
    """Write what was assumed of the model, for the user, into it."""
    _write(model, f"{_REMARK}{len(remarks_of(model))}", text)


def _write(model: onnx.ModelProto, key: str, value: str) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value


def meanings_of(model: onnx.ModelProto) -> dict[str, FixedPoint]:
    """By ONNX value."""
    return {
        entry.key.removeprefix(_VALUE): from_plain(FixedPoint, json.loads(entry.value), entry.key)
        for entry in model.metadata_props if entry.key.startswith(_VALUE)
    }


def remarks_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """In the order in which they were written."""
    return tuple(entry.value for entry in model.metadata_props if entry.key.startswith(_REMARK))
