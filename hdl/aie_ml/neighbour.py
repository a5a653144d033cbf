# SPDX-License-Identifier: Apache-2.0
"""A core's way to the data memory and the locks of its west neighbour, from tile to tile. What arrives goes into
registers: none of it is needed in the cycle in which it comes. `MANUAL.md` says what is done; `WEST_GROUPS` bounds what
is on the way, so nothing has to be held back."""

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
    """As the core sees it. A cycle's `ask`s (with addr, in beats, and w_data of the store) are a group, served from the
    next cycle on. done: the oldest group has its last access now. came: r_data is what the oldest load of the slot
    without data read, in the cycle before. lock_ask (with lock, lock_op, lock_value): a request, the only one until
    lock_done: it is granted now."""
    bits, addr = generation.beat_bits, generation.west_bit
    return wiring.Signature({
        "ask": Out(1).array(PORTS), "addr": Out(addr).array(PORTS), "w_data": Out(bits), "done": In(1),
        "came": In(1).array(LOADS), "r_data": In(bits).array(LOADS), "lock_ask": Out(1), "lock": Out(LOCK_BITS),
        "lock_op": Out(LockOp), "lock_value": Out(signed(7)), "lock_done": In(1),
    })  # fmt: skip


class ToWest(wiring.Component):
    """The end at the core: how much is under way, and what has come.

    Ports:
        goes (In): which accesses are asked for at the end of this cycle, if the core goes on (`advance`, In).
        addr (In, array of load a, load b, store), w_data (In): theirs.
        waiting (Out): there is no room for them: the core must not advance.
        came, r_data (Out, arrays of the loads): of `NEIGHBOUR`, a cycle later.
        acquire (In): an ACQUIRE is next, and was not granted before; lock_grant (Out): it is.
        release (In): a RELEASE is next; it is asked for when the core advances.
        lock_free (Out): nothing is under way to the locks: a RELEASE may be issued.
        lock, lock_op, lock_value (In): of the ACQUIRE or RELEASE. link (Out): `neighbour_of`.
    """

    link: wiring.PureInterface

    def __init__(self, generation: Generation = AIE_ML) -> None:
        addr, bits = In(generation.west_bit).array(PORTS), generation.beat_bits
        super().__init__({
            "goes": In(PORTS), "advance": In(1), "addr": addr, "w_data": In(bits), "waiting": Out(1),
            "came": Out(1).array(LOADS), "r_data": Out(bits).array(LOADS), "acquire": In(1), "release": In(1),
            "lock_grant": Out(1), "lock_free": Out(1), "lock": In(LOCK_BITS), "lock_op": In(LockOp),
            "lock_value": In(signed(7)), "link": Out(neighbour_of(generation)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        link, under_way = self.link, Signal(range(WEST_GROUPS + 1), name="under_way")
        group, done = Signal(name="group"), Signal(name="done")
        m.d.comb += [
            group.eq(self.goes.any()), self.waiting.eq(group & (under_way == WEST_GROUPS) & ~done),
            *(ask.eq(self.goes[port] & self.advance) for port, ask in enumerate(link.ask)),
            *(out.eq(addr) for out, addr in zip(link.addr, self.addr, strict=True)), link.w_data.eq(self.w_data),
        ]
        m.d.sync += [done.eq(link.done), under_way.eq(under_way + (group & self.advance) - done)]
        for slot, came in enumerate(link.came):
            m.d.sync += self.came[slot].eq(came)
            with m.If(came):
                m.d.sync += self.r_data[slot].eq(link.r_data[slot])
        self._lock(m)
        return m

    def _lock(self, m: Module) -> None:
        link = self.link
        busy, asked, done = Signal(name="lock_busy"), Signal(name="asked"), Signal(name="lock_was_done")
        m.d.comb += [
            self.lock_free.eq(~busy | done), self.lock_grant.eq(asked & done),
            link.lock_ask.eq((self.acquire & ~asked & self.lock_free) | (self.release & self.advance)),
            *(getattr(link, name).eq(getattr(self, name)) for name in LOCK_FIELDS),
        ]
        m.d.sync += [done.eq(link.lock_done), busy.eq(link.lock_ask | ~self.lock_free)]
        with m.If(self.advance):
            m.d.sync += asked.eq(0)
        with m.Elif(self.acquire & self.lock_free):
            m.d.sync += asked.eq(1)


class FromEast(wiring.Component):
    """The end at the memory: what the east neighbour's core asks for, in its order. Until it is served a group has one
    of two places, which take turns.

    Ports:
        link (In): `neighbour_of`.
        valid, addr, grant (arrays of load a, load b, store), w_data, r_data (array of the loads): of `DataMemory`.
        request (Out): of `Locks`. A RELEASE is asked for when nothing is left that came before it.
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
        link, wanted = self.link, [Signal(PORTS, name=f"wanted{place}") for place in range(WEST_GROUPS)]
        oldest, newest = Signal(name="oldest"), Signal(name="newest")
        asks, now, left = (Signal(PORTS, name=name) for name in ("asks", "now", "left"))
        comes, over = Signal(name="comes"), Signal(name="over")
        m.d.comb += [
            *(asks[port].eq(ask) for port, ask in enumerate(link.ask)), comes.eq(asks.any()),
            now.eq(Mux(oldest, wanted[1], wanted[0])), over.eq(now.any() & (left == 0)), link.done.eq(over),
            *(valid.eq(now[port]) for port, valid in enumerate(self.valid)),
            *(left[port].eq(now[port] & ~grant) for port, grant in enumerate(self.grant)),
        ]
        m.d.sync += [oldest.eq(oldest ^ over), newest.eq(newest ^ comes)]
        for place, each in enumerate(wanted):
            with m.If(oldest == place):
                m.d.sync += each.eq(left)
            with m.If(comes & (newest == place)):
                m.d.sync += each.eq(asks)
        self._fields(m, comes, oldest, newest)
        for slot, (came, data) in enumerate(zip(link.came, link.r_data, strict=True)):
            m.d.sync += came.eq(now[slot] & self.grant[slot])
            m.d.comb += data.eq(self.r_data[slot])
        self._lock(m, wanted, over)
        return m

    def _fields(self, m: Module, comes: Signal, oldest: Signal, newest: Signal) -> None:
        """Addresses and data of the groups."""
        for number, (come, go) in enumerate((*zip(self.link.addr, self.addr, strict=True),
                                             (self.link.w_data, self.w_data))):  # fmt: skip
            places = [register(come.shape(), f"kept{number}_{place}") for place in range(WEST_GROUPS)]
            for place, kept in enumerate(places):
                with m.If(comes & (newest == place)):
                    m.d.sync += kept.eq(come)
            m.d.comb += go.eq(Mux(oldest, places[1], places[0]))

    def _lock(self, m: Module, wanted: list[Signal], over: Signal) -> None:
        """One request; `ahead`: groups that come before it."""
        link, request = self.link, self.request
        pending, ahead = Signal(name="pending"), register(range(WEST_GROUPS + 1), "ahead")
        m.d.comb += [request.valid.eq(pending & (ahead == 0)), link.lock_done.eq(request.grant)]
        m.d.sync += pending.eq(link.lock_ask | (pending & ~request.grant))
        with m.If(ahead != 0):
            m.d.sync += ahead.eq(ahead - over)
        for name, out in zip(LOCK_FIELDS, (request.lock, request.op, request.value), strict=True):
            kept = register(out.shape(), f"{name}_kept")
            m.d.comb += out.eq(kept)
            with m.If(link.lock_ask):
                m.d.sync += kept.eq(getattr(link, name))
        with m.If(link.lock_ask):
            m.d.sync += ahead.eq(0)
            with m.If(link.lock_op == LockOp.RELEASE):
                m.d.sync += ahead.eq(sum(each.any() for each in wanted) - over)
