# SPDX-License-Identifier: Apache-2.0
"""Schedules and programs of AIE-ML's dense layers: cycles, the checker, and what it catches."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from nncosim.compiler.aie_ml import program as program_module
from nncosim.compiler.aie_ml.checker import proof_of, wrong_in
from nncosim.compiler.aie_ml.loops import Line, roll
from nncosim.compiler.aie_ml.notes import AieMlNotes, tile_of
from nncosim.compiler.aie_ml.program import Addresses, program_of
from nncosim.compiler.aie_ml.scheduler import Timing, timing
from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml.isa import Form, Mac
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.aie_ml import product as product_module
from nncosim.kernels.aie_ml.product import Job, Product
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_generation import AIE_ML
from nncosim.regress.aie_ml_hazards import early_reads_of
from nncosim.regress.aie_ml_programs import issue_order
from nncosim.regress.dense_models import DenseSpec, compiled
from nncosim.tb.aie_ml.iss import Tile

AT = Addresses(0, 1024, 512, 1536)
Shape = partial(product_module.Shape, generation=AIE_ML)
LARGE = Shape(Mac.I8X8, 2, 2, 8, 8, 4, 16, Form.ACC32_8, False)
SHAPES = {
    "int8 64x64x64": LARGE,
    "int8 64x64x64, relu": replace(LARGE, relu=True),
    "int8 64x128x128": Shape(Mac.I8X8, 2, 2, 16, 8, 8, 32, Form.ACC32_8, False),
    "int8 8x8x16, relu": Shape(Mac.I8X8, 2, 2, 1, 1, 1, 2, Form.ACC32_8, True),
    "one row": Shape(Mac.I8X8, 1, 4, 8, 1, 2, 8, Form.ACC32_8, True),
    "int8 to int16": Shape(Mac.I8X8, 2, 2, 3, 2, 3, 8, Form.ACC32_16, False),
    "int16 x int8": Shape(Mac.I16X8, 2, 2, 16, 8, 4, 32, Form.ACC32_16, False),
    "int16 x int16, relu": Shape(Mac.I16X16, 2, 2, 16, 8, 8, 32, Form.ACC64_16, True),
    "sum": Shape(Mac.I8X8, 2, 1, 2, 3, 5, 10, Form.ACC32_8, True, one_bank=True, job=Job.ADD),
    "sum of one column": Shape(Mac.I8X8, 1, 1, 2, 1, 1, 2, Form.ACC32_8, False, one_bank=True, job=Job.ADD),
    "sum of 16 bits": Shape(Mac.I16X8, 2, 1, 4, 2, 3, 12, Form.ACC32_16, False, one_bank=True, job=Job.ADD),
    "transposition": Shape(Mac.I8X8, 2, 2, 1, 4, 3, 1, Form.ACC32_8, False, one_bank=True, job=Job.TRANSPOSE),
    "transposition of 16 bits": Shape(Mac.I16X16, 1, 4, 1, 4, 2, 1, Form.ACC64_16, False, one_bank=True,
                                      job=Job.TRANSPOSE),
}


def dense(shape: product_module.Shape) -> Product:
    signs = (True, False) if shape.job == Job.ADD else (False,) if shape.job == Job.TRANSPOSE else (True,)
    return Product(shape, b"", b"", signs, 10, RoundingCode.HALF_EVEN, Saturation.SATURATE, True)


def last_store(words: bytes) -> int:
    """Cycles from the first instruction to the last store's access, both included."""
    tile = Tile(seed=1)
    tile.load_program(words)
    tile.start()
    tile.run(100_000)
    assert tile.halted and tile.problems == () and tile.wait_port == 0
    return int(tile.writes()["cycle"][-1]) + 1


@pytest.mark.parametrize("name", SHAPES)
def test_a_layer_is_what_its_program_computes(name):
    layer = dense(SHAPES[name])
    code = program_of([(layer, AT)], 1024)
    proof = proof_of(code.words, [(layer, AT)])
    assert proof.wrong == () and proof.early_reads == early_reads_of(code.words)
    assert code.ends == (layer.shape.output_bytes // 32,)


def test_an_image_says_what_its_programs_read_early():
    """Of each tile just that, by a model that is not the checker; of most it is something."""
    image = compiled(DenseSpec((64, 64, 32), batch=16, last_relu=True), AieMl(columns=4, rows=4),
                     splits=[(2, 2), (2, 2)]).image  # fmt: skip
    said = {tile: each.reads for each in image.notes.own_as(AieMlNotes).early_reads for tile in each.tiles}
    found = {tile_of(each.address)[:2]: early_reads_of(each.data) for each in image.segments
             if each.memory == "program"}  # fmt: skip
    assert said == {tile: reads for tile, reads in found.items() if reads} and len(said) > 4


@pytest.mark.parametrize(("name", "ideal", "most"), [
    ("int8 64x64x64", 1024, 1047), ("int8 64x128x128", 4096, 4096 / 0.994), ("int16 x int8", 2048, 2048 / 0.96),
    ("int16 x int16, relu", 4096, 4096 / 0.96),
])  # fmt: skip
def test_cycles(name, ideal, most):
    cycles = last_store(program_of([(dense(SHAPES[name]), AT)], 1024).words)
    assert ideal < cycles <= most


def test_two_layers_follow_each_other():
    second = Addresses(1536, 1200, 600, 0)
    layers = [(dense(LARGE), AT), (dense(replace(LARGE, relu=True)), second)]
    code = program_of(layers, 1024)
    assert wrong_in(code.words, layers) == [] and code.ends == (128, 256)
    assert wrong_in(code.words, layers[:1]) != []
    (found,) = wrong_in(program_of(layers[:1], 1024).words, layers)
    assert "128 beats and 0 words of the cascade of layer 2 are never made" in found


def test_a_program_that_is_too_long_is_refused():
    with pytest.raises(CompileError, match="the program memory holds 64"):
        program_of([(dense(LARGE), AT)], 64)


SMALL = replace(LARGE, row_blocks=2, column_blocks=2, steps=6, input_beats=12)
GROUPS = ("mac", "load_a", "load_b", "load_bias", "bias", "store")


def moved(times: Timing, group: str) -> Iterator[Timing]:
    """Schedules with one operation of a group moved by some cycles, all of them moved, or two exchanged."""
    given = getattr(times, group)
    others = [tuple(time + by for time in given) for by in range(-6, 7)]
    for k, time in enumerate(given):
        others += [(*given[:k], time + by, *given[k + 1 :]) for by in range(-6, 7)]
        others += [tuple(given[{j: k, k: j}.get(i, i)] for i in range(len(given))) for j in range(k)]
    return (replace(times, **{group: other}) for other in dict.fromkeys(others) if other != given)


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_stored_uses_its_range(relu):
    layer = dense(replace(SMALL, relu=relu))
    left = stored(program_of([(layer, AT)], 1024).words)
    assert left is not None
    results = left[: layer.shape.output_bytes].view(np.int8)
    assert np.mean((results == 127) | (results == -128)) < 0.02 and len(np.unique(results)) > 80


@pytest.mark.parametrize(("group", "relu"), [
    *((group, False) for group in GROUPS), *((group, True) for group in (*GROUPS, "srs", "relu"))])
def test_a_moved_operation_is_found_or_harmless(monkeypatch, group, relu):
    """Of each group: what the checker refuses, and only that, stores something else on the simulator."""
    shape = replace(SMALL, relu=relu)
    times, layer = timing(shape), dense(shape)
    want = stored(program_of([(layer, AT)], 1024).words)
    found = 0
    for other in moved(times, group):
        monkeypatch.setattr(program_module, "timing", lambda _, new=other: new)
        try:
            words = program_of([(layer, AT)], 1024).words
        except CompileError:  # two operations of one slot
            continue
        wrong = wrong_in(words, [(layer, AT)], limit=5000)
        assert bool(wrong) == (stored(words) is None or bool((stored(words) != want).any())), other
        found += bool(wrong)
    assert found > 0


def stored(program: bytes) -> np.ndarray | None:
    """What a program leaves from its output on, of random contents; None if it breaks a rule, or has no end.

    Bias is of the size of the sums: few results saturate.
    """
    rng, tile = np.random.default_rng(4), Tile(seed=2)
    tile.memory[:] = rng.integers(0, 256, 65536, dtype=np.uint8)
    tile.memory[32 * AT.bias :][:1024].view("<i4")[:] = rng.integers(-50_000, 50_000, 256)
    tile.load_program(program)
    tile.start()
    tile.run(5000)
    return tile.memory[32 * AT.output :].copy() if tile.halted and not tile.problems else None


def test_a_flipped_bit_is_found_or_harmless():
    """What the checker lets pass stores the same on the simulator, whatever the memory holds."""
    layer = dense(replace(SMALL, relu=True))
    words = program_of([(layer, AT)], 1024).words
    rng, passed = np.random.default_rng(1), 0
    want, found = stored(words), 0
    for _ in range(300):
        at, bit = int(rng.integers(len(words))), int(rng.integers(8))
        spoilt = bytearray(words)
        spoilt[at] ^= 1 << bit
        if wrong_in(bytes(spoilt), [(layer, AT)], limit=5000):
            found += 1
        else:
            passed += 1
            assert (stored(bytes(spoilt)) == want).all(), f"byte {at}, bit {bit}"
    assert found > 60 and passed > 30


def test_loops_do_what_the_line_does():
    """Rolled lines, executed, are the lines; and they are fewer."""
    rng = np.random.default_rng(3)
    for _ in range(30):
        inner = [Line((("vector", int(k)),)) for k in rng.integers(1, 9, int(rng.integers(2, 5)))]
        outer = [*(Line((("move", int(k)),)) for k in rng.integers(1, 9, int(rng.integers(3, 6)))),
                 *inner * int(rng.integers(3, 9)), Line((("move", 99),))]  # fmt: skip
        lines = [Line((("store", 1),)), Line((("store", 2),)), *outer * int(rng.integers(2, 9)), Line((("store", 3),))]
        rolled = roll(lines, (len(outer), len(inner)))
        assert executed(rolled) == [each.slots for each in lines] and len(rolled) < len(lines)


def executed(lines: list[Line]) -> list[tuple[tuple[str, int], ...]]:
    return [tuple(each for each in lines[at].slots if each[0] != "control") for at in issue_order(lines)]
