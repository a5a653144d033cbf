# SPDX-License-Identifier: Apache-2.0
"""Where the RTL of a platform parts from its simulator first, on small networks that together use all of it: as
`nncosim debug` finds it, with one build for all of them, and no waveform.

    python -m nncosim.regress.first_difference --platform j3dai --set clusters=1 --json found.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import J3dai
from nncosim.platforms.plain import Json
from nncosim.regress.cases import CASES, conv, random_inputs
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.regress.entry_sessions import entry_difference
from nncosim.regress.harness import compile_case, compile_digits, digits_images
from nncosim.regress.host_programs import host_programs
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import json_option, platform_option, resolve_platform, write_json
from nncosim.tb.debug.story import Story, lay_beside
from nncosim.tb.lockstep import Difference
from nncosim.tb.run.flow import Outcome, RunOptions, check_observable, run_program
from nncosim.tb.run.program import packed

__all__ = ["beside", "first_difference", "main"]

FIRST = (
    "conv3x3_24ch_odd", "whole_conv_odd", "extreme", "dw5x5_s2", "packed3x3_s2", "conv_padvalue", "add_half_even",
    "maxpool3_s2_pad", "avgpool3_pad", "table_random", "requantize_uint8", "concat_shifted", "resize_3x5", "chain",
    "conv_wide", "whole_packed",
)  # fmt: skip
"""Of the small cases, after the digits: what differs on any network mostly does on these."""
LARGE = {"conv_fills_l1": conv(0, 1024, 4, 30, 8, 1), "conv_fills_wmem": conv(0, 10_000, 1, 1, 16, 1)}
"""Reach the upper half of an L1 or a WMEM of 16,384 words."""


_Network = tuple[str, Compiled, Sequence[Mapping[str, np.ndarray]]]
_Networks = Iterator[_Network]


def _first_cases(platform: Platform) -> _Networks:
    digits = compile_digits(platform)
    yield "digits", digits, digits_images(digits, 0)
    for name in FIRST:
        yield _of_case(name, platform)


def _other_cases(platform: Platform) -> _Networks:
    for name, network in LARGE.items():
        yield name, compile_network(network, platform), [random_inputs(network, 0)]
    for each in CASES:
        if "small" in each.tags and each.name not in FIRST:
            yield _of_case(each.name, platform)


def _of_case(name: str, platform: Platform) -> _Network:
    case = compile_case(name, 0, platform)
    return name, case, [random_inputs(case.network, seed) for seed in (0, 1)]


def _of_hosts(platform: J3dai) -> _Networks:
    """A layer with other programs of the host than compiled ones."""
    case = compile_case(FIRST[0], 0, platform)
    for name, image in host_programs(case, platform):
        yield f"{FIRST[0]}, {name}", replace(case, image=image), [random_inputs(case.network, 0)]


def _of_dense_layers(platform: AieMl) -> _Networks:
    for spec in (DenseSpec((16, 64, 32)), DenseSpec((40, 24, 10), batch=16, unsigned=True), DenseSpec((256, 128, 64))):
        made = compiled(spec, platform)
        yield spec.name, made, frames_of(spec, made.network, 2)


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


def first_difference(platform: Platform) -> Found | None:
    """The first network of which the two differ, or packets at the entry port that it does not take as its model does;
    None without one.

    Raises:
        NncosimError: as `nncosim.tb.run.flow.run_program`.
    """
    if isinstance(platform, AieMl):
        return _of_networks(platform, _of_dense_layers(platform))
    found = _of_networks(platform, _first_cases(platform))
    if found is None and isinstance(platform, J3dai):
        found = _of_networks(platform, _of_hosts(platform)) or _of_packets(platform)
    return found or _of_networks(platform, _other_cases(platform))


def _of_packets(platform: J3dai) -> Found | None:
    found = entry_difference(platform)
    if found is None:
        return None
    name, first = found
    module = check_observable(get_bench(platform), platform, "rtl").module_of(platform, first.block)
    head = f"packets, {name}: first difference: cycle {first.cycle:,}: {first.block}, described by {module}"
    return Found(f"packets, {name}", first, module, [head, *(f"  {line}" for line in first.lines())])


def _of_networks(platform: Platform, networks: _Networks) -> Found | None:
    bench = check_observable(get_bench(platform), platform, "rtl")
    for name, made, inputs in networks:
        outcome, found = beside(name, made, inputs)
        if found:
            module = bench.module_of(platform, found[0].block)
            return Found(name, found[0], module, Story(outcome, found, module=module).lines())
    return None


@click.command("first_difference")
@platform_option
@click.option("--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="Of the platform; may be repeated.")
@json_option
def _command(platform_name: str | None, settings: tuple[str, ...], json_file: Path | None) -> int:
    """Where RTL and simulator part first. Exit status: 0 nowhere, 1 somewhere, 2 bad input."""
    platform, _ = resolve_platform(platform_name, settings)
    found = first_difference(platform)
    for line in found.lines if found else ():
        click.echo(line)
    write_json({"first": None} if found is None else found.to_json(), json_file)
    return 0 if found is None else 1


def main() -> None:
    """The command."""
    sys.exit(invoke(command=_command, name="first_difference"))


if __name__ == "__main__":
    main()
