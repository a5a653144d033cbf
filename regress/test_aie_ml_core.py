# SPDX-License-Identifier: Apache-2.0
"""The tile's core, its memory and that of its west neighbour, which does nothing, cycle by cycle, against the
instruction-set simulator: random programs in all slots."""

import numpy as np
import pytest
from nncosim.compiler.aie_ml.loops import Line, assembled
from nncosim.compiler.aie_ml.notes import AieMlNotes, config_segment, tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.compiler.image.notes import Notes
from nncosim.hdl.aie_ml.config import CORE_AT, LOCKS_AT, PROGRAM_AT
from nncosim.hdl.aie_ml.core import DRAIN_CYCLES
from nncosim.hdl.aie_ml.isa import (
    INSTRUCTION_BYTES,
    Control,
    ControlOp,
    Post,
    Store,
    StoreOp,
)
from nncosim.hdl.aie_ml.tile import TILE
from nncosim.hdl.formats import encode
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_hazards import early_reads_of
from nncosim.regress.aie_ml_programs import Records, on_iss, on_rtl, random_program
from nncosim.tb.aie_ml.build import build_array, feed, load_image, run_once, write_beats
from nncosim.tb.aie_ml.iss import Tile
from nncosim.tb.aie_ml.iss_array import Array
from nncosim.tb.errors import SimulationTimeout
from nncosim.tb.run.drive import RESET_CYCLES
from nncosim.tb.sim.model import Model

SEEDS = range(40)
PROLOGUE = 100
"""Instructions that give every register a value, at most."""


@pytest.fixture(scope="module")
def built():
    return build_array(PLATFORM, 2, 1)


def differs(found, expected) -> bool:
    first, second = found.stores, expected.stores
    ended_alike = found.idle == expected.idle and not len(found.hazards)
    return not ended_alike or len(first) != len(second) or bool((first != second).any())


def meant(programs: list[bytes]) -> list[tuple[int, ...]]:
    """Random programs read what is in flight all the time: by the model, which has nothing of the monitor in it."""
    return [early_reads_of(program) for program in programs]


def memory(seed: int) -> np.ndarray:
    """The west neighbour's, and the own."""
    return np.random.default_rng([seed, 1]).integers(0, 256, (2, 65536), dtype=np.uint8)


def on_iss_stalls(program: bytes) -> int:
    tile = Tile(seed=1)
    tile.load_program(program)
    tile.west_memory[:], tile.memory[:] = memory(0)
    tile.start()
    tile.run(100_000)
    return tile.wait_port


def test_every_store_in_its_cycle(built):
    """Same stores, same data, same cycles, the same end; and the programs are worth it."""
    stalls = stores = west = 0
    programs = [random_program(seed) for seed in SEEDS]
    runs = on_rtl(built, programs, memory(0), early_reads=meant(programs))
    for seed, program, found in zip(SEEDS, programs, runs, strict=True):
        expected, _, problems = on_iss(program, memory(0))
        assert problems == () and expected.idle >= 0 and not len(found.hazards), f"seed {seed}"
        assert len(found.stores) == len(expected.stores), f"seed {seed}"
        for name in expected.stores.dtype.names or ():
            got, want = found.stores[name], expected.stores[name]
            differ = np.flatnonzero((got != want).reshape(len(want), -1).any(axis=1))
            assert not len(differ), f"seed {seed}: {name} of store {differ[0]}: {got[differ[0]]}, {want[differ[0]]}"
        assert found.idle == expected.idle, f"seed {seed}"
        stalls += on_iss_stalls(program)
        stores += len(expected.stores)
        west += int((expected.stores["beat"] >= PLATFORM.generation.beats).sum())
    assert stalls > 1000 and stores > 3000 and 1000 < west < stores - 1000


def test_flipped_bits_do_the_same_on_both(built):
    """Programs that a flipped bit makes do something else, but break no rule: RTL and simulator still agree."""
    rng, program = np.random.default_rng(5), random_program(3)
    flipped: list[bytes] = []
    before = on_iss(program, memory(0))[0]
    while len(flipped) < 40:
        spoilt = bytearray(program)
        at = int(rng.integers(PROLOGUE * INSTRUCTION_BYTES, len(spoilt)))
        spoilt[at] ^= 1 << int(rng.integers(8))
        found, _, problems = on_iss(bytes(spoilt), memory(0))
        if not problems and found.idle >= 0 and differs(found, before):
            flipped.append(bytes(spoilt))
    runs = on_rtl(built, flipped, memory(0), early_reads=meant(flipped))
    for each, found in zip(flipped, runs, strict=True):
        assert not differs(found, on_iss(each, memory(0))[0])


def test_a_wrong_record_is_seen(built):
    program = random_program(3)
    (found,) = on_rtl(built, [program], memory(0), early_reads=meant([program]))
    expected = on_iss(program, memory(0))[0]
    assert not differs(found, expected)
    for name in ("cycle", "beat", "data"):
        spoilt = expected.stores.copy()
        spoilt[name][len(spoilt) // 2] ^= 1
        assert differs(found, Records(spoilt, expected.idle))
    assert differs(found, Records(expected.stores, expected.idle + 1))
    other = on_iss(program, memory(0) ^ np.uint8(1))[0]
    assert differs(found, other)


HALT = Line((("control", encode(Control, op=ControlOp.HALT.value)),))
STORE = Line((("store", encode(Store, op=StoreOp.VST.value, pointer=5, post=Post.ADD.value, step=1)),))
GAPS, BEFORE = range(1, 24), 0x5A


def started_twice(gap: int, between: int) -> Image:
    """A program of one store, to the next beat each time, and `between` instructions to HALT; started twice, so many
    cycles apart."""
    at = tile_address(1, 1)
    segments = [Segment("program", at + PROGRAM_AT, assembled([STORE, *[Line()] * between, HALT]), 5),
                config_segment(at + CORE_AT, [1]), *[config_segment(at + LOCKS_AT, [0])] * (gap - 1),
                config_segment(at + CORE_AT, [1])]  # fmt: skip
    return Image(tuple(segments), 0, notes=Notes(own=AieMlNotes(columns=2)))


def stored_on_rtl(built, images) -> list[int]:
    """Beats that are no longer what they were, of each image."""
    out = []
    with Model(built, seed=1) as model:
        for image in images:
            model.reset(cycles=RESET_CYCLES)
            model.poison(1)
            for column in range(2):
                write_beats(model, (column, 1), 0, bytes([BEFORE]) * 65536)
            run = {"config_writes": load_image(model, PLATFORM, image), "settle": 100, "result_words": 1, "gap_seed": 0}
            feed(model, 2, {})
            with pytest.raises(SimulationTimeout):  # there are no results
                run_once(model, run, 250)
            halves = [model.stack(f"array.tile_{column}_1.{TILE}.tile.data.bank{bank}", np.uint8)
                      for column in range(2) for bank in range(8)]  # fmt: skip
            pairs = [np.concatenate(halves[k : k + 2], axis=1) for k in range(0, 16, 2)]
            out.append(int(sum((pair != BEFORE).any(axis=1).sum() for pair in pairs)))
    return out


def stored_on_iss(images) -> list[int]:
    out = []
    for image in images:
        array = Array(image, PLATFORM, seed=1)
        for column in range(2):
            array.memory((column, 1))[:] = BEFORE
        array.stream({}, 1, 250)
        beats = [array.memory((column, 1)).reshape(-1, PLATFORM.generation.beat_bytes) for column in range(2)]
        out.append(int(sum((each != BEFORE).any(axis=1).sum() for each in beats)))
    return out


@pytest.mark.parametrize("between", [0, 5])
def test_a_start_while_the_core_is_busy_is_ignored(built, between):
    """While it fetches, runs, and for 8 cycles behind HALT, as the manual has it."""
    images = [started_twice(gap, between) for gap in GAPS]
    busy = 3 + (1 + between) + 1 + DRAIN_CYCLES  # the fetch, instructions, HALT, the drain
    expected = [1 if gap < busy else 2 for gap in GAPS]
    assert {1, 2} == set(expected)
    assert stored_on_iss(images) == expected and stored_on_rtl(built, images) == expected
