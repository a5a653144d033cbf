# SPDX-License-Identifier: Apache-2.0
"""A model of AIE-ML's data memory by the manual: who is granted, what is read. And what stands for its macros."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory as amaranth_memory
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CHANNELS", "CLASSES", "CORES", "NAMES", "OnePort", "Port", "Reference", "Request"]

Port = tuple[str, str]
"""Who asks ("own", "east", "dma"), by which of its ports."""
NAMES: dict[Port, str] = {
    ("own", "lda"): "vector__0", ("own", "ldb"): "vector__1", ("own", "store"): "vector__2",
    ("east", "lda"): "vector__3", ("east", "ldb"): "vector__4", ("east", "store"): "vector__5",
    ("dma", "0"): "word__0", ("dma", "1"): "word__1", ("dma", "2"): "word__2", ("dma", "3"): "word__3",
}
CORES = [port for port in NAMES if port[0] != "dma"]
CHANNELS = [port for port in NAMES if port[0] == "dma"]
CLASSES = {"own": "conflicts__0", "east": "conflicts__1", "dma": "conflicts__2"}


class Request(NamedTuple):
    """`addr`: a beat of 256 bits; of a channel, a word of 128. `mask`: of a channel, which 32 bits are written."""

    addr: int
    write: bool
    data: int
    mask: int = 15


class Reference:
    """Who is granted, what is read, what is counted. `banks`: 8 lists of `words` numbers of 128 bits."""

    def __init__(self, words: int, banks: list[list[int]]):
        self.words, self.banks = words, banks
        self.last = ["east"] * 4
        self.refused: set[int] = set()  # pairs where a word made a core wait in the cycle before
        self.conflicts = dict.fromkeys(CLASSES, 0)

    def places(self, port: Port, request: Request) -> list[tuple[int, int]]:
        """(bank, row) of each word of an access, the low one first."""
        beat, halves = (request.addr // 2, [request.addr % 2]) if port[0] == "dma" else (request.addr, [0, 1])
        return [(2 * (beat // self.words) + half, beat % self.words) for half in halves]

    def pair(self, port: Port, request: Request) -> int:
        return self.places(port, request)[0][0] // 2

    def order(self, pair: int, urgent: bool) -> list[Port]:
        """All ports that may, the first one first."""
        last = self.last[pair]
        cores = [core for core in ("own", "east") if core != last] + [last]
        vectors = [(core, port) for core in cores for port in ("store", "lda", "ldb")]
        if pair not in self.refused:
            return [*CHANNELS, *vectors]
        return [*CHANNELS[:urgent], *vectors]  # who was refused holds its request: there is a vector

    def grants(self, asked: dict[Port, Request], urgent: bool) -> set[Port]:
        busy: set[int] = set()
        granted: set[Port] = set()
        for pair in range(4):
            for port in self.order(pair, urgent):
                if port not in asked or self.pair(port, asked[port]) != pair:
                    continue
                banks = {bank for bank, _ in self.places(port, asked[port])}
                if not banks & busy:
                    busy |= banks
                    granted.add(port)
        return granted

    def step(self, asked: dict[Port, Request], granted: set[Port], clear: bool) -> dict[Port, int]:
        """The end of the cycle. What was read."""
        read = {}
        pairs = {port: self.pair(port, request) for port, request in asked.items()}
        self.refused = {pairs[port] for port in granted if port[0] == "dma"} & {
            pair for port, pair in pairs.items() if port[0] != "dma"}  # fmt: skip
        for port in granted:
            places = self.places(port, asked[port])
            if asked[port].write:
                written = sum((1 << 32) - 1 << 32 * lane for lane in range(4) if asked[port].mask >> lane & 1)
                for half, (bank, row) in enumerate(places):
                    kept = self.banks[bank][row] & ~written
                    self.banks[bank][row] = kept | asked[port].data >> 128 * half & written
            else:
                read[port] = sum(self.banks[bank][row] << 128 * half for half, (bank, row) in enumerate(places))
            if port[0] != "dma":
                self.last[places[0][0] // 2] = port[0]
        for name in self.conflicts:
            refused = any(port[0] == name for port in asked if port not in granted)
            self.conflicts[name] = 0 if clear else self.conflicts[name] + refused
        return read


class OnePort(wiring.Component):
    """The SRAM macro with one port and masks: what is read in the cycle of a write is inverted."""

    def __init__(self, depth: int, width: int, write_granularity: int, *, ports: int):
        assert ports == 1
        self.depth, self.width, self.granularity = depth, width, write_granularity
        super().__init__({"r_en": In(1), "w_en": In(width // write_granularity), "addr": In((depth - 1).bit_length()),
                          "w_data": In(width), "r_data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = amaranth_memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read, poison = store.write_port(granularity=self.granularity), store.read_port(), Signal()
        m.d.sync += poison.eq(self.w_en.any())
        m.d.comb += [
            write.en.eq(self.w_en), write.addr.eq(self.addr), write.data.eq(self.w_data),
            read.en.eq(self.r_en), read.addr.eq(self.addr), self.r_data.eq(Mux(poison, ~read.data, read.data)),
        ]
        return m
