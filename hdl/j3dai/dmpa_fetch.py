# SPDX-License-Identifier: Apache-2.0
"""The DMPA's front end: list queue, fetching of descriptor lines, the next descriptor ready to be taken."""

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.formats import width
from nncosim.hdl.j3dai.isa import Descriptor
from nncosim.platforms.j3dai import J3dai

__all__ = ["LISTS", "DescriptorFetch"]

LISTS = 4


class DescriptorFetch(wiring.Component):
    """Walks the queued lists, in order, and offers one descriptor after the other.

    While the descriptor offered waits to be taken, its successors lie in the line buffer; the next line is fetched
    as soon as the buffer's last descriptor has moved on.

    Ports:
        push, push_addr: Queue the list at this word address (checked to be usable here).
        port_free: A line may be read in the next cycle.
        fetch, fetch_addr: A line is read in the next cycle; its data is on ``line`` one cycle after that.
        held: A line would be read in the next cycle if the port were free.
        next_valid, next, next_addr, next_list: The descriptor offered, its first word's address, the index of its
            list since reset. Held until ``take``.
        bad_line: The next line would lie beyond L2's end. Nothing more is offered.
        free: Free places of the queue.
        refused: Pulse: ``push`` to a full queue, of an unaligned address, or beyond L2.
        empty: No list is queued or partly offered.
        empty_next: ``empty`` does not depend on ``take``.
        stop: Start no further fetch.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        super().__init__({
            "push": In(1), "push_addr": In(32), "refused": Out(1), "free": Out(3),
            "port_free": In(1), "held": Out(1), "fetch": Out(1), "fetch_addr": Out(20), "line": In(platform.line_bits),
            "next_valid": Out(1), "next": Out(Descriptor), "next_addr": Out(20), "next_list": Out(32),
            "take": In(1), "stop": In(1), "bad_line": Out(1), "empty": Out(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        head, queued, pop = self._queue(m)

        # The list being read: address of its next line, and how far the line in the buffer has been used.
        # One bit more than an address: a list may run beyond the end of the largest L2.
        active, line_addr, list_index = (
            Signal(name="active"), Signal(21, name="line_addr"), Signal(32, init=0xFFFF_FFFF, name="list_index"))
        p, bits = self.platform, width(Descriptor)
        on_port, arriving, buffered, slot = (
            Signal(name="on_port"), Signal(name="arriving"), Signal(name="buffered"),
            Signal(range(p.line_descriptors), name="slot"))
        buffer = Signal(p.line_bits)
        wanted, line = Signal(), Signal(21, name="next_line")
        m.d.comb += [
            wanted.eq((active | queued) & ~buffered & ~on_port & ~arriving & ~self.stop),
            line.eq(Mux(active, line_addr, head)), self.fetch_addr.eq(line),
            self.bad_line.eq(wanted & (line >= p.l2_words)),
            self.fetch.eq(wanted & ~self.bad_line & self.port_free),
            self.held.eq(wanted & ~self.bad_line & ~self.port_free),
            pop.eq(self.fetch & ~active),
        ]
        m.d.sync += [on_port.eq(self.fetch), arriving.eq(on_port)]
        with m.If(self.fetch):
            m.d.sync += [active.eq(1), line_addr.eq(self.fetch_addr + p.banks), slot.eq(0)]
            m.d.sync += list_index.eq(list_index + pop)
        with m.If(arriving):
            m.d.sync += [buffer.eq(self.line), buffered.eq(1)]

        chosen = Signal(Descriptor)
        m.d.comb += chosen.as_value().eq(buffer.word_select(slot, bits) if len(slot) else buffer)
        with m.If(self.take):
            m.d.sync += self.next_valid.eq(0)
        with m.If(buffered & (self.take | ~self.next_valid)):
            m.d.sync += [
                self.next.eq(chosen), self.next_valid.eq(1), self.next_list.eq(list_index),
                self.next_addr.eq(line_addr - p.banks + slot * (bits // p.word_bits)),
                slot.eq(slot + 1),
            ]
            with m.If(chosen.end):
                m.d.sync += [active.eq(0), buffered.eq(0)]
            with m.Elif(slot == p.line_descriptors - 1):
                m.d.sync += buffered.eq(0)
        m.d.comb += self.empty.eq(~(active | queued | self.next_valid))
        return m

    def _queue(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """The list queue; gives its oldest address, whether there is one, and the signal that removes it."""
        places = Array(Signal(20, name=f"list{k}") for k in range(LISTS))
        first, count, pop, push = (
            Signal(2, name="first"), Signal(3, name="count"), Signal(name="pop"), Signal(name="push"))
        head, queued = Signal(20, name="head"), Signal(name="queued")
        usable = (self.push_addr[:self.platform.bank_bits] == 0) & (self.push_addr < self.platform.l2_words)
        m.d.comb += [
            head.eq(places[first]), queued.eq(count != 0), self.free.eq(LISTS - count),
            push.eq(self.push & usable & (count != LISTS)),
            self.refused.eq(self.push & ~push),
        ]
        with m.If(push):
            m.d.sync += places[(first + count)[:2]].eq(Cat(self.push_addr[:20]))
        with m.If(pop):
            m.d.sync += first.eq(first + 1)
        m.d.sync += count.eq(count + push - pop)
        return head, queued, pop
