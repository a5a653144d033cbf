# SPDX-License-Identifier: Apache-2.0
"""What an image puts into tiles: where its segments may lie, as words on the configuration bus, by the back door."""

import numpy as np
import pytest
from nncosim.compiler.aie_ml.notes import AieMlNotes, tile_address
from nncosim.compiler.image.image import Image, ImageError, Segment
from nncosim.compiler.image.notes import Notes
from nncosim.platforms.aie_ml import AieMl
from nncosim.tb.aie_ml.build import write_lines
from nncosim.tb.aie_ml.segments import bus_writes, loads_of

PLATFORM = AieMl(columns=2, rows=1, memory_rows=2)


def image(row: int, at: int, data: bytes) -> Image:
    """One segment, in column 1."""
    return Image((Segment("data", tile_address(1, row) + at, data),), notes=Notes(own=AieMlNotes(2, 1, 2)))


@pytest.mark.parametrize("row, at, words", [
    (1, 0, 4), (2, 0x7FFF0, 4), (1, 0x30000, 4), (1, 0xA0000, 384), (1, 0xA05FC, 1), (2, 0xA0600, 12), (1, 0xB0000, 16),
    (2, 0xC0000, 64), (3, 0xFFE0, 8), (3, 0x20000, 4), (3, 0x30000, 16), (3, 0x30400, 128), (3, 0x31000, 1),
])  # fmt: skip
def test_places_of_segments(row: int, at: int, words: int) -> None:
    load = loads_of(image(row, at, bytes(4 * words)), PLATFORM)[1, row]
    held = len(load.program) + sum(len(data) for _, data in load.data) + 4 * len(load.registers)
    assert held == 4 * words


@pytest.mark.parametrize("row, at, size, message", [
    (1, 0x7FFF0, 32, "0 to 0x80000 of tile (1, 1), words of 16 bytes"), (1, 8, 16, "words of 16"),
    (1, 0, 8, "words of 16"),
    (2, 0x80000, 16, "registers"), (1, 0xA0600, 52, "registers"), (1, 0xA0002, 4, "registers"),
    (1, 0xB0040, 4, "registers"), (2, 0xC0100, 4, "registers"), (3, 0x10000, 32, "0 to 0x10000 of tile (1, 3)"),
    (3, 0x20010, 16, "program memory"), (3, 0xA0000, 4, "registers"), (0, 0, 32, "2 rows of memory tiles"),
    (4, 0, 32, "outside the 2 x 1 tiles"),
])  # fmt: skip
def test_a_segment_elsewhere_is_refused(row: int, at: int, size: int, message: str) -> None:
    with pytest.raises(ImageError) as raised:
        loads_of(image(row, at, bytes(size)), PLATFORM)
    assert message in str(raised.value)


@pytest.mark.parametrize("row, at, memory", [(1, 0x30000, True), (2, 0xA0600, False), (3, 0x30000, False)])
def test_words_of_the_bus(row: int, at: int, memory: bool) -> None:
    made = image(row, at, np.array([1, 0xFFFFFFFF, 3, 4], "<u4").tobytes())
    words = [int(word) for word in bus_writes(made, PLATFORM, memories=True)]
    assert words == [value << 28 | (at // 4 + k) << 10 | row << 6 | 1 for k, value in enumerate((1, 0xFFFFFFFF, 3, 4))]
    assert len(bus_writes(made, PLATFORM)) == (0 if memory else 4)


class Banks:
    """A memory tile's, as a back door has them."""

    def __init__(self) -> None:
        self.rows = [np.zeros((2048, 16), np.uint8) for _ in range(16)]

    def stack(self, path: str, dtype: object) -> np.ndarray:
        assert path.startswith("array.memory_1_2.")
        return self.rows[int(path.rpartition("bank")[2])]


@pytest.mark.parametrize("first, count", [(0, 1), (5, 1), (15, 3), (3, 40), (0, 64), (32767, 1)])
def test_lines_by_the_back_door(first: int, count: int) -> None:
    banks, data = Banks(), np.random.default_rng(first).integers(1, 256, (count, 16), np.uint8)
    write_lines(banks, (1, 2), first, data.tobytes())  # type: ignore[arg-type]
    whole = np.zeros((16 * 2048, 16), np.uint8)
    whole[first : first + count] = data
    for line in range(len(whole)):
        assert (banks.rows[line % 16][line // 16] == whole[line]).all()
