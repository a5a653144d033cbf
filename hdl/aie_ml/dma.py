# SPDX-License-Identifier: Apache-2.0
"""The tile's DMA: two channels from stream to memory, two from memory to stream, and their buffer descriptors.

Cycles of a channel (`start`, seen idle, in t; states are those of `DmaState`):

    t+1      FETCH: asks for the descriptor, until granted: no configuration write, no channel before it asks.
    then     LOAD, one cycle: the descriptor is there; counts its iteration. (A write of its word 4 in this cycle wins.)
    then     ACQUIRE, if told to, up to and with the cycle of the grant.
    then     MOVE: t+4 at the earliest; t+3 without an acquire.
    over     RELEASE, if told to, up to and with the cycle of the grant; then FETCH of the next descriptor, or IDLE.

S2MM in MOVE. The line is the word of memory being gathered, as registers. It asks for its write when it has four words;
when none is left to take; when a word is valid at the stream that belongs elsewhere. A valid word is taken, from the
first cycle of MOVE on, if the line does not ask, or is granted in this cycle. The write of the last, granted in w, ends
MOVE: RELEASE (or FETCH, or IDLE) in w+1. All granted, the last word is taken in u, written in u+1, RELEASE u+2, FETCH
u+3, LOAD u+4, ACQUIRE u+5, the next buffer's first word taken in u+6.

MM2S in MOVE. There is one place for a word on its way from memory to the `Elastic`. While that is empty, or the Elastic
has room as its register says, the next word moves: at once if it is of the line read last in this buffer, else if the
read that is asked for is granted in this cycle. A word that moves in v is put into the Elastic in v+1 or as soon as
there is room, and is at the stream in v+2. The last moves in u; RELEASE (or FETCH, or IDLE) in u+1, whatever waits on
its way. All granted: RELEASE u+1, FETCH u+2, LOAD u+3, ACQUIRE u+4, the next buffer's first read in u+5.
"""

from typing import TYPE_CHECKING

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.hdl.aie_ml.locks import REQUEST
from nncosim.hdl.aie_ml.stream import STREAM, Elastic
from nncosim.hdl.logic import register, view
from nncosim.hdl.sram import Sram

if TYPE_CHECKING:
    import enum as am_enum
else:
    from amaranth.lib import enum as am_enum

__all__ = ["CHANNELS", "DESCRIPTORS", "DESCRIPTOR_WORDS", "Descriptor", "Dma", "DmaState", "Mm2s", "S2mm"]

CHANNELS, DESCRIPTORS, DESCRIPTOR_WORDS = 4, 16, 6
_ADDRESS = 14
_ITERATION_WORD = 4


class DmaState(am_enum.Enum, shape=3):  # type: ignore[misc,call-arg]
    IDLE = 0
    FETCH = 1
    LOAD = 2
    ACQUIRE = 3
    MOVE = 4
    RELEASE = 5


class Descriptor(data.Struct):
    """See the manual's table."""

    base: 14  # type: ignore[valid-type]
    unused0: 2  # type: ignore[valid-type]
    length: 15  # type: ignore[valid-type]
    unused1: 1  # type: ignore[valid-type]
    step0: signed(15)  # type: ignore[valid-type]
    unused2: 1  # type: ignore[valid-type]
    count0: 10  # type: ignore[valid-type]
    unused3: 6  # type: ignore[valid-type]
    step1: signed(15)  # type: ignore[valid-type]
    unused4: 1  # type: ignore[valid-type]
    count1: 10  # type: ignore[valid-type]
    unused5: 6  # type: ignore[valid-type]
    step2: signed(15)  # type: ignore[valid-type]
    unused6: 17  # type: ignore[valid-type]
    iteration_step: signed(15)  # type: ignore[valid-type]
    unused7: 1  # type: ignore[valid-type]
    iteration_count: 6  # type: ignore[valid-type]
    unused8: 10  # type: ignore[valid-type]
    next: 4  # type: ignore[valid-type]
    use_next: 1  # type: ignore[valid-type]
    acquire: 1  # type: ignore[valid-type]
    acquire_lock: 4  # type: ignore[valid-type]
    acquire_value: 6  # type: ignore[valid-type]
    at_least: 1  # type: ignore[valid-type]
    release: 1  # type: ignore[valid-type]
    release_lock: 4  # type: ignore[valid-type]
    release_delta: signed(7)  # type: ignore[valid-type]
    unused9: 3  # type: ignore[valid-type]


MEMORY = wiring.Signature({
    "valid": Out(1), "addr": Out(_ADDRESS - 2), "write": Out(1), "w_data": Out(128), "w_mask": Out(4),
    "grant": In(1), "r_data": In(128),
})
_FETCHED = wiring.Signature({
    "valid": Out(1), "number": Out(4), "grant": In(1), "words": In(192), "offset": In(_ADDRESS),
})


class _Channel(wiring.Component):
    """What both kinds have: the descriptor in hand, its locks, the walk over its words.

    Ports:
        start (In), start_bd (In). fetch (Out): of `Descriptors`. lock (Out), memory (Out). state, bd (Out).
    """

    kind: str

    def __init__(self) -> None:
        ends = {"s2mm": In(STREAM)} if self.kind == "s2mm" else {"mm2s": Out(STREAM)}
        super().__init__({
            "start": In(1), "start_bd": In(4), "fetch": Out(_FETCHED), "lock": Out(REQUEST), "memory": Out(MEMORY),
            "state": Out(DmaState), "bd": Out(4), **ends,
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.now = view(Descriptor, register(192, "descriptor"))
        self.left = register(15, "left")
        self.at = register(_ADDRESS, "at")
        self.moves, done = Signal(name="moves"), Signal(name="done")
        self._states(m, done)
        self._walk(m)
        self._move(m, done)
        return m

    def _states(self, m: Module, done: Signal) -> None:
        now, state = self.now, self.state
        release = state == DmaState.RELEASE
        m.d.comb += [
            self.fetch.valid.eq(state == DmaState.FETCH), self.fetch.number.eq(self.bd),
            self.lock.valid.eq((state == DmaState.ACQUIRE) | release),
            self.lock.lock.eq(Mux(release, now.release_lock, now.acquire_lock)),
            self.lock.value.eq(Mux(release, now.release_delta, now.acquire_value)),
            self.lock.op.eq(Mux(release, LockOp.RELEASE,
                                Mux(now.at_least, LockOp.ACQUIRE_AT_LEAST, LockOp.ACQUIRE_EQUAL))),
        ]
        over = Signal(name="over")
        with m.Switch(state):
            with m.Case(DmaState.IDLE):
                with m.If(self.start):
                    m.d.sync += [state.eq(DmaState.FETCH), self.bd.eq(self.start_bd)]
            with m.Case(DmaState.FETCH):
                with m.If(self.fetch.grant):
                    m.d.sync += state.eq(DmaState.LOAD)
            with m.Case(DmaState.LOAD):
                fetched = view(Descriptor, self.fetch.words)
                m.d.sync += [
                    now.as_value().eq(self.fetch.words),
                    state.eq(Mux(fetched.acquire, DmaState.ACQUIRE, DmaState.MOVE)),
                ]
            with m.Case(DmaState.ACQUIRE):
                with m.If(self.lock.grant):
                    m.d.sync += state.eq(DmaState.MOVE)
            with m.Case(DmaState.MOVE):
                with m.If(done):
                    m.d.sync += state.eq(DmaState.RELEASE)
                    m.d.comb += over.eq(~now.release)
            with m.Case(DmaState.RELEASE):
                m.d.comb += over.eq(self.lock.grant)
        with m.If(over):
            m.d.sync += [state.eq(Mux(now.use_next, DmaState.FETCH, DmaState.IDLE)), self.bd.eq(now.next)]

    def _walk(self, m: Module) -> None:
        """Addresses of the words, in order; `left` of them."""
        now, at = self.now, self.at
        row, plane = register(_ADDRESS, "row"), register(_ADDRESS, "plane")
        column, line = register(10, "column"), register(10, "line")
        row_next, plane_next = Signal(_ADDRESS, name="row_next"), Signal(_ADDRESS, name="plane_next")
        m.d.comb += [row_next.eq(row + now.step1), plane_next.eq(plane + now.step2)]
        with m.If(self.state == DmaState.LOAD):
            fetched, begin = view(Descriptor, self.fetch.words), Signal(_ADDRESS, name="begin")
            m.d.comb += begin.eq(fetched.base + self.fetch.offset)
            m.d.sync += [
                at.eq(begin), row.eq(begin), plane.eq(begin), column.eq(0), line.eq(0), self.left.eq(fetched.length),
            ]
        with m.Elif(self.moves):
            m.d.sync += self.left.eq(self.left - 1)
            with m.If(column + 1 < now.count0):
                m.d.sync += [column.eq(column + 1), at.eq(at + now.step0)]
            with m.Elif(line + 1 < now.count1):
                m.d.sync += [column.eq(0), line.eq(line + 1), at.eq(row_next), row.eq(row_next)]
            with m.Else():
                m.d.sync += [column.eq(0), line.eq(0), at.eq(plane_next), row.eq(plane_next), plane.eq(plane_next)]

    def _move(self, m: Module, done: Signal) -> None:
        raise NotImplementedError


class S2mm(_Channel):
    """From a stream into memory. A line gathers words of one address; one that is complete is written at once."""

    kind = "s2mm"

    def _move(self, m: Module, done: Signal) -> None:
        here, mask = Signal(name="line_valid"), register(4, "mask")
        addr, line = register(_ADDRESS - 2, "addr"), register(128, "line")
        moving, some = Signal(name="moving"), Signal(name="some")
        same, asks, goes = Signal(name="same"), Signal(name="asks"), Signal(name="goes")
        lane = Signal(4, name="lane")
        m.d.comb += [
            moving.eq(self.state == DmaState.MOVE), some.eq(moving & (self.left != 0) & self.s2mm.valid),
            same.eq(addr == self.at[2:]), asks.eq(here & ((mask == 15) | (self.left == 0) | (some & ~same))),
            goes.eq(asks & self.memory.grant), self.memory.valid.eq(asks), self.memory.write.eq(1),
            self.memory.addr.eq(addr), self.memory.w_data.eq(line), self.memory.w_mask.eq(mask),
            self.moves.eq(some & (~here | (same & (mask != 15)) | goes)), lane.eq(1 << self.at[:2]),
            self.s2mm.ready.eq(moving & (self.left != 0) & (~here | (same & (mask != 15)) | goes)),
            done.eq(moving & (self.left == 0) & (~here | goes)),
        ]
        with m.If(self.moves):
            m.d.sync += [here.eq(1), addr.eq(self.at[2:]), mask.eq(lane | Mux(here & ~goes, mask, 0))]
            for number in range(4):
                with m.If(lane[number]):
                    m.d.sync += line.word_select(number, 32).eq(self.s2mm.payload)
        with m.Elif(goes):
            m.d.sync += here.eq(0)


class Mm2s(_Channel):
    """From memory to a stream. A line that was read serves for all words in it that follow each other."""

    kind = "mm2s"

    def _move(self, m: Module, done: Signal) -> None:
        m.submodules.out = out = Elastic(32)
        wiring.connect(m, out.o, wiring.flipped(self.mm2s))
        known, addr, line = Signal(name="known"), register(_ADDRESS - 2, "addr"), register(128, "line")
        fresh, given, lane = Signal(name="fresh"), Signal(name="given"), register(2, "lane")
        wants, same, here = Signal(name="wants"), Signal(name="same"), Signal(128, name="here")
        m.d.comb += [
            wants.eq((self.state == DmaState.MOVE) & (self.left != 0) & (~given | out.i.ready)),
            same.eq(known & (addr == self.at[2:])), self.memory.valid.eq(wants & ~same),
            self.memory.addr.eq(self.at[2:]), self.moves.eq(wants & (same | self.memory.grant)),
            here.eq(Mux(fresh, self.memory.r_data, line)), out.i.valid.eq(given),
            out.i.payload.eq(here.word_select(lane, 32)),
            done.eq((self.state == DmaState.MOVE) & (self.left == 0) | (self.moves & (self.left == 1))),
        ]
        m.d.sync += fresh.eq(self.memory.valid & self.memory.grant)
        with m.If(fresh):
            m.d.sync += line.eq(self.memory.r_data)
        with m.If(self.state == DmaState.LOAD):
            m.d.sync += known.eq(0)
        with m.If(self.moves):
            m.d.sync += [given.eq(1), lane.eq(self.at[:2]), known.eq(1), addr.eq(self.at[2:])]
        with m.Elif(out.i.ready):
            m.d.sync += given.eq(0)


class Dma(wiring.Component):
    """Channels S2MM 0, S2MM 1, MM2S 0, MM2S 1, in this order in all arrays.

    Ports:
        s2mm (In), mm2s (Out): streams, 2 each. memory (Out, 4): to word ports of `DataMemory`. lock (Out, 4).
        bd_write, bd_addr (7: descriptor * 8 + word), bd_data (32), start (4 of 1), start_bd (In): configuration.
        busy, bd, state (Out, 4 each): for monitors.
    """

    s2mm: list[wiring.PureInterface]
    mm2s: list[wiring.PureInterface]
    memory: list[wiring.PureInterface]
    lock: list[wiring.PureInterface]
    start: list[Signal]
    busy: list[Signal]
    bd: list[Signal]
    state: list[Signal]

    def __init__(self) -> None:
        super().__init__({
            "s2mm": In(STREAM).array(2), "mm2s": Out(STREAM).array(2), "memory": Out(MEMORY).array(CHANNELS),
            "lock": Out(REQUEST).array(CHANNELS), "bd_write": In(1), "bd_addr": In(7), "bd_data": In(32),
            "start": In(1).array(CHANNELS), "start_bd": In(4), "busy": Out(1).array(CHANNELS),
            "bd": Out(4).array(CHANNELS), "state": Out(DmaState).array(CHANNELS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        channels: list[_Channel] = [S2mm(), S2mm(), Mm2s(), Mm2s()]
        for number, (channel, name) in enumerate(zip(channels, ("s2mm0", "s2mm1", "mm2s0", "mm2s1"), strict=True)):
            m.submodules[name] = channel
            wiring.connect(m, channel.memory, wiring.flipped(self.memory[number]))
            wiring.connect(m, channel.lock, wiring.flipped(self.lock[number]))
            m.d.comb += [
                channel.start.eq(self.start[number]), channel.start_bd.eq(self.start_bd),
                self.busy[number].eq(channel.state != DmaState.IDLE), self.bd[number].eq(channel.bd),
                self.state[number].eq(channel.state),
            ]
        for number in range(2):
            wiring.connect(m, wiring.flipped(self.s2mm[number]), channels[number].s2mm)
            wiring.connect(m, channels[2 + number].mm2s, wiring.flipped(self.mm2s[number]))
        self._descriptors(m, channels)
        return m

    def _descriptors(self, m: Module, channels: list[_Channel]) -> None:
        """Their memory, for one channel a cycle, and how often each was begun: as an offset, and a count."""
        m.submodules.descriptors = memory = Sram(DESCRIPTORS, 32 * DESCRIPTOR_WORDS, 32, ports=1)
        offsets, counts = ([register(bits, f"{name}{k}") for k in range(DESCRIPTORS)]
                           for bits, name in ((_ADDRESS, "offset"), (6, "count")))
        number, fetched = Signal(4, name="number"), register(4, "fetched")
        before: Value = self.bd_write
        for channel in channels:
            m.d.comb += channel.fetch.grant.eq(channel.fetch.valid & ~before)
            before = before | channel.fetch.valid
            with m.If(channel.fetch.grant):
                m.d.comb += number.eq(channel.fetch.number)
        reads, loaded = Signal(name="reads"), Signal(name="loaded")
        m.d.comb += [
            reads.eq(Cat(channel.fetch.grant for channel in channels).any()), memory.r_en.eq(reads),
            memory.addr.eq(Mux(self.bd_write, self.bd_addr[3:], number)),
            memory.w_en.eq(Mux(self.bd_write, (1 << self.bd_addr[:3])[:DESCRIPTOR_WORDS], 0)),
            memory.w_data.eq(self.bd_data.replicate(DESCRIPTOR_WORDS)),
        ]
        m.d.sync += [loaded.eq(reads), fetched.eq(number)]
        words, offset = view(Descriptor, memory.r_data), Array(offsets)[fetched]
        m.d.comb += [
            *(channel.fetch.words.eq(memory.r_data) for channel in channels),
            *(channel.fetch.offset.eq(offset) for channel in channels),
        ]
        count = Array(counts)[fetched]
        for k in range(DESCRIPTORS):
            with m.If(self.bd_write & (self.bd_addr == 8 * k + _ITERATION_WORD)):
                m.d.sync += [offsets[k].eq(0), counts[k].eq(0)]
            with m.Elif(loaded & (fetched == k)):
                again = count + 1 < words.iteration_count
                m.d.sync += [
                    offsets[k].eq(Mux(again, offset + words.iteration_step, 0)), counts[k].eq(Mux(again, count + 1, 0)),
                ]
