# SPDX-License-Identifier: Apache-2.0
"""Sequencer: issues the micro-operations of a MAC instruction, one a cycle, from the windows that are staged."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.isa import AddW, Mac, MacOp, Opcode, SetW
from nncosim.hdl.j3dai.operands import drain_mode
from nncosim.hdl.j3dai.timing import TABLE_LATENCY, drain_cycles, passes
from nncosim.hdl.logic import view
from nncosim.platforms.j3dai import J3dai

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Stage 0 of the micro-operations: lanes, jobs, the weight pointer, and the distance of drains.

    Ports:
        ir, executes: instruction register and what executes, one bit per opcode (MAC, SETW, ADDW).
        staged, staged_last (In), take (Out), hold (Out): see `WindowFetch`.
        blocked (In): L1's read port is taken (a TABLE micro-operation waits).
        mac (Out): the MAC in execution. busy (Out): it has micro-operations to issue.
        issue (Out): a micro-operation is issued in this cycle, with lane (Out), pointer (Out, 14),
        first (Out): it sets the accumulators. weight (Out): it reads WMEM.
        drain (Out): it ends a job with `last`; odd (Out): that job's number is odd. drain_cycles (Out): how many cycles
        later the next may, see `timing.drain_cycles`; 1 for what is kept only.
        table_select (Out): TABLE: the lane `select_lane` (Out) of the window register is looked up in the next
        cycle in which table_valid (Out) is high and `issue` too.
        w_base (Out, 14): base of AGU W.

    Args:
        platform: The size of WMEM, lanes of a word, PEs to drain.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        lane = platform.lane_bits
        most = drain_cycles(platform.pes_per_ncb, platform.ncbs_per_requantizer, passes(1, 1, 0))
        super().__init__({
            "drain_cycles": Out(range(most + 1)),
            "ir": In(64), "executes": In(32), "staged": In(1), "staged_last": In(1), "blocked": In(1),
            "mac": Out(Mac), "busy": Out(1), "take": Out(1), "hold": Out(1),
            "issue": Out(1), "lane": Out(lane), "pointer": Out(14), "first": Out(1), "weight": Out(1),
            "drain": Out(1), "odd": Out(1), "w_base": Out(14),
            "table_select": Out(1), "select_lane": Out(lane), "table_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        is_table = Signal()
        m.d.comb += is_table.eq(self.mac.op == MacOp.TABLE)
        first_window = Signal()  # no window of this job has been through yet
        ends_job, last_job = Signal(name="ends_job"), Signal(name="last_job")
        self._ends_job = ends_job
        clear = self._spacing(m, ends_job)
        # a micro-operation straight from the lane counter
        direct, ends_direct = Signal(name="direct"), Signal(name="ends_direct")
        last_lane, current_last = self._lanes(m, is_table, clear)
        m.d.comb += ends_direct.eq(last_lane & current_last)
        table_ends, table_first = self._table(m, is_table, ends_direct, first_window, clear)
        m.d.comb += [
            direct.eq(self._goes & ~is_table),
            self.take.eq(self._goes & ~self._in_window),
            self.issue.eq(direct | self._table_goes),
            ends_job.eq(self.issue & Mux(is_table, table_ends, ends_direct)),
            self.lane.eq(Mux(is_table, self._table_lane, self._current_lane)),
            self.drain.eq(ends_job & self.mac.last),
            self.hold.eq(is_table & (self._in_window | self.take | self.table_valid)),
        ]
        self._jobs(m, ends_job, last_job)
        job_start = self._pointer(m, ends_job & last_job)
        m.d.comb += self.first.eq(self.mac.first & Mux(is_table, table_first, job_start))
        with m.If(self._goes & last_lane):
            m.d.sync += first_window.eq(current_last)
        with m.If(self.executes[Opcode.MAC]):
            m.d.sync += first_window.eq(1)
        return m

    def _spacing(self, m: Module, ends_job: Signal) -> Signal:
        """High while a micro-operation may end a job with `last`."""
        keeps, adds = drain_mode(self.mac, self.odd)
        once = drain_cycles(self.platform.pes_per_ncb, self.platform.ncbs_per_requantizer, 1)  # a power of two
        m.d.comb += self.drain_cycles.eq(Mux(keeps, 1, Const(once) << ((self.mac.wide_x | adds) + self.mac.wide_m)))
        spacing, clear = Signal.like(self.drain_cycles, name="spacing"), Signal(name="clear")
        with m.If(spacing != 0):
            m.d.sync += spacing.eq(spacing - 1)
        with m.If(ends_job & self.mac.last):
            m.d.sync += spacing.eq(self.drain_cycles - 1)
        m.d.comb += clear.eq((spacing == 0) | ~self.mac.last)
        return clear

    def _lanes(self, m: Module, is_table: Signal, clear: Signal) -> tuple[Signal, Signal]:
        """The lane counter: whether it stands at the window's last lane, and whether the window is its job's last."""
        bits = self.platform.lane_bits
        first_lane, lanes = (Cat(low, high)[:bits] for low, high in (
            (self.mac.lane, self.mac.lane_high), (self.mac.lanes, self.mac.lanes_high)))
        self._in_window, self._goes, self._current_lane = (
            Signal(name="in_window"), Signal(name="goes"), Signal(bits, name="current_lane"))
        left, lane, in_last = Signal(bits, name="left"), Signal(bits, name="lane"), Signal(name="in_last")
        current_left, last_lane, current_last = (
            Signal(bits, name="current_left"), Signal(name="last_lane"), Signal(name="current_last"))
        single = self.mac.depthwise & ~is_table
        wait = self._wait = Signal(range(TABLE_LATENCY + 1))
        self._table_free = Signal()
        m.d.comb += [
            current_left.eq(Mux(self._in_window, left, Mux(single, 0, lanes))),
            self._current_lane.eq(Mux(self._in_window, lane, first_lane)),
            last_lane.eq((current_left == 0) & ~(is_table & ~self._in_window)),
            current_last.eq(Mux(self._in_window, in_last, self.staged_last)),
        ]
        available = self._in_window | self.staged
        ordinary = available & (clear | ~(last_lane & current_last))
        tabular = Mux(self._in_window, (wait == 0) & self._table_free, self.staged)
        m.d.comb += self._goes.eq(self.busy & Mux(is_table, tabular, ordinary))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(self._goes):
            m.d.sync += [
                self._in_window.eq(~last_lane), left.eq(current_left - 1), lane.eq(self._current_lane + 1),
                in_last.eq(current_last),
            ]
            # TABLE takes a window first, and looks at its lanes when it is in the window register.
            with m.If(is_table & ~self._in_window):
                m.d.sync += [left.eq(lanes), lane.eq(first_lane), wait.eq(TABLE_LATENCY)]
        return last_lane, current_last

    def _table(self, m: Module, is_table: Signal, ends: Signal, first_window: Signal, clear: Signal
               ) -> tuple[Signal, Signal]:
        """One lane between its selection and its look-up: whether it ends the job, and is in the job's first window."""
        table_ends, table_first = Signal(name="table_ends"), Signal(name="table_first")
        self._table_lane, self._table_goes = (
            Signal(self.platform.lane_bits, name="table_lane"), Signal(name="table_goes"))
        m.d.comb += [
            self._table_goes.eq(self.table_valid & ~self.blocked & (clear | ~table_ends)),
            self._table_free.eq(~self.table_valid | self._table_goes),
            self.table_select.eq(self._goes & is_table & self._in_window),
            self.select_lane.eq(self._current_lane),
        ]
        with m.If(self._table_goes):
            m.d.sync += self.table_valid.eq(0)
        with m.If(self.table_select):
            m.d.sync += [
                self.table_valid.eq(1), self._table_lane.eq(self._current_lane), table_ends.eq(ends),
                table_first.eq(first_window),
            ]
        return table_ends, table_first

    def _jobs(self, m: Module, ends_job: Signal, last_job: Signal) -> None:
        jobs = Signal(16)
        m.d.comb += last_job.eq(jobs == 0)
        with m.If(ends_job):
            m.d.sync += [jobs.eq(jobs - 1), self.odd.eq(~self.odd), self.busy.eq(~last_job)]
        with m.If(self.executes[Opcode.MAC]):
            fields = view(Mac, self.ir)
            m.d.sync += [self.mac.eq(fields), jobs.eq(fields.repeat), self.odd.eq(0), self.busy.eq(1)]

    def _pointer(self, m: Module, ends_mac: Signal) -> Signal:
        """AGU W. Returns a register that is high until the job's first micro-operation is issued."""
        wmem_bits = (self.platform.wmem_words - 1).bit_length()
        pointer, following, job_start = (
            Signal(14, name="pointer"), Signal(14, name="following"), Signal(name="job_start"))
        m.d.comb += [
            self.pointer.eq(Mux(job_start & self.mac.rewind_w, self.w_base, pointer)),
            self.weight.eq(self.issue & (self.mac.op == MacOp.MAC)),
            following.eq(Mux(self.weight, (self.pointer + 1)[:wmem_bits], self.pointer)),
        ]
        with m.If(self.issue):
            m.d.sync += [pointer.eq(following), job_start.eq(0)]
            with m.If(self._ends_job):
                m.d.sync += job_start.eq(1)
        with m.If(ends_mac & self.mac.next_w):
            m.d.sync += self.w_base.eq(following)
        with m.If(self.executes[Opcode.SETW]):
            m.d.sync += [self.w_base.eq(view(SetW, self.ir).base), pointer.eq(view(SetW, self.ir).base)]
        with m.If(self.executes[Opcode.ADDW]):
            added = (self.w_base + view(AddW, self.ir).step)[:14]
            m.d.sync += [self.w_base.eq(added), pointer.eq(added)]
        with m.If(self.executes[Opcode.MAC]):
            m.d.sync += job_start.eq(1)
        return job_start
