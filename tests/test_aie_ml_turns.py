# SPDX-License-Identifier: Apache-2.0
"""Two tiles that share a buffer take turns at it; what does not keep to that is noticed in the image."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from nncosim.compiler.aie_ml import linking, turns
from nncosim.compiler.aie_ml.notes import AieMlNotes, config_segment, tile_address, tile_of
from nncosim.compiler.compile import Compiled
from nncosim.compiler.errors import CompileError
from nncosim.compiler.image.image import Segment
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.hdl.aie_ml.config import BDS_AT, LOCKS_AT, PROGRAM_AT
from nncosim.hdl.aie_ml.isa import Control, ControlOp, Instruction, LockUse
from nncosim.hdl.formats import decode, encode
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.iss_backend import run_iss
from nncosim.tb.backend import RunResult

PLATFORM = AieMl(columns=4, rows=2, memory_rows=1)
problems = partial(turns.problems, generation=PLATFORM.generation)
SPEC = DenseSpec((24, 40, 16))
Change = Callable[[ControlOp, dict[str, int]], tuple[ControlOp, dict[str, int]]]


@cache
def pair() -> Compiled:
    return compiled(SPEC, PLATFORM, splits=[(1, 1), (1, 1)])


def pair_tiles() -> tuple[tuple[int, int], tuple[int, int]]:
    (shared,) = pair().image.notes.own_as(AieMlNotes).shared
    return (shared.column, shared.row), (shared.column + 1, shared.row)


def changed(tile: tuple[int, int], at: int, data: bytes | None) -> list[Segment]:
    """All segments, with another one from `at` on; None: without it."""
    out, seen = [], 0
    for segment in pair().image.segments:
        if tile_of(segment.address) == (*tile, at):
            seen += 1
            if data is None:
                continue
            assert data != segment.data
            segment = replace(segment, data=data)
        out.append(segment)
    assert seen == 1
    return out


def content(tile: tuple[int, int], at: int) -> bytes:
    (found,) = [each.data for each in pair().image.segments if tile_of(each.address) == (*tile, at)]
    return found


def locks_changed(lock: int, value: int) -> list[Segment]:
    maker, _ = pair_tiles()
    words = np.frombuffer(content(maker, LOCKS_AT), "<u4").copy()
    words[lock] = value
    return changed(maker, LOCKS_AT, words.tobytes())


def with_locks(tile: tuple[int, int], change: Change) -> list[Segment]:
    """With the lock operations of its program changed."""
    words, out = content(tile, PROGRAM_AT), b""
    offset, width = next((each.offset, each.width) for name, each in Instruction.as_shape() if name == "control")
    for at in range(0, len(words), 16):
        word = int.from_bytes(words[at : at + 16], "little")
        control = decode(Control, word >> offset & (1 << width) - 1)
        if control["op"] in (ControlOp.ACQUIRE.value, ControlOp.RELEASE.value):
            op, use = change(ControlOp(control["op"]), decode(LockUse, control["payload"]))
            new = encode(Control, op=op.value, payload=encode(LockUse, **use))
            word = word & ~((1 << width) - 1 << offset) | new << offset
        out += word.to_bytes(16, "little")
    return changed(tile, PROGRAM_AT, out)


def each_use(which: ControlOp, number: int, **fields: int) -> Change:
    """Of a lock by an operation: with other fields."""
    def change(op: ControlOp, use: dict[str, int]) -> tuple[ControlOp, dict[str, int]]:
        return op, {**use, **fields} if (op, use["lock"]) == (which, number) else use

    return change


def second_dropped(which: ControlOp, lock: int) -> Change:
    """The second use of a lock by an operation is left out."""
    seen: list[ControlOp] = []

    def change(op: ControlOp, use: dict[str, int]) -> tuple[ControlOp, dict[str, int]]:
        if (op, use["lock"]) == (which, lock):
            seen.append(op)
            if len(seen) == 2:
                return ControlOp.NONE, use
        return op, use

    return change


def test_two_neighbours_take_turns():
    maker, taker = pair_tiles()
    assert maker[0] + 1 == taker[0] and problems(pair().image.segments) == []
    assert problems(changed(maker, PROGRAM_AT, None))
    apart = compiled(SPEC, PLATFORM, splits=[(1, 1), (1, 1)], share=False)
    assert problems(apart.image.segments) == [] and not apart.image.notes.own_as(AieMlNotes).shared


@pytest.mark.parametrize(("lock", "value"), [(8, 0), (8, 1), (8, 3), (9, 1), (9, 2)])
def test_what_locks_begin_with(lock, value):
    """One buffer instead of two is slower, and right."""
    found = problems(locks_changed(lock, value))
    assert bool(found) == ((lock, value) != (8, 1))
    assert not found or "begin with" in found[0]


TURNS = {
    "the maker acquires another lock": (0, each_use(ControlOp.ACQUIRE, 8, lock=10), "by the neighbour without"),
    "the maker releases another lock": (0, each_use(ControlOp.RELEASE, 9, lock=10), "out of turn"),
    "the maker releases two": (0, each_use(ControlOp.RELEASE, 9, value=2), "release 2"),
    "the maker takes two": (0, each_use(ControlOp.ACQUIRE, 8, value=2), "acquire 2"),
    "the maker releases one": (0, second_dropped(ControlOp.RELEASE, 9), "out of turn"),
    "the taker acquires another lock": (1, each_use(ControlOp.ACQUIRE, 9, lock=10), "out of turn"),
    "the taker acquires its own lock": (1, each_use(ControlOp.ACQUIRE, 9, west=0), "not one of each"),
    "the taker releases its own lock": (1, each_use(ControlOp.RELEASE, 8, west=0), "not one of each"),
    "the taker releases another lock": (1, each_use(ControlOp.RELEASE, 8, lock=4), "out of turn"),
    "the taker acquires one": (1, second_dropped(ControlOp.ACQUIRE, 9), "is loaded before lock 9 is acquired"),
    "the taker releases one": (1, second_dropped(ControlOp.RELEASE, 8), "out of turn"),
}


@pytest.mark.parametrize("name", TURNS)
def test_who_does_not_keep_to_turns_is_noticed(name):
    which, change, text = TURNS[name]
    assert any(text in each for each in problems(with_locks(pair_tiles()[which], change)))


def test_programs_that_do_not_agree_on_copies_are_noticed(monkeypatch):
    """Each tile's program is right by itself; the taker begins with the other copy."""
    right = linking._homes

    def wrong(plan, at):
        homes = right(plan, at)
        return {name: replace(each, west=each.west[::-1]) for name, each in homes.items()}

    monkeypatch.setattr(linking, "_homes", wrong)
    with pytest.raises(CompileError, match=r"do not take turns at what they share: .* is taken with buffer 0, and not"):
        linking.linked(pair().network, PLATFORM, pair().lowered.private, pair().placement)


def test_a_descriptor_that_uses_such_a_lock_is_noticed():
    maker, _ = pair_tiles()
    words = np.frombuffer(content(maker, BDS_AT), "<u4").copy()
    words[5] = int(words[5]) & ~(0xF << 18) | 8 << 18  # the lock that it releases
    assert "a descriptor uses lock 8" in problems(changed(maker, BDS_AT, words.tobytes()))[0]
    last = config_segment(tile_address(*maker) + BDS_AT + 32 * 15, [0, 4, 0, 0, 0, 9 << 6 | 1 << 5])
    more = [*pair().image.segments, last]
    assert "a descriptor uses lock 9" in problems(more)[0]


def test_what_such_a_lock_does_on_the_simulator():
    """One buffer in place of two is as right; none, and both cores wait, each for the other."""
    given = frames_of(SPEC, pair().network, 3)

    def run(value: int) -> RunResult:
        return run_iss(PLATFORM, replace(pair().image, segments=tuple(locks_changed(8, value))).to_bytes(), given)

    want = [evaluate(pair().network, each)["y"] for each in given]
    assert all((frame.memory["y"] == each).all() for frame, each in zip(run(1).frames, want, strict=True))
    diagnosis = run(0).diagnosis
    maker, taker = "the core of tile (0,2) (layer dense0)", "the core of tile (1,2) (layer dense1)"
    assert diagnosis is not None and diagnosis.text.splitlines()[-3:] == [
        f"- {taker} waits for lock 9 of tile (0,2) to be at least 1, which is 0; {maker} would release it",
        f"- {maker} waits for lock 8 to be at least 1, which is 0; {taker} would release it",
        "- the last 2 wait for each other, in a circle",
    ]
