# SPDX-License-Identifier: Apache-2.0
"""Flipped bits in programs, descriptors, locks and switches: RTL and simulator go wrong alike, word for word."""

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.aie_ml.notes import AieMlNotes, tile_address
from nncosim.compiler.image.image import Image, Segment
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.bench import BENCH

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
SPEC = DenseSpec((16, 32, 16), batch=8)
SPLITS = [(1, 2), (2, 2)], [(1, 4), (1, 2)]
"""The second one takes a memory tile."""
LIMIT = 1500


def filled(image: Image) -> Image:
    """All of each tile's data memory is given: what a flipped bit makes a program read is the same on both."""
    rng, notes = np.random.default_rng(9), image.notes.own_as(AieMlNotes)
    size = PLATFORM.generation.beat_bytes * PLATFORM.generation.beats
    whole = [Segment("data", tile_address(site.column, site.row), rng.bytes(size)) for site in notes.sites]
    data = [np.frombuffer(each.data, np.uint8).copy() for each in whole]
    rest = []
    for segment in image.segments:
        place = next((k for k, each in enumerate(whole) if 0 <= segment.address - each.address < size), None)
        if place is None:
            rest.append(segment)
        else:
            at = segment.address - whole[place].address
            data[place][at : at + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
    full = [replace(each, data=content.tobytes()) for each, content in zip(whole, data, strict=True)]
    return replace(image, segments=(*full, *rest))


def flipped(image: Image, seed: int) -> bytes:
    """One bit of a segment that is not data, in a word that says something."""
    rng = np.random.default_rng(seed)
    kind = ("program", "config")[seed % 2]
    numbers = [k for k, each in enumerate(image.segments)
               if each.memory == kind and len(each.data) > 4 and any(each.data)]  # fmt: skip
    number = int(rng.choice(numbers))
    segment = image.segments[number]
    data = bytearray(segment.data)
    words = np.flatnonzero(np.frombuffer(segment.data, "<u4"))
    data[4 * int(rng.choice(words)) + int(rng.integers(4))] ^= 1 << int(rng.integers(8))
    segments = (*image.segments[:number], replace(segment, data=bytes(data)), *image.segments[number + 1 :])
    return replace(image, segments=segments).to_bytes()


def outcome(image: bytes, given, backend: str, seed: int = 2):
    """What came of both inferences; None where the simulator says that a rule was broken.

    Hazards are no such rule: what comes too early gets the old value, on both."""
    run = BENCH.run(PLATFORM, image, given, backend=backend, limit_cycles=LIMIT, seed=seed, hazards=False,
                    driver="direct" if backend == "rtl" else None)  # fmt: skip
    if run.diagnosis is not None and run.diagnosis.kind == "check":
        return None
    return [(frame.cycles, {name: values.tolist() for name, values in frame.memory.items()}) for frame in run.frames]


@pytest.mark.parametrize("part", range(4))
def test_flipped_bits_do_the_same_on_both(part):
    made = compiled(SPEC, PLATFORM, splits=SPLITS[part % 2])
    assert bool(made.lowered.private.plan.memory) == bool(part % 2)
    given, whole = frames_of(SPEC, made.network, 2), filled(made.image)
    right, changed = outcome(whole.to_bytes(), given, "iss"), 0
    for seed in range(24 * part, 24 * part + 24):
        image = flipped(whole, seed)
        expected = outcome(image, given, "iss")
        if expected is None or outcome(image, given, "iss", seed=5) != expected:
            continue  # it depends on what nobody wrote
        assert outcome(image, given, "rtl") == expected, f"seed {seed}"
        changed += expected != right
    assert changed >= 2
