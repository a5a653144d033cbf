# SPDX-License-Identifier: Apache-2.0
"""What every J3DAI kernel turns its operator into: one loop nest that the cluster's address generators can walk.

A nest says what a job computes, which blocks of channels (one channel an NCB) it reads and writes, and holds the
requantization records and weights in the order in which the hardware reads them. Tiling and code generation know
nothing but nests.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network, Op
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.isa import NARROW_M_BITS, NARROW_X_BITS, MacOp, RequantRecord
from nncosim.kernels.base import KernelError
from nncosim.platforms.j3dai import J3dai

__all__ = [
    "Gather", "Nest", "Products", "Source", "blocks_of", "identity", "pad_to_line", "products", "records", "requant_of",
    "weight_layout",
]

_RECORD_BYTES = 16
_RECORD_WORDS = 16  # of a block: as many records as a word has bytes
_TABLE_BYTES = 256


def blocks_of(channels: int, platform: J3dai) -> int:
    """Blocks of as many channels as a cluster has NCBs, a word has bytes."""
    return -(-channels // platform.word_bytes)


def pad_to_line(words: int, platform: J3dai) -> int:
    return -(-words // platform.banks) * platform.banks


@dataclass(frozen=True)
class Gather:
    """How the words of a map's row are made from the bytes of a row in L2, where a pixel has all its channels together.

    step: bytes from where a word's begin to where the next word's do. used: bytes of a word; the others are 0.
    first: byte of the row at which word 0 begins (negative: before the row). fill: what lies outside the row.
    row: bytes of a row in L2; 0: as many as its words step over.
    """

    step: int
    used: int
    first: int = 0
    fill: int = 0
    row: int = 0


@dataclass(frozen=True)
class Source:
    """An input tensor and how many channel blocks it has. gather: if its words do not lie in L2 as they are read."""

    tensor: str
    blocks: int
    gather: Gather | None = None


@dataclass(frozen=True)
class Products:
    """Operands of a requantization that its multiplier takes in two parts: accumulators, multipliers m."""

    wide_x: bool = False
    wide_m: bool = False

    @property
    def fields(self) -> dict[str, int]:
        """As fields of a MAC."""
        return {"wide_x": int(self.wide_x), "wide_m": int(self.wide_m)}


@dataclass(frozen=True, eq=False)
class Nest:
    """One operator as loops.

    in_map, out_map: (height, width) as walked; a kernel of 1x1 without stride walks a map of one row. With
        `upsample` out_map is that of the jobs; each result is written upsample[0] x upsample[1] times.
    kernel, stride, dilation: (rows, columns). pads: (top, left).
    reads: for each output block (first input block, number) in the blocks of all sources one after the other;
        a depthwise nest reads its own block of every source.
    lanes: channels taken from each input block (0: all). signed: per source.
    records: per output block the requantization records, 16 words for each of `record_sets`.
    weights: per output block `weight_words` words: as `weight_layout` says, or (depthwise) in the order (row, column).
    pair: two sources, summed after their own requantization factors.
    table: 256 bytes that op TABLE looks values up in.
    interleave: results of one output block that are made from each position of out_map, 1 or 2, neighbours in a row:
        result interleave * x + i from the lanes that start at i * lane_step. columns: results in a row, then.
    products: which operands of the requantization take two partial products.
    platform: for which the blocks are cut.
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
    lanes: int = 0
    reads: tuple[tuple[int, int], ...] = ()
    weights: tuple[bytes, ...] = ()
    pair: bool = False
    upsample: tuple[int, int] = (1, 1)
    macs: int = 0
    table: bytes = b""
    interleave: int = 1
    lane_step: int = 0
    columns: int = 0
    products: Products = Products()
    platform: J3dai = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", self.lanes or self.platform.word_bytes)
        if len(self.records) != self.out_blocks or (not self.depthwise and len(self.reads) != self.out_blocks):
            raise KernelError(f"{self.name}: a nest of {self.out_blocks} output blocks needs as many records and reads")
        if self.op is MacOp.MAC and len(self.weights) != self.out_blocks:
            raise KernelError(f"{self.name}: a nest of {self.out_blocks} output blocks needs as many weight blocks")
        if (self.op is MacOp.TABLE) != (len(self.table) == _TABLE_BYTES):
            raise KernelError(f"{self.name}: op TABLE, and no other, needs a table of {_TABLE_BYTES} bytes")

    def results(self, low: int, high: int) -> tuple[int, int]:
        """Columns of the result, before `upsample`, that positions low..high-1 of out_map's rows make."""
        if self.interleave == 1:
            return low, high
        return low * self.interleave, min(high * self.interleave, self.columns)

    @property
    def shape(self) -> tuple[object, ...]:
        """What tiling depends on: everything but names and values."""
        values = {"name", "sources", "output", "records", "weights", "macs", "table"}
        plain = tuple(getattr(self, f.name) for f in fields(self) if f.name not in values)
        sources = tuple((s.blocks, s.gather) for s in self.sources)
        return (*plain, sources, self.weight_words, self.alike, len(self.table))

    @property
    def unit(self) -> int:
        """Columns of out_map that one job makes."""
        return 1 if self.upsample[1] > 2 else self.platform.pes_per_ncb

    @property
    def result_columns(self) -> int:
        """Results in a row, before `upsample`."""
        return self.results(0, self.out_map[1])[1]

    @property
    def record_sets(self) -> int:
        return 2 if self.pair else 1

    @property
    def record_words(self) -> int:
        return _RECORD_WORDS * self.record_sets

    @property
    def weight_words(self) -> int:
        return len(self.weights[0]) // self.platform.word_bytes if self.weights else 0

    @property
    def block_words(self) -> int:
        """Words of one output block in WMEM: records, then weights, filled up to a line."""
        return pad_to_line(self.record_words + self.weight_words, self.platform)

    @cached_property
    def alike(self) -> bool:
        """Whether all output blocks have the same parameters; they are in L2 once then."""
        return len(set(self.records)) == 1 and len(set(self.weights)) <= 1

    @property
    def stored_step(self) -> int:
        """Words from an output block to the next in L2, where blocks are not filled up."""
        return 0 if self.alike else self.record_words + self.weight_words

    @property
    def stored_words(self) -> int:
        """Words of L2 that the parameters of all blocks take; the table follows."""
        return (self.record_words + self.weight_words) * (1 if self.alike else self.out_blocks)

    @property
    def table_words(self) -> int:
        """Words of L1 that the table takes: each of its words once in every bank."""
        return self.platform.banks * len(self.table) // self.platform.word_bytes

    @property
    def elementwise(self) -> bool:
        return self.depthwise and self.kernel == (1, 1) and self.stride == (1, 1)

    def parameter_bytes(self) -> bytes:
        """All blocks as they are stored in L2, then the table as it lies in L1."""
        out = []
        word, banks = self.platform.word_bytes, self.platform.banks
        for b, record in enumerate(self.records[:1] if self.alike else self.records):
            out.append(record + (self.weights[b] if self.weights else b""))
        out += [self.table[i : i + word] * banks for i in range(0, len(self.table), word)]
        return b"".join(out)


def requant_of(op: Op) -> MultiplyShift:
    """Raises KernelError for an operator whose requantization has not been proved yet, or has another form."""
    if op.requant is None:
        raise KernelError(f"{op.name}: has no requantization; run the proof before generating code")
    if not isinstance(op.requant, MultiplyShift):
        raise KernelError(f"{op.name}: requantizes by {type(op.requant).__name__}; J3DAI multiplies and shifts")
    return op.requant


def products(op: Op, network: Network) -> Products:
    """Of an operator: as few as its accumulators and multipliers allow."""
    low, high = op.bounds(network.op_inputs(op))
    x, m = 1 << NARROW_X_BITS - 1, 1 << NARROW_M_BITS - 1
    factors = () if op.requant is None else requant_of(op).m
    return Products(
        wide_x=int(low.min()) < -x or int(high.max()) >= x,
        wide_m=any(int(each.min()) < -m or int(each.max()) >= m for each in factors),
    )


def identity(op: Op, network: Network) -> MultiplyShift:
    """Passes the output tensor's values through unchanged."""
    tensor = network.tensors[op.output]
    low, high = (-128, 127) if tensor.type.signed else (0, 255)
    return MultiplyShift.uniform(tensor.shape[0], lo=low, hi=high)


def weight_layout(lanes: int, platform: J3dai) -> Layout:
    """Of the weights of one output block: a word for each input block, row, column and lane has one for each NCB."""
    return Layout(f"I/{lanes} H W I%{lanes} O:{platform.word_bytes}")


def records(requant: MultiplyShift, platform: J3dai, held: int, wrap: bool = False) -> tuple[bytes, ...]:
    """Requantization records of each block of channels: one set an operand, in `isa.RequantRecord`'s layout.

    The first of two sets holds (m_a, c), the second m_b, s, the bounds and the rounding.
    held: channels in a block. wrap: nothing is clipped, the low 8 bits are what is wanted.
    """
    count, size = blocks_of(requant.channels, platform), platform.word_bytes
    out = [b""] * count
    for operand, m in enumerate(requant.m):
        c = requant.c if operand == 0 else np.zeros_like(requant.c)
        packed = _pack(m, c, requant, wrap)
        for b in range(count):
            out[b] += b"".join(packed[b * held : (b + 1) * held]).ljust(_RECORD_BYTES * size, b"\0")
    return tuple(out)


def _pack(m: np.ndarray, c: np.ndarray, r: MultiplyShift, wrap: bool) -> list[bytes]:
    """One record a channel. Checks the ranges of whole arrays by encoding their extremes."""
    wraps = np.full(r.channels, int(wrap))
    values = {"m": m, "c": c, "s": r.s, "lo": r.lo, "hi": r.hi, "rounding": r.rounding, "wrap": wraps}
    places = []
    for name, array in values.items():
        for extreme in (array.min(), array.max()):
            encode(RequantRecord, **{name: int(extreme)})
        field = RequantRecord.as_shape()[name]
        places.append((array.tolist(), field.offset, (1 << field.width) - 1))
    return [
        sum((array[i] & mask) << offset for array, offset, mask in places).to_bytes(_RECORD_BYTES, "little")
        for i in range(r.channels)
    ]
