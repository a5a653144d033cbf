# SPDX-License-Identifier: Apache-2.0
"""The stream switch, circuit mode: each master listens to one slave, or to none."""

from itertools import accumulate

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.stream import STREAM, Elastic
from nncosim.hdl.logic import pick

__all__ = ["COME", "GO", "LOCAL", "MASTERS", "MASTER_AT", "OPPOSITE", "SLAVES", "SLAVE_AT", "StreamSwitch"]

SLAVES, MASTERS = 20, 20
LOCAL = 2
"""The first masters, to the tile's own DMA, have no link behind them."""
GO = {"north": 6, "south": 4, "west": 4, "east": 4}
"""Streams to the neighbour on each side."""
OPPOSITE = {"north": "south", "south": "north", "west": "east", "east": "west"}
COME = {side: GO[OPPOSITE[side]] for side in GO}
"""Streams from it."""
MASTER_AT, SLAVE_AT = (
    dict(zip(GO, accumulate(counts.values(), initial=LOCAL), strict=False)) for counts in (GO, COME)
)
"""Numbers of the first ports on each side, behind those of the DMA."""


class StreamSwitch(wiring.Component):
    """Ports numbered as in the manual.

    Ports:
        slave (In), master (Out): streams. listens, source (In): of each master, whether it listens, and to which slave.
    """

    slave: list[wiring.PureInterface]
    master: list[wiring.PureInterface]
    listens: list[Signal]
    source: list[Signal]

    def __init__(self) -> None:
        super().__init__({
            "slave": In(STREAM).array(SLAVES), "master": Out(STREAM).array(MASTERS),
            "listens": In(1).array(MASTERS), "source": In(5).array(MASTERS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        heads = []
        for number in range(SLAVES):
            m.submodules[f"in{number}"], m.submodules[f"head{number}"] = first, head = Elastic(32), Elastic(32)
            wiring.connect(m, wiring.flipped(self.slave[number]), first.i)
            wiring.connect(m, first.o, head.i)
            heads.append(head)
        outs = []
        for number in range(MASTERS):
            m.submodules[f"out{number}"] = out = Elastic(32)
            outs.append(out)
            last = out
            if number >= LOCAL:
                m.submodules[f"link{number}"] = last = Elastic(32)
                wiring.connect(m, out.o, last.i)
            wiring.connect(m, last.o, wiring.flipped(self.master[number]))
        goes = [self._goes(m, number, head, outs) for number, head in enumerate(heads)]
        padded = [head.o.payload for head in heads] + [heads[0].o.payload] * (32 - SLAVES)
        for number, out in enumerate(outs):
            going = pick([*goes, *[Value.cast(0)] * (32 - SLAVES)], self.source[number])
            m.d.comb += [
                out.i.valid.eq(self.listens[number] & going), out.i.payload.eq(pick(padded, self.source[number])),
            ]
        return m

    def _goes(self, m: Module, number: int, head: Elastic, outs: list[Elastic]) -> Signal:
        """A slave's word goes to all that listen to it, when all have room."""
        goes = Signal(name=f"goes{number}")
        hears = [self.listens[k] & (self.source[k] == number) for k in range(MASTERS)]
        blocked = Cat(heard & ~out.i.ready for heard, out in zip(hears, outs, strict=True)).any()
        m.d.comb += [goes.eq(head.o.valid & Cat(hears).any() & ~blocked), head.o.ready.eq(goes)]
        return goes
