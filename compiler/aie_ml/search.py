# SPDX-License-Identifier: Apache-2.0
"""Splits and places of a network's layers: some of the best by estimate are made, and the cycle model chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from nncosim.compiler.aie_ml import legal
from nncosim.compiler.aie_ml.cycle_model import cycle_model
from nncosim.compiler.aie_ml.linking import Lowering, buffers_of, linked, lowering_of
from nncosim.compiler.aie_ml.mapping import Box, Split, boxes_of, ranked_splits, savings
from nncosim.compiler.aie_ml.placer import Cost, fits, placed
from nncosim.compiler.errors import CompileError
from nncosim.compiler.ir.network import Network
from nncosim.compiler.placement.placement import place
from nncosim.compiler.schedule import Schedule
from nncosim.platforms.aie_ml import AieMl

__all__ = ["edges_of", "fitting", "searched"]

Splits = tuple[Split, ...]

_TRIES = 3
"""Splits that are measured."""
_MOST_MEASURED = 160
"""Tiles of a network for which several places are measured: of larger ones a measurement takes seconds."""


def edges_of(network: Network) -> list[tuple[int, int]]:
    """From each layer to those that take its results, by their numbers."""
    makers = {op.output: k for k, op in enumerate(network.ops)}
    return sorted({(makers[name], k) for k, op in enumerate(network.ops) for name in op.inputs if name in makers})


def fitting(ranked: Sequence[Splits], fit: Callable[[Splits], bool]) -> Iterator[Splits]:
    """Those for which there is a place. What comes later takes less room: the longer none fits, the more are left
    out."""
    number = misses = 0
    while number < len(ranked):
        if fit(ranked[number]):
            yield ranked[number]
            misses = 0
        else:
            misses += 1
        number += 1 + misses // 8


def searched(
    network: Network, platform: AieMl, splits: Sequence[Split] = (), most_tiles: int | None = None, *,
    objective: str = "latency", strategy: str = "best", share: bool = True,
) -> Lowering:
    """The network on the array.

    Args:
        splits: of the layers, where they are given. most_tiles: that others may take. objective: one of
            `nncosim.compiler.aie_ml.mapping.OBJECTIVES`. strategy: one of `nncosim.compiler.aie_ml.placer.STRATEGIES`.
        share: tiles take what their west neighbours make from there, where that is better.

    Raises:
        CompileError: there is no way; says why the best one by estimate was none.
    """
    if splits:
        ways = [tuple(splits)]
    else:
        fit = partial(fits, columns=platform.columns, rows=platform.rows)
        ways = []
        for shared in (False, True) if share else (False,):
            ranked = ranked_splits(network, platform, most_tiles, objective=objective, packed=True, share=shared)
            ways += list(islice(fitting(ranked, fit), _TRIES)) or [ranked[0]]
        ways = list(dict.fromkeys(ways))
    found: list[tuple[Cost, int, Lowering]] = []
    errors: list[CompileError] = []
    for number, way in enumerate(ways):
        attempt = _Attempt(network, platform, objective, share)
        try:
            cost, made = attempt.made(_places(attempt, way, strategy))
            found.append((cost, number, made))
        except CompileError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return min(found, key=lambda each: each[:2])[2]


@dataclass
class _Attempt:
    """Places of layers, each made and measured once; None where it cannot be so.

    share: as of `searched`. error: why not, the first time.
    """

    network: Network
    platform: AieMl
    objective: str
    share: bool
    known: dict[tuple[Box, ...], tuple[Cost, Lowering]] = field(default_factory=dict)
    error: CompileError | None = None

    def made(self, boxes: tuple[Box, ...]) -> tuple[Cost, Lowering]:
        """Where neighbours could share buffers, the better of with and without.

        Raises:
            CompileError: it cannot be so.
        """
        if boxes not in self.known:
            found: list[tuple[Cost, bool, Lowering]] = []
            errors: list[CompileError] = []
            for share in (True, False) if self.share else (False,):
                try:
                    made = lowering_of(self.network, self.platform, boxes, share=share)
                    found.append((_measured(self.network, self.platform, self.objective, made), share, made))
                except CompileError as error:
                    errors.append(error)
                if found and not found[0][2].plan.shared:
                    break
            if not found:
                raise errors[-1]
            cost, _, best = min(found, key=lambda each: each[:2])
            self.known[boxes] = cost, best
        return self.known[boxes]

    def __call__(self, boxes: tuple[Box, ...]) -> Cost | None:
        try:
            return self.made(boxes)[0]
        except CompileError as error:
            self.error = self.error or error
            return None


def _places(attempt: _Attempt, splits: Sequence[Split], strategy: str) -> tuple[Box, ...]:
    """The best for layers cut so."""
    platform, boxes = attempt.platform, boxes_of(splits, attempt.platform.first_row)
    size = platform.columns, platform.rows
    beside = sum(split.cascade for split in splits) <= platform.columns
    if len(splits) > 1 and (not beside or strategy != "best" or sum(s.tiles for s in splits) <= _MOST_MEASURED):
        saved = savings(attempt.network, platform, splits) if attempt.share else {}
        try:
            boxes = placed(splits, edges_of(attempt.network), *size, strategy=strategy, first_row=platform.first_row,
                           measure=attempt if strategy == "best" else None, savings=saved)  # fmt: skip
        except CompileError as error:
            raise attempt.error or error from None
    wrong = legal.problems(boxes, *size, first_row=platform.first_row, splits=splits)
    if wrong:
        raise CompileError(f"the network does not fit {platform.tiles} tiles in {platform.columns} columns and "
                           f"{platform.rows} rows: {wrong[0]}; use more of them, or smaller layers")
    return boxes


def _measured(network: Network, platform: AieMl, objective: str, made: Lowering) -> Cost:
    buffers = tuple(each for own in buffers_of(made, platform).values() for each in own)
    image = linked(network, platform, made, place(buffers, platform.memories, Schedule(())))
    latency = image.notes.cycles.best
    if objective == "fewest":
        return len(made.plan.tiles), latency
    return cycle_model().interval(image.to_bytes(), platform) if objective == "throughput" else latency, latency
