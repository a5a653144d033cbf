# SPDX-License-Identifier: Apache-2.0
"""Verilog to a flat netlist of an ECP5's cells: Yosys' `synth_ecp5`.

Memories become block RAM, all of them: none is built of lookup tables. Ports get no IO buffers, for they are not pins.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.errors import BenchError
from nncosim.tb.system.cache import cache_root, content_key, obtain
from nncosim.tb.system.processes import last_lines, run_retried
from nncosim.tb.timing.synthesis import YOSYS, yosys_version

__all__ = ["for_fpga", "synthesized", "yosys"]

_NETLIST = "fpga.json.gz"
_BLOCK_RAM = Path(__file__).with_name("block_ram.v")


def for_fpga(sources: Mapping[str, str]) -> dict[str, str]:
    """The design's Verilog with block RAM for the SRAM macro; file name to text."""
    ram = {f"{SRAM_MODULE}.v": _BLOCK_RAM.read_text()}
    return {name: text for name, text in {**sources, **ram}.items() if name in sources}


def yosys(folder: Path, script: str, what: str) -> None:
    """Run a script in a folder.

    Raises:
        ToolError: Yosys is not installed.
        BenchError: it refuses; with its last lines, and where its log is.
        ToolCrash: it crashes twice.
    """
    yosys_version()
    (folder / "script.ys").write_text(script)
    done = run_retried([sys.executable, "-c", YOSYS, "-q", "-l", "yosys.log", "script.ys"], cwd=folder, name="Yosys",
                       what=what)
    if done.returncode:
        raise BenchError(f"Yosys could not {what}:\n{last_lines(done.stdout)}\n  full log: "
                         f"{kept_log(folder / 'yosys.log', what)}")


def kept_log(log: Path, what: str) -> Path:
    """A tool's log, kept after its folder is gone."""
    kept = cache_root() / "logs" / f"fpga-{content_key([what])[:16]}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file():
        shutil.copyfile(log, kept)
    return kept


def synthesized(sources: Mapping[str, str], top: str) -> dict[str, Any]:
    """The module `top` as in Yosys' write_json, all of whose cells are the FPGA's; synthesized, or found so.

    Args:
        sources: file name to Verilog, with `hdl/sram.v` where there are memories.

    Raises:
        ToolError, BenchError, ToolCrash: as `yosys`.
    """
    chosen = for_fpga(sources)
    script = "\n".join([
        *(f"read_verilog -sv {name}" for name in chosen),
        f"synth_ecp5 -top {top} -noiopad -nolutram -json fpga.json",
    ]) + "\n"  # fmt: skip

    def fill(folder: Path) -> None:
        for name, text in chosen.items():
            (folder / name).write_text(text)
        yosys(folder, script, f"synthesize {top!r} for an ECP5")
        with (folder / "fpga.json").open("rb") as plain, gzip.open(folder / _NETLIST, "wb", compresslevel=4) as packed:
            shutil.copyfileobj(plain, packed)
        (folder / "fpga.json").unlink()

    key = content_key(["fpga", script, yosys_version(), *(part for pair in chosen.items() for part in pair)])
    with gzip.open(obtain(key, fill, "netlists") / _NETLIST) as file:
        return dict(json.load(file)["modules"][top])
