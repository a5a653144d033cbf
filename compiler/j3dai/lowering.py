# SPDX-License-Identifier: Apache-2.0
"""What the J3DAI back end keeps between lowering and linking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nncosim.compiler.j3dai.fusion import NestFuser
from nncosim.compiler.j3dai.layer import Layer
from nncosim.compiler.j3dai.tiling import LayerCode

__all__ = ["Lowering"]


@dataclass(frozen=True, eq=False)
class Lowering:
    """What J3DAI keeps of a lowering, to link it or to make another one that needs less of L2.

    ops: of each layer, as numbers. views: of `concat_views`. avoid: tensors that are to stay in L1 where that is
    possible. roomy: code that was put in place of the fastest, by the layer's operators.
    """

    layers: tuple[Layer, ...]
    ops: tuple[tuple[int, ...], ...]
    fuser: NestFuser
    views: Mapping[str, str]
    avoid: frozenset[str]
    roomy: Mapping[tuple[int, ...], LayerCode]
