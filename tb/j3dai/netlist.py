# SPDX-License-Identifier: Apache-2.0
"""J3DAI as gates: which parts are mapped by themselves, what in them keeps its name, and what is simulated at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nncosim.hdl.cv32e40p import CORE, CORE_PARAMETERS, CORE_PORTS, core_files
from nncosim.hdl.j3dai.cluster import GROUP_MODULE
from nncosim.hdl.j3dai.ncb import NCB_MODULE
from nncosim.hdl.j3dai.soc import CLUSTER_MODULE, SOC_MODULE
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.j3dai.blocks import core_sources
from nncosim.tb.j3dai.build import TOP, SocDesign, soc_design
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.design import GateDesign, SliceOf, gate_design, with_gates
from nncosim.tb.netlist.gates import Gates
from nncosim.tb.netlist.mapping import Part, mapped
from nncosim.tb.netlist.verilog import modules_of
from nncosim.tb.sim.verilate import BuildProgress, BuiltModel, build
from nncosim.tb.timing.sta import OSU018

__all__ = [
    "BLOCKS",
    "CORE_BLOCK",
    "TOP_BLOCK",
    "block_of",
    "block_parts",
    "build_gates",
    "build_netlist",
    "build_with_names",
    "lane_of",
    "netlist_design",
    "soc_gates",
    "soc_modules",
]

_CLOCK_GATE = """module cv32e40p_clock_gate (input clk_i, input en_i, input scan_cg_en_i, output clk_o);
  assign clk_o = clk_i;
endmodule
"""
"""The library has no gate for clocks: in the netlist the core's runs while it sleeps, too."""

_HOLD_MEMORIES = ("l1", "wmem", "imem")  # of a cluster
_STAY = ("control", "dmpa", "entry", "l2", "l2.bank*", "l2_port", "host", "host.imem", "host.dmem")  # of the SoC

TOP_BLOCK, CORE_BLOCK = "soc", "core"
BLOCKS: dict[str, tuple[str, ...]] = {
    TOP_BLOCK: (SOC_MODULE,),
    "host": (f"{SOC_MODULE}.host",),
    "control": (f"{SOC_MODULE}.control",),
    "dmpa": (f"{SOC_MODULE}.dmpa",),
    "entry": (f"{SOC_MODULE}.entry",),
    "l2": (f"{SOC_MODULE}.l2", f"{SOC_MODULE}.l2_port"),
    "cluster": (CLUSTER_MODULE,),
    "ncb": (GROUP_MODULE, NCB_MODULE),
    CORE_BLOCK: (CORE,),
}
"""What can be gates while the rest is RTL: name to modules, each with those in it that are not blocks themselves."""



def block_of(module: str) -> str:
    """The block of a module of the netlist."""
    within = [(len(own), block) for block, names in BLOCKS.items() for own in names
              if module == own or module.startswith(f"{own}.")]  # fmt: skip
    return max(within)[1]


_SLICED = {"dmpa": "", "control": "", "entry": "", "l2": r"bank\d+", "host": "[id]mem"}
"""Blocks that are C++ though there is one of them, and the modules in them that hold memories: C++ is compiled in a
fraction of the time that Verilator's takes, and the RTL can run beside it."""


def _core_box() -> str:
    """The core's ports, for Yosys, which does not read its SystemVerilog."""
    ports = ", ".join(f"{way}put [{bits - 1}:0] {name}" for name, (way, bits) in CORE_PORTS.items())
    return f"module {CORE} #(parameter {', '.join(f'{name} = 0' for name in CORE_PARAMETERS)}) ({ports}); endmodule\n"


def block_parts(sources: Mapping[str, str], blocks: Collection[str]) -> list[Part]:
    """What is mapped for these blocks; sources: the SoC's Verilog, file name to text."""
    group = {name: text for name, text in sources.items() if name.startswith("j3dai_ncb")}
    memory = {f"{SRAM_MODULE}.v": sources[f"{SRAM_MODULE}.v"]}
    cluster = {f"{CLUSTER_MODULE}.v": sources[f"{CLUSTER_MODULE}.v"]}
    soc = {f"{SOC_MODULE}.v": sources[f"{SOC_MODULE}.v"], f"{CORE}.v": _core_box()}
    parts = {
        SOC_MODULE: Part(SOC_MODULE, {**soc, **cluster, **group, **memory}, (SRAM_MODULE, CLUSTER_MODULE, CORE),
                         tuple(f"{SOC_MODULE}.{name}" for name in _STAY)),
        "cluster": Part(CLUSTER_MODULE, {**cluster, **group, **memory}, (SRAM_MODULE, GROUP_MODULE),
                        tuple(f"{CLUSTER_MODULE}.{name}" for name in _HOLD_MEMORIES)),
        "ncb": Part(GROUP_MODULE, group),
        CORE_BLOCK: Part(CORE, core_sources(_CLOCK_GATE), clock="clk_i", parameters=CORE_PARAMETERS),
    }  # fmt: skip
    chosen = {block if block in parts else SOC_MODULE for block in blocks}
    return [part for name, part in parts.items() if name in chosen]


def soc_modules(sources: Mapping[str, str], liberty: Path = OSU018, blocks: Collection[str] = tuple(BLOCKS)
                ) -> dict[str, Gates]:
    """All modules of the netlist, by name; or those of the parts that some blocks are in.

    Raises:
        BenchError, ToolCrash, ToolError: as `nncosim.tb.netlist.mapping.mapped`.
    """
    models = cell_models(liberty)
    return {name: gates for part in block_parts(sources, blocks)
            for name, gates in mapped(part, liberty, models).items()}  # fmt: skip


def soc_gates(platform: J3dai, sources: Mapping[str, str], blocks: Collection[str] = tuple(BLOCKS),
              liberty: Path = OSU018, **further: Any) -> GateDesign:
    """Blocks of the SoC's Verilog as gates: without the SRAM macros and the host's core. Clusters, and the NCBs in
    them, are simulated all at a time.

    further: arguments of `nncosim.tb.netlist.design.gate_design`.

    Raises:
        BenchError, ToolCrash, ToolError: as that.
    """
    groups = platform.clusters * platform.ncbs_per_cluster // platform.ncbs_per_requantizer
    names = [name for text in sources.values() for name, _ in modules_of(text)]
    slices = [SliceOf(name, 1) for block, held in _SLICED.items() if block in blocks
              for name in names if re.fullmatch(rf"{re.escape(BLOCKS[block][0])}(\.{held or '-'})?", name)]  # fmt: skip
    if "cluster" in blocks:
        slices.append(SliceOf(CLUSTER_MODULE, platform.clusters, (GROUP_MODULE,) if "ncb" in blocks else ()))
    elif "ncb" in blocks:
        slices.append(SliceOf(GROUP_MODULE, groups))
    if CORE_BLOCK in blocks:
        slices.append(SliceOf(CORE, 1))
    return gate_design(block_parts(sources, blocks), liberty, slices, **further)


def lane_of(platform: J3dai, block: str, number: int) -> int:
    """The lane (`nncosim.tb.netlist.wrong`) of an instance of a block, another for each number; of the NCBs those
    of all clusters in turn."""
    cluster, groups = number % platform.clusters, platform.ncbs_per_cluster // platform.ncbs_per_requantizer
    bits = 8 * -(-platform.clusters // 8)
    return {"cluster": cluster, "ncb": number // platform.clusters % groups * bits + cluster}.get(block, 0)


def netlist_design(platform: J3dai, blocks: Collection[str] = tuple(BLOCKS), liberty: Path = OSU018, *,
                   of_gates: Mapping[str, str] | None = None, beside_rtl: bool = False, **further: Any
                   ) -> tuple[SocDesign, GateDesign]:
    """What a simulation with these blocks as gates is built from.

    Args:
        of_gates: the RTL that is mapped, if it is another than what stays RTL. beside_rtl: with the RTL beside the
            gates of those blocks that are C++ (`nncosim.tb.netlist.twin`). further: as of `soc_gates`.
    """
    design = soc_design(platform)
    rtl = {name: str(text) for name, text in design.sources.items()}
    gates = soc_gates(platform, rtl if of_gates is None else of_gates, blocks, liberty,
                      beside=rtl if beside_rtl else None, **further)  # fmt: skip
    modules = [module for block in blocks for module in BLOCKS[block]]
    others = [module for block in BLOCKS for module in BLOCKS[block] if module not in modules]
    core = core_files() if CORE_BLOCK in blocks else []  # SystemVerilog, in files of its own
    files = tuple(path for path in design.files if path not in core)
    return design._replace(sources=with_gates(rtl, gates, modules, others), files=files), gates


def build_gates(design: SocDesign, gates: GateDesign, *, quick: bool = False, jobs: int = 2,
                progress: BuildProgress | None = None) -> BuiltModel:
    """The simulation of what `netlist_design` gives. -O1 against -O3, of the Verilog: gates are compiled long, and most
    of the work is in the C++.

    quick: for runs of some thousand cycles: it is compiled sooner by more than a run then takes longer.

    Raises:
        BuildError, ToolError: as `nncosim.tb.sim.verilate.build`.
    """
    return build(design.sources, TOP, files=design.files, include_dirs=design.include_dirs,
                 parameters=design.parameters, cpp_sources=gates.cpp, jobs=jobs, progress=progress,
                 optimize="-O1", optimize_rest="-O0", optimize_given="-O0" if quick else "-O2")  # fmt: skip


def build_netlist(platform: J3dai, blocks: Collection[str], liberty: Path = OSU018, *, jobs: int = 2,
                  progress: BuildProgress | None = None, **further: Any) -> BuiltModel:
    """As `build_with_names`, without the names."""
    return build_with_names(platform, blocks, liberty, jobs=jobs, progress=progress, **further)[0]


def build_with_names(platform: J3dai, blocks: Collection[str], liberty: Path = OSU018, *, quick: bool = False,
                     jobs: int = 2, progress: BuildProgress | None = None, **further: Any
                     ) -> tuple[BuiltModel, Mapping[str, Sequence[str]]]:
    """The platform's SoC with these blocks as gates, under the top of `nncosim.tb.j3dai.build`; and the names of
    registers where the RTL is beside them (`GateDesign.twins`). quick: as of `build_gates`. further: as of
    `netlist_design`.

    Raises:
        BuildError, ToolError, BenchError, ToolCrash: as `soc_gates` and `nncosim.tb.sim.verilate.build`.
    """
    design, gates = netlist_design(platform, blocks, liberty, jobs=jobs, progress=progress, **further)
    return build_gates(design, gates, quick=quick, jobs=jobs, progress=progress), gates.twins
