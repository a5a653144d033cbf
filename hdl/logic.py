# SPDX-License-Identifier: Apache-2.0
"""Registers without reset, formats in front of a register, trees of multiplexers."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import data

__all__ = ["delayed", "pick", "register", "view"]


def register(shape: ShapeLike = 1, name: str | None = None) -> Signal:
    """A register without reset: in a pipeline, what counts is the valid bit that travels beside it."""
    return Signal(shape, name=name, reset_less=True, src_loc_at=1)


def delayed(
    m: Module, enable: Value, value: ValueLike, cycles: int, name: str, *, reset: bool = False
) -> Value:
    """`value` so many enabled cycles later, in registers `name`1, `name`2...; with `reset` they begin as 0."""
    out = Value.cast(value)
    for stage in range(1, cycles + 1):
        following = Signal(out.shape(), name=f"{name}{stage}", reset_less=not reset)
        with m.If(enable):
            m.d.sync += following.eq(out)
        out = following
    return out


def view(fmt: type[data.Struct], register: Value) -> data.View:
    """The low bits of `register` as format `fmt`, which may be narrower."""
    return fmt(register[:Shape.cast(fmt).width])


def pick(items: Sequence[Value], index: Value) -> Value:
    """``items[index]`` of two to the power of ``len(index)`` items, as a tree of multiplexers.

    Against a `Switch` it is an expression: a simulator evaluates it only where its value is used.
    """
    level = list(items)
    for bit in range(len(index)):
        level = [Mux(index[bit], high, low) for low, high in zip(level[::2], level[1::2], strict=True)]
    return level[0]
