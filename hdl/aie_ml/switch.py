# SPDX-License-Identifier: Apache-2.0
"""The stream switch, circuit mode: each master listens to one slave, or to none."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.ports import TILE_PORTS, Ports
from nncosim.hdl.aie_ml.stream import Elastic
from nncosim.hdl.logic import pick

__all__ = ["SOURCE_BITS", "StreamSwitch"]

SOURCE_BITS = 5
"""Of a slave's number, in all switches."""


class StreamSwitch(wiring.Component):
    """Ports numbered as in the manual. The first masters, to the tile's own DMA, have no link behind them.

    Ports:
        slave (In), master (Out): streams of `bits` bits. listens, source (In): of each master, whether it listens, and
        to which slave.
    """

    slave: list[wiring.PureInterface]
    master: list[wiring.PureInterface]
    listens: list[Signal]
    source: list[Signal]

    def __init__(self, ports: Ports = TILE_PORTS, bits: int = 32) -> None:
        self.ports, self.bits = ports, bits
        words = stream.Signature(bits)
        super().__init__({
            "slave": In(words).array(ports.slaves), "master": Out(words).array(ports.masters),
            "listens": In(1).array(ports.masters), "source": In(SOURCE_BITS).array(ports.masters),
        })

    def elaborate(self, platform: object) -> Module:
        m, ports = Module(), self.ports
        heads, bits = [], self.bits
        for number in range(ports.slaves):
            m.submodules[f"in{number}"], m.submodules[f"head{number}"] = first, head = Elastic(bits), Elastic(bits)
            wiring.connect(m, wiring.flipped(self.slave[number]), first.i)
            wiring.connect(m, first.o, head.i)
            heads.append(head)
        outs = []
        for number in range(ports.masters):
            m.submodules[f"out{number}"] = out = Elastic(self.bits)
            outs.append(out)
            last = out
            if number >= ports.local:
                m.submodules[f"link{number}"] = last = Elastic(self.bits)
                wiring.connect(m, out.o, last.i)
            wiring.connect(m, last.o, wiring.flipped(self.master[number]))
        goes = [self._goes(m, number, head, outs) for number, head in enumerate(heads)]
        beyond = (1 << SOURCE_BITS) - ports.slaves
        padded = [head.o.payload for head in heads] + [heads[0].o.payload] * beyond
        for number, out in enumerate(outs):
            going = pick([*goes, *[Value.cast(0)] * beyond], self.source[number])
            m.d.comb += [
                out.i.valid.eq(self.listens[number] & going), out.i.payload.eq(pick(padded, self.source[number])),
            ]
        return m

    def _goes(self, m: Module, number: int, head: Elastic, outs: list[Elastic]) -> Signal:
        """A slave's word goes to all that listen to it, when all have room."""
        goes = Signal(name=f"goes{number}")
        hears = [self.listens[k] & (self.source[k] == number) for k in range(self.ports.masters)]
        blocked = Cat(heard & ~out.i.ready for heard, out in zip(hears, outs, strict=True)).any()
        m.d.comb += [goes.eq(head.o.valid & Cat(hears).any() & ~blocked), head.o.ready.eq(goes)]
        return goes
