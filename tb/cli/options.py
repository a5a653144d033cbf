# SPDX-License-Identifier: Apache-2.0
"""Options that several subcommands share, and where their output goes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from nncosim.compiler.backends import backend_for
from nncosim.compiler.frontend.forms import InputForm, calibrated, parse_form
from nncosim.compiler.frontend.prepare import load_model
from nncosim.compiler.options import options_of, parse_options
from nncosim.platforms.base import Platform
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.parameters import Value, parse_overrides
from nncosim.platforms.registry import get_platform, platforms
from nncosim.tb.run.inputs import read_npz
from nncosim.tb.sim.waves import is_companion
from nncosim.tb.system.files import OutputError, is_stream, prepare_directory, prepare_file, write_file
from nncosim.tb.system.progress import Progress, phase_of
from nncosim.tb.system.terminal import Terminal, printable
from rich.text import Text

__all__ = [
    "DEFAULT_PLATFORM",
    "PATH",
    "RESULTS",
    "backend_option",
    "check_indices",
    "check_outputs",
    "complete_fpga_blocks", "complete_layers", "complete_layout_blocks",
    "complete_parameters",
    "complete_timing_blocks",
    "driver_option",
    "gate_options",
    "gates_of",
    "image_options",
    "input_options",
    "json_option",
    "machine_options",
    "model_argument",
    "out_option",
    "output_console",
    "patch_option",
    "platform_option",
    "platform_options",
    "progress",
    "read_forms",
    "resolve_options",
    "resolve_platform",
    "seed_option",
    "write_json",
]

if TYPE_CHECKING:
    from nncosim.tb.backend import AnyBench, GateChoice

Command = TypeVar("Command", bound=Callable)
DEFAULT_PLATFORM = "j3dai"

class _Path(click.Path):
    """A path that is not empty: as a path, "" would be the current folder."""

    def convert(
        self, value: str | os.PathLike[str], parameter: click.Parameter | None, context: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if value == "":
            self.fail("the path is empty; give a name, or . for the current folder", parameter, context)
        return super().convert(value, parameter, context)


PATH = _Path(path_type=Path)
"""Type of options and arguments that are files or folders."""
_STDOUT = Path("-")


# These look at a place as the command line is read: one that cannot be written is refused before the work is done.
def _checked_json(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path != _STDOUT:
        prepare_file(path)
    return path


def _checked_out(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        prepare_directory(path)
    return path


RESULTS = (
    "image.elf", "listing.txt", "memory.txt", "outputs.npz", "cycles.json", "report.html", "report.json",
    "schedule.json", "schedule.txt", "timeline.npz", "timeline.trace.json",
)  # fmt: skip
"""Names of the files that `run`, `compile` and `report` write to a folder."""


def image_options(command: Callable) -> Callable:
    """--input FILE as `input_file`, and --index I as `indices`; see `check_indices`."""
    for option in (
        click.option("--index", "indices", type=int, multiple=True, metavar="I",
                     help="Which image of the input file; repeat it for inferences back to back, without reset."),
        click.option("--input", "input_file", type=PATH, metavar="X.npz",
                     help="One array per graph input, by its name."),
    ):
        command = option(command)
    return command


def check_indices(indices: tuple[int, ...], input_file: Path | None) -> None:
    """Refuse images of no file."""
    if indices and input_file is None:
        raise click.UsageError("--index chooses an image of an input file; give --input X.npz too")


def patch_option(command: Callable) -> Callable:
    """--rtl-patch FILE."""
    help_ = "Patch (diff -u) of the Verilog that `platforms NAME --verilog DIR` writes (rtl)."
    return click.option("--rtl-patch", type=PATH, metavar="FILE", help=help_)(command)


def gate_options(command: Callable) -> Callable:
    """--netlist BLOCK,..., --liberty FILE and --beside-rtl."""
    help_ = "Tell the first register of the gates that is not what it is in the RTL (netlist)."
    command = click.option("--beside-rtl", is_flag=True, help=help_)(command)
    command = click.option("--liberty", type=PATH, metavar="FILE",
                           help="Cell library that the blocks are mapped to (netlist) [default: OSU 180 nm].")(command)
    return click.option("--netlist", "gate_blocks", metavar="all|BLOCK,...",
                        help="What is gates, the rest being RTL (netlist) [default: all].",
                        shell_complete=_complete(lambda context: getattr(_bench_of(context), "gate_blocks", ())),
                        )(command)  # fmt: skip


def gates_of(gate_blocks: str | None, liberty: Path | None, beside_rtl: bool) -> GateChoice | None:
    """What the options of `gate_options` choose; None if neither was given."""
    from nncosim.tb.backend import GateChoice

    if gate_blocks is None and liberty is None and not beside_rtl:
        return None
    return GateChoice(tuple(filter(None, (gate_blocks or "all").split(","))), liberty, beside_rtl)


def check_outputs(
    inputs: Mapping[str, Path | None], *, json_file: Path | None, out: Path | None = None, trace: Path | None = None,
    results: Sequence[str] | None = RESULTS, option: str = "--out",
) -> None:  # fmt: skip
    """Refuse outputs that would replace each other, or what is read, before the work is done.

    Args:
        inputs: files that are read, by what the command line calls them.
        results: names of the files that go to `out`; None: it is a file itself. option: that gives `out`.

    Raises:
        OutputError: names both.
    """
    json_file = None if json_file == _STDOUT else json_file
    places = {"--json": json_file, "--trace": trace, option: out}
    real = {name: _real(path) for name, path in places.items()
            if path is not None and (name == option or not is_stream(path))}  # devices and pipes take any number
    for one, other in itertools.permutations(real, 2):
        if real[one] == real[other]:
            raise OutputError(f"{one} {places[one]} and {other} {places[other]} are one place; give two names")
        if one != option and real[one] in real[other].parents:
            both = f"{one} {places[one]} is to be a file, and {other} {places[other]} lies in it"
            raise OutputError(f"{both}; give two names")
    if "--json" in real and trace is not None and is_companion(real["--json"], _real(trace.parent) / trace.name):
        raise OutputError(f"--json {json_file} has a name that --trace {trace} uses for its save file; give two names")
    whole = {name for name in real if name != option or results is None}
    written = {real[name]: f"{name} {places[name]}" for name in whole}
    for name in results or () if option in real else ():
        path = real[option] / name
        if path in written:
            raise OutputError(f"{written[path]}: {option} {out} writes a file of that name; give another")
        if path.is_dir():
            raise OutputError(f"{option} {out}: {path} is a folder, and a file of that name is to be written")
        if name != "image.elf":  # an image that runs is written as it was
            written[path] = f"{option} {out} writes {name}, which"
    for what, source in inputs.items():
        place = written.get(_real(source)) if source is not None else None
        if place is not None:
            raise OutputError(f"{place} would replace {what} {source}, which is read; give another name")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


# ---- completion by the shell: what is wrong on the line is told when it is run

def _complete(find: Callable[[click.Context], Iterable[str]], after: str = "") -> Callable[..., list[str]]:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name + after for name in find(context) if name.startswith(incomplete)]
        except (NncosimError, click.ClickException):
            return []

    return complete


def _chosen_platform(context: click.Context) -> Platform:
    return resolve_platform(context.params.get("platform_name"), ())[0]


def _bench_of(context: click.Context) -> AnyBench:
    from nncosim.tb.backend import get_bench

    return get_bench(_chosen_platform(context))


def _drivers(context: click.Context) -> list[str]:
    return sorted({driver for drivers in _bench_of(context).drivers.values() for driver in drivers})


def _layers(context: click.Context) -> list[str]:
    """Of the model on the line: its operators, as `--trace-layer` takes them."""
    from nncosim.tb.run.program import read_runnable, read_source

    words = [context.params.get("source"), *context.args]  # the latter where the line cannot be parsed yet
    source = next((Path(word) for word in words if word is not None and Path(word).is_file()), None)
    if source is None:
        return []
    return [op.name for op in read_runnable(source, read_source(source)).ops]


def _parameters(context: click.Context) -> list[str]:
    return [field.name for field in fields(_chosen_platform(context))]


complete_layers = _complete(_layers)
complete_parameters = _complete(_parameters, "=")
complete_fpga_blocks = _complete(lambda context: getattr(_bench_of(context), "fpga_blocks", ()))
complete_layout_blocks = _complete(lambda context: getattr(_bench_of(context), "layout_blocks", ()))
complete_timing_blocks = _complete(lambda context: getattr(_bench_of(context), "timing_blocks", ()))


model_argument = click.argument("model", metavar="MODEL.onnx", type=PATH)
json_option = click.option(
    "--json", "json_file", type=PATH, metavar="FILE", callback=_checked_json, help="Write the JSON report; - is stdout."
)
driver_option = click.option(
    "--driver", metavar="cocotb|direct", shell_complete=_complete(_drivers),
    help="How the RTL simulation is driven [default: cocotb].",
)


def out_option(required: bool = False) -> Callable[[Command], Command]:
    """--out DIR."""
    text = "Folder for the results; it appears complete or not at all."
    return click.option("--out", type=PATH, metavar="DIR", callback=_checked_out, help=text, required=required)


def backend_option(what: str, default: str) -> Callable:
    """--backend NAME. `what`: what it runs; `default`: what is chosen without it."""
    return click.option("--backend", metavar="rtl|iss|netlist", help=f"What runs the {what} [default: {default}].",
                        shell_complete=_complete(lambda context: _bench_of(context).backends))  # fmt: skip


def seed_option(what: str) -> Callable:
    """--seed N. `what`: what it makes."""
    seed = click.IntRange(min=0)
    return click.option("--seed", type=seed, default=0, show_default=True, metavar="N", help=f"Of {what}.")


def platform_option(command: Callable) -> Callable:
    """--platform NAME."""
    return click.option(
        "--platform",
        "platform_name",
        metavar="NAME",
        shell_complete=_complete(lambda context: platforms()),
        help=f"The machine [default: {DEFAULT_PLATFORM}]; see `nncosim platforms`.",
    )(command)


def platform_options(command: Callable) -> Callable:
    """As `machine_options`, and --compiler-option NAME=VALUE as `compiler_options`."""
    command = click.option(
        "-C", "--compiler-option", "compiler_options", multiple=True, metavar="NAME=VALUE",
        shell_complete=_complete(lambda context: [option.name for option in options_of(
            backend_for(_chosen_platform(context)))], "="),
        help="Tell the platform's compiler how; `nncosim platforms NAME` lists what it takes. May be repeated.",
    )(command)  # fmt: skip
    return machine_options(command)


def machine_options(command: Callable) -> Callable:
    """--platform NAME, and --set PARAMETER=VALUE as `settings`."""
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="PARAMETER=VALUE",
        shell_complete=complete_parameters,
        help="Change a parameter of the platform; may be repeated.",
    )(command)
    return platform_option(command)


def input_options(command: Callable) -> Callable:
    """--input-quant, --calibrate and --nearest, as `input_quant`, `calibrate` and `nearest`."""
    command = click.option(
        "--nearest", is_flag=True,
        help="Where the machine cannot round as the file says (TensorFlow Lite's kernels do so twice, a MultiThreshold "
        "has thresholds of its own), take what it has that is near; the report says how near.",
    )(command)  # fmt: skip
    command = click.option(
        "--calibrate", type=PATH, metavar="X.npz",
        help="Where the graph has a float input and says nothing of its integers: 8 bits, scaled by this file's data.",
    )(command)  # fmt: skip
    return click.option(
        "--input-quant", "input_quant", multiple=True, metavar="[NAME=]BITS[,signed|unsigned][,SCALE[,ZERO]]",
        help="The integers that a float graph input is, such as x=8,unsigned,0.0039; repeat it for more inputs.",
    )(command)  # fmt: skip


def read_forms(model: Path, texts: Sequence[str], calibrate: Path | None) -> dict[str, InputForm]:
    """What `input_options` say of the inputs of `model`.

    Raises:
        CompileError: texts of another form, or a model that cannot be read.
        InputError: no such data, or data that do not fit.
    """
    forms: dict[str, InputForm] = {}
    for text in texts:
        name, form = parse_form(text)
        if name in forms:
            raise click.UsageError(f"--input-quant is given twice for {name or 'the input'}; give it once")
        forms[name] = form
    if calibrate is None:
        return forms
    arrays = read_npz(calibrate)
    return calibrated(load_model(model), arrays, forms, str(calibrate))


def resolve_platform(name: str | None, settings: tuple[str, ...]) -> tuple[Platform, dict[str, Value]]:
    """The platform with the user's settings, and the settings.

    Raises:
        PlatformError: unknown platform or parameter, or values that contradict each other.
    """
    if name is None:
        known = platforms()
        name = DEFAULT_PLATFORM if DEFAULT_PLATFORM in known else next(iter(known), DEFAULT_PLATFORM)
    platform = get_platform(name)
    overrides = parse_overrides(platform, settings)
    return (platform.with_parameters(**overrides) if overrides else platform), overrides


def resolve_options(platform: Platform, texts: Sequence[str]) -> dict[str, str]:
    """What --compiler-option says.

    Raises:
        OptionError: as `nncosim.compiler.options.parse_options`.
    """
    return parse_options(platform.name, backend_for(platform), texts) if texts else {}


def output_console(json_file: Path | None = None) -> Terminal:
    """Where tables go: stdout, or stderr when stdout carries the JSON. Wide where it is no terminal."""
    console = Terminal(stderr=json_file == _STDOUT)
    if not console.is_terminal:
        console = Terminal(stderr=json_file == _STDOUT, width=200)
    return console


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A function that shows what is going on: a line with a spinner on stderr; a line a long phase if that is no
    terminal."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        told: set[str] = set()

        def tell(text: str) -> None:
            phase = phase_of(text)
            if phase and phase not in told:
                told.add(phase)
                click.echo(printable(f"nncosim: {phase}"), err=True)

        yield tell
        return
    with console.status("starting", spinner=console.spinner) as status:
        yield lambda text: status.update(Text(printable(text)))


def write_json(data: Mapping[str, object], path: Path | None) -> None:
    """Write the JSON report to `path`; "-" prints it, None does nothing."""
    if path is None:
        return
    text = json.dumps(data, indent=2) + "\n"
    if path == _STDOUT:
        click.echo(text, nl=False)
    else:
        write_file(path, text.encode())
