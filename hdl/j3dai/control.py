# SPDX-License-Identifier: Apache-2.0
"""Control registers: what the host sees of the accelerator, from the table in `regs.py`."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS
from nncosim.hdl.j3dai.counters import TRANSFER_BITS
from nncosim.hdl.j3dai.entry import ENTRY_COUNTER_BITS
from nncosim.hdl.j3dai.regs import (
    ENTRY_ENGINE,
    ID_VALUE,
    REGISTERS,
    TRANSFER_COUNTERS,
    TRANSFER_ENGINE,
    Counter,
    EntryCounter,
    Reg,
    TransferCounter,
)
from nncosim.hdl.registers import connect_reads, connect_writes, packed, stored_registers

__all__ = ["DMPA_ENGINE", "HOST_ENGINE", "ControlRegisters"]

DMPA_ENGINE = 8
HOST_ENGINE = 9
"""Engine numbers of COUNTER_SELECT; 0 to 7 are the clusters."""


class ControlRegisters(wiring.Component):
    """The registers of `REGISTERS`, one access a cycle.

    Ports:
        addr, r_en, r_data: Byte offset (its low two bits are ignored); the value is there in the next cycle.
            Write-only and unknown registers read as 0.
        w_en, w_data: Write all 32 bits; a write to a read-only register changes nothing.
        frame, entry_frame: Pulses: one more inference is asked for. ``in_frame``: one is in progress. ``irq``.
        input_free: In the cycle before, INPUTS_FREE was FRAMES_REQUESTED.
        frames_done, error: As written by the host.
        push, push_addr, dmpa_free, dmpa_busy, dmpa_trap, lists_done: The DMPA.
        start, start_pc, running, armed, cluster_trap: The clusters, one bit each.
        counters: 192 bits an engine: the clusters, then the DMPA, then the host. ``transfers``: see `TransferCounters`.
        entry_status, entry_counters: The entry port.
    """

    def __init__(self, clusters: int):
        self.clusters = clusters
        super().__init__({
            "addr": In(8), "r_en": In(1), "r_data": Out(32), "w_en": In(1), "w_data": In(32),
            "frame": In(1), "entry_frame": In(1), "input_free": Out(1),
            "in_frame": Out(1), "irq": Out(1), "frames_done": Out(32), "error": Out(32),
            "push": Out(1), "push_addr": Out(32),
            "dmpa_free": In(3), "dmpa_busy": In(1), "dmpa_trap": In(1), "lists_done": In(32),
            "start": Out(clusters), "start_pc": Out(9),
            "running": In(clusters), "armed": In(clusters), "cluster_trap": In(clusters),
            "counters": In(COUNTER_BITS * len(Counter) * (clusters + 2)), "transfers": In(TRANSFER_BITS),
            "entry_status": In(32), "entry_counters": In(ENTRY_COUNTER_BITS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        stored = stored_registers(REGISTERS)
        requested = Signal(32)
        m.d.sync += [
            requested.eq(requested + self.frame + self.entry_frame),
            self.input_free.eq(requested == stored[Reg.INPUTS_FREE]),
        ]
        m.d.comb += [
            self.in_frame.eq(requested != stored[Reg.FRAMES_DONE]),
            self.irq.eq((self.lists_done != stored[Reg.IRQ_LISTS_SEEN]) | (requested != stored[Reg.IRQ_FRAMES_SEEN])),
            self.frames_done.eq(stored[Reg.FRAMES_DONE]), self.error.eq(stored[Reg.ERROR]),
            self.push_addr.eq(self.w_data), self.start_pc.eq(self.w_data[16:25]),
        ]
        values = {
            **stored,
            Reg.ID: ID_VALUE,
            Reg.FRAMES_REQUESTED: requested,
            Reg.LISTS_DONE: self.lists_done,
            Reg.DMPA_STATUS: packed({0: self.dmpa_free, 8: self.dmpa_busy, 16: self.dmpa_trap}),
            Reg.CLUSTER_STATUS: packed({0: self.running | self.armed, 8: self.armed, 16: self.cluster_trap}),
            Reg.ENTRY_STATUS: self.entry_status,
            Reg.COUNTER_VALUE: self._selected_counter(m, stored[Reg.COUNTER_SELECT]),
        }
        connect_reads(m, self.addr, self.r_en, self.r_data, values)
        connect_writes(m, self.addr, self.w_en, self.w_data, stored, {
            Reg.DMPA_PUSH: self.push.eq(1), Reg.CLUSTER_START: self.start.eq(self.w_data[:self.clusters]),
        })
        return m

    def _selected_counter(self, m: Module, select: Signal) -> Signal:
        """COUNTER_VALUE; 0 where there is no such engine or counter."""
        value = Signal(COUNTER_BITS)
        engines = [*range(self.clusters), DMPA_ENGINE, HOST_ENGINE]
        with m.Switch(select[:7]):
            for position, engine in enumerate(engines):
                for counter in Counter:
                    with m.Case(counter << 4 | engine):
                        m.d.comb += value.eq(self.counters.word_select(position * len(Counter) + counter, COUNTER_BITS))
            for kind, existing in TRANSFER_COUNTERS.items():
                for which in existing:
                    with m.Case(which << 4 | TRANSFER_ENGINE + kind):
                        at = kind * len(TransferCounter) + which
                        m.d.comb += value.eq(self.transfers.word_select(at, COUNTER_BITS))
            for place in EntryCounter:
                with m.Case(place << 4 | ENTRY_ENGINE):
                    m.d.comb += value.eq(self.entry_counters.word_select(place, COUNTER_BITS))
        return value
