# SPDX-License-Identifier: Apache-2.0
"""Vectors of J3DAI's units: what an image's run on the RTL gives to one instance of each
(`nncosim.tb.netlist.recorded`).

    vectors = record_unit(platform, "pe_column", image.to_bytes(), [{"image": pixels}])
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from amaranth.lib import wiring
from nncosim.hdl.emit import ports_of
from nncosim.hdl.j3dai.cluster import GROUP_MODULE, Cluster
from nncosim.hdl.j3dai.ncb import NCB_MODULE, NcbGroup
from nncosim.hdl.j3dai.soc import CLUSTER_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.build import SOC, TOP
from nncosim.tb.j3dai.rtl import run_rtl
from nncosim.tb.j3dai.units import UNITS
from nncosim.tb.netlist.recorded import RESET, Vectors, record
from nncosim.tb.sim.waves import Trace

__all__ = ["Place", "component_of", "place_of", "record_unit"]


@dataclass(frozen=True)
class Place:
    """Where an instance of a unit is. scope: below the SoC. elsewhere: port to a signal below the SoC, of ports that
    are not signals of the instance."""

    scope: str
    elsewhere: Mapping[str, str] = field(default_factory=dict)


_BLOCKS: Mapping[str, Callable[[J3dai], wiring.Component]] = {
    GROUP_MODULE: lambda p: NcbGroup(p.pes_per_ncb, p.ncbs_per_requantizer),
    NCB_MODULE: UNITS["pe_column"],
    CLUSTER_MODULE: Cluster,
}
"""Modules that are emitted by themselves in the SoC too."""

_CLUSTER, _GROUP = "cluster0", "cluster0.group0"
_SCOPES = {
    "counters": f"{_CLUSTER}.counters_2", "odometer": f"{_CLUSTER}.drain.agu", "drain_control": f"{_CLUSTER}.drain",
    "pe_column": f"{_GROUP}.ncb0", NCB_MODULE: f"{_GROUP}.ncb0", GROUP_MODULE: _GROUP, CLUSTER_MODULE: _CLUSTER,
    "control": "control", "dmpa": "dmpa", "entry": "entry",
    "descriptor_fetch": "dmpa.fetch", "beat_walk": "dmpa.walk", "paths": "dmpa.paths",
    "pick": "dmpa.paths.pick_2", "semaphores": "dmpa.semaphores", "transfer_counters": "dmpa.transfer_counters",
    **{name: f"{_CLUSTER}.{name}" for name in ("controller", "sequencer", "fetch", "window", "settle", "writes")},
}  # fmt: skip


def place_of(platform: J3dai, unit: str) -> Place:
    """Where the first instance of a unit is.

    Raises:
        BenchError: there is no such unit.
    """
    if unit == "drain_line":
        return Place(f"{_CLUSTER}.line", {"collect_ncb": f"{_CLUSTER}.drain.collect_ncb"})
    if unit == "requantizer":
        sums = {f"x__{k}": f"{_GROUP}.ncb{k}.x" for k in range(platform.ncbs_per_requantizer)}
        owners = {f"owner{stage}": f"{_GROUP}.owner{stage}" for stage in (0, 2, 4, 5)}
        return Place(f"{_GROUP}.requantizer", sums | owners)
    if unit == "entry_l2_port":  # it has no register
        return Place("l2_port", {RESET: RESET})
    if unit not in _SCOPES:
        raise BenchError(f"no instance of {unit!r} is recorded; those of {', '.join((*UNITS, *_BLOCKS))} are")
    return Place(_SCOPES[unit])


def component_of(platform: J3dai, unit: str) -> wiring.Component:
    """What a unit, or a module of NCBs, is emitted from."""
    return {**UNITS, **_BLOCKS}[unit](platform)


def record_unit(platform: J3dai, unit: str, data: bytes, inputs: Sequence[Mapping[str, np.ndarray]], *,
                waveform: Path | None = None) -> Vectors:
    """The vectors of a unit of `nncosim.tb.j3dai.units`, or of a group of NCBs or an NCB by the name of its module, in
    a run of an image from the beginning of reset on.

    Args:
        data: the image. inputs: of its inferences.
        waveform: where one of all of such a run is, or is to be written; a file that is there is not written again.

    Raises:
        BenchError: the run fails, or `nncosim.tb.netlist.recorded.record` does.
    """
    place = place_of(platform, unit)
    with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
        path = waveform or Path(folder) / "run.fst"
        if not path.is_file():
            result = run_rtl(platform, data, inputs, driver="direct", limit_cycles=None, seed=0, trace=Trace(path),
                             progress=None)
            if result.diagnosis is not None:
                raise BenchError(f"a run to record {unit} fails: {result.diagnosis.text}")
        soc = f"{TOP}.{SOC}"
        return record(path, f"{TOP}.clk", f"{soc}.{place.scope}", ports_of(component_of(platform, unit)),
                      {port: f"{soc}.{name}" for port, name in place.elsewhere.items()})
