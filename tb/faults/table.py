# SPDX-License-Identifier: Apache-2.0
"""A campaign for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nncosim.tb.faults.campaign import Campaign
from nncosim.tb.faults.outcomes import (
    CONFIDENCE,
    FAILURES,
    BlockCounts,
    Injection,
    Outcome,
    weighted_avf,
    weighted_interval,
    wilson,
)
from nncosim.tb.system.terminal import plain_table
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["campaign_json", "campaign_table", "places_json", "places_table"]

HEADINGS = {Outcome.TIMING: "other cycles", Outcome.SDC: "SDC"}


def campaign_table(campaign: Campaign, injections: Sequence[Injection]) -> RenderableType:
    """A row a block; of few flips also what came of each."""
    rows = campaign.rows(injections)
    table = plain_table(f"{len(injections):,} single bit flips in {campaign.cycles:,} cycles")
    table.add_column("block")
    for name in ("bits", "flips", *(HEADINGS.get(each, each.value) for each in Outcome), "wrong counters"):
        table.add_column(name, justify="right")
    table.add_column(f"AVF [{CONFIDENCE:.0%}]")
    table.add_column("SDC rate")
    for row in rows:
        table.add_row(row.block, f"{row.bits:,}", f"{row.flips:,}", *(_count(row.counts[each]) for each in Outcome),
                      _count(row.counters), _rate(row.failures, row.flips), _rate(row.counts[Outcome.SDC], row.flips))
    parts: list[RenderableType] = [table]
    if len(rows) > 1:
        low, high = weighted_interval(rows)
        parts.append(Text("AVF of a bit chosen evenly among all bits of these blocks: "
                          f"{weighted_avf(rows):.2%} [{low:.2%}, {high:.2%}]"))
    if len(injections) <= 3:
        parts += [Text(_told(each)) for each in injections]
    return Group(*parts)


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _rate(hits: int, count: int) -> str:
    low, high = wilson(hits, count)
    return f"{hits / count:5.1%} [{low:.1%}, {high:.1%}]"


def _told(injection: Injection) -> str:
    text = injection.text.replace("\n", "\n  ")
    counters = "; counters are other than without it" if injection.counters else ""
    return f"{injection.flip}: {injection.outcome.value}{counters}" + (f"\n  {text}" if text else "")


def campaign_json(
    campaign: Campaign, injections: Sequence[Injection], about: Mapping[str, object]
) -> dict[str, object]:
    """`about`: what was run. Rates are shares of a block's flips, with their intervals."""
    rows = campaign.rows(injections)
    return {
        **about,
        "image": campaign.image,
        "simulation": campaign.target.built.key,
        "seed": campaign.seed,
        "cycles": campaign.cycles,
        "limit_cycles": campaign.limit,
        "confidence": CONFIDENCE,
        "failures": [each.value for each in FAILURES],
        "blocks": [_row_json(row) for row in rows],
        "avf_by_bits": weighted_avf(rows),
        "avf_by_bits_interval": weighted_interval(rows),
        "injections": [asdict(each) for each in injections],
    }


def _row_json(row: BlockCounts) -> dict[str, object]:
    sdc = row.counts[Outcome.SDC]
    return {
        "block": row.block, "places": row.places, "bits": row.bits, "flips": row.flips,
        "counts": {each.value: row.counts[each] for each in Outcome}, "wrong_counters": row.counters,
        "avf": row.avf, "avf_interval": wilson(row.failures, row.flips),
        "sdc_rate": sdc / row.flips, "sdc_interval": wilson(sdc, row.flips),
    }  # fmt: skip


def places_table(campaign: Campaign) -> Table:
    """What can be turned, a row each."""
    table = plain_table()
    for name in ("block", "target", "kind"):
        table.add_column(name)
    for name in ("words", "bits"):
        table.add_column(name, justify="right")
    for place in campaign.places:
        table.add_row(place.block, Text(place.path), place.kind, f"{place.words:,}", f"{place.bits:,}")
    return table


def places_json(campaign: Campaign) -> dict[str, object]:
    return {"cycles": campaign.cycles, "targets": [asdict(place) for place in campaign.places]}
