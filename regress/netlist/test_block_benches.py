# SPDX-License-Identifier: Apache-2.0
"""Blocks as gates under their own benches, as ``pytest regress/test_BLOCK.py --backend netlist`` runs them."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nncosim.hdl.odometer import Odometer
from nncosim.regress.gate_context import simulate_gates
from nncosim.tb.netlist.cells import cell_models
from nncosim.tb.timing.sta import OSU018

REGRESS = Path(__file__).parents[1]
BENCHES = {"odometer": {"odometer"}, "j3dai_fetch": {"windowfetch"}, "j3dai_drain": {"draincontrol"}}
MORE = {"j3dai_writes": {"writepath"}, "j3dai_settle": {"settle"}, "j3dai_controller": {"controller"},
        "j3dai_operands": {"mode"}, "j3dai_banks": {"rows", "bankedmemory", "drainline"},
        "j3dai_window": {"windowpath"}}  # fmt: skip
"""Each bench and its blocks, by the names of their classes in small letters."""


def on_gates(bench: str, seed: int, backend: str = "netlist") -> set[str]:
    """Which blocks a bench ran on gates. Left out are those that plant bugs in RTL, which judge the bench."""
    command = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:xdist", "-p", "no:cacheprovider",
               "--seed", str(seed), "--backend", backend, "-k", "not planted", f"test_{bench}.py"]  # fmt: skip
    done = subprocess.run(command, cwd=REGRESS, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    return set(re.findall(r"^on gates: (\w+)$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("bench", BENCHES)
def test_gates_under_their_bench(bench: str, seed: int) -> None:
    assert on_gates(bench, seed) == BENCHES[bench]


@pytest.mark.slow
@pytest.mark.parametrize("bench", MORE)
def test_more_gates_under_their_bench(bench: str, seed: int) -> None:
    assert on_gates(bench, seed) == MORE[bench]


def test_a_bench_on_rtl_has_no_gates(seed: int) -> None:
    """And says so: passing alone is not enough."""
    assert on_gates("odometer", seed, "rtl") == set()


def counted(models: Any = None) -> list[int]:
    """Addresses of an odometer of two dimensions, 3 and 4 indexes in steps of 5 and 1."""
    dut = Odometer(2, 2, {"a": 8}, {"a": 8}, count_bits=4)
    seen = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.base_a, 7)
        ctx.set(dut.base_rewind, 1)
        ctx.set(dut.base_we, 1)
        await ctx.tick()
        ctx.set(dut.base_we, 0)
        for dim, (count, step) in enumerate(((3, 5), (4, 1))):
            ctx.set(dut.dim_we, 1 << dim)
            ctx.set(dut.dim_count, count)
            ctx.set(dut.dim_step_a, step)
            await ctx.tick()
        ctx.set(dut.dim_we, 0)
        ctx.set(dut.outer, 1)
        await ctx.tick()
        ctx.set(dut.advance, 1)
        for _ in range(12):
            seen.append(ctx.get(dut.at_a))
            await ctx.tick()

    simulate_gates(dut, bench, models=models)
    return seen


def test_a_wrong_cell_is_noticed() -> None:
    right = [7 + 5 * i + k for k in range(4) for i in range(3)]
    assert counted() == right
    models = cell_models(OSU018)
    models["NAND2X1"] = replace(models["NAND2X1"], outputs=models["NOR2X1"].outputs)
    assert counted(models) != right

