"""What every J3DAI kernel turns its operator into: one loop nest that the cluster's address generators can walk.

A nest says what a job computes, which blocks of 16 channels it reads and writes, and holds the requantization records
and weights in the order in which the hardware reads them. Tiling and code generation know nothing but nests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nncosim.compiler.arithmetic import Requant
from nncosim.compiler.ir import Network, Op
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import MacOp, RequantRecord
from nncosim.kernels.base import KernelError

__all__ = ["CHANNELS", "Nest", "Source", "blocks_of", "identity", "pad_to_line", "records", "requant_of"]

CHANNELS = 16
"""Channels of a block: bytes of a word, NCBs of a cluster."""

_RECORD_WORDS = 16
_TABLE_BYTES = 256
_BANKS = 8


def blocks_of(channels: int) -> int:
    return -(-channels // CHANNELS)


def pad_to_line(words: int) -> int:
    return -(-words // 8) * 8


@dataclass(frozen=True)
class Source:
    """An input tensor and how many channel blocks it has."""

    tensor: str
    blocks: int


@dataclass(frozen=True, eq=False)
class Nest:
    """One operator as loops.

    in_map, out_map: (height, width) as walked; a kernel of 1x1 without stride walks a map of one row. With
        `upsample` out_map is that of the jobs; each result is written upsample[0] x upsample[1] times.
    kernel, stride, dilation: (rows, columns). pads: (top, left).
    reads: for each output block (first input block, number) in the blocks of all sources one after the other;
        a depthwise nest reads its own block of every source.
    lanes: channels taken from each input block. signed: per source.
    records: per output block the requantization records, 16 words for each of `record_sets`.
    weights: per output block `weight_words` words in the order (input block, row, column, lane).
    pair: two sources, summed after their own requantization factors.
    table: 256 bytes that op TABLE looks values up in.
    """

    name: str
    sources: tuple[Source, ...]
    output: str
    in_map: tuple[int, int]
    out_map: tuple[int, int]
    out_blocks: int
    op: MacOp
    depthwise: bool
    signed: tuple[bool, ...]
    records: tuple[bytes, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    pad_value: int = 0
    lanes: int = CHANNELS
    reads: tuple[tuple[int, int], ...] = ()
    weights: tuple[bytes, ...] = ()
    pair: bool = False
    upsample: tuple[int, int] = (1, 1)
    macs: int = 0
    table: bytes = b""

    def __post_init__(self) -> None:
        if len(self.records) != self.out_blocks or (not self.depthwise and len(self.reads) != self.out_blocks):
            raise KernelError(f"{self.name}: a nest of {self.out_blocks} output blocks needs as many records and reads")
        if self.op is MacOp.MAC and len(self.weights) != self.out_blocks:
            raise KernelError(f"{self.name}: a nest of {self.out_blocks} output blocks needs as many weight blocks")
        if (self.op is MacOp.TABLE) != (len(self.table) == _TABLE_BYTES):
            raise KernelError(f"{self.name}: op TABLE, and no other, needs a table of {_TABLE_BYTES} bytes")

    @property
    def record_sets(self) -> int:
        return 2 if self.pair else 1

    @property
    def record_words(self) -> int:
        return _RECORD_WORDS * self.record_sets

    @property
    def weight_words(self) -> int:
        return len(self.weights[0]) // CHANNELS if self.weights else 0

    @property
    def block_words(self) -> int:
        """Words of one output block in L2: records, then weights, filled up to a line."""
        return pad_to_line(self.record_words + self.weight_words)

    @property
    def table_words(self) -> int:
        """Words of L1 that the table takes: each of its words once in every bank."""
        return _BANKS * len(self.table) // CHANNELS

    @property
    def elementwise(self) -> bool:
        return self.depthwise and self.kernel == (1, 1) and self.stride == (1, 1)

    def parameter_bytes(self) -> bytes:
        """All blocks, then the table as it lies in L1."""
        out = []
        for b, record in enumerate(self.records):
            block = record + (self.weights[b] if self.weights else b"")
            out.append(block.ljust(self.block_words * CHANNELS, b"\0"))
        out += [self.table[i : i + CHANNELS] * _BANKS for i in range(0, len(self.table), CHANNELS)]
        return b"".join(out)


def requant_of(op: Op) -> Requant:
    """Raises KernelError for an operator whose requantization has not been proved yet."""
    if op.requant is None:
        raise KernelError(f"{op.name}: has no requantization; run the proof before generating code")
    return op.requant


def identity(op: Op, network: Network) -> Requant:
    """Passes the output tensor's values through unchanged."""
    tensor = network.tensors[op.output]
    low, high = (-128, 127) if tensor.type.signed else (0, 255)
    return Requant.uniform(tensor.shape[0], lo=low, hi=high)


def records(requant: Requant) -> tuple[bytes, ...]:
    """Requantization records of each block of 16 channels: one set an operand, in `isa.RequantRecord`'s layout.

    The first of two sets holds (m_a, c), the second m_b, s, the bounds and the rounding.
    """
    count = blocks_of(requant.channels)
    out = [b""] * count
    for operand, m in enumerate(requant.m):
        c = requant.c if operand == 0 else np.zeros_like(requant.c)
        packed = _pack(m, c, requant)
        for b in range(count):
            out[b] += b"".join(packed[b * CHANNELS : (b + 1) * CHANNELS]).ljust(_RECORD_WORDS * CHANNELS, b"\0")
    return tuple(out)


def _pack(m: np.ndarray, c: np.ndarray, r: Requant) -> list[bytes]:
    """One record a channel. Checks the ranges of whole arrays by encoding their extremes."""
    values = {"m": m, "c": c, "s": r.s, "lo": r.lo, "hi": r.hi, "rounding": r.rounding}
    places = []
    for name, array in values.items():
        for extreme in (array.min(), array.max()):
            encode(RequantRecord, **{name: int(extreme)})
        field = RequantRecord.as_shape()[name]
        places.append((array.tolist(), field.offset, (1 << field.width) - 1))
    return [
        sum((array[i] & mask) << offset for array, offset, mask in places).to_bytes(CHANNELS, "little")
        for i in range(r.channels)
    ]
