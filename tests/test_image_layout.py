# SPDX-License-Identifier: Apache-2.0
"""Layouts: the one function from tensor to bytes, against loops written from the definition, and bytes by hand."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nncosim.compiler.image.plain import from_plain, to_plain
from nncosim.compiler.ir.layout import Layout, LayoutError, from_bytes, size_bytes, to_bytes


def loops(order, extents):
    """(used, {axis: index}) of each place, in order: nested loops over the text's terms, read from the definition."""
    counted = []
    for term in order.split():
        axis, step, size, room = re.fullmatch(r"(\w+?)(?:/(\d+))?(?:%(\d+))?(?::(\d+))?", term).groups()
        step, size = int(step or 1), int(size or 0) if axis != "1" else 1
        held = size or -(-extents.get(axis, 1) // step)
        counted.append((axis, step, held, int(room or held)))
    for digits in itertools.product(*(range(room) for *_, room in counted)):
        index, used = dict.fromkeys(extents, 0), True
        for (axis, step, held, _), digit in zip(counted, digits, strict=True):
            used &= digit < held
            if axis != "1":
                index[axis] = index.get(axis, 0) + digit * step
        yield used and all(index[axis] < extents.get(axis, 1) for axis in index), index


def by_hand(array, layout, axes):
    """Bit by bit, as a string of all bits in the order in which they are packed, then words, then bytes."""
    extents, stream = dict(zip(axes, array.shape, strict=True)), []
    unit = min([layout.bits, *(int(step or 1) for step in re.findall(r"\bbit(?:/(\d+))?", layout.order))])
    for used, index in loops(layout.order, {**extents, "bit": layout.bits}):
        value = int(array[tuple(index[axis] for axis in axes)]) >> index["bit"] if used else 0
        low_first = [value >> bit & 1 for bit in range(unit)]
        stream += low_first if layout.first == "low" else low_first[::-1]
    stream += [0] * (-len(stream) % layout.word_bits)
    out = b""
    for at in range(0, len(stream), layout.word_bits):
        word = stream[at : at + layout.word_bits]
        bits = word if layout.first == "low" else word[::-1]
        out += sum(bit << n for n, bit in enumerate(bits)).to_bytes(layout.word_bits // 8, layout.byte_order)
    return out


@st.composite
def layouts(draw):
    """A layout of axes X, Y, Z and of bits, with any nesting, filling and packing; and a shape for it."""
    terms, number = [], st.integers(1, 3)
    shape = tuple(draw(st.integers(1, 4)) for _ in range(3))
    bits = draw(st.sampled_from([1, 2, 3, 4, 6, 8, 8, 12, 16, 24, 32, 48, 63]))
    for axis, extent in zip("XYZ", shape, strict=True):
        sizes = draw(st.lists(number, max_size=2))
        steps = [int(np.prod(sizes[:n])) for n in range(len(sizes) + 1)]
        for step, size in itertools.zip_longest(steps, sizes, fillvalue=0):
            held = size or -(-extent // step)
            room = draw(st.sampled_from(["", "", f":{held + 1}"]))
            terms.append(f"{axis}/{step}" + f"%{size}" * (size > 0) + room)
    planes = draw(st.sampled_from([n for n in (1, 3, 4, 8) if bits % n == 0]))
    terms += draw(st.sampled_from([[], ["1:2"], [f"bit/{planes}"]]))
    word, first = draw(st.sampled_from([8, 16, 24, 32])), draw(st.sampled_from(["low", "high"]))
    order = draw(st.sampled_from(["little", "big"])) if word > 8 else "little"
    return Layout(" ".join(draw(st.permutations(terms))), bits, word, first, order), shape


def values(layout, shape, signed, seed):
    rng, half = np.random.default_rng(seed), 1 << layout.bits - 1
    return rng.integers(-half if signed else 0, half if signed else 2 * half - (layout.bits == 63), shape)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(layouts(), st.booleans(), st.integers(0, 99))
def test_random_layouts(drawn, signed, seed):
    layout, shape = drawn
    array = values(layout, shape, signed, seed)
    data = to_bytes(array, layout, "XYZ")
    assert data == by_hand(array, layout, "XYZ")
    assert len(data) == size_bytes(shape, layout, "XYZ")
    assert np.array_equal(from_bytes(data, shape, layout, signed, "XYZ"), array)
    assert from_plain(Layout, to_plain(layout)) == layout
    index = tuple(seed % n for n in shape)
    only = np.zeros(shape, np.int64)
    only[index] = 1
    byte, bit = layout.place(index, shape, "XYZ")
    assert to_bytes(only, layout, "XYZ") == bytes(byte) + bytes([1 << bit]) + bytes(len(data) - byte - 1)


SAID = {"order": "Y X/3 X%3:4", "bits": 4, "word_bits": 16}


@pytest.mark.parametrize("wrong", [
    {"order": "Y X%3:4 X/3"}, {"order": "X/3 X%3:4 Y"}, {"order": "Y X/3 X%3:5"}, {"order": "Y X/2 X%2:4"},
    {"order": "bit/2 Y X/3 X%3:4"}, {"first": "high"}, {"byte_order": "big"}, {"word_bits": 40}, {"bits": 8},
])  # fmt: skip
def test_the_loops_see_a_layout_that_is_not_the_one_said(wrong):
    array = np.arange(14).reshape(7, 2)
    assert to_bytes(array, Layout(**SAID), "XY") == by_hand(array, Layout(**SAID), "XY")
    assert to_bytes(array, Layout(**SAID | wrong), "XY") != by_hand(array, Layout(**SAID), "XY")


@pytest.mark.parametrize(("layout", "axes", "array", "expected"), [
    (Layout("M/2 K/4 M%2 K%4"), "MK", np.arange(32).reshape(4, 8),  # tiles of a matrix engine's left operand
     "00010203 08090a0b  04050607 0c0d0e0f  10111213 18191a1b  14151617 1c1d1e1f"),
    (Layout("K/2 N/2 K%2 N%2"), "NK", np.arange(9).reshape(3, 3),  # of its right one, filled up
     "0003 0104  0600 0700  0205 0000  0800 0000"),
    (Layout("C", 4), "C", [1, 2, -3], "21 0d"),
    (Layout("C", 4, first="high"), "C", [1, 2, -3], "12 d0"),
    (Layout("C", 2, 16, byte_order="big"), "C", [1, 0, 0, 0, 0, 0, 0, 2, 3], "8001 0003"),
    (Layout("C", 1, first="high"), "C", [1, 0, 1, 1, 0, 0, 0, 0, 0, 1], "b0 40"),
    (Layout("C", 12), "C", [0x123, 0x456], "236145"),
    (Layout("C", 12, first="high"), "C", [0x123, 0x456], "123456"),
    (Layout("C", 16, 16, byte_order="big"), "C", [0x102, -2], "0102 fffe"),
    (Layout("C", 16, 32, byte_order="big"), "C", [0x102, -2, 3], "fffe0102 00000003"),
    (Layout("C", 8, 32, byte_order="big"), "C", [1, 2, 3, 4, 5], "04030201 00000005"),  # bytes reversed in a word
    (Layout("O/2 bit/8 O%2", 32), "O", [0x01020304, 0x11121314, -2], "0414 0313 0212 0111  fe00 ff00 ff00 ff00"),
    (Layout("bit C", 2), "C", [1, -1, -2, 0, 0, 0, 0, 0], "03 06"),  # ternary weights as two planes of bits
    (Layout("C/3 W C%3:4"), "CW", [[0, 1], [16, 17], [32, 33], [48, 49]], "00102000 01112100  30000000 31000000"),
    (Layout("H W:4"), "HW", [[1, 2, 3], [4, 5, 6]], "01020300 04050600"),  # a pitch of rows
    (Layout("C 1:4"), "C", [5, 6], "05000000 06000000"),  # one lane of four is used
    (Layout("O/2 H W I/2 O%2 I%2"), "OIHW", np.arange(12).reshape(2, 3, 1, 2),
     "0002 0608  0400 0a00  0103 0709  0500 0b00"),
    (Layout("C/4 H W C%4"), "C", [1, 2, 3, 4, 5], "01020304 05000000"),  # axes that the tensor lacks
    (Layout("C"), "NCHW", [[[[1]], [[2]]]], "0102"),  # and those that the layout lacks
], ids=str)  # fmt: skip
def test_bytes_written_by_hand(layout, axes, array, expected):
    array = np.array(array)
    assert to_bytes(array, layout, axes) == bytes.fromhex(expected) == by_hand(array, layout, axes)
    signed = bool((array < 0).any())
    assert np.array_equal(from_bytes(bytes.fromhex(expected), array.shape, layout, signed, axes), array)


def test_block_planar_is_what_the_accelerator_reads():
    """Word of (block b, row y, column x) = (b * H + y) * W + x; channel 16 b + n in byte n."""
    array, layout = np.arange(20 * 2 * 3).reshape(20, 2, 3), Layout("C/16 H W C%16")
    data = to_bytes(array, layout, "CHW")
    for c, y, x in itertools.product(range(20), range(2), range(3)):
        at = (((c // 16) * 2 + y) * 3 + x) * 16 + c % 16
        assert data[at] == array[c, y, x] and layout.place((c, y, x), array.shape, "CHW") == (at, 0)


def test_interleaved_is_what_a_camera_gives():
    """Row after row, pixel after pixel, channel after channel, and nothing else."""
    array, layout = np.arange(3 * 2 * 5).reshape(3, 2, 5), Layout("H W C")
    data = to_bytes(array, layout, "CHW")
    assert len(data) == size_bytes((3, 2, 5), layout, "CHW") == 30
    for c, y, x in itertools.product(range(3), range(2), range(5)):
        assert data[(y * 5 + x) * 3 + c] == array[c, y, x]


@pytest.mark.parametrize("signed", [False, True])
def test_planes(signed):
    """Byte k of element (c, y, x) is the element's byte in plane k, each plane laid out as a tensor of its own."""
    layout, shape = Layout("bit/8 C/16 H W C%16", 24), (19, 2, 3)
    array = np.random.default_rng(6).integers(-(1 << 23) if signed else 0, 1 << 23, shape)
    data = to_bytes(array, layout, "CHW")
    assert len(data) == size_bytes(shape, layout, "CHW") == 3 * size_bytes(shape, Layout("C/16 H W C%16"), "CHW")
    for k, c, y, x in itertools.product(range(3), *map(range, shape)):
        assert data[(((k * 2 + c // 16) * 2 + y) * 3 + x) * 16 + c % 16] == array[c, y, x] >> 8 * k & 255
    assert np.array_equal(from_bytes(data, shape, layout, signed, "CHW"), array)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_elements_of_64_bits(dtype):
    array, layout = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min, 1], dtype), Layout("C", 64)
    data = to_bytes(array, layout, "C")
    assert data == array.tobytes()
    assert np.array_equal(from_bytes(data, (3,), layout, True, "C"), array.view(np.int64))
    with pytest.raises(LayoutError, match="64 bits are read as signed"):
        from_bytes(data, (3,), layout, False, "C")


def test_the_text_of_a_layout():
    layout = Layout(" bit/8  C/16 H/1 W%2 H%1 W/2 1:1 C%16:16", 32, 32, byte_order="big")
    assert layout.order == "bit/8 C/16 H W%2 W/2 C%16"
    assert str(layout) == "bit/8 C/16 H W%2 W/2 C%16, bits 32, word_bits 32, byte_order big"
    assert str(Layout("H W C")) == "H W C"


@pytest.mark.parametrize(("array", "bits", "found"), [
    ([0, -9], 4, r"values -9\.\.0 do not fit 4 bits"), ([16], 4, r"16\.\.16 do not fit 4"),
    ([-1, 8], 4, r"-1\.\.8 do not fit 4"), ([1 << 24], 24, "do not fit 24"), ([0.5], 8, "not of float64"),
])  # fmt: skip
def test_values_that_do_not_fit_are_refused(array, bits, found):
    with pytest.raises(LayoutError, match=found):
        to_bytes(np.array(array), Layout("C", bits), "C")


def test_short_data_is_refused():
    with pytest.raises(LayoutError, match="takes 6 bytes"):
        from_bytes(bytes(5), (2, 1, 3), Layout("C H W"), False, "CHW")


@pytest.mark.parametrize(("wrong", "found"), [
    ({"order": "C", "first": "left"}, "first is low or high"),
    ({"order": "C/x"}, "no term of a layout's order: 'C/x'"), ({"order": "C/0"}, "no term"), ({"order": "1"}, "term"),
    ({"order": "C%16"}, "terms of C"), ({"order": "C/16 C%8"}, "terms of C"), ({"order": "C W C"}, "terms of C"),
    ({"order": "C/8 C/4%4 C%4"}, "terms of C"), ({"order": "C/4 C%4:3"}, "4 do not fit a room of 3"),
    ({"order": "C", "bits": 0}, "1 to 64 bits"), ({"order": "C", "bits": 65}, "1 to 64 bits"),
    ({"order": "bit/8 C", "bits": 12}, "whole parts of 8"), ({"order": "bit/8%2 C", "bits": 32}, "terms of bit"),
    ({"order": "C", "word_bits": 12}, "word has 8, 16"), ({"order": "C", "byte_order": "big"}, "give word_bits"),
])  # fmt: skip
def test_impossible_layouts_are_refused(wrong, found):
    with pytest.raises(LayoutError, match=re.escape(found)):
        Layout(**wrong)


@pytest.mark.parametrize(("order", "shape", "axes", "found"), [
    ("C H", (2, 2, 2), "CHW", "says nothing of axis W of 2"), ("C:4", (5,), "C", "C of 5 does not fit a room of 4"),
    ("C", (2, 2), "C", "as many axes"), ("C", (1, 2), "CC", "different names"), ("C", (1, 2), ("bit", "C"), "axes"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(order, shape, axes, found):
    with pytest.raises(LayoutError, match=re.escape(found)):
        size_bytes(shape, Layout(order), axes)


@pytest.mark.parametrize("index", [(0, 0), (2, 0, 0), (0, 0, -1)])
def test_an_element_that_is_not_there_is_refused(index):
    with pytest.raises(LayoutError, match="has no element"):
        Layout("C H W").place(index, (2, 1, 3), "CHW")
