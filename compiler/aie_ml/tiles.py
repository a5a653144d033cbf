# SPDX-License-Identifier: Apache-2.0
"""What is loaded into a tile: program, constants, locks, buffer descriptors, switch; all as segments of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from nncosim.compiler.aie_ml.checker import Proof, proof_of
from nncosim.compiler.aie_ml.descriptors import Descriptor, chain
from nncosim.compiler.aie_ml.named_core import Guard
from nncosim.compiler.aie_ml.notes import config_segment, tile_address
from nncosim.compiler.aie_ml.plan import COPIES, MM2S, S2MM, TilePlan, Transfer
from nncosim.compiler.aie_ml.program import Addresses, Exchange, streaming_program
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Segment
from nncosim.hdl.aie_ml.config import (
    BDS_AT,
    CORE_AT,
    LISTENS,
    LOCKS_AT,
    MEMORY_SWITCH_AT,
    PROGRAM_AT,
    STARTS_AT,
    SWITCH_AT,
)
from nncosim.hdl.aie_ml.dma import CHANNELS, DESCRIPTORS
from nncosim.hdl.aie_ml.locks import LOCKS
from nncosim.hdl.aie_ml.ports import MEMORY_PORTS, TILE_PORTS
from nncosim.kernels.aie_ml.product import Job, Product
from nncosim.platforms.aie_ml_generation import BEAT_WORDS

__all__ = ["Homes", "exchange", "segments_of", "switch_segment"]


@dataclass(frozen=True)
class Homes:
    """Beats where a tile's buffers begin; of activations and results, those of each copy.

    activations: () where all of them are the west neighbour's. west: operand number `operand` where that one made it.
    """

    activations: tuple[int, ...]
    constant: int
    bias: int
    results: tuple[int, ...]
    west: tuple[int, ...] = ()
    operand: int = 0

    def copies(self, job: Job) -> tuple[Addresses, ...]:
        firsts: tuple[int, ...] = self.activations or self.west
        addends: tuple[int | None, ...] = (None,) * COPIES
        if self.activations and self.west:
            firsts, addends = (firsts, self.west) if self.operand else (self.west, firsts)
        out = []
        for first, addend, result in zip(firsts, addends, self.results or (0,) * COPIES, strict=True):
            operands = (self.constant, first) if job == Job.TRANSPOSE else (first, self.constant)
            out.append(Addresses(*operands, self.bias, result, addend))
        return tuple(out)


def exchange(channel: int) -> Exchange:
    """The locks of a channel's buffer."""
    return Exchange(2 * channel, 2 * channel + 1)


def neighbours_exchange(*, west: bool = False) -> Exchange:
    """The locks of results that the east neighbour takes; `west`: as that one names them."""
    return Exchange(2 * CHANNELS, 2 * CHANNELS + 1, west)


def _program(tile: TilePlan, homes: Homes, room: int) -> tuple[bytes, Proof]:
    """The program, with its proof.

    Raises:
        CompileError: it does not fit, or is wrong.
    """
    takes, gives = ([exchange(each.channel) for each in tile.channels(first)] for first in (S2MM, MM2S))
    takes += [neighbours_exchange(west=True)] if tile.west else []
    gives += [neighbours_exchange()] if tile.lends else []
    words, proof = _proved(replace(tile.product, constant=b"", bias=b""), homes, tuple(takes), tuple(gives), room)
    if proof.wrong:
        raise CompileError(f"the program of {tile.name} breaks rules of the core: {'; '.join(proof.wrong[:3])}")
    return words, proof


@lru_cache(maxsize=256)
def _proved(
    product: Product, homes: Homes, takes: tuple[Exchange, ...], gives: tuple[Exchange, ...], room: int
) -> tuple[bytes, Proof]:
    """A program, and what is to be said of it. Most tiles of a layer have the same one."""
    copies, shape = homes.copies(product.shape.job), product.shape
    words = streaming_program(product, copies, takes, gives, room)
    sizes = (shape.activation_beats, shape.output_bytes // shape.generation.beat_bytes)
    guards = [Guard(range(at, at + sizes[0]), each.full, each.free, each.west)
              for each in takes for at in (homes.west if each.west else homes.activations)]  # fmt: skip
    guards += [Guard(range(at, at + sizes[1]), each.free, each.full) for at in homes.results for each in gives]
    return words, proof_of(words, [(product, at) for at in copies], guards)


def _descriptors(tile: TilePlan, homes: Homes) -> tuple[list[Descriptor], dict[int, int]]:
    """All of a tile, and with which each channel starts."""
    made: list[Descriptor] = []
    made_by: list[int] = []
    starts = {}
    for each in tile.transfers:
        starts[each.channel] = len(made)
        own = _of_channel(tile, homes, each, len(made))
        made_by += [each.channel] * len(own)
        made += own
    if len(made) > DESCRIPTORS:
        chains = [n for n in Counter(made_by).values() if n > 1]
        rows = (DESCRIPTORS - len(starts) + len(chains)) // len(chains) * 4
        raise CompileError(f"{tile.name} takes {len(made)} buffer descriptors, one for each 4 rows in {len(chains)} "
                           f"streams, and a tile has {DESCRIPTORS}; use a batch of {rows} at most")
    return made, starts


def _of_channel(tile: TilePlan, homes: Homes, each: Transfer, first: int) -> list[Descriptor]:
    takes = each.channel < MM2S
    copies = homes.activations if takes else homes.results
    walk = tile.matrix(each).moved(copies[0] * BEAT_WORDS).walk(each.order)
    locks = exchange(each.channel)
    pair = (locks.free, locks.full) if takes else (locks.full, locks.free)
    return chain(Descriptor, walk, ((copies[1] - copies[0]) * BEAT_WORDS, COPIES), first, (pair[0], 1), (pair[1], 1))


def segments_of(
    tile: TilePlan, homes: Homes, masters: Mapping[int, int], constants: Sequence[Segment], room: int,
) -> tuple[list[Segment], list[Segment], tuple[int, ...]]:
    """What is loaded, what starts the tile when all is loaded, and what its program reads early (`Proof`).

    Args:
        masters: of the switch, the slave each listens to. constants: at addresses within the tile. room: instructions.

    Raises:
        CompileError: as of a descriptor or program that does not fit, or is wrong.
    """
    base = tile_address(tile.column, tile.row)
    descriptors, starts = _descriptors(tile, homes)
    locks = [0] * LOCKS
    for each in tile.transfers:
        locks[exchange(each.channel).free] = COPIES
    if tile.lends:
        locks[neighbours_exchange().free] = COPIES
    loaded = [Segment(s.memory, base + s.address, s.data, s.flags) for s in constants]
    program, proof = _program(tile, homes, room)
    loaded.append(Segment("program", base + PROGRAM_AT, program, 5))
    loaded.append(config_segment(base + LOCKS_AT, locks))
    loaded += [config_segment(base + BDS_AT + 32 * number, each.words) for number, each in enumerate(descriptors)]
    loaded.append(switch_segment(tile.column, tile.row, masters))
    begun = [config_segment(base + STARTS_AT + 4 * channel, [number]) for channel, number in starts.items()]
    return loaded, [*begun, config_segment(base + CORE_AT, [1])], proof.early_reads


def switch_segment(column: int, row: int, masters: Mapping[int, int], *, memory_tile: bool = False) -> Segment:
    """The settings of a tile's switch."""
    count, at = (MEMORY_PORTS.masters, MEMORY_SWITCH_AT) if memory_tile else (TILE_PORTS.masters, SWITCH_AT)
    words = [1 << LISTENS | masters[k] if k in masters else 0 for k in range(count)]
    return config_segment(tile_address(column, row) + at, words)
