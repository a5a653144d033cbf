# SPDX-License-Identifier: Apache-2.0
"""Whatever registers hold when the power comes on, J3DAI's reset puts them right: the same run from each."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import digits_images, digits_network
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.j3dai.rtl import run_built

ONE = PLATFORM.with_parameters(clusters=1)
SEEDS = range(24)
"""Of what is in registers. Both values of a bit are certain to be among them, but for one chance in a million."""


@pytest.mark.parametrize("driver", ["direct", "cocotb"])
def test_the_same_run_from_any_registers(driver):
    compiled = compile_network(digits_network(), ONE)
    (image,) = digits_images(compiled, 0)
    for seed in SEEDS if driver == "direct" else (7, 8):
        run = run_built(simulation(ONE), ONE, compiled.image.to_bytes(), [image], driver=driver, seed=seed,
                        limit_cycles=4 * compiled.iss_cycles)  # fmt: skip
        assert run.diagnosis is None, (seed, run.diagnosis)
        (frame,) = run.frames
        assert frame.cycles == compiled.iss_cycles, seed
        assert np.array_equal(frame.memory["logits"], frame.tensors["logits"])
