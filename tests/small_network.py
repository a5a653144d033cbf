# SPDX-License-Identifier: Apache-2.0
"""A hand-made network of three operators, with results that a test can work out by itself."""

from fractions import Fraction

import numpy as np
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import Network, Proof, Tensor, TensorType
from nncosim.compiler.ir.operators import Add, Conv, Pool
from nncosim.platforms.rounding import Rounding

__all__ = ["small_network"]


def _tensor(name: str, shape: tuple[int, int, int]) -> Tensor:
    return Tensor(name, shape, TensorType(8, True, (Fraction(1, 4),), 0, -128, 127))


def small_network() -> Network:
    """x (2, 4, 4) -> conv 3x3 -> a -> add(x, a) -> b -> max pool -> y (2, 2, 2)."""
    weights = np.arange(-18, 18, dtype=np.int64).reshape(2, 2, 3, 3)
    halving = MultiplyShift.uniform(2, (1,), s=5, rounding=Rounding.HALF_EVEN)
    average = MultiplyShift.uniform(2, (1, 1), s=1, rounding=Rounding.FLOOR)
    same = MultiplyShift.uniform(2)
    ops = (
        Conv("conv", ("x",), "a", weights=weights, pads=(1, 1, 1, 1), requant=halving, proof=Proof(True, 2, 2)),
        Add("add", ("x", "a"), "b", requant=average, proof=Proof(False, 1, 2, 3, 65536, 1)),
        Pool("pool", ("b",), "y", mode="max", kernel=(2, 2), stride=(2, 2), requant=same, proof=Proof(True, 2, 2)),
    )
    tensors = {name: _tensor(name, (2, 4, 4)) for name in ("x", "a", "b")}
    tensors["y"] = _tensor("y", (2, 2, 2))
    shapes = {"x": (1, 2, 4, 4), "y": (1, 2, 2, 2)}
    return Network("small", tensors, ops, ("x",), ("y",), shapes)
