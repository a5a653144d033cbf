# SPDX-License-Identifier: Apache-2.0
"""The one SRAM macro that every memory of a design is made of."""

from pathlib import Path

from amaranth.hdl import ClockSignal, Elaboratable, Instance
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from nncosim.hdl.errors import HdlError

__all__ = ["SRAM_MODULE", "SRAM_VERILOG", "Sram"]

SRAM_MODULE = "nncosim_sram"
"""Verilog module name of the macro: a black box in synthesis, where the netlist is cut."""

SRAM_VERILOG = Path(__file__).with_name("sram.v")
"""Behavioural model of the macro; part of every simulation build."""


class Sram(wiring.Component):
    """One SRAM macro: one registered read port and one masked write port on the `sync` clock.

    The word at ``r_addr`` appears on ``r_data`` after a rising edge with ``r_en`` high, and holds until the
    next such edge. Bit k of ``w_en`` writes bits ``k*write_granularity`` up to ``(k+1)*write_granularity-1``
    of ``w_data`` to ``w_addr``. What a read of the word written at the same edge gives is undefined; the
    simulation model gives poison (the old data inverted). Contents are undefined after power-up and reset.
    Simulation back doors find the storage as ``<instance>.mem``.

    Ports:
        r_en (In, 1), r_addr (In, ``address_bits``), r_data (Out, ``width``),
        w_en (In, ``width // write_granularity``), w_addr (In, ``address_bits``), w_data (In, ``width``).

    Args:
        depth: Words.
        width: Bits a word.
        write_granularity: Bits per bit of ``w_en``; the whole word when left out.

    Raises:
        HdlError: If a size is not positive or the granularity does not divide the width.
    """

    def __init__(self, depth: int, width: int, write_granularity: int | None = None):
        granularity = width if write_granularity is None else write_granularity
        if depth < 1 or width < 1 or granularity < 1 or width % granularity:
            self._MustUse__used = True  # Amaranth need not warn about it as well
            raise HdlError(
                f"Sram: depth {depth}, width {width}, write granularity {granularity}: all must be at least 1 "
                f"and the granularity must divide the width"
            )
        self.depth = depth
        self.width = width
        self.write_granularity = granularity
        self.address_bits = max(1, ceil_log2(depth))
        super().__init__({
            "r_en": In(1),
            "r_addr": In(self.address_bits),
            "r_data": Out(width),
            "w_en": In(width // granularity),
            "w_addr": In(self.address_bits),
            "w_data": In(width),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        # An instance, not a module around one: a memory called `weights` is `weights` in the hierarchy too.
        return Instance(
            SRAM_MODULE,
            p_DEPTH=self.depth, p_WIDTH=self.width, p_GRAN=self.write_granularity,
            i_clk=ClockSignal(),
            i_r_en=self.r_en, i_r_addr=self.r_addr, o_r_data=self.r_data,
            i_w_en=self.w_en, i_w_addr=self.w_addr, i_w_data=self.w_data,
        )
