# SPDX-License-Identifier: Apache-2.0
"""AIE-MLv2 without RTL: operations against integers by the manual, walks, what the checker catches, commands."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx
import pytest
from command_line import runner
from nncosim.compiler.aie_ml.checker import wrong_in
from nncosim.compiler.aie_ml.descriptors import Descriptor, chain
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.aie_ml.program import Addresses, program_of, streaming_program
from nncosim.compiler.aie_ml.scheduler import timing
from nncosim.compiler.aie_ml.walks import Matrix, Order, Storage
from nncosim.hdl.aie_ml.isa import (
    INSTRUCTION_BYTES,
    Control,
    ControlOp,
    Form,
    Instruction,
    Load,
    Mac,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Srs,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.hdl.formats import encode
from nncosim.kernels.aie_ml import product as product_module
from nncosim.kernels.aie_ml.product import Job, Product, Role
from nncosim.platforms.aie_ml_generation import AIE_ML_V2
from nncosim.platforms.aie_ml_v2 import PLATFORM, AieMlV2
from nncosim.platforms.errors import PlatformError
from nncosim.platforms.registry import get_platform
from nncosim.regress.dense_models import DenseSpec, dense_network
from nncosim.tb.aie_ml.iss import Tile

HALT = Line((("control", encode(Control, op=ControlOp.HALT.value)),))
ROWS, BEAT, OUT = 8, 64, 100


def line(**slots: int) -> Line:
    return Line(tuple(sorted(slots.items())))


def point(pointer: int, beat: int) -> Line:
    return line(move=encode(MoveSet, op=MoveOp.SET.value, register=pointer, value=beat))


def load(vector: int) -> Line:
    return line(load_a=encode(Load, valid=1, vector=vector, pointer=0, post=Post.ADD.value, step=1))


def fused(acc: int, form: Form, half: int = 0) -> Line:
    return line(store=encode(Store, op=StoreOp.VST_SRS.value, source=acc, form=form.value, half=half, pointer=7,
                             post=Post.ADD.value, step=1))  # fmt: skip


def stored(memory: bytes, lines: Sequence[Line]) -> list[bytes]:
    """Beats from `OUT` on, after a program that begins with these in vectors 0, 1, ..."""
    tile, beats = Tile(AIE_ML_V2, seed=2), len(memory) // BEAT
    tile.memory[: len(memory)] = np.frombuffer(memory, np.uint8)
    no_shift = encode(Control, op=ControlOp.SRS.value, payload=encode(Srs, signed=1))
    begin = [point(0, 0), point(7, OUT), line(control=no_shift), *(load(k) for k in range(beats)), *[Line()] * 7]
    tile.load_program(assembled([*begin, *lines, HALT]))
    tile.start()
    tile.run(10_000)
    assert tile.problems == () and tile.halted
    return [bytes(tile.memory[BEAT * beat :][:BEAT]) for beat in range(OUT, OUT + len(tile.writes()))]


def numbers(data: bytes, width: int, signed: int) -> list[int]:
    return [int.from_bytes(data[k : k + width], "little", signed=bool(signed)) for k in range(0, len(data), width)]


def product_of(op: Mac, a: bytes, b: bytes, signs: tuple[int, int]) -> np.ndarray:
    """Rows x columns, from the manual: rows of a tile lie behind each other, and columns of the second operand."""
    depth, columns, wide = (8, 8, (1, 1)) if op == Mac.I8X8 else (4, 8, (2, 1)) if op == Mac.I16X8 else (4, 4, (2, 2))
    first = np.array(numbers(a, wide[0], signs[0])).reshape(ROWS, depth)
    return first @ np.array(numbers(b, wide[1], signs[1])).reshape(columns, depth).T


def sums_of(op: Mac, beats: Sequence[bytes]) -> np.ndarray:
    """Of an accumulator that was stored whole: I8X8 and I16X8 by ACC32_16, wrapped to 16 bits, else by ACC64_32."""
    if op == Mac.I16X16:
        return np.array([numbers(beat, 4, 1) for beat in beats]).reshape(ROWS, 4)
    return np.concatenate([np.array(numbers(beat, 2, 1)).reshape(ROWS, 4) for beat in beats], 1)


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("signs", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("op", list(Mac)[1:])
def test_a_product(op, signs, half):
    rng = np.random.default_rng([op.value, *signs, half])
    a, b, bias = (rng.bytes(BEAT) for _ in range(3))
    second = b if op == Mac.I8X8 else b[32 * half :][:32]
    wide = op == Mac.I16X16
    mac = encode(Vector, op=op.value, a=0, b=1, acc=3, a_signed=signs[0], b_signed=signs[1],
                 b_half=half if op != Mac.I8X8 else 0)  # fmt: skip
    form = Form.ACC64_32 if wide else Form.ACC32_16
    seed = line(move=encode(Move, op=MoveOp.BIAS.value, dest=3, source=2, wide=int(wide)))
    ends = [*[Line()] * 5, fused(3, form), fused(3, form, 1)]
    found = sums_of(op, stored(a + b + bias, [seed, line(vector=mac), *ends]))
    row = numbers(bias[:32], 8 if wide else 4, 1)
    bits = 32 if wide else 16
    want = (product_of(op, a, second, signs).astype(object) + np.array(row, object)) % (1 << bits)
    assert (found % (1 << bits) == want).all()


def test_results_of_bytes_are_a_tile_again():
    rng = np.random.default_rng(6)
    a, b = rng.integers(-3, 4, 64, np.int8).tobytes(), rng.integers(-4, 5, 64, np.int8).tobytes()
    mac = encode(Vector, op=Mac.I8X8.value, a=0, b=1, acc=7, clear=1, a_signed=1, b_signed=1)
    (found,) = stored(a + b, [line(vector=mac), *[Line()] * 5, fused(7, Form.ACC32_8)])
    want = product_of(Mac.I8X8, a, b, (1, 1))
    assert numbers(found, 1, 1) == [(n + 128) % 256 - 128 for n in want.reshape(-1).tolist()]


def addresses(descriptor: Descriptor) -> list[int]:
    n0, n1 = (max(1, n) for n in descriptor.counts)
    s0, s1, s2 = descriptor.steps
    return [descriptor.base + n % n0 * s0 + n // n0 % n1 * s1 + n // (n0 * n1) * s2 for n in range(descriptor.length)]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize(("bits", "rows", "columns"), [(8, 16, 24), (8, 5, 9), (16, 8, 8), (16, 19, 10), (8, 1, 40)])
def test_a_walk_takes_rows_of_tiles_as_words(storage, order, bits, rows, columns):
    tiles, up = -(-columns * bits // 64), -(-rows // ROWS)
    if order in (Order.ROWS, Order.WHOLE_ROWS):
        wanted = [(row, tile) for row in range(rows) for tile in range(tiles)]
    else:
        wanted = [(ROWS * u + r, tile) for u in range(up) for tile in range(tiles) for r in range(ROWS)]
    place = {
        Storage.ROWS: lambda row, tile: row * 512 + tile, Storage.BLOCKS: lambda row, tile: tile * 512 + row,
        Storage.TILES: lambda row, tile: row // ROWS * 512 + tile * ROWS + row % ROWS,
    }[storage]  # fmt: skip
    walk = Matrix(storage, 100, 512, bits, rows, columns, AIE_ML_V2).walk(order)
    made = chain(Descriptor, walk, (4000, 2), 0, None, None)
    assert [at for each in made for at in addresses(each)] == [100 + place(row, tile) for row, tile in wanted]


Shape = partial(product_module.Shape, generation=AIE_ML_V2)
AT = Addresses(0, 512, 256, 768)
SHAPES = {
    "int8": Shape(Mac.I8X8, 2, 2, 8, 4, 4, 8, Form.ACC32_8, False),
    "one row, relu": Shape(Mac.I8X8, 1, 4, 8, 1, 2, 8, Form.ACC32_8, True),
    "int8 to int16, relu": Shape(Mac.I8X8, 2, 2, 8, 1, 2, 8, Form.ACC32_16, True),
    "int16 x int8": Shape(Mac.I16X8, 2, 2, 16, 2, 4, 16, Form.ACC32_16, False),
    "int16 x int8, one column": Shape(Mac.I16X8, 2, 1, 6, 2, 1, 8, Form.ACC32_8, False),
    "int16 x int16": Shape(Mac.I16X16, 2, 2, 16, 2, 4, 16, Form.ACC64_16, False),
    "first of a chain": Shape(Mac.I8X8, 2, 2, 8, 2, 2, 8, Form.ACC32_8, False, Role.FIRST),
    "middle of a chain": Shape(Mac.I8X8, 2, 2, 8, 2, 2, 8, Form.ACC32_8, False, Role.MIDDLE),
    "last of a chain": Shape(Mac.I8X8, 2, 2, 8, 2, 2, 8, Form.ACC32_8, False, Role.LAST),
    "sum of 16 bits": Shape(Mac.I16X8, 2, 1, 4, 2, 3, 12, Form.ACC32_16, False, one_bank=True, job=Job.ADD),
    "transposition of 16 bits": Shape(Mac.I16X16, 1, 2, 2, 2, 3, 1, Form.ACC64_16, False, one_bank=True,
                                      job=Job.TRANSPOSE),
}  # fmt: skip


def of(shape: product_module.Shape) -> Product:
    signs = (True, False) if shape.job == Job.ADD else (False,) if shape.job == Job.TRANSPOSE else (True,)
    return Product(shape, b"", b"", signs, 10, RoundingCode.HALF_EVEN, Saturation.SATURATE, True)


@pytest.mark.parametrize("name", SHAPES)
def test_programs_are_proved(name):
    made = of(SHAPES[name])
    assert wrong_in(program_of([(made, AT)], 1024).words, [(made, AT)]) == []
    assert wrong_in(streaming_program(made, [AT, AT], (), (), 1024), [(made, AT)] * 2) == []


@pytest.mark.parametrize("name", ["int8", "int16 x int8", "int16 x int16"])
def test_the_vector_unit_is_busy_in_every_cycle(name):
    shape = SHAPES[name]
    assert timing(shape).interval == shape.rows * shape.columns


def flipped(program: bytes, slot: str, field: int, at: int) -> bytes:
    bit = 8 * INSTRUCTION_BYTES * at + Instruction.as_shape()[slot].offset + field
    return (int.from_bytes(program, "little") ^ 1 << bit).to_bytes(len(program), "little")


@pytest.mark.parametrize(("name", "slot", "kind", "field", "op"), [
    ("int16 x int8", "vector", Vector, "b_half", None), ("first of a chain", "move", Move, "high", MoveOp.PUT),
    ("middle of a chain", "move", Move, "high", MoveOp.GET), ("last of a chain", "move", Move, "half", MoveOp.GET),
])  # fmt: skip
def test_a_wrong_half_or_quarter_is_caught(name, slot, kind, field, op):
    """In each instruction that has one."""
    made, layout = of(SHAPES[name]), kind.as_shape()
    program = program_of([(made, AT)], 1024).words
    first, ones = Instruction.as_shape()[slot].offset, (1 << layout["op"].width) - 1
    words = [int.from_bytes(program[k : k + 16], "little") >> first for k in range(0, len(program), 16)]
    chosen = [k for k, word in enumerate(words) if word & ones == (op or made.shape.mac).value]
    assert len(chosen) > 3
    for at in chosen:
        assert wrong_in(flipped(program, slot, layout[field].offset, at), [(made, AT)]), at


def test_the_platform_has_the_published_widths():
    assert get_platform("aie_ml_v2") is PLATFORM
    (cores,) = PLATFORM.engines
    data, _, shared = PLATFORM.memories
    assert (cores.instances, cores.macs_per_cycle) == (144, 512) and PLATFORM.clock_hz == 1_050_000_000
    assert (shared.banks, shared.width_bits, shared.size_bytes, shared.words_per_bank) == (8, 256, 512 * 1024, 2048)
    assert data.size_bytes * data.instances == 144 * 64 * 1024
    widths = PLATFORM.generation
    assert (widths.beat_bits, widths.acc_bits, widths.accumulators, widths.word_bits) == (512, 2048, 8, 64)
    with pytest.raises(PlatformError, match="columns and rows must be 1 to 36 and 1 to 4, not 37 and 4"):
        AieMlV2(columns=37)


@pytest.fixture
def nncosim(capfd):
    return runner(capfd)


def test_the_command_line(nncosim, tmp_path):
    model, small = tmp_path / "dense.onnx", ["--set", "columns=3", "--set", "rows=2"]
    onnx.save(dense_network(DenseSpec((24, 40, 16), batch=8)), model)
    assert nncosim("check", model, "--platform", "aie_ml_v2", *small).status == 0
    found = nncosim("run", model, "--platform", "aie_ml_v2", "--backend", "iss", *small, "--out", tmp_path / "run")
    assert found.status == 0 and "bit-exact" in found.out, found
    assert nncosim("report", tmp_path / "run").status == 0
