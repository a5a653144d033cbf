# SPDX-License-Identifier: Apache-2.0
"""Comparing the tensors of a run with the reference, element for element and with no tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.ir import Network

__all__ = ["Comparison", "Divergence", "TensorComparison", "compare_frames", "compare_tensor"]


@dataclass(frozen=True)
class Divergence:
    """The first wrong element of a tensor, in C order of (channel, row, column).

    `got` is None where the run wrote nothing of the tensor. `note`: what is wrong when it is not one value.
    """

    tensor: str
    index: tuple[int, ...]
    expected: int
    got: int | None
    frame: int = 0
    note: str = ""

    def __str__(self) -> str:
        place = f"{self.tensor}[{', '.join(map(str, self.index))}]"
        got = "nothing" if self.got is None else str(self.got)
        frame = f" in inference {self.frame + 1}" if self.frame else ""
        note = f" ({self.note})" if self.note else ""
        return f"{place}: expected {self.expected}, got {got}{frame}{note}"


@dataclass(frozen=True)
class TensorComparison:
    """One tensor of one inference. `op`: the name of the operator that writes it."""

    tensor: str
    op: str
    elements: int
    wrong: int
    max_difference: int = 0
    first: Divergence | None = None

    @property
    def exact(self) -> bool:
        return self.wrong == 0


@dataclass(frozen=True)
class Comparison:
    """All tensors of all inferences, in the order in which the layers write them."""

    tensors: tuple[TensorComparison, ...]

    @property
    def bit_exact(self) -> bool:
        """False too when nothing was compared: a check of nothing is no check."""
        return bool(self.tensors) and all(t.exact for t in self.tensors)

    @property
    def first(self) -> Divergence | None:
        return next((t.first for t in self.tensors if not t.exact), None)

    @property
    def elements(self) -> int:
        return sum(t.elements for t in self.tensors)

    def of_op(self, op: str) -> tuple[TensorComparison, ...]:
        return tuple(t for t in self.tensors if t.op == op)


def compare_tensor(
    tensor: str, expected: np.ndarray, got: np.ndarray | None, *, op: str = "", frame: int = 0
) -> TensorComparison:
    """Compare two integer arrays (C, H, W). `got` None: the run wrote nothing of it.

    A wrong shape, or values that are no integers, make every element wrong.
    """
    expected = np.asarray(expected)
    start = (0,) * expected.ndim
    note = ""
    if got is None:
        note = "never written"
    elif np.asarray(got).shape != expected.shape:
        note = f"shape {tuple(np.asarray(got).shape)} instead of {tuple(expected.shape)}"
    elif not np.issubdtype(np.asarray(got).dtype, np.integer):
        note = f"{np.asarray(got).dtype} values instead of integers"
    if note:
        first = Divergence(tensor, start, int(expected[start]), None, frame, note)
        return TensorComparison(tensor, op, expected.size, expected.size, 0, first)
    wide = np.asarray(got).astype(np.int64)
    wrong = wide != expected
    count = int(np.count_nonzero(wrong))
    if not count:
        return TensorComparison(tensor, op, expected.size, 0)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    note = f"{count} of {expected.size} elements differ" if count > 1 else ""
    first = Divergence(tensor, index, int(expected[index]), int(wide[index]), frame, note)
    largest = int(np.abs(wide - expected).max())
    return TensorComparison(tensor, op, expected.size, count, largest, first)


def compare_frames(
    network: Network,
    expected: tuple[Mapping[str, np.ndarray], ...],
    got: tuple[Mapping[str, np.ndarray], ...],
) -> Comparison:
    """Compare every operator's output, and the input as the machine held it, of each inference.

    Inferences of which the run gives nothing (it stopped before) count as never written. The order is inference by
    inference, layer by layer, so that `Comparison.first` is where the error began.
    """
    found = []
    for frame, reference in enumerate(expected):
        tensors = got[frame] if frame < len(got) else {}
        for name in network.inputs:
            if name in tensors:
                found.append(compare_tensor(name, reference[name], tensors[name], frame=frame))
        for op in network.ops:
            out = op.output
            found.append(compare_tensor(out, reference[out], tensors.get(out), op=op.name, frame=frame))
    return Comparison(tuple(found))
