# SPDX-License-Identifier: Apache-2.0
"""Controller of a cluster: start, instruction fetch and decode, loops, semaphores, traps."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.isa import LdP, Loop, Opcode, Wait
from nncosim.hdl.j3dai.isa import Signal as SignalFormat
from nncosim.hdl.j3dai.timing import CONTROLLER_CYCLES, record_lines
from nncosim.hdl.logic import view
from nncosim.platforms.j3dai import J3dai

__all__ = ["PC_BITS", "START_SEMAPHORE", "Controller"]

PC_BITS = 9
START_SEMAPHORE = 7
_LEVELS = 4
_SEMAPHORES = 8


class Controller(wiring.Component):
    """Executes one instruction in three cycles: fetch (IMEM reads), decode (into `ir`), execute.

    An instruction executes once, in its last execute cycle: then its bit of `executes` is high.

    Ports:
        start, start_pc, signal_in (In): as of the cluster.
        fetch (Out), pc (Out): IMEM reads the instruction at pc in this cycle; instruction (In, 64) in the next.
        ir (Out, 64); executes (Out, 32): one bit per opcode.
        sequencer_busy, in_flight (In): micro-operations are to be issued, are in the pipeline; set_busy (In, 2).
        signal (Out, 8): SIGNAL of a semaphore executes.
        running, armed, trap (Out). waits (Out): a semaphore is being waited for, waited (Out, 3) which. (A port named
        `semaphore` would make Verilator bring in SystemVerilog's class of that name.)
        lost (Out, 8): an increment finds that input semaphore at 255.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        super().__init__({
            "start": In(1), "start_pc": In(PC_BITS), "signal_in": In(_SEMAPHORES),
            "fetch": Out(1), "pc": Out(PC_BITS), "instruction": In(64), "ir": Out(64), "executes": Out(32),
            "sequencer_busy": In(1), "in_flight": In(1), "set_busy": In(2), "signal": Out(_SEMAPHORES),
            "running": Out(1), "armed": Out(1), "trap": Out(1), "waits": Out(1), "waited": Out(3),
            "lost": Out(_SEMAPHORES),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._decode, self._execute = Signal(name="decode"), Signal(name="execute")
        self._begins = Signal()
        self._opcode = Signal(6)
        m.d.comb += self._opcode.eq(self.ir[:6])
        positive = self._semaphores(m)
        begins = self._start(m, positive)
        # the instruction executes in this cycle, traps in this cycle
        done, fault = Signal(name="done"), Signal(name="fault")
        ready, known = self._ready(m, positive)
        loop_fault, after = self._loops(m, done, begins)
        m.d.comb += [
            fault.eq(self._execute & ((~known & ~self.sequencer_busy) | loop_fault)),
            done.eq(self._execute & ready & ~fault),
        ]
        for opcode in Opcode:
            m.d.comb += self.executes[opcode].eq(done & (self._opcode == opcode))
        m.d.sync += [self._decode.eq(self.fetch), self.fetch.eq(0)]
        with m.If(self._decode):
            m.d.sync += [self.ir.eq(self.instruction), self._execute.eq(1)]
        with m.If(done):
            m.d.sync += [self._execute.eq(0), self.fetch.eq(~self.executes[Opcode.HALT]), self.pc.eq(after)]
        with m.If(begins):
            m.d.sync += self.fetch.eq(1)
        with m.If(fault):
            m.d.sync += self._execute.eq(0)
        with m.If(self.executes[Opcode.HALT] | fault):
            m.d.sync += self.running.eq(0)
        overrun = self.start & self.armed & ~begins
        with m.If(fault | overrun):
            m.d.sync += self.trap.eq(1)
        with m.If(self.trap):  # nothing executes any more
            m.d.sync += [self.fetch.eq(0), self._decode.eq(0), self._execute.eq(0), self.running.eq(0)]
        return m

    def _start(self, m: Module, positive: Value) -> Signal:
        """Arming; high in the cycle in which an armed cluster begins."""
        begins, start_pc = self._begins, Signal(PC_BITS, name="start_pc")
        m.d.comb += begins.eq(self.armed & ~self.running & ~self.trap & positive[START_SEMAPHORE])
        with m.If(begins):
            m.d.sync += [self.running.eq(1), self.armed.eq(0), self.pc.eq(start_pc)]
        with m.If(self.start):
            m.d.sync += [self.armed.eq(1), start_pc.eq(self.start_pc)]
        return begins

    def _semaphores(self, m: Module) -> Signal:
        """Input semaphores, and the tokens of SIGNAL. Returns which semaphores are above 0."""
        positive = Signal(_SEMAPHORES)
        which = view(Wait, self.ir).semaphore
        for k in range(_SEMAPHORES):
            value, taken = Signal(8, name=f"semaphore{k}"), Signal(name=f"taken{k}")
            m.d.comb += [
                positive[k].eq(value != 0),
                taken.eq((self.executes[Opcode.WAIT] & (which == k)) | (self._begins if k == START_SEMAPHORE else 0)),
            ]
            m.d.comb += self.lost[k].eq(self.signal_in[k] & ~taken & (value == 255))
            with m.If(self.signal_in[k] & ~taken & ~self.lost[k]):
                m.d.sync += value.eq(value + 1)
            with m.Elif(taken & ~self.signal_in[k]):
                m.d.sync += value.eq(value - 1)
            m.d.comb += self.signal[k].eq(self.executes[Opcode.SIGNAL] & (view(SignalFormat, self.ir).semaphore == k))
        waiting = self._execute & (self._opcode == Opcode.WAIT)
        m.d.comb += [
            self.waited.eq(Mux(self.running, which, START_SEMAPHORE)),
            self.waits.eq(Mux(self.running, waiting & ~self.sequencer_busy & ~positive.bit_select(which, 1),
                              self.armed)),
        ]
        return positive

    def _ready(self, m: Module, positive: Signal) -> tuple[Signal, Signal]:
        """Whether the instruction in `ir` may execute now, and whether its opcode exists."""
        ready, known = Signal(name="ready"), Signal(name="known")
        reading = self._reading(m)
        m.d.comb += [ready.eq(~self.sequencer_busy), known.eq(1)]
        with m.Switch(self._opcode):
            with m.Case(Opcode.NOP, Opcode.LOOP):
                m.d.comb += ready.eq(1)
            with m.Case(Opcode.HALT, Opcode.FENCE):
                m.d.comb += ready.eq(~self.sequencer_busy & ~self.in_flight)
            with m.Case(Opcode.WAIT):
                m.d.comb += ready.eq(~self.sequencer_busy & positive.bit_select(view(Wait, self.ir).semaphore, 1))
            with m.Case(Opcode.LDP):
                m.d.comb += ready.eq(
                    ~self.sequencer_busy & ~self.set_busy.bit_select(view(LdP, self.ir).pset, 1) & ~reading)
            with m.Case(*(o for o in Opcode if o not in (
                    Opcode.NOP, Opcode.LOOP, Opcode.HALT, Opcode.FENCE, Opcode.WAIT, Opcode.LDP))):
                pass
            with m.Default():
                m.d.comb += known.eq(0)
        return ready, known

    def _reading(self, m: Module) -> Value:
        """Whether an LDP still reads its records: with few PEs, that takes longer than an instruction."""
        lines = record_lines(self.platform.pes_per_ncb)
        if lines <= CONTROLLER_CYCLES:
            return Const(0)
        left = Signal(range(lines))
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(self.executes[Opcode.LDP]):
            m.d.sync += left.eq(lines - 1)
        return left != 0

    def _loops(self, m: Module, done: Signal, begins: Signal) -> tuple[Signal, Signal]:
        """The loop stack. Returns whether a LOOP in `ir` traps, and the pc after the instruction."""
        depth = Signal(range(_LEVELS + 1))
        first = Array(Signal(PC_BITS, name=f"first{k}") for k in range(_LEVELS))
        last = Array(Signal(PC_BITS, name=f"last{k}") for k in range(_LEVELS))
        left = Array(Signal(16, name=f"left{k}") for k in range(_LEVELS))
        fields = view(Loop, self.ir)
        is_loop, fault = Signal(name="is_loop"), Signal(name="fault")
        top, at_end, again = Signal(range(_LEVELS), name="top"), Signal(name="at_end"), Signal(name="again")
        following, after = Signal(PC_BITS, name="following"), Signal(PC_BITS, name="after")
        m.d.comb += [
            is_loop.eq(self._opcode == Opcode.LOOP),
            fault.eq(is_loop & ((fields.count == 0) | (fields.body == 0) | (depth == _LEVELS))),
            top.eq(depth - 1),
            at_end.eq(~is_loop & (depth != 0) & (last[top] == self.pc)),
            again.eq(at_end & (left[top] != 0)),
            following.eq(self.pc + 1),
            after.eq(Mux(again, first[top], following)),
        ]
        with m.If(done & is_loop):
            m.d.sync += [
                first[depth].eq(following), last[depth].eq(self.pc + fields.body), left[depth].eq(fields.count - 1),
                depth.eq(depth + 1),
            ]
        with m.If(done & again):
            m.d.sync += left[top].eq(left[top] - 1)
        with m.If(done & at_end & ~again):
            m.d.sync += depth.eq(depth - 1)
        with m.If(begins):
            m.d.sync += depth.eq(0)
        return fault, after
