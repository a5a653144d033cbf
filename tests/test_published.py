# SPDX-License-Identifier: Apache-2.0
"""A run beside the published figures of its machine: which network it is, in table, JSON and page."""

import json
import re
from dataclasses import replace
from typing import ClassVar

import numpy as np
import test_report
from click.testing import CliRunner
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.topology import topology
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.base import Published
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.cli.platforms import platforms_command
from nncosim.tb.report.published import is_of, measured, published_json, published_title
from nncosim.tb.run.network_json import network_from_json, network_to_json
from small_network import small_network
from toy_models import Graph

ONE, OTHER = "0123456789abcdef", "fedcba9876543210"
SMALL = Published("Small", "latency", 4000, "cycles", "A Paper", "8 bit", ONE)
NARROW = Published("Small", "latency", 5000, "cycles", "A Paper", "4 bit", OTHER)
ENERGY = Published("Small", "energy", 1.5, "uJ", "A Paper", "8 bit", ONE)
UNKNOWN = Published("Unknown", "latency", 1, "cycles", "A Paper")


# ---- which network it is

def network(bits=8, weight_bits=8, stride=1, seed=1, kernel=3):
    """A convolution of 2 to 4 channels under another one."""
    graph, rng = Graph((1, 2, 8, 8)), np.random.default_rng(seed)
    at = graph.quant("x", float(rng.uniform(0.1, 0.3)), bits=bits, signed=0)
    for n, (channels, size, step) in enumerate([((2, 4), kernel, stride), ((4, 4), 1, 1)]):
        weights = rng.uniform(-1, 1, (channels[1], channels[0], size, size)).astype(np.float32)
        quantised = graph.quant(graph.constant(weights), float(rng.uniform(0.01, 0.02)), bits=weight_bits)
        pads = [size // 2] * 4
        at = graph.node("Conv", [at, quantised], name=f"conv{n}_{seed}", kernel_shape=[size] * 2, pads=pads,
                        strides=[step] * 2)  # fmt: skip
        at = graph.quant(at, float(rng.uniform(0.1, 0.3)), bits=bits, signed=0)
    return import_model(graph.model(at))


def macs(net):
    return sum(net.macs(op) for op in net.ops)


def test_a_network_is_known_by_its_topology_whatever_its_weights():
    assert topology(network()) == topology(network(seed=2)) == topology(prove(network(seed=3)))
    again = network_from_json(json.loads(json.dumps(network_to_json(prove(network())))))
    assert topology(again) == topology(network()), "in an image too"


def test_networks_of_the_same_macs_are_told_apart():
    """By their bits, of activations or weights; and by what they compute."""
    alike = [network(), network(bits=4), network(weight_bits=4), network(bits=4, weight_bits=4)]
    assert len({macs(net) for net in alike}) == 1 and len({topology(net) for net in alike}) == 4
    base = network()
    conv = base.ops[0]
    other = base.with_ops((replace(conv, stride=(1, 2)), *base.ops[1:]))
    renamed = base.with_ops((replace(conv, name="another", onnx_nodes=("n",)), *base.ops[1:]))
    assert topology(other) != topology(base) == topology(renamed)
    assert len({topology(network(stride=2)), topology(network(kernel=1)), topology(base)}) == 3


def test_rows_of_one_network_differ_by_configuration():
    """Two rows of the same network and MACs: a run of the 8 bit one is no run of the 4 bit one."""
    wide, narrow = network(), network(bits=4, weight_bits=4)
    assert macs(wide) == macs(narrow)

    class Configured(test_report.Paper):
        published: ClassVar = (replace(SMALL, topology=topology(wide)), replace(NARROW, topology=topology(narrow)))

    for ran, row in ((wide, 0), (narrow, 1)):
        found = published_json(Configured(), topology(ran), 3000, 0.5)
        assert [entry["measured"] for entry in found] == [3000 if k == row else None for k in (0, 1)]
        assert [entry["configuration"] for entry in found] == ["8 bit", "4 bit"]
        report = replace(test_report.make(), platform=Configured(), topology=topology(ran))
        lines = {re.split(" {2,}", line)[1]: line for line in test_report.text_of(report).splitlines()
                 if line.startswith("Small ")}  # fmt: skip
        assert set(lines) == {"8 bit", "4 bit"}
        assert ["%" in lines[bits] for bits in ("8 bit", "4 bit")] == [row == 0, row == 1]
    assert not any(entry["this_network"] for entry in published_json(Configured(), topology(network(stride=2)), 1, 1.0))


def test_a_figure_without_a_topology_is_of_no_run():
    assert not is_of(UNKNOWN, "") and not is_of(UNKNOWN, ONE) and is_of(SMALL, ONE) and not is_of(NARROW, ONE)


def test_what_a_run_measures():
    rate = Published("Small", "MAC/cycle", 0.25, "MAC/cycle", "A Paper", "8 bit", ONE)

    class Several(test_report.Paper):
        published: ClassVar = (SMALL, NARROW, ENERGY, rate)

    assert [measured(figure, 3000, 0.333) for figure in (SMALL, rate, ENERGY)] == [3000, 0.333, None]
    assert measured(SMALL, None, None) is None
    found = published_json(Several(), ONE, 3000, 0.333)
    assert [entry["this_network"] for entry in found] == [True, False, True, True]
    assert [entry["measured"] for entry in found] == [3000, None, None, 0.333]
    assert all(entry["default_machine"] for entry in found)
    other = published_json(Several(clock_hz=1), ONE, 3000, 0.333)
    assert [entry["measured"] for entry in other] == [3000, None, None, 0.333]
    assert not any(entry["default_machine"] for entry in other)


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
        Published("SmallNet", "latency", 9000, "cycles", "A Paper", topology=topology(small_network())),
        Published("OtherNet", "latency", 1234567, "cycles", "A Paper", topology=ONE),
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
