# SPDX-License-Identifier: Apache-2.0
"""What a core's program computes: a product of matrices in blocks of tiles, as the scheduler and the linker take it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import Op, Tensor
from nncosim.hdl.aie_ml.isa import LATENCY, Form, Mac
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.base import KernelError
from nncosim.platforms.aie_ml_generation import Generation
from nncosim.platforms.rounding import Rounding

__all__ = ["ROUNDINGS", "Job", "Product", "Role", "Shape", "requantizer_of"]

ROUNDINGS = {
    Rounding.FLOOR: RoundingCode.FLOOR, Rounding.CEIL: RoundingCode.CEIL,
    Rounding.TOWARD_ZERO: RoundingCode.TOWARD_ZERO, Rounding.AWAY: RoundingCode.AWAY,
    Rounding.HALF_UP: RoundingCode.HALF_UP, Rounding.HALF_EVEN: RoundingCode.HALF_EVEN,
    Rounding.HALF_AWAY: RoundingCode.HALF_AWAY, Rounding.HALF_TOWARD_ZERO: RoundingCode.HALF_TOWARD_ZERO,
}  # fmt: skip


class Job(Enum):
    """What a program computes, all by multiply and accumulate.

    DENSE: a product of activations, tile by tile, and constant weights. ADD: activations lie as [x | y], weights are
    two multiples of the unit matrix. TRANSPOSE: the unit matrix times activations, whose tiles lie as weights do.
    """

    DENSE = "dense"
    ADD = "add"
    TRANSPOSE = "transpose"


class Role(Enum):
    """Of a core in a chain: `begins`: with the bias, else with the cascade. `ends`: stores, else gives it on."""

    SINGLE = (True, True)
    FIRST = (True, False)
    MIDDLE = (False, False)
    LAST = (False, True)

    def __init__(self, begins: bool, ends: bool):
        self.begins, self.ends = begins, ends


@dataclass(frozen=True)
class Shape:
    """What the scheduler has to know of a layer.

    mac: how tiles multiply. rows, columns: of a block of results, in tiles. steps: tiles along the reduction.
    row_blocks, column_blocks: how many blocks. input_beats: a row of tiles of the first operand takes, with filling.
    form: of the results. relu: they are compared with 0 as well, signed. one_bank: results lie in the logical bank that
    the activations are loaded from.
    """

    mac: Mac
    rows: int
    columns: int
    steps: int
    row_blocks: int
    column_blocks: int
    input_beats: int
    form: Form
    relu: bool
    role: Role = Role.SINGLE
    one_bank: bool = False
    job: Job = Job.DENSE
    generation: Generation = field(kw_only=True)

    @property
    def words(self) -> tuple[tuple[int, int], ...]:
        """(tile of the block, part) of a block's sums, in the order in which a cascade has them."""
        parts = range(self.generation.acc_parts)
        return tuple((tile, part) for tile in range(self.rows * self.columns) for part in parts)

    @property
    def second_bytes(self) -> int:
        """Of one tile of the second operand."""
        return self.generation.tile_bytes(16 if self.mac == Mac.I16X16 else 8, 8 if self.mac == Mac.I8X8 else 4)

    @property
    def second_beats(self) -> int:
        """That such a tile is read from; it may be half of one."""
        return -(-self.second_bytes // self.generation.beat_bytes)

    @property
    def step_beats(self) -> int:
        """Of the second operand in a step: its tiles behind each other, in whole beats."""
        return -(-self.columns * self.second_bytes // self.generation.beat_bytes)

    def second_at(self, column: int) -> tuple[int, int]:
        """The first beat, of a step's, of a column's tile of the second operand; and which half of it, if it is one."""
        beat, byte = divmod(column * self.second_bytes, self.generation.beat_bytes)
        return beat, 2 * byte // self.generation.beat_bytes

    @property
    def halves(self) -> int:
        """Beats of results of one tile of sums."""
        return 2 if self.form in (Form.ACC32_16, Form.ACC64_32) else 1

    @property
    def stores(self) -> tuple[tuple[int, int, int], ...]:
        """(row, column, half) of a block's results, as they are stored."""
        if not self.role.ends:
            return ()
        return tuple((r, c, half) for c in range(self.columns) for half in range(self.halves) for r in range(self.rows))

    @property
    def output_beats(self) -> int:
        """Of a row of tiles of results."""
        return self.column_blocks * self.columns * self.halves

    @property
    def least_interval(self) -> int:
        """Cycles of a step, by its MACs, its loads of weights, and that an accumulator is added to again."""
        return max(self.rows * self.columns, self.step_beats, LATENCY["mac_chain"])

    @property
    def loads(self) -> int:
        """Of activations, in a step."""
        return self.step_beats if self.job == Job.TRANSPOSE else self.rows

    @property
    def summand_beats(self) -> int:
        """Tiles of a row of each summand of a sum."""
        return self.column_blocks * self.steps // 2

    @property
    def activation_beats(self) -> int:
        """That all activations take."""
        if self.job == Job.TRANSPOSE:
            return self.blocks * self.steps * self.step_beats
        return self.row_blocks * self.rows * self.input_beats

    @property
    def constant_beats(self) -> int:
        """That the constant operand takes."""
        if self.job == Job.TRANSPOSE:
            return self.steps * self.rows
        return (1 if self.job == Job.ADD else self.column_blocks) * self.steps * self.step_beats

    @property
    def wide_results(self) -> bool:
        return self.form != Form.ACC32_8

    @property
    def blocks(self) -> int:
        return self.row_blocks * self.column_blocks

    @property
    def output_bytes(self) -> int:
        return self.generation.beat_bytes * self.row_blocks * self.rows * self.output_beats if self.role.ends else 0

    @property
    def results(self) -> int:
        """Registers of results that are compared with 0: one for each of a block's, if there are as many."""
        others = self.step_beats + self.rows + (self.columns if self.role.begins else 0)
        return min(len(self.stores), self.generation.vectors - others) if self.relu else 0


def requantizer_of(op: Op, out: Tensor) -> tuple[int, RoundingCode, Saturation, bool]:
    """Shift, rounding, saturation of a layer, and whether its results have signs.

    Raises:
        KernelError: its requantization is no shift.
    """
    requant = op.requant
    if not isinstance(requant, MultiplyShift):
        raise KernelError(f"operator {op.name!r} has no shift as its requantization")
    symmetric = out.type.signed and int(requant.lo[0]) == -int(requant.hi[0])
    return (int(requant.s[0]), ROUNDINGS[Rounding(int(requant.rounding[0]))],
            Saturation.SYMMETRIC if symmetric else Saturation.SATURATE, out.type.signed)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A job as the code generator takes it.

    constant, bias: the bytes as they lie in memory; the constant operand is the second one, of a TRANSPOSE the first.
    signs: of the activations, in turn over a block's steps. shift: rounding and saturation as the core codes
    them. signed: of the results.
    """

    shape: Shape
    constant: bytes
    bias: bytes
    signs: tuple[bool, ...]
    shift: int
    rounding: RoundingCode
    saturation: Saturation
    signed: bool

    def signs_at(self, step: int) -> tuple[bool, bool]:
        """Whether the first and the second operand of a step have signs."""
        sign = self.signs[step % len(self.signs)]
        return (True, sign) if self.shape.job == Job.TRANSPOSE else (sign, True)
