# SPDX-License-Identifier: Apache-2.0
"""What a network needs of a memory at the very least, before anything is proved, tiled or placed.

Seconds of work are saved where a network cannot fit however it is compiled. A lower bound: it counts only what no
compilation can do without, so that it never refuses what could fit. Placement gives the exact answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.placement.placement import PlacementError
from nncosim.platforms.base import Platform

__all__ = ["Least", "Room", "check_room", "least_need"]


@dataclass(frozen=True)
class Room:
    """Where a platform keeps a network.

    memory: where the weights lie throughout a run, and every tensor that an operator leaves for another.
    element_bits: what an element of a tensor or a weight takes at least.
    inside: tensors that need not lie there, because the operator that makes each and its only reader may run as one.
    most_fused: operators that may run as one at most.
    """

    memory: str
    element_bits: int
    inside: frozenset[str] = frozenset()
    most_fused: int = 1


@dataclass(frozen=True)
class Least:
    """Bytes at least. weights: of each operator, without channels that are equal to earlier ones. tensors: the largest
    that have to be there at a time, and at: the operator at which they are."""

    weights: Mapping[str, int]
    tensors: Mapping[str, int]
    at: str = ""

    @property
    def total(self) -> int:
        return sum(self.weights.values()) + sum(self.tensors.values())


def _bytes(tensor: Tensor, room: Room) -> int:
    # By its range: accumulators of 32 bits that reach 100 may be stored as bytes.
    bits = (tensor.type.hi - tensor.type.lo).bit_length()
    return -(-tensor.elements * max(bits, room.element_bits) // 8)


def _weights(network: Network, room: Room) -> dict[str, int]:
    seen: set[bytes] = set()
    out: dict[str, int] = {}
    for op in network.ops:
        for constant in op.constants:
            # Equal blocks may be stored once, however channels are put into blocks: so count equal channels once.
            channels = constant.reshape(constant.shape[0], -1).astype(np.int8)
            new = {row.tobytes() for row in channels} - seen
            seen |= new
            out[op.name] = out.get(op.name, 0) + len(new) * channels.shape[1] * room.element_bits // 8
    return out


def _outside(op: Op, maker: Mapping[str, Op], room: Room, most: int) -> set[frozenset[str]]:
    """What a group that ends in `op` may read from the memory: one set for each way of beginning it."""
    found = {frozenset(op.inputs)}
    for name in op.inputs:
        if most > 1 and name in room.inside:
            others = frozenset(op.inputs) - {name}
            found |= {others | before for before in _outside(maker[name], maker, room, most - 1)}
    return found


def _moments(network: Network, room: Room) -> list[tuple[str, tuple[str, ...]]]:
    """(operator, tensors that have to be in the memory as a whole at a time); "" for the run's begin and end.

    Of `most_fused` tensors in a row that may be inside a group one is not, the smallest at best. A group finds in the
    memory all that its members read, but for what they read of each other. What is joined may lie inside its
    result, and counts alone only.
    """
    maker = {op.output: op for op in network.ops}
    reader = {name: op.output for op in network.ops for name in op.inputs}
    sizes = {name: _bytes(tensor, room) for name, tensor in network.tensors.items()}
    joined = {name for op in network.ops if op.joins for name in op.inputs}
    moments = [("", tuple(name for name in names if name not in joined)) for names in (network.inputs, network.outputs)]
    for op in network.ops:
        ways = [names - joined for names in _outside(op, maker, room, room.most_fused)]
        least = min(ways, key=lambda names: (sum(sizes[name] for name in names), sorted(names)))
        moments.append((op.name, tuple(sorted(least))))
        moments += [(op.name, (name,)) for name in op.inputs if name not in room.inside]
        window = [op.output]
        while len(window) < room.most_fused and window[-1] in room.inside:
            window.append(reader[window[-1]])
        moments.append((op.name, (min(window, key=lambda name: sizes[name]),)))
    return moments


def least_need(network: Network, room: Room) -> Least:
    """What of `room.memory` the network needs however it is compiled."""
    sizes = {name: _bytes(tensor, room) for name, tensor in network.tensors.items()}
    at, names = max(_moments(network, room), key=lambda moment: sum(sizes[name] for name in moment[1]))
    return Least(_weights(network, room), {name: sizes[name] for name in names}, at)


def _largest(sizes: Mapping[str, int], count: int = 3) -> str:
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    more = ", ..." if len(ranked) > count else ""
    return ", ".join(f"{name} {size:,}" for name, size in ranked[:count]) + more


def check_room(network: Network, platform: Platform, room: Room) -> None:
    """Refuse a network that cannot fit.

    Raises:
        PlacementError: names the memory, its bytes, the bytes needed, the largest weights and tensors.
    """
    limit = next(memory.size_bytes for memory in platform.memories if memory.name == room.memory)
    least = least_need(network, room)
    if least.total <= limit:
        return
    weights = sum(least.weights.values())
    parts = []
    if weights:
        parts.append(f"weights {weights:,} (largest: {_largest(least.weights)})")
    shapes = {name: " x ".join(map(str, network.tensors[name].shape)) for name in least.tensors}
    for name, size in least.tensors.items():
        where = f" at operator {least.at!r}" if len(least.tensors) > 1 and least.at else ""
        parts.append(f"tensor {name} ({shapes[name]}) {size:,}{where}")
    hints = ["a larger memory"]
    if sum(least.tensors.values()) > limit - weights:
        hints.insert(0, "a smaller input, narrower layers")
    if weights > limit // 2:
        hints.insert(0, "fewer weights")
    raise PlacementError(
        f"memory {room.memory!r} holds {limit} bytes, but the network needs {least.total} at least, "
        f"{least.total - limit:,} too many: {'; '.join(parts)}; {', '.join(hints[:-1])} or {hints[-1]} would help",
        least.total - limit, least.at, tuple(least.tensors.items()),
    )  # fmt: skip
