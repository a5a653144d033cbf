# SPDX-License-Identifier: Apache-2.0
"""The dense kernel on one core: every bit, and in no more cycles than it took once."""

import pytest
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.aie_ml_table import TABLE, cycles_of
from nncosim.tb.aie_ml.build import build_array

CYCLES = {
    "int8 64x64x64": 1047, "int8 64x64x64, Relu": 1054, "int8 64x64x64, Relu, unsigned": 1047, "int8 64x128x128": 4120,
    "int8 16x16x16": 40, "int8 1x512x32 (batch 1)": 533, "int16 x int8 64x64x64": 2075, "int16 x int16 64x64x64": 4120,
}  # fmt: skip
"""A slower schedule is to be seen. A faster one moves the figure."""


@pytest.fixture(scope="module")
def built():
    return build_array(PLATFORM, 1, 1)


@pytest.mark.parametrize(("name", "spec"), [row[:2] for row in TABLE], ids=[row[0] for row in TABLE])
def test_cycles_of_layers(built, name, spec):
    assert cycles_of(spec, built) <= CYCLES[name]


def test_a_wrong_byte_is_seen(built):
    """Of inputs, weights and bias."""
    for at in (5, 2 * 16384 + 77, 16384 + 9):
        with pytest.raises(ValueError, match="wrong results"):
            cycles_of(TABLE[4][1], built, {at: 0x5A})
