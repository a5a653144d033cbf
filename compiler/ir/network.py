# SPDX-License-Identifier: Apache-2.0
"""The integer network: the compiler's immutable intermediate representation.

A tensor's axes have names: maps are ("C", "H", "W") with the batch left out, and a vector is such a map of 1 x 1;
("T", "C") are tokens; "N" before these is a batch that the platform takes as a whole. All values are integers; a
tensor's `TensorType` says what they mean. Every operator carries the exact rational
function it has to compute (`QuantFunction`) and, after the proof, the integer `Requant` that does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import ClassVar, SupportsFloat

import numpy as np
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.arithmetic import Requant
from nncosim.compiler.ir.host import HostStep
from nncosim.compiler.ir.thresholds import (
    boundaries,
    evaluate_exact,
    round_fraction,
    searched_thresholds,
    step_thresholds,
)
from nncosim.platforms.rounding import Rounding

__all__ = ["MAP", "Network", "Op", "Proof", "QuantFunction", "Tensor", "TensorType"]

MAP = ("C", "H", "W")
"""The axes of a map."""


@dataclass(frozen=True)
class TensorType:
    """What the integers of a tensor mean: real = (q - zero_point) * scale + offset.

    `scale` holds one exact rational (per tensor) or one per channel; `lo`..`hi` is the range that
    values can take (a narrow 4-bit unsigned tensor has 0..14), always within bits and sign. `offset` is
    empty (zero) except in a graph output that has no Quant: that tensor holds raw accumulators, and
    `offset`, one per channel, is the bias.
    """

    bits: int
    signed: bool
    scale: tuple[Fraction, ...]
    zero_point: int
    lo: int
    hi: int
    offset: tuple[Fraction, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """`axes`: the names of the axes of `shape`, each once: "C" (the channels, always there), "H" and "W" (rows and
    columns), "T" (tokens), "N" (batch). `onnx_axes`: those that the ONNX graph has, in its order, where that is another
    one: ("W", "C") of tokens that are a map of one row; empty where the graph's order is that of `axes`.

    Raises:
        CompileError: axes that do not fit the shape; or a size other than 1 along an axis that the graph has not.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    axes: tuple[str, ...] = MAP
    onnx_axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape) or len({*self.axes}) != len(self.axes) or "C" not in self.axes:
            raise CompileError(
                f"tensor {self.name!r} of shape {self.shape} needs an axis for each size, C among them, not {self.axes}"
            )
        if self.onnx_axes and (
            len({*self.onnx_axes}) != len(self.onnx_axes)
            or {axis for axis, size in self.extents.items() if size > 1} - {*self.onnx_axes}
            or not {"C"} <= {*self.onnx_axes} <= {*self.axes}
        ):
            raise CompileError(f"tensor {self} cannot have the axes {self.onnx_axes} in the ONNX graph")

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def extents(self) -> dict[str, int]:
        """The size of each axis by its name, in order."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def chw(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a map.

        Raises:
            CompileError: other axes.
        """
        if self.axes != MAP:
            raise CompileError(f"tensor {self} is no map of channels, rows and columns")
        channels, rows, columns = self.shape
        return channels, rows, columns

    @property
    def channels(self) -> int:
        return self.shape[self.channel_axis]

    @property
    def channel_axis(self) -> int:
        return self.axes.index("C")

    @property
    def onnx_channel_axis(self) -> int:
        """Where the channels stand in the ONNX graph, behind the batch."""
        return 1 + [axis for axis in self.onnx_axes or self.axes if axis != "N"].index("C")

    @property
    def _onnx_order(self) -> tuple[int, ...]:
        """The numbers of all axes in the graph's order, those that the graph has not before the others."""
        order = self.onnx_axes or self.axes
        return tuple(map(self.axes.index, (*(axis for axis in self.axes if axis not in order), *order)))

    def from_onnx(self, array: np.ndarray) -> np.ndarray:
        """An array in the graph's order, whatever its shape there, in the tensor's shape."""
        order = self._onnx_order
        return array.reshape([self.shape[k] for k in order]).transpose(np.argsort(order))

    def to_onnx(self, values: np.ndarray) -> np.ndarray:
        """An array of the tensor's shape in the graph's order: (..., T, C) of tokens that are a map of one row."""
        sizes = self.extents
        turned = values.reshape(self.shape).transpose(self._onnx_order)
        return turned.reshape([sizes[axis] for axis in self.onnx_axes or self.axes])

    def onnx_index(self, index: Sequence[int]) -> tuple[int, ...]:
        """Where the element that `index` names in the tensor's shape stands in `to_onnx`."""
        return tuple(index[self.axes.index(axis)] for axis in self.onnx_axes or self.axes)

    def per_channel(self, numbers: Sequence[SupportsFloat] | np.ndarray) -> np.ndarray:
        """One number, or one per channel, as a float64 array that broadcasts against the tensor."""
        shape = [1] * len(self.shape)
        shape[self.channel_axis] = len(numbers)
        return np.array([float(n) for n in numbers]).reshape(shape)

    def __str__(self) -> str:
        return f"{self.name!r} ({' x '.join(f'{axis} {size}' for axis, size in self.extents.items())})"


@dataclass(frozen=True)
class QuantFunction:
    """q = clip(round(sum_i acc_i * ratio_i + offset), lo, hi) in exact rational arithmetic.

    `ratios` has one tuple per operand, each with one Fraction per channel; `offset` one per channel
    (bias and zero points folded in). `lo`/`hi` hold ReLU too.
    `integers`: what q is instead, monotone, where the model says it in integers (TFLite rounds twice; uneven
    thresholds); the other numbers then only say what it is near to.
    """

    ratios: tuple[tuple[Fraction, ...], ...]
    offset: tuple[Fraction, ...]
    rounding: Rounding
    lo: int
    hi: int
    integers: Requant | None = None

    def at(self, channel: int, accumulators: np.ndarray) -> np.ndarray:
        """Results of a channel of one operand. int64, as `accumulators`."""
        if self.integers is not None:
            return self.integers.take(np.array([channel])).apply(accumulators[None])[0]
        ratio, offset = self.ratios[0][channel], self.offset[channel]
        return evaluate_exact(accumulators, ratio, offset, self.rounding, self.lo, self.hi)

    def thresholds(self, channel: int, acc_lo: int, acc_hi: int, every: int = 1) -> np.ndarray:
        """The first accumulator with at least so much, for results lo + 1..hi, or one of `every` of them: acc_lo where
        all have that much, acc_hi + 1 where none has. int64. Where results fall, of the accumulators' negatives, of
        which acc_lo and acc_hi are the ends."""
        ratio, offset = self.ratios[0][channel], self.offset[channel]
        if self.integers is not None:
            return self.all_thresholds(np.array([channel]), np.array([acc_lo]), np.array([acc_hi]), every)[0]
        twice, strict = (each[::every] for each in boundaries(self.rounding, self.lo, self.hi))
        if ratio:
            return step_thresholds(abs(ratio), offset, twice, strict, acc_lo, acc_hi)
        value = round_fraction(offset, self.rounding)
        return np.where(np.arange(self.lo + 1, self.hi + 1)[::every] <= value, acc_lo, acc_hi + 1)

    def all_thresholds(
        self, channels: np.ndarray, acc_lo: np.ndarray, acc_hi: np.ndarray, every: int = 1
    ) -> np.ndarray:
        """`thresholds` of several channels, each with its own ends: int64 (channels, thresholds)."""
        if self.integers is None:
            ends = zip(channels.tolist(), acc_lo.tolist(), acc_hi.tolist(), strict=True)
            rows = [self.thresholds(c, low, high, every) for c, low, high in ends]
            return np.stack(rows) if rows else np.zeros((0, len(range(self.lo, self.hi, every))), dtype=np.int64)
        integers = self.integers.take(channels)
        signs = np.array([[-1 if self.ratios[0][c] < 0 else 1] for c in channels])
        wanted = np.arange(self.lo + 1, self.hi + 1)[::every]
        return searched_thresholds(lambda acc: integers.apply(signs * acc), wanted, acc_lo[:, None], acc_hi[:, None])


@dataclass(frozen=True)
class Proof:
    """What the requantization search found for one operator.

    `exact` when the integer function equals the rational one on every reachable accumulator value
    (all channels). Otherwise `differing_values` of `checked_values` differ, by `max_lsb` at most, and
    `examples` names some: (channel, accumulator values, expected, got).
    `deviation`: how the kernel that was chosen may differ from the operator besides, "" where it does not.
    `acc_lo`, `acc_hi`: bounds of the accumulator over all channels, proved from weights and input range.
    `undecided_values`: of so many it is not known whether they differ, only that by no more than `max_lsb`.
    """

    exact: bool
    exact_channels: int
    channels: int
    differing_values: int = 0
    checked_values: int = 0
    max_lsb: int = 0
    examples: tuple[tuple[int, tuple[int, ...], int, int], ...] = ()
    acc_lo: int = 0
    acc_hi: int = 0
    undecided_values: int = 0
    deviation: str = ""

    @property
    def equals_graph(self) -> bool:
        """Whether what runs gives the graph's own integers, whatever the input."""
        return self.exact and not self.deviation


@dataclass(frozen=True, eq=False)
class Op(ABC):
    """One operator: reads `inputs`, writes `output`. `onnx_nodes`: the nodes it stands for.

    A subclass says all that the shared layers have to know of an operator: what it computes, what that can reach, and
    what reports say of it. Its fields are numbers, texts, tuples of these or integer arrays; so an image can hold it.

    Attributes:
        requantized: the result is what `requant` makes of the accumulators; else `accumulate` gives the result itself.
        copies: the result holds the inputs' own values, moved or repeated.
        joins: the inputs may lie in the memory as parts of the result.
        trained: fields that training or calibration sets, beside arrays: they are no part of a topology.
    """

    requantized: ClassVar[bool] = True
    copies: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    trained: ClassVar[tuple[str, ...]] = ()

    name: str
    inputs: tuple[str, ...]
    output: str
    onnx_nodes: tuple[str, ...] = field(default=(), kw_only=True)
    function: QuantFunction | None = field(default=None, kw_only=True)
    requant: Requant | None = field(default=None, kw_only=True)
    proof: Proof | None = field(default=None, kw_only=True)

    @abstractmethod
    def accumulate(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The accumulators before requantization, exactly.

        Args:
            inputs: int64 arrays in the order of `inputs`.

        Returns:
            One int64 array of the result's shape per operand of `function`: an Add has two, most have one.
        """

    @abstractmethod
    def bounds(self, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest finished accumulator of each output channel, of whatever operand. int64 (C,) each.

        Sound, and tight where the inputs' values can be chosen freely.
        """

    def partial_bounds(self, inputs: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of every partial sum in any order of the terms, the empty sum included. int64 (C,) each."""
        return self.bounds(inputs)

    def operands(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What `function` takes: the accumulators."""
        return self.accumulate(inputs)

    def absolute(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
        """Per operand, the sums of the terms' absolute values; and how many terms: what float32 errors depend on."""
        return [np.abs(x) for x in self.operands(inputs)], len(inputs)

    def float_reach(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """(lowest, highest) results that float32 arithmetic may give, where the operator knows; None: by `function`."""
        return None

    def macs(self, inputs: Sequence[Tensor], output: Tensor) -> int:
        """Multiply-accumulates as the graph has them: of convolutions and matrix products."""
        return 0

    def on_pixels(self) -> Op | None:
        """The operator that does the same where tokens (..., T, C) have become the pixels of maps (..., C, 1, T).

        None: there is none; a platform that takes maps only cannot run this one on tokens.
        """
        return None

    @property
    def signs(self) -> bool:
        """Whether the results are +1 and -1, by a function that is odd for all accumulators."""
        f = self.function
        odd = f is not None and f.integers is None and all(o.denominator == 1 and o % 2 == 1 for o in f.offset)
        return odd and (f.lo, f.hi) == (-1, 1) and all(r % 2 == 0 for each in f.ratios for r in each)  # type: ignore[union-attr]

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        """Integer constants that have to be in a memory, each (C, ...) with the output channels first."""
        return ()

    @property
    def kind(self) -> str:
        """How kernels name it."""
        return type(self).__name__.lower()

    @property
    def title(self) -> str:
        """The operator as a table says it: "Conv 3x3 s2", "Gemm", "MaxPool 2x2", "Add"."""
        return type(self).__name__


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in an order in which each tensor is written before it is read.

    `inputs`, `outputs`: tensor names, equal to the ONNX graph's. `onnx_shapes`: the shape that each of them has in the
    ONNX graph, of one inference: with a batch of 1 where the tensors have no axis "N". User arrays have it.
    `batch`: inferences that the ONNX graph, as it was exported, does at once; the tensors hold one of them.
    `input_rounding`: how each input's Quant rounds (half to even where it is not named). `linear_inputs`: inputs whose
    zero point is added after rounding (ONNX's QuantizeLinear), not before (Quant).
    `input_steps`: what the host does with an input's array in ONNX layout before that Quant; `output_steps`: with an
    output's tensor, to give it the graph's layout.
    `remarks`: what was assumed of the model, or is left to the host, for the user to read. `to_the_bit`: the file says
    how integers are computed, not reals: what a machine cannot is refused. `nearest`: unless this is set; then it
    computes what it can that is near.
    """

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    onnx_shapes: Mapping[str, tuple[int, ...]]
    input_rounding: Mapping[str, Rounding] = field(default_factory=dict)
    batch: int = 1
    input_steps: Mapping[str, tuple[HostStep, ...]] = field(default_factory=dict)
    output_steps: Mapping[str, tuple[HostStep, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    linear_inputs: tuple[str, ...] = ()
    to_the_bit: bool = False
    nearest: bool = False

    @property
    def keeps_batch(self) -> bool:
        """Whether the tensors hold the graph's whole batch, as axis "N"."""
        return any("N" in tensor.axes for tensor in self.tensors.values())

    @property
    def inference_batch(self) -> int:
        """First size of the graph's inputs of one inference."""
        return self.onnx_shapes[self.inputs[0]][0] if self.keeps_batch else 1

    def with_ops(self, ops: tuple[Op, ...]) -> Network:
        return replace(self, ops=ops)

    def op_inputs(self, op: Op) -> tuple[Tensor, ...]:
        return tuple(self.tensors[name] for name in op.inputs)

    def macs(self, op: Op) -> int:
        return op.macs(self.op_inputs(op), self.tensors[op.output])

    def consumers(self, tensor: str) -> tuple[Op, ...]:
        return tuple(op for op in self.ops if tensor in op.inputs)
