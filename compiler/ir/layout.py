# SPDX-License-Identifier: Apache-2.0
"""Layouts: how the elements of a (C, H, W) tensor become the bytes of a memory. The only place where that happens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from nncosim.compiler.errors import CompileError

__all__ = ["Layout", "LayoutError", "from_bytes", "size_bytes", "to_bytes"]

_AXES = {"C": 0, "H": 1, "W": 2, "c": 3}


class LayoutError(CompileError):
    """A layout that contradicts itself, or data that does not fit it."""


@dataclass(frozen=True)
class Layout:
    """Order of the elements of a tensor, outermost axis first, and their packing.

    axes: a permutation of "CHWc": block of channels, row, column, channel in the block.
        "CHWc" is block planar, "HWCc" has all channels of a pixel together: with blocks of one channel it is what a
        camera gives, pixel after pixel without filling.
    channel_block: channels in a block; the last block is filled up.
    bits: of one stored element (1, 2, 4, 8, 16, 32). Elements under 8 bits are packed, the first in the low bits.
    held: channels that a block holds; the rest of it is filling, in the last block and in all others. 0: all it can.
    planes: values of `planes` * `bits` bits are stored as so many tensors, one behind the other, the lowest bits first.
    """

    axes: str = "CHWc"
    channel_block: int = 1
    bits: int = 8
    planes: int = 1
    held: int = 0

    def __post_init__(self) -> None:
        if sorted(self.axes) != sorted(_AXES):
            raise LayoutError(f"axes must be a permutation of CHWc, not {self.axes!r}")
        if self.channel_block < 1 or self.bits not in (1, 2, 4, 8, 16, 32):
            raise LayoutError(f"no such layout: {self}")
        if not 1 <= self.planes <= 64 // self.bits:
            raise LayoutError(f"planes hold 64 bits at most: {self}")
        if not 0 <= self.held <= self.channel_block or (self.held and self.planes > 1):
            raise LayoutError(f"a block cannot hold so many channels, or not with planes: {self}")

    @property
    def per_block(self) -> int:
        """Channels of all blocks but the last."""
        return self.held or self.channel_block

    @property
    def name(self) -> str:
        """For people: "interleaved" (what a camera gives), or "block planar" and the like."""
        orders = {"CHWc": "planar", "HWCc": "interleaved"}
        return ("block " if self.channel_block > 1 else "") + orders.get(self.axes, self.axes)

    def blocks(self, channels: int) -> int:
        return -(-channels // self.per_block)

    def stored(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """What a (C, H, W) tensor is stored as: itself, or all planes."""
        c, h, w = shape
        if self.planes > 1:
            return self.planes * self.blocks(c) * self.channel_block, h, w
        return shape


def size_bytes(shape: tuple[int, int, int], layout: Layout) -> int:
    """Bytes that a (C, H, W) tensor takes, filling included."""
    c, h, w = layout.stored(shape)
    return -(-layout.blocks(c) * layout.channel_block * h * w * layout.bits // 8)


def _order(layout: Layout) -> list[int]:
    return [_AXES[axis] for axis in layout.axes]


def to_bytes(array: np.ndarray, layout: Layout, fill: int = 0) -> bytes:
    """Bytes of an integer array (C, H, W); two's complement, little endian. `fill`: value of channels past the last.

    Raises:
        LayoutError: a value that `layout.bits` cannot hold, signed or unsigned.
    """
    if layout.planes > 1:
        return _planes_to_bytes(array, layout, fill)
    c, h, w = array.shape
    low, high = -(1 << (layout.bits - 1)), (1 << layout.bits) - 1
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise LayoutError(f"values {int(array.min())}..{int(array.max())} do not fit {layout.bits} bits")
    blocks, held = layout.blocks(c), layout.per_block
    full = np.full((blocks * held, h, w), fill, dtype=np.int64)
    full[:c] = array
    split = np.full((blocks, h, w, layout.channel_block), fill, dtype=np.int64)
    split[..., :held] = full.reshape(blocks, held, h, w).transpose(0, 2, 3, 1)
    flat = split.transpose(_order(layout)).reshape(-1) & high
    if layout.bits >= 8:
        return flat.astype(f"<u{layout.bits // 8}").tobytes()
    per_byte = 8 // layout.bits
    flat = np.concatenate([flat, np.zeros(-len(flat) % per_byte, dtype=np.int64)]).reshape(-1, per_byte)
    return (flat << (np.arange(per_byte) * layout.bits)).sum(axis=1).astype(np.uint8).tobytes()


def _planes_to_bytes(array: np.ndarray, layout: Layout, fill: int) -> bytes:
    bits = layout.planes * layout.bits
    if array.size and (int(array.min()) < -(1 << (bits - 1)) or int(array.max()) >= 1 << min(bits, 63)):
        raise LayoutError(f"values {int(array.min())}..{int(array.max())} do not fit {bits} bits")
    one, mask = replace(layout, planes=1), (1 << layout.bits) - 1
    return b"".join(to_bytes(array >> (k * layout.bits) & mask, one, fill) for k in range(layout.planes))


def _planes_from_bytes(data: bytes, shape: tuple[int, int, int], layout: Layout, signed: bool) -> np.ndarray:
    one = replace(layout, planes=1)
    size = size_bytes(shape, one)
    total = np.zeros(shape, dtype=np.int64)
    for k in range(layout.planes):
        top = k + 1 == layout.planes
        total += from_bytes(data[k * size : (k + 1) * size], shape, one, signed and top) << (k * layout.bits)
    return total


def from_bytes(data: bytes, shape: tuple[int, int, int], layout: Layout, signed: bool) -> np.ndarray:
    """The int64 array (C, H, W) stored in `data`; channels past the last are dropped.

    Raises:
        LayoutError: `data` is too short.
    """
    c, h, w = layout.stored(shape)
    need = size_bytes(shape, layout)
    if len(data) < need:
        raise LayoutError(f"a tensor of shape {shape} takes {need} bytes in this layout, not {len(data)}")
    if layout.planes > 1:
        return _planes_from_bytes(data, shape, layout, signed)
    if layout.bits >= 8:
        flat = np.frombuffer(data[:need], dtype=f"<u{layout.bits // 8}").astype(np.int64)
    else:
        shifts = np.arange(8 // layout.bits) * layout.bits
        raw = np.frombuffer(data[:need], dtype=np.uint8).astype(np.int64)
        flat = ((raw[:, None] >> shifts) & ((1 << layout.bits) - 1)).reshape(-1)
    if signed:
        flat = flat - ((flat >> (layout.bits - 1)) << layout.bits)
    sizes = (layout.blocks(c), h, w, layout.channel_block)
    order = _order(layout)
    count = int(np.prod(sizes))
    split = flat[:count].reshape([sizes[axis] for axis in order]).transpose(np.argsort(order))
    return split[..., : layout.per_block].transpose(0, 3, 1, 2).reshape(-1, h, w)[:c].copy()
