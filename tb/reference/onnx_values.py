# SPDX-License-Identifier: Apache-2.0
"""What the plain evaluator of ONNX graphs passes from node to node."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from nncosim.tb.reference.onnx_windows import Attributes

__all__ = ["ReferenceFailure", "ReferenceNode", "Value", "scales", "whole"]


class ReferenceFailure(RuntimeError):
    """The reference cannot evaluate a node, or float64 is too short for it. Says which node."""


@dataclass(frozen=True, eq=False)
class Value:
    """An ONNX value, in ONNX layout.

    Quantised: real = (ints - zero) * scale, with `ints` int64, `scale` float64 of the same shape, and `low` to `high`
    the range of its Quant; else `floats` (float64, or integers such as a shape). `constant`: no graph input
    has a part in it. `integer`: its elements are the integers themselves, as a QuantizeLinear makes them (the scale
    of a graph input of integers is not known). `given`: it is a graph input, or what arithmetic makes of one before its
    Quant, in float32.
    """

    floats: np.ndarray | None = None
    ints: np.ndarray | None = None
    scale: np.ndarray | None = None
    zero: int = 0
    low: float = -np.inf
    high: float = np.inf
    constant: bool = False
    integer: bool = False
    given: bool = False

    @property
    def real(self) -> np.ndarray:
        """As floats. Exact where integers have at most 29 bits."""
        if self.ints is None or self.scale is None:
            assert self.floats is not None
            return self.floats
        return (self.ints - self.zero) * self.scale

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.floats if self.ints is None else self.ints).shape  # type: ignore[union-attr]

    def exact(self, index: tuple[int, ...]) -> Fraction:
        """One element of a quantised value or a constant, as the rational that it is."""
        if self.ints is None or self.scale is None:
            assert self.floats is not None
            return Fraction(float(self.floats[index]))
        return (int(self.ints[index]) - self.zero) * Fraction(float(self.scale[index]))


@dataclass(frozen=True)
class ReferenceNode:
    """A node of the graph: its name (or its first output's), operator, inputs, outputs and attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes


def scales(value: Value) -> np.ndarray:
    """Of each element; 1 where integers of the graph's input have none yet."""
    return np.ones(value.shape) if value.scale is None else value.scale


def whole(value: Value) -> int:
    """The one whole number that a zero point or bit width is."""
    numbers = np.unique(value.real)
    if len(numbers) != 1 or numbers[0] != np.round(numbers[0]):
        raise ReferenceFailure(f"a zero point or bit width must be one whole number, not {numbers}")
    return int(numbers[0])
