# SPDX-License-Identifier: Apache-2.0
"""J3DAI can clock: no path over 70 FO4, storage in SRAM macros, few flip-flops in an NCB; and its area by block.

What is mapped: see `nncosim.tb.j3dai.blocks`. How: see `nncosim.tb.timing.sta`. The first run takes two to three
minutes; the results are cached by content.
"""

from collections.abc import Callable

import pytest
from nncosim.hdl.sram import SRAM_MODULE
from nncosim.platforms.base import MACRO_BITS
from nncosim.platforms.j3dai import NCB_FLIP_FLOP_BITS, J3dai
from nncosim.tb.j3dai.blocks import cluster, control, dmpa, host, measure_area, ncb
from nncosim.tb.j3dai.timing import BLOCKS as DESIGNS
from nncosim.tb.j3dai.timing import CONNECTIONS, connections, kinds, table
from nncosim.tb.timing.kinds import PORT, REGISTER
from nncosim.tb.timing.sta import LIMIT, TimingReport

pytestmark = pytest.mark.text

NCB_FLIP_FLOPS = 8 * 1024


_MEMORY = ("l1.", "wmem.")
_NCB = "group"
_UNITS = ("fetch.", "sequencer.", "drain.")
# Name: design, start, end. None may be without a path, or the check would pass for lack of something to check.
BLOCKS: dict[str, tuple[Callable[[], TimingReport], str | tuple[str, ...], str | tuple[str, ...]]] = {
    "NCB": (ncb, "", ""),
    "PE, accumulation and requantizer input": (ncb, ("ncb0.pe", "ncb0.w_"), ("ncb0.pe", "requantizer.")),
    "requantizer": (ncb, "requantizer.", ("requantizer.", "port q")),
    "controller, from its registers": (cluster, "controller.", ""),
    "controller, to its registers": (cluster, "", "controller."),
    "AGUs and sequencer, from their registers": (cluster, _UNITS, ""),
    "AGUs and sequencer, to their registers": (cluster, "", _UNITS),
    "SRAM to crossbar": (cluster, _MEMORY, ""),
    "crossbar to PE": (cluster, "", _NCB),
    "requantizer to L1": (cluster, ("group0.requantizer.q", "group1", "line.", "drain."), ""),
    "registers to SRAM": (cluster, "", (*_MEMORY, "imem.")),
    "cluster": (cluster, "", ""),
    "L2 to DMPA and clusters": (dmpa, "l2.", ""),
    "DMPA to L2": (dmpa, "", "l2."),
    "entry port, from its registers": (dmpa, "entry.", ""),
    "entry port, to its registers": (dmpa, "", "entry."),
    "DMPA": (dmpa, "", ""),
    "control registers": (control, "", ""),
    "host core": (host, "core.", "core."),
    "host, to its memories": (host, "", ("imem", "dmem")),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_paths(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No path of the block is longer than the limit; the ten worst are printed."""
    design, starts, ends = BLOCKS[block]
    report = design()
    paths = report.between(starts, ends)
    assert paths, f"{block}: no path was found"
    with capsys.disabled():
        print(f"\n{block}: FO4 = {report.fo4_ns:.4f} ns, limit {LIMIT:.0f} FO4, worst {paths[0].fo4:.1f} FO4\n"
              f"{report.table(paths)}")
    too_long = [path for path in paths if path.fo4 > LIMIT]
    assert not too_long, f"paths over {LIMIT:.0f} FO4:\n{report.table(too_long, len(too_long))}"


def test_ports_close(capsys: pytest.CaptureFixture[str]) -> None:
    """From block to block: when the one's output is there, and what the other still needs, fit a cycle together."""
    lengths = {str(connection): connection.fo4 for connection in CONNECTIONS}
    worst = sorted(lengths.items(), key=lambda item: -item[1])
    with capsys.disabled():
        print("\nbetween blocks:\n" + "\n".join(f"  {length:6.1f} FO4  {name}" for name, length in worst[:10]))
    assert {name: length for name, length in worst if length > LIMIT} == {}


def test_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest path by kind, SRAMs by their size; with wires and skew all fit the period as well, and what passes
    from block to block."""
    with capsys.disabled():
        print("\n" + table())
    found = {block: kinds(block) for block in DESIGNS}
    assert all(REGISTER in found[block] for block in DESIGNS if block != "control registers")
    reads = {kind for block in found.values() for kind in block if kind.startswith("read of")}
    assert {kind.split(",")[0] for kind in reads} == {f"read of {memory}" for memory in (
        "l1", "wmem", "imem", "l2", "imem", "dmem")}
    for paths in found.values():
        for kind, path in paths.items():
            assert path.fo4 <= LIMIT, path
            assert kind == PORT or path.total <= LIMIT, path
    assert [str(row) for row in connections() if row.total > LIMIT] == []


def test_ncb_flip_flops(capsys: pytest.CaptureFixture[str]) -> None:
    """An NCB has at most 8 Kibit of flip-flops: counted alone, and in the cluster."""
    alone, inside = ncb().flip_flop_bits(), cluster().flip_flop_bits("group0.")
    with capsys.disabled():
        print(f"\nflip-flops of an NCB: {alone} bits (in the cluster: {inside}), at most {NCB_FLIP_FLOPS}")
    assert 0 < alone <= NCB_FLIP_FLOPS
    assert alone == NCB_FLIP_FLOP_BITS, "platforms/j3dai.py states another number"
    assert 0 < inside <= NCB_FLIP_FLOPS


@pytest.mark.parametrize("name", DESIGNS)
def test_storage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What holds more than 1 Kibit is an SRAM macro."""
    report = DESIGNS[name]()
    with capsys.disabled():
        print(f"\n{name}: {report.flip_flop_bits()} bits of flip-flops; storage over 1 Kibit:")
        print("\n".join(f"  {entry}" for entry in report.storage) or "  none")
    assert report.storage_in_flip_flops() == []
    assert {entry.module for entry in report.storage} <= {SRAM_MODULE}


def test_memories_are_found() -> None:
    """The macros that the platform's sizes ask for are among the storage: the list is not empty for want of looking."""
    platform = J3dai()
    bits = {prefix: sum(entry.bits for entry in cluster().storage if entry.name.startswith(prefix))
            for prefix in ("l1.", "wmem.", "imem.")}
    words = {"l1.": platform.l1_words, "wmem.": platform.wmem_words, "imem.": platform.imem_words}
    assert bits == {prefix: 128 * count for prefix, count in words.items()}
    assert sum(entry.bits for entry in dmpa().storage) == 128 * platform.l2_words
    sizes = {"imem.": platform.host_imem_bytes, "dmem.": platform.host_dmem_bytes}
    assert {prefix: sum(entry.bits for entry in host().storage if entry.name.startswith(prefix))
            for prefix in sizes} == {prefix: 8 * count for prefix, count in sizes.items()}
    assert all(entry.bits <= MACRO_BITS for design in DESIGNS.values() for entry in design().storage)


MODEL_ERROR = 0.05
"""By how much the area model may miss a block of the default machine."""


def test_area(capsys: pytest.CaptureFixture[str]) -> None:
    """Logic by block, of the netlists that are timed; `J3dai.area` says the same to within a few percent."""
    blocks, said = measure_area(), {block.name: block for block in J3dai().area.logic}
    with capsys.disabled():
        print("\nNAND2 equivalents (and what the model says):")
        for block in blocks:
            print(f"  {block.total:12,.0f} ({said[block.name].total:12,.0f})  {block.name}: {block.instances} x "
                  f"({block.area.gates:,.0f} gates + {block.area.flip_flops:,.0f} flip-flops)")
        print(f"  {sum(block.total for block in blocks):12,.0f} ({J3dai().area.logic_nand2:12,.0f})  in all")
    assert all(block.area.gates > 0 and block.area.flip_flops > 0 for block in blocks)
    per_ncb = sum(block.area.flip_flops for block in blocks if block.name in ("PEs of an NCB", "requantizer"))
    assert per_ncb == 4 * ncb().flip_flop_bits()
    assert said.keys() == {block.name for block in blocks}
    for block in blocks:
        assert said[block.name].instances == block.instances
        assert said[block.name].total == pytest.approx(block.total, rel=MODEL_ERROR), block.name
