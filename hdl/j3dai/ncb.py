# SPDX-License-Identifier: Apache-2.0
"""Neural compute blocks: each the PEs of one output channel; some of them with the requantizer that they share."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.emit import Block
from nncosim.hdl.j3dai.isa import KEPT_BITS, MAX_BITS
from nncosim.hdl.j3dai.requantizer import Requantizer, requant_control
from nncosim.hdl.logic import pick, register

__all__ = ["NCB_MODULE", "Ncb", "NcbGroup", "group_control", "ncb_control"]

NCB_MODULE = "j3dai_ncb"


def ncb_control(pes: int) -> dict[str, wiring.Member]:
    """Ports that all NCBs of a cluster share; the suffix is the pipeline stage (micro-operation issue is 0).

    common_s3: the 9-bit operands of the selected lane, PE p at bits 9p. sext_s3, one_s3: how PE p's own byte
    becomes an operand: bit 8 is (byte[7] & sext) | one. own_s3: take the own byte (depthwise).
    weighted_s3: multiply by the weight, else by 1.
    first_s5, max_s5: replace the accumulator, keep the greater. copy_s6: accumulators to the shadow registers; only
    their low halves with copy_low_s6; these to the high halves with copy_high_s6. pixel0: which of the shadow
    registers goes to the requantizer.
    """
    return {
        "common_s3": In(9 * pes), "sext_s3": In(pes), "one_s3": In(pes), "own_s3": In(1), "weighted_s3": In(1),
        "first_s5": In(1), "max_s5": In(1), "copy_s6": In(1), "copy_low_s6": In(1), "copy_high_s6": In(1),
        "pixel0": In((pes - 1).bit_length()),
    }


def group_control(pes: int, ncbs: int) -> dict[str, wiring.Member]:
    """Ports that all groups of `ncbs` NCBs of a cluster share."""
    return {**ncb_control(pes), **requant_control(ncbs)}


class Ncb(wiring.Component):
    """Multiply-accumulators of one output channel, and shadow registers.

    Stages: 3 operand selection, 4 multiply, 5 accumulate, 6 copy to the shadow registers, from where accumulators are
    read from cycle 7 on. So the next job accumulates while this one drains. Operands and products have no enables:
    what they hold without a micro-operation is not accumulated.

    Ports: `ncb_control`; bytes_s3 (In, 8 a PE): byte p of the window's word p that belongs to this channel;
    weight_s3 (In, 8); en_s5 (In, 1): accumulate; x (Out, signed 32): the shadow register of PE `pixel0`.

    Args:
        pes: PEs.
    """

    def __init__(self, pes: int):
        self.pes = pes
        super().__init__({
            **ncb_control(pes),
            "bytes_s3": In(8 * pes), "weight_s3": In(8), "en_s5": In(1), "x": Out(signed(32)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        w_s4 = register(signed(8))
        m.d.sync += w_s4.eq(Mux(self.weighted_s3, self.weight_s3, 1))
        shadow = [self._pe(m, p, w_s4) for p in range(self.pes)]
        m.d.comb += self.x.eq(pick(shadow, self.pixel0))
        return m

    def _pe(self, m: Module, p: int, w_s4: Signal) -> Signal:
        """PE number p: its shadow register."""
        a_s4 = register(signed(9), name=f"pe{p}_a_s4")
        product_s5 = register(signed(17), name=f"pe{p}_product_s5")
        acc_s6 = register(signed(32), name=f"pe{p}_acc_s6")
        shadow_s7 = register(signed(32), name=f"pe{p}_shadow_s7")
        own = self.bytes_s3[8 * p:8 * p + 8]
        own = Cat(own, (own[7] & self.sext_s3[p]) | self.one_s3[p])
        m.d.sync += [
            a_s4.eq(Mux(self.own_s3, own, self.common_s3[9 * p:9 * p + 9])),
            product_s5.eq(a_s4 * w_s4),
        ]
        # One adder for all: what is replaced is 0 + the operand, what stays is itself + 0. That takes less than an
        # enable, and so does comparing only the bits that a maximum has.
        greater, adds = Signal(name=f"pe{p}_greater"), Signal(name=f"pe{p}_adds")
        m.d.comb += [
            greater.eq(product_s5[:MAX_BITS].as_signed() > acc_s6[:MAX_BITS].as_signed()),
            adds.eq(self.en_s5 & (self.first_s5 | ~self.max_s5 | greater)),
        ]
        m.d.sync += acc_s6.eq(
            Mux(adds & (self.first_s5 | self.max_s5), Const(0, signed(32)), acc_s6)
            + Mux(adds, product_s5, Const(0, signed(17))))
        with m.If(self.copy_s6 | self.copy_low_s6):
            m.d.sync += shadow_s7[:KEPT_BITS].eq(acc_s6[:KEPT_BITS])
        with m.If(self.copy_s6 | self.copy_high_s6):
            m.d.sync += shadow_s7[KEPT_BITS:].eq(Mux(self.copy_s6, acc_s6[KEPT_BITS:], acc_s6[:KEPT_BITS]))
        return shadow_s7


class NcbGroup(wiring.Component):
    """NCBs and the requantizer that they share. No path leads from an input to an output.

    Ports: `group_control`; an array of one an NCB each: bytes_s3 (In, 8 a PE), weight_s3 (In, 8), en_s5 (In, 1),
    param_we (In, 2), param_data (In, 128); q (Out, 8): a result, `REQUANT_STAGES` cycles after its last partial
    product began.

    Args:
        pes: PEs of an NCB.
        ncbs: NCBs.
    """

    def __init__(self, pes: int, ncbs: int):
        self.pes, self.ncbs = pes, ncbs
        super().__init__({
            **group_control(pes, ncbs),
            "bytes_s3": In(8 * pes).array(ncbs), "weight_s3": In(8).array(ncbs), "en_s5": In(1).array(ncbs),
            "param_we": In(2).array(ncbs), "param_data": In(128).array(ncbs), "q": Out(8),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        requantizer = m.submodules.requantizer = Requantizer(self.ncbs)
        for name in requant_control(self.ncbs):
            m.d.comb += getattr(requantizer, name).eq(getattr(self, name))
        for n in range(self.ncbs):
            ncb = m.submodules[f"ncb{n}"] = Block(Ncb(self.pes), NCB_MODULE)
            for name in ncb_control(self.pes):
                m.d.comb += getattr(ncb, name).eq(getattr(self, name))
            m.d.comb += [
                ncb.bytes_s3.eq(self.bytes_s3[n]), ncb.weight_s3.eq(self.weight_s3[n]), ncb.en_s5.eq(self.en_s5[n]),
                requantizer.x[n].eq(ncb.x),
                requantizer.param_we[n].eq(self.param_we[n]), requantizer.param_data[n].eq(self.param_data[n]),
            ]
        m.d.comb += self.q.eq(requantizer.q)
        return m
