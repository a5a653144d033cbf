# SPDX-License-Identifier: Apache-2.0
"""When each operation of a dense layer is issued: a modulo schedule of its step, and of its block around it.

A *step* multiplies one tile along the reduction, all tiles of a block; it repeats every `interval` cycles. A *block*
begins with its bias and ends with its stores; it repeats every steps x interval cycles, without a gap: stores of one
block and bias of the next lie in slots that the steps leave free. Registers are the same in every step (a value is read
before the next one arrives), accumulators alternate between two sets. The solver knows latencies, slots, register
lifetimes and the order in which post-incremented pointers are used; `checker` proves the encoded program again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml.isa import LATENCY
from nncosim.kernels.aie_ml.product import Job, Role, Shape
from ortools.sat.python import cp_model

__all__ = ["SETS_OF_ACCUMULATORS", "Timing", "timing"]

SETS_OF_ACCUMULATORS = 2
_MORE = 3
"""Intervals that are tried, from the least on."""
_EFFORT, _LESS_EFFORT, _MANY_MOVES = 20, 3, 24
"""The solver's time, in its own units; with more moves in a block than AIE-ML has, the last cycle costs minutes."""
_EARLIEST, _LATEST = -64, 96
"""Of issues, relative to the begin of a block's first step, or of its last."""


@dataclass(frozen=True)
class Timing:
    """Cycles of issue. Relative to the begin of its step: `mac` (row, column), `load_a` (row), `load_b` (column, beat).
    Relative to the begin of the block's first step: `load_bias`, `bias` (row, column), or else `get`, in the order of
    the cascade. To that of its last step: `store`, in the shape's order; `srs` and `relu` of the same, where results
    are compared with 0; or else `put`.

    interval: of steps.
    """

    interval: int
    mac: tuple[int, ...]
    load_a: tuple[int, ...]
    load_b: tuple[int, ...]
    load_bias: tuple[int, ...]
    bias: tuple[int, ...]
    store: tuple[int, ...]
    srs: tuple[int, ...]
    relu: tuple[int, ...]
    get: tuple[int, ...]
    put: tuple[int, ...]


class _Problem:
    def __init__(self, shape: Shape, more: int):
        self.shape, self.model = shape, cp_model.CpModel()
        tiles, beats, words = shape.rows * shape.columns, shape.step_beats, len(shape.words)
        stored, role = len(shape.stores), shape.role
        requantized = stored if shape.relu else 0
        got, given = 0 if role.begins else words, 0 if role.ends else words
        moves = (tiles if role.begins else got) + 2 * requantized + given
        # Moves and stores come once a block.
        self.interval = max(shape.least_interval, -(-max(moves, stored) // shape.steps))
        if shape.one_bank:  # what a step's loads leave of the bank
            self.interval = max(self.interval, shape.loads + -(-stored // shape.steps))
        self.interval += more
        self.effort = _EFFORT if moves <= _MANY_MOVES else _LESS_EFFORT
        self.period = shape.steps * self.interval
        self.mac = self._times("mac", tiles)
        self.load_a, self.load_b = self._times("load_a", shape.rows), self._times("load_b", beats)
        self.load_bias = self._times("load_bias", shape.columns if role.begins else 0)
        self.bias, self.get = self._times("bias", tiles if role.begins else 0), self._times("get", got)
        self.store = self._times("store", stored)
        self.srs, self.relu = self._times("srs", requantized), self._times("relu", requantized)
        self.put = self._times("put", given)

    def _times(self, name: str, count: int) -> list[cp_model.IntVar]:
        return [self.model.new_int_var(_EARLIEST, _LATEST, f"{name}{k}") for k in range(count)]

    def _apart(self, times: Sequence[cp_model.LinearExprT], period: int) -> None:
        """No two in the same cycle of the period: they take one slot."""
        if len(times) > period:
            raise CompileError(f"{len(times)} operations of one slot do not fit a period of {period} cycles")
        rests = []
        for k, time in enumerate(times):
            rest = self.model.new_int_var(0, period - 1, f"rest{period}_{k}")
            self.model.add_modulo_equality(rest, time + 4096 * period, period)
            rests.append(rest)
        self.model.add_all_different(rests)

    def _in_order(self, times: Sequence[cp_model.IntVar], period: int) -> None:
        """As memory or the cascade has them, and all before the first of the next period."""
        for first, second in pairwise(times):
            self.model.add(first < second)
        if times:
            self.model.add(times[-1] < times[0] + period)

    def _live(self, ready: cp_model.LinearExprT, reads: Sequence[cp_model.LinearExprT], period: int) -> None:
        """Read when it is there, and before the next one is."""
        for read in reads:
            self.model.add(read >= ready)
            self.model.add(read < ready + period)

    def constrain(self) -> None:
        shape, interval, period = self.shape, self.interval, self.period
        macs = {(r, c): self.mac[r * shape.columns + c] for r in range(shape.rows) for c in range(shape.columns)}
        for r, load in enumerate(self.load_a):
            self._live(load + LATENCY["load"], [macs[r, c] for c in range(shape.columns)], interval)
        for k, load in enumerate(self.load_b):
            columns = [c for c in range(shape.columns) if 0 <= k - shape.second_at(c)[0] < shape.second_beats]
            reads = [macs[r, c] for c in columns for r in range(shape.rows)]
            self._live(load + LATENCY["load"], reads, interval)
        for times in (self.load_a, self.load_b):
            self._in_order(times, interval)
        for times in (self.load_bias, self.store, self.get, self.put):
            self._in_order(times, period)
        if shape.role == Role.MIDDLE:  # words come and go in bursts: else two neighbours' do not match, and both wait
            for first, second in (*pairwise(self.get), *pairwise(self.put)):
                self.model.add(second == first + 1)
        self._apart(self.mac, interval)
        self._apart(self.load_b, interval)
        self._apart(self.load_bias, period)
        for load in self.load_bias:
            self._apart([*self.load_a, load], interval)
        self._bias(macs)
        self._results(macs)
        if shape.one_bank:
            self._one_bank()

    def _bias(self, macs: dict[tuple[int, int], cp_model.IntVar]) -> None:
        for c, load in enumerate(self.load_bias):
            reads = [self.bias[r * self.shape.columns + c] for r in range(self.shape.rows)]
            self._live(load + LATENCY["load"], reads, self.period)
        sums = list(macs.values())
        for tile, arrives in self._seeds():
            self.model.add(arrives <= sums[tile] + LATENCY["mac_reads"])

    def _seeds(self) -> list[tuple[int, cp_model.LinearExprT]]:
        """Which tile's accumulator is written, in which cycle, by what a block begins with."""
        return [
            *((tile, time + LATENCY["bias"]) for tile, time in enumerate(self.bias)),
            *((tile, time + LATENCY["cascade_get"])
              for (tile, _), time in zip(self.shape.words, self.get, strict=False)),
        ]

    def _one_bank(self) -> None:
        """Results lie in the bank of the activations: no store accesses it in a cycle of a step's loads."""
        for store in self.store:
            for load in self.load_b if self.shape.job == Job.TRANSPOSE else self.load_a:
                apart = self.model.new_int_var(1, self.interval - 1, "apart")
                ahead = LATENCY["store_memory"] - LATENCY["load_memory"] + 4096 * self.interval
                self.model.add_modulo_equality(apart, store - load + ahead, self.interval)

    def _results(self, macs: dict[tuple[int, int], cp_model.IntVar]) -> None:
        shape, period = self.shape, self.period
        to_last = (shape.steps - 1) * self.interval
        sums = list(macs.values())
        if shape.role.ends:
            reads = self.srs if shape.relu else self.store
            read_of = [(r * shape.columns + c, read) for (r, c, _), read in zip(shape.stores, reads, strict=True)]
        else:
            read_of = [(tile, read) for (tile, _), read in zip(shape.words, self.put, strict=True)]
        for tile, read in read_of:
            self.model.add(read >= sums[tile] + LATENCY["mac"])
            # What the block after the next begins with comes when the sum has been read.
            for other, arrives in self._seeds():
                if other == tile:
                    self.model.add(arrives + SETS_OF_ACCUMULATORS * period > read + to_last)
        for srs, relu, store in zip(self.srs, self.relu, self.store, strict=bool(self.relu)):
            self._live(srs + LATENCY["srs"], [relu], period)
            self._live(relu + LATENCY["max"], [store], period)
            self.model.add(store < srs + LATENCY["srs"] + period)  # both write one register
            self.model.add(relu + LATENCY["max"] < srs + LATENCY["srs"] + period)
        if shape.results < len(self.srs):  # some take a register behind each other; the next block begins anew
            for n, store in enumerate(self.store):
                after = n + shape.results
                following = self.srs[after] if after < len(self.srs) else self.srs[n % shape.results] + period
                self.model.add(store < following + LATENCY["srs"])
        self._apart([*self.bias, *self.get, *(t + to_last for t in (*self.srs, *self.relu, *self.put))], period)

    def solve(self) -> Timing | None:
        start = self.model.new_int_var(2 * _EARLIEST, _LATEST, "start")
        end = self.model.new_int_var(_EARLIEST, 2 * _LATEST, "end")
        for time in (*self.load_a, *self.load_b, *self.load_bias, *self.get):
            self.model.add(start <= time)
        for time in (*self.store, *self.put):
            self.model.add(end >= time)
        self.model.add(self.mac[0] == 0)
        # The shortest fill and drain; then early loads, so that the solution is the same each time.
        everything = (*self.mac, *self.load_a, *self.load_b, *self.load_bias, *self.bias, *self.store, *self.get,
                      *self.put)
        self.model.minimize(1000 * (end - start) + sum(everything))
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 1
        solver.parameters.max_deterministic_time = self.effort
        if solver.solve(self.model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        groups = (self.mac, self.load_a, self.load_b, self.load_bias, self.bias, self.store, self.srs, self.relu,
                  self.get, self.put)
        return Timing(self.interval, *(tuple(map(solver.value, times)) for times in groups))


@lru_cache(maxsize=256)
def timing(shape: Shape) -> Timing:
    """The schedule of a layer.

    Raises:
        CompileError: there is none.
    """
    for more in range(_MORE):
        problem = _Problem(shape, more)
        problem.constrain()
        found = problem.solve()
        if found is not None:
            return found
    raise CompileError(f"no schedule was found for {shape}")
