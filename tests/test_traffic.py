# SPDX-License-Identifier: Apache-2.0
"""The traffic check on a memory and transfers of no machine in particular."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.image.traffic import TrafficBuffer
from nncosim.tb.run.traffic import Accesses, Meaning, MemoryTags, Placed, Shared

# Words 0..3 weights; 4..7 the input, which the result of step b overwrites; 8..11 what step a makes.
BUFFERS = [
    TrafficBuffer("weights", 0, 4, True), TrafficBuffer("x", 4, 4, False), TrafficBuffer("h", 8, 4, False),
    TrafficBuffer("y", 4, 4, False),
]  # fmt: skip
TENSORS = {"x": Placed(1, 0, 4, 4, -1, False), "h": Placed(2, 0, 8, 4, 0, False), "y": Placed(3, 0, 4, 4, 1, True)}
MEMORY = Shared("TCDM", "the DMA", "copy in", "copy out", 12, BUFFERS, TENSORS, ["x"], ["a", "b"])
FOUR = np.arange(4)


def tags(first_input: int = 4) -> MemoryTags:
    """Step a: weights and x in, h out; step b: waits, h in, y out. `first_input`: where a reads x."""
    meaning = Meaning(MEMORY)
    for at, buffer, write in ((0, 0, False), (first_input, 1, False), (8, 2, True)):
        meaning.move(at + FOUR, buffer, FOUR, write)
    meaning.end()
    meaning.skip()
    meaning.move(8 + FOUR, 2, FOUR, False)
    meaning.move(4 + FOUR, 3, FOUR, True)
    meaning.end()
    return MemoryTags(MEMORY, meaning.all(), np.arange(12) < 4)


def meant(checked: MemoryTags) -> Accesses:
    return Accesses(checked.meant.word[checked.meant.real], checked.meant.write[checked.meant.real])


def test_a_right_image_and_a_right_run():
    assert tags().play(frames=3) == ""
    checked = tags()
    assert checked.frame(meant(checked)) == "" and checked.holds("y") and not checked.holds("x")


def test_what_was_never_written():
    """The words of h are read for x before a writes them."""
    text = tags(first_input=8).play()
    assert text.startswith("frame 1: TCDM does not hold what is read (4 words in all)")
    assert "list 0 (a), descriptor 1: copy in reads word 8 for word 0 of x of frame 1, but there is nothing" in text


@pytest.mark.parametrize(("index", "word", "text"), [
    (4, 3, "list 0 (a), descriptor 1: copy in reads word 3 for word 0 of x of frame 1, but there is word 3 of weights"),
    (8, 0, "list 0 (a), descriptor 2: copy out overwrites word 0: word 0 of weights as loaded"),
    (12, 4, "list 1 (b), descriptor 1: copy in reads word 4 for word 0 of h of frame 1, but there is word 0 of x of"),
    (16, 8, "at the end of list 1 (b) the check of its results reads word 4 for word 0 of y of frame 1, but there"),
    (16, 12, "frame 1: list 1 (b), descriptor 2: copy out moves word 12 beyond TCDM"),
])  # fmt: skip
def test_an_access_astray(index: int, word: int, text: str):
    checked = tags()
    seen = meant(checked)
    astray = seen.word.copy()
    astray[index] = word
    assert text in checked.frame(Accesses(astray, seen.write))


def test_accesses_of_another_order_or_number():
    checked = tags()
    seen = meant(checked)
    assert "the DMA wrote word 0 out of the order" in checked.frame(Accesses(seen.word, ~seen.write))
    checked = tags()
    assert checked.frame(Accesses(seen.word[:10], seen.write[:10]), complete=False) == ""
    checked = tags()
    text = checked.frame(Accesses(seen.word[:10], seen.write[:10]))
    assert text == "frame 1: the DMA moved 10 words, but the lists name 20"
