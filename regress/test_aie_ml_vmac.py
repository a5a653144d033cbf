# SPDX-License-Identifier: Apache-2.0
"""The vector unit against Python's integers: all shapes, all signs, extremes, with stalls."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from nncosim.hdl.aie_ml import vmac
from nncosim.hdl.aie_ml.isa import Mac
from nncosim.hdl.aie_ml.vmac import DotLane, VectorMac

TO_RESULT, TO_ACC = 4, 2


def number(data: bytes, at: int, width: int, signed: int) -> int:
    return int.from_bytes(data[at * width : (at + 1) * width], "little", signed=bool(signed))


def products(op: Mac, a: bytes, b: bytes, a_signed: int, b_signed: int) -> list[int]:
    """By lane, written from the manual."""
    out = {}
    if op == Mac.I8X8:
        for m, n in np.ndindex(4, 8):
            row = [number(a, k // 4 * 16 + m * 4 + k % 4, 1, a_signed) for k in range(8)]
            column = [number(b, n * 8 + k, 1, b_signed) for k in range(8)]
            out[n // 4 * 16 + m * 4 + n % 4] = sum(x * y for x, y in zip(row, column, strict=True))
    else:
        columns, width = (8, 1) if op == Mac.I16X8 else (4, 2)
        for m, n in np.ndindex(4, columns):
            lane = n // 4 * 16 + m * 4 + n % 4 if op == Mac.I16X8 else m * 4 + n
            out[lane] = sum(number(a, m * 4 + k, 2, a_signed) * number(b, n * 4 + k, width, b_signed) for k in range(4))
    return [out[lane] for lane in range(len(out))]


def cases(seed: int, count: int):
    """(inputs, accumulator, result)."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        op, clear = Mac(1 + k % 3), int(rng.random() < 0.3)
        a, b = (bytes(rng.choice([0, 1, 127, 128, 129, 255], size)) if rng.random() < 0.4 else rng.bytes(size)
                for size in (32, 64))  # fmt: skip
        signs = {"a_signed": int(rng.integers(2)), "b_signed": int(rng.integers(2))}
        acc, bits = rng.bytes(128), 64 if op == Mac.I16X16 else 32
        total = 0
        for lane, product in enumerate(products(op, a, b, **signs)):
            before = 0 if clear else number(acc, lane, bits // 8, 0)
            total |= (before + product) % (1 << bits) << bits * lane
        operands = {"a": int.from_bytes(a, "little"), "b": int.from_bytes(b, "little")}
        yield {"op": op.value, "clear": clear, **operands, **signs}, int.from_bytes(acc, "little"), total


def mismatches(seed: int, count: int) -> int:
    dut, wrong = VectorMac(), 0

    async def bench(ctx):
        nonlocal wrong
        rng, given = np.random.default_rng(seed), list(cases(seed, count))
        for now in range(count + TO_RESULT):
            if now < count:
                for name, value in given[now][0].items():
                    ctx.set(getattr(dut, name), value)
            if 0 <= now - TO_ACC < count:
                ctx.set(dut.acc, given[now - TO_ACC][1])
            if now >= TO_RESULT:
                wrong += ctx.get(dut.result) != given[now - TO_RESULT][2]
            while rng.random() < 0.3:  # a stall: nothing may move
                ctx.set(dut.en, 0)
                await ctx.tick()
            ctx.set(dut.en, 1)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return wrong


def test_all_shapes_and_signs():
    assert mismatches(1, 150) == 0


def _exchanged(a, b, lane):
    return ORIGINAL_OPERANDS(a, b, lane ^ 4)


def _unsigned(self, m, name, value, sign):
    return ORIGINAL_OPERAND(self, m, name, value, sign & (name != "a7"))


def _no_carry(terms):
    return ORIGINAL_TREE(terms)[:17].as_signed()


ORIGINAL_OPERANDS, ORIGINAL_OPERAND, ORIGINAL_TREE = vmac._operands, DotLane._operand, vmac._tree
PLANTED = {
    "rows are exchanged": (vmac, "_operands", _exchanged),
    "one operand has no sign": (DotLane, "_operand", _unsigned),
    "a sum is two bits short": (vmac, "_tree", _no_carry),
    "a lane is both parts of b": (DotLane, "part", 0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_seen(monkeypatch, name):
    if name == "a lane is both parts of b":
        monkeypatch.setattr(DotLane, "part", property(lambda self: 0, lambda self, value: None), raising=False)
    else:
        monkeypatch.setattr(*PLANTED[name])
    assert mismatches(2, 30) > 0
