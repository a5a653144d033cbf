# SPDX-License-Identifier: Apache-2.0
"""On RTL every LOAD is held against what its word of L2 holds: also when the value happens to be the right one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Requantize
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.hdl.j3dai.asm import DESCRIPTOR_BYTES, decode_descriptors
from nncosim.hdl.j3dai.isa import Descriptor
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import NetworkBuilder
from nncosim.regress.harness import run_compiled

WORD = PLATFORM.word_bytes


def copied() -> Network:
    """A tensor and its copy, value by value, both outputs; and a third made from the copy."""
    b = NetworkBuilder(3)
    made = b.conv(b.input(16, 8, 8), 32, 1)
    kind = b.tensors[made].type
    same = Requantize("same", (made,), "copy", requant=MultiplyShift.uniform(32, lo=-128, hi=127))
    last = b.conv(b._append(same, kind), 16, 1)
    return b.build("copied", made, "copy", last)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_network(copied(), PLATFORM)


def moved(image: Image, reads: str, other: str) -> tuple[Image, int]:
    """The image with the first LOAD of tensor `reads` from where `other` lies, and the number of its list."""
    notes = j3dai_notes(image)
    assert notes.traffic is not None
    buffers = {buffer.name: (k, buffer.word) for k, buffer in enumerate(notes.traffic.buffers)}
    (number, at), (_, target) = buffers[reads], buffers[other]
    index = next(i for i, step in enumerate(image.notes.steps) if reads in step.reads)
    k = notes.traffic.lists[index].buffer.index(number)
    byte = L2_BASE + notes.lists[index].word * WORD + DESCRIPTOR_BYTES * k
    segment = next(s for s in image.segments if s.memory == "l2" and s.address <= byte < s.address + len(s.data))
    start = byte - segment.address
    raw = segment.data[start : start + DESCRIPTOR_BYTES]
    field = dict(iter(Descriptor.as_shape()))["l2"]
    word = int.from_bytes(raw, "little") + ((target - at) << field.offset)
    changed = word.to_bytes(DESCRIPTOR_BYTES, "little")
    assert decode_descriptors(changed)[0]["l2"] == decode_descriptors(raw)[0]["l2"] + target - at
    data = segment.data[:start] + changed + segment.data[start + DESCRIPTOR_BYTES :]
    other_segment = replace(segment, data=data)
    return replace(image, segments=tuple(other_segment if s is segment else s for s in image.segments)), index


@pytest.mark.parametrize("driver", ["direct", "cocotb"])
def test_a_stale_word_of_the_same_value_is_caught(compiled: Compiled, driver: str) -> None:
    good = run_compiled(compiled, "rtl", driver, frames=2)
    assert good.result.diagnosis is None
    first = good.result.frames[0].tensors
    made = compiled.network.ops[0].output
    assert np.array_equal(first[made], first["copy"]), "the two tensors have the same values"
    index = -1

    def spoil(data: bytes) -> bytes:
        nonlocal index
        image, index = moved(Image.from_bytes(data), "copy", made)
        return image.to_bytes()

    bad = run_compiled(compiled, "rtl", driver, frames=2, spoil=spoil)
    assert all(tensor.wrong == 0 for tensor in bad.comparison.tensors), "no value shows it"
    assert bad.result.diagnosis is not None and bad.result.diagnosis.kind == "check"
    text = bad.result.diagnosis.text
    assert "frame 1: L2 does not hold what is read" in text and f"list {index}" in text
    assert "for word 0 of copy of frame 1, but there is word 0 of " + made in text
