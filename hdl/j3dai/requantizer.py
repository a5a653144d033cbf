# SPDX-License-Identifier: Apache-2.0
"""The requantizer: 32-bit accumulators in, one partial product a cycle, 8-bit results out; shared by some NCBs."""

import enum
from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.isa import KEPT_BITS, NARROW_M_BITS, NARROW_X_BITS, RequantRecord
from nncosim.hdl.logic import pick, register
from nncosim.platforms.rounding import Rounding

__all__ = [
    "HIGH_SHIFT", "REQUANT_STAGES", "SHIFTS", "MSlice", "Requantizer", "XSlice", "requant_control",
]  # fmt: skip

REQUANT_STAGES = 6
"""The last partial product of an accumulator, begun in cycle t (stage 0), gives `q` in cycle t + 6."""

X_LOW, M_LOW = KEPT_BITS, NARROW_M_BITS - 1
"""Bits of the low part of an operand that is taken in two parts."""


class XSlice(enum.IntEnum):
    """Which part of an accumulator is multiplied."""

    NARROW = 0  # its low 19 bits, signed
    LOW = 1  # its low 16 bits, unsigned
    HIGH = 2  # its high 16 bits, signed: of a wide one, or the one kept for a pair
    PAIR = 3  # its low 16 bits, signed: the second of a pair


class MSlice(enum.IntEnum):
    """Which part of m it is multiplied by."""

    NARROW = 0  # its low 25 bits, signed
    LOW = 1  # its low 24 bits, unsigned
    HIGH = 2  # its high 8 bits, signed


SHIFTS = (0, X_LOW, M_LOW, X_LOW + M_LOW)
"""By how much a partial product is shifted before it is added: `shift2` is the index."""
HIGH_SHIFT = 2
"""Index in SHIFTS of the high part of m, to be added to that of a wide accumulator's high part, 1."""


def requant_control(ncbs: int) -> dict[str, wiring.Member]:
    """Ports that all requantizers of a cluster share; the suffix is the pipeline stage.

    x0, m0: which slices are multiplied (`XSlice`, `MSlice`). first2: the sum begins, with c. shift2: index into
    `SHIFTS`. owner0 ... owner5, pset0 ... pset5: which NCB's record, of which set, is used in the stage (0: m, 2: c and
    s, 4: rounding and wrap, 5: lo and hi).
    """
    which = max(1, (ncbs - 1).bit_length())
    stages = (0, 2, 4, 5)
    return {
        "x0": In(XSlice), "m0": In(MSlice), "first2": In(1), "shift2": In(2),
        **{f"owner{k}": In(which) for k in stages}, **{f"pset{k}": In(1) for k in stages},
    }


class Requantizer(wiring.Component):
    """q = clip(round_shift(x * m + c, s), lo, hi), for `ncbs` NCBs in turn, with two parameter sets each.

    Stages: 0 slices of the operands, 1 multiply, 2 shift and add (c, or the sum so far), 3 shift right by whole bytes,
    4 by the rest, rounding decision, saturation to 10 bits, 5 increment and clip. The sum of products is complete
    with its last one; results of the others are nonsense that nobody collects. So no register but the sets has an
    enable: while nothing drains, the operands rest.

    Ports: `requant_control`; x (In, signed 32, one an NCB) in stage 0; param_we (In, 2 an NCB: one bit a set) writes
    param_data (In, 128 an NCB: a `RequantRecord`); q (Out, 8), registered.

    Args:
        ncbs: NCBs that share it.
    """

    def __init__(self, ncbs: int = 1):
        self.ncbs = ncbs
        super().__init__({
            **requant_control(ncbs),
            "x": In(signed(32)).array(ncbs),
            "param_we": In(2).array(ncbs),
            "param_data": In(128).array(ncbs),
            "q": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._sets = [[register(RequantRecord, name=f"ncb{n}_set{k}") for k in range(2)] for n in range(self.ncbs)]
        for n, sets in enumerate(self._sets):
            for k, record in enumerate(sets):
                with m.If(self.param_we[n][k]):
                    m.d.sync += record.as_value().eq(self.param_data[n])
        total_q3 = self._multiply_add(m)
        self._round_clip(m, *self._shift(m, total_q3))
        return m

    def _param(self, stage: int, name: str) -> Value:
        """The field of the record used by what is in `stage`."""
        pset = getattr(self, f"pset{stage}")
        return self._of_ncb([Mux(pset, getattr(sets[1], name), getattr(sets[0], name)) for sets in self._sets], stage)

    def _of_ncb(self, values: list[Value], stage: int) -> Value:
        """Of a value an NCB, that of the NCB in `stage`."""
        return pick(values, getattr(self, f"owner{stage}")) if self.ncbs > 1 else values[0]

    def _multiply_add(self, m: Module) -> Signal:
        """Stages 0 to 2: the sum so far, a signed 64-bit register of stage 3."""
        x, factor = Signal(32, name="x"), Signal(32, name="m")
        m.d.comb += [x.eq(self._of_ncb([self.x[n] for n in range(self.ncbs)], 0)), factor.eq(self._param(0, "m"))]
        x_q1, m_q1 = register(signed(NARROW_X_BITS), name="x_q1"), register(signed(NARROW_M_BITS), name="m_q1")
        m.d.sync += [
            x_q1.eq(Cat(Mux(self.x0 == XSlice.HIGH, x[X_LOW:], x[:X_LOW]), pick(
                [x[X_LOW:NARROW_X_BITS], Const(0, 3), x[31].replicate(3), x[15].replicate(3)], self.x0))),
            m_q1.eq(Cat(Mux(self.m0 == MSlice.HIGH, factor[M_LOW:].as_signed(), factor[:M_LOW])[:M_LOW], pick(
                [factor[M_LOW], Const(0, 1), factor[31], factor[31]], self.m0))),
        ]
        product_q2 = register(signed(NARROW_X_BITS + NARROW_M_BITS))
        m.d.sync += product_q2.eq(x_q1 * m_q1)
        part, before, total_q3 = (
            Signal(signed(64), name="part"), Signal(signed(64), name="before"), register(signed(64), name="total_q3"))
        m.d.comb += [
            part.eq(pick([(product_q2 << shift)[:64] if shift else product_q2 for shift in SHIFTS], self.shift2)),
            before.eq(Mux(self.first2, self._param(2, "c"), total_q3)),
        ]
        m.d.sync += total_q3.eq(before + part)
        return total_q3

    def _shift(self, m: Module, total_q3: Signal) -> tuple[Signal, ...]:
        """Stage 3: shift right by whole bytes.

        Returns the low 17 bits, the sign, whether all bits above are the sign, the first dropped bit, whether any other
        dropped bit is set, and by how much more to shift.
        """
        s_q3 = register(6)
        s = self._param(2, "s")
        m.d.sync += s_q3.eq(Cat(s[0] & ~s.all(), s[1:]))  # 63 acts as 62
        by = s_q3[3:]
        extended = Cat(total_q3, total_q3[63].replicate(16))
        other = Signal(64)  # bits that are not the sign
        m.d.comb += other.eq(total_q3 ^ total_q3[63].replicate(64))
        low_q4, sign_q4, fits_q4, guard_q4, sticky_q4, rest_q4 = (
            register(width, name=f"{name}_q4") for name, width in (
                ("low", 17), ("sign", 1), ("fits", 1), ("guard", 1), ("sticky", 1), ("rest", 3)))
        m.d.sync += [
            low_q4.eq(pick([extended[8 * k:8 * k + 17] for k in range(8)], by)), sign_q4.eq(total_q3[63]),
            fits_q4.eq(~pick([other[8 * k + 16:].any() if k < 6 else Const(0, 1) for k in range(8)], by)),
            guard_q4.eq(pick([Const(0, 1), *(total_q3[8 * k - 1] for k in range(1, 8))], by)),
            sticky_q4.eq(pick([Const(0, 1), *(total_q3[:8 * k - 1].any() for k in range(1, 8))], by)),
            rest_q4.eq(s_q3[:3]),
        ]
        return low_q4, sign_q4, fits_q4, guard_q4, sticky_q4, rest_q4

    def _round_clip(self, m: Module, low: Signal, negative: Signal, fits: Signal, guard: Signal, sticky: Signal,
                    rest: Signal) -> None:
        """Stages 4 and 5. Ten bits suffice before the clip: lo and hi have nine, and rounding adds at most 1."""
        def shifted(bits: Callable[[int], Value]) -> Value:
            return pick([bits(j) for j in range(8)], rest)

        floor, tie, above, inexact = Signal(10, name="floor"), Signal(), Signal(), Signal()
        first, others = Signal(name="first"), Signal(name="others")
        m.d.comb += [
            floor.eq(shifted(lambda j: low[j:j + 10])),
            first.eq(shifted(lambda j: low[j - 1] if j else guard)),
            others.eq(sticky | shifted(lambda j: Cat(guard, low[:j - 1]).any() if j else Const(0, 1))),
            tie.eq(first & ~others), above.eq(first & others), inexact.eq(first | others),
        ]
        rules = {
            Rounding.FLOOR: Const(0, 1), Rounding.CEIL: inexact, Rounding.TOWARD_ZERO: inexact & negative,
            Rounding.AWAY: inexact & ~negative, Rounding.HALF_UP: above | tie,
            Rounding.HALF_EVEN: above | tie & floor[0], Rounding.HALF_AWAY: above | tie & ~negative,
            Rounding.HALF_TOWARD_ZERO: above | tie & negative,
        }
        up_q5, small_q5, wrap_q5 = (
            register(name="up_q5"), register(signed(10), name="small_q5"), register(name="wrap_q5"))
        wrap = self._param(4, "wrap")
        with m.Switch(self._param(4, "rounding")):
            for rounding, rule in rules.items():
                with m.Case(int(rounding)):
                    m.d.sync += up_q5.eq(rule)
        ten = fits & shifted(lambda j: low[j + 9:].all() | ~low[j + 9:].any())
        limit = Cat((~negative).replicate(9), negative)
        m.d.sync += [small_q5.eq(Mux(ten | wrap, floor, limit)), wrap_q5.eq(wrap)]
        lo, hi = self._param(5, "lo"), self._param(5, "hi")
        rounded = Signal(signed(11))
        m.d.comb += rounded.eq(small_q5 + up_q5)
        clipped = Mux((rounded > hi) | (lo > hi), hi, Mux(rounded < lo, lo, rounded))
        m.d.sync += self.q.eq(Mux(wrap_q5, rounded, clipped))
