# SPDX-License-Identifier: Apache-2.0
"""The RTL's taps: Verilog that looks into the hierarchy, so that the design needs no ports for it, and writes records
of `nncosim.tb.boundaries.layouts` to the event log. A simulation has them only if it is built with them.

A record has the cycle in which the simulator knows of it: what the RTL shows some stages later is dated back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nncosim.tb.boundaries.layouts import FIRST_STREAM, MOST_BITS, Layouts

__all__ = ["Tapping", "Watch", "flags", "slices"]


@dataclass
class Watch:
    """Verilog for a module with the inputs clk, rst and cycle: declarations, and statements of its clocked process,
    always and while it records."""

    declarations: list[str] = field(default_factory=list)
    always: list[str] = field(default_factory=list)
    recording: list[str] = field(default_factory=list)

    def delayed(self, expression: str, bits: int, cycles: int) -> str:
        """What an expression was so many cycles before."""
        name = f"delayed{len(self.declarations)}"
        self.declarations.append(f"reg [{bits * cycles - 1}:0] {name};")
        kept = f"{name}[{bits * (cycles - 1) - 1}:0], " if cycles > 1 else ""
        self.always.append(f"{name} <= {{{kept}{bits}'({expression})}};")
        return f"{name}[{bits * cycles - 1} -: {bits}]"

    def wire(self, bits: int, expression: str) -> str:
        """A name for an expression."""
        name = f"wire{len(self.declarations)}"
        self.declarations.append(f"wire [{bits - 1}:0] {name} = {bits}'({expression});")
        return name

    def changed(self, expression: str, bits: int) -> str:
        """High in the first cycle, and where an expression is not what it was in the cycle before."""
        name = f"was{len(self.declarations)}"
        self.declarations.append(f"reg [{bits}:0] {name};")
        self.always.append(f"{name} <= rst ? 0 : {{1'b1, {bits}'({expression})}};")
        return f"{name} != {{1'b1, {bits}'({expression})}}"


class Tapping:
    """Builds a `Watch` that writes records of some layouts."""

    def __init__(self, layouts: Layouts):
        self.out = Watch()
        self._layouts = layouts

    def log(self, name: str, unit: int | str, when: str, dated: int | str, **values: str | Sequence[str]) -> None:
        """Record where `when` holds, of `dated` cycles before; or of the cycle that `dated` is an expression of."""
        layout, number = self._layouts[name], list(self._layouts).index(name)
        parts = [f"32'd{unit}" if isinstance(unit, int) else f"32'({unit})", self._cycle(dated)]
        for each in (layout.names or ())[2:]:
            given = values.get(each, "0")
            elements = [given] if isinstance(given, str) else list(given)
            bits = 8 * layout[each].itemsize // len(elements)
            parts[:0] = [f"{bits}'({element})" for element in reversed(elements)]
        record = "{" + ", ".join(parts) + "}"
        self.out.recording.append(
            f"if ({when}) nncosim_log({FIRST_STREAM + number}, {layout.itemsize // 4}, {MOST_BITS}'({record}));")

    @staticmethod
    def _cycle(dated: int | str) -> str:
        if isinstance(dated, str):
            return f"64'({dated})"
        return f"cycle - 64'd{dated}" if dated >= 0 else f"cycle + 64'd{-dated}"


def slices(signal: str, words: int, bits: int) -> list[str]:
    """The words of a signal, the lowest first."""
    return [f"{signal}[{bits * i} +: {bits}]" for i in range(words)]


def flags(*bits: str) -> str:
    """The first one is bit 0."""
    return "{" + ", ".join(reversed(bits)) + "}"
