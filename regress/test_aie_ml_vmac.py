# SPDX-License-Identifier: Apache-2.0
"""The vector unit against Python's integers: all shapes, all signs, extremes, with stalls."""

import itertools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nncosim.hdl.aie_ml import vmac
from nncosim.hdl.aie_ml.isa import Mac
from nncosim.regress.block_bench import simulate
from nncosim.regress.planted import planted, some

TO_RESULT, TO_ACC = 4, 2
"""Enabled cycles from an operation's operands to its result, and to its accumulator."""
OPERANDS = {"op": 2, "a": 256, "b": 512, "a_signed": 1, "b_signed": 1, "clear": 1}
"""Ports of an operation's first cycle, and their bits."""
ROUNDS = 8


def number(data: bytes, at: int, width: int, signed: int) -> int:
    return int.from_bytes(data[at * width:(at + 1) * width], "little", signed=bool(signed))


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


def operand(rng: np.random.Generator, size: int) -> bytes:
    """The extremes of each shape throughout, bytes near them, anything."""
    kind = int(rng.integers(3))
    if kind == 0:
        return bytes.fromhex(str(rng.choice(["ffff", "8080", "7f7f", "0080", "ff7f", "00ff", "0100"]))) * (size // 2)
    return bytes(rng.choice([0, 1, 127, 128, 129, 255], size)) if kind == 1 else rng.bytes(size)


def accumulator(rng: np.random.Generator, width: int) -> bytes:
    """Sums of `width` bytes: at either end of the range, near 0, anything."""
    ends = [bytes(width), b"\xff" * width, b"\xff" * (width - 1) + b"\x7f", bytes(width - 1) + b"\x80"]
    return b"".join(ends[int(rng.integers(4))] if rng.random() < 0.5 else rng.bytes(width) for _ in range(128 // width))


def cases(rng: np.random.Generator) -> Iterator[tuple[dict[str, int], int, int]]:
    """Every shape with every sign, cleared or not, some times, in any order: inputs, accumulator, result."""
    every = list(itertools.product(list(Mac)[1:], *[(0, 1)] * 3)) * ROUNDS
    for which in rng.permutation(len(every)):
        op, clear, a_signed, b_signed = every[which]
        width = 8 if op == Mac.I16X16 else 4
        a, b, acc = operand(rng, 32), operand(rng, 64), accumulator(rng, width)
        total = 0
        for lane, product in enumerate(products(op, a, b, a_signed, b_signed)):
            before = 0 if clear else number(acc, lane, width, 0)
            total |= (before + product) % (1 << 8 * width) << 8 * width * lane
        yield {"op": op.value, "clear": clear, "a_signed": a_signed, "b_signed": b_signed,
               "a": int.from_bytes(a, "little"), "b": int.from_bytes(b, "little")
               }, int.from_bytes(acc, "little"), total  # fmt: skip


def noise(rng: np.random.Generator) -> dict[str, int]:
    return {name: int.from_bytes(rng.bytes(64), "little") % 2**bits for name, bits in OPERANDS.items()}


def mismatch(module: ModuleType, seed: int) -> str | None:
    """The first wrong result. In cycles without `en` anything stands at the ports, and the result holds."""
    dut, found = module.VectorMac(), None

    async def bench(ctx: Any) -> None:
        nonlocal found
        rng = np.random.default_rng(seed)
        given = list(cases(rng))
        at = 0  # operations taken
        while at < len(given) + TO_RESULT - 1:
            enabled = rng.random() < 0.7
            for name, value in (given[at][0] if enabled and at < len(given) else noise(rng)).items():
                ctx.set(getattr(dut, name), value)
            meant = enabled and 0 <= at - TO_ACC < len(given)
            ctx.set(dut.acc, given[at - TO_ACC][1] if meant else int.from_bytes(rng.bytes(128), "little"))
            ctx.set(dut.en, enabled)
            await ctx.tick()
            at += enabled
            if at >= TO_RESULT and (got := ctx.get(dut.result)) != (want := given[at - TO_RESULT])[2]:
                found = f"{want[0]}, acc {want[1]:x}, {enabled=}: expected {want[2]:0256x}, got {got:0256x}"
                return

    simulate(dut, bench)
    return found


def test_all_shapes_and_signs() -> None:
    assert (wrong := mismatch(vmac, 1)) is None, wrong


PLANTED = {
    "rows are exchanged": ("divmod(lane // 4, gen", "divmod(lane // 4 ^ 1, gen"),
    "a sum is a bit short": ('"dot": Out(signed(32))', '"dot": Out(signed(26))'),
    "the parts do not carry": ("acc.word_select(k, 64) + held[2 * k]", "acc.word_select(k, 64) + held[2 * k][:24]"),
    "the accumulator is a cycle late": ("acc.word_select(k, 32) + held[k]", "self.acc.word_select(k, 32) + held[k]"),
    "the result does not hold": ("m.If(self.en):\n            m.d.sync += self.result",
                                 "m.If(1):\n            m.d.sync += self.result"),
    "a low byte has a sign": ("(self.op == Mac.I8X8) | high)", "(self.op != Mac.I16X16) | high)"),
    "a lane is both parts of b": ("(wide_column * 4 + k) + part", "(wide_column * 4 + k)"),
    "a cleared accumulator counts": ("Mux(clear, 0, self.acc)", "self.acc"),
    "an operand does not hold": ("m.If(self.en):\n            m.d.sync += held",
                                 "m.If(1):\n            m.d.sync += held"),
}  # fmt: skip


@pytest.mark.parametrize("name", some(PLANTED, 5))
def test_a_planted_bug_is_seen(name: str) -> None:
    assert mismatch(planted(vmac, *PLANTED[name]), 2)
