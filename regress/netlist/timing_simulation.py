# SPDX-License-Identifier: Apache-2.0
"""Units of J3DAI as gates with delays, given what the digits give them: right at the period that static timing calls
safe, and wrong at 0.7 of it.

    python -m nncosim.regress.netlist.timing_simulation --block counters

Vectors are those of a unit in a run of the whole machine, from reset on; then, on a line of its own, with random inputs
for some edges behind them, whose outputs are the RTL's.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from nncosim.regress.netlist.recordings import ONE, recorded
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import json_option, write_json
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.units import UNITS, unit_part
from nncosim.tb.layout.flow import place_and_route
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.netlist.mapping import mapped_file
from nncosim.tb.netlist.recorded import Vectors
from nncosim.tb.netlist.replay import random_vectors
from nncosim.tb.netlist.timed import TimedNetlist, with_delays
from nncosim.tb.netlist.timing_simulation import FAST, Outcome, Simulated, simulate
from nncosim.tb.timing.library import read_library
from nncosim.tb.timing.netlist import Netlist
from nncosim.tb.timing.sta import OSU018

__all__ = ["main", "row", "timed_unit", "with_random"]

HEAD = (f"{'unit':18} {'edges':>6} {'cells':>6} {'FFs':>5} {'arcs':>6} {'wires':>6} {'static':>7} {'lowest':>7}  "
        f"wrong bits: at static, at {FAST} of it, there unchecked")


def timed_unit(unit: str, liberty: Path = OSU018, routed: bool = False) -> TimedNetlist:
    """A unit's netlist and its delays: as Yosys mapped it, without wires, or placed and routed.

    Raises:
        BenchError: there is no such unit; or as `nncosim.tb.netlist.timed.with_delays` and
            `nncosim.tb.layout.flow.place_and_route`.
    """
    if unit not in UNITS:
        raise BenchError(f"J3DAI has no unit {unit!r}; it has {', '.join(UNITS)}")
    part = unit_part(ONE, unit)
    with tempfile.TemporaryDirectory(prefix="nncosim-") as folder:
        if routed:
            layout = place_and_route(part, liberty)
            return with_delays(Path(folder), layout.netlist, liberty, spef=layout.spef)
        netlist = Netlist.read(mapped_file(part, liberty), unit, read_library(liberty))
        return with_delays(Path(folder), netlist, liberty)


def with_random(unit: str, vectors: Vectors, edges: int, seed: int, registers: Iterable[str] = ()) -> Vectors:
    """A unit's vectors, and then so many edges with random inputs; registers: bits that take values there."""
    sources = [str(text) for text in unit_part(ONE, unit).sources.values()]
    return random_vectors(sources, unit, vectors, edges, seed, registers)


def row(unit: str, timed: TimedNetlist, found: Simulated) -> str:
    """A line of the table."""
    low = f"{found.lowest:7.3f}" if found.lowest else "      -"
    return (f"{unit:18} {found.vectors:6} {len(timed.netlist.cells):6} {found.checks:5} {found.arcs:6} "
            f"{found.wires:6} {found.static:7.3f} {low}  {_wrong(found.safe)}, {_wrong(found.fast)}, "
            f"{_wrong(found.unchecked)}")


def _wrong(found: Outcome) -> str:
    return f"{found.wrong} ({found.unknown} x) + {found.registers} in registers" if not found.passes else "0"


def _details(found: Simulated) -> Iterator[str]:
    yield f"static: {found.worst}"
    if found.lowest:
        yield (f"lowest: {found.lowest / found.static:.1%} of static: so near the vectors come to that path; wrong at "
               f"{FAST} of it from edge {found.fast.edge} on")


def _vectors(unit: str, own: Vectors, edges: int, seed: int, registers: Iterable[str]) -> Iterator[tuple[str, Vectors]]:
    """What is simulated, with what the table calls it."""
    yield unit, own
    if edges:
        yield "  and random", with_random(unit, own, edges, seed)
        if registers:
            yield "  and loads", with_random(unit, own, edges, seed, registers)


@click.command("timing_simulation")
@click.option("--block", "units", multiple=True, default=("counters",), show_default=True, metavar="B",
              help="A unit; may be repeated.")
@click.option("--routed", is_flag=True, help="Placed and routed, with the delays of the wires.")
@click.option("--edges", "first", type=click.IntRange(1), help="Only so many of those recorded [default: all].")
@click.option("--random", "edges", type=click.IntRange(0), default=2000, show_default=True,
              help="Edges with random inputs, behind those recorded.")
@click.option("--load", is_flag=True, help="A third time: there registers are loaded, with what lets carries go far.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@click.option("--liberty", type=click.Path(path_type=Path), default=OSU018, help="The cells.")
@json_option
def _command(units: tuple[str, ...], routed: bool, first: int | None, edges: int, load: bool, seed: int,
             liberty: Path, json_file: Path | None) -> int:
    """Gates with delays. Exit status: 0 right where static timing says so and wrong below, 1 not, 2 bad input."""
    click.echo(HEAD)
    done: list[dict[str, object]] = []
    holds = True
    for unit in units:
        timed = timed_unit(unit, liberty, routed)
        own = recorded(unit).first(first or sys.maxsize)
        for name, vectors in _vectors(unit, own, edges, seed, timed.netlist.registers.values() if load else ()):
            found = simulate(timed, vectors, cell_models(liberty))
            click.echo(row(name, timed, found))
            for line in _details(found):
                click.echo(f"    {line}")
            done.append({"unit": unit, "routed": routed, "vectors from": vectors.name, **asdict(found)})
            holds = holds and found.holds
    write_json({"simulations": done}, json_file)
    return 0 if holds else 1


def main() -> None:
    """The command."""
    sys.exit(invoke(command=_command, name="timing_simulation"))


if __name__ == "__main__":
    main()
