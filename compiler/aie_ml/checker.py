# SPDX-License-Identifier: Apache-2.0
"""Re-reads an encoded program and proves what it computes, by executing it with names in place of numbers.

It knows the core by its manual and the layer by its shape, and nothing of the schedule: a load that comes a cycle too
late, a register that is overwritten while it is needed, a pointer that goes wrong, a loop of one turn too few all leave
another formula in memory than the layer's. So an illegal schedule is an error when it is compiled, for all data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nncosim.compiler.aie_ml.named_core import Guard, Name, NamedCore, added, decoded, end_of, following, of_west
from nncosim.compiler.aie_ml.program import Addresses
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES, Mac
from nncosim.kernels.aie_ml.product import Job, Product

__all__ = ["Proof", "proof_of", "wrong_in"]

_MOST = 8


class _Formulas:
    """What a layer is to leave in each beat of its output, and to put on its cascade.

    Args:
        memory: names in memory when it begins. got: words that were taken from the cascade before.
    """

    def __init__(self, product: Product, at: Addresses, memory: Mapping[int, Name], got: int):
        self._product, self._at, self._memory, self._got = product, at, memory, got
        settings = dict(shift=product.shift, rounding=product.rounding.value, saturation=product.saturation.value,
                        signed=int(product.signed), unused=0)
        self._srs = tuple(sorted(settings.items()))
        self.puts: list[Name] = []
        self.beats: dict[int, Name] = {}
        shape = product.shape
        for block in range(shape.blocks):
            for tile, part in shape.words if not shape.role.ends else ():
                self.puts.append(self._sum(block, tile, part))
            for row, column, half in shape.stores:
                self._store(block, row, column, half)

    def _held(self, beat: int) -> Name:
        return self._memory.get(beat, ("memory", beat))

    def _store(self, block: int, row: int, column: int, half: int) -> None:
        shape = self._product.shape
        parts = range(shape.generation.acc_parts)
        sums = tuple(self._sum(block, row * shape.columns + column, each) for each in parts)
        name: Name = ("srs", shape.form.value, half, self._srs, sums)
        row_block, column_block = divmod(block, shape.column_blocks)
        across = (column_block * shape.columns + column) * shape.halves + half
        beat = self._at.output + (row_block * shape.rows + row) * shape.output_beats + across
        self.beats[beat] = ("max", int(shape.wide_results), name) if shape.relu else name

    def _sum(self, block: int, tile: int, part: int) -> int:
        shape, at = self._product.shape, self._at
        row_block, column_block = divmod(block, shape.column_blocks)
        row, column = divmod(tile, shape.columns)
        if shape.role.begins:
            bias = self._held(at.bias + column_block * shape.columns + column)
            total = added(0, ("bias", part, int(shape.mac == Mac.I16X16), bias))
        else:
            total = added(0, ("cascade", self._got + block * len(shape.words) + shape.words.index((tile, part))))
        for step in range(shape.steps):
            a, b, signs = self._operands(row_block, column_block, row, column, step)
            tiles = [self._held(b + k) for k in range(shape.second_beats)]
            name = shape.mac.value, *signs, shape.second_at(column)[1], self._held(a), *tiles
            total = added(total, (part, name))
        return total

    def _operands(
        self, row_block: int, column_block: int, row: int, column: int, step: int
    ) -> tuple[int, int, tuple[int, int]]:
        """Beats of the two tiles that a step multiplies, and whether they have signs."""
        shape, at, signs = self._product.shape, self._at, self._product.signs
        above, within = row_block * shape.rows + row, shape.second_at(column)[0]
        if shape.job == Job.TRANSPOSE:  # of several steps, each with a column of blocks and a tile of the unit matrix
            block = (row_block * shape.steps + step) * shape.column_blocks + column_block
            return at.input + row + step, at.weights + block * shape.step_beats + within, (1, int(signs[0]))
        if shape.job == Job.ADD:  # operand, and which of its tiles along the row
            operand, tile = step % 2, column_block * (shape.steps // 2) + step // 2
            second = at.input + shape.input_beats // 2 if at.addend is None else at.addend
            a = (second if operand else at.input) + above * shape.input_beats + tile
            return a, at.weights + step * shape.step_beats, (int(signs[operand]), 1)
        b = at.weights + (column_block * shape.steps + step) * shape.step_beats + within
        return at.input + above * shape.input_beats + step, b, (int(signs[0]), 1)


@dataclass(frozen=True)
class Proof:
    """wrong: what a program does that it should not; () if it computes just what it should.

    early_reads: numbers of `nncosim.compiler.aie_ml.notes.early_read`, ascending: what it reads while a write to it is
    in flight. In a program that is right each of them is meant.
    """

    wrong: tuple[str, ...]
    early_reads: tuple[int, ...]


def wrong_in(
    program: bytes, layers: Sequence[tuple[Product, Addresses]], guards: Sequence[Guard] = (), limit: int = 1_000_000
) -> list[str]:
    """`Proof.wrong` of a program."""
    return list(proof_of(program, layers, guards, limit).wrong)


def proof_of(
    program: bytes, layers: Sequence[tuple[Product, Addresses]], guards: Sequence[Guard] = (), limit: int = 1_000_000
) -> Proof:
    """Of a program that is to compute these layers, one after the other.

    It ends with HALT, or with its return to the begin of an endless loop.

    Args:
        guards: what locks protect. limit: of cycles.
    """
    words = [int.from_bytes(program[k : k + INSTRUCTION_BYTES], "little")
             for k in range(0, len(program), INSTRUCTION_BYTES)]  # fmt: skip
    core, queue = NamedCore(layers[0][0].shape.generation, guards), list(layers)
    loops: list[list[int]] = []
    beats: dict[int, Name] = {}
    puts: list[Name] = []
    got, layer, last_cycle = 0, 0, limit
    while core.cycle < last_cycle and len(core.found) < _MOST:
        if not beats and not puts and queue:
            product, at = queue.pop(0)
            wanted = _Formulas(product, at, core.memory, got)
            beats, puts, layer = wanted.beats, wanted.puts, layer + 1
            got += 0 if product.shape.role.begins else product.shape.blocks * len(product.shape.words)
        for beat, name in core.land():
            if beats.pop(beat, None) != name:
                core.report(f"what is stored in beat {beat} is not what layer {layer} computes there")
            core.memory[beat] = ("layer", layer, beat)
        if last_cycle == limit:
            if core.pc >= len(words):
                core.report("the program has no HALT")
                break
            slots = decoded(words[core.pc])
            core.issue(slots)
            core.release(slots)
            for name in core.puts:
                if (puts.pop(0) if puts else None) != name:
                    core.report(f"what is put on the cascade is not what layer {layer} has there")
            core.puts.clear()
            last_cycle = end_of(core, loops, slots, limit)
            core.pc = following(core, loops, slots)
        core.cycle += 1
    if last_cycle == limit and not core.found:
        core.report(f"no HALT within {limit} cycles")
    if (beats or puts or queue) and not core.found:
        core.report(f"{len(beats)} beats and {len(puts)} words of the cascade of layer {layer} are never made, and "
                    f"{len(queue)} layers not begun")
    if core.held and not core.found:
        locks = ", ".join(f"{number}{of_west(west)}" for west, number in sorted(core.held))
        core.report(f"locks {locks} are never released")
    return Proof(tuple(core.found), tuple(sorted(core.early_reads)))
