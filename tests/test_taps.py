# SPDX-License-Identifier: Apache-2.0
"""Records of J3DAI's taps: layouts of both sides, lines word by word, who is to blame."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from nncosim.platforms.aie_ml import PLATFORM as AIE_ML
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.aie_ml.observe import module_of as of_tile
from nncosim.tb.j3dai.inside import as_seen, dmpa_channels, inside_channels, module_of, scope_of
from nncosim.tb.j3dai.l1_taps import l1_taps, without
from nncosim.tb.j3dai.taps import Watch, part_words, seen_header, seen_layouts, tap_layouts
from nncosim.tb.lockstep import differences

WIDE = PLATFORM.with_parameters(ncbs_per_cluster=32, pes_per_ncb=16, l1_bytes=1 << 17, dmpa_bits=1024)


@pytest.mark.parametrize("platform", [PLATFORM, WIDE])
def test_layouts(platform: object) -> None:
    """Whole 32-bit words that the event log has room for; a struct for each; and lines in parts where they are long."""
    for layout in tap_layouts(platform).values():
        assert layout.itemsize % 4 == 0 and layout.itemsize <= 256 and layout.names[:2] == ("cycle", "unit")
    assert list(tap_layouts(platform)) == list(seen_layouts(platform))
    assert part_words(PLATFORM) == 8 and part_words(WIDE) == 4
    assert sum(line.startswith("struct") for line in seen_header(platform)) == len(seen_layouts(platform))


def test_signals_that_are_gone_are_0_in_their_width() -> None:
    text = "a.b.c[8 * i +: 8], 9'(a.b.c), {a.b.c, a.b.cd, a.b.c.e, xa.b.c}, a.b.c[3]"
    assert without(text, ["a.b.c"]) == "8'd0, 9'(1'd0), {1'd0, a.b.cd, a.b.c.e, xa.b.c}, 1'd0"
    taps, name = l1_taps(PLATFORM, "top.soc", True), "top.soc.cluster0.drain.write"
    assert name in taps and name not in l1_taps(PLATFORM, "top.soc", True, [name]).replace(f"{name}s", "")


@pytest.mark.parametrize(("block", "module"), [
    ("cluster0 NCB 3", "j3dai.ncb"), ("cluster1 requantizer 0, 1", "j3dai.requantizer"), ("l2", "j3dai.l2"),
    ("cluster0 drain line", "j3dai.drain"), ("cluster5 counters", "j3dai.cluster"), ("dmpa counters", "j3dai.dmpa"),
    ("dmpa walk", "j3dai.dmpa_walk"), ("dmpa paths (load data)", "j3dai.dmpa_paths"), ("host", "cv32e40p"),
    ("dmpa transfer counters", "j3dai.counters"), ("cluster0 parameters (WMEM read)", "banks"),
    ("cluster0 LDP", "j3dai.cluster"), ("soc", "j3dai.soc"), ("entry", "j3dai.entry"),
    ("control registers", "j3dai.control"),
])  # fmt: skip
def test_a_block_has_a_module(block: str, module: str) -> None:
    assert module_of(PLATFORM, block) == f"nncosim.hdl.{module}"
    assert importlib.util.find_spec(f"nncosim.hdl.{module}")


@pytest.mark.parametrize(("block", "module"), [
    ("tile (0, 3) core SRS", "srs"), ("tile (3, 4) core fetch (program memory)", "fetch"), ("tile (0, 3) core", "core"),
    ("tile (1, 2) dma mm2s3", "dma_channel"), ("tile (1, 2) dma descriptors (iterations)", "dma"), ("shim", "array"),
    ("tile (1, 2) data memory", "memory_banks"), ("tile (1, 3) data memory", "memory"), ("tile (0, 3) locks", "locks"),
    ("tile (0, 3) core load path b", "access"), ("tile (0, 3) core cascade", "core"), ("tile (0, 3) switch", "switch"),
])  # fmt: skip
def test_a_block_of_a_tile_has_a_module(block: str, module: str) -> None:
    assert of_tile(AIE_ML, block) == f"nncosim.hdl.aie_ml.{module}"
    assert importlib.util.find_spec(f"nncosim.hdl.aie_ml.{module}")


def nothing() -> dict[str, np.ndarray]:
    return {name: np.zeros(0, layout) for name, layout in seen_layouts(PLATFORM).items()}


def test_words_of_lines() -> None:
    taps = {name: np.zeros(0, layout) for name, layout in tap_layouts(PLATFORM).items()}
    taps["result"] = np.zeros(2, tap_layouts(PLATFORM)["result"])
    taps["write"] = np.zeros(1, tap_layouts(PLATFORM)["write"])
    taps["result"]["cycle"], taps["result"]["address"] = (5, 9), (PLATFORM.l1_words - 1, 40)
    taps["result"]["mask"] = (0b11, 0b100)
    taps["result"]["data"][:, :, 0] = np.arange(16).reshape(2, 8)
    taps["write"]["mask"], taps["write"]["address"][0] = 0b10000001, np.arange(8) * 3
    seen = as_seen(PLATFORM, taps)
    assert seen["result"]["word"].tolist() == [PLATFORM.l1_words - 1, 0, 42]
    assert seen["result"]["cycle"].tolist() == [5, 5, 9] and seen["result"]["data"][:, 0].tolist() == [0, 1, 10]
    assert seen["write"]["word"].tolist() == [0, 21]


BLAMED = [
    ("execute", "pc", "cluster0 controller"), ("execute", "instruction", "cluster0 controller (instruction fetch)"),
    ("fetch", "address", "cluster0 fetch (AGU A)"), ("fetch", "cycle", "cluster0 fetch"),
    ("window", "offered", "cluster0 fetch (padding)"), ("window", "padded", "cluster0 window"),
    ("window", "data", "cluster0 window"),
    ("operation", "pointer", "cluster0 sequencer (AGU W)"), ("operation", "operands", "cluster0 window"),
    ("operation", "weights", "cluster0 weights (WMEM read)"), ("operation", "cycle", "cluster0 sequencer"),
    ("sums", "sums", "cluster0 NCB 0"), ("shadow", "values", "cluster0 NCB 0"), ("shadow", "copy", "cluster0 drain"),
    ("trapped", "port", "soc"), ("wires", "groups", "soc"), ("trapped", "units", "cluster0 controller"),
    ("requantized", "data", "cluster0 requantizer 0"),
    ("requantized", "pixel", "cluster0 drain"), ("result", "word", "cluster0 drain (AGU O)"),
    ("result", "data", "cluster0 drain line"), ("write", "data", "cluster0 writes"),
    ("stored", "data", "cluster0 L1 read"), ("signal_out", "cycle", "cluster0 settle"),
    ("signal_in", "cycle", "dmpa paths"), ("load", "data", "dmpa paths (load data)"), ("l2_read", "data", "l2"),
    ("descriptor", "fields", "dmpa fetch"), ("beat", "local", "dmpa walk"), ("beat", "cycle", "dmpa"),
    ("bus", "register", "host"), ("bus", "value", "control registers"), ("registers", "start", "control registers"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "field", "block"), BLAMED)
def test_blame(layout: str, field: str, block: str) -> None:
    """One field of one event differs: the block is that which the field comes from."""
    right, wrong = nothing(), nothing()
    for each in (right, wrong):
        each[layout] = np.zeros(1, seen_layouts(PLATFORM)[layout])
        each[layout]["cycle"] = 7
    wrong[layout][field].reshape(-1)[0] ^= 1
    sides = ([*dmpa_channels(PLATFORM, each), *inside_channels(PLATFORM, each, 0)] for each in (wrong, right))
    found = differences(*sides)
    assert [each.block for each in found] == [block]


@pytest.mark.parametrize(
    ("bit", "block"), [(0, "controller"), (3, "sequencer"), (4, "settle"), (6, "drain"), (7, "fetch")])
@pytest.mark.parametrize("late", [False, True])
def test_blame_of_levels(bit: int, block: str, late: bool) -> None:
    """By the level that is wrong, or that changes too late."""
    right, wrong = nothing(), nothing()
    for each in (right, wrong):
        each["control"] = np.zeros(3, seen_layouts(PLATFORM)["control"])
        each["control"]["cycle"], each["control"]["flags"] = (0, 10, 20), (0, 1 << bit, 0)
    if late:
        wrong["control"]["cycle"][1] = 11
    else:
        wrong["control"]["flags"][1] = 0
        right["control"]["flags"][2] = wrong["control"]["flags"][2] = 1 << bit
    (found,) = differences(*(inside_channels(PLATFORM, each, 0) for each in (wrong, right)))
    assert (found.cycle, found.block) == (10, f"cluster0 {block}")


def test_delays_and_changes() -> None:
    watch = Watch()
    assert watch.delayed("a", 3, 2) == "delayed0[5 -: 3]" and watch.always == ["delayed0 <= {delayed0[2:0], 3'(a)};"]
    assert watch.changed("b", 4) == "was1 != {1'b1, 4'(b)}"


@pytest.mark.parametrize(("block", "scope"), [
    ("cluster1 NCB 5", "cluster1.group5.ncb0"), ("cluster0 requantizer 3, 4", "cluster0.group3.requantizer"),
    ("cluster0 sequencer (AGU W)", "cluster0.sequencer"), ("cluster0 drain line", "cluster0.line"),
    ("cluster0 drain (AGU O)", "cluster0.drain"), ("cluster0 weights (WMEM read)", "cluster0.wmem"),
    ("cluster0 controller (instruction fetch)", "cluster0.controller"), ("dmpa paths (load data)", "dmpa.paths"),
    ("dmpa transfer counters", "dmpa.transfer_counters"), ("dmpa", "dmpa"), ("control registers", "control"),
    ("l2", "l2"), ("host", "host"), ("cluster3 counters", "cluster3.counters_2"),
])  # fmt: skip
def test_scopes(block: str, scope: str) -> None:
    assert scope_of(PLATFORM, block) == scope
