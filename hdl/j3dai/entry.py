# SPDX-License-Identifier: Apache-2.0
"""The entry port: the stream by which firmware, weights and images come into the chip, and its share of L2's port.

    stream -> two registers -> header, check -> one word a cycle to L2, or 32 bits a cycle to the host's memories

A beat is a word of L2: the least that L2 writes without reading first. 16 bytes at 200 MHz are 3.2 GB/s, nearly three
times what 30 frames/s of 4096 x 3072 RGB bytes need.
"""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS
from nncosim.hdl.formats import width
from nncosim.hdl.j3dai.isa import ENTRY_MAGIC, EntryHeader, EntryOp
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE, L2_BASE, EntryCounter, EntryError
from nncosim.platforms.j3dai import J3dai

__all__ = ["ENTRY_COUNTER_BITS", "Entry", "EntryL2Port"]

ENTRY_COUNTER_BITS = COUNTER_BITS * len(EntryCounter)

_HOST_BITS = HOST_DMEM_BASE.bit_length() - 1
"""Bits of an address within one of the host's memories."""
_L2_BITS = 24
"""Bits of an address within L2: 16 MiB at most."""


class Entry(wiring.Component):
    """Takes packets, a header and its words, and does what they say; see the manual, section 6.

    A header takes two cycles, a word for L2 one and those in which the DMPA has the port, a word for a memory of the
    host one for each 32 bits (and those in which the host uses its data memory). The first packet that is wrong stops
    the port for good: ``trap``, and nothing more is taken.

    Ports:
        i: The stream; a beat is a word. ``ready`` comes from a register.
        boot: Strap: the host waits for GO. ``run``: the host may fetch.
        frame: Pulse: one more inference is asked for.
        input_free: The network has read the input of every inference asked for, as of the cycle before.
        l2_valid, l2_addr, l2_data: A word for L2 in this cycle, which is written unless ``l2_busy``.
        host_valid, host_imem, host_addr, host_data: 32 bits for the host's instruction (else data) memory; taken in
            cycles with ``host_ready``.
        status: Register ENTRY_STATUS. ``trap``. ``counters``: 32 bits each, in `EntryCounter` order.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        super().__init__({
            "i": In(stream.Signature(platform.word_bits)), "boot": In(1), "run": Out(1), "frame": Out(1),
            "input_free": In(1),
            "l2_busy": In(1), "l2_valid": Out(1), "l2_addr": Out(20), "l2_data": Out(platform.word_bits),
            "host_ready": In(1), "host_valid": Out(1), "host_imem": Out(1), "host_addr": Out(_HOST_BITS - 2),
            "host_data": Out(32), "status": Out(32), "trap": Out(1), "counters": Out(ENTRY_COUNTER_BITS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        p = self.platform
        pop, valid, word = Signal(name="pop"), Signal(name="valid"), Signal(p.word_bits, name="word")
        self._take(m, pop, valid, word)

        header = Signal(EntryHeader)
        released = Signal()
        error = Signal(EntryError)
        to_l2, address, left = Signal(), Signal(21), Signal(16)  # in words, those left to be moved
        part = Signal(range(max(p.word_bytes // 4, 2)))
        found = self._check(m, header)
        done = Signal()
        m.d.comb += [
            self.run.eq(~self.boot | released), self.trap.eq(error != EntryError.NONE),
            self.l2_addr.eq(address), self.l2_data.eq(word),
            self.host_imem.eq(header.address[_HOST_BITS:] == HOST_IMEM_BASE >> _HOST_BITS),
            self.host_addr.eq(address * (p.word_bytes // 4) + part), self.host_data.eq(word.word_select(part, 32)),
        ]
        wait_input = Signal()
        with m.FSM() as fsm:
            with m.State("HEADER"):
                m.d.comb += pop.eq(valid)
                m.d.sync += header.eq(word[:width(EntryHeader)])
                with m.If(valid):
                    m.next = "ACT"
            with m.State("ACT"):
                m.d.sync += [to_l2.eq(header.address[-1]), address.eq(self._word_address(header)),
                             left.eq(header.words), part.eq(0)]
                m.next = "HEADER"
                with m.If(found != EntryError.NONE):
                    m.d.sync += error.eq(found)
                    m.next = "STOPPED"
                with m.Elif(header.op == EntryOp.GO):
                    m.d.sync += released.eq(1)
                with m.Elif(header.op == EntryOp.FRAME):
                    m.d.comb += self.frame.eq(1)
                with m.Elif(header.input & ~self.input_free):
                    m.d.comb += wait_input.eq(1)
                    m.next = "ACT"
                with m.Else():
                    m.next = "WORDS"
            with m.State("WORDS"):
                m.d.comb += [
                    self.l2_valid.eq(valid & to_l2), self.host_valid.eq(valid & ~to_l2),
                    done.eq(Mux(to_l2, self.l2_valid & ~self.l2_busy,
                                self.host_valid & self.host_ready & (part == p.word_bytes // 4 - 1))),
                    pop.eq(done),
                ]
                with m.If(self.host_valid & self.host_ready):
                    m.d.sync += part.eq(part + 1)
                with m.If(done):
                    m.d.sync += [address.eq(address + 1), left.eq(left - 1), part.eq(0)]
                    with m.If(left == 1):
                        m.next = "HEADER"
            with m.State("STOPPED"):
                pass
        m.d.comb += self.status.eq(Cat(error, Const(0, 8 - len(error)), ~fsm.ongoing("HEADER"), Const(0, 7), self.trap))
        self._count(m, pop, done, wait_input)
        return m

    def _take(self, m: Module, pop: Signal, valid: Signal, word: Signal) -> None:
        """Two registers: `word`, and one for the beat that comes while `word` stays."""
        spare_valid, spare = Signal(name="spare_valid"), Signal(self.platform.word_bits, name="spare")
        push = self.i.valid & self.i.ready
        m.d.comb += self.i.ready.eq(~spare_valid)
        with m.If(pop | ~valid):
            m.d.sync += [word.eq(Mux(spare_valid, spare, self.i.payload)), valid.eq(spare_valid | push),
                         spare_valid.eq(0)]
        with m.Elif(push):
            m.d.sync += [spare.eq(self.i.payload), spare_valid.eq(1)]

    def _word_address(self, header: Signal) -> Value:
        """The header's address in words within its memory."""
        bits = (self.platform.word_bytes - 1).bit_length()
        return Mux(header.address[-1], header.address[bits:_L2_BITS], header.address[bits:_HOST_BITS])

    def _check(self, m: Module, header: Signal) -> Signal:
        """What is wrong with a header."""
        p = self.platform
        bits = (p.word_bytes - 1).bit_length()
        sizes = {
            (HOST_IMEM_BASE, _HOST_BITS): p.host_imem_bytes, (HOST_DMEM_BASE, _HOST_BITS): p.host_dmem_bytes,
            (L2_BASE, _L2_BITS): p.l2_bytes,
        }
        inside, end = Signal(name="inside"), Signal(22, name="end")
        m.d.comb += end.eq(self._word_address(header) + header.words)
        for (base, low), size in sizes.items():
            with m.If(header.address[low:] == base >> low):
                m.d.comb += inside.eq(end <= size // p.word_bytes)
        found = Signal(EntryError, name="found")
        to_imem = header.address[_HOST_BITS:] == HOST_IMEM_BASE >> _HOST_BITS
        with m.If((header.magic != ENTRY_MAGIC) | (header.pad != 0)):
            m.d.comb += found.eq(EntryError.HEADER)
        with m.Elif(header.op == EntryOp.LOAD):
            with m.If(~inside | (header.words == 0) | (header.address[:bits] != 0)):
                m.d.comb += found.eq(EntryError.ADDRESS)
            with m.Elif(to_imem & self.run):
                m.d.comb += found.eq(EntryError.RUNNING)
        with m.Elif(header.op == EntryOp.GO):
            with m.If(self.run):
                m.d.comb += found.eq(EntryError.RUNNING)
        with m.Elif(header.op != EntryOp.FRAME):
            m.d.comb += found.eq(EntryError.OP)
        return found

    def _count(self, m: Module, pop: Signal, done: Signal, wait_input: Signal) -> None:
        """Counters; their events are registered first, as everywhere."""
        wait = Signal(name="wait")
        m.d.comb += wait.eq(self.l2_valid & self.l2_busy)
        values = {which: Signal(COUNTER_BITS, name=which.name.lower()) for which in EntryCounter}
        events = {EntryCounter.BEATS: pop, EntryCounter.WORDS: done, EntryCounter.WAIT_PORT: wait,
                  EntryCounter.WAIT_INPUT: wait_input}
        late = {which: Signal(name=f"{which.name.lower()}_1") for which in events}
        for which, event in events.items():
            m.d.sync += [late[which].eq(event), values[which].eq(values[which] + late[which])]
        # The run of waits so far is never above the longest: when it is as long, both grow.
        so_far, longest = Signal(COUNTER_BITS), values[EntryCounter.LONGEST_WAIT]
        with m.If(late[EntryCounter.WAIT_PORT]):
            m.d.sync += so_far.eq(so_far + 1)
            with m.If(so_far == longest):
                m.d.sync += longest.eq(longest + 1)
        with m.Else():
            m.d.sync += so_far.eq(0)
        m.d.comb += self.counters.eq(Cat(values[which] for which in EntryCounter))


class EntryL2Port(wiring.Component):
    """L2's port for two: the DMPA has it in every cycle in which it wants it, the entry port in the others.

    Nothing of the DMPA depends on the entry port. Its request is in registers, so ``busy`` is there early in the cycle.

    Ports: ``addr``, ``mask``, ``r_en``, ``w_en``, ``w_data`` of the DMPA; ``entry_valid``, ``entry_addr``,
    ``entry_data``, ``busy``; ``l2_addr``, ``l2_mask``, ``l2_r_en``, ``l2_w_en``, ``l2_w_data``: what L2 gets.
    ``entry_write``: the entry port's word is written in this cycle.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        banks, line = platform.banks, platform.line_bits
        super().__init__({
            "addr": In(20), "mask": In(banks), "r_en": In(1), "w_en": In(1), "w_data": In(line),
            "entry_valid": In(1), "entry_addr": In(20), "entry_data": In(platform.word_bits),
            "busy": Out(1), "entry_write": Out(1),
            "l2_addr": Out(20), "l2_mask": Out(banks), "l2_r_en": Out(1), "l2_w_en": Out(1), "l2_w_data": Out(line),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word = self.platform.word_bits
        # Which of the two is chosen depends on the DMPA alone: without a word L2 is not enabled, whatever its address.
        m.d.comb += [
            self.busy.eq(self.r_en | self.w_en), self.entry_write.eq(self.entry_valid & ~self.busy),
            self.l2_addr.eq(Mux(self.busy, self.addr, self.entry_addr)), self.l2_mask.eq(Mux(self.busy, self.mask, 1)),
            self.l2_r_en.eq(self.r_en), self.l2_w_en.eq(self.w_en | self.entry_write),
            self.l2_w_data.eq(Cat(Mux(self.busy, self.w_data[:word], self.entry_data), self.w_data[word:])),
        ]
        return m
