# SPDX-License-Identifier: Apache-2.0
"""The vector unit: 256 (AIE-MLv2: 512) multipliers of 9 x 9 bits, trees of adders, sums of 32 or 64 bits."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import Mac
from nncosim.hdl.emit import Block
from nncosim.hdl.logic import register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["TERMS", "DotLane", "VectorMac"]

TERMS = 8
"""Multipliers of a lane, of which there is one for each sum of 32 bits: 8 terms of a sum of bytes; 4 of 16 x 8 bits, in
two parts; of 16 x 16 bits, two lanes together have the 4 x 4 parts of a sum."""


class DotLane(wiring.Component):
    """The multipliers of a lane: `dot` is the registered sum of their products, of 32 bits, or half of one of 64.

    Ports:
        en, op, a_signed, b_signed (In), narrow_a, narrow_b, mixed_a, mixed_b, wide_a, wide_b (In, a byte for each
        multiplier, of 8 x 8, 16 x 8 and 16 x 16 bits): in cycle t. dot (Out, signed 32): in cycle t + 2.

    Args:
        part: of 16 x 16 bits, whether the lane has b's high bytes.
    """

    def __init__(self, part: int):
        self.part = part
        operands = {f"{kind}_{side}": In(8 * TERMS) for kind in ("narrow", "mixed", "wide") for side in "ab"}
        super().__init__({
            "en": In(1), "op": In(Mac), "a_signed": In(1), "b_signed": In(1), **operands, "dot": Out(signed(32)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        op = Signal(Mac, name="op_q", reset_less=True)
        with m.If(self.en):
            m.d.sync += op.eq(self.op)
        products = []
        for term in range(TERMS):
            high = bool(term % 2)  # of 16 bits: the low or the high byte of a
            a_sign = self.a_signed & ((self.op == Mac.I8X8) | high)
            b_sign = self.b_signed & ((self.op != Mac.I16X16) | bool(self.part))
            a = self._operand(m, f"a{term}", self._byte("a", term), a_sign)
            b = self._operand(m, f"b{term}", self._byte("b", term), b_sign)
            product = Signal(signed(18), name=f"product{term}")
            m.d.comb += product.eq(a * b)
            products.append(product)
        low, high_sum = _tree(products[0::2]), _tree(products[1::2])
        with m.If(self.en):
            m.d.sync += self.dot.eq(low + Mux(op == Mac.I8X8, high_sum, high_sum << 8))
        return m

    def _byte(self, side: str, term: int) -> Value:
        narrow, mixed, wide = (getattr(self, f"{kind}_{side}").word_select(term, 8)
                               for kind in ("narrow", "mixed", "wide"))
        return Mux(self.op == Mac.I8X8, narrow, Mux(self.op == Mac.I16X8, mixed, wide))

    def _operand(self, m: Module, name: str, value: Value, sign: Value) -> Signal:
        """A byte, extended by its sign bit where it has one, registered."""
        held = register(signed(9), name)
        with m.If(self.en):
            m.d.sync += held.eq(Cat(value, value[7] & sign).as_signed())
        return held


class VectorMac(wiring.Component):
    """One operation a cycle, all cycles counted with `en`.

    Ports:
        en, op, a (a vector), b (512), a_signed, b_signed, clear (In): in cycle t. acc (In): in cycle t + 2.
        result (Out, an accumulator, registered): acc (0 with `clear`) plus the products, in cycle t + 4.
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.generation = generation
        super().__init__({
            "en": In(1), "op": In(Mac), "a": In(generation.beat_bits), "b": In(512), "a_signed": In(1),
            "b_signed": In(1), "clear": In(1), "acc": In(generation.acc_bits), "result": Out(generation.acc_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        op = [self.op, *(Signal(Mac, name=f"op{k}", reset_less=True) for k in (1, 2, 3))]
        clear = [self.clear, *(register(1, f"clear{k}") for k in (1, 2))]
        with m.If(self.en):
            m.d.sync += [op[k + 1].eq(op[k]) for k in range(3)]
            m.d.sync += [clear[k + 1].eq(clear[k]) for k in range(2)]
        dots = [self._lane(m, lane) for lane in range(self.generation.sums)]
        self._accumulate(m, dots, op, clear[2])
        return m

    def _lane(self, m: Module, number: int) -> Value:
        """The sum of a lane's products."""
        part = number % 2
        lane = Block(DotLane(part), f"aie_ml_dot_lane{part}")
        m.submodules[f"lane{number}"] = lane
        m.d.comb += [getattr(lane, name).eq(getattr(self, name)) for name in ("en", "op", "a_signed", "b_signed")]
        for name, value in _operands(self.a, self.b, number, self.generation).items():
            m.d.comb += getattr(lane, name).eq(value)
        return lane.dot

    def _accumulate(self, m: Module, dots: list[Value], op: list[Signal], clear: Signal) -> None:
        lanes = self.generation.sums
        acc = register(self.generation.acc_bits, "acc_q")
        held = [register(signed(32), f"dot{k}_q") for k in range(lanes)]
        with m.If(self.en):
            m.d.sync += [acc.eq(Mux(clear, 0, self.acc)), *(q.eq(d) for q, d in zip(held, dots, strict=True))]
        narrow = [acc.word_select(k, 32) + held[k] for k in range(lanes)]
        wide = [acc.word_select(k, 64) + held[2 * k] + (held[2 * k + 1] << 8) for k in range(lanes // 2)]
        with m.If(self.en):
            m.d.sync += self.result.eq(
                Mux(op[3] == Mac.I16X16, Cat(each[:64] for each in wide), Cat(each[:32] for each in narrow)))


def _operands(a: Value, b: Value, lane: int, generation: Generation) -> dict[str, Value]:
    """The bytes that a lane multiplies, by kind."""
    half, row = divmod(lane // 4, generation.rows)
    column = half * 4 + lane % 4
    wide_lane, part = divmod(lane, 2)  # of 16 x 16 bits: this lane has the low or the high byte of b
    wide_row, wide_column = divmod(wide_lane, 4)
    terms = [(term, *divmod(term, 2)) for term in range(TERMS)]
    return {
        "narrow_a": Cat(a.word_select(generation.byte_at(row, term), 8) for term, _, _ in terms),
        "narrow_b": Cat(b.word_select(column * 8 + term, 8) for term, _, _ in terms),
        "mixed_a": Cat(a.word_select(2 * (row * 4 + k) + high, 8) for _, k, high in terms),
        "mixed_b": Cat(b.word_select(column * 4 + k, 8) for _, k, _ in terms),
        "wide_a": Cat(a.word_select(2 * (wide_row * 4 + k) + high, 8) for _, k, high in terms),
        "wide_b": Cat(b.word_select(2 * (wide_column * 4 + k) + part, 8) for _, k, _ in terms),
    }


def _tree(terms: list[Signal]) -> Value:
    """The sum of four, as a tree."""
    return (terms[0] + terms[1]) + (terms[2] + terms[3])
