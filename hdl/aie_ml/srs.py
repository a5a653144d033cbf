# SPDX-License-Identifier: Apache-2.0
"""Shift, round, saturate: from sums to results, a beat at a time."""

import enum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import Form
from nncosim.hdl.emit import Block
from nncosim.hdl.logic import register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["SRS_STAGES", "RoundingCode", "Saturation", "ShiftRoundSaturate", "SrsUnit"]

SRS_STAGES = 3


class RoundingCode(enum.IntEnum):
    """AIE-ML's register codes (UG1583). HALF_x: to nearest, ties to x."""

    FLOOR = 0
    CEIL = 1
    TOWARD_ZERO = 2
    AWAY = 3
    HALF_DOWN = 8
    HALF_UP = 9
    HALF_TOWARD_ZERO = 10
    HALF_AWAY = 11
    HALF_EVEN = 12
    HALF_ODD = 13


class Saturation(enum.IntEnum):
    """NONE wraps."""

    NONE = 0
    SATURATE = 1
    SYMMETRIC = 2


class SrsUnit(wiring.Component):
    """One sum: shifted, rounded and clipped, `SRS_STAGES` - 1 registers behind each other and one in the parent.

    Ports:
        en, source (In, signed `bits`), shift, rounding (In): in cycle t; saturation, signed (In): in cycle t + 2.
        eight, sixteen, thirty_two (Out): the result for each width, in cycle t + 2.

    Args:
        bits: of the sum, 64 or 32.
    """

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__({
            "en": In(1), "source": In(signed(bits)), "shift": In(6), "rounding": In(4), "saturation": In(2),
            "signed": In(1), "eight": Out(8), "sixteen": Out(16), "thirty_two": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.bits
        lost, mask = Signal(bits, name="lost"), Signal(64, name="mask")
        floor, half, rest = register(signed(bits), "floor"), register(1, "half"), register(1, "rest")
        rounding = register(4, "rounding_q")
        m.d.comb += [mask.eq((Const(1, 64) << self.shift) - 1), lost.eq(self.source & (mask >> 1)[:bits])]
        rounded = register(signed(bits + 1), "rounded")
        with m.If(self.en):
            m.d.sync += [
                floor.eq(self.source >> self.shift), rest.eq(lost.any()), rounding.eq(self.rounding),
                half.eq((Cat(Const(0, 1), self.source).as_signed() >> self.shift)[0]),
                rounded.eq(floor + _up(m, rounding, floor, half, rest)),
            ]
        for name, width in (("eight", 8), ("sixteen", 16), ("thirty_two", 32)):
            m.d.comb += getattr(self, name).eq(self._clip(rounded, width))
        return m

    def _clip(self, value: Value, bits: int) -> Value:
        most, symmetric = (1 << bits - 1) - 1, self.saturation == Saturation.SYMMETRIC
        high = Mux(self.signed, Const(most, bits + 1), Const((1 << bits) - 1, bits + 1))
        least = Mux(symmetric, Const(-most, signed(bits + 1)), Const(-most - 1, signed(bits + 1)))
        low = Mux(self.signed, least, 0)
        clipped = Mux(value > high, high, Mux(value < low, low, value))
        return Mux(self.saturation == Saturation.NONE, value, clipped)[:bits]


class ShiftRoundSaturate(wiring.Component):
    """A unit for each sum of 32 bits; half of them, the first ones, take sums of 64 bits. What goes in with `en` is in
    `result` `SRS_STAGES` such cycles later.

    Ports:
        en (In): the stages advance. acc (In, an accumulator), form, half, shift, rounding, saturation, signed (In): as
        in `MANUAL.md`. result (Out, a vector, registered).
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.generation = generation
        super().__init__({
            "en": In(1), "acc": In(generation.acc_bits), "form": In(Form), "half": In(1), "shift": In(6),
            "rounding": In(4), "saturation": In(2), "signed": In(1), "result": Out(generation.beat_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        form = [self.form, *(Signal(Form, name=f"form{k}", reset_less=True) for k in (1, 2))]
        saturation = [self.saturation, *(register(2, f"saturation{k}") for k in (1, 2))]
        is_signed = [self.signed, *(register(1, f"signed{k}") for k in (1, 2))]
        with m.If(self.en):
            for stages in (form, saturation, is_signed):
                m.d.sync += [stages[k + 1].eq(stages[k]) for k in range(2)]
        count, half = self.generation.sums, self.generation.sums // 2
        units = [Block(SrsUnit(64), "aie_ml_srs64") if k < half else Block(SrsUnit(32), "aie_ml_srs32")
                 for k in range(count)]
        for number, unit in enumerate(units):
            m.submodules[f"unit{number}"] = unit
            m.d.comb += [
                unit.en.eq(self.en), unit.shift.eq(self.shift), unit.rounding.eq(self.rounding),
                unit.saturation.eq(saturation[2]), unit.signed.eq(is_signed[2]),
            ]
            self._source(m, number, unit.source)
        with m.If(self.en):
            with m.Switch(form[2]):
                with m.Case(Form.ACC32_8):
                    m.d.sync += self.result.eq(Cat(units[k].eight for k in self._order()))
                with m.Case(Form.ACC64_32):
                    m.d.sync += self.result.eq(Cat(unit.thirty_two for unit in units[:half // 2]))
                with m.Default():
                    m.d.sync += self.result.eq(Cat(unit.sixteen for unit in units[:half]))
        return m

    def _order(self) -> list[int]:
        """Of the bytes of a tile of results, which sum each is."""
        generation, order = self.generation, [0] * self.generation.sums
        for row in range(generation.rows):
            for column in range(8):
                order[generation.byte_at(row, column)] = generation.sum_at(row, column)
        return order

    def _source(self, m: Module, unit: int, source: Signal) -> None:
        """The sum that a unit gets: the first half of them serve halves, and sums of 64 bits."""
        acc, half, wide = self.acc, self.half, self.generation.sums // 2
        m.d.comb += source.eq(acc.word_select(unit, 32).as_signed())
        if unit >= wide:
            return
        with m.Switch(self.form):
            with m.Case(Form.ACC32_16):
                high = acc.word_select(wide + unit, 32)
                m.d.comb += source.eq(Mux(half, high, acc.word_select(unit, 32)).as_signed())
            with m.Case(Form.ACC64_16):
                m.d.comb += source.eq(acc.word_select(unit, 64))
            with m.Case(Form.ACC64_32):
                if unit < wide // 2:
                    m.d.comb += source.eq(Mux(half, acc.word_select(wide // 2 + unit, 64), acc.word_select(unit, 64)))


def _up(m: Module, rounding: Value, floor: Value, half: Value, rest: Value) -> Value:
    """Whether floor + 1 is the result. half: the highest bit that was dropped; rest: any below it."""
    up = Signal(name="up")
    negative, inexact = floor[-1], half | rest
    rules = {
        RoundingCode.CEIL: inexact, RoundingCode.TOWARD_ZERO: inexact & negative,
        RoundingCode.AWAY: inexact & ~negative, RoundingCode.HALF_DOWN: half & rest, RoundingCode.HALF_UP: half,
        RoundingCode.HALF_TOWARD_ZERO: half & (rest | negative), RoundingCode.HALF_AWAY: half & (rest | ~negative),
        RoundingCode.HALF_EVEN: half & (rest | floor[0]), RoundingCode.HALF_ODD: half & (rest | ~floor[0]),
    }
    with m.Switch(rounding):
        for code, rule in rules.items():
            with m.Case(code):
                m.d.comb += up.eq(rule)
    return up
