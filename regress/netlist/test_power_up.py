# SPDX-License-Identifier: Apache-2.0
"""Gates whose flip-flops hold anything when the power comes on: reset puts right what needs it, and meanwhile nothing
is written to a memory."""

from __future__ import annotations

import numpy as np
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.regress.netlist.machines import SMALL, gates
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.model import Model

SEEDS = range(24)
"""Of what is in the flip-flops. Both values of a bit are certain to be among them, but for one chance in a million."""


def test_reset_writes_to_no_memory() -> None:
    """The first edge under reset finds every register with anything in it, those too that enable a write."""
    wrong = []
    for seed in SEEDS:
        with Model(gates(), seed=seed) as model:
            model.poison(seed)
            before = {name: model.memory(name).copy() for name in model.memories}
            model.reset(cycles=RESET_CYCLES)
            wrong += [(seed, name) for name, words in before.items() if not np.array_equal(words, model.memory(name))]
    assert len(before) > SMALL.clusters * 3 * SMALL.banks
    assert wrong == []


def test_the_same_run_from_any_flip_flops() -> None:
    compiled = compile_digits(SMALL)
    images = digits_images(compiled, 7)
    for seed in SEEDS:
        run = run_built(gates(), SMALL, compiled.image.to_bytes(), images, driver="direct", seed=seed,
                        limit_cycles=4 * compiled.iss_cycles)  # fmt: skip
        assert run.diagnosis is None, (seed, run.diagnosis)
        assert run.frames[0].cycles == compiled.iss_cycles, seed
        assert np.array_equal(run.frames[0].memory["logits"], run.frames[0].tensors["logits"]), seed
