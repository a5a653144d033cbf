# SPDX-License-Identifier: Apache-2.0
"""Drain: control of the requantizers, and the way of their results into L1."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.fetch import base_command, dim_command
from nncosim.hdl.j3dai.isa import COUNT_BITS, Agu, Mac, Opcode, SetO
from nncosim.hdl.j3dai.operands import drain_mode
from nncosim.hdl.j3dai.requantizer import HIGH_SHIFT, REQUANT_STAGES, MSlice, XSlice, requant_control
from nncosim.hdl.j3dai.timing import DRAIN_AHEAD, DRAIN_TO_L1_WRITE, DRAIN_TO_PARAMETERS, drain_cycles, passes
from nncosim.hdl.logic import register, view
from nncosim.hdl.odometer import Odometer
from nncosim.platforms.j3dai import J3dai

__all__ = ["DrainControl", "DrainLine"]

_COPY = 6  # stage in which the accumulators are copied to the shadow registers
_ROTATES = DRAIN_TO_L1_WRITE - _COPY - 1
"""Cycles from the last partial product of a job to that in which its results are rotated; they are written in the
next."""
_Job = data.StructLayout({"a": 14, "x": 13, "width": 12, "ostride": 1, "pset": 1, "add": 1, "wide_x": 1, "wide_m": 1})
"""What a drain needs to know: AGU O's values when it was issued, parameter set, what is multiplied."""


class DrainControl(wiring.Component):
    """AGU O, and the drains: from the issue of the micro-operation that ends a job to the write of its results.

    A drain is issued, its accumulators are copied, its partial products begin one a cycle (`drain_cycles`), and some
    cycles after the last one its results are written. Drains are so far apart that each step is free for the next:
    at least as many cycles as there are PEs, so a drain's data moves on to the next register every so many cycles.

    Ports:
        ir, executes: instruction register and what executes, one bit per opcode (SETB, ADDB, SETD, SETO).
        drain (In): a micro-operation ending a job with `last` is issued; mac (In, `Mac`): its instruction; odd (In):
            that job's number is odd.
        copy_s6, copy_low_s6, copy_high_s6, pixel0 (Out): see `ncb_control`; the others of `requant_control` (Out).
        collect_en, collect_pixel, collect_ncb (Out): the requantizers' outputs are results of this pixel, each of the
            NCB of that number among its own.
        set_busy (Out, one bit a set): a drain in flight still needs the set.
        drain_ahead (Out): results use the write path in `DRAIN_AHEAD` cycles.
        write (Out): a line is to be written: slot i of it goes to word address + i, if bit i of slots (Out) is set.
            address (Out, 14); wide (Out): slot i holds pixel i / 2, or with upper (Out) pixel i / 2 of the
            upper half, not pixel i.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        self._pes = pes = platform.pes_per_ncb
        pixel, shared = platform.bank_bits, requant_control(platform.ncbs_per_requantizer)
        super().__init__({
            "ir": In(64), "executes": In(32), "drain": In(1), "mac": In(Mac), "odd": In(1),
            "copy_s6": Out(1), "copy_low_s6": Out(1), "copy_high_s6": Out(1), "pixel0": Out(pixel),
            **{name: member.flip() for name, member in shared.items()},
            "collect_en": Out(1), "collect_pixel": Out(pixel), "collect_ncb": Out(shared["owner0"].shape),
            "set_busy": Out(2), "drain_ahead": Out(1),
            "write": Out(1), "address": Out(14), "slots": Out(pes), "wide": Out(1), "upper": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A drain's data before its accumulators are copied, while they drain, and until its results are written.
        issued, keeps = self._issue(m)
        goes = Signal()  # a drain with results is issued
        m.d.comb += goes.eq(self.drain & ~keeps)
        token, kept = Signal(_COPY, name="token"), Signal(_COPY, name="kept")  # bit k: issued k + 1 cycles ago
        m.d.sync += [token.eq(Cat(goes, token)), kept.eq(Cat(self.drain & keeps, kept))]
        before = self._chain(m, "issued", goes, issued, token, _COPY)
        draining, begins = register(_Job, name="draining"), token[_COPY - 1]
        with m.If(begins):
            m.d.sync += draining.eq(before[-1])
        m.d.comb += [
            self.copy_s6.eq(begins & ~before[-1].add), self.copy_low_s6.eq(begins & before[-1].add),
            self.copy_high_s6.eq(kept[_COPY - 1]),
        ]
        ends = self._products(m, begins, draining)
        done = Signal(_ROTATES + 1, name="done")  # bit k: the last partial product began k + 1 cycles ago
        m.d.sync += done.eq(Cat(ends, done))
        self._write(m, done, self._chain(m, "drained", ends, draining, done, _ROTATES + 1))
        return m

    def _chain(self, m: Module, name: str, enters: Signal, job: Signal, token: Signal, cycles: int) -> list[Signal]:
        """Registers that hold a drain's data for so many cycles: number k in cycles k * PEs + 1 to (k + 1) * PEs."""
        chain = [register(_Job, name=f"{name}{k}") for k in range(-(-cycles // self._pes))]
        with m.If(enters):
            m.d.sync += chain[0].eq(job)
        for k, (source, target) in enumerate(pairwise(chain), 1):
            with m.If(token[k * self._pes - 1]):
                m.d.sync += target.eq(source)
        return chain

    def _issue(self, m: Module) -> tuple[Signal, Signal]:
        """The data of a drain issued now, and whether it only keeps the accumulators."""
        agu = m.submodules.agu = Odometer(3, 0, {"a": 14, "x": 13}, {"a": 14, "x": 8}, COUNT_BITS)
        base_command(m, agu, self.ir, self.executes, Agu.O)
        dim_command(m, agu, self.ir, self.executes, Agu.O)
        settings, job, keeps = Signal(SetO, name="settings"), Signal(_Job, name="job"), Signal(name="keeps")
        with m.If(self.executes[Opcode.SETO]):
            m.d.sync += settings.eq(view(SetO, self.ir))
        only_keeps, adds = drain_mode(self.mac, self.odd)
        m.d.comb += [
            keeps.eq(only_keeps),
            job.a.eq(agu.at_a), job.x.eq(agu.at_x), job.width.eq(settings.width), job.ostride.eq(settings.ostride),
            job.pset.eq(self.mac.pset), job.add.eq(adds),
            job.wide_x.eq(self.mac.wide_x | job.add), job.wide_m.eq(self.mac.wide_m),
            agu.advance.eq(self.drain & ~keeps), agu.outer.eq(1),
        ]
        shared, pes = self.platform.ncbs_per_requantizer, self._pes
        for k in range(2):
            most = DRAIN_TO_PARAMETERS + drain_cycles(pes, shared, passes(1, 1, 0))
            left = Signal(range(most), name=f"set{k}_left")
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            with m.If(self.drain & ~keeps & (job.add | (job.pset == k))):
                # drain_cycles(pes, shared, 1) is a power of two: the passes are shifts
                cycles = Const(drain_cycles(pes, shared, 1)) << (job.wide_x + job.wide_m)
                m.d.sync += left.eq(cycles + (DRAIN_TO_PARAMETERS - 1))
            m.d.comb += self.set_busy[k].eq(left != 0)
        return job, keeps

    def _products(self, m: Module, begins: Signal, job: Signal) -> Signal:
        """Which partial product begins, in step with the requantizers' stages. High while it is the job's last."""
        pixels, shared = self._pes, self.platform.ncbs_per_requantizer
        running, pixel, ncb = (
            Signal(name="running"), Signal(range(pixels), name="pixel"), Signal(range(shared), name="ncb"))
        high_x, high_m = Signal(name="high_x"), Signal(name="high_m")
        last_m, last_x, last_pixel, ends = (
            Signal(name="last_m"), Signal(name="last_x"), Signal(name="last_pixel"), Signal(name="ends"))
        m.d.comb += [
            last_m.eq(high_m | ~job.wide_m), last_x.eq(last_m & (high_x | ~job.wide_x)),
            last_pixel.eq(last_x & (pixel == pixels - 1)), ends.eq(running & last_pixel & (ncb == shared - 1)),
            self.pixel0.eq(pixel), self.owner0.eq(ncb), self.pset0.eq(Mux(job.add, high_x, job.pset)),
            self.x0.eq(Mux(job.add, Mux(high_x, XSlice.PAIR, XSlice.HIGH),
                           Mux(job.wide_x, Mux(high_x, XSlice.HIGH, XSlice.LOW), XSlice.NARROW))),
            self.m0.eq(Mux(job.wide_m, Mux(high_m, MSlice.HIGH, MSlice.LOW), MSlice.NARROW)),
        ]
        with m.If(running):
            m.d.sync += [
                high_m.eq(~last_m), high_x.eq(Mux(last_m, ~last_x, high_x)), pixel.eq(pixel + last_x),
                ncb.eq(ncb + last_pixel), running.eq(~ends),
            ]
        with m.If(begins):
            m.d.sync += [running.eq(1), high_m.eq(0), high_x.eq(0), pixel.eq(0), ncb.eq(0)]
        first, shift = Signal(name="first"), Signal(2, name="shift")
        m.d.comb += [
            first.eq(~high_m & ~high_x), shift.eq(Cat(high_x & ~job.add, Const(0, 1)) | Mux(high_m, HIGH_SHIFT, 0))]
        delayed = {"first": first, "shift": shift, "ncb": self.owner0, "pset": self.pset0,
                   "pixel": pixel, "valid": running & last_x}
        stages = {name: self._delay(m, name, value) for name, value in delayed.items()}
        m.d.comb += [self.first2.eq(stages["first"][2]), self.shift2.eq(stages["shift"][2])]
        for k in (2, 4, 5):
            m.d.comb += [
                getattr(self, f"owner{k}").eq(stages["ncb"][k]), getattr(self, f"pset{k}").eq(stages["pset"][k])]
        m.d.comb += [
            self.collect_en.eq(stages["valid"][-1]), self.collect_pixel.eq(stages["pixel"][-1]),
            self.collect_ncb.eq(stages["ncb"][-1]),
        ]
        return ends

    def _delay(self, m: Module, name: str, value: Signal) -> list[Signal]:
        """A control signal of stage 0 in all stages up to that in which the result is there."""
        stages = [value]
        for k in range(1, REQUANT_STAGES + 1):
            stage = Signal(len(value), name=f"{name}_q{k}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        return stages

    def _write(self, m: Module, done: Signal, jobs: list[Signal]) -> None:
        """One line, or with ostride two in consecutive cycles; the second from registers of its own."""
        pes, half_pes = self._pes, self._pes // 2
        inside = Signal(pes)
        with m.If(done[(len(jobs) - 1) * pes]):
            for p in range(pes):
                x = Signal(13, name=f"x{p}")
                m.d.comb += x.eq(jobs[-1].x + p)
                m.d.sync += inside[p].eq(x < jobs[-1].width)
        # `drain_ahead` is a register: it is set a cycle before.
        early = _ROTATES + 1 - DRAIN_AHEAD - 1
        job, ahead_upper = jobs[-1], jobs[early // pes]
        upper_valid, upper_address, upper_inside = (
            Signal(name="upper_valid"), Signal(14, name="upper_address"), Signal(half_pes, name="upper_inside"))
        lower = Signal()
        m.d.comb += lower.eq(done[_ROTATES - 1])
        m.d.sync += [
            upper_valid.eq(lower & job.ostride), upper_address.eq(job.a + pes), upper_inside.eq(inside[half_pes:]),
            self.drain_ahead.eq(done[early - 1] | (done[early] & ahead_upper.ostride)),
        ]
        m.d.comb += [
            self.write.eq(lower | upper_valid), self.upper.eq(upper_valid), self.wide.eq(upper_valid | job.ostride),
            self.address.eq(Mux(upper_valid, upper_address, job.a)),
        ]
        half = Mux(upper_valid, upper_inside, inside[:half_pes])
        m.d.comb += self.slots.eq(Mux(self.wide, Cat([Cat(half[i], Const(0, 1)) for i in range(half_pes)]), inside))


class DrainLine(wiring.Component):
    """Collects the results of a job, a pixel a PE, and sorts them into the slots of a line.

    Ports:
        results (In, a byte a requantizer); collect_en, collect_pixel, collect_ncb (In); wide, upper (In): see
        `DrainControl`. words (Out, a word a slot).
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        word, shared = platform.word_bits, platform.ncbs_per_requantizer
        super().__init__({
            "results": In(word // shared), "collect_en": In(1), "collect_pixel": In(platform.bank_bits),
            "collect_ncb": In(requant_control(shared)["owner0"].shape), "wide": In(1), "upper": In(1),
            "words": Out(word).array(platform.banks),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, word, shared = self.platform.banks, self.platform.word_bits, self.platform.ncbs_per_requantizer
        pixels = [register(word, name=f"result{p}") for p in range(banks)]
        for p in range(banks):
            with m.If(self.collect_en & (self.collect_pixel == p)):
                if shared == 1:
                    m.d.sync += pixels[p].eq(self.results)
                for n in range(shared if shared > 1 else 0):
                    with m.If(self.collect_ncb == n):
                        m.d.sync += [
                            pixels[p].word_select(shared * group + n, 8).eq(self.results.word_select(group, 8))
                            for group in range(word // 8 // shared)]
        for i in range(banks):
            m.d.comb += self.words[i].eq(pixels[i])
            if i % 2 == 0:
                with m.If(self.wide):
                    m.d.comb += self.words[i].eq(Mux(self.upper, pixels[banks // 2 + i // 2], pixels[i // 2]))
        return m
