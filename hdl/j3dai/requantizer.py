# SPDX-License-Identifier: Apache-2.0
"""The requantizer of an NCB: one 32-bit accumulator a cycle in, one 8-bit result a cycle out."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.compiler.arithmetic import Rounding
from nncosim.hdl.j3dai.isa import RequantRecord
from nncosim.hdl.j3dai.operands import pick, register

__all__ = ["REQUANT_STAGES", "Requantizer", "requant_control"]

REQUANT_STAGES = 9
"""An accumulator at `x` in cycle t (stage 0) gives `q` in cycle t + 9."""


def requant_control(pes: int) -> dict[str, wiring.Member]:
    """Ports that all requantizers of a cluster share; bit or suffix k belongs to pipeline stage k.

    q_en: stage k holds an accumulator. q_pset: its parameter set. q_pixel3, q_pixel5: its PE in
    stages 3 and 5. q_add3: the PE's wide register takes the place of c. q_keep5: the sum goes to it.
    """
    pixel = (pes - 1).bit_length()
    return {
        "q_en": In(REQUANT_STAGES), "q_pset": In(REQUANT_STAGES),
        "q_pixel3": In(pixel), "q_pixel5": In(pixel), "q_add3": In(1), "q_keep5": In(1),
    }


def _below_guard(shift: int) -> Const:
    """Mask of the bits that a shift drops, without the last of them."""
    return Const((1 << shift >> 1) - 1 if shift else 0, 64)


class Requantizer(wiring.Component):
    """q = clip(round_shift(x * m + c, s), lo, hi), with two parameter sets and a wide register a PE.

    Stages: 0 operands, 1 four 32 x 8 partial products, 2 and 3 their sum, 4 plus c or t, 5 and 6 shift
    right keeping guard and sticky bit, 7 rounding decision and saturation to 10 bits, 8 increment and clip.
    An adder of 64 bits and a multiplier of 32 x 8 bits are what fits one cycle.

    Ports: `requant_control`; x (In, signed 32) in stage 0; param_we (In, 2: one bit a set) writes
    param_data (In, 128: a `RequantRecord`); q (Out, 8), registered.

    Args:
        pes: PEs of the NCB.
    """

    def __init__(self, pes: int):
        self.pes = pes
        super().__init__({
            **requant_control(pes),
            "x": In(signed(32)),
            "param_we": In(2),
            "param_data": In(128),
            "q": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._sets = [register(RequantRecord, name=f"set{k}") for k in range(2)]
        for k, record in enumerate(self._sets):
            with m.If(self.param_we[k]):
                m.d.sync += record.as_value().eq(self.param_data)
        total = self._multiply_add(m)
        floor, guard, sticky = self._shift(m, total)
        self._round_clip(m, floor, guard, sticky)
        return m

    def _param(self, stage: int, name: str) -> Value:
        """The field of the set used by what is in `stage`."""
        return Mux(self.q_pset[stage], getattr(self._sets[1], name), getattr(self._sets[0], name))

    def _multiply_add(self, m: Module) -> Signal:
        """Stages 0 to 4: x * m + (c or t), a signed 64-bit register of stage 5."""
        x_q1, m_q1 = register(signed(32), name="x_q1"), register(signed(32), name="m_q1")
        with m.If(self.q_en[0]):
            m.d.sync += [x_q1.eq(self.x), m_q1.eq(self._param(0, "m"))]
        part_q2 = [register(signed(40), name=f"part{i}_q2") for i in range(4)]
        with m.If(self.q_en[1]):
            for i in range(3):
                m.d.sync += part_q2[i].eq(x_q1 * m_q1[8 * i:8 * i + 8])
            m.d.sync += part_q2[3].eq(x_q1 * m_q1[24:].as_signed())
        # Sums of shifted numbers: the low bits of the unshifted one pass, so the adders are 41 and 48 bits wide.
        low_q3, high_q3 = register(signed(48), name="low_q3"), register(signed(48), name="high_q3")
        with m.If(self.q_en[2]):
            for target, low, high in ((low_q3, part_q2[0], part_q2[1]), (high_q3, part_q2[2], part_q2[3])):
                m.d.sync += target.eq(Cat(low[:8], (low[8:].as_signed() + high)[:40]))
        product_q4, addend_q4 = register(signed(64), name="product_q4"), register(signed(64), name="addend_q4")
        wide = [register(signed(64), name=f"t{p}") for p in range(self.pes)]
        kept = Signal(64)
        m.d.comb += kept.eq(pick(wide, self.q_pixel3))
        with m.If(self.q_en[3]):
            m.d.sync += [
                product_q4.eq(Cat(low_q3[:16], (low_q3[16:].as_signed() + high_q3)[:48])),
                addend_q4.eq(Mux(self.q_add3, kept, self._param(3, "c"))),
            ]
        total_q5 = register(signed(64))
        with m.If(self.q_en[4]):
            m.d.sync += total_q5.eq(product_q4 + addend_q4)
        with m.If(self.q_en[5] & self.q_keep5):
            with m.Switch(self.q_pixel5):
                for p in range(self.pes):
                    with m.Case(p):
                        m.d.sync += wide[p].eq(total_q5)
        return total_q5

    def _shift(self, m: Module, total_q5: Signal) -> tuple[Signal, Signal, Signal]:
        """Stages 5 and 6: floor(total / 2**s), the first dropped bit, and whether any other dropped bit is set."""
        s_q5, s_q6 = register(6, name="s_q5"), register(3, name="s_q6")
        with m.If(self.q_en[4]):
            s = self._param(4, "s")
            m.d.sync += s_q5.eq(Cat(s[0] & ~s.all(), s[1:]))  # 63 acts as 62
        coarse_q6, guard_q6, sticky_q6 = (
            register(signed(64), name="coarse_q6"), register(name="guard_q6"), register(name="sticky_q6"))
        with m.If(self.q_en[5]):
            by = s_q5[3:]
            m.d.sync += [
                coarse_q6.eq(total_q5 >> Cat(Const(0, 3), by)), s_q6.eq(s_q5[:3]),
                guard_q6.eq(pick([Const(0, 1), *(total_q5[8 * k - 1] for k in range(1, 8))], by)),
                sticky_q6.eq((total_q5 & pick([_below_guard(8 * k) for k in range(8)], by)) != 0),
            ]
        floor_q7, guard_q7, sticky_q7 = (
            register(signed(64), name="floor_q7"), register(name="guard_q7"), register(name="sticky_q7"))
        with m.If(self.q_en[6]):
            rest = coarse_q6[:8] & pick([_below_guard(j) for j in range(8)], s_q6)
            m.d.sync += [
                floor_q7.eq(coarse_q6 >> s_q6),
                guard_q7.eq(pick([guard_q6, *(coarse_q6[j - 1] for j in range(1, 8))], s_q6)),
                sticky_q7.eq(sticky_q6 | (guard_q6 & (s_q6 != 0)) | (rest != 0)),
            ]
        return floor_q7, guard_q7, sticky_q7

    def _round_clip(self, m: Module, floor_q7: Signal, guard_q7: Signal, sticky_q7: Signal) -> None:
        """Stages 7 and 8. Ten bits suffice before the clip: lo and hi have nine, and rounding adds at most 1."""
        mode_q7, wrap_q7, wrap_q8 = register(3, name="mode_q7"), register(name="wrap_q7"), register(name="wrap_q8")
        with m.If(self.q_en[6]):
            m.d.sync += [mode_q7.eq(self._param(6, "rounding")), wrap_q7.eq(self._param(6, "wrap"))]
        negative, odd = floor_q7[63], floor_q7[0]
        tie = guard_q7 & ~sticky_q7
        above = guard_q7 & sticky_q7
        inexact = guard_q7 | sticky_q7
        rules = {
            Rounding.FLOOR: Const(0, 1), Rounding.CEIL: inexact, Rounding.TOWARD_ZERO: inexact & negative,
            Rounding.AWAY: inexact & ~negative, Rounding.HALF_UP: above | tie, Rounding.HALF_EVEN: above | tie & odd,
            Rounding.HALF_AWAY: above | tie & ~negative, Rounding.HALF_TOWARD_ZERO: above | tie & negative,
        }
        up = Signal()
        with m.Switch(mode_q7):
            for rounding, rule in rules.items():
                with m.Case(int(rounding)):
                    m.d.comb += up.eq(rule)
        fits = floor_q7[9:].all() | ~floor_q7[9:].any()
        limit = Cat((~negative).replicate(9), negative).as_signed()
        small_q8, up_q8, lo_q8, hi_q8 = (
            register(signed(10), name="small_q8"), register(name="up_q8"), register(signed(9), name="lo_q8"),
            register(signed(9), name="hi_q8"))
        with m.If(self.q_en[7]):
            m.d.sync += [
                small_q8.eq(Mux(fits | wrap_q7, floor_q7[:10].as_signed(), limit)), up_q8.eq(up),
                lo_q8.eq(self._param(7, "lo")), hi_q8.eq(self._param(7, "hi")), wrap_q8.eq(wrap_q7),
            ]
        rounded = Signal(signed(11))
        m.d.comb += rounded.eq(small_q8 + up_q8)
        with m.If(self.q_en[8]):
            clipped = Mux((rounded > hi_q8) | (lo_q8 > hi_q8), hi_q8, Mux(rounded < lo_q8, lo_q8, rounded))
            m.d.sync += self.q.eq(Mux(wrap_q8, rounded, clipped))
