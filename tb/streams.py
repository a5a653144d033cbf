# SPDX-License-Identifier: Apache-2.0
"""Ready/valid streams in cocotb benches: source, sink and monitor, bound from a component's signature.

    bench = Streams(dut, Adder())                 # every stream port of the component, by name
    bench["i"].pause = random_pauses(rng("i"), 0.3)
    await bench["i"].send([1, 2, 3])
    assert await bench["o"].receive(3) == [2, 3, 4]

A stream port ``i`` is the Verilog ports ``i__payload``, ``i__valid`` and ``i__ready``; an input of the component
gets a source, an output gets a sink, and every stream a monitor that checks the transfer rules: once valid, a
stream stays valid with the same payload until a cycle in which it is ready.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cocotb
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from cocotb.handle import HierarchyObject, LogicObject
from cocotb.triggers import Event, RisingEdge
from nncosim.tb.cocotb_bench import port_of
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.payload import Payload, decode_payload, encode_payload

__all__ = ["StreamMonitor", "StreamPort", "StreamSink", "StreamSource", "Streams", "random_pauses", "stream_ports"]


@dataclass(frozen=True)
class StreamPort:
    """A stream port of a component: `is_input` as the component sees it."""

    name: str
    payload_shape: ShapeLike
    is_input: bool


def stream_ports(component: wiring.Component) -> dict[str, StreamPort]:
    """Stream ports of a component by the name the Verilog back end gives them (``a__i``, ``lane__0``)."""
    return dict(_stream_ports(component.signature, (), False))


def _stream_ports(signature: wiring.Signature, path: tuple[str, ...],
                  flipped: bool) -> Iterator[tuple[str, StreamPort]]:
    if isinstance(signature, wiring.FlippedSignature):
        yield from _stream_ports(signature.flip(), path, not flipped)
        return
    for name, member in signature.members.items():
        if not member.is_signature:
            continue
        inner, inward = member.signature, flipped
        if isinstance(inner, wiring.FlippedSignature):
            inner, inward = inner.flip(), not flipped
        for index in _indices(member.dimensions):
            full = (*path, name, *map(str, index))
            if isinstance(inner, stream.Signature):
                yield "__".join(full), StreamPort("__".join(full), inner.members["payload"].shape, inward)
            else:
                yield from _stream_ports(inner, full, inward)


def _indices(dimensions: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not dimensions:
        yield ()
        return
    for index in range(dimensions[0]):
        for rest in _indices(dimensions[1:]):
            yield (index, *rest)


def random_pauses(rng: random.Random, probability: float) -> Iterator[bool]:
    """True in a cycle without transfer offered, with the given probability in each cycle."""
    while True:
        yield rng.random() < probability


class _Agent:
    """A stream's signals on the device, and its payload's shape."""

    def __init__(self, dut: HierarchyObject, port: StreamPort, clock: LogicObject):
        self.port, self.clock = port, clock
        self.valid = port_of(dut, f"{port.name}__valid")
        self.ready = port_of(dut, f"{port.name}__ready")
        self.payload = port_of(dut, f"{port.name}__payload")
        self.pause: Iterator[bool] | None = None

    def paused(self) -> bool:
        return self.pause is not None and next(self.pause, False)


class StreamSource(_Agent):
    """Offers values on an input stream, in order, one a cycle except when `pause` says no."""

    def __init__(self, dut: HierarchyObject, port: StreamPort, clock: LogicObject):
        super().__init__(dut, port, clock)
        self._queue: deque[int] = deque()
        self._wake, self._idle = Event(), Event()
        self.valid.value = 0
        cocotb.start_soon(self._run())

    def put(self, values: Iterable[Payload]) -> None:
        """Queue values, of the payload's shape (see `nncosim.tb.sim.payload.encode_payload`)."""
        self._queue.extend(encode_payload(self.port.payload_shape, value, self.port.name) for value in values)
        self._idle.clear()
        self._wake.set()

    async def send(self, values: Iterable[Payload]) -> None:
        """Queue values and wait until all that is queued was transferred."""
        self.put(values)
        if self._queue:
            await self._idle.wait()

    async def _run(self) -> None:
        edge = RisingEdge(self.clock)
        while True:
            if not self._queue:
                self.valid.value = 0
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                await edge
            while self.paused():
                self.valid.value = 0
                await edge
            self.valid.value = 1
            self.payload.value = self._queue[0]
            await edge
            while not int(self.ready.value):
                await edge
            self._queue.popleft()


class StreamSink(_Agent):
    """Takes values from an output stream whenever `pause` does not say no."""

    def __init__(self, dut: HierarchyObject, port: StreamPort, clock: LogicObject):
        super().__init__(dut, port, clock)
        self.received: list[Payload] = []
        self._more = Event()
        self.ready.value = 0
        cocotb.start_soon(self._run())

    async def receive(self, count: int) -> list[Payload]:
        """Wait for `count` values not yet taken by an earlier call, and take them."""
        while len(self.received) < count:
            self._more.clear()
            await self._more.wait()
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    async def _run(self) -> None:
        edge = RisingEdge(self.clock)
        while True:
            ready = not self.paused()
            self.ready.value = int(ready)
            await edge
            if ready and int(self.valid.value):
                self.received.append(decode_payload(self.port.payload_shape, int(self.payload.value)))
                self._more.set()


class StreamMonitor(_Agent):
    """Checks the transfer rules of a stream and records its transfers, driving nothing.

    Attributes:
        transfers: Payloads transferred, in order.
        cycles: Clock cycles seen.
        stalled: Cycles in which valid waited for ready.
    """

    def __init__(self, dut: HierarchyObject, port: StreamPort, clock: LogicObject):
        super().__init__(dut, port, clock)
        self.transfers: list[Payload] = []
        self.cycles = self.stalled = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self.clock)
        waiting: int | None = None
        while True:
            await edge
            self.cycles += 1
            valid, ready, payload = int(self.valid.value), int(self.ready.value), int(self.payload.value)
            if waiting is not None:
                where = f"stream {self.port.name}, cycle {self.cycles}"
                assert valid, f"{where}: valid fell before a transfer"
                assert payload == waiting, f"{where}: payload changed from {waiting:#x} to {payload:#x} while waiting"
            if valid and ready:
                self.transfers.append(decode_payload(self.port.payload_shape, payload))
            waiting = payload if valid and not ready else None
            self.stalled += waiting is not None


class Streams(Mapping[str, Any]):
    """A source, sink and monitor for each stream port of a component; made after reset is over, or during it.

    Args:
        dut: cocotb's handle of the top.
        component: The Amaranth component that the top was built from, or an equal one; only its signature is read.
        clock: ``dut.clk`` when left out.
    """

    def __init__(self, dut: HierarchyObject, component: wiring.Component, clock: LogicObject | None = None):
        chosen = port_of(dut, "clk") if clock is None else clock
        component._MustUse__used = True  # its signature is all that is wanted
        ports = stream_ports(component)
        self._agents = {name: (StreamSource if port.is_input else StreamSink)(dut, port, chosen)
                        for name, port in ports.items()}
        self.monitors = {name: StreamMonitor(dut, port, chosen) for name, port in ports.items()}

    def __getitem__(self, name: str) -> Any:
        try:
            return self._agents[name]
        except KeyError:
            raise BenchError(f"no stream port {name!r}; there are {', '.join(self._agents) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._agents)

    def __len__(self) -> int:
        return len(self._agents)
