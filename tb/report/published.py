# SPDX-License-Identifier: Apache-2.0
"""Published figures of a platform beside a run: which of them are of the network that ran, and what was measured."""

from __future__ import annotations

from dataclasses import MISSING, fields

from nncosim.platforms.base import Platform, Published
from nncosim.platforms.parameters import Value, value_text
from nncosim.tb.report.schema import PublishedJson

__all__ = ["changed_parameters", "is_of", "measured", "published_json", "published_title"]


def changed_parameters(platform: Platform) -> dict[str, tuple[Value, Value]]:
    """The parameters in which a platform is not the published machine: name -> (its value, the published one's)."""
    pairs = {f.name: (getattr(platform, f.name), f.default) for f in fields(platform) if f.default is not MISSING}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def published_title(platform: Platform) -> str:
    """What stands over the figures: whose they are, and in what the machine that ran is another."""
    title = f"published for {platform.published_for}"
    notes = [platform.reconstruction] if platform.reconstruction else []
    changed = changed_parameters(platform)
    if changed:
        which = (f"{name} {value_text(value)}, not {value_text(default)}" for name, (value, default) in changed.items())
        notes.append(f"with {', '.join(which)}")
    return f"{title}: {'; '.join(notes)}" if notes else title


def is_of(figure: Published, topology: str) -> bool:
    """Whether a figure is of the network, in the configuration, that has this topology."""
    return bool(figure.topology) and figure.topology == topology


def measured(figure: Published, cycles: int | None, mac_per_cycle: float | None) -> float | None:
    """What a run measured of the quantity of `figure`; None where a run does not measure it."""
    return {"cycles": cycles, "MAC/cycle": mac_per_cycle}.get(figure.unit)


def published_json(
    platform: Platform, topology: str, cycles: int | None, mac_per_cycle: float | None
) -> list[PublishedJson]:
    """The platform's figures.

    `published_for`: see `published_title`. `default_machine`: no parameter was changed. Those of the network that ran,
    as it was configured, have `this_network` true, and in `measured` what the run took.
    """
    default = not changed_parameters(platform)
    return [
        {
            "network": figure.network, "quantity": figure.quantity, "value": figure.value, "unit": figure.unit,
            "source": figure.source, "configuration": figure.configuration, "topology": figure.topology,
            "published_for": published_title(platform), "default_machine": default,
            "this_network": is_of(figure, topology),
            "measured": measured(figure, cycles, mac_per_cycle) if is_of(figure, topology) else None,
        }
        for figure in platform.published
    ]  # fmt: skip
