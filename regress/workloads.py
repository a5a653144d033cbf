# SPDX-License-Identifier: Apache-2.0
"""Work for `nncosim.tb.benchmark`: the default J3DAI machine busy with a convolution, with and without monitors.

    python -m nncosim.tb.benchmark nncosim.regress.workloads:conv
    python -m nncosim.tb.benchmark nncosim.regress.workloads:conv_unmonitored
"""

from __future__ import annotations

from collections.abc import Callable

from nncosim.compiler.compile import compile_network
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import case, random_inputs
from nncosim.tb.benchmark import Prepare
from nncosim.tb.j3dai.build import build_soc
from nncosim.tb.j3dai.rtl import load_image, write_inputs
from nncosim.tb.sim.backdoor import Backdoor
from nncosim.tb.sim.verilate import BuiltModel

__all__ = ["conv", "conv_unmonitored"]

Workload = tuple[BuiltModel, Prepare]


def _workload(monitored: bool) -> Workload:
    """conv3x3_128, frame after frame: the frame input is held, so the host always finds another one asked for."""
    network = case("conv3x3_128").build(1)
    image = compile_network(network, PLATFORM).image
    inputs = random_inputs(network, 1)

    def prepare(memories: Backdoor, drive: Callable[[str, int], None]) -> None:
        load_image(memories, PLATFORM, image)
        write_inputs(memories, image, inputs)
        drive("monitor_enable", int(monitored))
        drive("frame", 1)

    return build_soc(PLATFORM), prepare


def conv() -> Workload:
    """The way every run is: all monitors on."""
    return _workload(True)


def conv_unmonitored() -> Workload:
    """Without capture and protocol checks, to see what they cost."""
    return _workload(False)
