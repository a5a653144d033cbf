# SPDX-License-Identifier: Apache-2.0
"""Platform back ends: what a platform gives to the shared compiler, and how it is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from nncosim.compiler.errors import CompileError, Problem
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network, Op
from nncosim.compiler.placement.lives import Lives
from nncosim.compiler.placement.placement import Buffer, Placement, PlacementError
from nncosim.compiler.placement.room import Room
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.schedule import Schedule
from nncosim.kernels.base import AnyKernel, Cost
from nncosim.platforms.base import Platform
from nncosim.platforms.parts import Part

__all__ = [
    "AnyBackend", "Backend", "BackendError", "Candidate", "HasAudit", "HasRelax", "HasRoom", "HasStreaming", "Lowered",
    "backend_for", "register_backend",
]  # fmt: skip


PlatformT = TypeVar("PlatformT", bound=Platform, contravariant=True)
MadeT = TypeVar("MadeT")


class BackendError(CompileError):
    """There is no compiler back end for a platform."""


@dataclass(frozen=True)
class Candidate:
    """One way of running an operator: a kernel on an engine, its cost, and how that engine can requantize.

    cost: may be known only when the operator has been proved; before, it says which candidate to prove.
    """

    kernel: AnyKernel
    engine: str
    cost: Cost
    caps: RequantCaps


@dataclass(frozen=True)
class Lowered(Generic[MadeT]):
    """What tiling and code generation give before anything has an address.

    layouts: of every tensor. buffers: everything to place, tensors included.
    private: what the back end's own methods need later: `link`, and `relax` where there is one.
    files: texts by file name, to be written beside the image.
    lives: when each unit of a buffer is in use, of the memories to which the hardware orders all accesses.
    inside: tensors that never lie in a placed memory as a whole, and have no buffer.
    """

    schedule: Schedule
    buffers: tuple[Buffer, ...]
    layouts: Mapping[str, Layout]
    private: MadeT
    files: Mapping[str, str] = field(default_factory=dict)
    lives: tuple[Lives, ...] = ()
    inside: frozenset[str] = frozenset()


class Backend(Protocol[PlatformT, MadeT]):
    """The platform's side of the compiler. Generic in the platform, and in what a lowering keeps for linking.

    A back end may have the methods of `HasRoom`, `HasRelax`, `HasAudit` and `HasStreaming` as well.
    """

    @property
    def kernels(self) -> tuple[AnyKernel, ...]:
        """All that `candidates` may choose from, each of another name."""

    def problems(self, network: Network, platform: PlatformT) -> tuple[Problem, ...]:
        """What no kernel choice can mend (tensor types, counts)."""

    def candidates(
        self, op: Op, network: Network, platform: PlatformT
    ) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
        """Ways of running `op`, or why there are none."""

    def lower(self, network: Network, platform: PlatformT, choice: Mapping[str, Candidate]) -> Lowered[MadeT]:
        """Tile, generate code with symbolic addresses, schedule."""

    def link(
        self, network: Network, platform: PlatformT, lowered: Lowered[MadeT], placement: Placement
    ) -> Image:
        """Put in the addresses, add host code if there is a host."""


@runtime_checkable
class HasRoom(Protocol[PlatformT]):
    """A back end by which a network that cannot fit is refused at once."""

    def room(self, network: Network, platform: PlatformT) -> Room:
        """What is known before anything is proved: no tensor may be inside in the end that is not inside here."""


@runtime_checkable
class HasRelax(Protocol[MadeT]):
    """A back end that has slower ways of running a network that need less memory."""

    def relax(self, lowered: Lowered[MadeT], error: PlacementError) -> Lowered[MadeT] | None:
        """Another lowering that needs less of the memory that was too small, by what did not fit; None if there is
        none. Called again with its own results until one fits, so each has to come nearer to an end."""


@runtime_checkable
class HasAudit(Protocol[PlatformT]):
    """A back end that checks what it linked."""

    def audit(self, image: Image, platform: PlatformT) -> str:
        """What is wrong with the image, "" if nothing is; shares nothing with placement."""


@runtime_checkable
class HasStreaming(Protocol):
    """A back end that can leave the inputs' place alone, so that the next ones come in while the network runs."""

    def streaming(self) -> AnyBackend:
        """The back end that does so."""


AnyBackend: TypeAlias = Backend[Any, Any]
"""That of a platform which the shared layers need not know."""

_BACKENDS: Part[AnyBackend] = Part("nncosim.compiler.{}.backend", "BACKEND")


def register_backend(platform: str, backend: AnyBackend) -> None:
    """Add a back end for the platform of that name (tests, plug-ins)."""
    _BACKENDS.register(platform, backend)


def backend_for(platform: Platform) -> AnyBackend:
    """The back end of `platform`: registered, or `BACKEND` in `nncosim.compiler.<parts>.backend`.

    Raises:
        BackendError: there is none.
    """
    backend = _BACKENDS.find(platform.parts)
    if backend is None:
        where = _BACKENDS.module(platform.parts)
        raise BackendError(f"platform {platform.name!r} has no compiler back end (no module {where})")
    return backend
