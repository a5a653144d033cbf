# SPDX-License-Identifier: Apache-2.0
"""A channel of a DMA, from stream to memory or from memory to stream; of core tiles and of memory tiles.

Cycles of a channel (`start`, seen idle, in t; states are those of `DmaState`):

    t+1      FETCH: asks for the descriptor, until granted: no configuration write, no channel before it asks.
    then     LOAD, one cycle: the descriptor is there; counts its iteration. (A write of its iteration in this cycle
             wins.)
    then     ACQUIRE, if told to, up to and with the cycle of the grant.
    then     MOVE: t+4 at the earliest; t+3 without an acquire. A buffer of no words: one cycle.
    over     RELEASE, if told to, up to and with the cycle of the grant; then FETCH of the next descriptor, or IDLE.

S2MM in MOVE. The line is the word of memory being gathered, as registers. It asks for its write when it has four words;
when none is left to take; when a word is valid at the stream that belongs elsewhere. A valid word is taken, from the
first cycle of MOVE on, if the line does not ask, or is granted in this cycle. The write of the last, granted in w, ends
MOVE: RELEASE (or FETCH, or IDLE) in w+1. All granted, the last word is taken in u, written in u+1, RELEASE u+2, FETCH
u+3, LOAD u+4, ACQUIRE u+5, the next buffer's first word taken in u+6.

MM2S in MOVE. There is one place for a word on its way from memory to the `Elastic`. While that is empty, or the Elastic
has room as its register says, the next word moves: at once if it is of the line read last in this buffer or of the
padding, else if the read that is asked for is granted in this cycle. A word that moves in v is put into the Elastic in
v+1 or as soon as there is room, and is at the stream in v+2. The last moves in u; RELEASE (or FETCH, or IDLE) in u+1,
whatever waits on its way. All granted: RELEASE u+1, FETCH u+2, LOAD u+3, ACQUIRE u+4, the next buffer's first read in
u+5.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.hdl.aie_ml.locks import request_of
from nncosim.hdl.aie_ml.stream import Elastic
from nncosim.hdl.logic import register, view

if TYPE_CHECKING:
    import enum as am_enum
else:
    from amaranth.lib import enum as am_enum

__all__ = ["Channel", "DmaState", "Format", "Mm2s", "S2mm", "memory_of"]


class DmaState(am_enum.Enum, shape=3):  # type: ignore[misc,call-arg]
    IDLE = 0
    FETCH = 1
    LOAD = 2
    ACQUIRE = 3
    MOVE = 4
    RELEASE = 5


@dataclass(frozen=True)
class Format:
    """What a kind of descriptor says by its fields.

    fields: `step0`, `step1`, ... of each dimension; `count0`, ... of all but the last; `padK_before` and `padK_after`
    of those, or none; and the rest as in `nncosim.hdl.aie_ml.dma.Descriptor`. word: bits of a word of a stream, which
    addresses count. address: bits of them that count; 0: all that `base` has.
    """

    fields: type[data.Struct]
    word: int = 32
    address_bits: int = 0

    def bits(self, name: str) -> int:
        return Shape.cast(self.fields.as_shape()[name].shape).width

    @property
    def address(self) -> int:
        """Bits of an address."""
        return self.address_bits or self.bits("base")

    @property
    def line(self) -> int:
        """Bits of a line of memory."""
        return 4 * self.word

    @property
    def stream(self) -> stream.Signature:
        return stream.Signature(self.word)

    @property
    def number(self) -> int:
        """Bits of a descriptor's number."""
        return self.bits("next")

    @property
    def locks(self) -> int:
        return 1 << self.bits("acquire_lock")

    @property
    def width(self) -> int:
        return Shape.cast(self.fields).width

    @property
    def counted(self) -> int:
        """Dimensions with a count."""
        return sum(name.startswith("count") for name, _ in self.fields.as_shape())

    @property
    def padded(self) -> bool:
        return any(name.startswith("pad") for name, _ in self.fields.as_shape())

    @property
    def iteration_word(self) -> int:
        return self.fields.as_shape()["iteration_step"].offset // 32


def memory_of(fmt: Format) -> wiring.Signature:
    """A channel's accesses, of lines; w_mask: which of its words are written."""
    return wiring.Signature({
        "valid": Out(1), "addr": Out(fmt.address - 2), "write": Out(1), "w_data": Out(fmt.line), "w_mask": Out(4),
        "grant": In(1), "r_data": In(fmt.line),
    })  # fmt: skip


class Channel(wiring.Component):
    """What both kinds have: the descriptor in hand, its locks, the walk over its words.

    Ports:
        start (In), start_bd (In). fetch (Out): of descriptors. lock (Out), memory (Out). state, bd (Out).
    """

    kind: str

    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        self.padded = fmt.padded and self.kind == "mm2s"
        ends = {"s2mm": In(fmt.stream)} if self.kind == "s2mm" else {"mm2s": Out(fmt.stream)}
        fetched = wiring.Signature({
            "valid": Out(1), "number": Out(fmt.number), "grant": In(1), "words": In(fmt.width),
            "offset": In(fmt.address),
        })  # fmt: skip
        super().__init__({
            "start": In(1), "start_bd": In(fmt.number), "fetch": Out(fetched), "lock": Out(request_of(fmt.locks)),
            "memory": Out(memory_of(fmt)), "state": Out(DmaState), "bd": Out(fmt.number), **ends,
        })

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self.fmt
        self.now = view(fmt.fields, register(fmt.width, "descriptor"))
        self.left = register(fmt.bits("length"), "left")
        self.at = register(fmt.address, "at")
        self.counters = [register(fmt.bits("count0") + self.padded, name)
                         for name in ("column", "line", "plane")[:fmt.counted]]  # fmt: skip
        self.moves, done = Signal(name="moves"), Signal(name="done")
        self.bounds, self.sizes = self._bounds(m)
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
                fetched = view(self.fmt.fields, self.fetch.words)
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
        """Addresses of the words, in order; `left` of them.

        `begins`: of the next word of a dimension's run, and so of all runs within; padding leaves them where they are.
        """
        now, counters, bits = self.now, self.counters, self.fmt.address
        begins = [self.at, *(register(bits, name) for name in ("line_at", "plane_at", "space_at")[:self.fmt.counted])]
        following = [Signal(bits, name=f"following{k}") for k in range(len(begins))]
        more: list[Value] = [counter + 1 < size for counter, size in zip(counters, self.sizes, strict=True)]
        for k, begin in enumerate(begins):
            step = now[f"step{k}"]
            if k < len(self.bounds):
                step = Mux(counters[k] < self.bounds[k][0], 0, step)
            m.d.comb += following[k].eq(begin + step)
        with m.If(self.state == DmaState.LOAD):
            fetched, first = view(self.fmt.fields, self.fetch.words), Signal(bits, name="first")
            m.d.comb += first.eq(fetched.base + self.fetch.offset)
            m.d.sync += [*(begin.eq(first) for begin in begins), *(counter.eq(0) for counter in counters),
                         self.left.eq(fetched.length)]  # fmt: skip
        with m.Elif(self.moves):
            m.d.sync += self.left.eq(self.left - 1)
            for k, on in enumerate([*more, Value.cast(1)]):
                with m.If(Cat(on, *(~inner for inner in more[:k])).all()):
                    m.d.sync += [*(counter.eq(0) for counter in counters[:k]),
                                 *(counter.eq(counter + 1) for counter in counters[k : k + 1]),
                                 *(begin.eq(following[k]) for begin in begins[: k + 1])]  # fmt: skip

    def _bounds(self, m: Module) -> tuple[list[tuple[Value, Value]], list[Value]]:
        """Of the dimensions with a count: where data begins and ends, if there is padding; how many words there are in
        all, or 0 for 1."""
        now, width = self.now, len(self.counters[0])
        if not self.padded:
            return [], [now[f"count{k}"] for k in range(self.fmt.counted)]
        fetched, bounds, sizes = view(self.fmt.fields, self.fetch.words), [], list[Value]()
        for k in range(self.fmt.counted):
            end, size, count = register(width, f"end{k}"), register(width, f"size{k}"), fetched[f"count{k}"]
            behind = fetched[f"pad{k}_before"] + Mux(count == 0, 1, count)
            with m.If(self.state == DmaState.LOAD):
                m.d.sync += [end.eq(behind), size.eq(behind + fetched[f"pad{k}_after"])]
            bounds.append((now[f"pad{k}_before"], end))
            sizes.append(size)
        return bounds, sizes

    def _move(self, m: Module, done: Signal) -> None:
        raise NotImplementedError


class S2mm(Channel):
    """From a stream into memory. A line gathers words of one address; one that is complete is written at once."""

    kind = "s2mm"

    def _move(self, m: Module, done: Signal) -> None:
        here, mask = Signal(name="line_valid"), register(4, "mask")
        addr, line = register(self.fmt.address - 2, "addr"), register(self.fmt.line, "line")
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
                    m.d.sync += line.word_select(number, self.fmt.word).eq(self.s2mm.payload)
        with m.Elif(goes):
            m.d.sync += here.eq(0)


class Mm2s(Channel):
    """From memory to a stream. A line that was read serves for all words in it that follow each other."""

    kind = "mm2s"

    def _move(self, m: Module, done: Signal) -> None:
        bits = self.fmt.line
        m.submodules.out = out = Elastic(self.fmt.word)
        wiring.connect(m, out.o, wiring.flipped(self.mm2s))
        known, addr, line = Signal(name="known"), register(self.fmt.address - 2, "addr"), register(bits, "line")
        fresh, given, lane = Signal(name="fresh"), Signal(name="given"), register(2, "lane")
        wants, same, here = Signal(name="wants"), Signal(name="same"), Signal(bits, name="here")
        zero, blank = Signal(name="zero"), register(1, "blank")
        if self.padded:
            inside = [(counter >= begin) & (counter < end)
                      for counter, (begin, end) in zip(self.counters, self.bounds, strict=True)]
            m.d.comb += zero.eq(~Cat(inside).all())
        m.d.comb += [
            wants.eq((self.state == DmaState.MOVE) & (self.left != 0) & (~given | out.i.ready)),
            same.eq(zero | (known & (addr == self.at[2:]))), self.memory.valid.eq(wants & ~same),
            self.memory.addr.eq(self.at[2:]), self.moves.eq(wants & (same | self.memory.grant)),
            here.eq(Mux(fresh, self.memory.r_data, line)), out.i.valid.eq(given),
            out.i.payload.eq(Mux(blank, 0, here.word_select(lane, self.fmt.word))),
            done.eq((self.state == DmaState.MOVE) & (self.left == 0) | (self.moves & (self.left == 1))),
        ]
        m.d.sync += fresh.eq(self.memory.valid & self.memory.grant)
        with m.If(fresh):
            m.d.sync += line.eq(self.memory.r_data)
        with m.If(self.state == DmaState.LOAD):
            m.d.sync += known.eq(0)
        with m.If(self.moves):
            m.d.sync += [given.eq(1), blank.eq(zero), lane.eq(self.at[:2])]
            with m.If(~zero):
                m.d.sync += [known.eq(1), addr.eq(self.at[2:])]
        with m.Elif(out.i.ready):
            m.d.sync += given.eq(0)
