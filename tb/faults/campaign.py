# SPDX-License-Identifier: Apache-2.0
"""A fault-injection campaign: many single bit flips in one inference of a network, and what each came to."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from nncosim.compiler.image.expected import expected
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.base import Platform
from nncosim.tb.backend import get_bench
from nncosim.tb.errors import BenchError
from nncosim.tb.fault_target import FaultTarget
from nncosim.tb.faults.injector import Injector, first_wrong
from nncosim.tb.faults.model import Flip, Place, places_of
from nncosim.tb.faults.outcomes import BlockCounts, Injection, Outcome, by_block
from nncosim.tb.faults.parallel import run_flips
from nncosim.tb.run.flow import HANG_FACTOR, RunOptions, check_injectable, choose, make_frames
from nncosim.tb.run.program import Program
from nncosim.tb.system.files import sha256
from nncosim.tb.system.progress import Progress

__all__ = ["Campaign", "Chosen", "Wanted", "prepare_campaign", "random_flips"]


@dataclass(frozen=True)
class Chosen:
    """One flip that the user names: `target` is a path, of a memory with its word in brackets."""

    target: str
    bit: int
    cycle: int


@dataclass(frozen=True)
class Wanted:
    """What is to be turned. `count`: random flips, as many in each block; `blocks`: names, or their first parts; none:
    all. `chosen`: this one instead."""

    count: int = 100
    blocks: tuple[str, ...] = ()
    chosen: Chosen | None = None


@dataclass(frozen=True)
class Campaign:
    """An inference that is ready for faults.

    `places`: everything that can be turned. `cycles`: of the inference without a fault. `limit`: of one that hangs.
    """

    target: FaultTarget
    places: tuple[Place, ...]
    cycles: int
    limit: int
    seed: int
    image: str  # SHA-256

    def flips(self, wanted: Wanted) -> list[Flip]:
        """What is to be turned.

        Raises:
            BenchError: no such block, memory, register, bit or cycle.
        """
        if wanted.chosen is not None:
            return [self._chosen(wanted.chosen)]
        return random_flips(self.places, self.cycles, self._blocks(wanted.blocks), wanted.count, self.seed)

    def run(
        self, flips: Sequence[Flip], jobs: int, journal: Path | None = None, progress: Progress | None = None
    ) -> list[Injection]:
        """Every flip, in the order that they are given in.

        Args:
            jobs: processes. journal: a file with a line for each result; those that are in it are not run again.

        Raises:
            BenchError: a journal of another campaign, or a bit that did not turn.
        """
        known = _Journal(journal, {"image": self.image, "simulation": self.target.built.key, "seed": self.seed,
                                   "limit": self.limit})  # fmt: skip
        left = [flip for flip in flips if flip not in known.found]
        done = len(flips) - len(left)
        for injection in run_flips(self.target, self.limit, self.seed, left, jobs):
            known.add(injection)
            done += 1
            if progress is not None:
                progress(f"injecting: {done} of {len(flips)} faults")
        return [known.found[flip] for flip in flips]

    def rows(self, injections: Sequence[Injection]) -> list[BlockCounts]:
        return by_block(self.places, injections)

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.block for place in self.places))

    def _blocks(self, names: Iterable[str]) -> tuple[str, ...]:
        found = []
        for name in names:
            mine = [block for block in self.blocks if block == name or block.startswith(f"{name}.")]
            if not mine:
                raise BenchError(f"there is no block {name!r}; there are {', '.join(self.blocks)}")
            found += mine
        return tuple(dict.fromkeys(found)) or self.blocks

    def _chosen(self, chosen: Chosen) -> Flip:
        path, bracket, row = chosen.target.partition("[")
        place = next((place for place in self.places if place.path == path), None)
        if place is None:
            near = [each.path for each in self.places if path.rpartition(".")[2] in each.path][:3]
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise BenchError(f"there is no memory or register {path!r}{hint} (--list lists them)")
        digits = row.removesuffix("]")
        if bracket and not digits.isdecimal():
            raise BenchError(f"{chosen.target!r}: expected the number of a word in the brackets")
        if place.words > 1 and not bracket:
            raise BenchError(f"{path} is a memory of {place.words} words; say which one, such as {path}[0]")
        word = int(digits) if bracket else 0
        if word >= place.words or not 0 <= chosen.bit < place.bits:
            raise BenchError(f"{path} has {place.words} words of {place.bits} bits; there is no bit {chosen.bit} of "
                             f"word {word}")  # fmt: skip
        if not 1 <= chosen.cycle < self.cycles:
            raise BenchError(f"the inference has cycles 1 to {self.cycles - 1} to turn a bit after, not {chosen.cycle}")
        return Flip(path, word, chosen.bit, chosen.cycle, place.block)


def random_flips(
    places: Sequence[Place], cycles: int, blocks: Sequence[str], count: int, seed: int
) -> list[Flip]:
    """`count` flips, as many in each block (the first ones have one more where that does not come out even): each an
    even choice among all bits of the block and all cycles of the inference. What a block gets does not depend on which
    others are asked for, but for the number."""
    flips = []
    for index, block in enumerate(blocks):
        mine = [place for place in places if place.block == block]
        ends = np.cumsum([place.size for place in mine])
        rng = np.random.default_rng([seed, zlib.crc32(block.encode())])
        for _ in range(count // len(blocks) + (index < count % len(blocks))):
            at = int(rng.integers(ends[-1]))
            number = int(np.searchsorted(ends, at, side="right"))
            place = mine[number]
            word, bit = divmod(at - int(ends[number]) + place.size, place.bits)
            flips.append(Flip(place.path, word, bit, int(rng.integers(1, cycles)), block))
    return flips


def prepare_campaign(
    program: Program, platform: Platform, options: RunOptions, say: Progress | None = None
) -> Campaign:
    """Build the simulation, and run the first of the inputs on it without a fault.

    Raises:
        BenchError: the platform takes no faults, or the run is wrong without one.
    """
    bench = get_bench(platform)
    backend, _ = choose(bench, platform, options.backend, options.driver)
    injectable = check_injectable(bench, platform, backend)
    inputs = make_frames(program.network, options)[0][0]
    target = injectable.fault_target(platform, program.image, inputs, say)
    if say is not None:
        say("simulating")
    limit = HANG_FACTOR * expected(program.notes, 1)[0].cycles.bounds[1]
    injector = Injector(target, limit, options.seed)
    right = evaluate(program.network, inputs, reference=program.reference)
    wrong = first_wrong({name: right[name] for name in program.network.outputs}, injector.healthy.outputs)
    if wrong:
        raise BenchError(f"the run is wrong without a fault: {wrong}; `nncosim debug` says why")
    places = tuple(places_of(injector.model, target.block))
    injector.close()
    return Campaign(target, places, injector.cycles, limit, options.seed, sha256(program.image))


class _Journal:
    """Results in a file, a JSON object a line; the first says of which campaign they are."""

    def __init__(self, path: Path | None, campaign: dict[str, object]):
        self.found: dict[Flip, Injection] = {}
        self._path = path
        if path is None:
            return
        if not path.exists():
            path.write_text(json.dumps(campaign) + "\n")
            return
        first, *lines = path.read_text().splitlines() or [""]
        try:
            if json.loads(first) != campaign:
                raise BenchError(f"{path} is of another image, simulation or seed; give another file")
            self.found = {each.flip: each for each in _injections(lines)}
        except (ValueError, KeyError, TypeError) as problem:
            raise BenchError(f"{path} is no journal of a campaign: {problem}") from problem

    def add(self, injection: Injection) -> None:
        self.found[injection.flip] = injection
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(injection)) + "\n")


def _injections(lines: Sequence[str]) -> Iterator[Injection]:
    for number, line in enumerate(lines):
        try:
            data = json.loads(line)
        except ValueError:
            if number == len(lines) - 1:  # interrupted as it was written
                return
            raise
        yield Injection(Flip(**data.pop("flip")), Outcome(data.pop("outcome")), **data)
