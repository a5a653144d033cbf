# SPDX-License-Identifier: Apache-2.0
"""The `nncosim` command.

Exit status: 0 all bits and cycles hold; 1 a mismatch, a hang, or cycles other than those predicted; 2 bad input or an
unsupported model, or output that cannot be written, with one message on stderr; 3 a defect of nncosim itself, with its
traceback; 130 interrupted, 143 ended by SIGTERM: tools that run are ended too, and nothing is left. Where the reader of
a pipe left early: 1, without a word, as is usual with click.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click
from nncosim.platforms.errors import NncosimError
from nncosim.tb.system.processes import ending_on_signals
from nncosim.tb.system.terminal import allow_any_encoding, printable

__all__ = ["EXIT_BAD_INPUT", "EXIT_DEFECT", "EXIT_FAILED", "EXIT_OK", "cli", "invoke", "main"]

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_DEFECT, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

# Each subcommand's module is imported when it is called: ONNX and the solvers take seconds to load.
COMMANDS = {
    "run": ("nncosim.tb.cli.run", "Compile a model, run it on a platform, check every bit and every cycle."),
    "debug": ("nncosim.tb.cli.debug", "From a failing run to the first cycle that is wrong, and a waveform of it."),
    "replay": ("nncosim.tb.cli.replay", "Run a debug bundle again: does it still fail, as then?"),
    "compile": ("nncosim.tb.cli.compile", "Compile a model: image, listing, memory map, cycles."),
    "check": ("nncosim.tb.cli.compile", "Is a model supported, does it fit, and if not, what to change?"),
    "quantize": ("nncosim.tb.cli.quantize", "From a trained float network to QONNX, with calibration data."),
    "evaluate": ("nncosim.tb.cli.evaluate", "Accuracy on labelled data, or comparison with other evaluators."),
    "inject": ("nncosim.tb.cli.inject", "Fault injection: bits of memories and registers flip; what comes of it?"),
    "report": ("nncosim.tb.cli.report", "Pictures of a run: one HTML page, and a timeline for Perfetto."),
    "sweep": ("nncosim.tb.cli.sweep", "Run models on a grid of machines in parallel; the Pareto front."),
    "mutate": ("nncosim.tb.cli.mutate", "Plant design bugs in the hardware: which do the tests let through?"),
    "timing": ("nncosim.tb.cli.timing", "How fast a machine's blocks are, mapped to a cell library; their area."),
    "fpga": ("nncosim.tb.cli.fpga", "A block of a machine on an FPGA: placed, routed, timed, and simulated as routed."),
    "layout": ("nncosim.tb.cli.layout", "Place and route a machine's units, and time them with their wires."),
    "power": ("nncosim.tb.cli.power", "Energy of an inference on a machine's gates: per MAC, layer and block."),
    "platforms": ("nncosim.tb.cli.platforms", "List the machines, or describe one with its published figures."),
    "cache": ("nncosim.tb.cli.cache", "Where built simulations are kept, how much that is; --clear empties it."),
    "doctor": ("nncosim.tb.cli.doctor", "Which tools were found, and which versions."),
}


class _Lazy(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and args[0][:1].isalnum():
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"No such command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="nncosim", prog_name="nncosim")
def cli() -> None:
    """Run quantised neural networks on accelerator RTL, and check every bit and every cycle."""


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr itself may be what cannot be written; the status still tells
        click.echo(printable(f"nncosim: error: {message}"), err=True)


def _is_of_the_output(error: OSError) -> bool:
    """Whether stdout or stderr failed: click and rich write nothing else, files have errors of their own."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] in ("click", "rich")


def _drop_output() -> None:
    """Let what is still in the buffers go nowhere: Python would try to write it once more at its end."""
    with open(os.devnull, "wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere.fileno(), stream.fileno())


def _defect() -> int:
    with contextlib.suppress(OSError):
        click.echo(printable(traceback.format_exc()), err=True, nl=False)
    _complain("this is a defect of nncosim, not of your input; please report it with the lines above")
    return EXIT_DEFECT


def invoke(
    arguments: Sequence[str] | None = None, command: click.Command = cli, name: str = "nncosim"
) -> int:  # fmt: skip
    """Run the command line and return its exit status; never raises.

    Args:
        arguments: [those of this process]
        command, name: another command that is to end as `nncosim` does, and what it is called with.
    """
    allow_any_encoding()
    try:
        # Subcommands return their exit status; None from those that only print.
        with ending_on_signals():
            status = command.main(args=arguments, prog_name=name, standalone_mode=False)
        return status if isinstance(status, int) else EXIT_OK
    except NncosimError as error:
        _complain(str(error))
        return EXIT_BAD_INPUT
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else name
        _complain(f"{error.format_message()} (see {where} --help)")
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        _complain(error.format_message())
        return EXIT_BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        click.echo("nncosim: interrupted", err=True)
        return EXIT_INTERRUPTED
    except SystemExit as end:  # by a signal; of click and rich, where the reader of a pipe left
        _drop_output()
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except OSError as error:
        if not _is_of_the_output(error):
            return _defect()
        _drop_output()
        _complain(f"cannot write the output: {error.strerror or error}")
        return EXIT_BAD_INPUT
    except Exception:
        return _defect()


def main() -> None:
    """Entry point of the `nncosim` script."""
    raise SystemExit(invoke())

