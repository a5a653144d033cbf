# SPDX-License-Identifier: Apache-2.0
"""Schedules and programs of AIE-ML's dense layers: cycles, the checker, and what it catches."""

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.aie_ml import program as program_module
from nncosim.compiler.aie_ml.checker import wrong_in
from nncosim.compiler.aie_ml.loops import Line, roll
from nncosim.compiler.aie_ml.program import Addresses, program_of
from nncosim.compiler.aie_ml.scheduler import timing
from nncosim.compiler.errors import CompileError
from nncosim.hdl.aie_ml.isa import Form, Mac
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.aie_ml.dense import Dense, Shape
from nncosim.regress.aie_ml_programs import issue_order
from nncosim.tb.aie_ml.iss import Tile

AT = Addresses(0, 1024, 512, 1536)
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
}


def dense(shape: Shape) -> Dense:
    return Dense(shape, b"", b"", True, 5, RoundingCode.HALF_EVEN, Saturation.SATURATE, True)


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
    assert wrong_in(code.words, [(layer, AT)]) == []
    assert code.ends == (layer.shape.output_bytes // 32,)


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
    assert "128 beats of layer 2 are never stored" in found


def test_a_program_that_is_too_long_is_refused():
    with pytest.raises(CompileError, match="the program memory holds 64"):
        program_of([(dense(LARGE), AT)], 64)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("group", "by"), [
    ("mac", -1), ("load_a", 1), ("load_b", 1), ("load_b", -4), ("load_bias", 4), ("bias", 4), ("store", -1),
    ("srs", -1), ("relu", -1),
])  # fmt: skip
def test_an_operation_that_is_a_cycle_off_is_found(monkeypatch, group, by, relu):
    """Each of a schedule's groups in turn: one operation comes too early, or too late."""
    shape = replace(LARGE, relu=relu)
    times = timing(shape)
    given = getattr(times, group)
    caught = tried = 0
    for k in range(len(given)):
        moved = (*given[:k], given[k] + by, *given[k + 1 :])
        monkeypatch.setattr(program_module, "timing", lambda _, new=moved: replace(times, **{group: new}))
        try:
            code = program_of([(dense(shape), AT)], 1024)
        except CompileError:  # two operations of one slot
            continue
        tried += 1
        caught += bool(wrong_in(code.words, [(dense(shape), AT)]))
    assert caught == tried


def test_a_flipped_bit_is_found_or_harmless():
    """What the checker lets pass stores the same on the simulator, whatever the memory holds."""
    layer = dense(replace(LARGE, row_blocks=2, column_blocks=2, steps=6, input_beats=12, relu=True))
    words = program_of([(layer, AT)], 1024).words
    rng, passed = np.random.default_rng(1), 0
    content = rng.integers(0, 256, 65536, dtype=np.uint8)

    def stored(program: bytes) -> np.ndarray:
        tile = Tile(seed=2)
        tile.memory[:] = content
        tile.load_program(program)
        tile.start()
        tile.run(5000)
        return tile.memory[32 * AT.output :].copy()

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
