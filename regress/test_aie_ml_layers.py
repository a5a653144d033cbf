# SPDX-License-Identifier: Apache-2.0
"""Dense layers and networks on the array's RTL and its simulator: every bit of every tensor, every cycle."""

import numpy as np
import pytest
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_checks import check_runs
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
LAYERS = {
    "64x64x64": DenseSpec((64, 64), batch=64, relu=False),
    "64x64x64, Relu": DenseSpec((64, 64), batch=64, last_relu=True),
    "64x128x128": DenseSpec((128, 128), batch=64),
    "16x16x16": DenseSpec((16, 16), batch=16),
    "16x16x16, Relu, unsigned": DenseSpec((16, 16), batch=16, last_relu=True, unsigned=True),
    "one row, 256x64": DenseSpec((256, 64), batch=1, last_relu=True),
    "three rows, 33x9": DenseSpec((33, 9), batch=3),
    "int16 x int8, 32x64x64": DenseSpec((64, 64), batch=32, bits=16),
    "int16 x int16, 32x32x64": DenseSpec((32, 64), batch=32, bits=16, weight_bits=16, last_relu=True),
    "64-64-32-10, batch 8": DenseSpec((64, 64, 32, 10), batch=8, unsigned=True),
    "16-32-32-8, batch 8": DenseSpec((16, 32, 32, 8), batch=8),
    "40-48-20, int16, batch 5": DenseSpec((40, 48, 20), batch=5, bits=16),
}
def random_spec(seed: int) -> DenseSpec:
    rng = np.random.default_rng(seed)
    bits = int(rng.choice([8, 8, 16]))
    sizes = tuple(int(n) for n in rng.integers(1, 90, int(rng.integers(2, 5))))
    relu, unsigned, bias, last_relu = (bool(n) for n in rng.integers(2, size=4))
    weight_bits = 16 if bits == 16 and rng.random() < 0.4 else 8
    return DenseSpec(sizes, int(rng.integers(1, 17)), bits, weight_bits, relu, unsigned, bias, last_relu, seed)


def check(spec: DenseSpec, count: int = 3, driver: str = "direct", platform: AieMl = PLATFORM, **options):
    """Both backends; what was compiled."""
    made = compiled(spec, platform, **options)
    check_runs(made, frames_of(spec, made.network, count), driver)
    return made


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    check(LAYERS[name])


@pytest.mark.parametrize("seed", range(24))
def test_random_layers(seed):
    check(random_spec(seed), count=1)


def test_under_cocotb():
    check(LAYERS["16-32-32-8, batch 8"], driver="cocotb")
