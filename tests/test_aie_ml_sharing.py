# SPDX-License-Identifier: Apache-2.0
"""Programs that take an operand from the west neighbour's memory: what the checker passes, and what it notices."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType

import pytest
from nncosim.compiler.aie_ml import program as program_module
from nncosim.compiler.aie_ml.checker import Guard, wrong_in
from nncosim.compiler.aie_ml.program import Addresses, Exchange
from nncosim.hdl.aie_ml.isa import Form, Mac
from nncosim.hdl.aie_ml.srs import RoundingCode, Saturation
from nncosim.kernels.aie_ml import product as product_module
from nncosim.kernels.aie_ml.product import Job, Product
from nncosim.platforms.aie_ml_generation import AIE_ML
from nncosim.regress.planted import planted

Shape = partial(product_module.Shape, generation=AIE_ML)
WEST = AIE_ML.beats
OWN, GIVEN = Exchange(0, 1), Exchange(4, 5)
TAKEN = Exchange(8, 9, west=True)
DENSE = Shape(Mac.I8X8, 2, 2, 4, 2, 2, 6, Form.ACC32_8, True)
SUM = Shape(Mac.I8X8, 2, 1, 2, 2, 3, 5, Form.ACC32_8, False, one_bank=True, job=Job.ADD)
SHAPES = {
    "dense": DENSE,
    "dense, 16 bits": Shape(Mac.I16X8, 2, 2, 4, 2, 2, 9, Form.ACC32_16, False),
    "one row": Shape(Mac.I8X8, 1, 4, 3, 1, 1, 3, Form.ACC32_8, False),
    "first summand": SUM,
    "second summand": SUM,
    "summand of 16 bits": replace(SUM, mac=Mac.I16X8, steps=4, form=Form.ACC32_16, input_beats=6),
}


def copies_of(name: str) -> list[Addresses]:
    """What is shared begins 3 beats behind the begin of the neighbour's results."""
    if SHAPES[name].job == Job.DENSE:
        return [Addresses(WEST + 103 + 1536 * k, 1024, 512, 1536 * k) for k in range(2)]
    both = [(WEST + 103 + 1536 * k, 200 + 1536 * k) for k in range(2)]
    return [Addresses(first, 1024, 512, 1536 * k, second)
            for k, (first, second) in enumerate(each[::-1] if name == "second summand" else each for each in both)]


def product_of(name: str) -> Product:
    signs = (True, False) if SHAPES[name].job == Job.ADD else (True,)
    return Product(SHAPES[name], b"", b"", signs, 9, RoundingCode.HALF_EVEN, Saturation.SATURATE, True)


def guards_of(name: str) -> list[Guard]:
    guards = [Guard(range(WEST + 100 + 1536 * k, WEST + 140 + 1536 * k), 9, 8, west=True) for k in range(2)]
    guards += [Guard(range(1536 * k, 1536 * k + 48), 4, 5) for k in range(2)]
    own = [Guard(range(200 + 1536 * k, 240 + 1536 * k), 1, 0) for k in range(2)]
    return guards + (own if SHAPES[name].job == Job.ADD else [])


def made_of(name: str, at: Sequence[Addresses], taken: Exchange = TAKEN, module: ModuleType = program_module) -> bytes:
    takes = [*([OWN] if SHAPES[name].job == Job.ADD else []), taken]
    return module.streaming_program(product_of(name), at, takes, [GIVEN], 1024)


def found_in(words: bytes, name: str) -> list[str]:
    return wrong_in(words, [(product_of(name), at) for at in copies_of(name)], guards_of(name))


@pytest.mark.parametrize("name", SHAPES)
def test_a_program_takes_what_lies_in_the_west(name):
    assert found_in(made_of(name, copies_of(name)), name) == []


def moved(at: Addresses, beats: int) -> Addresses:
    """With what is shared elsewhere."""
    if at.addend is not None and at.addend >= WEST:
        return replace(at, addend=at.addend + beats)
    return replace(at, input=at.input + beats)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("beats", "text"), [(1, "is not what layer"), (-1, "is not what layer"),
                                             (-WEST, "is not what layer"), (300, "no lock is for it")])  # fmt: skip
def test_beats_that_are_not_those_are_noticed(name, beats, text):
    """One too far, one too early, the own memory's in place of the neighbour's, some that are nobody's."""
    for k in range(2):
        at = copies_of(name)
        at[k] = moved(at[k], beats)
        assert any(text in each for each in found_in(made_of(name, at), name))


@pytest.mark.parametrize("name", SHAPES)
def test_the_other_copy_is_noticed(name):
    first, second = copies_of(name)
    other = [moved(first, 1536), moved(second, -1536)]
    assert any("is not what layer" in each for each in found_in(made_of(name, other), name))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("taken", [Exchange(8, 9), Exchange(8, 7, west=True), Exchange(9, 8, west=True)])
def test_a_wrong_lock_is_noticed(name, taken):
    """The own one of that number; another one; the two exchanged."""
    assert any("without lock 9 of the west neighbour" in each
               for each in found_in(made_of(name, copies_of(name), taken), name))


@pytest.mark.parametrize("name", SHAPES)
def test_a_lock_that_is_not_given_back_there_is_noticed(name):
    wrong = planted(program_module, "self._lock(ControlOp.RELEASE, released, west, max(cycles), 1)",
                    "self._lock(ControlOp.RELEASE, released, False, max(cycles), 1)")  # fmt: skip
    (found,) = found_in(made_of(name, copies_of(name), module=wrong), name)
    assert found.endswith("locks 9 of the west neighbour are never released")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("right", "wrong"), [
    ("RELEASE, released, west, max(cycles), 1)", "RELEASE, released, west, max(cycles) - 1, -1)"),
    ("ACQUIRE, acquired, west, min(cycles) - 1, -1)", "ACQUIRE, acquired, west, min(cycles), 1)"),
])  # fmt: skip
def test_a_lock_that_is_held_too_short_is_noticed(name, right, wrong):
    module = planted(program_module, right, wrong)
    assert any("is accessed without lock" in each
               for each in found_in(made_of(name, copies_of(name), module=module), name))
