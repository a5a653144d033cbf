# SPDX-License-Identifier: Apache-2.0
"""What core tiles and memory tiles have alike: a reset of their own, streams to their neighbours, a switch that is set
over the configuration bus."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.aie_ml.config import LISTENS, ConfigPort
from nncosim.hdl.aie_ml.dma import Dma
from nncosim.hdl.aie_ml.ports import Ports
from nncosim.hdl.aie_ml.switch import SOURCE_BITS, StreamSwitch
from nncosim.hdl.logic import register

__all__ = ["connect_streams", "in_own_domain", "lanes_of", "stream_members"]

_DOMAIN = "tile"


def stream_members(ports: Ports, bits: int) -> dict[str, wiring.Member]:
    """Of a tile's signature: arrays of streams {side}_in and {side}_out."""
    streams, words = dict[str, wiring.Member](), stream.Signature(bits)
    for side in ports.go:
        streams[f"{side}_in"] = In(words).array(ports.come[side])
        streams[f"{side}_out"] = Out(words).array(ports.go[side])
    return streams


def lanes_of(mask: Value, lanes: int) -> Value:
    """A mask of a line's words as one of its 32 bits, of which there are so many."""
    return mask if len(mask) == lanes else Cat(bit.replicate(lanes // len(mask)) for bit in mask)


def in_own_domain(m: Module) -> Module:
    """A module with `m` as its submodule `tile`, in a clock domain with a reset of its own.

    A register for reset in each tile, as a tree over an array has. It also keeps reset, on which all next states
    depend, from being an input that a simulation of the tile by itself evaluates everything for.
    """
    outer = Module()
    reset = Signal(init=1, reset_less=True)
    outer.d.sync += reset.eq(ResetSignal())
    outer.domains += ClockDomain(_DOMAIN, local=True)
    outer.d.comb += [ClockSignal(_DOMAIN).eq(ClockSignal()), ResetSignal(_DOMAIN).eq(reset)]
    outer.submodules.tile = DomainRenamer(_DOMAIN)(m)
    return outer


def connect_streams(
    m: Module, tile: wiring.Component, ports: Ports, dma: Dma, switch: StreamSwitch, config: ConfigPort, number: Value
) -> None:
    """The DMA and the tile's streams to the switch, and its settings from the bus.

    number: of the master that is set.
    """
    for channel in range(ports.local):
        wiring.connect(m, dma.mm2s[channel], switch.slave[channel])
        wiring.connect(m, switch.master[channel], dma.s2mm[channel])
    for side in ports.go:
        for k, words in enumerate(getattr(tile, f"{side}_in")):
            wiring.connect(m, wiring.flipped(words), switch.slave[ports.slave_at[side] + k])
        for k, words in enumerate(getattr(tile, f"{side}_out")):
            wiring.connect(m, switch.master[ports.master_at[side] + k], wiring.flipped(words))
    for k in range(ports.masters):
        source = register(SOURCE_BITS, f"source{k}")
        with m.If(config.master & (number == k)):
            m.d.sync += [switch.listens[k].eq(config.word_data[LISTENS]), source.eq(config.word_data)]
        m.d.comb += switch.source[k].eq(source)
