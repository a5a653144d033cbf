# SPDX-License-Identifier: Apache-2.0
"""Measures J3DAI's blocks at several parameters, and fits the area model of `nncosim.platforms.j3dai_area` to them.

    python -m nncosim.tb.j3dai.area [BLOCK ...]    # prints COEFFICIENTS; each point is mapped once, in a minute or two
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import numpy as np
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.cluster import GROUP_MODULE, Cluster
from nncosim.hdl.j3dai.control import ControlRegisters
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.ncb import NCB_MODULE, Ncb
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.platforms.j3dai_area import FEATURES
from nncosim.tb.j3dai.blocks import HOST_OPTIONS, host_sources, l2_area, requantizer_area
from nncosim.tb.timing.sta import SRAM, LogicArea, StaOptions, map_area

__all__ = ["MEASURES", "POINTS", "fit"]

Settings = Mapping[str, int]


def _pes(platform: J3dai) -> LogicArea:
    return map_area(emit_design(Ncb(platform.pes_per_ncb), NCB_MODULE), NCB_MODULE)


def _cluster(platform: J3dai) -> LogicArea:
    options = StaOptions(cut={SRAM_MODULE: SRAM, GROUP_MODULE: SRAM})
    return map_area(emit_design(Cluster(platform), "cluster"), "cluster", options)


MEASURES: dict[str, Callable[[J3dai], LogicArea]] = {
    "PEs of an NCB": _pes,
    "requantizer": requantizer_area,
    "cluster without NCBs": _cluster,
    "DMPA": lambda p: map_area(emit_design(Dmpa(p), "dmpa"), "dmpa"),
    "L2's logic": l2_area,
    "control registers": lambda p: map_area(emit_design(ControlRegisters(p.clusters), "control"), "control"),
    "host": lambda p: map_area(host_sources(p), "host", HOST_OPTIONS),
}
"""Block to the mapping of it alone."""

_LINES: list[Settings] = [{}, {"ncbs_per_cluster": 8}, {"pes_per_ncb": 4, "dmpa_bits": 512}, {"ncbs_per_cluster": 32}]
POINTS: dict[str, list[Settings]] = {
    "PEs of an NCB": [{"pes_per_ncb": 4, "dmpa_bits": 512}, {}, {"pes_per_ncb": 16}],
    "requantizer": [{}, {"ncbs_per_requantizer": 2}, {"ncbs_per_requantizer": 4}, {"ncbs_per_requantizer": 8}],
    "cluster without NCBs": _LINES,
    "DMPA": [*_LINES[:3], {"clusters": 2}],
    "L2's logic": _LINES[:3],
    "control registers": [{"clusters": 2}, {}, {"clusters": 8}],
    "host": [{}],
}
"""Block to the machines at which it is measured."""


def fit(block: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients of gates and of flip-flops, by least squares; prints each point with its deviation."""
    machines = [PLATFORM.with_parameters(**settings) for settings in POINTS[block]]
    areas = [MEASURES[block](machine) for machine in machines]
    features = np.array([FEATURES[block](machine) for machine in machines], float)
    measured = np.array([(area.gates, area.flip_flops) for area in areas])
    # Relative deviations count, or the largest machine would decide.
    scale = 1 / measured.sum(axis=1)
    found = np.linalg.lstsq(features * scale[:, None], measured * scale[:, None], rcond=None)[0]
    for settings, area, said in zip(POINTS[block], areas, features @ found, strict=True):
        print(f"# {block} {dict(settings)}: measured {area.total:,.0f}, model {said.sum():,.0f} "
              f"({said.sum() / area.total - 1:+.1%})", flush=True)
    return tuple(np.round(found[:, 0], 3).tolist()), tuple(np.round(found[:, 1], 3).tolist())


def main() -> None:
    print("\n".join(f"    {block!r}: {fit(block)}," for block in sys.argv[1:] or POINTS))


if __name__ == "__main__":
    main()
