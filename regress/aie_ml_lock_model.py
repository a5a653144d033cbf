# SPDX-License-Identifier: Apache-2.0
"""A model of the locks of an AIE-ML tile by the manual, and random requests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from nncosim.hdl.aie_ml.isa import LockOp
from nncosim.regress.block_bench import corner

__all__ = ["Reference", "Request", "random_request"]


class Request(NamedTuple):
    lock: int
    op: LockOp
    value: int


class Reference:
    """By the manual."""

    def __init__(self, locks: int):
        self.values = [0] * locks

    def served(self, asked: list[Request | None]) -> int | None:
        """Which requester is, if any."""
        for number, request in enumerate(asked):
            if request is None:
                continue
            held = self.values[request.lock]
            if (request.op == LockOp.RELEASE or (request.op == LockOp.ACQUIRE_AT_LEAST and held >= request.value)
                    or (request.op == LockOp.ACQUIRE_EQUAL and held == request.value)):  # fmt: skip
                return number
        return None

    def do(self, request: Request) -> bool:
        """Whether it is a fault."""
        delta = request.value if request.op == LockOp.RELEASE else -request.value
        total = self.values[request.lock] + delta
        self.values[request.lock] = min(max(total, 0), 63)
        return not 0 <= total <= 63


def random_request(rng: np.random.Generator, reference: Reference, few: int) -> Request:
    lock = int(rng.integers(few))
    op = (LockOp.ACQUIRE_AT_LEAST, LockOp.ACQUIRE_EQUAL, LockOp.RELEASE)[int(rng.integers(3))]
    if op == LockOp.RELEASE:
        return Request(lock, op, corner(rng, 7, signed=True) if rng.random() < 0.5 else int(rng.integers(-3, 4)))
    near = reference.values[lock] + int(rng.integers(-2, 3))
    return Request(lock, op, min(max(near, 0), 63) if rng.random() < 0.7 else int(rng.integers(64)))
