# SPDX-License-Identifier: Apache-2.0
"""The tile's core, its memory and that of its west neighbour, which does nothing, cycle by cycle, against the
instruction-set simulator: random programs in all slots."""

import numpy as np
import pytest
from nncosim.hdl.aie_ml.isa import INSTRUCTION_BYTES
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_hazards import early_reads_of
from nncosim.regress.aie_ml_programs import Records, on_iss, on_rtl, random_program
from nncosim.tb.aie_ml.build import build_array
from nncosim.tb.aie_ml.iss import Tile

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
