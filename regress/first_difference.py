# SPDX-License-Identifier: Apache-2.0
"""Where the RTL of a platform parts from its simulator first, on small networks that together use all of it: as
`nncosim debug` finds it, with one build for all of them, and no waveform. Each platform has a command of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from nncosim.compiler.compile import Compiled
from nncosim.platforms.base import Platform
from nncosim.platforms.plain import Json
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import json_option, platform_option, resolve_platform, write_json
from nncosim.tb.debug.story import Story, lay_beside
from nncosim.tb.lockstep import Difference
from nncosim.tb.run.flow import Outcome, RunOptions, check_observable, run_program
from nncosim.tb.run.program import packed

__all__ = ["Found", "Networks", "beside", "of_networks", "run_command"]

Networks = Iterator[tuple[str, Compiled, Sequence[Mapping[str, np.ndarray]]]]
"""Name, what is compiled, and its inputs."""


def beside(name: str, made: Compiled, inputs: Sequence[Mapping[str, np.ndarray]]) -> tuple[Outcome, list[Difference]]:
    """A run on the RTL, and where it parts from the simulator.

    Raises:
        NncosimError: as `nncosim.tb.run.flow.run_program`.
    """
    program = packed(made, Path(name), "")
    options = RunOptions("rtl", "direct", frames=tuple(inputs), observe=True)
    outcome = run_program(program, made.platform, {}, options)
    return outcome, lay_beside(outcome, program, made.platform, options, lambda text: None)[0]


class Found(NamedTuple):
    """Where the RTL parts from what it is laid beside. network: what it did then; module: that describes the block."""

    network: str
    first: Difference
    module: str
    lines: Sequence[str]

    def to_json(self) -> dict[str, Json]:
        first = self.first
        told: Json = {"cycle": first.cycle, "block": first.block, "module": self.module, "channel": first.channel}
        return {"network": self.network, "story": list(self.lines), "first": told}


def of_networks(platform: Platform, networks: Networks) -> Found | None:
    """The first network of which RTL and simulator differ; None without one.

    Raises:
        NncosimError: as `nncosim.tb.run.flow.run_program`.
    """
    bench = check_observable(get_bench(platform), platform, "rtl")
    for name, made, inputs in networks:
        outcome, found = beside(name, made, inputs)
        if found:
            module = bench.module_of(platform, found[0].block)
            return Found(name, found[0], module, Story(outcome, found, module=module).lines())
    return None


def run_command(first: Callable[[Platform], Found | None], name: str) -> None:
    """The command of a platform, and the end of the process: 0 nowhere, 1 somewhere, 2 bad input."""

    @click.command(name)
    @platform_option
    @click.option("--set", "settings", multiple=True, metavar="PARAMETER=VALUE",
                  help="Of the platform; may be repeated.")
    @json_option
    def command(platform_name: str | None, settings: tuple[str, ...], json_file: Path | None) -> int:
        """Where RTL and simulator part first. Exit status: 0 nowhere, 1 somewhere, 2 bad input."""
        platform, _ = resolve_platform(platform_name, settings)
        found = first(platform)
        for line in found.lines if found else ():
            click.echo(line)
        write_json({"first": None} if found is None else found.to_json(), json_file)
        return 0 if found is None else 1

    sys.exit(invoke(command=command, name=name))
