# SPDX-License-Identifier: Apache-2.0
"""What a campaign found: how many mistakes the tests let through, by block and by kind, and which."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from nncosim.platforms.plain import Json
from nncosim.tb.mutation.campaign import Judged, Reviewed, judged_json
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.mutation.verdict import EQUIVALENT, KILLED, STILLBORN, SURVIVED, TIMEOUT, UNCHANGED, UNDECIDED
from nncosim.tb.system.terminal import plain_table
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["campaign_json", "figures", "print_campaign", "print_mutants", "stale"]

NOT_COUNTED = (EQUIVALENT, STILLBORN, UNCHANGED, UNDECIDED)


def figures(judged: Sequence[Judged]) -> dict[str, int]:
    """How many: `counted` are those that a test can notice, `own` those killed by one of the block's own benches (in
    time or out of time), `later` by another test; `named` with the block's name in what failed; of `debugged`,
    `seen` are those with a first difference, `blamed` those where it is in that block; and of each verdict."""
    verdicts = [one.verdict for one in judged]
    out = {name: sum(each.verdict == name for each in verdicts)
           for name in (KILLED, TIMEOUT, SURVIVED, *NOT_COUNTED)}  # fmt: skip
    noticed = [each for each in verdicts if each.verdict in (KILLED, TIMEOUT)]
    own = sum(each.own for each in noticed)
    named = sum(each.names_block for each in noticed)
    asked = [each for each in noticed if each.blamed is not None]
    return {"planted": len(judged), "counted": len(noticed) + out[SURVIVED], "own": own,
            "later": len(noticed) - own, "named": named,
            "debugged": len(asked), "seen": sum(bool(each.blamed_module) for each in asked),
            "blamed": sum(each.blames_block for each in asked), **out}  # fmt: skip


def _grouped(judged: Sequence[Judged], name: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(name(one), []).append(one)
    return dict(sorted(groups.items()))


def campaign_json(
    judged: Sequence[Judged], left_over: Sequence[Reviewed], facts: Mapping[str, Json]
) -> dict[str, Json]:
    """All of it. `facts`: how it was made. `left_over`: see `stale`."""
    return {
        **facts, **figures(judged),
        "blocks": {name: figures(some) for name, some in _grouped(judged, lambda one: one.mutant.block).items()},
        "kinds": {name: figures(some) for name, some in _grouped(judged, lambda one: one.mutant.kind).items()},
        "stale": [dict(vars(entry)) for entry in left_over],
        "mutants": [judged_json(one) for one in judged],
    }  # fmt: skip


def stale(reviewed: Sequence[Reviewed], mutants: Sequence[Mutant]) -> list[Reviewed]:
    """Entries of mutants that are none any more; those of files without mutants here are another platform's."""
    files = {mutant.file for mutant in mutants}
    known = {(mutant.file, mutant.before, mutant.after) for mutant in mutants}
    return [each for each in reviewed
            if each.file in files and (each.file, each.before, each.after) not in known]  # fmt: skip


_COLUMNS = ("planted", "own", "later", "timeout", "survived", "equivalent", "unchanged", "stillborn", "undecided")


def _table(title: str, groups: Mapping[str, Sequence[Judged]], everything: Sequence[Judged]) -> Table:
    table = plain_table(title)
    table.add_column(title.partition(" ")[2])
    for column in (*_COLUMNS, "noticed", "median s"):
        table.add_column(column, justify="right")
    for name, some in (*groups.items(), ("all", everything)):
        found = figures(some)
        share = f"{(found['own'] + found['later']) / found['counted']:.0%}" if found["counted"] else "-"
        seconds = statistics.median(one.verdict.seconds for one in some) if some else 0
        table.add_row(escape(name), *(str(found[column] or "-") for column in _COLUMNS), share, f"{seconds:.0f}",
                      style="bold" if name == "all" else "")
    return table


def print_campaign(console: Console, judged: Sequence[Judged], left_over: Sequence[Reviewed]) -> None:
    """The tables, and each mutant that nothing noticed."""
    console.print(_table("by block", _grouped(judged, lambda one: one.mutant.block), judged), "")
    console.print(_table("by kind", _grouped(judged, lambda one: one.mutant.kind), judged), "")
    console.print("own: noticed by the block's own bench; later: by another test or the run; timeout: among these, out "
                  "of time; not counted: equivalent, unchanged RTL, stillborn, undecided")  # fmt: skip
    for one in judged:
        if one.verdict.verdict in (SURVIVED, UNDECIDED):
            print_mutants(console, [one.mutant], one.verdict.verdict)
    for entry in left_over:
        console.print(f"stale: no mutant of {escape(entry.file)} reads so any more: {escape(entry.before)} -> "
                      f"{escape(entry.after)}", soft_wrap=True)
    found = figures(judged)
    noticed = found["own"] + found["later"]
    console.print("")
    console.print(f"{noticed} of {found['counted']} noticed, {found['own']} by the block's own bench, "
                  f"{found['named']} with the block's name in what failed")
    if found["debugged"]:
        console.print(f"of {found['debugged']} that were debugged, {found['seen']} differ from the simulator in the "
                      f"network that runs, {found['blamed']} first in that block")


def print_mutants(console: Console, mutants: Sequence[Mutant], what: str = "") -> None:
    """A place and both lines each."""
    for mutant in mutants:
        lead = f"{what} " if what else ""
        console.print(escape(f"{lead}{mutant.place} ({mutant.block}, {mutant.kind})\n  - {mutant.before}\n"
                             f"  + {mutant.after}"), soft_wrap=True)  # fmt: skip
