# SPDX-License-Identifier: Apache-2.0
"""Drain: control of the requantizers, and the way of their results into L1."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.agu import Odometer
from nncosim.hdl.j3dai.banks import rotate
from nncosim.hdl.j3dai.fetch import base_command, dim_command
from nncosim.hdl.j3dai.isa import Agu, Drain, Opcode, SetO
from nncosim.hdl.j3dai.operands import register, view
from nncosim.hdl.j3dai.requantizer import REQUANT_STAGES
from nncosim.hdl.j3dai.timing import DRAIN_AHEAD, drain_to_l1_write, parameter_cycles
from nncosim.platforms.j3dai import J3dai

__all__ = ["DrainControl", "DrainWrite"]

_COPY = 6  # stage in which the accumulators are copied to the shadow registers
_Job = data.StructLayout({"a": 14, "x": 13, "width": 12, "ostride": 1, "pset": 1, "keep": 1, "add": 1})
"""What a drain needs to know: AGU O's values when it was issued, parameter set, what becomes of the sums."""


class DrainControl(wiring.Component):
    """AGU O, and a token that follows each drain from its issue to the write of its results.

    Drains are at least as many cycles apart as there are PEs, so a drain's data moves on to the next register every so
    many cycles.

    Ports:
        ir, executes: instruction register and what executes, one bit per opcode (SETB, ADDB, SETD, SETO).
        drain (In): a micro-operation ending a job with `last` is issued; mode (In, `Drain`), pset, odd (In) with it.
        copy_s6, q_en, q_pset, q_pixel0, q_pixel3, q_pixel5, q_add3, q_keep5 (Out): see `ncb_control`.
        collect_en, collect_pixel (Out): the NCBs' outputs are the results of this pixel.
        set_busy (Out, one bit a set): a drain in flight still needs the set.
        drain_ahead (Out): results use L1's write port in `DRAIN_AHEAD` cycles.
        write (Out): a line is to be written: slot i of it goes to word address + i, if bit i of slots (Out) is set.
            address (Out, 14); wide (Out): slot i holds pixel i / 2, or with upper (Out) pixel i / 2 of the
            upper half, not pixel i.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        self._pes = pes = platform.pes_per_ncb
        pixel = platform.bank_bits
        super().__init__({
            "ir": In(64), "executes": In(32), "drain": In(1), "mode": In(Drain), "pset": In(1), "odd": In(1),
            "copy_s6": Out(1), "q_en": Out(REQUANT_STAGES), "q_pset": Out(REQUANT_STAGES),
            "q_pixel0": Out(pixel), "q_pixel3": Out(pixel), "q_pixel5": Out(pixel), "q_add3": Out(1), "q_keep5": Out(1),
            "collect_en": Out(1), "collect_pixel": Out(pixel), "set_busy": Out(2), "drain_ahead": Out(1),
            "write": Out(1), "address": Out(14), "slots": Out(pes), "wide": Out(1), "upper": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        token = Signal(self._rotates + 1)  # bit k: a drain was issued k + 1 cycles ago
        m.d.sync += token.eq(Cat(self.drain, token))
        # Register k holds a drain's data in its cycles k * PEs + 1 to (k + 1) * PEs; the last one until it is written.
        self._jobs = [register(_Job, name=f"job{k}") for k in range(self._rotates // self._pes)]
        issued = self._issue(m)
        with m.If(self.drain):
            m.d.sync += self._jobs[0].eq(issued)
        for k, (before, job) in enumerate(pairwise(self._jobs), 1):
            with m.If(token[k * self._pes - 1]):
                m.d.sync += job.eq(before)
        inside = Signal(self._pes)
        with m.If(token[(len(self._jobs) - 1) * self._pes - 1]):
            for p in range(self._pes):
                x = Signal(13, name=f"x{p}")
                m.d.comb += x.eq(self._jobs[-2].x + p)
                m.d.sync += inside[p].eq(x < self._jobs[-2].width)
        self._stages(m, token, self._job_in(_COPY))
        self._write(m, token, inside)
        return m

    @property
    def _rotates(self) -> int:
        """Cycle of a drain in which its results are rotated; they are written in the next."""
        return drain_to_l1_write(self._pes) - 1

    def _job_in(self, cycle: int) -> Signal:
        """The register that holds the data of the drain issued `cycle` cycles ago."""
        return self._jobs[(cycle - 1) // self._pes]

    def _issue(self, m: Module) -> Signal:
        agu = m.submodules.agu = Odometer(3, 0, {"a": 14, "x": 13}, {"a": 14, "x": 8})
        base_command(m, agu, self.ir, self.executes, Agu.O)
        dim_command(m, agu, self.ir, self.executes, Agu.O)
        settings, job = Signal(SetO, name="settings"), Signal(_Job, name="job")
        with m.If(self.executes[Opcode.SETO]):
            m.d.sync += settings.eq(view(SetO, self.ir))
        pair = self.mode == Drain.PAIR
        m.d.comb += [
            job.a.eq(agu.at_a), job.x.eq(agu.at_x), job.width.eq(settings.width), job.ostride.eq(settings.ostride),
            job.pset.eq(Mux(pair, self.odd, self.pset)),
            job.keep.eq((self.mode == Drain.KEEP) | (pair & ~self.odd)),
            job.add.eq((self.mode == Drain.ADD) | (pair & self.odd)),
            agu.advance.eq(self.drain & ~job.keep), agu.outer.eq(1),
        ]
        for k in range(2):
            cycles = parameter_cycles(self._pes)
            left = Signal(range(cycles), name=f"set{k}_left")
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            with m.If(self.drain & (job.pset == k)):
                m.d.sync += left.eq(cycles - 1)
            m.d.comb += self.set_busy[k].eq(left != 0)
        return job

    def _stages(self, m: Module, token: Signal, job: Signal) -> None:
        """One pixel a cycle through the requantizers' stages, in step with their registers."""
        m.d.comb += self.copy_s6.eq(token[_COPY - 1])
        pixel = [Signal(range(self._pes), name=f"pixel{k}") for k in range(REQUANT_STAGES + 1)]
        add, keep = Signal(4, name="add"), Signal(6, name="keep")
        running = Signal(REQUANT_STAGES + 1)
        begins = self.copy_s6
        m.d.sync += [
            pixel[0].eq(Mux(begins, 0, pixel[0] + 1)),
            running.eq(Cat(begins | (running[0] & (pixel[0] != self._pes - 1)), running)),
            self.q_pset.eq(Cat(Mux(begins, job.pset, self.q_pset[0]), self.q_pset)),
            add.eq(Cat(Mux(begins, job.add, add[0]), add)), keep.eq(Cat(Mux(begins, job.keep, keep[0]), keep)),
        ]
        for k in range(REQUANT_STAGES):
            m.d.sync += pixel[k + 1].eq(pixel[k])
        m.d.comb += [
            self.q_en.eq(running), self.q_pixel0.eq(pixel[0]), self.q_pixel3.eq(pixel[3]), self.q_pixel5.eq(pixel[5]),
            self.q_add3.eq(add[3]), self.q_keep5.eq(keep[5]),
            self.collect_en.eq(running[REQUANT_STAGES]), self.collect_pixel.eq(pixel[REQUANT_STAGES]),
        ]

    def _write(self, m: Module, token: Signal, inside: Signal) -> None:
        """One line, or with ostride two in consecutive cycles; the second from registers of its own."""
        rotates, half_pes = self._rotates, self._pes // 2
        job, ahead, ahead_upper = (self._job_in(c) for c in (rotates, rotates - DRAIN_AHEAD, rotates - DRAIN_AHEAD + 1))
        upper_valid, upper_address, upper_inside = (
            Signal(name="upper_valid"), Signal(14, name="upper_address"), Signal(half_pes, name="upper_inside"))
        lower = Signal()
        m.d.comb += lower.eq(token[rotates - 1] & ~job.keep)
        m.d.sync += [
            upper_valid.eq(lower & job.ostride), upper_address.eq(job.a + self._pes),
            upper_inside.eq(inside[half_pes:]),
            self.drain_ahead.eq((token[rotates - DRAIN_AHEAD - 1] & ~ahead.keep)
                                | (token[rotates - DRAIN_AHEAD] & ~ahead_upper.keep & ahead_upper.ostride)),
        ]
        m.d.comb += [
            self.write.eq(lower | upper_valid), self.upper.eq(upper_valid), self.wide.eq(upper_valid | job.ostride),
            self.address.eq(Mux(upper_valid, upper_address, job.a)),
        ]
        half = Mux(upper_valid, upper_inside, inside[:half_pes])
        m.d.comb += self.slots.eq(Mux(self.wide, Cat([Cat(half[i], Const(0, 1)) for i in range(half_pes)]), inside))


class DrainWrite(wiring.Component):
    """Collects the results of a job, a pixel a PE, and turns them into a line of L1.

    Ports:
        word (In): the NCBs' outputs; collect_en, collect_pixel (In); wide, upper, address, slots (In): see
        `DrainControl`. bank_data (Out, banks x word), bank_en (Out): word and write enable of each bank.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        banks, word = platform.banks, platform.word_bits
        super().__init__({
            "word": In(word), "collect_en": In(1), "collect_pixel": In(platform.bank_bits),
            "wide": In(1), "upper": In(1), "address": In(14), "slots": In(banks),
            "bank_data": Out(word).array(banks), "bank_en": Out(banks),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, bits, word = self.platform.banks, self.platform.bank_bits, self.platform.word_bits
        pixels = [register(word, name=f"result{p}") for p in range(banks)]
        for p in range(banks):
            with m.If(self.collect_en & (self.collect_pixel == p)):
                m.d.sync += pixels[p].eq(self.word)
        slots = []
        for i in range(banks):
            slot = Signal(word, name=f"slot{i}")
            m.d.comb += slot.eq(pixels[i])
            if i % 2 == 0:
                with m.If(self.wide):
                    m.d.comb += slot.eq(Mux(self.upper, pixels[banks // 2 + i // 2], pixels[i // 2]))
            slots.append(slot)
        amount = Signal(bits)
        m.d.comb += amount.eq(-self.address[:bits])
        turned = rotate(m, slots, amount, "line")
        enables = rotate(m, list(self.slots), amount, "enable")
        m.d.comb += self.bank_en.eq(Cat(enables))
        for b in range(banks):
            m.d.comb += self.bank_data[b].eq(turned[b])
        return m
