# SPDX-License-Identifier: Apache-2.0
"""What the user's host does with arrays before they are quantised inputs, and with outputs: arithmetic and layout.

A graph input may pass through arithmetic by constants (a normalisation) and through transpositions before its Quant;
an output through transpositions after the machine has stored it. These steps are data of the network, so that an image
that runs without its model feeds and reads the same. Arithmetic is in float32, node by node, as ONNX computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LAYOUT", "HostStep", "apply_steps", "arrange", "inverse", "rearrange", "shapes_of", "undo_steps"]

LAYOUT = ("Reshape", "Transpose")
"""Steps that move values and change none."""

_ARITHMETIC: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add, "Div": np.divide, "Max": np.maximum, "Min": np.minimum, "Mul": np.multiply, "Sub": np.subtract,
}  # fmt: skip


@dataclass(frozen=True)
class HostStep:
    """One step on an array.

    `op`: "Reshape" or "Transpose" with `numbers`, the new shape or order of axes; "Add", "Sub", "Mul", "Div", "Max",
    "Min" by the float32 constant `values` (row-major) of the shape `numbers`; "Sign": +1 from 0 on, else -1.
    """

    op: str
    numbers: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    @classmethod
    def by(cls, op: str, constant: np.ndarray) -> HostStep:
        """Arithmetic by a constant."""
        flat = np.asarray(constant, dtype=np.float32)
        return cls(op, tuple(flat.shape), tuple(float(v) for v in flat.ravel()))

    @property
    def constant(self) -> np.ndarray:
        return np.array(self.values, dtype=np.float32).reshape(self.numbers)


def apply_steps(array: np.ndarray, steps: Sequence[HostStep]) -> np.ndarray:
    """The array after all steps, in float32."""
    value = np.asarray(array, dtype=np.float32)
    for step in steps:
        if step.op in _ARITHMETIC:
            value = _ARITHMETIC[step.op](value, step.constant)
        elif step.op == "Sign":
            value = np.where(value >= 0, np.float32(1), np.float32(-1))
        else:
            value = arrange(value, (step,))
    return value


def arrange(array: np.ndarray, steps: Sequence[HostStep]) -> np.ndarray:
    """The array's values, of any type, after the steps of layout among `steps`."""
    for step in steps:
        if step.op == "Reshape":
            array = array.reshape(step.numbers)
        elif step.op == "Transpose":
            array = array.transpose(step.numbers)
    return array


def shapes_of(shape: Sequence[int], steps: Sequence[HostStep]) -> list[tuple[int, ...]]:
    """The shape before each step, and after the last."""
    shapes = [tuple(shape)]
    for step in steps:
        last = shapes[-1]
        new = {"Reshape": step.numbers, "Transpose": tuple(last[a] for a in step.numbers if step.op == "Transpose")}
        shapes.append(new.get(step.op, last))
    return shapes


def inverse(steps: Sequence[HostStep], shape: Sequence[int]) -> tuple[HostStep, ...]:
    """Steps of layout that undo steps of layout on an array of `shape`."""
    back = []
    for step, before in reversed([*zip(steps, shapes_of(shape, steps), strict=False)]):
        axes = tuple(int(a) for a in np.argsort(step.numbers))
        back.append(HostStep("Reshape", before) if step.op == "Reshape" else HostStep("Transpose", axes))
    return tuple(back)


def rearrange(array: np.ndarray, steps: Sequence[HostStep], shape: Sequence[int]) -> np.ndarray:
    """The inverse of `arrange`; `shape`: of its argument."""
    return arrange(array, inverse([step for step in steps if step.op in LAYOUT], shape))


def undo_steps(array: np.ndarray, steps: Sequence[HostStep], shape: Sequence[int]) -> np.ndarray:
    """An array of `shape` that the steps turn into about `array`, float64; where a step forgets, any such."""
    inverse = {"Add": np.subtract, "Sub": np.add, "Div": np.multiply}
    value = np.asarray(array, dtype=np.float64)
    for step, before in reversed([*zip(steps, shapes_of(shape, steps), strict=False)]):
        if step.op in inverse:
            value = inverse[step.op](value, step.constant)
        elif step.op == "Mul":
            value = value / np.where(step.constant == 0, 1, step.constant)
        elif step.op in LAYOUT:
            value = rearrange(value, (step,), before)
    return value
