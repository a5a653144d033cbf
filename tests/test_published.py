# SPDX-License-Identifier: Apache-2.0
"""A run beside the published figures of its machine: which network it is, in table, JSON and page."""

import json
from dataclasses import replace
from typing import ClassVar

import pytest
import test_report
from click.testing import CliRunner
from nncosim.platforms.base import Published
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.zoo.networks import NETWORKS
from nncosim.tb.cli.platforms import platforms_command
from nncosim.tb.report.published import measured, published_json, published_title, same_network

SMALL = Published("Small", "latency", 4000, "cycles", "A Paper", 1000)
NEAR = Published("Near", "latency", 5000, "cycles", "A Paper", 1015)
ENERGY = Published("Small", "energy", 1.5, "uJ", "A Paper", 1000)
UNKNOWN = Published("Unknown", "latency", 1, "cycles", "A Paper")


@pytest.mark.parametrize(
    ("macs", "network"),
    [(1000, "Small"), (990, "Small"), (989, None), (1007, "Small"), (1008, "Near"), (1025, "Near"), (1026, None),
     (0, None)],
)  # fmt: skip
def test_a_network_is_known_by_its_macs(macs, network):
    assert same_network((UNKNOWN, SMALL, NEAR, ENERGY), macs) == network


def test_what_a_run_measures():
    rate = Published("Small", "MAC/cycle", 0.25, "MAC/cycle", "A Paper", 1000)

    class Several(test_report.Paper):
        published: ClassVar = (SMALL, NEAR, ENERGY, rate)

    assert [measured(figure, 3000, 0.333) for figure in (SMALL, rate, ENERGY)] == [3000, 0.333, None]
    assert measured(SMALL, None, None) is None
    found = published_json(Several(), 1000, 3000, 0.333)
    assert [entry["this_network"] for entry in found] == [True, False, True, True]
    assert [entry["measured"] for entry in found] == [3000, None, None, 0.333]
    assert all(entry["default_machine"] for entry in found)
    other = published_json(Several(clock_hz=1), 1000, 3000, 0.333)
    assert [entry["measured"] for entry in other] == [3000, None, None, 0.333]
    assert not any(entry["default_machine"] for entry in other)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_published_networks_are_known(name):
    """Each of the zoo is one row of the table, and no two the same."""
    others = {same_network(PLATFORM.published, NETWORKS[other].macs) for other in NETWORKS}
    assert same_network(PLATFORM.published, NETWORKS[name].macs) and len(others) == len(NETWORKS) and None not in others


OURS = "published for CEA's J3DAI: this is a reconstruction whose L1, WMEM, NCB and instruction set are ours"


def test_figures_of_another_machine_are_labelled():
    """The default machine is not the published one either; a parameter that was given its default is no change."""
    assert published_title(PLATFORM.with_parameters(clusters=PLATFORM.clusters)) == OURS
    other = PLATFORM.with_parameters(clusters=2, dmpa_bits=512)
    title = f"{OURS}; with clusters 2, not 6, dmpa_bits 512, not 1024"
    assert published_title(other) == title
    text = " ".join(test_report.text_of(replace(test_report.make(), platform=other)).split())
    assert title in text and "for this machine" not in text
    assert published_title(test_report.Paper()) == "published for this machine"
    changed = "published for this machine: with clock_hz 5, not 100000000"
    assert published_title(test_report.Paper(clock_hz=5)) == changed


def test_whose_figures_they_are_stands_with_them_in_each_output():
    report = replace(test_report.make(), platform=PLATFORM)
    assert OURS in " ".join(test_report.text_of(report).split())
    assert {entry["published_for"] for entry in report.to_json()["published"]} == {OURS}
    found = CliRunner().invoke(platforms_command, ["j3dai", "--json", "-"], catch_exceptions=False)
    assert json.loads(found.stdout)["published_for"] == OURS
    assert OURS in " ".join(found.stderr.split())


class Known(test_report.Paper):
    published: ClassVar = (
        Published("SmallNet", "latency", 9000, "cycles", "A Paper", test_report.CONV_MACS),
        Published("OtherNet", "latency", 1234567, "cycles", "A Paper", 3 * test_report.CONV_MACS),
    )


def test_the_row_of_this_network_has_what_was_measured(monkeypatch):
    unmarked = test_report.make()
    assert "this run" not in test_report.text_of(unmarked)
    assert not any(entry["this_network"] for entry in unmarked.to_json()["published"])
    monkeypatch.setattr(test_report, "Paper", Known)
    report = test_report.make()
    text = test_report.text_of(report)
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "this run" in text and rows["SmallNet"].split()[-2:] == ["6,300", "70.0%"]
    assert "6,300" not in rows["OtherNet"] and "%" not in rows["OtherNet"]
    published = json.loads(json.dumps(report.to_json()))["published"]
    assert [(entry["this_network"], entry["measured"]) for entry in published] == [(True, 6300), (False, None)]
    for width in (60, 80, 100):
        narrow = " ".join(test_report.text_of(report, width).split())
        assert all(part in narrow for part in ("SmallNet", "9,000 cycles", "6,300 70.0%", "1,234,567 cycles")), width
