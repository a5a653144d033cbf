# SPDX-License-Identifier: Apache-2.0
"""The one SRAM macro that every memory of a design is made of."""

from pathlib import Path

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from nncosim.hdl.errors import HdlError
from nncosim.platforms.base import macro_words

__all__ = ["SRAM_MODULE", "SRAM_VERILOG", "Sram", "SramStack"]

SRAM_MODULE = "nncosim_sram"
"""Verilog module name of the macro: a black box in synthesis, where the netlist is cut."""

SRAM_VERILOG = Path(__file__).with_name("sram.v")
"""Behavioural model of the macro; part of every simulation build."""


class Sram(wiring.Component):
    """One SRAM macro on the `sync` clock: one registered read port and one masked write port, or one port for both.

    The word at ``r_addr`` appears on ``r_data`` after a rising edge with ``r_en`` high, and holds until the
    next such edge. Bit k of ``w_en`` writes bits ``k*write_granularity`` up to ``(k+1)*write_granularity-1``
    of ``w_data`` to ``w_addr``. What a read of the word written at the same edge gives is undefined; the
    simulation model gives poison (the old data inverted). With one port so does a read in the cycle of any write: it
    is a fault of the design. Contents are undefined after power-up; under reset nothing is written, whatever the
    enables are. Simulation back doors find the storage
    as ``<instance>.mem``.

    Ports:
        r_en (In, 1), r_addr (In, ``address_bits``), r_data (Out, ``width``),
        w_en (In, ``width // write_granularity``), w_addr (In, ``address_bits``), w_data (In, ``width``).
        With one port, addr (In, ``address_bits``) in place of r_addr and w_addr.

    Args:
        depth: Words.
        width: Bits a word.
        write_granularity: Bits per bit of ``w_en``; the whole word when left out.
        ports: 2 or 1.

    Raises:
        HdlError: If a size is not positive or the granularity does not divide the width, or of other numbers of ports.
    """

    def __init__(self, depth: int, width: int, write_granularity: int | None = None, *, ports: int = 2):
        granularity = width if write_granularity is None else write_granularity
        if depth < 1 or width < 1 or granularity < 1 or width % granularity:
            self._MustUse__used = True  # Amaranth need not warn about it as well
            raise HdlError(
                f"Sram: depth {depth}, width {width}, write granularity {granularity}: all must be at least 1 "
                f"and the granularity must divide the width"
            )
        if ports not in (1, 2):
            self._MustUse__used = True
            raise HdlError(f"Sram: ports must be 1 or 2, not {ports}")
        self.ports = ports
        self.depth = depth
        self.width = width
        self.write_granularity = granularity
        self.address_bits = max(1, ceil_log2(depth))
        super().__init__({
            "r_en": In(1),
            "r_data": Out(width),
            "w_en": In(width // granularity),
            "w_data": In(width),
            **{name: In(self.address_bits) for name in (("addr",) if ports == 1 else ("r_addr", "w_addr"))},
        })

    def elaborate(self, platform: object) -> Elaboratable:
        return _macro(self)


def _macro(memory: "Sram | SramStack") -> Instance:
    # An instance, not a module around one: a memory called `weights` is `weights` in the hierarchy too.
    one_port = isinstance(memory, Sram) and memory.ports == 1
    return Instance(
        SRAM_MODULE,
        p_DEPTH=memory.depth, p_WIDTH=memory.width, p_GRAN=memory.write_granularity, p_PORTS=1 if one_port else 2,
        i_clk=ClockSignal(),
        i_r_en=memory.r_en, i_r_addr=memory.addr if one_port else memory.r_addr, o_r_data=memory.r_data,
        # Registers hold anything until the first edge under reset, and that edge would write what they happen to say.
        i_w_en=Mux(ResetSignal(), 0, memory.w_en), i_w_addr=memory.addr if one_port else memory.w_addr,
        i_w_data=memory.w_data,
    )


class SramStack(wiring.Component):
    """A memory of any depth with the ports and the timing of `Sram`: macros behind each other.

    Where one macro is enough, it is one: simulation back doors find it under the instance's own name. Else they find
    ``<instance>.macro0``, ``macro1``..., each of `macro_words` words, the last one what is left. Which of them answers
    is registered with the read; their multiplexer stands behind them.

    Args: as `Sram`.
    """

    def __init__(self, depth: int, width: int, write_granularity: int | None = None):
        self.depth, self.width = depth, width
        self.write_granularity = width if write_granularity is None else write_granularity
        self.address_bits = max(1, ceil_log2(depth))
        super().__init__({
            "r_en": In(1), "r_addr": In(self.address_bits), "r_data": Out(width),
            "w_en": In(width // self.write_granularity), "w_addr": In(self.address_bits), "w_data": In(width),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        words = macro_words(self.depth, self.width)
        if words == self.depth:
            return _macro(self)
        m = Module()
        low = ceil_log2(words)
        count = -(-self.depth // words)
        chosen = Signal(range(count))
        with m.If(self.r_en):
            m.d.sync += chosen.eq(self.r_addr[low:])
        read = []
        for k in range(count):
            macro = Sram(min(words, self.depth - k * words), self.width, self.write_granularity)
            m.submodules[f"macro{k}"] = macro
            m.d.comb += [
                macro.r_en.eq(self.r_en & (self.r_addr[low:] == k)), macro.r_addr.eq(self.r_addr),
                macro.w_en.eq(Mux(self.w_addr[low:] == k, self.w_en, 0)), macro.w_addr.eq(self.w_addr),
                macro.w_data.eq(self.w_data),
            ]
            read.append(macro.r_data)
        with m.Switch(chosen):
            for k, data in enumerate(read):
                with m.Case(k):
                    m.d.comb += self.r_data.eq(data)
        return m
