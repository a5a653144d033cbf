# SPDX-License-Identifier: Apache-2.0
"""The simulator of the AIE-ML tile by hand-written programs: each latency of the manual, from both sides."""

import math
from fractions import Fraction

import numpy as np
import pytest
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.hdl.aie_ml.isa import (
    AguRegister,
    Control,
    ControlOp,
    Form,
    Load,
    Mac,
    Move,
    MoveOp,
    MoveSet,
    Post,
    Set,
    Srs,
    Store,
    StoreOp,
    Vector,
)
from nncosim.hdl.formats import encode
from nncosim.tb.aie_ml.iss import Tile

RNG = np.random.default_rng(4)
MEMORY = RNG.integers(0, 256, 65536, dtype=np.uint8)
WEST = np.random.default_rng(5).integers(0, 256, 65536, dtype=np.uint8)
HALT = Line((("control", encode(Control, op=ControlOp.HALT.value)),))
OUT = 100


def line(**slots: int) -> Line:
    return Line(tuple(sorted(slots.items())))


def setting(which: AguRegister, pointer: int, value: int) -> Line:
    payload = encode(Set, register=which << 3 | pointer, value=value)
    return line(control=encode(Control, op=ControlOp.SET.value, payload=payload))


def point(pointer: int, beat: int) -> Line:
    return setting(AguRegister.POINTER, pointer, beat)


def load(vector: int, pointer: int = 0, **fields: int) -> int:
    return encode(Load, valid=1, vector=vector, pointer=pointer, **fields)


def store(vector: int, **fields: int) -> int:
    return encode(Store, op=StoreOp.VST.value, source=vector, pointer=7, post=Post.ADD.value, step=1, **fields)


def fused(acc: int, form: Form, half: int = 0) -> int:
    return encode(Store, op=StoreOp.VST_SRS.value, source=acc, form=form.value, half=half, pointer=7,
                  post=Post.ADD.value, step=1)  # fmt: skip


def srs(shift: int = 0, rounding: int = 0, saturation: int = 0, signed: int = 1) -> Line:
    payload = encode(Srs, shift=shift, rounding=rounding, saturation=saturation, signed=signed)
    return line(control=encode(Control, op=ControlOp.SRS.value, payload=payload))


def run(*lines: Line) -> Tile:
    tile = Tile(seed=9)
    tile.memory[:], tile.west_memory[:] = MEMORY, WEST
    tile.load_program(assembled([*lines, HALT]))
    tile.start()
    tile.run(10_000)
    return tile


def early(tile: Tile) -> bool:
    """Whether something was read too early. Anything else that was noticed is an error."""
    assert tile.problems == ()
    assert all("in flight" in each.text for each in tile.remarks)
    return bool(tile.remarks)


def beat(data: np.ndarray, number: int, count: int = 1) -> bytes:
    return data[32 * number : 32 * (number + count)].tobytes()


FIRST = [point(7, OUT), point(0, 1), line(load_a=load(0, post=Post.ADD.value, step=1)), line(load_a=load(4)),
         *[Line()] * 6]  # fmt: skip
"""w0 is beat 1, w4 is beat 2."""


@pytest.mark.parametrize(("wait", "expected"), [(6, "before"), (7, "after")])
def test_a_load_takes_seven(wait, expected):
    tile = run(*FIRST, point(1, 5), line(load_b=load(0, 1)), *[Line()] * (wait - 1), line(store=store(0)))
    assert beat(tile.memory, OUT) == beat(MEMORY, {"before": 1, "after": 5}[expected])
    assert early(tile) == (expected == "before")


@pytest.mark.parametrize(("wait", "after"), [(1, False), (2, True)])
def test_max_takes_two(wait, after):
    words = encode(Move, op=MoveOp.MAX.value, dest=4, source=0)
    tile = run(*FIRST, line(move=words), *[Line()] * (wait - 1), line(store=store(4)))
    signed = np.maximum(MEMORY[32:64].view(np.int8), 0).tobytes()
    assert beat(tile.memory, OUT) == (signed if after else beat(MEMORY, 2))
    assert early(tile) != after


@pytest.mark.parametrize(("wait", "after"), [(2, False), (3, True)])
def test_bias_takes_three(wait, after):
    first, second = (line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=k)) for k in (4, 0))
    tile = run(*FIRST, srs(), first, *[Line()] * 3, second, *[Line()] * (wait - 1),
               line(store=fused(1, Form.ACC32_16)))  # fmt: skip
    words = MEMORY[32 if after else 64 :][:32].view(np.int32)[:4].astype(np.int16)
    assert beat(tile.memory, OUT) == np.tile(words, 4).tobytes() and early(tile) != after


@pytest.mark.parametrize(("wait", "after"), [(3, False), (4, True)])
def test_srs_takes_four(wait, after):
    bias = line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=0))
    words = encode(Move, op=MoveOp.SRS.value, dest=4, source=1, form=Form.ACC32_8.value)
    tile = run(*FIRST, srs(), bias, *[Line()] * 3, line(move=words), *[Line()] * (wait - 1), line(store=store(4)))
    low = MEMORY[32:64].view(np.int32).astype(np.int8)
    expected = np.concatenate([np.tile(low[:4], 4), np.tile(low[4:], 4)]).tobytes()
    assert beat(tile.memory, OUT) == (expected if after else beat(MEMORY, 2))
    assert early(tile) != after


@pytest.mark.parametrize(("wait", "after"), [(4, False), (5, True)])
@pytest.mark.parametrize("op", list(Mac)[1:])
def test_a_mac_takes_five_and_computes(op, wait, after):
    """a = w0 = beat 1, b = w4 (and w5) = beat 2 (and whatever w5 holds: beat 3)."""
    more = [line(load_a=load(5, 1)), *[Line()] * 6]
    clear = line(vector=encode(Vector, op=op.value, a=0, b=4, acc=2, clear=1, a_signed=0, b_signed=0))
    mac = line(vector=encode(Vector, op=op.value, a=0, b=4, acc=2, clear=1, a_signed=1, b_signed=1))
    wide = op == Mac.I16X16
    form = Form.ACC64_32 if wide else Form.ACC32_16
    halves = [line(store=fused(2, form, half)) for half in (0, 1)]
    tile = run(*FIRST, point(1, 3), *more, srs(), clear, *[Line()] * 5, mac, *[Line()] * (wait - 1), halves[0],
               Line(), halves[1])  # fmt: skip
    kind = np.int8 if op == Mac.I8X8 else np.int16
    a, b = MEMORY[32:64], MEMORY[64:128]
    if op == Mac.I8X8:
        left = a.reshape(2, 4, 4).transpose(1, 0, 2).reshape(4, 8)
        right = b.reshape(8, 8)
    else:
        left = a.view(np.int16).reshape(4, 4)
        right = b[:32].reshape(8, 4) if op == Mac.I16X8 else b[:32].view(np.int16).reshape(4, 4)
    signed = left.view(kind).astype(np.int64) @ right.view(np.int16 if wide else np.int8).astype(np.int64).T
    unsigned_kind = np.uint16 if kind == np.int16 else np.uint8
    unsigned = left.view(unsigned_kind).astype(np.int64) @ right.view(
        np.uint16 if wide else np.uint8).astype(np.int64).T  # fmt: skip

    def half(sums: np.ndarray, number: int) -> bytes:
        if wide:
            return sums.reshape(-1)[8 * number : 8 * number + 8].astype(np.int32).tobytes()
        return sums[:, 4 * number : 4 * number + 4].astype(np.int16).tobytes()

    assert beat(tile.memory, OUT) == half(signed if after else unsigned, 0)
    assert beat(tile.memory, OUT + 1) == half(signed, 1) and early(tile) != after


@pytest.mark.parametrize(("wait", "sums"), [(2, 1), (3, 2)])
def test_macs_on_one_accumulator_chain_after_three(wait, sums):
    mac = dict(op=Mac.I16X8.value, a=0, b=4, acc=2, a_signed=1, b_signed=1)
    first, second = (line(vector=encode(Vector, clear=clear, **mac)) for clear in (1, 0))
    result = line(store=fused(2, Form.ACC32_16))
    tile = run(*FIRST, srs(), first, *[Line()] * (wait - 1), second, *[Line()] * 5, result)
    # What the accumulator held before both is not known: with too short a distance the second adds to that.
    once = (MEMORY[32:64].view(np.int16).reshape(4, 4).astype(np.int64)
            @ MEMORY[64:96].view(np.int8).reshape(8, 4).astype(np.int64).T)[:, :4]  # fmt: skip
    assert (beat(tile.memory, OUT) == (sums * once).astype(np.int16).tobytes()) == (sums == 2)
    assert early(tile) == (sums == 1)


@pytest.mark.parametrize(("wait", "expected"), [(1, 1), (2, 40), (3, 40)])
def test_a_store_is_in_memory_after_six(wait, expected):
    """A load accesses memory two cycles sooner after its issue; in the same cycle the store comes first."""
    lines = [point(1, 1), line(load_b=load(0, 1)), point(1, 40), line(load_b=load(1, 1)), *[Line()] * 6]
    tile = run(*lines, point(7, 1), point(1, 1), line(store=store(1)), *[Line()] * (wait - 1),
               line(load_b=load(2, 1)), *[Line()] * 6, line(store=store(2)))  # fmt: skip
    assert beat(tile.memory, 2) == beat(MEMORY, expected) and tile.wait_port == (wait == 2) and not early(tile)


def test_a_bias_is_there_for_the_mac_behind_it():
    """The MAC beside it adds to what was there before: it reads in the cycle before."""
    mac = encode(Vector, op=Mac.I16X8.value, a=0, b=4, acc=3, a_signed=1, b_signed=1)
    bias = encode(Move, op=MoveOp.BIAS.value, dest=3, source=0)
    behind = run(*FIRST, srs(16), line(move=bias), line(vector=mac), *[Line()] * 4, line(store=fused(3, Form.ACC32_16)))
    product = MEMORY[32:64].view(np.int16).reshape(4, 4).astype(np.int64) @ (
        MEMORY[64:96].view(np.int8).reshape(8, 4).astype(np.int64).T)  # fmt: skip
    sums = (product + MEMORY[32:64].view(np.int32))[:, :4] >> 16
    assert beat(behind.memory, OUT) == sums.astype(np.int16).tobytes() and not early(behind)
    zero = encode(Vector, op=Mac.I16X8.value, a=0, b=4, acc=3, clear=1, a_signed=1, b_signed=1)
    beside = run(*FIRST, srs(), line(vector=zero), *[Line()] * 5, line(vector=mac, move=bias), *[Line()] * 5,
                 line(store=fused(3, Form.ACC32_16)))  # fmt: skip
    assert beat(beside.memory, OUT) == (2 * product[:, :4]).astype(np.int16).tobytes() and not early(beside)


@pytest.mark.parametrize(("op", "bits", "form"), [(Mac.I16X8, 32, Form.ACC32_16), (Mac.I16X16, 64, Form.ACC64_32)])
def test_sums_wrap(op, bits, form):
    """The greatest sum, and 4 * 257 * 1 or 4 * 257 * 257 more: the result's lower half, then its upper."""
    tile, wide = Tile(seed=1), bits == 64
    tile.memory[32:64] = np.full(256 // bits, (1 << (bits - 1)) - 1, f"<i{bits // 8}").view(np.uint8)
    tile.memory[64:96] = 1
    mac = encode(Vector, op=op.value, a=4, b=4, acc=3, a_signed=1, b_signed=1)
    bias = encode(Move, op=MoveOp.BIAS.value, dest=3, source=0, wide=int(wide))
    tile.load_program(assembled([
        *FIRST, line(move=bias), line(vector=mac), *[Line()] * 3, srs(0), line(store=fused(3, form)),
        srs(bits // 2), line(store=fused(3, form)), HALT]))  # fmt: skip
    tile.start()
    tile.run(100)
    total = (1 << (bits - 1)) - 1 + 4 * 257 * (257 if wide else 1)
    kind, mask = f"<u{bits // 16}", (1 << (bits // 2)) - 1
    lower, upper = (tile.memory[32 * (OUT + k) :][:32].view(kind) for k in (0, 1))
    assert (lower == total & mask).all() and (upper == total >> (bits // 2)).all() and not early(tile)


def test_settings_hold_from_the_next_instruction_on():
    """SRS, and SET of a pointer's step, in the cycle in which they are used: as they were."""
    bias = line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=0))
    out = encode(Store, op=StoreOp.VST_SRS.value, source=1, form=Form.ACC32_8.value, pointer=6, post=Post.WALK.value)
    sets = [setting(which, 6, value) for which, value in (
        (AguRegister.POINTER, OUT), (AguRegister.S2, 3), (AguRegister.N1, 0), (AguRegister.N2, 0))]
    change = encode(MoveSet, op=MoveOp.SET.value, register=AguRegister.S2 << 3 | 6, value=5)
    both = line(store=out, move=change, **dict(srs(24).slots))
    tile = run(*FIRST, *sets, srs(0), bias, *[Line()] * 3, both, line(store=out), line(store=out))
    for number, shift in ((OUT, 0), (OUT + 3, 24), (OUT + 8, 24)):
        columns = (MEMORY[32:64].view(np.int32) >> shift).astype(np.int8)
        expected = np.concatenate([np.tile(columns[:4], 4), np.tile(columns[4:], 4)])
        assert beat(tile.memory, number) == expected.tobytes()
    assert not early(tile)


def test_max_of_sixteen_bits():
    words = encode(Move, op=MoveOp.MAX.value, dest=4, source=0, wide=1)
    tile = run(*FIRST, line(move=words), Line(), line(store=store(4)))
    assert beat(tile.memory, OUT) == np.maximum(MEMORY[32:64].view(np.int16), 0).tobytes()


ROUNDINGS, SATURATIONS = range(16), range(3)
SETTINGS = [(rounding, saturation, signed) for rounding in ROUNDINGS for saturation in SATURATIONS for signed in (0, 1)]


def rounded(value: int, shift: int, rounding: int) -> int:
    """By the manual's words, in exact fractions."""
    exact = Fraction(value, 1 << shift)
    low, high = math.floor(exact), math.ceil(exact)
    away = high if exact > 0 else low
    if rounding in (1, 2, 3):
        return {1: high, 2: math.trunc(exact), 3: away}[rounding]
    if not 8 <= rounding <= 13:
        return low
    if exact - low != Fraction(1, 2):
        return math.floor(exact + Fraction(1, 2))
    even, odd = sorted((low, high), key=lambda each: each % 2)
    return {8: low, 9: high, 10: math.trunc(exact), 11: away, 12: even, 13: odd}[rounding]


def clipped(value: int, bits: int, saturation: int, signed: int) -> int:
    """The bits of the result."""
    most = (1 << (bits - signed)) - 1
    least = 0 if not signed else -most if saturation == 2 else -most - 1
    return (value if saturation == 0 else min(max(value, least), most)) % (1 << bits)


def sums_to_round(shift: int, bits: int) -> list[int]:
    """The ends; ties above even and odd numbers of either sign, what is beside them; near the results' ends, too."""
    half = 1 << shift >> 1
    values = [-(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0, -1]
    for whole in (0, 1, 127, 32767):
        near = (whole << shift) + half
        values += [near, -near, near + 1, -near - 1, near - 1, 1 - near]
    wrapped = (value % (1 << bits) for value in values)
    return [value - (1 << bits) if value >> (bits - 1) else value for value in wrapped]


@pytest.mark.parametrize("shift", [0, 1, 7, 16, 31, 32, 63])
@pytest.mark.parametrize("form", list(Form))
def test_srs_by_fractions(form, shift):
    """Every rounding, saturation, signedness and half of each form; sums are BIAS's: a word to each of its columns."""
    wide = form in (Form.ACC64_16, Form.ACC64_32)
    lanes, results = (16 if wide else 32), {Form.ACC32_8: 32, Form.ACC64_32: 8}.get(form, 16)
    words, columns = (4, np.arange(16) % 4) if wide else (8, np.arange(32) // 16 * 4 + np.arange(32) % 4)
    stores = [each for rounding, saturation, signed in SETTINGS for each in (
        srs(shift, rounding, saturation, signed), line(store=fused(1, form, 0)), line(store=fused(1, form, 1)))]
    bias = line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=0, wide=int(wide)))
    program = assembled([*FIRST, bias, *[Line()] * 3, *stores, HALT])
    values = sums_to_round(shift, 64 if wide else 32)
    for first in range(0, len(values), words):
        tile = Tile(seed=first)
        chunk = np.resize(values[first : first + words], words).astype(np.int64 if wide else np.int32)
        tile.memory[32:64] = chunk.view(np.uint8)
        tile.load_program(program)
        tile.start()
        tile.run(1000)
        kind = f"<u{32 // results}"
        for number, (rounding, saturation, signed) in enumerate(SETTINGS):
            each = [clipped(rounded(int(v), shift, rounding), 256 // results, saturation, signed) for v in chunk]
            full = np.array(each, np.uint64)[columns].astype(kind)
            for half in (0, 1):
                expected = full if lanes == results else full[half * results :][:results]
                got = beat(tile.memory, OUT + 2 * number + half)
                assert got == expected.tobytes(), (rounding, saturation, signed, half, chunk)


@pytest.mark.parametrize("form", list(Form))
def test_srs_of_the_move_slot_is_that_of_the_store_slot(form):
    bias = line(move=encode(Move, op=MoveOp.BIAS.value, dest=1, source=0, wide=int(form.value >= 2)))
    moves = [line(move=encode(Move, op=MoveOp.SRS.value, dest=8 + half, source=1, form=form.value, half=half))
             for half in (0, 1)]  # fmt: skip
    tile = run(*FIRST, srs(5, 12, 1), bias, *[Line()] * 3, *moves, *[Line()] * 3, line(store=store(8)),
               line(store=store(9)), line(store=fused(1, form, 0)), line(store=fused(1, form, 1)))  # fmt: skip
    assert beat(tile.memory, OUT, 2) == beat(tile.memory, OUT + 2, 2) and not early(tile)


def test_a_walk_in_three_dimensions():
    walk = {AguRegister.POINTER: 10, AguRegister.INC: 2, AguRegister.N1: 3, AguRegister.S1: 7, AguRegister.N2: 2,
            AguRegister.S2: -20}  # fmt: skip
    sets = [setting(which, 2, value) for which, value in walk.items()]
    loads = [line(load_a=load(k, 2, post=Post.WALK.value)) for k in range(14)]
    tile = run(point(7, OUT), *sets, *loads, *[Line()] * 7, *(line(store=store(k)) for k in range(14)))
    expected, at = [], 10
    while len(expected) < 14:
        for block in range(2):
            for k in range(3):
                expected.append(at)
                at += 2 if k < 2 else (7, -20)[block]
    got = [beat(tile.memory, OUT + k) for k in range(14)]
    assert got == [beat(MEMORY, number) for number in expected[:14]]


def test_a_pointer_wraps_at_its_end():
    """4095, the last beat of the west neighbour's memory, + 2 is 1; 2048 + 40 is its beat 40."""
    lines = [point(0, 4095), line(load_a=load(0, post=Post.ADD.value, step=2)), line(load_a=load(1)),
             point(0, 2088), line(load_a=load(2)), *[Line()] * 7]  # fmt: skip
    tile = run(point(7, OUT), *lines, *(line(store=store(k)) for k in range(3)))
    assert [beat(tile.memory, OUT + k) for k in range(3)] == [beat(WEST, 2047), beat(MEMORY, 1), beat(WEST, 40)]
    assert tile.remarks == tile.problems == ()


def test_loops_in_loops():
    """Three levels, the innermost of 5 turns: 2 * 3 * 5 stores; then what follows."""
    inner = [Line().with_loop(5, 2), line(store=store(0)), Line()]
    middle = [Line().with_loop(3, len(inner) + 1), *inner, Line()]
    tile = run(*FIRST, Line().with_loop(2, len(middle) + 1), *middle, Line(), line(store=store(4)))
    writes = tile.writes()
    assert writes["beat"].tolist() == list(range(OUT, OUT + 31)) and tile.problems == ()
    assert writes["data"][-1].tobytes() == beat(MEMORY, 2) and writes["data"][0].tobytes() == beat(MEMORY, 1)
    turns = 2 * (1 + 3 * (1 + 5 * 2 + 1) + 1)
    assert tile.busy == len(FIRST) + 1 + turns + 2 and tile.halted


def test_a_loop_of_count_0_has_no_end():
    tile = Tile(seed=3)
    tile.load_program(assembled([Line().with_loop(0, 2), Line(), Line(), HALT]))
    tile.start()
    assert tile.run(5000) == 5000 and not tile.halted and tile.busy == 5000 and tile.problems == ()
    assert tile.run(6000) == 6000


def test_more_than_three_levels_are_told():
    lines = [Line().with_loop(1, 8 - k) for k in range(4)] + [Line()] * 6
    assert [each.pc for each in run(*lines).problems] == [3]


def test_accesses_of_one_bank_wait_for_each_other():
    """Store and two loads of one cycle: the core loses two cycles, and the store comes first."""
    loads = line(load_a=load(1), load_b=load(2, 1))
    same = [point(7, 40), point(0, 1), point(1, 2), line(store=store(0)), Line(), loads]
    apart = [point(7, 540), point(0, 1), point(1, 1030), *same[3:]]
    assert run(*same).wait_port == 2 and run(*apart).wait_port == 0
    assert run(*same).cycle == run(*apart).cycle + 2


def test_halt_lets_what_was_issued_end():
    tile = run(*FIRST, line(store=store(0)))
    assert beat(tile.memory, OUT) == beat(MEMORY, 1)
    assert tile.busy == len(FIRST) + 2 and tile.cycle == tile.busy + 8


@pytest.mark.parametrize(("beats", "waits"), [
    ((40, 1, 2), 2), ((40, 1, 600), 1), ((40, 600, 1), 1), ((600, 1, 2), 1), ((600, 1, 1100), 0), ((511, 512, 1024), 0),
    ((1535, 1024, 1536), 1), ((40, 2088, 1), 1), ((2088, 1, 2089), 1),
])  # fmt: skip
def test_a_stall_is_as_long_as_the_fullest_pair_of_banks(beats, waits):
    """Accesses of a store, load a and load b in one cycle; a beat from 2048 on is in another memory."""
    stored, first, second = beats
    tile = run(point(7, stored), point(0, first), point(1, second), line(store=store(0)), Line(),
               line(load_a=load(1), load_b=load(2, 1)))  # fmt: skip
    assert tile.wait_port == waits and tile.cycle == tile.busy + waits + 8
    assert tile.writes()["cycle"].tolist() == [3 + 6]


def test_halt_s_own_slots_end_and_nothing_follows():
    """Here its load waits for the store of two instructions before: a cycle more."""
    halt = line(load_a=load(1), **dict(HALT.slots))
    for gap, waits in ((1, 1), (2, 0)):
        lines = [*FIRST, point(0, OUT), line(store=store(0)), *[Line()] * gap, halt]
        tile = run(*lines, line(store=store(4)))
        assert tile.halted and tile.busy == len(lines) and tile.cycle == len(lines) + 8 + waits
        assert tile.writes()["beat"].tolist() == [OUT]
    tile = run(*FIRST, line(store=store(0), **dict(HALT.slots)))
    assert tile.writes()["cycle"].tolist() == [tile.cycle - 3] == [len(FIRST) + 6]


def test_everything_is_poisoned_by_the_seed():
    """Memory, vectors, accumulators, pointers, what they walk by, SRS: the same from a seed, others from another."""
    walk = encode(Store, op=StoreOp.VST.value, source=0, pointer=3, post=Post.WALK.value)
    program = assembled([
        *[line(store=walk)] * 3, point(7, 100), *(line(store=store(k)) for k in range(24)),
        *(line(store=fused(k, Form.ACC32_8)) for k in range(9)), srs(),
        *(line(store=fused(k, Form.ACC32_8)) for k in (0, 8)), HALT,
    ])  # fmt: skip

    def outcome(seed: int) -> tuple[bytes, np.ndarray]:
        tile = Tile(seed=seed)
        before = tile.memory.tobytes()
        tile.load_program(program)
        tile.start()
        tile.run(1000)
        return before, tile.writes()

    outcomes = [outcome(seed) for seed in range(12)]
    assert len({before for before, _ in outcomes}) == 12
    assert all(len(set(np.frombuffer(before, np.uint8).tolist())) == 256 for before, _ in outcomes)
    beats = np.array([writes["beat"][:3] for _, writes in outcomes], np.int64)
    assert len(set(beats[:, 0])) > 10 and len(set(beats[:, 1] - beats[:, 0])) > 10
    for number in (*range(3, 27), 36, 37):
        assert len({writes["data"][number].tobytes() for _, writes in outcomes}) == 12
    same = [writes["data"][27].tobytes() == writes["data"][36].tobytes() for _, writes in outcomes]
    assert not all(same), "SRS's settings are poisoned, too"
    again = outcome(5)
    assert again[0] == outcomes[5][0] and (again[1] == outcomes[5][1]).all()


def test_a_start_forgets_what_was_on_its_way():
    """Counters, records and remarks begin anew; what an interrupted program had in flight does not land."""
    tile = run(*FIRST, line(load_a=load(0, 0)), line(store=store(0)))
    assert early(tile)
    tile.start()
    tile.run(len(FIRST) + 2)
    assert not tile.halted and tile.remarks != ()
    tile.load_program(assembled([point(7, OUT), line(store=store(0)), point(0, 1), line(load_a=load(0)), *[Line()] * 6,
                                 line(store=store(0)), HALT]))  # fmt: skip
    tile.start()
    assert tile.run(1000) == tile.busy + 8 + tile.wait_port == 21 and tile.wait_port == 1 and not early(tile)
    assert tile.writes()["data"].tobytes() == 2 * beat(MEMORY, 1)


@pytest.mark.parametrize(("lines", "too_early"), [
    ([line(load_a=load(5)), line(vector=encode(Vector, op=Mac.I8X8.value, b=4, clear=1))], True),
    ([line(load_a=load(5)), line(vector=encode(Vector, op=Mac.I16X8.value, b=4, clear=1))], False),
    ([line(vector=encode(Vector, op=Mac.I16X8.value, clear=1))] * 2, False),
    ([line(vector=encode(Vector, op=Mac.I16X8.value))] * 2, True),
    ([line(load_a=load(1)), line(move=encode(Move, op=MoveOp.MAX.value, dest=1)), Line(), line(store=store(1))], True),
    ([line(load_a=load(1), store=store(1))], False),
])  # fmt: skip
def test_what_counts_as_too_early(lines, too_early):
    """The second vector of 8x8, no sum that is cleared, the last of two writes, none of the same instruction."""
    assert early(run(*FIRST, *lines)) == too_early


def test_a_remark_is_made_once_an_instruction():
    tile = run(point(0, 1), Line().with_loop(5, 2), line(load_a=load(0)), line(move=encode(
        Move, op=MoveOp.MAX.value, dest=1, source=0)), *[Line()] * 8)  # fmt: skip
    assert [(each.pc, each.cycle) for each in tile.remarks] == [(3, 3)] and early(tile)


@pytest.mark.parametrize("slots", [
    {"move": encode(Move, op=MoveOp.PUT.value) + 1}, {"control": encode(Control) | 6},
    {"move": encode(Move, op=MoveOp.MAX.value) | 8},
])  # fmt: skip
def test_an_operation_without_a_name_is_remarked_and_does_nothing(slots):
    tile, plain = run(line(**slots)), run(Line())
    assert ["not in this tile" in each.text for each in tile.remarks] == [True]
    assert (tile.memory == plain.memory).all() and tile.cycle == plain.cycle and tile.problems == ()


@pytest.mark.parametrize(("lines", "text"), [
    ([line(move=encode(MoveSet, op=MoveOp.SET.value, register=AguRegister.INC << 3, value=1),
           **dict(setting(AguRegister.INC, 0, 2).slots))], "two writes of one register"),
    ([line(load_a=load(1), **dict(point(0, 2).slots))], "set while it is used"),
    ([line(move=encode(Move, op=MoveOp.BIAS.value, dest=9))], "a register that does not exist"),
    ([line(vector=encode(Vector, op=Mac.I16X8.value, clear=1)), Line(), line(move=encode(
        Move, op=MoveOp.BIAS.value))], "two writes of one register"),
    ([line(load_a=load(1), load_b=load(2))], "two slots use one pointer"),
    ([line(load_a=load(1, 0)), line(move=encode(Move, op=MoveOp.SRS.value, dest=1)), Line(),
      line(move=encode(Move, op=MoveOp.MAX.value, dest=1))], "two writes of one register"),
    ([line(load_a=load(25))], "a register that does not exist"),
    ([line(store=fused(0, Form.ACC32_8), move=encode(Move, op=MoveOp.SRS.value, dest=1))], "share a unit"),
    ([Line().with_loop(2, 1)], "a body of less than 2"),
])  # fmt: skip
def test_a_broken_rule_is_told(lines, text):
    tile = run(*lines)
    assert any(text in str(problem) for problem in tile.problems)


def test_a_program_without_an_end_is_told():
    tile = Tile(seed=1)
    tile.load_program(assembled([Line()]))
    tile.start()
    tile.run(100)
    assert any("without HALT" in problem.text for problem in tile.problems)
