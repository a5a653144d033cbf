# SPDX-License-Identifier: Apache-2.0
"""Simulations that count which lines of RTL are reached and which bits toggle, by Verilator.

With `FOLDER_VARIABLE` in the environment, `nncosim.tb.sim.verilate.build` builds all designs so (entries of their own
in the cache), and each simulation leaves a file there when it ends, under either driver; what modules that are compiled
by themselves (`build_library`) have counted is in that of the design they stand in.

There, too, is left which lines of Python emitted Verilog comes from (`nncosim.hdl.source_lines`). One module may be
emitted in several ways, so a file of Verilog has part of its digest in its name while it is compiled, and so in what is
counted.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gzip
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nncosim.hdl.source_lines import Verilog
from nncosim.tb.sim import saved_state
from nncosim.tb.sim.building import Build, BuildOptions, Inputs
from nncosim.tb.sim.toolchain import VERILATOR_ROOT, Log
from nncosim.tb.system.cache import content_key
from nncosim.tb.system.files import write_file

__all__ = ["FOLDER_VARIABLE", "LINES_SUFFIX", "PACKED_SUFFIX", "CoverageBuild", "counting_coverage", "counts_coverage",
           "record", "record_at_exit", "with_coverage"]

FOLDER_VARIABLE = "NNCOSIM_COVERAGE"
LINES_SUFFIX = ".lines.json"
"""Of a file with the `nncosim.hdl.source_lines.SourceLines` of a file of Verilog, behind the name of that."""
PACKED_SUFFIX = ".gz"
_DIGITS = 12

_CPP = Path(__file__).parent / "cpp"
_RECORDER, _SAVED = _CPP / "coverage.cpp", _CPP / "saved.h"
_ARGUMENTS = ("--coverage-line", "--coverage-toggle", "--coverage-max-width", "4096")
_NO_BRANCH = re.compile(r"if \(_initial_\d+ \) begin end")
"""What `nncosim.hdl.emit` writes into processes without a clock, to start them; it is never taken."""
_UNCOUNTED = r"/*verilator coverage_off*/ \g<0> /*verilator coverage_on*/"
_number = itertools.count()


def counts_coverage(options: BuildOptions) -> bool:
    """Whether a design is built so."""
    return _ARGUMENTS[0] in options.verilator_args


def counting_coverage() -> bool:
    """Whether what is built from now on is built so."""
    return bool(os.environ.get(FOLDER_VARIABLE))


def with_coverage(inputs: Inputs) -> Inputs:
    """What is to be built, for coverage where the environment says so."""
    if not counting_coverage():
        return inputs
    # Counters are most of the code, and better compiled soon than fast.
    options = replace(inputs.options, verilator_args=(*inputs.options.verilator_args, *_ARGUMENTS), optimize="-O1")
    sources = {_told_apart(name, text): _NO_BRANCH.sub(_UNCOUNTED, text) for name, text in inputs.sources.items()}
    if inputs.library:
        return replace(inputs, sources=sources, options=options)
    made_by = content_key([_SAVED.read_bytes(), Path(saved_state.__file__).read_bytes()])  # part of what is built
    return replace(inputs, sources=sources, options=options, cpp_sources=(*inputs.cpp_sources, _RECORDER),
                   vlt=f"{inputs.vlt}\n// saved states: {made_by}")


def _told_apart(name: str, text: str) -> str:
    """The name of a source file with part of the digest of its content; its lines' sources are left by that name."""
    path = Path(name)
    own = f"{path.stem}.{content_key([text])[:_DIGITS]}{path.suffix}"
    left = Path(os.environ[FOLDER_VARIABLE]) / f"{own}{LINES_SUFFIX}"
    if isinstance(text, Verilog) and not left.exists():
        left.parent.mkdir(parents=True, exist_ok=True)
        write_file(left, json.dumps(text.lines.to_json()).encode())
    return own


class _WithoutSaving(Log):
    """Verilator has no saved states together with coverage."""

    def run(self, command: Sequence[str], cwd: Path) -> None:
        super().run([word for word in command if word != "--savable"], cwd)


class CoverageBuild(Build):
    """A build whose simulation counts coverage, and has saved states of this project's making."""

    def __init__(self, inputs: Inputs, folder: Path, *rest: Any):
        super().__init__(inputs, folder, *rest)
        self.log = _WithoutSaving(self.log.path)
        self.flags = [*self.flags, "-include", str(_SAVED)]

    def _verilate(self) -> dict[str, list[str]]:
        sources = super()._verilate()
        if self.inputs.library:
            return sources
        saved = self.work / "Vtop__saved.cpp"
        saved.write_text(saved_state.saved_state_source(self.work))
        runtime = str(VERILATOR_ROOT / "include" / "verilated_save.cpp")
        return {**sources, "support_slow": [*sources["support_slow"], str(saved)],
                "global": [*sources["global"], runtime]}  # fmt: skip

    def _keep_objects(self, folder: Path) -> None:
        """As any build does, with this one's commands."""
        build = CoverageBuild(self.inputs, folder, self.key, self.jobs, self.progress)
        build.work.mkdir()
        with build._failures_told():
            generated = build._verilate()
            for path in build._compile(generated):
                path.rename(folder / path.name)
        relative = [str(Path(name).relative_to(VERILATOR_ROOT)) for name in generated["global"]]
        (folder / "runtime.json").write_text(json.dumps(relative))


def record(library: ctypes.CDLL, address: int, top: str) -> None:
    """Leave what a simulation has counted, if it counts and the environment says where."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder or not address:
        return
    try:
        function = library.nncosim_coverage
    except AttributeError:  # not built for coverage
        return
    function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_char_p]
    path = Path(folder) / f"{top}-{os.getpid()}-{next(_number)}.dat"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    function(address, str(path).encode())
    with contextlib.suppress(OSError):  # a thirtieth of the size
        packed = gzip.compress(path.read_bytes(), 1)
        path.unlink()
        path.with_name(path.name + PACKED_SUFFIX).write_bytes(packed)


def record_at_exit() -> None:
    """In a process that cocotb runs in: leave its simulation's counts when Python ends, which is before it does."""
    if os.environ.get(FOLDER_VARIABLE):
        library = ctypes.CDLL(None)
        selected = library.nncosim_selected
        selected.restype = ctypes.c_void_p
        atexit.register(lambda: record(library, selected(), os.environ.get("COCOTB_TOPLEVEL", "top")))
