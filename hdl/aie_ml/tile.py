# SPDX-License-Identifier: Apache-2.0
"""The tile: the core with its data memory."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from nncosim.hdl.aie_ml.core import Core
from nncosim.hdl.aie_ml.memory import DataMemory
from nncosim.hdl.emit import emit_design

__all__ = ["Tile", "emit_tile"]

LOAD_A, LOAD_B, STORE = range(3)
_PROBES = ("busy", "issue", "issued_pc", "stalled")


class Tile(wiring.Component):
    """Ports: start, busy, issue, issued_pc, stalled: as of `Core`; store, store_beat, store_data (Out): what the core
    writes to data memory in this cycle, for monitors."""

    def __init__(self, instructions: int):
        self.instructions = instructions
        self.core = Core(instructions)
        self.data = DataMemory()
        members = {name: self.core.signature.members[name] for name in ("start", *_PROBES)}
        super().__init__({**members, "store": Out(1), "store_beat": Out(11), "store_data": Out(256)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core, m.submodules.data = core, memory = self.core, self.data
        m.d.comb += core.start.eq(self.start)
        m.d.comb += [getattr(self, name).eq(getattr(core, name)) for name in _PROBES]
        for number in (LOAD_A, LOAD_B, STORE):
            port = memory.vector[number]
            m.d.comb += [
                port.valid.eq(core.request[number]), port.addr.eq(core.addr[number]), port.write.eq(number == STORE),
                port.w_data.eq(core.w_data if number == STORE else 0), core.grant[number].eq(port.grant),
            ]
            if number != STORE:
                m.d.comb += core.r_data[number].eq(port.r_data)
        m.d.comb += [
            self.store.eq(core.request[STORE] & core.grant[STORE]), self.store_beat.eq(core.addr[STORE]),
            self.store_data.eq(core.w_data),
        ]
        return m


def emit_tile(instructions: int) -> dict[str, str]:
    """Verilog of the tile, module `aie_ml_tile`."""
    return emit_design(Tile(instructions), "aie_ml_tile")
