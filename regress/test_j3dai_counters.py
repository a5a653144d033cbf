# SPDX-License-Identifier: Apache-2.0
"""The DMPA's counters by kind of transfer, cycle by cycle against plain sums, preset near their ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import ModuleType

import pytest
from nncosim.hdl.emit import emit_design
from nncosim.hdl.j3dai import counters
from nncosim.regress.block_bench import ENDS, VISIBLE
from nncosim.regress.planted import planted, some
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

EXISTING = {  # kind of transfer to its counters, from section 4 of the manual
    "load": ("descriptors", "beats", "words", "delivered", "wait_data", "wait_turn", "wait_port"),
    "store": ("descriptors", "beats", "words", "delivered", "wait_data", "wait_turn", "wait_port"),
    "sync": ("descriptors", "wait_data", "wait_turn"),
    "fetch": ("beats", "wait_port"),
}
KINDS, COLUMNS = tuple(EXISTING), EXISTING["load"]
REGISTERS = sorted({f"{kind}_{which}" for kind, existing in EXISTING.items() for which in existing}
                   - {"store_delivered"})


def built_transfers(most: int, module: ModuleType = counters) -> BuiltModel:
    top = "transfer_counters"
    vlt = "\n".join(VISIBLE.format(top=top, name=name) for name in REGISTERS)
    return build(emit_design(module.TransferCounters(most), top), top, vlt=vlt, optimize="-O0")


@pytest.fixture(scope="module", params=[1, 8, 16])
def transfers(request) -> Iterator[tuple[Model, int]]:
    """For beats of at most so many words."""
    with Model(built_transfers(request.param), seed=1) as model:
        yield model, request.param


@pytest.mark.parametrize("start", ENDS)
def test_transfers(transfers, seed, start):
    """Any inputs, also all at once: a cycle late, each counter by its own."""
    model, most = transfers
    check_transfers(model, most, seed, start)


def check_transfers(model: Model, most: int, seed: int, start: int) -> None:
    rng = random.Random(seed)
    inputs = {name: bits for name, (direction, bits) in model.ports.items()
              if direction == "in" and name not in ("clk", "rst")}
    for name in inputs:
        model[name] = rng.getrandbits(inputs[name])
    model.reset()
    assert model.counters == 0
    for name in REGISTERS:
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


TRANSFER_BUGS = {
    "not a cycle late": ('with m.If(late[when] & (late["kind"]', 'with m.If(getattr(self, when) & (late["kind"]'),
    "31 bits": ("return Signal(COUNTER_BITS,", "return Signal(31,"),
    "any kind counts": ('(late["kind"] == kind)', '(late["kind"] != TransferKind.FETCH)'),
    "copies up to 7": ('late["words"] * late["copies"]', 'late["words"] * late["copies"][:3]'),
    "a product cut short": ("Signal(len(self.words) + len(self.copies))", "Signal(len(self.words) + 2)"),
    "words count without a beat": ('("beat", late["words"])', '("done", late["words"])'),
    "turns and ports change places": (
        'TransferCounter.WAIT_TURN: ("wait_turn", 1)', 'TransferCounter.WAIT_TURN: ("wait_port", 1)'),
    "fetches by kind": ("value.eq(value + late[when])", 'value.eq(value + (late[when] & (late["kind"] == 3)))'),
    "a STORE delivers beats": (
        "values[TransferKind.STORE, TransferCounter.WORDS]", "values[TransferKind.STORE, TransferCounter.BEATS]"),
}


@pytest.mark.parametrize("bug", some(TRANSFER_BUGS, 4))
def test_planted_bug_of_transfers_is_noticed(bug):
    module = planted(counters, *TRANSFER_BUGS[bug])
    with Model(built_transfers(8, module), seed=1) as model, pytest.raises(AssertionError):
        for start in ENDS:
            check_transfers(model, 8, 1, start)
