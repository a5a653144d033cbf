# SPDX-License-Identifier: Apache-2.0
"""The cluster: memories, controller, sequencer, NCBs, and the pipeline between them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.banks import BankedMemory, bank_rows, rotate
from nncosim.hdl.counters import EngineCounters
from nncosim.hdl.emit import Block
from nncosim.hdl.j3dai.controller import Controller
from nncosim.hdl.j3dai.counters import NO_STATE
from nncosim.hdl.j3dai.drain import DrainControl, DrainLine
from nncosim.hdl.j3dai.fetch import WindowFetch
from nncosim.hdl.j3dai.isa import LdP, Mac, MacOp, Opcode
from nncosim.hdl.j3dai.ncb import NcbGroup, group_control
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.sequencer import Sequencer
from nncosim.hdl.j3dai.settle import Settle
from nncosim.hdl.j3dai.timing import record_lines
from nncosim.hdl.j3dai.window import WindowPath
from nncosim.hdl.j3dai.writes import WritePath
from nncosim.hdl.logic import pick, register, view
from nncosim.platforms.j3dai import J3dai

__all__ = ["GROUP_MODULE", "Cluster"]

GROUP_MODULE = "j3dai_ncb_group"
RECORD_BITS = 128


class Cluster(wiring.Component):
    """One cluster of the J3DAI accelerator.

    All inputs are expected from registers; all outputs are registers. Word i of a beat is its i-th from below.

    Ports:
        start (In, pulse): arm, at start_pc (In, 9).
        wr_valid, wr_space (2: `Space`), wr_addr (14), wr_mask, wr_data (a line) (In): a LOAD beat, word i of which
            goes to word address wr_addr + i if bit i of the mask is set. It uses the memory's write port in the next
            cycle, and must not do so in L1 in the cycle announced by drain_ahead.
        rd_valid, rd_addr (14) (In): a STORE beat; no window fetch is issued in this cycle, and L1's read port is
            used in the next. rd_data (Out, a line): its words, three cycles after rd_valid.
        drain_ahead (Out): in `DRAIN_AHEAD` cycles a drain uses L1's write port.
        signal_in (In, 8): increment an input semaphore. signal_out (Out, 8): increment an output semaphore.
        in_frame, dmpa_idle (In): an inference is in progress; nothing is queued in the DMPA. For the counters.
        running, armed, trap (Out). counters (Out, 192): see `EngineCounters`.
        probe (Out, 32): pc (8:0), opcode (14:9), semaphore (17:15) and whether it is waited for (18), a MAC
            in execution (19), for messages; the `Counter` of the cycle before (22:20); for checks, input semaphores
            at 255 whose increment in this cycle is lost (30:23).

    Args:
        platform: NCBs, PEs, sizes of the memories.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        line = platform.line_bits
        super().__init__({
            "start": In(1), "start_pc": In(9),
            "wr_valid": In(1), "wr_space": In(2), "wr_addr": In(14), "wr_mask": In(platform.banks),
            "wr_data": In(line),
            "rd_valid": In(1), "rd_addr": In(14), "rd_data": Out(line),
            "signal_in": In(8), "signal_out": Out(8), "in_frame": In(1), "dmpa_idle": In(1), "drain_ahead": Out(1),
            "running": Out(1), "armed": Out(1), "trap": Out(1), "counters": Out(32 * len(Counter)), "probe": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes, banks, word = self.platform, self.platform.banks, self.platform.word_bits
        self._l1 = m.submodules.l1 = BankedMemory(sizes.l1_words, banks, word, sizes.l1_ports)
        self._wmem = m.submodules.wmem = BankedMemory(sizes.wmem_words, banks, word)
        self._imem = m.submodules.imem = BankedMemory(sizes.imem_words, banks, word)
        self._controller = m.submodules.controller = Controller(sizes)
        self._fetch = m.submodules.fetch = WindowFetch(sizes)
        self._sequencer = m.submodules.sequencer = Sequencer(sizes)
        self._window = m.submodules.window = WindowPath(self._l1.row_bits, sizes)
        self._drain = m.submodules.drain = DrainControl(sizes)
        self._line = m.submodules.line = DrainLine(sizes)
        self._writes = m.submodules.writes = WritePath(sizes)
        # L1's read port, or its only one, is taken in the next cycle.
        self._blocked = Signal(name="blocked")
        self._connect_control(m)
        self._connect_imem(m)
        self._connect_writes(m)
        self._connect_reads(m)
        weights = self._connect_wmem(m)
        self._connect_ncbs(m, weights)
        self._connect_drain(m)
        self._connect_counters(m)
        return m

    def _connect_control(self, m: Module) -> None:
        """Stage 0: controller, window fetch and sequencer."""
        c, f, s = self._controller, self._fetch, self._sequencer
        for unit in (f, s, self._drain):
            m.d.comb += [unit.ir.eq(c.ir), unit.executes.eq(c.executes)]
        m.d.comb += [
            c.start.eq(self.start), c.start_pc.eq(self.start_pc), c.signal_in.eq(self.signal_in),
            c.sequencer_busy.eq(s.busy), c.set_busy.eq(self._drain.set_busy),
            f.start.eq(c.executes[Opcode.MAC]), f.repeat.eq(view(Mac, c.ir).repeat), f.outer.eq(s.mac.advance),
            f.take.eq(s.take), f.hold.eq(s.hold), f.blocked.eq(self._blocked),
            s.staged.eq(f.staged), s.staged_last.eq(f.staged_last), s.blocked.eq(self._blocked),
            self.running.eq(c.running), self.armed.eq(c.armed), self.trap.eq(c.trap),
        ]
        self._settle = m.submodules.settle = Settle(self.platform)
        m.d.comb += [
            self._settle.issue.eq(s.issue), self._settle.drain.eq(s.drain & (s.drain_cycles != 1)),
            self._settle.drain_cycles.eq(s.drain_cycles), self._settle.signal.eq(c.signal),
            c.in_flight.eq(~self._settle.settled), self.signal_out.eq(self._settle.signal_out),
        ]

    def _connect_imem(self, m: Module) -> None:
        c, p = self._controller, self.platform
        place_bits, bits = p.word_instructions.bit_length() - 1, p.bank_bits
        word, bank, place = c.pc[place_bits:], Signal(bits, name="bank"), Signal(place_bits, name="place")
        m.d.sync += [bank.eq(word[:bits]), place.eq(c.pc[:place_bits])]
        for b in range(p.banks):
            m.d.comb += [self._imem.r_en[b].eq(c.fetch & (word[:bits] == b)), self._imem.r_row[b].eq(word[bits:])]
        wide = pick(list(self._imem.r_data), bank)
        m.d.comb += c.instruction.eq(pick([wide[64 * k:64 * k + 64] for k in range(p.word_instructions)], place))

    def _connect_writes(self, m: Module) -> None:
        """LOAD beats and drains: rotated in one cycle, at the memories' write ports in the next."""
        writes, d, line = self._writes, self._drain, self._line
        for name in ("wr_valid", "wr_space", "wr_addr", "wr_mask", "wr_data"):
            m.d.comb += getattr(writes, name).eq(getattr(self, name))
        m.d.comb += [writes.drain.eq(d.write), writes.drain_addr.eq(d.address), writes.drain_mask.eq(d.slots)]
        shares_port = writes.to_l1 if self.platform.l1_ports == 1 else Const(0)
        m.d.comb += self._blocked.eq(self.rd_valid | shares_port)
        memories = ((self._l1, writes.l1_en), (self._wmem, writes.wmem_en), (self._imem, writes.imem_en))
        for b in range(self.platform.banks):
            m.d.comb += writes.drain_words[b].eq(line.words[b])
            for memory, enable in memories:
                m.d.comb += [
                    memory.w_en[b].eq(enable[b]), memory.w_row[b].eq(writes.row[b]),
                    memory.w_data[b].eq(writes.data[b]),
                ]

    def _connect_reads(self, m: Module) -> None:
        """L1's read port: address in stage 0, read in 1, rotation in 2; STORE beats, window fetches, look-ups."""
        f, s, w = self._fetch, self._sequencer, self._window
        banks, bits = self.platform.banks, self.platform.bank_bits
        address, first_1, first_2 = (
            Signal(14, name="address"), Signal(bits, name="first_1"), Signal(bits, name="first_2"))
        look_up, read, read_1 = Signal(name="look_up"), Signal(name="read"), Signal(name="read_1")
        m.d.comb += [
            address.eq(Mux(self.rd_valid, self.rd_addr, f.address)),
            look_up.eq(s.issue & s.table_valid), read.eq(self.rd_valid | f.go | look_up),
        ]
        m.d.sync += [first_1.eq(address[:bits]), first_2.eq(first_1), read_1.eq(read)]
        rows = bank_rows(m, address, self._l1.row_bits, banks, "read")
        for b in range(banks):
            row_1 = Signal(self._l1.row_bits, name=f"l1_r_row{b}")
            with m.If(read):
                m.d.sync += row_1.eq(Mux(look_up, w.table_row[b], rows[b]))
            m.d.comb += [self._l1.r_en[b].eq(read_1), self._l1.r_row[b].eq(row_1), w.banks[b].eq(self._l1.r_data[b])]
        words = rotate(m, [self._l1.r_data[b] for b in range(banks)], first_2, "window")
        store_data = register(self.platform.line_bits)
        m.d.sync += store_data.eq(Cat(words))
        m.d.comb += self.rd_data.eq(store_data)
        for i in range(banks):
            m.d.comb += w.words[i].eq(words[i])
        for name in ("words2", "spread2", "single2", "padded2", "pad"):
            m.d.comb += getattr(w, name).eq(getattr(f, name))
        load_s1 = Signal()
        m.d.sync += [load_s1.eq(s.take), w.load_s2.eq(load_s1)]
        m.d.comb += [
            w.signed_a.eq(s.mac.signed_a), w.table_select.eq(s.table_select), w.select_lane.eq(s.select_lane),
            w.base.eq(s.w_base), w.table_issue.eq(look_up),
        ]

    def _connect_wmem(self, m: Module) -> Signal:
        """Weights (read in stage 1, registered for stage 3) and LDP. Returns the weights of stage 3."""
        s, c = self._sequencer, self._controller
        banks, bits, lines = self.platform.banks, self.platform.bank_bits, record_lines(self.platform.pes_per_ncb)
        row_1, read_1, read_2 = (
            Signal(self._wmem.row_bits, name="row_1"), Signal(banks, name="read_1"), Signal(name="read_2"))
        bank_1, bank_2 = Signal(bits, name="bank_1"), Signal(bits, name="bank_2")
        record_base = view(LdP, c.ir).base
        # bit k: line k of the records is at the port
        ldp, ldp_1 = c.executes[Opcode.LDP], Signal(lines, name="ldp_1")
        ldp_set, self._ldp_set, self._ldp_2 = (
            Signal(name="ldp_set"), Signal(name="ldp_set_1"), Signal(lines, name="ldp_2"))
        m.d.sync += [
            read_1.eq(0), ldp_1.eq(Cat(ldp, ldp_1)), self._ldp_2.eq(ldp_1), self._ldp_set.eq(ldp_set),
            bank_1.eq(s.pointer[:bits]), bank_2.eq(bank_1),
        ]
        with m.If(s.weight):
            m.d.sync += [row_1.eq(s.pointer[bits:]), read_1.eq(1 << s.pointer[:bits])]
        with m.If(ldp):
            m.d.sync += [row_1.eq(record_base[bits:]), ldp_set.eq(view(LdP, c.ir).pset), read_1.eq(~0)]
        with m.Elif(ldp_1[:lines - 1].any() if lines > 1 else Const(0)):
            m.d.sync += [row_1.eq(row_1 + 1), read_1.eq(~0)]
        m.d.sync += read_2.eq(read_1.any())
        weights_s3 = register(self.platform.word_bits)
        for b in range(banks):
            m.d.comb += [self._wmem.r_en[b].eq(read_1[b]), self._wmem.r_row[b].eq(row_1)]
        with m.If(read_2):
            m.d.sync += weights_s3.eq(pick(list(self._wmem.r_data), bank_2))
        return weights_s3

    def _connect_ncbs(self, m: Module, weights_s3: Signal) -> None:
        s, w, d, mac = self._sequencer, self._window, self._drain, self._sequencer.mac
        pes = self.platform.pes_per_ncb
        records = Cat(self._wmem.r_data)
        is_table = mac.op == MacOp.TABLE
        values = {
            "issue": s.issue, "own": mac.depthwise & ~is_table, "weighted": mac.op == MacOp.MAC, "first": s.first,
            "max": mac.op == MacOp.MAX, "table": is_table, "lane": s.lane,
        }
        stages = {}
        for name, value in values.items():
            for k in range(1, 6):
                stage = Signal(len(value), name=f"{name}_s{k}")
                m.d.sync += stage.eq(value)
                stages[name, k] = value = stage
        m.d.comb += [w.lane_s3.eq(stages["lane", 3]), w.table_s3.eq(stages["table", 3])]
        shared = {
            "common_s3": w.common_s3, "sext_s3": w.sext_s3, "one_s3": w.one_s3, "own_s3": stages["own", 3],
            "weighted_s3": stages["weighted", 3], "first_s5": stages["first", 5], "max_s5": stages["max", 5],
        }
        results = []
        ncbs = self.platform.ncbs_per_requantizer
        for g in range(self.platform.ncbs_per_cluster // ncbs):
            group = m.submodules[f"group{g}"] = Block(NcbGroup(pes, ncbs), GROUP_MODULE)
            for name in group_control(pes, ncbs):
                m.d.comb += getattr(group, name).eq(shared[name] if name in shared else getattr(d, name))
            for k in range(ncbs):
                n = g * ncbs + k
                line, at = divmod(RECORD_BITS * n, self.platform.line_bits)
                en_s5 = Signal(name=f"en{n}_s5")
                m.d.sync += en_s5.eq(stages["issue", 4] & (~stages["table", 4] | (stages["lane", 4] == n)))
                m.d.comb += [
                    group.bytes_s3[k].eq(Cat(w.bytes_s3[p][8 * n:8 * n + 8] for p in range(pes))),
                    group.weight_s3[k].eq(weights_s3[8 * n:8 * n + 8]), group.en_s5[k].eq(en_s5),
                    group.param_data[k].eq(records[at:at + RECORD_BITS]),
                    group.param_we[k].eq(Mux(self._ldp_2[line], Mux(self._ldp_set, 2, 1), 0)),
                ]
            results.append(group.q)
        m.d.comb += self._line.results.eq(Cat(results))

    def _connect_drain(self, m: Module) -> None:
        s, d, line = self._sequencer, self._drain, self._line
        m.d.comb += [
            d.drain.eq(s.drain), d.mac.eq(s.mac), d.odd.eq(s.odd), self.drain_ahead.eq(d.drain_ahead),
        ]
        for name in ("collect_en", "collect_pixel", "collect_ncb", "wide", "upper"):
            m.d.comb += getattr(line, name).eq(getattr(d, name))

    def _connect_counters(self, m: Module) -> None:
        counters = m.submodules.counters = EngineCounters(Counter)
        c, f, s = self._controller, self._fetch, self._sequencer
        state = Signal(3)
        busy = s.issue
        with m.If(busy):
            m.d.comb += state.eq(Counter.BUSY)
        with m.Elif(c.waits):
            m.d.comb += state.eq(Counter.WAIT_DATA)
        with m.Elif(self._blocked & (f.wants | s.table_valid)):
            m.d.comb += state.eq(Counter.WAIT_PORT)
        with m.Elif(c.running):
            m.d.comb += state.eq(Counter.CONTROL)
        with m.Elif(self.in_frame & self.dmpa_idle):
            m.d.comb += state.eq(Counter.WAIT_HOST)
        with m.Else():
            m.d.comb += state.eq(Counter.IDLE)
        registered = Signal(3, init=NO_STATE)
        m.d.sync += registered.eq(state)
        m.d.comb += [counters.state.eq(registered), self.counters.eq(counters.counters)]
        m.d.comb += self.probe.eq(Cat(c.pc, c.ir[:6], c.waited, c.waits, s.busy, registered, c.lost))
