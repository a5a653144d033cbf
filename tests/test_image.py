# SPDX-License-Identifier: Apache-2.0
"""The image format: written, read by a public tool, damaged."""

import struct

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from nncosim.compiler.image.image import SCHEDULE_SECTION, TILES_SECTION, Image, ImageError, Segment

IMAGE = Image(
    (
        Segment("imem", 0, b"\x13\0\0\0" * 3, 5), Segment("l2", 0x8000_0000, bytes(range(100))),
        Segment("l2", 0x8000_0100, b"x"),
    ),
    entry=8, machine=243, tiles={"tensors": {"x": {"address": 1}}}, schedule={"steps": [1, 2], "name": "ä"},
)  # fmt: skip


def test_round_trip_keeps_everything():
    again = Image.from_bytes(IMAGE.to_bytes())
    assert again == IMAGE
    assert again.to_bytes() == IMAGE.to_bytes()


def test_pyelftools_reads_it(tmp_path):
    path = tmp_path / "a.elf"
    path.write_bytes(IMAGE.to_bytes())
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert (elf["e_machine"], elf["e_entry"], elf.elfclass) == ("EM_RISCV", 8, 32)
        loads = [(s["p_paddr"], s["p_memsz"], s.data()) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        assert loads == [(s.address, len(s.data), s.data) for s in IMAGE.segments]
        for name in (TILES_SECTION, SCHEDULE_SECTION):
            assert elf.get_section_by_name(name)["sh_flags"] == 0


def test_stripped_image_loads_the_same():
    stripped = Image.from_bytes(IMAGE.stripped().to_bytes())
    assert (stripped.segments, stripped.entry) == (IMAGE.segments, IMAGE.entry)
    assert stripped.tiles == {}


def test_overlap_is_refused():
    with pytest.raises(ImageError, match=r"segment b at 0x8 overlaps segment a that ends at 0xa"):
        Image((Segment("a", 0, bytes(10)), Segment("b", 8, bytes(2)))).to_bytes()


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", b"hello world" * 10, IMAGE.to_bytes()[:60], IMAGE.to_bytes()[:200]])
def test_what_is_no_image_is_named(raw):
    with pytest.raises(ImageError, match=r"model\.elf"):
        Image.from_bytes(raw, "model.elf")


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        Image.load(tmp_path / "none.elf")


def test_any_damage_gives_an_image_or_an_image_error():
    raw = IMAGE.to_bytes()
    rng, refused = np.random.default_rng(5), 0
    for _ in range(300):
        bad = bytearray(raw)
        bad[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        try:
            Image.from_bytes(bytes(bad))
        except ImageError:
            refused += 1
    assert 20 < refused < 280, "a bit of contents is for the machine to see, one of structure is refused"


def test_damaged_json_is_named():
    raw = IMAGE.to_bytes()
    at = raw.index(b'{"steps"') if b'{"steps"' in raw else raw.index(b'{"name"')
    with pytest.raises(ImageError, match=r"section \.nncosim\.schedule is damaged"):
        Image.from_bytes(raw[:at] + b"!" + raw[at + 1 :])


def test_header_is_32_bit_little_endian():
    raw = IMAGE.to_bytes()
    assert raw[:7] == b"\x7fELF\x01\x01\x01"
    assert struct.unpack_from("<H", raw, 16)[0] == 2
