# SPDX-License-Identifier: Apache-2.0
"""What all platform descriptions have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from nncosim.platforms.errors import PlatformError
from nncosim.platforms.metrics import METRICS, Metric
from nncosim.platforms.parameters import Value, check_names

if TYPE_CHECKING:
    from nncosim.platforms.area import Area

__all__ = [
    "MACRO_BITS", "MACRO_WORDS", "Engine", "Limits", "Memory", "Mover", "Platform", "Published", "is_power_of_two",
    "macro_words",
]  # fmt: skip

MACRO_WORDS = 16384
MACRO_BITS = 512 * 1024
"""The largest macro: what memory compilers offer, with some reserve. Deeper memories are stacks of macros."""


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def macro_words(depth: int, width: int) -> int:
    """Words of a macro of a memory of `depth` words: all of them where that is not too large, else a power of two."""
    most = min(MACRO_WORDS, 1 << (MACRO_BITS // width).bit_length() - 1)
    return min(depth, most)


@dataclass(frozen=True)
class Memory:
    """One kind of memory.

    `instances`: how many there are (one per cluster, tile, ...). `ports`: 1, in a cycle a bank reads or writes; 2, it
    has a read port and a write port.
    """

    name: str
    size_bytes: int
    width_bits: int
    banks: int = 1
    instances: int = 1
    ports: int = 1

    def __post_init__(self) -> None:
        if self.size_bytes * 8 % (self.width_bits * self.banks):
            raise PlatformError(
                f"memory {self.name!r}: {self.size_bytes} bytes is not whole {self.width_bits}-bit words "
                f"in {self.banks} banks"
            )

    @property
    def words_per_bank(self) -> int:
        return self.size_bytes * 8 // (self.width_bits * self.banks)

    @property
    def bits(self) -> int:
        """Of all instances."""
        return 8 * self.size_bytes * self.instances


@dataclass(frozen=True)
class Mover:
    """Something that copies between memories: `reaches` names them, `width_bits` a cycle of each of `instances`.

    `latency_cycles`: from a word's leaving to its arrival, where that is more than the machine's cycle model hides.
    """

    name: str
    reaches: tuple[str, ...]
    width_bits: int
    instances: int = 1
    latency_cycles: int = 0


@dataclass(frozen=True)
class Engine:
    """One kind of thing that computes.

    macs_per_cycle: peak multiply-accumulates a cycle of one instance, at the precision that it does most of.
    rates: the same by (activation bits, weight bits), where the precision makes a difference.
    clock_hz: of its own clock; 0: the platform's.
    reaches: memory to, for each instance, the instances of that memory that it reads and writes itself. A memory that
        is not named is not reached; without any, nothing is said, and nothing checked.
    positions: (x, y) of each instance, where the distance between two matters.
    """

    name: str
    macs_per_cycle: int
    instances: int = 1
    rates: Mapping[tuple[int, int], int] = field(default_factory=dict)
    clock_hz: int = 0
    reaches: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    positions: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for what, given in (*self.reaches.items(), ("positions", self.positions or range(self.instances))):
            if len(given) != self.instances:
                raise PlatformError(f"engine {self.name!r} has {self.instances} instances, but {what} of {len(given)}")

    def reached(self, instance: int, memory: tuple[str, int]) -> bool:
        """Whether that instance reads and writes (memory, instance) itself."""
        name, which = memory
        return not self.reaches or which in self.reaches.get(name, ((),) * self.instances)[instance]


def _named(instance: str, parts: Iterable[Engine | Mover]) -> str | None:
    """The name of the part that is called so, or of which one instance is: by its number."""
    for part in parts:
        number = instance.removeprefix(part.name)
        if instance == part.name or (number != instance and number.isdecimal() and int(number) < part.instances):
            return part.name
    return None


@dataclass(frozen=True)
class Published:
    """A figure from the literature, with where it stands.

    `configuration`: which of several of the network's, such as its bit widths. `topology`: by which reports know a run
    of it, as `nncosim check` prints that of a model (`nncosim.compiler.ir.topology`); "": not known.
    """

    network: str
    quantity: str
    value: float
    unit: str
    source: str
    configuration: str = ""
    topology: str = ""


@dataclass(frozen=True)
class Limits:
    """How far a run's cycles may lie outside the bounds that were predicted, or its verdict is "cycles".

    Those of an inference by `total_share` of the bound, or `total_cycles`; those of a layer by `layer_share` or
    `layer_cycles`. With all of them 0 the bounds themselves are the limits, as where they are proved.
    """

    total_share: float = 0.02
    total_cycles: int = 0
    layer_share: float = 0.05
    layer_cycles: int = 100


@dataclass(frozen=True)
class Platform:
    """Base of all platforms: a frozen set of parameters, checked when built.

    Subclasses declare their parameters as fields with defaults and derive everything else.
    `memories`, `movers`, `engines` are the graph that placement and reports read.
    `tensor_axes`: the axes of each kind of tensor that it takes (see `compiler.ir.network.Tensor`). Where "N" is among
    them, a graph's batch is kept as that axis; else each of its inferences is run on its own.
    `published`: figures from the literature; `published_for`: whose machine they are of, `reconstruction`: in what
    this one departs from that by its design, "" if in nothing. Both stand wherever figures of the two do.
    `like`: the platform whose parts (back end, bench, ...: see `nncosim.platforms.parts`) this one has; "": its own.
    `cycle_model`: what predicts the cycles of its images, as reports call it: a simulator that runs them ("ISS"), or
    what its kernels say. `limits`: by which the cycles of its runs are judged.
    `metrics`: by which machines of this kind are weighed; `front`: names of those whose best combinations a sweep looks
    for if it is not told others.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    tensor_axes: ClassVar[tuple[tuple[str, ...], ...]] = (("C", "H", "W"),)
    published: ClassVar[tuple[Published, ...]] = ()
    published_for: ClassVar[str] = "this machine"
    reconstruction: ClassVar[str] = ""
    like: ClassVar[str] = ""
    cycle_model: ClassVar[str] = "cycle model"
    limits: ClassVar[Limits] = Limits()
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    front: ClassVar[tuple[str, ...]] = ("cycles", "sram_bytes")

    @property
    def memories(self) -> tuple[Memory, ...]:
        raise NotImplementedError

    @property
    def movers(self) -> tuple[Mover, ...]:
        raise NotImplementedError

    @property
    def engines(self) -> tuple[Engine, ...]:
        raise NotImplementedError

    def engine_of(self, instance: str) -> str | None:
        """The engine that a row of counters, or of the timeline, is an instance of; None for the host, or a mover.

        Here: "tile", or "tile0" to "tile8" of nine. A platform that names its instances otherwise overrides this.
        """
        return _named(instance, self.engines)

    def mover_of(self, instance: str) -> str | None:
        """The same of the movers."""
        return _named(instance, self.movers)

    def instance_names(self, name: str) -> tuple[str, ...]:
        """What the instances of an engine or a mover are called: "dma", of one, or "tile0" to "tile8"; () of none."""
        parts: tuple[Engine | Mover, ...] = (*self.engines, *self.movers)
        count = next((part.instances for part in parts if part.name == name), 0)
        return (name,) if count == 1 else tuple(f"{name}{k}" for k in range(count))

    @property
    def area(self) -> Area | None:
        """What the machine takes; None where nobody has measured it."""
        return None

    @property
    def parts(self) -> str:
        """By which name its parts are found."""
        return self.like or self.name

    @property
    def keeps_batch(self) -> bool:
        return any("N" in axes for axes in self.tensor_axes)

    @property
    def peak_macs_per_cycle(self) -> int:
        return sum(e.macs_per_cycle * e.instances for e in self.engines)

    def with_parameters(self, **changes: Value) -> Self:
        """A copy with other parameters.

        Raises:
            PlatformError: unknown parameter, or values that contradict each other.
        """
        check_names(self, changes)
        return replace(self, **changes)
