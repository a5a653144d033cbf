# SPDX-License-Identifier: Apache-2.0
"""What an image says about itself beside what is loaded: its steps with their cycles, what lies where, what it came of.

A bench runs and judges an image by these alone, without the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from nncosim.compiler.image.plain import from_plain
from nncosim.compiler.schedule import Schedule
from nncosim.kernels.base import Cost
from nncosim.platforms.plain import Json

__all__ = ["NOTES_VERSION", "BufferNote", "Notes", "Origin", "Step"]

T = TypeVar("T")

NOTES_VERSION = 8
"""Of all classes here, of `TensorPlace`, and of each platform's own notes: one more with every change of a field."""


def _in_inference(number: int, first: Cost, later: Cost | None) -> Cost:
    return first if number == 0 or later is None else later


_MOST_NAMED = 4
"""Engines of a step that are named one by one."""


@dataclass(frozen=True)
class Step:
    """One step of the image's schedule: the operators it completes, where, and what is known of its cycles before.

    `cycles`: in the first inference since reset, `repeat` (None: the same) in later ones: on the platform's simulator,
        which runs the linked image, and is exact; where it has none, by the kernels' cycle models, with their bounds.
    `estimated_cycles`: by the planner alone, before there was an image; None where the image does not say.
    `engines`: of the platform, or single instances of one.
    `reads`, `writes`: tensors in memory; `inside`: those that pass between the step's operators and lie nowhere whole.
    """

    name: str
    ops: tuple[str, ...]
    engines: tuple[str, ...]
    cycles: Cost
    repeat: Cost | None = None
    estimated_cycles: int | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        """In a word, for people: of many alike, how many they are."""
        stems = {name.rstrip("0123456789") for name in self.engines}
        if len(self.engines) > _MOST_NAMED and len(stems) == 1:
            return f"{len(self.engines)} x {stems.pop()}"
        return "+".join(self.engines)

    @property
    def layers(self) -> tuple[str, ...]:
        """What tasks of a schedule that belong to this step may have as their layer."""
        return (self.name, *self.ops)

    def expected(self, frame: int) -> Cost:
        """Cycles in inference number `frame`, counted from 0 at reset."""
        return _in_inference(frame, self.cycles, self.repeat)


@dataclass(frozen=True)
class BufferNote:
    """What lies where, for pictures. `address`: physical. `layers`: that read or write it. `from_start`, `to_end`: it
    is there before the run, or needed after it. `parent`: the buffer that it lies in."""

    name: str
    memory: str
    address: int
    bytes: int
    kind: str
    parent: str | None
    layers: tuple[str, ...]
    from_start: bool
    to_end: bool


@dataclass(frozen=True)
class Origin:
    """What an image was made of. `parameters`: of the platform, all; `settings`: those that the user gave. `network`:
    see `nncosim.tb.run.network_json`. `kernels`: which one computes each operator, by their names. `options`: what the
    compiler was told."""

    model: str
    model_sha256: str
    platform: str
    parameters: Mapping[str, Json]
    settings: Mapping[str, Json]
    network: Json
    kernels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Notes:
    """The schedule section of an image.

    `cycles`, `repeat`: of the first inference, and of each later one (None: the same).
    `streams`: the next inputs may come in while the network runs.
    `schedule`: of a machine whose inferences overlap, by which later ones are predicted; None where they do not.
    `own`: what only the platform's own bench understands; see `own_as`.
    `origin`, `digest` (a checksum over the whole image): of images that are to be run without the model.
    """

    steps: tuple[Step, ...] = ()
    cycles: Cost = field(default_factory=lambda: Cost.exactly(0))
    repeat: Cost | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    streams: bool = False
    buffers: tuple[BufferNote, ...] = ()
    own: object = None
    origin: Origin | None = None
    digest: str = ""
    schedule: Schedule | None = None

    def expected(self, frame: int) -> Cost:
        """Cycles of inference number `frame`, counted from 0 at reset, where one follows the other."""
        return _in_inference(frame, self.cycles, self.repeat)

    def own_as(self, kind: type[T]) -> T:
        """The platform's own notes, a dataclass; its defaults where the image has none (it was stripped).

        Raises:
            PlainError: those of an image that are not of that form.
        """
        if self.own is None or isinstance(self.own, kind):
            return kind() if self.own is None else self.own
        return from_plain(kind, cast(Json, self.own), "own")  # as it was read
