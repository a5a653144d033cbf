# SPDX-License-Identifier: Apache-2.0
"""Loading programs and weights ahead of time, see `transfers.ahead`: J3DAI's are in IMEM and WMEM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nncosim.compiler.j3dai.tiling import LayerCode, program_words, relocate
from nncosim.compiler.j3dai.transfers import Transfer
from nncosim.compiler.transfers.ahead import load_ahead
from nncosim.hdl.j3dai.isa import Space
from nncosim.platforms.j3dai import J3dai

__all__ = ["Ahead", "prefetch"]


@dataclass(frozen=True)
class Ahead:
    """A layer with its place in the clusters' memories. transfers: of its list, those for later layers included."""

    code: LayerCode
    programs_at: int
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True)
class _MovableLayer:
    """See `ahead.Movable`."""

    code: LayerCode
    programs_at: int = 0

    @property
    def cycles(self) -> int:
        return self.code.cycles

    @property
    def needs(self) -> Mapping[str, int]:
        programs = max(program_words(program) for program, _ in self.code.programs)
        return {Space.IMEM.name: programs, Space.WMEM.name: self.code.plan.wmem_words}

    def at(self, bases: Mapping[str, int]) -> _MovableLayer:
        return _MovableLayer(relocate(self.code, bases[Space.WMEM.name]), bases[Space.IMEM.name])

    @cached_property
    def transfers(self) -> list[Transfer]:
        """With the programs' place in IMEM."""
        return [
            replace(t, pieces=tuple(replace(p, local=p.local + self.programs_at) for p in t.pieces))
            if t.pieces[0].space is Space.IMEM else t
            for t in self.code.transfers
        ]


def prefetch(codes: Sequence[LayerCode], platform: J3dai) -> list[Ahead]:
    """All layers with their lists, each doing for the next ones what it can."""
    size = {Space.IMEM.name: platform.imem_words, Space.WMEM.name: platform.wmem_words}
    layers = [_MovableLayer(code) for code in codes]
    found: list[tuple[_MovableLayer, tuple[Transfer, ...]]] = load_ahead(layers, size, lambda t: t.cycles(platform))
    return [Ahead(layer.code, layer.programs_at, transfers) for layer, transfers in found]
