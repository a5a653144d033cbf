# SPDX-License-Identifier: Apache-2.0
"""An engine's counters, cycle by cycle against plain sums: each state, and counters preset near their ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import ModuleType

import pytest
from nncosim.hdl import counters as engine_counters
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.regs import Counter
from nncosim.regress.block_bench import ENDS, VISIBLE
from nncosim.regress.planted import planted, some
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

NAMES = ("busy", "wait_data", "wait_port", "wait_host", "control", "idle")
"""By hand, from the manual: the order of an engine's counters."""


def built_engine(module: ModuleType = engine_counters) -> BuiltModel:
    top = "engine_counters"
    vlt = "\n".join(VISIBLE.format(top=top, name=name) for name in NAMES)
    return build(emit_design(module.EngineCounters(Counter), top), top, vlt=vlt, optimize="-O0")


@pytest.fixture(scope="module")
def engine() -> Iterator[Model]:
    with Model(built_engine(), seed=1) as model:
        yield model


@pytest.mark.parametrize("start", ENDS)
def test_engine(engine, seed, start):
    """Every state: its own counter goes on, across 32 bits, and no other; states 6 and 7 count nowhere."""
    check_engine(engine, seed, start)


def check_engine(engine: Model, seed: int, start: int) -> None:
    rng = random.Random(seed)
    engine["state"] = 7
    engine.reset()
    assert engine.counters == 0
    expected = [start] * 6
    for name in NAMES:
        engine.register(name)[:] = start
    for step in range(120):
        state = step % 8 if step < 40 else rng.randrange(8)
        engine["state"] = state
        engine.tick()
        if state < 6:
            expected[state] = (expected[state] + 1) % (1 << 32)
        assert engine.counters == sum(value << 32 * k for k, value in enumerate(expected))


ENGINE_BUGS = {
    "16 bits": ("Signal(COUNTER_BITS, name=counter.name.lower())", "Signal(16, name=counter.name.lower())"),
    "a state counts twice": ("self.state == counter.value", "self.state[:2] == counter.value"),
    "it stops at its end": ("self.state == counter.value)", "(self.state == counter.value) & ~value.all())"),
    "another order": ("word_select(counter.value,", "word_select(5 - counter.value,"),
}


@pytest.mark.parametrize("bug", some(ENGINE_BUGS, 2))
def test_planted_bug_of_an_engine_is_noticed(bug):
    module = planted(engine_counters, *ENGINE_BUGS[bug])
    with Model(built_engine(module), seed=1) as model, pytest.raises(AssertionError):
        for start in ENDS:
            check_engine(model, 1, start)
