# SPDX-License-Identifier: Apache-2.0
"""Comparing the tensors of a run with the reference, element for element and with no tolerance.

What is kept in memory is compared as it lies there; and everything as it was seen on its way into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from nncosim.compiler.ir.network import Network
from nncosim.tb.backend import Frame

__all__ = ["Comparison", "Divergence", "TensorComparison", "compare_frames", "compare_tensor"]


@dataclass(frozen=True)
class Divergence:
    """The first wrong element of a tensor, in C order of the tensor's axes.

    `got` is None where the run wrote nothing of the tensor. `note`: what is wrong when it is not one value.
    `onnx_index`: the element's place as the ONNX graph has it, where that is another one than `index`.
    """

    tensor: str
    index: tuple[int, ...]
    expected: int
    got: int | None
    frame: int = 0
    note: str = ""
    onnx_index: tuple[int, ...] = ()

    @property
    def told(self) -> tuple[int, ...]:
        """The place for users, who know the graph."""
        return self.onnx_index or self.index

    def __str__(self) -> str:
        place = f"{self.tensor}[{', '.join(map(str, self.told))}]"
        got = "nothing" if self.got is None else str(self.got)
        frame = f" in inference {self.frame + 1}" if self.frame else ""
        note = f" ({self.note})" if self.note else ""
        return f"{place}: expected {self.expected}, got {got}{frame}{note}"


@dataclass(frozen=True)
class TensorComparison:
    """One tensor of one inference. `op`: the name of the operator that writes it, "" of an input.

    `from_memory`: whether what lies in memory was compared; else only what was seen on its way there.
    """

    tensor: str
    op: str
    elements: int
    wrong: int
    max_difference: int = 0
    first: Divergence | None = None
    from_memory: bool = False

    @property
    def exact(self) -> bool:
        return self.wrong == 0


@dataclass(frozen=True)
class Comparison:
    """All tensors that operators make, of all inferences, in the order in which the layers write them.

    `inputs`: graph inputs that were read back from memory. They show whether the run had what the user gave; being
    no results, they do not count as compared.
    """

    tensors: tuple[TensorComparison, ...]
    inputs: tuple[TensorComparison, ...] = ()

    @property
    def bit_exact(self) -> bool:
        """False too when nothing was compared: a check of nothing is no check."""
        return bool(self.tensors) and all(t.exact for t in (*self.inputs, *self.tensors))

    @property
    def first(self) -> Divergence | None:
        found = [t.first for t in (*self.inputs, *self.tensors) if t.first is not None]
        return min(found, key=lambda divergence: divergence.frame, default=None)

    @property
    def elements(self) -> int:
        return sum(t.elements for t in self.tensors)

    @property
    def from_memory(self) -> int:
        """How many of the tensors were compared as they lie in memory."""
        return sum(t.from_memory for t in self.tensors)

    def of_op(self, op: str) -> tuple[TensorComparison, ...]:
        return tuple(t for t in self.tensors if t.op == op)


def compare_tensor(
    tensor: str, expected: np.ndarray, got: np.ndarray | None, *, op: str = "", frame: int = 0,
    absent: str = "never written",
) -> TensorComparison:
    """Compare two integer arrays of one shape. `got` None: there is nothing, which is `absent`.

    A wrong shape, or values that are no integers, make every element wrong.
    """
    expected = np.asarray(expected)
    start = (0,) * expected.ndim
    note = ""
    if got is None:
        note = absent
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


def _compare_twice(
    tensor: str, expected: np.ndarray, written: np.ndarray | None, memory: np.ndarray | None, op: str, frame: int
) -> TensorComparison:
    """Compare what was written and what lies in memory; where these two differ, that is what is told."""
    first = compare_tensor(tensor, expected, written, op=op, frame=frame)
    second = compare_tensor(tensor, expected, memory, op=op, frame=frame, absent="never read back from memory")
    worse = replace(max(first, second, key=lambda t: t.wrong), from_memory=memory is not None)
    if written is None or memory is None or not np.shape(written) == np.shape(memory) == np.shape(expected):
        return worse
    differ = np.asarray(written) != memory
    if not differ.any():
        return worse
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(differ)), differ.shape))
    note = f"in memory, but {int(written[index])} was written"
    if (count := int(np.count_nonzero(differ))) > 1:
        note += f"; memory holds something else than was written in {count} of {expected.size} elements"
    return replace(worse, first=Divergence(tensor, index, int(expected[index]), int(memory[index]), frame, note))


def compare_frames(
    network: Network, expected: tuple[Mapping[str, np.ndarray], ...], got: tuple[Frame, ...]
) -> Comparison:
    """Compare every operator's output, and the inputs as memory held them, of each inference.

    Of an inference that ended, each graph output must have been read back from memory. Inferences of which the run
    gives nothing (it stopped before) count as never written. The order is inference by inference, layer by layer,
    so that `Comparison.first` is where the error began.
    """
    found, inputs = [], []
    for number, reference in enumerate(expected):
        frame = got[number] if number < len(got) else Frame(0, {}, ())
        for held, when in ((frame.loaded, "as loaded"), (frame.memory, "as it lies in memory at the end")):
            for name in (name for name in network.inputs if name in held):
                checked = compare_tensor(name, reference[name], held[name], frame=number)
                if checked.first is not None:
                    note = f"graph input, {when}" + f"; {checked.first.note}" * bool(checked.first.note)
                    checked = replace(checked, first=replace(checked.first, note=note))
                inputs.append(replace(checked, from_memory=True))
        for op in network.ops:
            out, written = op.output, frame.tensors.get(op.output)
            if out in frame.memory or (frame.cycles and out in network.outputs):
                found.append(_compare_twice(out, reference[out], written, frame.memory.get(out), op.name, number))
            else:
                found.append(compare_tensor(out, reference[out], written, op=op.name, frame=number))
    return Comparison(tuple(_told(network, each) for each in found), tuple(_told(network, each) for each in inputs))


def _told(network: Network, checked: TensorComparison) -> TensorComparison:
    """With the first wrong element's place as the ONNX graph has it."""
    first, tensor = checked.first, network.tensors[checked.tensor]
    if first is None or not tensor.onnx_axes:
        return checked
    return replace(checked, first=replace(first, onnx_index=tensor.onnx_index(first.index)))
