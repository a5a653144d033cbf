# SPDX-License-Identifier: Apache-2.0
"""One build of a simulation in a scratch folder: Verilator, the compiler, the linker."""

import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cocotb_tools.config
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.tb.errors import BenchError, BuildError, hidden
from nncosim.tb.sim.toolchain import (
    VERILATOR_ROOT,
    CommandFailed,
    Log,
    compiler,
    run_parallel,
    tool_versions,
    verilator_command,
)
from nncosim.tb.system.cache import cache_root, content_key, obtain

__all__ = ["UNOPTIMIZED", "Build", "BuildOptions", "BuildProgress", "BuiltLibrary", "Inputs"]

__tracebackhide__ = hidden

BuildProgress = Callable[[str, int, int], None]
"""Called with (step, done, total) while a build runs."""

_CPP = Path(__file__).parent / "cpp"
_SHIM = ("shim.cpp", "eventlog.cpp", "cocotb_main.cpp")  # independent of the design, the main program last
_TOP = "top.cpp"  # compiled with the design's generated code
_SHIM_HEADERS = ("shim.h", "top.h", "print.h", "eventlog.h", "eventlog.svh")
# The runtime's default reactions to $stop and fatal errors abort the process; the shim has better ones.
_DEFINES = ("-DVL_TIME_CONTEXT", "-DVL_PRINTF=nncosim_printf", "-DVL_USER_FINISH", "-DVL_USER_STOP",
            "-DVL_USER_FATAL", "-DVERILATOR=1", "-DVM_SC=0", "-DVM_COVERAGE=0", "-DVM_TIMING=0", "-DVM_TRACE_SAIF=0")
_HEADER_SUFFIXES = (".v", ".sv", ".vh", ".svh", ".h", ".inc")
# A block that stands in a design many times is to be generated, compiled and held in the instruction cache once.
# Verilator shares a function between the instances of a module if it is the same for all, so nothing may be optimized
# across their ports, and no lookup table be made, as each has a name of its own.
_SHARE_BLOCKS = ("-fno-gate", "-fno-dedup", "-fno-dfg-scoped", "-fno-table")
_UNIT_BYTES = 600_000  # generated C++ compiled as one unit: fewer units parse headers less often


@dataclass(frozen=True)
class BuildOptions:
    """How a design is built. Everything here is part of the cache key.

    Attributes:
        parameters: Verilog parameters of the top.
        defines: Verilog preprocessor symbols.
        trace: "vcd", "fst", or None: waveforms cost ten times in speed, and "fst" needs liblz4's headers.
        assertions: Whether SystemVerilog assertions are checked.
        x_assign, x_initial: Verilator's "fast", "unique" or "0": what an unknown is. With "unique" the
            values are random, from the seed given at run time.
        memories: Module name to variable name of the storage that `memory()` reaches.
        native: Whether the compiler may use every instruction of this machine's CPU.
        optimize, optimize_rest, optimize_given: Compiler options for the hot part of the model, for what runs once, and
            for C++ that is given with the design.
        verilator_args: Further options for Verilator.
    """

    parameters: Mapping[str, int] = field(default_factory=dict)
    defines: Mapping[str, str] = field(default_factory=dict)
    trace: str | None = None
    assertions: bool = True
    x_assign: str = "unique"
    x_initial: str = "unique"
    memories: Mapping[str, str] = field(default_factory=lambda: {SRAM_MODULE: "mem"})
    native: bool = True
    optimize: str = "-O3"
    optimize_rest: str = "-O1"
    optimize_given: str = "-O2"
    verilator_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.trace not in (None, "vcd", "fst"):
            raise BenchError(f"trace must be 'vcd', 'fst' or None, not {self.trace!r}")


UNOPTIMIZED = BuildOptions(optimize="-O0", optimize_rest="-O0", optimize_given="-O0")
"""For runs that are over sooner than a compiler optimizes."""


@dataclass(frozen=True)
class BuiltLibrary:
    """A module in the cache, compiled by itself: a design that stands on it has it ready, as often as it likes.

    Attributes:
        path: Folder of the entry.
        module: Its Verilog name.
        key: SHA-256 of everything it was built from.
    """

    path: Path
    module: str
    key: str

    @property
    def wrapper(self) -> Path:
        """Verilog that stands for the module."""
        return self.path / f"{self.module}.sv"

    @property
    def archive(self) -> Path:
        """Its object code."""
        return self.path / f"{self.module}.a"


@dataclass(frozen=True)
class Inputs:
    sources: dict[str, str]
    top: str
    files: tuple[Path, ...]
    include_dirs: tuple[Path, ...]
    vlt: str
    cpp_sources: tuple[Path, ...]
    options: BuildOptions
    library: bool = False
    libraries: tuple[BuiltLibrary, ...] = ()

    def compiled_key(self) -> str:
        """Digest of what is compiled: all of `key` but the libraries, of which only the wrappers are."""
        parts = [each.wrapper.read_bytes() for each in self.libraries]
        return content_key(["objects", replace(self, libraries=()).key(), *parts])

    @property
    def prefix(self) -> str:
        """Of the names of generated classes."""
        return f"V{self.top}" if self.library else "Vtop"

    def __post_init__(self) -> None:
        for path in (*self.files, *self.cpp_sources):
            if not path.is_file():
                raise BenchError(f"source file {path} of the design {self.top!r} does not exist")
        for path in self.include_dirs:
            if not path.is_dir():
                raise BenchError(f"include folder {path} of the design {self.top!r} does not exist")

    def key(self) -> str:
        """Digest of sources, options, tools and this module's own C++."""
        parts: list[str | bytes] = [self.top, self.vlt, json.dumps(asdict(self.options), sort_keys=True),
                                    json.dumps(_relevant_tools(self.options), sort_keys=True)]
        parts += ["library" if self.library else "", *(each.key for each in self.libraries)]
        for name, text in self.sources.items():
            parts += [name, text]
        own = (*_own_cpp(), Path(__file__))
        for path in (*self.files, *self.cpp_sources, *self.headers(), *own):
            parts += [path.name, path.read_bytes()]
        return content_key(parts)

    def headers(self) -> list[Path]:
        return [path for folder in self.include_dirs for path in sorted(folder.iterdir())
                if path.suffix in _HEADER_SUFFIXES]


def _own_cpp() -> list[Path]:
    return [_CPP / name for name in (*_SHIM, _TOP, *_SHIM_HEADERS)]


def _relevant_tools(options: BuildOptions) -> dict[str, str]:
    tools = dict(tool_versions())
    if not options.native:
        del tools["cpu"]
    return tools


class Build:
    """One build in a scratch folder."""

    def __init__(self, inputs: Inputs, folder: Path, key: str, jobs: int, progress: BuildProgress):
        self.inputs, self.folder, self.key = inputs, folder, key
        self.options = inputs.options
        self.jobs, self.progress = jobs, progress
        self.work = folder / "work"
        self.log = Log(folder / "build.log")
        self.flags = _compile_flags(self.options, self.work)

    def run(self) -> None:
        start = time.monotonic()
        self.work.mkdir()
        with self._failures_told():
            if self.inputs.library:
                self._archive(self._compile(self._verilate()))
            elif self.inputs.libraries:
                kept = obtain(self.inputs.compiled_key(), self._keep_objects, "objects")
                # Under the Verilator that is installed now: the entry outlives the one that built it.
                runtime = [str(VERILATOR_ROOT / name) for name in json.loads((kept / "runtime.json").read_text())]
                self._link(sorted(kept.glob("*.o")), self._runtime(runtime))
            else:
                generated = self._verilate()
                self._link(self._compile(generated), self._runtime(generated["global"]))
        info = {"top": self.inputs.top, "options": asdict(self.options), "tools": tool_versions(),
                "build_seconds": time.monotonic() - start}
        (self.folder / "info.json").write_text(json.dumps(info, indent=2))
        self._discard_intermediates()

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except CommandFailed:
            keep = cache_root() / "logs" / f"{self.inputs.top}-{self.key[:16]}.log"
            raise self.log.failure(f"the simulation of {self.inputs.top!r}", keep) from None

    def _keep_objects(self, folder: Path) -> None:
        """Fill an entry of the cache with the objects of a design that stands on libraries: while their wrappers are
        the same, a library that changed is only linked anew."""
        build = Build(self.inputs, folder, self.key, self.jobs, self.progress)
        build.work.mkdir()
        with build._failures_told():
            generated = build._verilate()
            for path in build._compile(generated):
                path.rename(folder / path.name)
        relative = [str(Path(name).relative_to(VERILATOR_ROOT)) for name in generated["global"]]
        (folder / "runtime.json").write_text(json.dumps(relative))

    def _runtime(self, sources: list[str]) -> Path:
        return _runtime(sources, self.flags, self.options, self.jobs, self.progress)

    def _verilate(self) -> dict[str, list[str]]:
        """Run Verilator; returns its own list of what it generated, by kind."""
        self.progress("verilate", 0, 1)
        source_dir = self.folder / "src"
        source_dir.mkdir()
        names = []
        # By path, so that messages point at the user's file.
        for path in (*self.inputs.files, *(each.wrapper for each in self.inputs.libraries)):
            names.append(str(path.resolve()))
        for name, text in self.inputs.sources.items():
            (source_dir / name).write_text(text)
            names.append(f"src/{name}")
        (source_dir / "visible.vlt").write_text(_control_text(self.inputs))
        # Not -O3: it flattens the design, so that a repeated block is generated and compiled once an instance.
        kind = ["--lib-create", self.inputs.top] if self.inputs.library else ["--savable"]
        command = [*verilator_command(), "--cc", "--vpi", *kind, "--make", "json", "--prefix", self.inputs.prefix,
                   "--top-module", self.inputs.top, "--Mdir", "work", "--no-timing",
                   *_SHARE_BLOCKS, "--output-split", "60000", "--output-split-cfuncs", "20000", "--quiet",
                   "--x-assign", self.options.x_assign, "--x-initial", self.options.x_initial,
                   "--assert" if self.options.assertions else "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style",
                   *self._trace_args(),
                   *(f"-G{name}={value}" for name, value in self.options.parameters.items()),
                   *(f"-D{name}={value}" for name, value in self.options.defines.items()),
                   f"-I{_CPP}", *(f"-I{path.resolve()}" for path in self.inputs.include_dirs),
                   *self.options.verilator_args, "src/visible.vlt", *names]
        self.log.run(command, self.folder)
        if self.inputs.library:
            self._plain_wrapper()
        return dict(json.loads((self.work / f"{self.inputs.prefix}.json").read_text())["sources"])

    def _trace_args(self) -> list[str]:
        if self.options.trace is None:
            return []
        return [f"--trace-{self.options.trace}", "--no-trace-top", "--trace-structs", "--trace-max-width", "4096",
                "--trace-max-array", "1"]

    def _compile(self, sources: dict[str, list[str]]) -> list[Path]:
        """Compile the generated C++ and the user's; returns the objects."""
        # Writing waveforms is straight-line code of a few instructions a signal: nothing to optimize, much to compile.
        hot, tracing = _split_traces(sources["classes_fast"] + sources["support_fast"])
        top = [] if self.inputs.library else [str(_CPP / _TOP)]
        cold, declaring = _split_traces([*sources["classes_slow"], *sources["support_slow"], *top])
        rest = [path.resolve() for path in self.inputs.cpp_sources]
        rest += [self.work / f"{self.inputs.top}.cpp"] if self.inputs.library else []
        plan = [(unit, level) for name, files, level in (
            ("fast", hot, self.options.optimize), ("trace", tracing, "-O1"), ("slow", cold, self.options.optimize_rest),
            ("declare", declaring, "-O0")) for unit in _units(self.work, name, files)]
        plan += [(path, self.options.optimize_given) for path in rest]
        objects = [self.work / f"{index:03}_{source.stem}.o" for index, (source, _) in enumerate(plan)]
        # Longest first, so that the last job is not the long one.
        order = sorted(range(len(plan)), key=lambda index: -plan[index][0].stat().st_size)

        def job(index: int) -> Callable[[], None]:
            source, level = plan[index]
            command = [*compiler(), *self.flags, *shlex.split(level), str(source)]
            if source.parent != self.work:
                return lambda: self._compile_once(command, objects[index])
            return lambda: self.log.run([*command, "-c", "-o", str(objects[index])], self.work)

        run_parallel([job(index) for index in order], self.jobs,
                     lambda done: self.progress("compile", done, len(plan)))
        return objects

    def _compile_once(self, command: list[str], target: Path) -> None:
        """A file that the user gave, compiled once for all designs that have it: with what it includes it is the key,
        so headers that are generated with a design are part of it."""
        text = target.with_suffix(".ii")
        self.log.run([*command, "-E", "-P", "-o", str(text)], self.work)
        key = content_key(["object", *(word for word in command[:-1] if not word.startswith("-I")), text.read_bytes(),
                           json.dumps(_relevant_tools(self.options), sort_keys=True)])
        text.unlink()

        def fill(folder: Path) -> None:
            self.log.run([*command, "-c", "-o", str(folder / "given.o")], self.work)

        shutil.copyfile(obtain(key, fill, "objects") / "given.o", target)

    def _archive(self, objects: list[Path]) -> None:
        self.log.run(["ar", "rcs", f"{self.inputs.top}.a", *map(str, objects)], self.folder)
        shutil.copyfile(self.work / f"{self.inputs.top}.sv", self.folder / f"{self.inputs.top}.sv")

    def _plain_wrapper(self) -> None:
        """Take out of a library's wrapper, and of its code, the hash of its content by which Verilator sees that both
        are of one build, and what a call costs, for threads. Entries of the cache are of one build; and the wrapper of
        a changed library stays the same."""
        for name, pattern, times in ((f"{self.inputs.top}.sv", r"(protectlib_hash__V = 32'd)\d+", 1),
                                     (f"{self.inputs.top}.sv", r"(-cost 64'd)\d+", 2),
                                     (f"{self.inputs.top}.cpp", r"(expected_hash__V = )\d+(?=U)", 1)):
            text, count = re.subn(pattern, r"\g<1>0", (self.work / name).read_text())
            if count < times:
                raise BuildError(f"Verilator's wrapper {name} of a library is not as expected", self.log.path)
            (self.work / name).write_text(text)

    def _link(self, objects: list[Path], runtime: Path) -> None:
        """Link the shared object and the cocotb executable."""
        self.progress("link", 0, 1)
        exports = self.work / "exports.map"
        # Only the C interface is exported: several models may then live in one process.
        exports.write_text("{ global: nncosim_*; local: *; };\n")
        common = [str(path) for path in (*objects, *(each.archive for each in self.inputs.libraries))]
        trailing = ["-pthread", *(["-llz4", "-lz"] if self.options.trace == "fst" else [])]
        # All of the runtime, whether or not the design calls it: Python and DPI code do.
        archive = ["-Wl,--whole-archive", str(runtime / "runtime.a"), "-Wl,--no-whole-archive"]
        self.log.run([*compiler(), "-shared", "-o", "model.so", *common, *archive,
                      f"-Wl,--version-script={exports}", "-Wl,-Bsymbolic", "-Wl,-z,defs", *trailing], self.folder)
        # No run path: the entry outlives the virtual environment that built it, and serves others; what runs it says
        # where its own cocotb is.
        self.log.run([*compiler(), "-o", "cocotb_sim", "-rdynamic", str(runtime / "main.o"), *common, *archive,
                      f"-L{cocotb_tools.config.libs_dir}", "-lcocotbvpi_verilator", *trailing], self.folder)

    def _discard_intermediates(self) -> None:
        """Keep the generated C++ (small, useful in a debugger), drop the objects."""
        for path in self.work.glob("*.o"):
            path.unlink()


def _compile_flags(options: BuildOptions, work: Path) -> list[str]:
    trace = {None: (0, 0, 0), "vcd": (1, 0, 1), "fst": (1, 1, 0)}[options.trace]
    include = VERILATOR_ROOT / "include"
    return ["-std=c++20", "-fPIC", "-fno-semantic-interposition", "-fvisibility-inlines-hidden",
            "-faligned-new", "-fcf-protection=none", "-w", *(["-march=native"] if options.native else []), *_DEFINES,
            f"-DVM_TRACE={trace[0]}", f"-DVM_TRACE_FST={trace[1]}", f"-DVM_TRACE_VCD={trace[2]}",
            f"-I{work}", f"-I{include}", f"-I{include / 'vltstd'}", f"-I{_CPP}"]


def _control_text(inputs: Inputs) -> str:
    """Verilator control file: what stays visible."""
    lines = ["`verilator_config"]
    lines += [] if inputs.library else [f'public_flat_rw -module "{inputs.top}" -port "*"']
    lines += [f'public_flat_rd -module "{module}" -var "{variable}"'
              for module, variable in inputs.options.memories.items()]
    return "\n".join([*lines, inputs.vlt, ""])


def _split_traces(paths: list[str]) -> tuple[list[str], list[str]]:
    """Generated files that do not trace, and those that do."""
    return ([path for path in paths if "__Trace__" not in Path(path).name],
            [path for path in paths if "__Trace__" in Path(path).name])


def _units(work: Path, name: str, paths: list[str]) -> list[Path]:
    """Group generated files into translation units of about `_UNIT_BYTES`."""
    groups: list[list[str]] = []
    room = 0
    for path in paths:
        size = Path(path).stat().st_size
        if not groups or size > room:
            groups.append([])
            room = _UNIT_BYTES
        groups[-1].append(path)
        room -= size
    units = []
    for index, group in enumerate(groups):
        unit = work / f"unit_{name}_{index}.cpp"
        unit.write_text("".join(f'#include "{Path(path).name}"\n' for path in group))
        units.append(unit)
    return units


def _runtime(paths: list[str], flags: list[str], options: BuildOptions, jobs: int, progress: BuildProgress) -> Path:
    """Verilator's runtime and the shim as an archive, and main.o; shared by all designs built alike."""
    sources = [*map(Path, paths), *(_CPP / name for name in _SHIM)]
    public = [flag for flag in flags if not flag.startswith("-I")]
    key = content_key([*public, *(path.name for path in sources), *(path.read_bytes() for path in _own_cpp()),
                       json.dumps(_relevant_tools(options), sort_keys=True)])

    def fill(folder: Path) -> None:
        log = Log(folder / "build.log")
        objects = [folder / f"{path.stem}.o" for path in sources[:-1]] + [folder / "main.o"]

        def job(source: Path, target: Path) -> Callable[[], None]:
            forced = ["-include", str(_CPP / "print.h")]
            command = [*compiler(), *flags, *forced, "-O2", "-c", str(source), "-o", str(target)]
            return lambda: log.run(command, folder)

        try:
            run_parallel([job(*pair) for pair in zip(sources, objects, strict=True)], jobs,
                         lambda done: progress("compile the runtime", done, len(objects)))
            log.run(["ar", "rcs", "runtime.a", *(path.name for path in objects[:-1])], folder)
        except CommandFailed:
            raise log.failure("Verilator's runtime", cache_root() / "logs" / f"runtime-{key[:16]}.log") from None

    return obtain(key, fill, "runtimes")
