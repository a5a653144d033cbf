# SPDX-License-Identifier: Apache-2.0
"""What is loaded into a tile: program, constants, locks, buffer descriptors, switch; all as segments of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from nncosim.compiler.aie_ml.checker import Guard, wrong_in
from nncosim.compiler.aie_ml.descriptors import Descriptor, Region, matrix, rows_of_tiles
from nncosim.compiler.aie_ml.notes import tile_address
from nncosim.compiler.aie_ml.plan import COPIES, MM2S, S2MM, TilePlan, Transfer
from nncosim.compiler.aie_ml.program import Addresses, Exchange, streaming_program
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Segment
from nncosim.hdl.aie_ml.config import BDS_AT, CORE_AT, LISTENS, LOCKS_AT, PROGRAM_AT, STARTS_AT, SWITCH_AT
from nncosim.hdl.aie_ml.dma import DESCRIPTORS
from nncosim.hdl.aie_ml.isa import BEAT_BYTES
from nncosim.hdl.aie_ml.locks import LOCKS
from nncosim.hdl.aie_ml.switch import MASTERS
from nncosim.kernels.aie_ml.dense import Dense

__all__ = ["Homes", "exchange", "segments_of", "switch_segment"]

_BEAT_WORDS = BEAT_BYTES // 4


@dataclass(frozen=True)
class Homes:
    """Beats where a tile's buffers begin; of inputs and results, those of each copy."""

    inputs: tuple[int, ...]
    weights: int
    bias: int
    results: tuple[int, ...]

    @property
    def copies(self) -> tuple[Addresses, ...]:
        results = self.results or (0,) * len(self.inputs)
        return tuple(Addresses(i, self.weights, self.bias, r) for i, r in zip(self.inputs, results, strict=True))


def exchange(channel: int) -> Exchange:
    """The locks of a channel's buffer."""
    return Exchange(2 * channel, 2 * channel + 1)


def _program(tile: TilePlan, homes: Homes, room: int) -> bytes:
    """The program, proved.

    Raises:
        CompileError: it does not fit, or is wrong.
    """
    takes, gives = (tuple(exchange(each.channel) for each in tile.channels(first)) for first in (S2MM, MM2S))
    words, found = _proved(replace(tile.dense, weights=b"", bias=b""), homes, takes, gives, room)
    if found:
        raise CompileError(f"the program of {tile.name} breaks rules of the core: {'; '.join(found[:3])}")
    return words


@lru_cache(maxsize=256)
def _proved(
    dense: Dense, homes: Homes, takes: tuple[Exchange, ...], gives: tuple[Exchange, ...], room: int
) -> tuple[bytes, list[str]]:
    """A program, and what is wrong with it. Most tiles of a layer have the same one."""
    words, shape = streaming_program(dense, homes.copies, takes, gives, room), dense.shape
    sizes = (shape.row_blocks * shape.rows * shape.input_beats, shape.output_bytes // BEAT_BYTES)
    guards = [Guard(range(at, at + sizes[0]), each.full, each.free) for at in homes.inputs for each in takes]
    guards += [Guard(range(at, at + sizes[1]), each.free, each.full) for at in homes.results for each in gives]
    return words, wrong_in(words, [(dense, at) for at in homes.copies], guards)


def _descriptors(tile: TilePlan, homes: Homes) -> tuple[list[Descriptor], dict[int, int]]:
    """All of a tile, and with which each channel starts."""
    made: list[Descriptor] = []
    starts = {}
    for each in tile.transfers:
        starts[each.channel] = len(made)
        made += _of_channel(tile, homes, each, len(made))
    if len(made) > DESCRIPTORS:
        raise CompileError(f"{tile.name} takes {len(made)} buffer descriptors, and a tile has {DESCRIPTORS}; use a "
                           "smaller batch or other splits")
    return made, starts


def _of_channel(tile: TilePlan, homes: Homes, each: Transfer, first: int) -> list[Descriptor]:
    shape, takes = tile.dense.shape, each.channel < MM2S
    copies = homes.inputs if takes else homes.results
    bits = tile.bits[0 if takes else 1]
    offset = each.part[0] // 8 * bits // 8 * _BEAT_WORDS  # a tile of 8 columns, or two of 4
    region = Region(
        tuple(at * _BEAT_WORDS + offset for at in copies),
        (shape.input_beats if takes else shape.output_beats) * _BEAT_WORDS, bits, tile.rows,
        each.part[1] - each.part[0],
    )  # fmt: skip
    locks = exchange(each.channel)
    pair = (locks.free, locks.full) if takes else (locks.full, locks.free)
    return (matrix if each.edge else rows_of_tiles)(region, pair, first)


def segments_of(
    tile: TilePlan, homes: Homes, masters: Mapping[int, int], constants: Sequence[Segment], room: int,
) -> tuple[list[Segment], list[Segment]]:
    """What is loaded, and what starts the tile when all is loaded.

    Args:
        masters: of the switch, the slave each listens to. constants: at addresses within the tile. room: instructions.

    Raises:
        CompileError: as of a descriptor or program that does not fit, or is wrong.
    """
    base = tile_address(tile.column, tile.row)
    descriptors, starts = _descriptors(tile, homes)

    def config(at: int, words: Sequence[int]) -> Segment:
        return Segment("config", base + at, np.array(words, "<u4").tobytes())

    locks = [0] * LOCKS
    for each in tile.transfers:
        locks[exchange(each.channel).free] = COPIES
    loaded = [Segment(s.memory, base + s.address, s.data, s.flags) for s in constants]
    loaded.append(Segment("program", base + PROGRAM_AT, _program(tile, homes, room), 5))
    loaded.append(config(LOCKS_AT, locks))
    loaded += [config(BDS_AT + 32 * number, each.words) for number, each in enumerate(descriptors)]
    loaded.append(switch_segment(tile.column, tile.row, masters))
    begun = [config(STARTS_AT + 4 * channel, [number]) for channel, number in starts.items()]
    return loaded, [*begun, config(CORE_AT, [1])]


def switch_segment(column: int, row: int, masters: Mapping[int, int]) -> Segment:
    """The settings of a tile's switch."""
    words = [1 << LISTENS | masters[k] if k in masters else 0 for k in range(MASTERS)]
    return Segment("config", tile_address(column, row) + SWITCH_AT, np.array(words, "<u4").tobytes())
