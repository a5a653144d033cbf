# SPDX-License-Identifier: Apache-2.0
"""A core's way to the data memory and the locks of its west neighbour, from tile to tile: all that goes over comes from
registers. `MANUAL.md` says what it does; `WEST_GROUPS` bounds what is on the way, so nothing has to be held back."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.isa import WEST_GROUPS, LockOp
from nncosim.hdl.aie_ml.locks import LOCKS, request_of
from nncosim.hdl.logic import register
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["FromEast", "ToWest", "neighbour_of"]

PORTS, LOADS = 3, 2
"""Load a, load b, store."""
LOCK_BITS = (LOCKS - 1).bit_length()
LOCK_FIELDS = ("lock", "lock_op", "lock_value")


def neighbour_of(generation: Generation) -> wiring.Signature:
    """As the core sees it. A cycle's `ask`s (with addr, in beats, and w_data of the store) are a group. done: the
    oldest group had its last access in the cycle before. came: r_data is what the oldest load of the slot without data
    read, two cycles ago. lock_ask (with lock, lock_op, lock_value): a request, the only one until lock_done: it was
    granted in the cycle before."""
    bits, addr = generation.beat_bits, generation.west_bit
    return wiring.Signature({
        "ask": Out(1).array(PORTS), "addr": Out(addr).array(PORTS), "w_data": Out(bits), "done": In(1),
        "came": In(1).array(LOADS), "r_data": In(bits).array(LOADS), "lock_ask": Out(1), "lock": Out(LOCK_BITS),
        "lock_op": Out(LockOp), "lock_value": Out(signed(7)), "lock_done": In(1),
    })  # fmt: skip


class ToWest(wiring.Component):
    """The end at the core: how much is under way.

    Ports:
        goes (In): which accesses are to be asked for in the next cycle, if the core goes on (`advance`, In).
        addr (In, array of load a, load b, store), w_data (In): theirs, in the cycle in which they are asked for.
        waiting (Out): there is no room for them: the core must not advance.
        acquire (In): an ACQUIRE is next, and was not granted before; lock_grant (Out): it is.
        release (In): a RELEASE is next; it is asked for when the core advances.
        lock_free (Out): nothing is under way to the locks: a RELEASE may be issued.
        lock, lock_op, lock_value (In): of the ACQUIRE or RELEASE. link (Out): `neighbour_of`.
    """

    link: wiring.PureInterface

    def __init__(self, generation: Generation = AIE_ML) -> None:
        addr, bits = In(generation.west_bit).array(PORTS), generation.beat_bits
        super().__init__({
            "goes": In(PORTS), "advance": In(1), "addr": addr, "w_data": In(bits), "waiting": Out(1), "acquire": In(1),
            "release": In(1), "lock_grant": Out(1), "lock_free": Out(1), "lock": In(LOCK_BITS), "lock_op": In(LockOp),
            "lock_value": In(signed(7)), "link": Out(neighbour_of(generation)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        link, under_way = self.link, Signal(range(WEST_GROUPS + 1), name="under_way")
        group, asks = Signal(name="group"), Signal(name="asks")
        m.d.comb += [
            group.eq(self.goes.any()), self.waiting.eq(group & (under_way == WEST_GROUPS) & ~link.done),
            link.w_data.eq(self.w_data), *(out.eq(addr) for out, addr in zip(link.addr, self.addr, strict=True)),
        ]
        m.d.sync += [
            under_way.eq(under_way + (group & self.advance) - link.done),
            *(ask.eq(self.goes[port] & self.advance) for port, ask in enumerate(link.ask)),
        ]
        busy, asked = Signal(name="lock_busy"), Signal(name="asked")
        m.d.comb += [
            self.lock_free.eq(~busy | link.lock_done), self.lock_grant.eq(asked & link.lock_done),
            asks.eq((self.acquire & ~asked & self.lock_free) | (self.release & self.advance)),
        ]
        m.d.sync += [link.lock_ask.eq(asks), busy.eq(asks | ~self.lock_free)]
        with m.If(self.acquire | self.release):
            m.d.sync += [getattr(link, name).eq(getattr(self, name)) for name in LOCK_FIELDS]
        with m.If(self.advance):
            m.d.sync += asked.eq(0)
        with m.Elif(self.acquire & self.lock_free):
            m.d.sync += asked.eq(1)
        return m


class FromEast(wiring.Component):
    """The end at the memory: what the east neighbour's core asks for, in its order. A group is served when it comes, or
    waits in one of two places, which take turns.

    Ports:
        link (In): `neighbour_of`.
        valid, addr, grant (arrays of load a, load b, store), w_data, r_data (array of the loads): of `DataMemory`.
        request (Out): of `Locks`. A RELEASE is asked for when nothing waits any more that came before it.
    """

    link: wiring.PureInterface
    request: wiring.PureInterface

    def __init__(self, generation: Generation = AIE_ML) -> None:
        addr, bits = Out(generation.west_bit).array(PORTS), generation.beat_bits
        super().__init__({
            "link": In(neighbour_of(generation)), "valid": Out(1).array(PORTS), "addr": addr,
            "grant": In(1).array(PORTS), "w_data": Out(bits), "r_data": In(bits).array(LOADS),
            "request": Out(request_of(LOCKS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        link = self.link
        comes, over = Signal(name="comes"), Signal(name="over")
        waits, oldest, newest = Signal(name="waits"), Signal(name="oldest"), Signal(name="newest")
        wanted = [Signal(PORTS, name=f"wanted{place}") for place in range(WEST_GROUPS)]
        now, left = Signal(PORTS, name="now"), Signal(PORTS, name="left")
        asks, behind = Signal(PORTS, name="asks"), Signal(name="behind")
        m.d.comb += [
            *(asks[port].eq(ask) for port, ask in enumerate(link.ask)), comes.eq(asks.any()),
            now.eq(Mux(waits, Mux(oldest, wanted[1], wanted[0]), asks)),
            behind.eq(Mux(oldest, wanted[0], wanted[1]).any()),
            *(left[port].eq(now[port] & ~grant) for port, grant in enumerate(self.grant)),
            *(valid.eq(now[port]) for port, valid in enumerate(self.valid)), over.eq(now.any() & (left == 0)),
        ]
        # Without one that waits, `oldest` is `newest`: where what comes now is kept, if it is not over at once.
        m.d.sync += [oldest.eq(oldest ^ over), newest.eq(newest ^ comes), link.done.eq(over)]
        m.d.sync += waits.eq(Mux(waits, ~over | behind | comes, comes & ~over))
        for place, each in enumerate(wanted):
            with m.If(waits & (oldest == place)):
                m.d.sync += each.eq(left)
            with m.Elif(comes & (newest == place)):
                m.d.sync += each.eq(Mux(waits, asks, left))
        self._places(m, comes, waits, oldest, newest)
        for read, came, data, kept in zip(self.r_data, link.came, link.r_data, self._reads(m, now), strict=True):
            m.d.sync += came.eq(kept)
            with m.If(kept):
                m.d.sync += data.eq(read)
        self._lock(m, waits, behind, over)
        return m

    def _places(self, m: Module, comes: Signal, waits: Signal, oldest: Signal, newest: Signal) -> None:
        """Addresses and data: kept as they come, whether they have to wait or not."""
        fields = [*zip(self.link.addr, self.addr, strict=True), (self.link.w_data, self.w_data)]
        for number, (come, go) in enumerate(fields):
            places = [register(come.shape(), f"kept{number}_{place}") for place in range(WEST_GROUPS)]
            for place, kept in enumerate(places):
                with m.If(comes & (newest == place)):
                    m.d.sync += kept.eq(come)
            m.d.comb += go.eq(Mux(waits, Mux(oldest, places[1], places[0]), come))

    def _reads(self, m: Module, now: Signal) -> list[Signal]:
        """Of each slot, whether the memory gives what it read."""
        reads = [Signal(name=f"read{slot}") for slot in range(LOADS)]
        for slot, read in enumerate(reads):
            m.d.sync += read.eq(now[slot] & self.grant[slot])
        return reads

    def _lock(self, m: Module, waits: Signal, behind: Signal, over: Signal) -> None:
        link, request = self.link, self.request
        held = {name: register(getattr(link, name).shape(), f"{name}_held") for name in LOCK_FIELDS}
        pending, ahead = Signal(name="lock_pending"), register(range(WEST_GROUPS + 1), "ahead")
        before = Signal(range(WEST_GROUPS + 1), name="before")
        with m.If(pending):
            m.d.comb += before.eq(ahead)
        with m.Elif(link.lock_op == LockOp.RELEASE):
            m.d.comb += before.eq(waits + (waits & behind))
        m.d.comb += [
            request.valid.eq((pending | link.lock_ask) & (before == 0)),
            request.lock.eq(Mux(pending, held["lock"], link.lock)),
            request.op.eq(Mux(pending, held["lock_op"], link.lock_op)),
            request.value.eq(Mux(pending, held["lock_value"], link.lock_value)),
        ]
        m.d.sync += [
            ahead.eq(before - ((before != 0) & over)), link.lock_done.eq(request.grant),
            pending.eq((pending | link.lock_ask) & ~request.grant),
        ]
        with m.If(link.lock_ask):
            m.d.sync += [kept.eq(getattr(link, name)) for name, kept in held.items()]
