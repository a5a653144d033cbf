# SPDX-License-Identifier: Apache-2.0
"""J3DAI's counters, cycle by cycle against plain sums: each state and kind, and counters preset near their ends."""

import random

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai.counters import EngineCounters, TransferCounters
from nncosim.tb.model import Model
from nncosim.tb.verilate import build

NAMES = ("busy", "wait_data", "wait_port", "wait_host", "control", "idle")
"""By hand, from the manual: the order of an engine's counters."""
EXISTING = {  # kind of transfer to its counters, from section 4 of the manual
    "load": ("descriptors", "beats", "words", "delivered", "wait_data", "wait_turn", "wait_port"),
    "store": ("descriptors", "beats", "words", "delivered", "wait_data", "wait_turn"),
    "sync": ("descriptors", "wait_data", "wait_turn"),
    "fetch": ("beats", "wait_port"),
}
KINDS, COLUMNS = tuple(EXISTING), EXISTING["load"]
ENDS = (0, (1 << 8) - 2, (1 << 10) - 2, (1 << 16) - 2, (1 << 20) - 2, (1 << 24) - 2, (1 << 31) - 2, (1 << 32) - 2)
"""Where carries begin that a run does not reach."""
VISIBLE = 'public_flat_rw -module "{top}" -var "{name}"'


@pytest.fixture(scope="module")
def engine():
    top = "engine_counters"
    vlt = "\n".join(VISIBLE.format(top=top, name=name) for name in NAMES)
    with Model(build(emit_design(EngineCounters(), top), top, vlt=vlt, optimize="-O0"), seed=1) as model:
        yield model


@pytest.mark.parametrize("start", ENDS)
def test_engine(engine, seed, start):
    """Every state: its own counter goes on, across 32 bits, and no other; states 6 and 7 count nowhere."""
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


@pytest.fixture(scope="module", params=[1, 8, 16])
def transfers(request):
    """For beats of at most so many words."""
    top = "transfer_counters"
    names = {f"{kind}_{which}" for kind, existing in EXISTING.items() for which in existing} - {"store_delivered"}
    vlt = "\n".join(VISIBLE.format(top=top, name=name) for name in sorted(names))
    with Model(build(emit_design(TransferCounters(request.param), top), top, vlt=vlt, optimize="-O0"), seed=1) as model:
        yield model, request.param, names


@pytest.mark.parametrize("start", ENDS)
def test_transfers(transfers, seed, start):
    """Any inputs, also all at once: a cycle late, each counter by its own."""
    model, most, names = transfers
    rng = random.Random(seed)
    inputs = {name: bits for name, (direction, bits) in model.ports.items()
              if direction == "in" and name not in ("clk", "rst")}
    for name in inputs:
        model[name] = rng.getrandbits(inputs[name])
    model.reset()
    assert model.counters == 0
    for name in names:
        model.register(name)[:] = start
    expected = {(kind, which): start for kind, existing in EXISTING.items() for which in existing}
    late = dict.fromkeys(inputs, 0)
    for _ in range(150):
        now = {name: rng.getrandbits(bits) for name, bits in inputs.items()}
        now |= {"words": rng.choice([0, 1, most, rng.randrange(most + 1)]),
                "copies": rng.choice([0, 1, 8, rng.randrange(9)])}
        for name, value in now.items():
            model[name] = value
        model.tick()
        kind = KINDS[late["kind"]] if late["kind"] < 3 else ""
        amounts = {"descriptors": late["done"], "beats": late["beat"], "words": late["beat"] * late["words"],
                   "delivered": late["beat"] * late["words"] * (late["copies"] if kind == "load" else 1)}
        for which in COLUMNS:
            if (kind, which) in expected:
                expected[kind, which] += amounts[which] if which in amounts else late[which]
        expected["fetch", "beats"] += late["fetch"]
        expected["fetch", "wait_port"] += late["fetch_wait"]
        late = now
        shown = sum((value & 0xFFFFFFFF) << 32 * (7 * KINDS.index(kind) + COLUMNS.index(which))
                    for (kind, which), value in expected.items())
        assert model.counters == shown
