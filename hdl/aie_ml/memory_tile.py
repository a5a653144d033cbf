# SPDX-License-Identifier: Apache-2.0
"""The memory tile: memory, locks, DMA, stream switch, and its place on the configuration bus."""

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.config import (
    BUS,
    MEMORY_BDS_AT,
    MEMORY_LOCKS_AT,
    MEMORY_STARTS_AT,
    MEMORY_SWITCH_AT,
    ConfigPort,
    Places,
)
from nncosim.hdl.aie_ml.dma import Dma, DmaShape
from nncosim.hdl.aie_ml.dma_channel import Format
from nncosim.hdl.aie_ml.locks import Locks
from nncosim.hdl.aie_ml.memory_banks import BANK_WORDS, MemoryBanks
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS
from nncosim.hdl.aie_ml.surroundings import connect_streams, in_own_domain, lanes_of, stream_members
from nncosim.hdl.aie_ml.switch import StreamSwitch
from nncosim.hdl.emit import emit_design
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = [
    "MEMORY_CHANNELS", "MEMORY_DESCRIPTORS", "MEMORY_DMA", "MEMORY_LOCKS", "MEMORY_TILE", "MemoryDescriptor",
    "MemoryTile", "emit_memory_tile", "memory_dma", "memory_places",
]  # fmt: skip

MEMORY_CHANNELS, MEMORY_DESCRIPTORS, MEMORY_LOCKS = 2 * MEMORY_PORTS.local, 48, 64
MEMORY_TILE = "aie_ml_memory_tile"
"""Name of its module."""
_POOLS = 2


class MemoryDescriptor(data.Struct):
    """See the manual's table."""

    base: 17  # type: ignore[valid-type]
    pad0_before: 6  # type: ignore[valid-type]
    pad0_after: 6  # type: ignore[valid-type]
    unused0: 3  # type: ignore[valid-type]
    length: 18  # type: ignore[valid-type]
    pad1_before: 5  # type: ignore[valid-type]
    pad1_after: 5  # type: ignore[valid-type]
    pad2_before: 4  # type: ignore[valid-type]
    step0: signed(18)  # type: ignore[valid-type]
    count0: 10  # type: ignore[valid-type]
    unused1: 4  # type: ignore[valid-type]
    step1: signed(18)  # type: ignore[valid-type]
    count1: 10  # type: ignore[valid-type]
    unused2: 4  # type: ignore[valid-type]
    step2: signed(18)  # type: ignore[valid-type]
    count2: 10  # type: ignore[valid-type]
    unused3: 4  # type: ignore[valid-type]
    step3: signed(18)  # type: ignore[valid-type]
    acquire_value: 6  # type: ignore[valid-type]
    at_least: 1  # type: ignore[valid-type]
    pad2_after: 4  # type: ignore[valid-type]
    unused4: 3  # type: ignore[valid-type]
    iteration_step: signed(18)  # type: ignore[valid-type]
    iteration_count: 6  # type: ignore[valid-type]
    unused5: 8  # type: ignore[valid-type]
    next: 6  # type: ignore[valid-type]
    use_next: 1  # type: ignore[valid-type]
    acquire: 1  # type: ignore[valid-type]
    acquire_lock: 6  # type: ignore[valid-type]
    release: 1  # type: ignore[valid-type]
    release_lock: 6  # type: ignore[valid-type]
    release_delta: signed(7)  # type: ignore[valid-type]
    unused6: 4  # type: ignore[valid-type]


def memory_dma(generation: Generation) -> DmaShape:
    """Of a memory tile."""
    lines = generation.memory_banks * BANK_WORDS
    fmt = Format(MemoryDescriptor, generation.word_bits, (lines - 1).bit_length() + 2)
    return DmaShape(fmt, MEMORY_PORTS.local, MEMORY_DESCRIPTORS // _POOLS, _POOLS)


MEMORY_DMA = memory_dma(AIE_ML)


def memory_places(generation: Generation) -> Places:
    """Of a memory tile."""
    dma = memory_dma(generation)
    return Places(
        dma.format.address - 2, 0,
        (("lock", MEMORY_LOCKS_AT, MEMORY_LOCKS), ("bd", MEMORY_BDS_AT, 8 * MEMORY_DESCRIPTORS),
         ("start", MEMORY_STARTS_AT, MEMORY_CHANNELS), ("master", MEMORY_SWITCH_AT, MEMORY_PORTS.masters)),
        dma.bd_addr, generation.line_bytes // 4,
    )  # fmt: skip


class MemoryTile(wiring.Component):
    """Ports:
        bus (In), onward (Out), column, row (In): of the configuration bus.
        {side}_in, {side}_out: streams, see `nncosim.hdl.aie_ml.ports`.
        fault (Out): for monitors, a cycle later: a lock leaves its range.
    """

    def __init__(self, generation: Generation = AIE_ML) -> None:
        self.generation = generation
        super().__init__({
            "bus": In(BUS), "onward": Out(BUS), "column": In(6), "row": In(4),
            **stream_members(MEMORY_PORTS, generation.word_bits), "fault": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Outputs come from registers, as of core tiles.
        m.submodules.config, m.submodules.locks = config, locks = (
            ConfigPort(memory_places(self.generation)), Locks(MEMORY_LOCKS, MEMORY_CHANNELS))  # fmt: skip
        m.submodules.dma, m.submodules.switch = dma, switch = (
            Dma(memory_dma(self.generation)), StreamSwitch(MEMORY_PORTS, self.generation.word_bits))  # fmt: skip
        wiring.connect(m, wiring.flipped(self.bus), config.bus)
        wiring.connect(m, config.onward, wiring.flipped(self.onward))
        m.d.comb += [
            config.column.eq(self.column), config.row.eq(self.row), locks.set.valid.eq(config.lock),
            locks.set.lock.eq(config.number), locks.set.value.eq(config.word_data), dma.bd_write.eq(config.bd),
            dma.bd_addr.eq(config.number), dma.bd_data.eq(config.word_data), dma.start_bd.eq(config.word_data),
            *(start.eq(config.start & (config.number[:4] == number)) for number, start in enumerate(dma.start)),
        ]
        m.d.sync += self.fault.eq(locks.fault)
        for asked, request in zip(dma.lock, locks.request, strict=True):
            wiring.connect(m, asked, request)
        self._memory(m, dma, config)
        connect_streams(m, self, MEMORY_PORTS, dma, switch, config, config.number[:4])
        return in_own_domain(m)

    def _memory(self, m: Module, dma: Dma, config: ConfigPort) -> None:
        m.submodules.data = memory = MemoryBanks(MEMORY_PORTS.local, MEMORY_PORTS.local, generation=self.generation)
        lanes = self.generation.line_bytes // 4
        for number, (port, asked) in enumerate(zip(memory.write, dma.memory, strict=False)):
            # The configuration has the first channel's place: nothing comes before it, so it is always granted.
            config_here = config.data if number == 0 else 0
            m.d.comb += [
                port.valid.eq(asked.valid | config_here), asked.grant.eq(port.grant & ~config_here),
                port.addr.eq(Mux(config_here, config.data_addr, asked.addr)),
                port.w_data.eq(Mux(config_here, config.word_data.replicate(lanes), asked.w_data)),
                port.w_mask.eq(Mux(config_here, config.data_mask, lanes_of(asked.w_mask, lanes))),
            ]
        for port, asked in zip(memory.read, dma.memory[MEMORY_PORTS.local :], strict=True):
            m.d.comb += [
                port.valid.eq(asked.valid), port.addr.eq(asked.addr), asked.grant.eq(port.grant),
                asked.r_data.eq(port.r_data),
            ]


def emit_memory_tile(generation: Generation = AIE_ML) -> dict[str, str]:
    """Verilog of the memory tile, module `aie_ml_memory_tile`."""
    return emit_design(MemoryTile(generation), MEMORY_TILE)
