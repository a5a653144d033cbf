# SPDX-License-Identifier: Apache-2.0
"""Layouts: the one function from tensor to bytes, against loops written from the definition."""

import itertools

import numpy as np
import pytest
from nncosim.compiler.image.plain import from_plain, to_plain
from nncosim.compiler.ir.layout import Layout, LayoutError, from_bytes, size_bytes, to_bytes

LAYOUTS = [
    Layout("CHWc", 16, 8), Layout("HWCc", 1, 8), Layout("CHWc", 1, 8), Layout("HWCc", 8, 4), Layout("CHWc", 4, 2),
    Layout("CHWc", 2, 16), Layout("WHCc", 3, 32), Layout("HCWc", 5, 1),
    Layout("CHWc", 16, 8, held=12), Layout("HWCc", 4, 4, held=3),
]  # fmt: skip


def by_hand(array, layout):
    """Element positions by the words of the definition, one at a time."""
    c, h, w = array.shape
    held = layout.held or layout.channel_block
    blocks = -(-c // held)
    sizes = {"C": blocks, "H": h, "W": w, "c": layout.channel_block}
    out = bytearray(-(-blocks * layout.channel_block * h * w * layout.bits // 8))
    for number, index in enumerate(itertools.product(*(range(sizes[a]) for a in layout.axes))):
        at = dict(zip(layout.axes, index, strict=True))
        channel = at["C"] * held + at["c"]
        value = int(array[channel, at["H"], at["W"]]) if channel < c and at["c"] < held else 0
        for bit in range(layout.bits):
            place = number * layout.bits + bit
            out[place // 8] |= (value >> bit & 1) << place % 8
    return bytes(out)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_bytes(layout, signed):
    rng = np.random.default_rng(3)
    low, high = (-(1 << layout.bits - 1), 1 << layout.bits - 1) if signed else (0, 1 << layout.bits)
    for shape in ((1, 1, 1), (5, 3, 2), (17, 2, 3)):
        array = rng.integers(low, high, shape)
        data = to_bytes(array, layout)
        assert data == by_hand(array, layout)
        assert len(data) == size_bytes(shape, layout)
        assert np.array_equal(from_bytes(data, shape, layout, signed), array)


def test_block_planar_is_what_the_accelerator_reads():
    """Word of (block b, row y, column x) = (b * H + y) * W + x; channel 16 b + n in byte n."""
    array = np.arange(20 * 2 * 3).reshape(20, 2, 3)
    data = to_bytes(array, Layout("CHWc", 16, 8))
    for c, y, x in itertools.product(range(20), range(2), range(3)):
        assert data[(((c // 16) * 2 + y) * 3 + x) * 16 + c % 16] == array[c, y, x]


def test_interleaved_is_what_a_camera_gives():
    """Row after row, pixel after pixel, channel after channel, and nothing else."""
    array = np.arange(3 * 2 * 5).reshape(3, 2, 5)
    layout = Layout("HWCc", 1, 8)
    assert layout.name == "interleaved" and Layout("CHWc", 16).name == "block planar"
    data = to_bytes(array, layout)
    assert len(data) == size_bytes((3, 2, 5), layout) == 30
    for c, y, x in itertools.product(range(3), range(2), range(5)):
        assert data[(y * 5 + x) * 3 + c] == array[c, y, x]


@pytest.mark.parametrize("signed", [False, True])
def test_planes(signed):
    """Byte k of element (c, y, x) is the element's byte in plane k, each plane laid out as a tensor of its own."""
    layout, shape = Layout("CHWc", 16, 8, planes=3), (19, 2, 3)
    array = np.random.default_rng(6).integers(-(1 << 23) if signed else 0, 1 << 23, shape)
    data = to_bytes(array, layout)
    assert len(data) == size_bytes(shape, layout) == 3 * size_bytes(shape, Layout("CHWc", 16, 8))
    for k, c, y, x in itertools.product(range(3), *map(range, shape)):
        assert data[(((k * 2 + c // 16) * 2 + y) * 3 + x) * 16 + c % 16] == array[c, y, x] >> 8 * k & 255
    assert np.array_equal(from_bytes(data, shape, layout, signed), array)
    assert from_plain(Layout, to_plain(layout)) == layout
    with pytest.raises(LayoutError, match="do not fit 24 bits"):
        to_bytes(array + (1 << 24), layout)


def test_values_out_of_range_are_refused():
    with pytest.raises(LayoutError, match=r"values -9\.\.0 do not fit 4 bits"):
        to_bytes(np.array([[[0, -9]]]), Layout("CHWc", 1, 4))


def test_short_data_is_refused():
    with pytest.raises(LayoutError, match="takes 6 bytes"):
        from_bytes(bytes(5), (2, 1, 3), Layout(), signed=False)


@pytest.mark.parametrize("wrong", [{"axes": "CHW"}, {"bits": 3}, {"channel_block": 0}, {"held": 2}])
def test_impossible_layouts_are_refused(wrong):
    with pytest.raises(LayoutError):
        Layout(**wrong)
