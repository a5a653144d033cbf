# SPDX-License-Identifier: Apache-2.0
"""Verilog to a simulation, built once for each content.

One set of object files becomes two artefacts: a shared object with a C interface, which
`nncosim.tb.sim.model.Model` drives from Python, and an executable that hosts cocotb. Visible at run time are
the ports of the top and the named memories; nothing else, because every further visible signal costs speed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nncosim.tb.errors import hidden
from nncosim.tb.sim.building import Build, BuildOptions, BuildProgress, BuiltLibrary, Inputs
from nncosim.tb.sim.coverage import CoverageBuild, counts_coverage, with_coverage
from nncosim.tb.sim.toolchain import require_header
from nncosim.tb.system.cache import obtain

__all__ = ["BuildOptions", "BuildProgress", "BuiltLibrary", "BuiltModel", "build", "build_library"]

__tracebackhide__ = hidden


@dataclass(frozen=True)
class BuiltModel:
    """A simulation in the cache.

    Attributes:
        path: Folder of the entry.
        top: Name of the top module.
        options: How it was built.
        key: SHA-256 of everything it was built from.
        build_seconds: Wall-clock time of the build that made the entry.
    """

    path: Path
    top: str
    options: BuildOptions
    key: str
    build_seconds: float

    @property
    def library(self) -> Path:
        """Shared object with the C interface."""
        return self.path / "model.so"

    @property
    def executable(self) -> Path:
        """Simulator executable that hosts cocotb. It finds cocotb's libraries by LD_LIBRARY_PATH."""
        return self.path / "cocotb_sim"

    @property
    def log(self) -> Path:
        """Output of the tools that built it."""
        return self.path / "build.log"


def build_library(
    sources: Mapping[str, str], module: str, *, options: BuildOptions | None = None, jobs: int = 2,
    progress: BuildProgress | None = None, **overrides: Any,
) -> BuiltLibrary:
    """Build a module for `build`'s `libraries` (Verilator's hierarchical way), or find it built.

    Its outputs should come from registers: what an input reaches within a cycle is evaluated again and again. Its
    memories are visible as those of any design; it cannot be saved. With `trace` its waveform is part of the design's.

    Args: as of `build`.

    Raises: as `build`.
    """
    inputs = with_coverage(Inputs(dict(sources), module, (), (), "", (), _chosen(options, overrides), library=True))
    entry, key = _built(inputs, jobs, progress)
    return BuiltLibrary(entry, module, key)


def build(
    sources: Mapping[str, str],
    top: str,
    *,
    files: Sequence[Path] = (),
    include_dirs: Sequence[Path] = (),
    vlt: str = "",
    cpp_sources: Sequence[Path] = (),
    libraries: Sequence[BuiltLibrary] = (),
    options: BuildOptions | None = None,
    jobs: int = 2,
    progress: BuildProgress | None = None,
    **overrides: Any,
) -> BuiltModel:
    """Build a design, or find it built.

    Args:
        sources: File name to Verilog text, as `nncosim.hdl.emit.emit_design` gives it.
        top: Module name of the top. Its clock, for the drivers, is its port `clk`.
        files: (System)Verilog files, compiled before `sources`, in this order.
        include_dirs: Folders for `include`. Every Verilog file directly in them counts as content.
        vlt: Verilator control text, appended to the generated one.
        cpp_sources: C++ files linked into the model (DPI functions, monitors); see eventlog.h.
        libraries: Modules that are built already, and not among `sources`.
        options: How to build; `overrides` are fields of it.
        jobs: Compiler processes at a time.
        progress: Called as the build goes on; not called when the entry exists.

    Raises:
        BuildError: If Verilator or the compiler refuses; with the last lines and the log's path.
        ToolError: If there is no C++ compiler, or a library that the waveform format needs is missing.
        BenchError: If an option has a value it cannot have, or a file does not exist.
    """
    chosen = _chosen(options, overrides)
    inputs = with_coverage(Inputs(dict(sources), top, tuple(map(Path, files)), tuple(map(Path, include_dirs)), vlt,
                                  tuple(map(Path, cpp_sources)), chosen, libraries=tuple(libraries)))
    entry, key = _built(inputs, jobs, progress)
    info = json.loads((entry / "info.json").read_text())
    return BuiltModel(entry, top, inputs.options, key, info["build_seconds"])


def _chosen(options: BuildOptions | None, overrides: dict[str, Any]) -> BuildOptions:
    return BuildOptions(**(({} if options is None else vars(options)) | overrides))


def _built(inputs: Inputs, jobs: int, progress: BuildProgress | None) -> tuple[Path, str]:
    """The entry in the cache, and its key."""
    kind = CoverageBuild if counts_coverage(inputs.options) else Build
    key = inputs.key()

    def fill(folder: Path) -> None:
        if inputs.options.trace == "fst":
            require_header("lz4.h", "liblz4-dev", "FST waveforms")
            require_header("zlib.h", "zlib1g-dev", "FST waveforms")
        kind(inputs, folder, key, jobs, progress or (lambda *_: None)).run()

    return obtain(key, fill), key
