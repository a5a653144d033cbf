# SPDX-License-Identifier: Apache-2.0
"""What the integers stand for: the scale of every point and of every layer's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from nncosim.compiler.quantize.graph import FloatGraph
from nncosim.compiler.quantize.options import QuantizeOptions
from nncosim.compiler.quantize.points import Layer, Plan
from nncosim.compiler.quantize.ranges import activation_range, range_by_error
from nncosim.compiler.quantize.rescale import apply_factors, scaled_with
from nncosim.compiler.quantize.statistics import Statistics

__all__ = ["ActivationScale", "Scales", "WeightScale", "choose_scales", "normalise", "weight_scale"]

_MANTISSA = 8
"""Bits of the multipliers of "dyadic" scales."""
_FREE_MANTISSA = 16
"""Binary digits of scales that need not be powers of two: times a multiplier they still are float32 numbers."""
_SMALLEST = 2.0**-100
"""Scales of what is always zero."""


@dataclass(frozen=True)
class ActivationScale:
    """real = q * scale; q has `bits` and the sign."""

    scale: np.float32
    bits: int
    signed: bool

    @property
    def levels(self) -> tuple[int, int]:
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)

    @property
    def range(self) -> tuple[float, float]:
        low, high = self.levels
        return low * float(self.scale), high * float(self.scale)


@dataclass(frozen=True, eq=False)
class WeightScale:
    """`scale`: float32, (1,) or (OC,). Integers are -(2^(bits-1) - 1) .. 2^(bits-1) - 1."""

    scale: npt.NDArray[np.float32]
    bits: int

    @property
    def largest(self) -> int:
        return (1 << self.bits - 1) - 1


@dataclass(frozen=True)
class Scales:
    """`points`: by value. `layers`: by name."""

    points: Mapping[str, ActivationScale]
    layers: Mapping[str, WeightScale]

    def with_layer(self, name: str, scale: WeightScale) -> Scales:
        return replace(self, layers={**self.layers, name: scale})


def choose_scales(
    graph: FloatGraph, plan: Plan, seen: Mapping[str, Statistics], options: QuantizeOptions
) -> Scales:
    """Scales for all points and weights. `seen`: of each point."""
    points: dict[str, ActivationScale] = {}
    outputs = {plan.point_of[name] for name in graph.outputs}
    for members in _sharing(plan):
        signed = not options.unsigned or any(seen[value].low < 0 for value in members)
        levels = (1 << options.activation_bits - signed) - 1
        # A result that nobody reads may have any scale: its layer's weights take over the odd part of it.
        free = members <= outputs and all(plan.points[v].kind == "layer" and not _read(plan, v) for v in members)
        found = [_point_scale(seen[value], levels, options, free) for value in members]
        points |= {value: ActivationScale(max(found), options.activation_bits, signed) for value in members}
    layers = {
        layer.name: weight_scale(graph, layer, options, points[plan.result_of(layer).value])
        for layer in plan.layers.values()
    }
    return Scales({value: points[value] for value in plan.points}, layers)


def _read(plan: Plan, value: str) -> bool:
    return any(value in point.sources for point in plan.points.values())


def _sharing(plan: Plan) -> list[set[str]]:
    """Points by the scale that they share."""
    return _unions(plan.points, plan.joined)


def _unions(members: Mapping[str, object], sets: list[set[str]]) -> list[set[str]]:
    of = {value: {value} for value in members}
    for joined in sets:
        whole = set().union(*(of[value] for value in joined))
        of |= dict.fromkeys(whole, whole)
    return list({id(group): group for group in of.values()}.values())


def _point_scale(seen: Statistics, levels: int, options: QuantizeOptions, free: bool) -> np.float32:
    step = activation_range(seen, levels, options) / levels
    if options.scales == "float":
        return np.float32(step)
    if free:
        return np.float32(_cut(step, _FREE_MANTISSA))
    magnitudes, counts = np.abs(seen.centres), seen.histogram.astype(np.float64)
    return np.float32(_power_of_two(magnitudes, counts, levels, step))


def _power_of_two(
    magnitudes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], levels: int, step: float
) -> float:
    """The power of two at `step` or next to it with the least mean squared error."""
    if step <= _SMALLEST:
        return _SMALLEST
    up = math.ceil(math.log2(step) - 1e-6)  # a range that was made to fit is not doubled for its rounding
    errors = []
    for exponent in (up, up - 1):
        size = 2.0**exponent
        shown = np.minimum(np.rint(magnitudes / size), levels) * size
        errors.append((float((np.square(magnitudes - shown) * weights).sum()), size))
    return min(errors, key=lambda found: found[0])[1]


def weight_scale(
    graph: FloatGraph, layer: Layer, options: QuantizeOptions, result: ActivationScale | None
) -> WeightScale:
    """Of one layer's weights as they are now. `result`: the scale of what the layer makes, for scales that depend on
    it."""
    unit = 1.0 if options.scales == "float" or result is None else 2 * math.frexp(float(result.scale))[0]
    bits = options.bits_of(layer.name)
    weights = np.moveaxis(graph.constants[layer.weights], layer.axis, 0).astype(np.float64)
    rows = np.abs(weights.reshape(len(weights), -1) if options.per_channel else weights.reshape(1, -1))
    levels = (1 << bits - 1) - 1
    scale = np.array([_weight_step(row / unit, levels, options) for row in rows]) * unit
    return WeightScale(scale.astype(np.float32), bits)


def _weight_step(row: npt.NDArray[np.float64], levels: int, options: QuantizeOptions) -> float:
    largest = float(row.max(initial=0.0))
    if largest == 0:
        return 1.0
    # With few levels the largest weight is not worth its range.
    r = largest if levels > 7 else range_by_error(row, np.ones_like(row), levels, largest)
    if options.scales == "shift":
        return _power_of_two(row, np.ones_like(row), levels, r / levels)
    if options.scales == "dyadic":
        return _cut(r / levels, _MANTISSA)
    return r / levels


def _cut(step: float, bits: int) -> float:
    """The least number of so many binary digits from `step` on."""
    unit = 2.0 ** (math.floor(math.log2(step)) - bits + 1)
    return math.ceil(step / unit) * unit


def normalise(
    graph: FloatGraph, plan: Plan, seen: Mapping[str, Statistics], options: QuantizeOptions
) -> dict[str, float]:
    """Scale the layers' results, in place, so that powers of two fit their ranges and their weights; and statistics.

    Returns the factor of each point. Graph inputs and outputs, and what a curve reads or gives, keep theirs.
    """
    fixed = {plan.point_of[name] for name in (*graph.inputs, *graph.outputs)}
    for point in plan.points.values():
        if point.kind == "curve":
            fixed |= {point.value, *point.sources}
    sets = [{point.value, *scaled_with(plan, point)} for point in plan.points.values()]
    factors = dict.fromkeys(plan.points, 1.0)
    for group in _unions(plan.points, [*sets, *plan.joined]):
        if not group & fixed:
            factors |= dict.fromkeys(group, _factor_of(graph, plan, group, seen, factors, options))
    apply_factors(graph, plan, factors)
    for value, factor in factors.items():
        seen[value].scale(factor)
    return factors


def _factor_of(
    graph: FloatGraph, plan: Plan, group: set[str], seen: Mapping[str, Statistics], factors: Mapping[str, float],
    options: QuantizeOptions,
) -> float:
    """With the least noise: a step that is twice too large has four times the noise. `factors`: of points before."""
    signed = not options.unsigned or any(seen[name].low < 0 for name in group)
    levels = (1 << options.activation_bits - signed) - 1
    steps = np.array([activation_range(seen[name], levels, options) / levels for name in sorted(group)])
    if steps.max() <= _SMALLEST:
        return 1.0
    needs = [steps]
    for layer in plan.layers.values() if options.scales == "shift" else ():
        if plan.result_of(layer).value in group:
            weights = weight_scale(graph, layer, replace(options, scales="float"), None).scale
            needs.append(weights.astype(np.float64) / factors[layer.source])

    def noise(factor: float) -> float:
        wanted = [np.log2(np.maximum(need * factor, _SMALLEST)) for need in needs]
        return float(sum(np.mean(4.0 ** (np.ceil(x - 1e-6) - x)) for x in wanted))

    fit = 2.0 ** round(math.log2(steps.max())) / steps.max()
    return min((fit * 2.0**-t for t in np.arange(0, 1, 1 / 32)), key=noise)
