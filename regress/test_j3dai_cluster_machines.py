# SPDX-License-Identifier: Apache-2.0
"""The whole cluster of other machines than the default one, as in test_j3dai_cluster."""

import pytest
from nncosim.hdl.j3dai.regs import Counter
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_cluster_bench import bench_platform, build_cluster, random_program, run_program
from nncosim.regress.j3dai_cluster_checks import LAYERS, check_categories, check_layer, differences, timeline
from nncosim.tb.sim.verilate import BuiltModel

OTHERS = [(8, 4, 2, 1), (32, 16, 4, 2), (16, 8, 8, 1), (16, 8, 1, 1)]
"""NCBs, PEs, NCBs of a requantizer, L1's ports: other machines, which differ in everything that the default one's 16 x
8 could hide."""


@pytest.fixture(scope="module", params=OTHERS, ids=lambda machine: "{}x{} shared {} ports {}".format(*machine))
def other(request: pytest.FixtureRequest) -> tuple[BuiltModel, J3dai]:
    platform = bench_platform(*request.param)
    return build_cluster(platform), platform


def test_random_programs_on_another_machine(other: tuple[BuiltModel, J3dai]) -> None:
    built, platform = other
    for seed in range(40, 44):
        program = random_program(seed, platform=platform)
        run = run_program(built, program)
        assert not differences(run, program)
        assert (run.cycles, run.counters[Counter.BUSY]) == timeline(program), f"seed {seed}"
        program = random_program(seed, platform=platform)
        run = run_program(built, program, load=0.4, store=0.3)
        assert not differences(run, program)
        assert Counter.WAIT_PORT in check_categories(run, program)
        assert run.loads > 100 and run.stores > 50


@LAYERS
def test_cycles_of_a_layer_on_another_machine(other: tuple[BuiltModel, J3dai], kernel: int, stride: int,
                                              depthwise: bool, group: int) -> None:
    check_layer(*other, kernel, stride, depthwise, group, clipped=0.4)
