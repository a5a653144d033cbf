# SPDX-License-Identifier: Apache-2.0
"""Two cores that share the western one's memory under its locks, by hand-written programs: one makes vectors, the other
takes them where they are, and gives back what it makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from nncosim.compiler.aie_ml.descriptors import Descriptor
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.hdl.aie_ml.isa import (
    LATENCY,
    AguRegister,
    Control,
    ControlOp,
    Load,
    Move,
    MoveOp,
    Post,
    Set,
    Store,
    StoreOp,
)
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_columns import (
    BEGIN,
    FROM_SHIM,
    Column,
    Found,
    columns_image,
    differs,
    lock,
    on_iss,
    on_rtl,
)
from nncosim.tb.aie_ml.build import build_array
from nncosim.tb.errors import SimulationTimeout

MEMORY_BEATS = PLATFORM.generation.beats
EMPTY, FULL, DONE = 1, 2, 3
"""Of the west tile: places that may be written; vectors to be taken; results that came back."""
SOURCE, BUFFER, BACK, RESULT = 0, 512, 600, 1024
"""Beats: what is made vectors of; two places for them, in turn; results; what the west core makes of those."""
TURNS, HALT = 40, Line((("control", encode(Control, op=ControlOp.HALT.value)),))
NOTHING = Line()
ACQUIRE, RELEASE = ControlOp.ACQUIRE, ControlOp.RELEASE


def settings(pointer: int, **values: int) -> Iterator[Line]:
    names = {"at": AguRegister.POINTER, "inc": AguRegister.INC, "n1": AguRegister.N1, "s1": AguRegister.S1,
             "n2": AguRegister.N2, "s2": AguRegister.S2}  # fmt: skip
    for name, value in values.items():
        payload = encode(Set, register=names[name] << 3 | pointer, value=value)
        yield Line((("control", encode(Control, op=ControlOp.SET.value, payload=payload)),))


def ring(pointer: int, at: int) -> Iterator[Line]:
    """A pointer to two beats, in turn."""
    return settings(pointer, at=at, inc=1, n1=2, s1=0, n2=1, s2=-1)


def load(vector: int, pointer: int, post: Post = Post.ADD) -> Line:
    word = encode(Load, valid=1, vector=vector, pointer=pointer, post=post.value, step=1)
    return Line((("load_a", word),))


def store(vector: int, pointer: int, post: Post = Post.ADD) -> Line:
    word = encode(Store, op=StoreOp.VST.value, source=vector, pointer=pointer, post=post.value, step=1)
    return Line((("store", word),))


def relu(dest: int, source: int) -> Line:
    return Line((("move", encode(Move, op=MoveOp.MAX.value, dest=dest, source=source)),))


def looped(prologue: list[Line], body: list[Line]) -> bytes:
    first = NOTHING.with_loop(TURNS, len(body))
    return assembled([lock(ACQUIRE, BEGIN), *prologue, first, *body, HALT])


def after(what: str) -> list[Line]:
    """Between an access or a result and what comes as early as it may."""
    return [NOTHING] * (LATENCY[what] - 1)


def maker(early: int) -> bytes:
    """Vectors from SOURCE to BUFFER; what comes back to RESULT. early: cycles by which FULL is released too soon."""
    body = [
        lock(ACQUIRE, EMPTY), load(0, 0), *after("load"), store(0, 1, Post.WALK), *after("store_memory")[early:],
        lock(RELEASE, FULL), lock(ACQUIRE, DONE), load(1, 2), *after("load"), store(1, 3),
    ]  # fmt: skip
    return looped([*settings(0, at=SOURCE), *ring(1, BUFFER), *settings(2, at=BACK), *settings(3, at=RESULT)], body)


def taker(early: int) -> bytes:
    """Its relu to the own RESULT and to BACK. early: cycles by which DONE is released too soon."""
    body = [
        lock(ACQUIRE, FULL, west=True), load(0, 0, Post.WALK), *after("load_memory"), lock(RELEASE, EMPTY, west=True),
        *[NOTHING] * 2, relu(1, 0), *after("max"), store(1, 1), store(1, 2), *after("store_memory")[early:],
        lock(RELEASE, DONE, west=True),
    ]  # fmt: skip
    prologue = [*ring(0, MEMORY_BEATS + BUFFER), *settings(1, at=RESULT), *settings(2, at=MEMORY_BEATS + BACK)]
    return looped(prologue, body)


def pair(maker_early: int = 0, taker_early: int = 0):
    begin = [Descriptor((1 << 14) - 1, 1, release=(BEGIN, 1))]
    west, east = (Column(program, begin, {0: 0}, {0: FROM_SHIM}, locks) for program, locks in (
        (maker(maker_early), {EMPTY: 2}), (taker(taker_early), {})))  # fmt: skip
    rng = np.random.default_rng(8)
    return columns_image({0: west, 1: east}, [rng.bytes(32 * MEMORY_BEATS) for _ in range(2)])


def beats(found: Found, column: int, at: int) -> np.ndarray:
    return found.memory[column].reshape(-1, 32)[at : at + TURNS].view(np.int8)


def right(found: Found) -> bool:
    want = np.maximum(beats(found, 0, SOURCE), 0)
    return all((beats(found, *place) == want).all() for place in ((0, BACK), (0, RESULT), (1, RESULT)))


@pytest.fixture(scope="module")
def built():
    return build_array(PLATFORM, 2, 1)


def test_vectors_there_and_back(built):
    expected = on_iss(pair())
    assert expected is not None and right(expected)
    assert differs(on_rtl(built, pair()), expected) == ""


def test_a_release_that_comes_too_early(built):
    """Both do the same, which is wrong: that the locks tell when a vector is there is what the test sees."""
    wrong = 0
    for maker_early, taker_early in ((5, 0), (0, 5), (3, 3)):
        image = pair(maker_early, taker_early)
        expected = on_iss(image)
        assert expected is not None and differs(on_rtl(built, image), expected) == ""
        wrong += not right(expected)
    assert wrong


@pytest.mark.parametrize("lines", [
    [*settings(0, at=MEMORY_BEATS), load(0, 0)], [*settings(1, at=MEMORY_BEATS), store(0, 1), store(0, 1), store(0, 1)],
    [lock(ACQUIRE, FULL, 0, west=True)],
], ids=["load", "stores", "lock"])  # fmt: skip
def test_the_westmost_core_waits_for_a_neighbour_that_is_not_there(built, lines):
    begin = [Descriptor((1 << 14) - 1, 1, release=(BEGIN, 1))]
    tile = Column(assembled([lock(ACQUIRE, BEGIN), *lines, HALT]), begin, {0: 0}, {0: FROM_SHIM})
    image = columns_image({0: tile}, [bytes(32 * MEMORY_BEATS)] * 2)
    assert on_iss(image) is None
    with pytest.raises(SimulationTimeout):
        on_rtl(built, image)
