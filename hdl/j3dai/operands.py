# SPDX-License-Identifier: Apache-2.0
"""What a MAC's fields say of its jobs."""

from amaranth.hdl import Value
from amaranth.lib import data
from nncosim.hdl.j3dai.isa import Drain

__all__ = ["drain_mode"]


def drain_mode(mac: data.View, odd: Value) -> tuple[Value, Value]:
    """How a job of a MAC with `last` is drained: whether it is only kept, and whether it is added to one that was.

    Args:
        mac: `isa.Mac`. odd: the job's number is odd.
    """
    pair = mac.drain == Drain.PAIR
    return (mac.drain == Drain.KEEP) | (pair & ~odd), (mac.drain == Drain.ADD) | (pair & odd)
