# SPDX-License-Identifier: Apache-2.0
"""What the requantization proof of a layer of 128 channels costs, by form and width.

    python -m nncosim.regress.proof_speed [CASE ...]

A line a case: CPU seconds of search and proof (the least of the repeats), MB that they hold at most (traced, in a run
of its own, which that slows down), what was proved, and a digest of the integers and of the proof: a change that makes
it faster leaves all but the first two alone.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import tracemalloc
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from nncosim.compiler.ir.arithmetic import Lookup, MultiplyShift, Requant, Thresholds
from nncosim.compiler.ir.network import Proof, QuantFunction
from nncosim.compiler.proof.caps import FormCaps, LookupCaps, MultiplyShiftCaps, Per, ThresholdCaps
from nncosim.compiler.proof.forms import prove_function
from nncosim.compiler.proof.pairs import prove_pairs
from nncosim.platforms.rounding import Rounding

__all__ = ["CASES", "main"]

CHANNELS = 128
REPEATS = 3
Result = tuple[Requant, Proof]


def _scale(rng: np.random.Generator, low: float, high: float) -> Fraction:
    return Fraction(float(np.float32(rng.uniform(low, high))))


def _one(ratios: list[Fraction], offsets: list[Fraction], bits: int, reach: int, form: FormCaps) -> Result:
    """A function of accumulators of -reach to reach - 1, results of so many signed bits."""
    most = 1 << bits - 1
    function = QuantFunction((tuple(ratios),), tuple(offsets), Rounding.HALF_EVEN, -most, most - 1)
    return prove_function(function, np.full(len(ratios), -reach), np.full(len(ratios), reach - 1), form)


def _power(form: FormCaps, bits: int = 16) -> Callable[[], Result]:
    """One power of two for all channels."""
    return lambda: _one([Fraction(1, 256)] * CHANNELS, [Fraction(0)] * CHANNELS, bits, 1 << bits + 7, form)


def _scaled(form: FormCaps, reach: int, bits: int = 16, falling: bool = False) -> Callable[[], Result]:
    """Each channel with its own float32 scales and bias; the accumulators reach as far as the results."""
    def run() -> Result:
        rng = np.random.default_rng(1)
        scales = [_scale(rng, 0.5, 1) * _scale(rng, 0.5, 1) / _scale(rng, 0.5, 1) for _ in range(CHANNELS)]
        ratios = [r * (1 << bits - 1) / reach for r in scales]
        if falling:
            ratios = [-r if c % 3 == 0 else r for c, r in enumerate(ratios)]
        return _one(ratios, [_scale(rng, -100, 100) for _ in ratios], bits, reach, form)

    return run


def _added(bits: int, pairs: int, alike: bool = False) -> Callable[[], Result]:
    """An Add of operands with scales of their own, of one output scale; so many kinds among the channels. alike: both
    operands have one scale."""
    def run() -> Result:
        rng = np.random.default_rng(1)
        most = 1 << bits - 1
        kinds = []
        for _ in range(pairs):
            a, b, y = (_scale(rng, 0.1, 1) for _ in range(3))
            kinds.append((a / y, (a if alike else b) / y))
        first, second = zip(*(kinds[c % pairs] for c in range(CHANNELS)), strict=True)
        function = QuantFunction((first, second), (Fraction(0),) * CHANNELS, Rounding.HALF_EVEN, -most, most - 1)
        return prove_pairs(function, [(-most, most - 1)] * 2, MultiplyShiftCaps())

    return run


SHIFT = MultiplyShiftCaps(multiplier_bits=0, constant_bits=0)
NARROW = MultiplyShiftCaps(multiplier_bits=16)
LAYER = MultiplyShiftCaps(multiplier_per=Per.LAYER, constant_per=Per.LAYER, shift_per=Per.LAYER)
CASES: dict[str, Callable[[], Result]] = {
    "shift": _power(SHIFT),
    "multiply-shift, power of two": _power(MultiplyShiftCaps()),
    "multiply-shift, exact": _scaled(MultiplyShiftCaps(), 1 << 18),
    "multiply-shift, inexact": _scaled(MultiplyShiftCaps(), 1 << 26),
    "multiply-shift, inexact, falling": _scaled(MultiplyShiftCaps(), 1 << 26, falling=True),
    "multiply-shift, inexact, widest": _scaled(MultiplyShiftCaps(), 1 << 31),
    "multiply-shift, 16-bit numbers": _scaled(NARROW, 1 << 26),
    "multiply-shift, one for the layer": _scaled(LAYER, 1 << 26),
    "thresholds, 8 bit": _scaled(ThresholdCaps(255), 1 << 20, 8),
    "thresholds, 16 bit": _scaled(ThresholdCaps(65535), 1 << 26),
    "table, 8 bit": _scaled(LookupCaps(8), 128, 8),
    "table, 16 bit": _scaled(LookupCaps(16), 1 << 15),
    "add, 8 bit": _added(8, CHANNELS),
    "add, 12 bit": _added(12, 1),
    "add, 12 bit, equal scales": _added(12, 1, alike=True),
    "add, 16 bit, equal scales": _added(16, 1, alike=True),
    "add, 16 bit": _added(16, 1),
    "add, 12 bit, 128 kinds": _added(12, CHANNELS),
    "add, 16 bit, equal scales, 128 kinds": _added(16, CHANNELS, alike=True),
    "add, 16 bit, 128 kinds": _added(16, CHANNELS),
}


def _digest(requant: Requant, proof: Proof) -> str:
    """Of all numbers."""
    if isinstance(requant, MultiplyShift):
        parts = [*requant.m, requant.c, requant.s, requant.lo, requant.hi, requant.rounding]
    elif isinstance(requant, Thresholds):
        parts = [requant.first, np.array(requant.lo), requant.falling]
    elif isinstance(requant, Lookup):
        parts = [requant.values, np.array(requant.low)]
    else:
        raise TypeError(f"no digest of {type(requant).__name__}")
    text = hashlib.sha256(repr(proof).encode())
    for part in parts:
        text.update(part.astype(np.int64).tobytes())
    return text.hexdigest()[:16]


def _measure(run: Callable[[], Result]) -> tuple[float, float, Result]:
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        result = run()
        seconds.append(time.process_time() - begin)
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(seconds), peak / 1e6, result


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(prog="python -m nncosim.regress.proof_speed", description="Cost of the proof.")
    parser.add_argument("names", nargs="*", metavar="CASE", help="default: all")
    names = parser.parse_args().names or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"there is no case {unknown[0]!r}; the cases are {', '.join(CASES)}")
    for name in names:
        seconds, megabytes, (requant, proof) = _measure(CASES[name])
        print(
            f"{name:38} {seconds:7.3f} s {megabytes:6.1f} MB  {proof.exact_channels:3} channels exact, "
            f"{proof.differing_values} differ, {proof.undecided_values} undecided  {_digest(requant, proof)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
