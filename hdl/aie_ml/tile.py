# SPDX-License-Identifier: Apache-2.0
"""The tile: core, data memory, locks, DMA, stream switch, and its place on the configuration bus."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.agu import POINTER_BITS
from nncosim.hdl.aie_ml.config import BUS, ConfigPort, tile_places
from nncosim.hdl.aie_ml.core import CASCADE, Core
from nncosim.hdl.aie_ml.dma import Dma, tile_dma
from nncosim.hdl.aie_ml.locks import Locks
from nncosim.hdl.aie_ml.memory import PORTS_PER_CORE, DataMemory
from nncosim.hdl.aie_ml.neighbour import FromEast, neighbour_of
from nncosim.hdl.aie_ml.ports import TILE_PORTS
from nncosim.hdl.aie_ml.surroundings import connect_streams, in_own_domain, lanes_of, stream_members
from nncosim.hdl.aie_ml.switch import StreamSwitch
from nncosim.hdl.emit import emit_design
from nncosim.platforms.aie_ml_generation import AIE_ML, Generation

__all__ = ["TILE", "Tile", "emit_tile"]

LOAD_A, LOAD_B, STORE = range(3)
TILE = "aie_ml_tile"
"""Name of its module."""


class Tile(wiring.Component):
    """Ports:
        bus (In), onward (Out), column, row (In): of the configuration bus.
        {side}_in, {side}_out: streams, see `ports`. west (In), east (Out): cascades.
        west_memory (Out), east_memory (In): `neighbour_of`, of the own core and of the east neighbour's.
        For monitors (Out), a cycle later: busy, issue, issued_pc, waits: as of `Core`; store, store_beat, store_data:
        what the core writes to data memory, or in this cycle asks to be written to the west neighbour's, whose beats
        come behind its own; fault: a lock leaves its range.
    """

    def __init__(self, instructions: int, generation: Generation = AIE_ML):
        self.instructions, self.generation = instructions, generation
        probes = {"busy": 1, "issue": 1, "issued_pc": (instructions - 1).bit_length(), "waits": 3}
        link = neighbour_of(generation)
        super().__init__({
            "bus": In(BUS), "onward": Out(BUS), "column": In(6), "row": In(4),
            **stream_members(TILE_PORTS, generation.word_bits), "west": In(CASCADE), "east": Out(CASCADE),
            "west_memory": Out(link), "east_memory": In(link), "store": Out(1), "store_beat": Out(POINTER_BITS),
            "store_data": Out(generation.beat_bits), "fault": Out(1),
            **{name: Out(bits) for name, bits in probes.items()},
        })

    def elaborate(self, platform: object) -> Module:
        m, generation = Module(), self.generation
        m.submodules.core, m.submodules.data = core, memory = (
            Core(self.instructions, generation), DataMemory(generation=generation))  # fmt: skip
        m.submodules.config, m.submodules.locks = config, locks = ConfigPort(tile_places(generation)), Locks()
        m.submodules.dma, m.submodules.switch = dma, switch = (
            Dma(tile_dma(generation)), StreamSwitch(bits=generation.word_bits))  # fmt: skip
        wiring.connect(m, wiring.flipped(self.bus), config.bus)
        wiring.connect(m, config.onward, wiring.flipped(self.onward))
        m.d.comb += [
            config.column.eq(self.column), config.row.eq(self.row),
            core.start.eq(config.core & config.word_data[0]), core.config_write.eq(config.program),
            core.config_addr.eq(config.program_addr), core.config_data.eq(config.word_data),
        ]
        # No input of a tile reaches an output, or much logic, within a cycle: the simulation has tiles that are
        # compiled by themselves. So outputs come from registers; those to neighbours' memories go into registers there.
        m.d.sync += [getattr(self, name).eq(getattr(core, name)) for name in ("busy", "issue", "issued_pc", "waits")]
        wiring.connect(m, wiring.flipped(self.west), core.west)
        wiring.connect(m, core.east, wiring.flipped(self.east))
        m.submodules.from_east = from_east = FromEast(generation)
        wiring.connect(m, core.west_memory, wiring.flipped(self.west_memory))
        wiring.connect(m, wiring.flipped(self.east_memory), from_east.link)
        self._memory(m, core, memory, dma, config)
        self._east(m, memory, from_east)
        self._locks(m, core, from_east, locks, dma, config)
        connect_streams(m, self, TILE_PORTS, dma, switch, config, config.number)
        return in_own_domain(m)

    def _memory(self, m: Module, core: Core, memory: DataMemory, dma: Dma, config: ConfigPort) -> None:
        for number in (LOAD_A, LOAD_B, STORE):
            port = memory.vector[number]
            m.d.comb += [
                port.valid.eq(core.request[number]), port.addr.eq(core.addr[number]), port.write.eq(number == STORE),
                port.w_data.eq(core.w_data), core.grant[number].eq(port.grant),
            ]
            if number != STORE:
                m.d.comb += core.r_data[number].eq(port.r_data)
        to_west = Signal(name="stores_west")
        m.d.sync += to_west.eq(core.west_memory.ask[STORE])
        m.d.sync += self.store.eq((core.request[STORE] & core.grant[STORE]) | to_west)
        with m.If(core.request[STORE] | to_west):
            at = core.addr[STORE][: self.generation.west_bit + 1]
            m.d.sync += [self.store_beat.eq(at), self.store_data.eq(core.w_data)]
        m.d.comb += memory.urgent.eq(config.data)
        lanes = memory.lanes
        for number, (port, asked) in enumerate(zip(memory.word, dma.memory, strict=True)):
            # The configuration has the first channel's place, and does not wait for cores: it is always granted.
            config_here = config.data if number == 0 else 0
            word = config.word_data
            m.d.comb += [
                port.valid.eq(asked.valid | config_here), asked.grant.eq(port.grant & ~config_here),
                asked.r_data.eq(port.r_data), port.write.eq(Mux(config_here, 1, asked.write)),
                port.addr.eq(Mux(config_here, config.data_addr, asked.addr)),
                port.w_data.eq(Mux(config_here, word.replicate(lanes), asked.w_data)),
                port.w_mask.eq(Mux(config_here, config.data_mask, lanes_of(asked.w_mask, lanes))),
            ]

    def _east(self, m: Module, memory: DataMemory, east: FromEast) -> None:
        """What the east neighbour's core asks of the memory."""
        for number, port in enumerate(memory.vector[PORTS_PER_CORE:]):
            m.d.comb += [
                port.valid.eq(east.valid[number]), port.addr.eq(east.addr[number]), port.write.eq(number == STORE),
                port.w_data.eq(east.w_data), east.grant[number].eq(port.grant),
            ]
            if number != STORE:
                m.d.comb += east.r_data[number].eq(port.r_data)

    def _locks(
        self, m: Module, core: Core, east: FromEast, locks: Locks, dma: Dma, config: ConfigPort
    ) -> None:
        own = locks.request[0]
        m.d.comb += [
            own.valid.eq(core.lock_valid), own.lock.eq(core.lock), own.op.eq(core.lock_op),
            own.value.eq(core.lock_value), core.lock_grant.eq(own.grant), core.locks_set.eq(config.lock),
            locks.set.valid.eq(config.lock), locks.set.lock.eq(config.number), locks.set.value.eq(config.word_data),
        ]
        m.d.sync += self.fault.eq(locks.fault)
        for asked, request in zip((east.request, *dma.lock), locks.request[1:], strict=True):
            wiring.connect(m, asked, request)
        m.d.comb += [
            dma.bd_write.eq(config.bd), dma.bd_addr.eq(config.number), dma.bd_data.eq(config.word_data),
            dma.start_bd.eq(config.word_data),
            *(start.eq(config.start & (config.number == number)) for number, start in enumerate(dma.start)),
        ]


def emit_tile(instructions: int, generation: Generation = AIE_ML) -> dict[str, str]:
    """Verilog of the tile, module `aie_ml_tile`."""
    return emit_design(Tile(instructions, generation), TILE)
