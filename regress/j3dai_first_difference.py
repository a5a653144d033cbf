# SPDX-License-Identifier: Apache-2.0
"""Where the RTL of J3DAI parts first from its simulator, and its entry port from the port's model: on the digits and
small networks, with other programs of the host, and with packets.

    python -m nncosim.regress.j3dai_first_difference --platform j3dai --set clusters=1 --json found.json
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nncosim.compiler.compile import compile_network
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.cases import CASES, conv, random_inputs
from nncosim.regress.entry_sessions import entry_difference
from nncosim.regress.first_difference import Found, Networks, of_networks, run_command
from nncosim.regress.harness import compile_case, compile_digits, digits_images
from nncosim.regress.host_programs import host_programs
from nncosim.tb.backend import get_bench
from nncosim.tb.errors import BenchError
from nncosim.tb.run.flow import check_observable

__all__ = ["FIRST", "first_difference", "main"]

FIRST = (
    "conv3x3_24ch_odd", "whole_conv_odd", "extreme", "dw5x5_s2", "packed3x3_s2", "conv_padvalue", "add_half_even",
    "maxpool3_s2_pad", "avgpool3_pad", "table_random", "requantize_uint8", "concat_shifted", "resize_3x5", "chain",
    "conv_wide", "whole_packed",
)  # fmt: skip
"""Of the small cases, after the digits: what differs on any network mostly does on these."""
LARGE = {"conv_fills_l1": (1024, 4, 30, 8, 1), "conv_fills_wmem": (10_000, 1, 1, 16, 1)}
"""Reach the upper half of an L1 or a WMEM of 16,384 words."""


def _first_cases(platform: J3dai) -> Networks:
    digits = compile_digits(platform)
    yield "digits", digits, digits_images(digits, 0)
    yield from _of_cases(FIRST, platform)


def _other_cases(platform: J3dai) -> Networks:
    for name, shape in LARGE.items():
        network = conv(0, *shape)
        yield name, compile_network(network, platform), [random_inputs(network, 0)]
    yield from _of_cases([each.name for each in CASES if "small" in each.tags and each.name not in FIRST], platform)


def _of_cases(names: Iterable[str], platform: J3dai) -> Networks:
    for name in names:
        case = compile_case(name, 0, platform)
        yield name, case, [random_inputs(case.network, seed) for seed in (0, 1)]


def _of_hosts(platform: J3dai) -> Networks:
    """A layer with other programs of the host than compiled ones."""
    case = compile_case(FIRST[0], 0, platform)
    for name, image in host_programs(case, platform):
        yield f"{FIRST[0]}, {name}", replace(case, image=image), [random_inputs(case.network, 0)]


def first_difference(platform: Platform) -> Found | None:
    """The first network of which the two differ, or packets at the entry port that it does not take as its model does;
    None without one.

    Raises:
        NncosimError: as `nncosim.tb.run.flow.run_program`; BenchError also of another platform.
    """
    if not isinstance(platform, J3dai):
        raise BenchError(f"these are networks of j3dai, not of {platform.name}")
    return (of_networks(platform, _first_cases(platform)) or of_networks(platform, _of_hosts(platform))
            or _of_packets(platform) or of_networks(platform, _other_cases(platform)))  # fmt: skip


def _of_packets(platform: J3dai) -> Found | None:
    found = entry_difference(platform)
    if found is None:
        return None
    name, first = found
    module = check_observable(get_bench(platform), platform, "rtl").module_of(platform, first.block)
    head = f"packets, {name}: first difference: cycle {first.cycle:,}: {first.block}, described by {module}"
    return Found(f"packets, {name}", first, module, [head, *(f"  {line}" for line in first.lines())])


def main() -> None:
    """The command."""
    run_command(first_difference, "j3dai_first_difference")


if __name__ == "__main__":
    main()
