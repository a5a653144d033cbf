# SPDX-License-Identifier: Apache-2.0
"""The traffic table of an image: which buffer of a memory, and where in it, each transfer means.

A descriptor holds addresses only. With the traffic table, and without the compiler, a bench can tell whether what a
transfer finds at its address is what the layer meant to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ListTraffic", "Traffic", "TrafficBuffer"]


@dataclass(frozen=True)
class TrafficBuffer:
    """A buffer that lies inside no other, in words of the memory from word `word` on. `stays`: loaded once and never
    written (weights, programs)."""

    name: str
    word: int
    words: int
    stays: bool


@dataclass(frozen=True)
class ListTraffic:
    """What the transfers of a list mean: of each the index of its buffer, and the word in it."""

    buffer: tuple[int, ...]
    word: tuple[int, ...]


@dataclass(frozen=True)
class Traffic:
    """`tensors`: each in that memory to (index of its buffer, first word in it)."""

    buffers: tuple[TrafficBuffer, ...]
    tensors: Mapping[str, tuple[int, int]]
    lists: tuple[ListTraffic, ...]
