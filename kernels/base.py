# SPDX-License-Identifier: Apache-2.0
"""What a kernel is, on any platform: legality, code, exact reference and cycle model of one operator on one engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from nncosim.compiler.errors import Problem
from nncosim.compiler.ir.evaluate import Reference, execute
from nncosim.compiler.ir.network import Network, Op
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError

__all__ = [
    "AnyKernel", "CodeT", "Cost", "Kernel", "KernelError", "OpT", "PlatformT", "candidate_kernels", "reference_of",
]  # fmt: skip


class KernelError(NncosimError):
    """A kernel was asked for something that its legality check refuses."""


@dataclass(frozen=True)
class Cost:
    """Cycles on the engine: the best estimate, between bounds that are proved; all equal where the model is exact.

    `upper` is None where no bound is known.
    """

    lower: int
    best: int
    upper: int | None

    def __post_init__(self) -> None:
        if not 0 <= self.lower <= self.best or (self.upper is not None and self.best > self.upper):
            raise KernelError(f"a cost must have 0 <= lower <= best <= upper, not {self}")

    @classmethod
    def exactly(cls, cycles: int) -> Cost:
        return cls(cycles, cycles, cycles)

    @classmethod
    def estimated(cls, cycles: int) -> Cost:
        """Without bounds."""
        return cls(0, cycles, None)

    @property
    def bounds(self) -> tuple[int, int]:
        """The lower and the upper one; where there is no upper one, the best estimate has to do for both."""
        return (self.best, self.best) if self.upper is None else (self.lower, self.upper)

    def __str__(self) -> str:
        lower, upper = self.bounds
        return f"{self.best:,}" if lower == upper else f"{self.best:,} ({lower:,} to {upper:,})"


OpT = TypeVar("OpT", bound=Op)
PlatformT = TypeVar("PlatformT", bound=Platform)
CodeT = TypeVar("CodeT")


class Kernel(ABC, Generic[OpT, PlatformT, CodeT]):
    """One way of computing one kind of operator on one kind of engine. Generic in operator, platform and code.

    `op_types` names the operators (`Op.kind`) it may take; `engine` one of the platform's engines.
    """

    name: ClassVar[str]
    engine: ClassVar[str]
    op_types: ClassVar[tuple[str, ...]]

    @abstractmethod
    def problems(self, op: OpT, network: Network, platform: PlatformT) -> tuple[Problem, ...]:
        """All reasons why this kernel cannot run `op`; empty if it can."""

    @abstractmethod
    def code(self, op: OpT, network: Network, platform: PlatformT) -> CodeT:
        """What the platform's code generator needs: instructions, or a description from which it makes them."""

    def reference(self, op: OpT, network: Network, platform: PlatformT, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Exactly what the engine computes: integer arrays of the tensors' shapes in, int64 out.

        By default what the operator itself means. A kernel that computes something else (sums that are clipped on the
        way, say) says so here, and says in `deviation` where that makes a difference.
        """
        return execute(op, inputs, network.tensors[op.output].channel_axis)

    def deviation(self, op: OpT, network: Network, platform: PlatformT) -> str:
        """How `reference` may differ from the operator's own meaning, in a few words; "" where it is proved not to."""
        return "" if type(self).reference is Kernel.reference else f"kernel {self.name} has a reference of its own"

    @abstractmethod
    def cycles(self, op: OpT, network: Network, platform: PlatformT) -> Cost:
        """Cycles of the whole operator on all instances of the engine."""


AnyKernel = Kernel[Any, Any, Any]
"""Where kernels of all kinds come together: `op_types` says at run time what the types said before."""


def reference_of(
    chosen: Mapping[str, str], kernels: Iterable[AnyKernel], network: Network, platform: Platform
) -> Reference:
    """What the chosen kernels compute, for `evaluate`; of an operator that has none here, what it means.

    Args:
        chosen: kernels' names by operators'. kernels: all of the platform.

    Raises:
        KernelError: a name that none of them has.
    """
    known = {kernel.name: kernel for kernel in kernels}
    lost = sorted(f"{name!r} of operator {op!r}" for op, name in chosen.items() if name not in known)
    if lost:
        raise KernelError(f"platform {platform.name!r} has no kernel {', '.join(lost)}; it has {', '.join(known)}")

    def reference(op: Op, inputs: Sequence[np.ndarray]) -> np.ndarray:
        if op.name in chosen:
            return known[chosen[op.name]].reference(op, network, platform, inputs)
        return execute(op, inputs, network.tensors[op.output].channel_axis)

    return reference


def candidate_kernels(
    kernels: tuple[AnyKernel, ...], op: Op, network: Network, platform: Platform
) -> tuple[tuple[AnyKernel, ...], tuple[Problem, ...]]:
    """The kernels that can run `op`; if there are none, the reasons of the one that is nearest to it."""
    fitting: list[AnyKernel] = []
    reasons: list[tuple[Problem, ...]] = []
    for kernel in kernels:
        if op.kind not in kernel.op_types:
            continue
        found = kernel.problems(op, network, platform)
        if found:
            reasons.append(found)
        else:
            fitting.append(kernel)
    if fitting:
        return tuple(fitting), ()
    known = ", ".join(sorted({kind for kernel in kernels for kind in kernel.op_types}))
    nothing = (Problem(op.name, type(op).__name__, f"has no kernel on platform {platform.name}", f"use {known}"),)
    return (), min(reasons, key=len, default=nothing)

