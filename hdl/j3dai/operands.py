# SPDX-License-Identifier: Apache-2.0
"""Fields of the instruction register, and multiplexers."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Mux, Shape, Signal, Value
from amaranth.lib import data
from nncosim.hdl.j3dai.isa import Drain

__all__ = ["drain_mode", "pick", "register", "view"]


def register(shape: Any = 1, name: str | None = None) -> Signal:
    """A register without reset: in a pipeline, what counts is the valid bit that travels beside it."""
    return Signal(shape, name=name, reset_less=True, src_loc_at=1)


def view(fmt: type[data.Struct], register: Value) -> Any:
    """The low bits of `register` as format `fmt`, which may be narrower."""
    return fmt(register[:Shape.cast(fmt).width])


def drain_mode(mac: Any, odd: Value) -> tuple[Value, Value]:
    """How a job of a MAC with `last` is drained: whether it is only kept, and whether it is added to one that was.

    Args:
        mac: `isa.Mac`. odd: the job's number is odd.
    """
    pair = mac.drain == Drain.PAIR
    return (mac.drain == Drain.KEEP) | (pair & ~odd), (mac.drain == Drain.ADD) | (pair & odd)


def pick(items: Sequence[Value], index: Value) -> Value:
    """``items[index]`` of two to the power of ``len(index)`` items, as a tree of multiplexers.

    Against a `Switch` it is an expression: a simulator evaluates it only where its value is used.
    """
    level = list(items)
    for bit in range(len(index)):
        level = [Mux(index[bit], high, low) for low, high in zip(level[::2], level[1::2], strict=True)]
    return level[0]
