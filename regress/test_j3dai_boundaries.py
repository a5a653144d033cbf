# SPDX-License-Identifier: Apache-2.0
"""At every boundary between J3DAI's blocks RTL and simulator have the same events in the same cycles with the same
values: each small case of `nncosim.regress.cases`, two inferences; and other shapes of the machine."""

from __future__ import annotations

import functools

import pytest
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress.cases import CASES, random_inputs
from nncosim.regress.harness import compile_case
from nncosim.regress.j3dai_block_bench import machine
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.iss_backend import run_iss
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.lockstep import differences, last_cycle
from nncosim.tb.sim.verilate import BuiltModel

ONE = PLATFORM.with_parameters(clusters=1)
SHAPES = {
    "two clusters": PLATFORM.with_parameters(clusters=2),
    "8 NCBs of 4 PEs": machine(8, 4).with_parameters(clusters=1),
    "32 NCBs of 16 PEs, shared requantizers, one port": machine(32, 16).with_parameters(
        clusters=2, l1_ports=1, ncbs_per_requantizer=4),
}  # fmt: skip
OF_SHAPES = ("conv3x3_24ch_odd", "conv_groups_small", "dw5x5_s2", "maxpool3_s2_pad", "add", "table_random",
             "concat_shifted", "resize_3x5", "conv_wide", "packed3x3_s2", "whole_conv_odd", "chain")  # fmt: skip
SILENT = ("cluster0 signals out", "wires", "traps")
"""Channels that a case may have no event in; of the last two it has none."""


@functools.cache
def built(platform: J3dai) -> BuiltModel:
    return build_soc(platform, inside=True, trace="fst")


def alike(name: str, platform: J3dai) -> None:
    compiled = compile_case(name, 0, platform)
    image, inputs = compiled.image.to_bytes(), [random_inputs(compiled.network, seed) for seed in (0, 1)]
    rtl = run_built(built(platform), platform, image, inputs, driver="direct", observe=True)
    iss = run_iss(platform, image, inputs, observe=True)
    assert rtl.diagnosis is None and iss.diagnosis is None
    end = last_cycle(iss.channels) + 1
    assert [each.lines() for each in differences(rtl.channels, iss.channels, end)] == []
    assert all(len(each.events) for each in rtl.channels if each.name not in SILENT)


@pytest.mark.parametrize("name", [each.name for each in CASES if "small" in each.tags])
def test_a_case(name: str) -> None:
    alike(name, ONE)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_SHAPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape(shape: str, name: str) -> None:
    alike(name, SHAPES[shape])
