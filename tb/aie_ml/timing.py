# SPDX-License-Identifier: Apache-2.0
"""AIE-ML's longest path by block: the core tile, mapped and timed by `nncosim.tb.timing.sta`.

    python -m nncosim.tb.aie_ml.timing [aie_ml_v2]      # the first time it maps and times, which takes minutes

The tile is timed as a whole, with all that passes from block to block in a cycle: what a core asks of memory, who is
granted, whether the core stalls, and what hangs on that. Cut out of it are its large regular blocks, with a stated
`BUDGETS` each; these are timed by themselves, and must keep it.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from amaranth.lib import wiring
from nncosim.hdl.aie_ml.fetch import Fetch
from nncosim.hdl.aie_ml.memory_tile import MEMORY_TILE, emit_memory_tile
from nncosim.hdl.aie_ml.registers import ACC_READS, ACC_WRITES, VECTOR_READS, VECTOR_WRITES, Accumulators, RegisterFile
from nncosim.hdl.aie_ml.srs import ShiftRoundSaturate, SrsUnit
from nncosim.hdl.aie_ml.switch import StreamSwitch
from nncosim.hdl.aie_ml.tile import TILE, emit_tile
from nncosim.hdl.aie_ml.vmac import DotLane, VectorMac
from nncosim.hdl.emit import emit_design
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.aie_ml import PLATFORM, AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML, AIE_ML_V2, Generation
from nncosim.tb.timing.allowances import SKEW, WIRES
from nncosim.tb.timing.kinds import KindOfPath, sized
from nncosim.tb.timing.sta import OSU018, SRAM, Budget, StaOptions, TimingReport, time_design

__all__ = ["BLOCKS", "BUDGETS", "LARGE", "LIMIT", "TIMING_BLOCKS", "TO_REGISTERS", "longest", "paths_of", "table",
           "tile", "time_block"]

LIMIT = 100.0
"""No path may be longer, in FO4, SRAM access, wires and skew included: 1.25 GHz in a process with an FO4 of 8 ps."""

Design = Callable[[Generation], TimingReport]
_LANE, _SRS_UNIT = "aie_ml_dot_lane{}", "aie_ml_srs{}"


def _file(writes: int, reads: int, output: float, write: float) -> Budget:
    """Of a register file."""
    names = ("write__", "halves__", "write_to__", "write_data__")
    pins = {f"{name}{port}": write for name in names for port in range(writes)}
    return Budget(output, output, pins | {f"read__{port}": output for port in range(reads)})


BUDGETS: dict[str, Budget] = {
    "vectors": _file(VECTOR_WRITES, VECTOR_READS, 46, 18), "accumulators": _file(ACC_WRITES, ACC_READS, 46, 18),
    "vmac": Budget(4, 20), "srs": Budget(4, 26, dict.fromkeys(("rst", "tile_rst"), 34)), "switch": Budget(8, 26),
}
"""What the tile's netlist allows for a block that is cut out of it. Data of a register file are there so long after the
clock when the number of the register comes 30 FO4 after it, and what takes them must need no more than 30."""


TO_REGISTERS = 12.0
"""FO4 that a tile needs at most for what comes to or from a neighbour's memory, up to a register: so of what is beyond
the port, 18 are left for the wires."""


def _timed(block: wiring.Component, name: str, liberty: Path, cut: Mapping[str, Budget] | None = None) -> TimingReport:
    top = f"aie_ml_{name}"
    options = StaOptions(cut={SRAM_MODULE: SRAM, **(cut or {})}, liberty=liberty)
    return time_design(emit_design(block, top), top, options)


@functools.cache
def lane(generation: Generation = AIE_ML, part: int = 1, liberty: Path = OSU018) -> TimingReport:
    """Eight multipliers and the tree of adders behind them; of all generations."""
    return _timed(DotLane(part), f"lane{part}", liberty)


@functools.cache
def srs_unit(generation: Generation = AIE_ML, bits: int = 64, liberty: Path = OSU018) -> TimingReport:
    """One sum of so many bits; behind it, results are chosen in `srs`. Of all generations."""
    return _timed(SrsUnit(bits), f"srs_unit{bits}", liberty)


@functools.cache
def vmac(generation: Generation = AIE_ML, liberty: Path = OSU018) -> TimingReport:
    """Without its lanes."""
    cut = {_LANE.format(part): lane(part=part, liberty=liberty).budget() for part in range(2)}
    return _timed(VectorMac(generation), "vmac", liberty, cut)


@functools.cache
def srs(generation: Generation = AIE_ML, liberty: Path = OSU018) -> TimingReport:
    """Without its units."""
    cut = {_SRS_UNIT.format(bits): srs_unit(bits=bits, liberty=liberty).budget() for bits in (32, 64)}
    return _timed(ShiftRoundSaturate(generation), "srs", liberty, cut)


@functools.cache
def vectors(generation: Generation = AIE_ML, liberty: Path = OSU018) -> TimingReport:
    return _timed(RegisterFile.vectors(generation), "vectors", liberty)


@functools.cache
def accumulators(generation: Generation = AIE_ML, liberty: Path = OSU018) -> TimingReport:
    return _timed(Accumulators(generation), "accumulators", liberty)


@functools.cache
def switch(generation: Generation = AIE_ML, liberty: Path = OSU018) -> TimingReport:
    return _timed(StreamSwitch(bits=generation.word_bits), "switch", liberty)


@functools.cache
def fetch(generation: Generation = AIE_ML, instructions: int = PLATFORM.instructions,
          liberty: Path = OSU018) -> TimingReport:
    """By itself, for the path from its SRAM: in the tile others are longer. The same in all generations."""
    return _timed(Fetch(instructions), "fetch", liberty)


@functools.cache
def tile(generation: Generation = AIE_ML, instructions: int = PLATFORM.instructions,
         liberty: Path = OSU018) -> TimingReport:
    """Without its vector units and its switch."""
    inside = {"switch": "tile.switch", **{name: f"tile.core.{name}" for name in BUDGETS if name != "switch"}}
    cut = {f"{TILE}.{at}": BUDGETS[name] for name, at in inside.items()}
    options = StaOptions(cut={SRAM_MODULE: SRAM, **cut}, liberty=liberty)
    return time_design(emit_tile(instructions, generation), TILE, options)


@functools.cache
def memory_tile(generation: Generation = AIE_ML, liberty: Path = OSU018) -> TimingReport:
    """All of it."""
    return time_design(emit_memory_tile(generation), MEMORY_TILE, StaOptions(liberty=liberty))


LARGE: dict[str, Design] = {
    "vectors": vectors, "accumulators": accumulators, "switch": switch, "vmac": vmac, "srs": srs}
"""What has a budget."""
_CUT = tuple(f"tile.core.{name}" for name in ("vectors", "accumulators", "vmac", "srs"))
# Name: design, starts, ends. A report has the longest path to each end, and from each macro.
BLOCKS: dict[str, tuple[Design, str | tuple[str, ...], str | tuple[str, ...]]] = {
    "fetch": (tile, "", "tile.core.fetch."),
    "read of the program": (fetch, "program", ""),
    "address generators": (tile, "", "tile.core.agus."),
    "loads and stores": (tile, "", ("tile.core.load", "tile.core.store")),
    "cascade": (tile, "", ("tile.core.from_west.", "tile.core.to_east.")),
    "vector units, in": (tile, "", _CUT),
    "vector units, out": (tile, _CUT, ""),
    "data memory, asked": (tile, "", "tile.data."),
    "data memory, read": (tile, "tile.data.bank", ""),
    "locks": (tile, "", "tile.locks."),
    "DMA": (tile, "", "tile.dma."),
    "read of descriptors": (tile, "tile.dma.descriptors", ""),
    "configuration": (tile, "", "tile.config."),
    "tile": (tile, "", ""),
    "lane of multipliers": (lane, "", ""),
    "accumulation": (vmac, "", ""),
    "unit of srs": (srs_unit, "", ""),
    "srs": (srs, "", ""),
    "vectors": (vectors, "", ""),
    "accumulators": (accumulators, "", ""),
    "stream switch": (switch, "", ""),
    "memory tile": (memory_tile, "", ""),
}
"""Paths by block. At ports of a design, which here are those of the block, 30 FO4 are beyond it."""


TIMING_BLOCKS: dict[str, tuple[str, Callable[[AieMl, Path], TimingReport]]] = {
    "tile": ("core tile; its vector units and its switch are cut out, by fixed budgets",
             lambda platform, liberty: tile(platform.generation, platform.instructions, liberty)),
    "fetch": ("fetch of instructions by itself",
              lambda platform, liberty: fetch(platform.generation, platform.instructions, liberty)),
    "lane": ("a lane of eight multipliers", lambda platform, liberty: lane(platform.generation, liberty=liberty)),
    "vmac": ("accumulation of the vector MAC; its lanes are cut out",
             lambda platform, liberty: vmac(platform.generation, liberty)),
    "srs_unit": ("shift, round, saturate: one sum of 64 bits",
                 lambda platform, liberty: srs_unit(platform.generation, liberty=liberty)),
    "srs": ("shift, round, saturate; its units are cut out",
            lambda platform, liberty: srs(platform.generation, liberty)),
    "vectors": ("vector registers", lambda platform, liberty: vectors(platform.generation, liberty)),
    "accumulators": ("accumulator registers", lambda platform, liberty: accumulators(platform.generation, liberty)),
    "switch": ("stream switch", lambda platform, liberty: switch(platform.generation, liberty)),
    "memory_tile": ("memory tile", lambda platform, liberty: memory_tile(platform.generation, liberty)),
}
"""Name on the command line to what it is, and what times it."""


def time_block(platform: AieMl, block: str, liberty: Path = OSU018) -> TimingReport:
    """A block of `TIMING_BLOCKS`.

    Raises:
        BenchError, ToolError: as `nncosim.tb.timing.sta.time_design`.
    """
    return TIMING_BLOCKS[block][1](platform, liberty)


def _memory(macro: str) -> str:
    return "data" if ".bank" in macro else macro.rpartition(".")[2]


def paths_of(
    block: str, report: TimingReport, starts: str | tuple[str, ...] = "", ends: str | tuple[str, ...] = ""
) -> list[KindOfPath]:
    """As long as they are with SRAM, wires and skew, the longest first."""
    found = [sized(block, report, path, _memory) for path in report.between(starts, ends)]
    return sorted(found, key=lambda path: -path.total)


def longest(block: str, generation: Generation = AIE_ML) -> list[KindOfPath]:
    """Paths of one of `BLOCKS`, the longest first."""
    design, starts, ends = BLOCKS[block]
    return paths_of(block, design(generation), starts, ends)


def table(generation: Generation = AIE_ML) -> str:
    """The longest path of each block."""
    head = [
        f"limit {LIMIT:.0f} FO4; total = mapped, SRAM by size, + {WIRES:.0%} of gates for wires + {SKEW} for skew and "
        "margin of set-up",
        " total mapped  kind                   block              path",
    ]
    return "\n".join([*head, *(str(longest(block, generation)[0]) for block in BLOCKS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    generations = {each.name: each for each in (AIE_ML, AIE_ML_V2)}
    parser.add_argument("generation", nargs="?", choices=list(generations), default=AIE_ML.name)
    print(table(generations[parser.parse_args().generation]))


if __name__ == "__main__":
    main()
