# SPDX-License-Identifier: Apache-2.0
"""Address generators: an odometer of counted dimensions over one or more coordinates."""

from collections.abc import Mapping

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Odometer"]


class Odometer(wiring.Component):
    """base + one offset per dimension, for several coordinates at once; dimension 0 is the fastest.

    What is stored is not the offsets but, per dimension d, the sum of the base and the offsets of d and all
    dimensions above it. An advance then needs one addition and one choice, and a job's inner dimensions start
    again by copying the sum of the lowest outer dimension.

    Ports:
        advance (In): step by one position. Inner dimensions come first; when all of them are through, the outer
            ones step if `outer` (In) is high, and keep their offsets if not.
        dim_we (In, one bit per dimension): write count and steps: dim_count (In; 0 acts as 1),
            dim_step_<coordinate> (In, signed).
        base_we (In): base := base_<coordinate> (In), or base += it with base_add (In); with base_rewind (In)
            the offsets become 0, else they stay. Takes two cycles: no advance in the next one.
        at_<coordinate> (Out, registered): where it stands. inner_last (Out): all inner dimensions are at
            their last position.

    Args:
        dims: Number of dimensions.
        inner: How many of them, from 0 up, belong to a job.
        coordinates: Name to width; sums wrap at that width.
        steps: Name to the width of the (signed) steps.
        count_bits: Width of the counts.
    """

    def __init__(
        self, dims: int, inner: int, coordinates: Mapping[str, int], steps: Mapping[str, int], count_bits: int
    ):
        self.dims = dims
        self.inner = inner
        self.coordinates = dict(coordinates)
        self.steps = dict(steps)
        self.count_bits = count_bits
        ports = {
            "advance": In(1), "outer": In(1), "inner_last": Out(1),
            "dim_we": In(dims), "dim_count": In(count_bits),
            "base_we": In(1), "base_add": In(1), "base_rewind": In(1),
        }
        for name, bits in self.coordinates.items():
            ports |= {f"at_{name}": Out(bits), f"base_{name}": In(bits), f"dim_step_{name}": In(signed(steps[name]))}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._select(m)
        pending, rewind = Signal(name="pending"), Signal(name="rewind")
        m.d.sync += [pending.eq(self.base_we), rewind.eq(self.base_rewind)]
        self._indexes(m, pending & rewind)
        for name, bits in self.coordinates.items():
            self._coordinate(m, name, bits, pending, rewind)
        return m

    def _select(self, m: Module) -> None:
        """`steps_at[d]`: dimension d is the one that steps; `clears[d]`: its offset returns to 0."""
        self._last = [Signal(name=f"last{d}") for d in range(self.dims)]
        self._steps_at = [Signal(name=f"steps_at{d}") for d in range(self.dims)]
        self._clears = [Signal(name=f"clears{d}") for d in range(self.dims)]
        below: Value | int = 1  # all dimensions below d are at their last position, and d may step
        for d in range(self.dims):
            if d == self.inner:
                m.d.comb += self.inner_last.eq(below)
                below = below & self.outer
            m.d.comb += [self._steps_at[d].eq(below & ~self._last[d]), self._clears[d].eq(below & self._last[d])]
            below = below & self._last[d]

    def _indexes(self, m: Module, rewind: Value) -> None:
        for d in range(self.dims):
            index, count = Signal(self.count_bits, name=f"index{d}"), Signal(self.count_bits, name=f"count{d}")
            with m.If(self.dim_we[d]):
                m.d.sync += count.eq(self.dim_count)
            # `last` is a register: it follows count one cycle later, and an advance at once.
            m.d.sync += self._last[d].eq(index + 1 >= count)
            with m.If(self.advance & self._steps_at[d]):
                m.d.sync += [index.eq(index + 1), self._last[d].eq(index + 2 >= count)]
            with m.If((self.advance & self._clears[d]) | rewind):
                m.d.sync += [index.eq(0), self._last[d].eq(count <= 1)]

    def _coordinate(self, m: Module, name: str, bits: int, pending: Signal, rewind: Signal) -> None:
        base, delta = Signal(bits, name=f"{name}_base"), Signal(bits, name=f"{name}_delta")
        given = getattr(self, f"base_{name}")
        with m.If(self.base_we):
            m.d.sync += [
                base.eq(Mux(self.base_add, base + given, given)),
                delta.eq(Mux(self.base_add, given, given - base)),
            ]
        sums = [Signal(bits, name=f"{name}_sum{d}") for d in range(self.dims)] + [base]
        following = [Signal(bits, name=f"{name}_next{d}") for d in range(self.dims)]
        for d in range(self.dims):
            step = Signal(signed(self.steps[name]), name=f"{name}_step{d}")
            with m.If(self.dim_we[d]):
                m.d.sync += step.eq(getattr(self, f"dim_step_{name}"))
            m.d.comb += following[d].eq(sums[d] + Mux(pending, delta, step))
        stepped = Signal(bits, name=f"{name}_stepped")
        m.d.comb += stepped.eq(base)
        if self.inner:
            with m.If(~self.outer):
                m.d.comb += stepped.eq(sums[self.inner])
        for d in reversed(range(self.dims)):
            with m.If(self._steps_at[d]):
                m.d.comb += stepped.eq(following[d])
        for d in range(self.dims):
            with m.If(pending):
                m.d.sync += sums[d].eq(Mux(rewind, base, following[d]))
            with m.Elif(self.advance & (self._steps_at[d] | self._clears[d])):
                m.d.sync += sums[d].eq(stepped)
        m.d.comb += getattr(self, f"at_{name}").eq(sums[0])
