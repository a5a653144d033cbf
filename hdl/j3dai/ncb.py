# SPDX-License-Identifier: Apache-2.0
"""Neural compute block: its PEs (one output channel, a pixel each), and their requantizer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.operands import pick, register
from nncosim.hdl.j3dai.requantizer import Requantizer, requant_control

__all__ = ["Ncb", "ncb_control"]


def ncb_control(pes: int) -> dict[str, wiring.Member]:
    """Ports that all NCBs of a cluster share; the suffix is the pipeline stage (micro-operation issue is 0).

    common_s3: the 9-bit operands of the selected lane, PE p at bits 9p. sext_s3, one_s3: how PE p's own byte
    becomes an operand: bit 8 is (byte[7] & sext) | one. own_s3: take the own byte (depthwise).
    weighted_s3: multiply by the weight, else by 1. en_s3, en_s4: a micro-operation is in the stage.
    first_s5, max_s5: replace the accumulator, keep the greater. copy_s6: accumulators to the shadow
    registers. q_pixel0: which of them goes to the requantizer. The rest: `requant_control`.
    """
    return {
        "common_s3": In(9 * pes), "sext_s3": In(pes), "one_s3": In(pes), "own_s3": In(1), "weighted_s3": In(1),
        "en_s3": In(1), "en_s4": In(1), "first_s5": In(1), "max_s5": In(1), "copy_s6": In(1),
        "q_pixel0": In((pes - 1).bit_length()), **requant_control(pes),
    }


class Ncb(wiring.Component):
    """Multiply-accumulators of one output channel, shadow registers, one requantizer.

    Stages: 3 operand selection, 4 multiply, 5 accumulate, 6 copy to the shadow registers; a PE p's accumulator is in
    requantizer stage 0 in cycle 7 + p. So the next job accumulates while this one drains.

    Ports: `ncb_control`; bytes_s3 (In, 8 a PE): byte p of the window's word p that belongs to this channel;
    weight_s3 (In, 8); en_s5 (In, 1): accumulate; param_we (In, 2), param_data (In, 128); q (Out, 8).

    Args:
        pes: PEs.
    """

    def __init__(self, pes: int):
        self.pes = pes
        super().__init__({
            **ncb_control(pes),
            "bytes_s3": In(8 * pes), "weight_s3": In(8), "en_s5": In(1),
            "param_we": In(2), "param_data": In(128), "q": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        requantizer = m.submodules.requantizer = Requantizer(self.pes)
        for name in [*requant_control(self.pes), "param_we", "param_data"]:
            m.d.comb += getattr(requantizer, name).eq(getattr(self, name))
        m.d.comb += self.q.eq(requantizer.q)
        w_s4 = register(signed(8))
        with m.If(self.en_s3):
            m.d.sync += w_s4.eq(Mux(self.weighted_s3, self.weight_s3, 1))
        shadow = [self._pe(m, p, w_s4) for p in range(self.pes)]
        m.d.comb += requantizer.x.eq(pick(shadow, self.q_pixel0))
        return m

    def _pe(self, m: Module, p: int, w_s4: Signal) -> Signal:
        """PE number p: its shadow register."""
        a_s4 = register(signed(9), name=f"pe{p}_a_s4")
        product_s5 = register(signed(17), name=f"pe{p}_product_s5")
        acc_s6 = register(signed(32), name=f"pe{p}_acc_s6")
        shadow_s7 = register(signed(32), name=f"pe{p}_shadow_s7")
        own = self.bytes_s3[8 * p:8 * p + 8]
        own = Cat(own, (own[7] & self.sext_s3[p]) | self.one_s3[p])
        with m.If(self.en_s3):
            m.d.sync += a_s4.eq(Mux(self.own_s3, own, self.common_s3[9 * p:9 * p + 9]))
        with m.If(self.en_s4):
            m.d.sync += product_s5.eq(a_s4 * w_s4)
        # One adder for all: a maximum that is replaced is 0 + the operand.
        replaces = self.first_s5 | self.max_s5
        keeps = self.max_s5 & ~self.first_s5 & (product_s5 <= acc_s6)
        with m.If(self.en_s5 & ~keeps):
            m.d.sync += acc_s6.eq(Mux(replaces, Const(0, signed(32)), acc_s6) + product_s5)
        with m.If(self.copy_s6):
            m.d.sync += shadow_s7.eq(acc_s6)
        return shadow_s7
