# SPDX-License-Identifier: Apache-2.0
"""Fault injection without a machine: statistics, registers of a small design, and command lines that are refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from command_line import refused
from nncosim.tb import demo
from nncosim.tb.errors import BenchError
from nncosim.tb.fault_target import Observed
from nncosim.tb.faults.campaign import Campaign, Chosen, Wanted, random_flips
from nncosim.tb.faults.model import FaultModel, Flip, Place, places_of
from nncosim.tb.faults.outcomes import Injection, Outcome, by_block, weighted_avf, weighted_interval, wilson
from nncosim.tb.faults.registers import SETTLE, registers_of, visibility
from nncosim.tb.sim.verilate import build

DIGITS = Path(demo.__file__).parent.parent / "regress" / "networks" / "digits.onnx"


# ---- statistics

@pytest.mark.parametrize(("hits", "count", "low", "high"), [
    # Published: R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
])  # fmt: skip
def test_wilson(hits, count, low, high):
    found = wilson(hits, count)
    assert found == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(count - hits, count)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx(found)


def test_wilson_of_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def injections(block: str, **counts: int) -> list[Injection]:
    flips = [Outcome(name) for name, count in counts.items() for _ in range(count)]
    return [Injection(Flip("p", 0, k, 1, block), outcome, 0, outcome is Outcome.MASKED)
            for k, outcome in enumerate(flips)]  # fmt: skip


PLACES = [Place("a.r", "a", "register", 1, 30), Place("a.m", "a", "memory", 10, 7),
          Place("b.r", "b", "register", 1, 900), Place("c.r", "c", "register", 1, 5)]  # fmt: skip


def test_counts_of_a_block():
    found = injections("a", masked=3, timing=2, sdc=1, hang=1, trap=1) + injections("b", masked=4, check=1)
    a, b = by_block(PLACES, found)
    assert (a.block, a.places, a.bits, a.flips, a.failures, a.avf, a.counters) == ("a", 2, 100, 8, 3, 0.375, 3)
    assert (b.block, b.bits, b.flips, b.failures, b.avf) == ("b", 900, 5, 1, 0.2)
    assert weighted_avf([a, b]) == pytest.approx(0.1 * 0.375 + 0.9 * 0.2)
    low, high = weighted_interval([a, b])
    assert low < weighted_avf([a, b]) < high
    assert weighted_interval([a]) == pytest.approx(wilson(3, 8))
    assert math.isnan(weighted_avf([]))


def test_random_flips_are_even_and_in_range():
    flips = random_flips(PLACES, 50, ("a", "b"), 2001, seed=3)
    assert flips == random_flips(PLACES, 50, ("a", "b"), 2001, seed=3) != random_flips(PLACES, 50, ("a", "b"), 2001, 4)
    assert Counter(each.block for each in flips) == {"a": 1001, "b": 1000}
    sizes = {place.path: place for place in PLACES}
    for each in flips:
        place = sizes[each.path]
        assert each.block == place.block and 0 <= each.bit < place.bits and 0 <= each.word < place.words
        assert 1 <= each.cycle < 50
    of_a = Counter((each.path, each.word, each.bit) for each in flips if each.block == "a")
    assert len(of_a) == 100 and max(of_a.values()) < 30  # 10 each are expected
    assert {each.cycle for each in flips} == set(range(1, 50))


# ---- a small design

DESIGN = """
module counter(input clk, input rst_n, input d, output reg [6:0] q, output latched, output [6:0] next);
  wire [6:0] sum = q + 7'd1;
  reg blocking, comb;
  reg [3:0] parts;
  reg [1:0] \\odd.name ;
  assign next = sum ^ {6'b0, comb};
  always @(posedge clk or negedge rst_n) if (!rst_n) q <= 0; else q <= sum;
  always @(posedge clk) begin parts[1:0] <= {d, d}; {parts[3], parts[2]} <= sum[1:0]; \\odd.name <= 2'(parts[0]); end
  always @* comb = ^\\odd.name ;
  always_latch if (!clk) blocking = d;
  assign latched = blocking;
endmodule
module top(input clk, input rst_n, input d, output [6:0] q, output l, output [6:0] next);
  counter inner(clk, rst_n, d, q, l, next);
endmodule
"""


def test_registers_are_what_edges_write():
    assert registers_of({"top.sv": DESIGN}, "top") == {"counter": ("odd.name", "parts", "q")}


def test_a_design_without_registers():
    with pytest.raises(BenchError, match="has no registers"):
        registers_of({"t.v": "module t(input a, output b); assign b = ~a; endmodule"}, "t")


def small(vlt: str) -> FaultModel:
    return FaultModel(build({"top.sv": DESIGN}, "top", vlt=vlt, cpp_sources=(SETTLE,), optimize="-O0"))


def test_what_follows_from_a_register_follows_at_once():
    model = small(visibility(registers_of({"top.sv": DESIGN}, "top")))
    model.rst_n = 1
    model.tick()
    model.rst_n = 0
    model.eval()
    model.rst_n = 1
    model.tick(5)
    assert model.q == 5 and model.next >> 1 == 3  # its last bit has one of `odd.name`'s in it
    before = model.next
    model.flip(Flip("inner.q", 0, 6, 0))
    assert (model.q, model.next) == (5 + 64, before + 64)
    model.tick()
    assert model.q == 6 + 64
    places = places_of(model, lambda path: "" if path.endswith("parts") else "all")
    assert [(each.path, each.bits, each.words) for each in places] == [("inner.odd.name", 2, 1), ("inner.q", 7, 1)]
    for path, bit in (("inner.q", 7), ("inner.nothing", 0)):
        with pytest.raises(BenchError, match="there is no"):
            model.flip(Flip(path, 0, bit, 0))
    model.close()


@pytest.mark.parametrize("name", ["sum", "q"])
def test_a_wire_is_no_place_for_a_fault(name):
    """Nor is what is left of an output register where a module is inlined: the parent's wire is the register then."""
    model = small(f'public_flat_rd -module "counter" -var "{name}"')
    with pytest.raises(BenchError, match="nothing was injected"):
        model.flip(Flip(f"inner.{name}", 0, 0, 0))
    model.close()


# ---- campaigns that cannot be

class NoTarget:
    built = type("Built", (), {"key": "k"})


def campaign(places=PLACES) -> Campaign:
    return Campaign(NoTarget(), tuple(places), 50, 200, 0, "image")  # type: ignore[arg-type]


@pytest.mark.parametrize(("chosen", "message"), [
    (Chosen("a.x", 0, 1), "there is no memory or register 'a.x'"),
    (Chosen("a.m", 0, 1), r"a.m is a memory of 10 words; say which one, such as a.m\[0\]"),
    (Chosen("a.m[10]", 0, 1), "a.m has 10 words of 7 bits; there is no bit 0 of word 10"),
    (Chosen("a.m[1", 7, 1), "there is no bit 7 of word 1"),
    (Chosen("a.m[x]", 0, 1), "expected the number of a word in the brackets"),
    (Chosen("a.r", 0, 50), "the inference has cycles 1 to 49 to turn a bit after, not 50"),
])  # fmt: skip
def test_a_flip_that_cannot_be(chosen, message):
    with pytest.raises(BenchError, match=message):
        campaign().flips(Wanted(chosen=chosen))


def test_a_chosen_flip_and_blocks():
    assert campaign().flips(Wanted(chosen=Chosen("a.m[9]", 6, 49))) == [Flip("a.m", 9, 6, 49, "a")]
    assert {each.block for each in campaign().flips(Wanted(9, ("b", "c")))} == {"b", "c"}
    more = [*PLACES, Place("d.e.r", "d.e", "register", 1, 3)]
    assert {each.block for each in campaign(more).flips(Wanted(9, ("d",)))} == {"d.e"}
    with pytest.raises(BenchError, match="there is no block 'e'; there are a, b, c"):
        campaign().flips(Wanted(9, ("e",)))


def test_a_journal_of_another_campaign(tmp_path):
    journal = tmp_path / "j"
    for text, message in ((json.dumps({"image": "other"}), "another image, simulation or seed"), ("{", "no journal")):
        journal.write_text(text + "\n")
        with pytest.raises(BenchError, match=message):
            campaign().run([], 1, journal)


def test_observed_is_compared_by_value():
    assert Observed({}, {"c": 1}, "", "").counters != Observed({}, {"c": 2}, "", "").counters


@pytest.mark.parametrize(("options", "message"), [
    (["--target=x", "--bit=1"], "--target, --bit and --at name one flip together"),
    (["--target=x", "--bit=1", "--at=1", "--block=b"], "--block chooses among random flips"),
    (["--platform=aie_ml"], "has nothing to inject faults into; no backend of this platform has"),
    (["--index=1"], "--index chooses an image of an input file"),
    (["--journal=", "--count=3"], "the path is empty"),
])  # fmt: skip
def test_a_command_that_is_refused(command, options, message):
    refused(command("inject", DIGITS, *options), message)
