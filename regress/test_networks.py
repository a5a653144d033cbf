# SPDX-License-Identifier: Apache-2.0
"""The trained network whole: both backends, both drivers, two inferences back to back, another machine."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.image.image import read_tiles
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import ComparedRun, compile_digits, digits_images, run_compiled
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.run.capture import pack_input

IMAGES = (7, 301)  # of the test split, one after the other


def digits(backend: str, driver: str | None = None, **settings: int) -> ComparedRun:
    compiled = compile_digits(PLATFORM.with_parameters(**settings))
    return run_compiled(compiled, backend, driver, inputs=digits_images(compiled, *IMAGES))


def assert_same(ours: ComparedRun, theirs: ComparedRun) -> None:
    """Tensors, cycles and counters of every inference."""
    assert len(ours.result.frames) == len(theirs.result.frames) == len(IMAGES)
    for a, b in zip(ours.result.frames, theirs.result.frames, strict=True):
        assert set(a.tensors) == set(b.tensors)
        assert [name for name in a.tensors if not np.array_equal(a.tensors[name], b.tensors[name])] == []
        assert a.cycles == b.cycles
        assert a.intervals == b.intervals


@pytest.fixture(scope="module")
def direct() -> ComparedRun:
    return digits("rtl", "direct")


def test_two_images_back_to_back_on_rtl(direct):
    """Every tensor of both, cycles those of the ISS, counters complete."""
    assert direct.problems() == []
    assert direct.comparison.elements >= 2 * sum(t.size for t in direct.result.frames[0].tensors.values())
    first, second = (frame.tensors["logits" if "logits" in frame.tensors else direct.compiled.network.outputs[0]]
                     for frame in direct.result.frames)
    assert not np.array_equal(first, second), "the two images give the same: the second could be the first's leftover"


def test_cocotb_gives_the_same(direct):
    ours = digits("rtl", "cocotb")
    assert ours.problems() == []
    assert_same(ours, direct)


def test_iss_gives_the_same_tensors_and_cycles(direct):
    ours = digits("iss")
    assert ours.problems() == []
    for a, b in zip(ours.result.frames, direct.result.frames, strict=True):
        assert [name for name in b.tensors if not np.array_equal(a.tensors[name], b.tensors[name])] == []
        assert a.cycles == b.cycles
        assert [(i.start, i.end) for i in a.intervals] == [(i.start, i.end) for i in b.intervals]


def test_a_stripped_image_gives_the_same_on_iss():
    """The simulator needs the loadable segments and the entry point, and nothing else."""
    compiled = compile_digits()
    table = places(compiled.image)
    (values,) = digits_images(compiled, IMAGES[0])
    results = []
    for image in (compiled.image, compiled.image.stripped()):
        machine = Machine(PLATFORM, seed=5, log_writes=True)
        machine.load_elf(image.to_bytes())
        for name, value in values.items():
            packed = np.frombuffer(pack_input(table[name], value), np.uint8)
            machine.l2[table[name].word * 16 :][: len(packed)] = packed
        results.append((machine.run_frame(1_000_000), machine.core.l2_writes(), machine.l2))
    (whole, writes, memory), (bare, bare_writes, bare_memory) = results
    assert len(compiled.image.stripped().to_bytes()) < len(compiled.image.to_bytes())
    assert whole.diagnosis is None and whole == bare
    assert np.array_equal(writes, bare_writes) and np.array_equal(memory, bare_memory)


def test_a_run_reads_nothing_that_was_not_loaded():
    """Memories begin with poison: another poison, the same tensors."""
    compiled = compile_digits()
    runs = [run_compiled(compiled, "iss", seed=seed, inputs=digits_images(compiled, *IMAGES)) for seed in (1, 2)]
    assert_same(*runs)


def test_a_smaller_machine_on_iss():
    small, whole = digits("iss", clusters=2), digits("iss")
    assert small.problems() == [] and whole.problems() == []
    assert small.cycles > whole.cycles
    assert "cluster2" not in small.result.frames[0].intervals[0].counters


@pytest.mark.slow
def test_a_smaller_machine_on_rtl():
    small = digits("rtl", "direct", clusters=2)
    assert small.problems() == []


def test_a_wrong_tensor_in_the_middle_is_named_where_it_began():
    """A wrong weight of the third layer: its own tensor is the first that differs, not the network's output."""
    compiled = compile_digits()
    machine_layers = [(*step.inside, *step.writes)[0] for step in compiled.image.notes.steps]
    names = [b.name for b in compiled.lowered.buffers if b.kind == "parameters"]
    address = compiled.placement.address[names[2]]

    def spoil(image: bytes) -> bytes:
        at = next(s for s in compiled.image.segments if s.address <= L2_BASE + address < s.address + len(s.data))
        position = image.index(at.data) + L2_BASE + address - at.address
        changed = bytearray(image)
        changed[position : position + 64] = bytes(byte ^ 0x7F for byte in changed[position : position + 64])
        return bytes(changed)

    run = run_compiled(compiled, "iss", inputs=digits_images(compiled, *IMAGES), spoil=spoil)
    first = run.comparison.first
    assert first is not None and first.tensor == machine_layers[2] and first.frame == 0
    assert read_tiles(compiled.image)[first.tensor].written_by == (2,)
