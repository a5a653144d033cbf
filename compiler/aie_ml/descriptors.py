# SPDX-License-Identifier: Apache-2.0
"""Buffer descriptors of the DMAs: walks of a tile and of a memory tile as the words that their hardware reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from amaranth.hdl import Shape
from amaranth.lib import data
from nncosim.compiler.aie_ml.walks import Walk
from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml import dma
from nncosim.hdl.formats import EncodingError, encode

__all__ = ["Descriptor", "chain"]

Lock = tuple[int, int]
"""Number, and value that is acquired or delta that is released."""


@dataclass(frozen=True)
class Descriptor:
    """Fields as in the manual. acquire: at least so much; None: neither is done.

    steps: of all dimensions. counts: of all but the last, which goes on without end; 0 acts as 1.
    """

    fields: ClassVar[type[data.Struct]] = dma.Descriptor
    dimensions: ClassVar[int] = 3

    base: int
    length: int
    steps: tuple[int, ...] = (1, 0, 0)
    counts: tuple[int, ...] = (0, 0)
    iteration: tuple[int, int] = (0, 0)
    next: int | None = None
    acquire: Lock | None = None
    release: Lock | None = None

    @property
    def words(self) -> tuple[int, ...]:
        """As they lie in memory.

        Raises:
            CompileError: a field does not hold its value.
        """
        values = {
            "base": self.base, "length": self.length,
            **{f"step{k}": step for k, step in enumerate(self.steps)},
            **{f"count{k}": count for k, count in enumerate(self.counts)},
            "iteration_step": self.iteration[0], "iteration_count": self.iteration[1],
        }
        if self.next is not None:
            values |= {"next": self.next, "use_next": 1}
        if self.acquire is not None:
            values |= {"acquire": 1, "acquire_lock": self.acquire[0], "acquire_value": self.acquire[1], "at_least": 1}
        if self.release is not None:
            values |= {"release": 1, "release_lock": self.release[0], "release_delta": self.release[1]}
        word = sum(self._encoded(name, value) for name, value in values.items())
        bits = Shape.cast(self.fields).width
        return tuple(word >> 32 * k & 0xFFFFFFFF for k in range(bits // 32))

    def _encoded(self, name: str, value: int) -> int:
        try:
            return encode(self.fields, **{name: value})
        except EncodingError:
            shape = Shape.cast(self.fields.as_shape()[name].shape)
            bits = f"{shape.width} {'signed ' if shape.signed else ''}bits"
            raise CompileError(f"a field of {bits} of a buffer descriptor cannot be {value}") from None

    @classmethod
    def of(
        cls, walk: Walk, iteration: tuple[int, int] = (0, 0), next_: int | None = None, acquire: Lock | None = None,
        release: Lock | None = None,
    ) -> Descriptor:
        """A walk of no more loops than there are dimensions: the last one is the one without end."""
        *inner, (last, _) = walk.loops
        unused = cls.dimensions - 1 - len(inner)
        steps = (*(step for step, _ in inner), *(0,) * unused, last)
        counts = (*(count for _, count in inner), *(0,) * unused)
        return cls(walk.base, walk.length, steps, counts, iteration, next_, acquire, release)


def chain(
    kind: type[Descriptor], walk: Walk, iteration: tuple[int, int], first: int, acquire: Lock | None,
    release: Lock | None,
) -> list[Descriptor]:
    """A walk for ever, in one descriptor if it can be: acquires before the first, releases behind the last.

    Args:
        iteration: step and count of the copies of the buffer. first: number of the first descriptor.
    """
    walks: Sequence[Walk] = list(walk.cut(kind.dimensions))
    last = len(walks) - 1
    return [kind.of(each, iteration, first + (k + 1) % len(walks), acquire if k == 0 else None,
                    release if k == last else None) for k, each in enumerate(walks)]  # fmt: skip
