# SPDX-License-Identifier: Apache-2.0
"""Networks with sums and transpositions on the array: an MLP-Mixer's block, residual networks."""

import onnx
import pytest
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_checks import check_run, check_runs, normal_inputs
from nncosim.regress.token_models import mixer_block, residual_mlp
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.streaming import stream_iss, stream_rtl

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
WHOLE = AieMl()
SMALL = {
    "residual": residual_mlp(40, 1, batch=5),
    "residual, 16 bits": residual_mlp(32, 1, bits=16),
    "mixer": mixer_block(16, 24, (20, 40)),
}
LARGE = {
    "residual": residual_mlp(128, 4),
    "mixer": mixer_block(64, 64, (128, 256)),
    "mixer, shapes that do not divide": mixer_block(21, 44, (30, 52)),
    "mixer, 16 bits": mixer_block(16, 32, (32, 64), bits=16),
}
CYCLES = {"residual": 1692, "mixer": 6378, "mixer, shapes that do not divide": 1919, "mixer, 16 bits": 1830}
"""What they took once: worse is to be seen. Better moves the figure."""


def made_of(model: onnx.ModelProto, platform: AieMl) -> Compiled:
    network = import_model(model, name="graph", keep_batch=True)
    return compile_network(network, platform, backend=AieMlBackend())


@pytest.mark.parametrize("name", SMALL)
def test_on_the_rtl(name):
    made = made_of(SMALL[name], PLATFORM)
    check_runs(made, normal_inputs(made.network, 2, 1))


@pytest.mark.parametrize("name", SMALL)
def test_one_after_the_other(name):
    """Without a gap, and with random ones: what waits in a memory tile is neither lost nor exchanged."""
    made = made_of(SMALL[name], PLATFORM)
    given, image = normal_inputs(made.network, 16, 2), made.image.to_bytes()
    expected = stream_iss(PLATFORM, image, given)
    found, late = stream_rtl(PLATFORM, image, given), stream_rtl(PLATFORM, image, given, gap_seed=77)
    assert found.ends == expected.ends and found.interval < made.iss_cycles / 4 and late.ends[-1] > found.ends[-1]
    for inputs, *results in zip(given, found.results, late.results, strict=True):
        want = evaluate(made.network, inputs)
        assert all((values == want[name]).all() for each in results for name, values in each.items())


@pytest.mark.parametrize("name", LARGE)
def test_on_the_simulator(name):
    made = made_of(LARGE[name], WHOLE)
    assert made.iss_cycles <= CYCLES[name]
    given = normal_inputs(made.network, 2, 1)
    check_run(made, BENCH.run(WHOLE, made.image.to_bytes(), given, backend="iss", seed=3), given)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_ones_on_the_rtl(name):
    made = made_of(LARGE[name], WHOLE)
    check_runs(made, normal_inputs(made.network, 1, 1))
