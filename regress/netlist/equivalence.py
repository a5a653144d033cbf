# SPDX-License-Identifier: Apache-2.0
"""Whether a platform's netlist does what its RTL does, proved block by block.

    python -m nncosim.regress.netlist.equivalence --platform j3dai --block dmpa --json found.json

Blocks are those that can be gates in a simulation, each with all modules in it, and units of them as designs of their
own. The first time they are mapped, which takes minutes for the whole chip.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import J3dai
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import json_option, platform_option, resolve_platform, write_json
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.build import soc_design
from nncosim.tb.j3dai.netlist import BLOCKS, CORE_BLOCK, block_parts
from nncosim.tb.j3dai.units import UNITS, unit_part
from nncosim.tb.netlist.equivalence import DIFFERS, EQUAL, SECONDS, VECTORS, Equivalence, part_equivalence
from nncosim.tb.timing.sta import OSU018

__all__ = ["block_equivalence", "main", "row"]

HEAD = f"{'module':24} {'cells':>6} {'FFs':>5} {'points':>11} {'s':>6}  verdict"
_SHOWN = 5
COMPARED = tuple(block for block in BLOCKS if block != CORE_BLOCK)
"""Not the host's core: its flip-flops have resets that do not wait for the clock, which nothing here compares."""
COMPARED = tuple(block for block in BLOCKS if block != CORE_BLOCK)
"""Not the host's core: its flip-flops are reset at once, and the RTL's are read with the clock's resets only."""


def block_equivalence(platform: Platform, block: str, liberty: Path = OSU018, seconds: int = SECONDS
                      ) -> dict[str, Equivalence]:
    """The modules of a block, or a unit, against the RTL. Of what is both, the modules as they are in the chip.

    Raises:
        BenchError: there is none of that name, or the platform has no netlist.
        ToolCrash, ToolError: as `nncosim.tb.netlist.equivalence.part_equivalence`.
    """
    if not isinstance(platform, J3dai):
        raise BenchError(f"platform {platform.name} has no netlist; j3dai has one")
    if block not in COMPARED:
        if block in UNITS:
            return part_equivalence(unit_part(platform, block), liberty, (), seconds)
        known = ", ".join(dict.fromkeys((*COMPARED, *UNITS)))
        raise BenchError(f"J3DAI has no block {block!r} to compare; it has {known}")
    sources = {name: str(text) for name, text in soc_design(platform).sources.items()}
    found: dict[str, Equivalence] = {}
    for part in block_parts(sources, (block,)):
        found |= part_equivalence(part, liberty, BLOCKS[block] if block != "soc" else (), seconds)
    return found


def row(found: Equivalence) -> str:
    """A line of the table."""
    points = f"{found.proved}/{found.points}"
    return (f"{found.module:24} {found.cells:6} {found.flip_flops:5} {points:>11} {found.seconds:6.1f}  "
            f"{found.verdict}")


def _details(found: Equivalence) -> Iterator[str]:
    """What a reader has to know besides."""
    if found.how:
        yield "proved by " + ", ".join(f"{way} {count}" for way, count in sorted(found.how.items()))
    if found.claims or found.unread:
        removed = [f"{kind} {count}" for kind, count in sorted(found.claims.items())]
        yield "registers: " + ", ".join([*removed, *([f"unread {found.unread}"] if found.unread else [])])
    for what, names in (("not in the netlist", found.missing), ("not in the RTL", found.unexplained),
                        ("removed, but reset does not make it so", found.unsettled), ("not proved", found.unproved)):
        if names:
            yield f"{what}: {_some(names)}"
    for difference in found.differences[:_SHOWN]:
        values = ", ".join(f"{name}={value}" for name, value in list(difference.assignment.items())[:12])
        yield f"differs: {difference.name} with {values}{', ...' * (len(difference.assignment) > 12)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _status(found: Mapping[str, Equivalence]) -> int:
    return 0 if all(each.verdict in (EQUAL, VECTORS) for each in found.values()) else 1


@click.command("equivalence")
@platform_option
@click.option("--set", "settings", multiple=True, metavar="PARAMETER=VALUE", help="Of the platform; may be repeated.")
@click.option("--block", "blocks", multiple=True, metavar="B", help="Only this; may be repeated [default: the chip].")
@click.option("--liberty", type=click.Path(path_type=Path), default=OSU018, help="The cells.")
@click.option("--seconds", type=click.IntRange(1), default=SECONDS, show_default=True,
              help="CPU time of a call of ABC, of which a module may take three.")
@json_option
def _command(platform_name: str | None, settings: tuple[str, ...], blocks: tuple[str, ...], liberty: Path, seconds: int,
             json_file: Path | None) -> int:
    """Netlist against RTL. Exit status: 0 equal, 1 not equal or not proved, 2 bad input."""
    platform, _ = resolve_platform(platform_name, settings)
    found: dict[str, Equivalence] = {}
    for block in blocks or ("soc", "cluster", "ncb"):
        for name, each in block_equivalence(platform, block, liberty, seconds).items():
            if not found:  # nothing was refused
                click.echo(HEAD)
            found[name] = each
            click.echo(row(each))
            for line in _details(each):
                click.echo(f"    {line}")
    differ = sum(each.verdict == DIFFERS for each in found.values())
    proved = sum(each.verdict in (EQUAL, VECTORS) for each in found.values())
    partly = sum(each.verdict == VECTORS for each in found.values())
    click.echo(f"{len(found)} modules: {proved} equal ({partly} with products by vectors), {differ} differ, "
               f"{len(found) - proved - differ} not proved")
    write_json({"modules": [asdict(each) for each in found.values()]}, json_file)
    return _status(found)


def main() -> None:
    """The command."""
    sys.exit(invoke(command=_command, name="equivalence"))


if __name__ == "__main__":
    main()
