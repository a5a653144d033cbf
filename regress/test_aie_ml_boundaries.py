# SPDX-License-Identifier: Apache-2.0
"""At every boundary between the blocks of the array's tiles RTL and simulator have the same events in the same cycles
with the same values, from the configuration on: dense layers, sums and transpositions, two inferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled
from nncosim.platforms.aie_ml import PLATFORM as PAIR
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.aie_ml_v2 import AieMlV2
from nncosim.regress.aie_ml_checks import normal_inputs
from nncosim.regress.aie_ml_columns import boundaries
from nncosim.regress.aie_ml_networks import NETWORKS
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.regress.test_aie_ml_graphs import LARGE, PLATFORM, SMALL, WHOLE, made_of
from nncosim.regress.test_aie_ml_layers import LAYERS, random_spec
from nncosim.regress.test_aie_ml_pairs import pair
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.build import build_array
from nncosim.tb.lockstep import differences, last_cycle

DEFAULT = DenseSpec((16, 64, 32))
V2 = AieMlV2(columns=4, rows=4)


def alike(made: Compiled, given: Sequence[Mapping[str, np.ndarray]], driver: str = "direct") -> set[str]:
    """Both backends. The kinds of boundaries that something passed."""
    platform, image = made.platform, made.image.to_bytes()
    assert isinstance(platform, AieMl)
    rtl = BENCH.run(platform, image, given, backend="rtl", driver=driver, seed=3, observe=True)
    iss = BENCH.run(platform, image, given, backend="iss", seed=3, observe=True)
    assert rtl.diagnosis is None and iss.diagnosis is None
    assert [(each.start, each.cycles) for each in rtl.frames] == [(each.start, each.cycles) for each in iss.frames]
    end = last_cycle(iss.channels) + 1
    assert [each.lines() for each in differences(rtl.channels, iss.channels, end)] == []
    return {each.name.partition(") ")[2] for each in rtl.channels if len(each.events)}


EVERYWHERE = {
    "locks", "channels' states", "descriptors", "streams", "channels' accesses", "channels' words", "memory writes",
    "core's states", "instructions", "addresses", "loads", "requantized", "stores", "vectors", "accumulators",
}  # fmt: skip


def of_spec(spec: DenseSpec, count: int = 2, driver: str = "direct", platform: AieMl = WHOLE) -> set[str]:
    made = compiled(spec, platform)
    return alike(made, frames_of(spec, made.network, count), driver)


def test_dense_layers() -> None:
    assert of_spec(DEFAULT) >= EVERYWHERE | {"cascade"}


def test_under_cocotb() -> None:
    assert of_spec(DEFAULT, driver="cocotb") >= EVERYWHERE


def test_a_graph() -> None:
    """With memory tiles."""
    made = made_of(SMALL["residual"], PLATFORM)
    assert alike(made, normal_inputs(made.network, 2, 1)) >= EVERYWHERE


@pytest.mark.slow
def test_a_core_in_its_neighbours_memory() -> None:
    """By hand: no layer has its buffers there."""
    built = build_array(PAIR, 2, 1, inside=True, trace="fst")
    rtl, iss = boundaries(built, pair())
    assert [each.lines() for each in differences(rtl, iss, last_cycle(iss) + 1)] == []
    names = {each.name.partition(") ")[2] for each in rtl if len(each.events)}
    assert names >= {"asked of the west", "accesses from the east", "locks", "loads", "stores", "vectors"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    assert of_spec(LAYERS[name]) >= EVERYWHERE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_layers(seed: int) -> None:
    of_spec(random_spec(seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual, 16 bits", "mixer"])
def test_graphs(name: str) -> None:
    made = made_of(SMALL[name], PLATFORM)
    assert alike(made, normal_inputs(made.network, 2, 1)) >= EVERYWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixer, shapes that do not divide"])
def test_large_graphs(name: str) -> None:
    made = made_of(LARGE[name], WHOLE)
    assert alike(made, normal_inputs(made.network, 1, 1)) >= EVERYWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jet_tagger"])
def test_networks(name: str) -> None:
    of_spec(NETWORKS[name].spec)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["64x64x64, Relu", "int16 x int16, 32x32x64", "64-64-32-10, batch 8"])
def test_the_other_generation(name: str) -> None:
    assert of_spec(LAYERS[name], platform=V2) >= EVERYWHERE
