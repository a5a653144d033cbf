# SPDX-License-Identifier: Apache-2.0
"""J3DAI's performance counters: those of its engines are `nncosim.hdl.counters.EngineCounters`, those of the DMPA by
kind of transfer are here. All counters of the SoC are one cycle late."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.counters import COUNTER_BITS, no_state
from nncosim.hdl.j3dai.regs import TRANSFER_COUNTERS, Counter, TransferCounter, TransferKind

__all__ = ["NO_STATE", "TRANSFER_BITS", "TransferCounters"]

TRANSFER_BITS = COUNTER_BITS * len(TransferKind) * len(TransferCounter)
NO_STATE = no_state(Counter)


class TransferCounters(wiring.Component):
    """Counts what the DMPA does, by kind of transfer. As late as the engines' counters: inputs are registered first.

    Ports:
        kind: `TransferKind` of the descriptor that runs, or else waits to run.
        beat: It issues a beat, of ``words`` words to or from ``copies`` clusters. done: Its last, or a SYNC.
        wait_data, wait_turn, wait_port: It waits; see `TransferCounter`.
        fetch, fetch_wait: A line of descriptors is read, or waits to be.
        counters: Counter c of transfer t at bits 32 (7 t + c); wraps. Those not in `TRANSFER_COUNTERS` are 0.

    Args:
        beat_words: The most words of a beat.
    """

    def __init__(self, beat_words: int):
        self.beat_words = beat_words
        super().__init__({
            "kind": In(2), "beat": In(1), "done": In(1), "words": In(range(self.beat_words + 1)), "copies": In(4),
            "wait_data": In(1), "wait_turn": In(1), "wait_port": In(1), "fetch": In(1), "fetch_wait": In(1),
            "counters": Out(TRANSFER_BITS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        late = {name: Signal(len(getattr(self, name)), name=f"{name}_1")
                for name in self.signature.members if name != "counters"}
        m.d.sync += [signal.eq(getattr(self, name)) for name, signal in late.items()]
        delivered = Signal(len(self.words) + len(self.copies))
        m.d.comb += delivered.eq(late["words"] * late["copies"])
        amounts = {
            TransferCounter.DESCRIPTORS: ("done", 1), TransferCounter.BEATS: ("beat", 1),
            TransferCounter.WORDS: ("beat", late["words"]), TransferCounter.DELIVERED: ("beat", delivered),
            TransferCounter.WAIT_DATA: ("wait_data", 1), TransferCounter.WAIT_TURN: ("wait_turn", 1),
            TransferCounter.WAIT_PORT: ("wait_port", 1),
        }
        values = {}
        for kind in (TransferKind.LOAD, TransferKind.STORE, TransferKind.SYNC):
            for which in TRANSFER_COUNTERS[kind]:
                if (kind, which) == (TransferKind.STORE, TransferCounter.DELIVERED):
                    continue  # one cluster: as many as WORDS
                when, amount = amounts[which]
                values[kind, which] = value = self._value(kind, which)
                with m.If(late[when] & (late["kind"] == kind)):
                    m.d.sync += value.eq(value + amount)
        for which, when in ((TransferCounter.BEATS, "fetch"), (TransferCounter.WAIT_PORT, "fetch_wait")):
            values[TransferKind.FETCH, which] = value = self._value(TransferKind.FETCH, which)
            m.d.sync += value.eq(value + late[when])
        values[TransferKind.STORE, TransferCounter.DELIVERED] = values[TransferKind.STORE, TransferCounter.WORDS]
        for (kind, which), value in values.items():
            at = kind * len(TransferCounter) + which
            m.d.comb += self.counters.word_select(at, COUNTER_BITS).eq(value)
        return m

    @staticmethod
    def _value(kind: TransferKind, which: TransferCounter) -> Signal:
        return Signal(COUNTER_BITS, name=f"{kind.name.lower()}_{which.name.lower()}")
