# SPDX-License-Identifier: Apache-2.0
"""DMAs: channels from stream to memory, channels from memory to stream, and their buffer descriptors.

`nncosim.hdl.aie_ml.dma_channel` has the channels, and the table of their cycles.
"""

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.dma_channel import Channel, DmaState, Format, Mm2s, S2mm, memory_of
from nncosim.hdl.aie_ml.locks import request_of
from nncosim.hdl.logic import register, view
from nncosim.hdl.sram import Sram
from nncosim.platforms.aie_ml_generation import AIE_ML, BEAT_WORDS, Generation

__all__ = ["CHANNELS", "DESCRIPTORS", "TILE_DMA", "Descriptor", "Dma", "DmaShape", "tile_dma"]

CHANNELS, DESCRIPTORS = 4, 16
"""Of a core tile."""


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


@dataclass(frozen=True)
class DmaShape:
    """How large a DMA is. streams: channels of each kind. Pool p, of `descriptors` descriptors, serves the channels of
    each kind whose number modulo `pools` is p: with those from number p `descriptors` on; any number that is less
    than `descriptors` is one of the channel's own pool, too."""

    format: Format
    streams: int
    descriptors: int
    pools: int = 1

    @property
    def channels(self) -> int:
        return 2 * self.streams

    @property
    def bd_addr(self) -> int:
        """Bits of the address of a descriptor's word."""
        return self.format.number + 3


def tile_dma(generation: Generation) -> DmaShape:
    """Of a core tile."""
    address = (generation.beats * BEAT_WORDS - 1).bit_length()
    return DmaShape(Format(Descriptor, generation.word_bits, address), CHANNELS // 2, DESCRIPTORS)


TILE_DMA = tile_dma(AIE_ML)


class Dma(wiring.Component):
    """Channels S2MM 0, S2MM 1, ..., MM2S 0, MM2S 1, ..., in this order in all arrays.

    Ports:
        s2mm (In), mm2s (Out): streams, one a channel. memory (Out, one a channel): to word ports of the data memory.
        lock (Out, one a channel).
        bd_write, bd_addr (descriptor * 8 + word), bd_data (32), start (1 a channel), start_bd (In): configuration.
        busy, bd, state (Out, one a channel): for monitors.
    """

    s2mm: list[wiring.PureInterface]
    mm2s: list[wiring.PureInterface]
    memory: list[wiring.PureInterface]
    lock: list[wiring.PureInterface]
    start: list[Signal]
    busy: list[Signal]
    bd: list[Signal]
    state: list[Signal]

    def __init__(self, shape: DmaShape = TILE_DMA) -> None:
        self.shape = shape
        fmt, streams, channels = shape.format, shape.streams, shape.channels
        super().__init__({
            "s2mm": In(fmt.stream).array(streams), "mm2s": Out(fmt.stream).array(streams),
            "memory": Out(memory_of(fmt)).array(channels), "lock": Out(request_of(fmt.locks)).array(channels),
            "bd_write": In(1), "bd_addr": In(shape.bd_addr), "bd_data": In(32), "start": In(1).array(channels),
            "start_bd": In(fmt.number), "busy": Out(1).array(channels), "bd": Out(fmt.number).array(channels),
            "state": Out(DmaState).array(channels),
        })

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        channels: list[Channel] = []
        for number in range(shape.channels):
            kind, index = divmod(number, shape.streams)
            channel: Channel = Mm2s(shape.format) if kind else S2mm(shape.format)
            channels.append(channel)
            m.submodules[f"{channel.kind}{index}"] = channel
            wiring.connect(m, channel.memory, wiring.flipped(self.memory[number]))
            wiring.connect(m, channel.lock, wiring.flipped(self.lock[number]))
            if kind:
                wiring.connect(m, channel.mm2s, wiring.flipped(self.mm2s[index]))
            else:
                wiring.connect(m, wiring.flipped(self.s2mm[index]), channel.s2mm)
            m.d.comb += [
                channel.start.eq(self.start[number]), channel.start_bd.eq(self.start_bd),
                self.busy[number].eq(channel.state != DmaState.IDLE), self.bd[number].eq(channel.bd),
                self.state[number].eq(channel.state),
            ]
        for pool in range(shape.pools):
            own = [each for number, each in enumerate(channels) if number % shape.streams % shape.pools == pool]
            self._descriptors(m, pool, own)
        return m

    def _descriptors(self, m: Module, pool: int, channels: list[Channel]) -> None:
        """A pool's memory, for one channel a cycle."""
        size, fmt, words = self.shape.descriptors, self.shape.format, self.shape.format.width // 32
        tail = f"_{pool}" if self.shape.pools > 1 else ""
        m.submodules[f"descriptors{tail}"] = memory = Sram(size, fmt.width, 32, ports=1)
        asked = Cat(channel.fetch.valid for channel in channels)
        write, reads, index = Signal(name=f"write{tail}"), Signal(name=f"reads{tail}"), Signal.like(memory.addr)
        written, word, number = self.bd_addr[3:], self.bd_addr[:3], Signal(fmt.number, name=f"number{tail}")
        m.d.comb += [
            write.eq(self.bd_write & (written >= pool * size) & (written < (pool + 1) * size)), number.eq(written),
            reads.eq(asked.any() & ~write), index.eq(Mux(number >= size, number - size, number)),
            memory.r_en.eq(reads), memory.addr.eq(index),
            memory.w_en.eq(Mux(write, (1 << word)[:words], 0)), memory.w_data.eq(self.bd_data.replicate(words)),
        ]
        for k, channel in enumerate(channels):
            m.d.comb += channel.fetch.grant.eq(asked[k] & ((asked & (1 << k) - 1) == 0) & ~write)
            with m.If(channel.fetch.grant):
                m.d.comb += number.eq(channel.fetch.number)
        offset = self._iterations(m, tail, reads, index, Mux(write & (word == fmt.iteration_word), index, size),
                                  view(fmt.fields, memory.r_data))  # fmt: skip
        for channel in channels:
            m.d.comb += [channel.fetch.words.eq(memory.r_data), channel.fetch.offset.eq(offset)]

    def _iterations(self, m: Module, tail: str, reads: Value, index: Value, cleared: Value, words: data.View) -> Value:
        """How often each descriptor of a pool was begun, as an offset and a count. The offset of the one just read.

        Args:
            cleared: the one whose iteration is written; the size of the pool if none is.
        """
        loaded, fetched = Signal(name=f"loaded{tail}"), register(len(index), f"fetched{tail}")
        m.d.sync += [loaded.eq(reads), fetched.eq(index)]
        offsets, counts = ([register(bits, f"{name}{k}") for k in range(self.shape.descriptors)]
                           for bits, name in ((self.shape.format.address, f"offset{tail}_"), (6, f"count{tail}_")))
        offset, count = Array(offsets)[fetched], Array(counts)[fetched]
        again = count + 1 < words.iteration_count
        for k in range(self.shape.descriptors):
            with m.If(cleared == k):
                m.d.sync += [offsets[k].eq(0), counts[k].eq(0)]
            with m.Elif(loaded & (fetched == k)):
                m.d.sync += [
                    offsets[k].eq(Mux(again, offset + words.iteration_step, 0)), counts[k].eq(Mux(again, count + 1, 0)),
                ]
        return offset
