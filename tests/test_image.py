# SPDX-License-Identifier: Apache-2.0
"""The image format: written, read by a public tool, damaged."""

import struct
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from nncosim.compiler.image.expected import schedule_notes
from nncosim.compiler.image.image import SCHEDULE_SECTION, TILES_SECTION, Image, ImageError, Segment
from nncosim.compiler.image.notes import NOTES_VERSION, BufferNote, Notes, Origin, Step
from nncosim.compiler.image.plain import PlainError, from_plain, to_plain
from nncosim.compiler.image.tiles import Fragment, TensorPlace
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Tensor, TensorType
from nncosim.compiler.schedule import Schedule, Task
from nncosim.kernels.base import Cost

SCALES = (Fraction(1, 3), Fraction(2))
PLACE = TensorPlace(
    Tensor("ä", (2, 3, 4), TensorType(4, True, SCALES, -1, -8, 7)), "output", (
        Fragment("l2", 0x8000_0000, ((0, 2), (0, 3), (0, 1)), Layout("H W C/2 C%2", 4), (1,)),
        Fragment("l2", 0x100, ((0, 2), (0, 3), (1, 4)), Layout("C H W", 8, 16, byte_order="big"), (1, 2), 3, 2, 64),
    ), True,
)  # fmt: skip
NOTES = Notes(
    (Step("one", ("a", "b"), ("unit",), Cost(1, 2, 3), Cost.exactly(2), 4, ("x",), ("ä",), ("t",)), Step(
        "two", (), ("unit", "other"), Cost.exactly(5))), Cost(6, 7, 8), None, ("x",), ("ä",), True,
    (BufferNote("x", "l2", 0, 16, "tensor", None, ("one",), True, False),), {"anything": [1, {"else": None}]},
    Origin("m.onnx", "ab", "toy", {"lanes": 4}, {}, {"ops": []}), "cd",
    Schedule((Task("t", "unit", "one", (), ("x",), ("ä",), Cost.estimated(3), (0, 2)),), True, {"ä": 2}),
)  # fmt: skip
IMAGE = Image(
    (
        Segment("imem", 0, b"\x13\0\0\0" * 3, 5), Segment("l2", 0x8000_0000, bytes(range(100))),
        Segment("l2", 0x8000_0100, b"x"),
    ),
    entry=8, machine=243, tiles={"ä": PLACE}, notes=NOTES,
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
    assert stripped.tiles == {} and stripped.notes == Notes()


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
    at = raw.index(b'{"contents":{"buffers"')
    with pytest.raises(ImageError, match=r"section \.nncosim\.schedule is damaged"):
        Image.from_bytes(raw[:at] + b"!" + raw[at + 1 :])


def test_header_is_32_bit_little_endian():
    raw = IMAGE.to_bytes()
    assert raw[:7] == b"\x7fELF\x01\x01\x01"
    assert struct.unpack_from("<H", raw, 16)[0] == 2


# ---- versions, and what a section must hold

@pytest.mark.parametrize("section", [SCHEDULE_SECTION, TILES_SECTION])
@pytest.mark.parametrize("version", [1, 0, NOTES_VERSION + 1])
def test_an_image_of_another_version_is_refused_by_name(section, version):
    raw = IMAGE.to_bytes()
    ours = f'"version":{NOTES_VERSION}}}'.encode()
    assert raw.count(ours) == 2 and raw.index(b'"tensor"') < raw.index(ours), "the tiles come first"
    at = raw.index(ours) if section == TILES_SECTION else raw.rindex(ours)
    other = raw[:at] + f'"version":{version}}}'.encode() + raw[at + len(ours):]
    text = (f"m.elf: section {section} has version {version}, and this nncosim reads version {NOTES_VERSION}; compile "
            "the model again, or run the image with the nncosim that made it")  # fmt: skip
    with pytest.raises(ImageError) as found:
        Image.from_bytes(other, "m.elf")
    assert str(found.value) == text


def test_an_image_from_before_versions_is_of_the_first():
    """What such a section held, filled up to the length of ours."""
    raw = IMAGE.to_bytes()
    begin, end = raw.index(b'{"contents":{"buffers"'), raw.rindex(f'"version":{NOTES_VERSION}}}'.encode()) + 12
    old = b'{"steps":[{"name":"one","iss_cycles":5}],"iss_cycles":5}'
    text = f"has version 1, and this nncosim reads version {NOTES_VERSION}; compile the model again"
    with pytest.raises(ImageError, match=text):
        Image.from_bytes(raw[:begin] + old.ljust(end - begin) + raw[end:])


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    pair: tuple[int, str]
    share: float


@dataclass(frozen=True)
class Outer:
    colour: Colour
    inner: tuple[Inner, ...]
    maybe: Fraction | None = None


OUTER = Outer(Colour.RED, (Inner((1, "x"), 0.5), Inner((2, "y"), 1.0)), Fraction(1, 3))
PLAIN = {"colour": "red", "inner": [{"pair": [1, "x"], "share": 0.5}, {"pair": [2, "y"], "share": 1.0}], "maybe": "1/3"}


def test_dataclasses_are_plain_data_and_back():
    assert to_plain(OUTER) == PLAIN and from_plain(Outer, PLAIN) == OUTER
    assert from_plain(Outer, {**PLAIN, "maybe": None}) == replace(OUTER, maybe=None)
    assert from_plain(Inner, {"pair": [1, "x"], "share": 1}).share == 1.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"colour": "blue"}, "colour: 'blue' is no Colour"), ({"maybe": 3}, "maybe: 3 is no Fraction"),
        ({"maybe": "1/0"}, "maybe: '1/0' is no Fraction"), ({"more": 1}, "it has an unknown more"),
        ({"inner": {}}, "inner: expected list, got {}"), ({"inner": [{"pair": [1, "x"]}]}, r"inner[0] lacks share"),
        ({"inner": [{"pair": [True, "x"], "share": 0.5}]}, "inner[0].pair[0]: expected int, got True"),
        ({"inner": [{"pair": [1], "share": 0.5}]}, "inner[0].pair: expected 2 values, got 1"),
        ({"inner": [{"pair": [1, "x"], "share": "0.5"}]}, "inner[0].share: expected float, got '0.5'"),
    ],
)  # fmt: skip
def test_plain_data_of_another_form_is_told_by_its_place(change, text):
    with pytest.raises(PlainError) as found:
        from_plain(Outer, {**PLAIN, **change})
    assert str(found.value) == text


# ---- the notes of a platform that knows its tasks only

def test_steps_are_layers_in_the_order_of_completion_with_sound_bounds():
    """Two engines at once. The bounds hold whatever each task takes within its own."""
    tasks = (
        Task("a", "one", "A", cost=Cost(10, 20, 30)), Task("b", "two", "B", cost=Cost(50, 60, 70)),
        Task("c", "one", "C", ("b",), cost=Cost.exactly(5)), Task("a2", "two", "A", ("a",), cost=Cost(1, 2, 3)),
    )  # fmt: skip
    notes = schedule_notes(Schedule(tasks))
    assert [(step.name, step.ops, step.engine, step.cycles.best) for step in notes.steps] == [
        ("B", ("B",), "two", 60), ("A", ("A",), "one+two", 2), ("C", ("C",), "one", 3)]  # fmt: skip
    assert notes.cycles == Cost(55, 65, 75)
    rng = np.random.default_rng(1)
    for _ in range(200):
        ends, free, layers = {}, {}, {}
        for task in tasks:
            took = int(rng.integers(task.cost.lower, task.cost.upper + 1))
            begin = max([free.get(task.engine, 0), *(ends[name] for name in task.after)])
            ends[task.name] = free[task.engine] = begin + took
            layers[task.layer] = max(layers.get(task.layer, 0), ends[task.name])
        assert notes.cycles.lower <= max(ends.values()) <= notes.cycles.upper
        before = 0
        for step in notes.steps:
            took, before = max(0, layers[step.name] - before), layers[step.name]
            assert step.cycles.lower <= took <= step.cycles.upper, step
    assert sum(step.cycles.best for step in notes.steps) == notes.cycles.best
