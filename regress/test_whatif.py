# SPDX-License-Identifier: Apache-2.0
"""Other machines: fewer and more clusters, half the DMPA, half of L2. All runs there, or is refused with a reason.

The shipped network and layers of each kind run on all of them on the simulator, and on two on the RTL; the networks
of the zoo on the simulator where they fit.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.placement.placement import PlacementError
from nncosim.platforms.errors import PlatformError
from nncosim.platforms.j3dai import PLATFORM, J3dai
from nncosim.regress import zoo
from nncosim.regress.harness import ComparedRun, compile_digits, digits_images, run_case, run_compiled

HALF_L2 = PLATFORM.l2_bytes // 2
MACHINES: dict[str, dict[str, int]] = {
    "2clusters": {"clusters": 2},
    "4clusters": {"clusters": 4},
    "8clusters": {"clusters": 8},
    "dmpa512": {"dmpa_bits": 512},
    "half_l2": {"l2_bytes": HALF_L2},
    "little": {"clusters": 2, "dmpa_bits": 512, "l2_bytes": HALF_L2},
    "wide": {"clusters": 8, "dmpa_bits": 512},
}
ON_RTL = ("little", pytest.param("wide", marks=pytest.mark.slow))
"""Between them every setting. The wide machine's simulation takes minutes to build."""
LAYERS = ("conv3x3_24ch_odd", "conv1x1_16", "conv3x3_large_k", "dw3x3_s2", "gemm", "maxpool3_s2_pad", "global_avgpool",
          "add_mixed_signs", "requantize", "table_sigmoid", "concat_shifted", "resize_3x5", "chain")  # fmt: skip
IMAGES = (5, 17)  # of the test split
MESSAGE = r"memory 'l2' holds \d+ bytes, but .*\d+.* (at least|at once).*(weights [\d,]+|tensor \S+ [\d(]).* would help"
"""Of a network that does not fit: the memory and its limit, the bytes, what takes them."""


def machine(name: str) -> J3dai:
    return PLATFORM.with_parameters(**MACHINES[name])


def digits(platform: J3dai, backend: str, driver: str | None = None) -> ComparedRun:
    compiled = compile_digits(platform)
    return run_compiled(compiled, backend, driver, inputs=digits_images(compiled, *IMAGES))


def assert_good(run: ComparedRun, platform: J3dai) -> None:
    """Right bits, cycles those of the ISS, and it ran on that machine."""
    assert run.problems() == []
    engines = run.result.frames[0].intervals[0].counters
    assert sorted(engines) == sorted([*(f"cluster{k}" for k in range(platform.clusters)), "dmpa", "host"])


@pytest.mark.parametrize("name", MACHINES)
def test_the_trained_network_on_iss(name):
    assert_good(digits(machine(name), "iss"), machine(name))


@pytest.mark.parametrize("name", MACHINES)
def test_layers_on_iss(name, seed):
    platform = machine(name)
    for case in LAYERS:
        run = run_case(case, "iss", seed=seed, platform=platform)
        assert run.problems() == [], case


@pytest.mark.parametrize("name", ON_RTL)
def test_on_rtl(name, seed):
    """The network and the layers on one simulation; the same tensors and cycles as the simulator's."""
    platform = machine(name)
    ours, theirs = digits(platform, "rtl", "direct"), digits(platform, "iss")
    assert_good(ours, platform)
    for a, b in zip(ours.result.frames, theirs.result.frames, strict=True):
        assert a.cycles == b.cycles
        assert [key for key in b.tensors if not np.array_equal(a.tensors[key], b.tensors[key])] == []
    for case in LAYERS:
        run = run_case(case, "rtl", "direct", seed=seed, platform=platform)
        assert run.problems() == [], case
        assert run.cycles == run_case(case, "iss", seed=seed, platform=platform).cycles, case


def test_more_of_everything_is_faster():
    """A 3x3 convolution of 128 channels: cycles fall with clusters; a narrower DMPA costs where it limits."""
    cycles = {name: run_case("conv3x3_128", "iss", platform=machine(name)).cycles for name in MACHINES}
    cycles["whole"] = run_case("conv3x3_128", "iss").cycles
    assert cycles["2clusters"] > cycles["4clusters"] > cycles["whole"] > cycles["8clusters"]
    assert cycles["half_l2"] == cycles["whole"] <= cycles["dmpa512"]
    assert cycles["2clusters"] > 2.5 * cycles["whole"], "a third of the clusters"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 0}, "clusters must be 1 to 8"),
        ({"clusters": 9}, "clusters must be 1 to 8"),
        ({"dmpa_bits": 300}, "dmpa_bits must be"),
        ({"l1_bytes": 3000}, "l1_bytes must be"),
        ({"l2_bytes": 1000}, "l2_bytes must be"),
        ({"lanes": 3}, "no parameter 'lanes'"),
    ],
)
def test_machines_that_cannot_be(settings, message):
    with pytest.raises(PlatformError, match=message):
        PLATFORM.with_parameters(**settings)


# ---- the networks of the zoo

@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_weights_that_do_not_fit_half_of_l2(name):
    """Refused before anything is proved or tiled, with weights, tensor, bytes and limit."""
    passes: list[str] = []
    with pytest.raises(PlacementError) as error:
        compile_network(import_model(zoo.model_path(name)), machine("half_l2"), progress=passes.append)
    assert passes[-1] == "fit"
    text = str(error.value)
    assert f"holds {HALF_L2} bytes" in text and re.match(MESSAGE, text), text


def fits_or_is_refused(network: str, settings: dict[str, int]) -> bool:
    """Run it on the simulator, where it compiles; otherwise the message must have memory, bytes and limit."""
    try:
        compiled = compile_network(import_model(zoo.model_path(network)), PLATFORM.with_parameters(**settings))
    except PlacementError as error:
        assert re.match(MESSAGE, str(error)), error
        return False
    assert run_compiled(compiled, "iss").problems() == []
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_the_networks_run_or_are_refused(network, name):
    """Clusters and DMPA decide how long it takes; L2 alone may decide whether it fits."""
    fits = fits_or_is_refused(network, MACHINES[name])
    if "l2_bytes" not in MACHINES[name]:
        assert fits
