# SPDX-License-Identifier: Apache-2.0
"""Layers that take their operands from the west neighbour's memory, on RTL and simulator: every bit, every cycle."""

from collections.abc import Sequence
from dataclasses import replace

import onnx
import pytest
from nncosim.compiler.aie_ml import linking
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.aie_ml_checks import check_runs, normal_inputs
from nncosim.regress.dense_models import DenseSpec, dense_network
from nncosim.regress.token_models import residual_mlp
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.streaming import stream_iss, stream_rtl

PLATFORM = AieMl(columns=4, rows=4, memory_rows=1)
ONE = 1, 1
NETWORKS = {
    "jet_tagger": (dense_network(DenseSpec((16, 64, 32, 32, 8))), [ONE] * 4, 3),
    "chains": (dense_network(DenseSpec((64, 64, 40), batch=20)), [ONE, (3, 1)], 1),
    "16 bits": (dense_network(DenseSpec((24, 40, 20), batch=5, bits=16)), [(2, 1), ONE], 1),
    "a sum, by rows": (residual_mlp(64, 1), [ONE, (1, 2), (1, 2)], 2),
    "two sums": (residual_mlp(24, 2, batch=5), [ONE] * 6, 4),
}


def made_of(model: onnx.ModelProto, splits: Sequence[tuple[int, int]] = (), objective: str = "latency") -> Compiled:
    network = import_model(model, name="net", keep_batch=True)
    return compile_network(network, PLATFORM, backend=AieMlBackend(splits=splits, objective=objective))


def shared_in(made: Compiled) -> int:
    return len(made.lowered.private.plan.shared)


@pytest.mark.parametrize("name", NETWORKS)
def test_on_the_rtl(name):
    made = made_of(*NETWORKS[name][:2])
    assert shared_in(made) == NETWORKS[name][2]
    check_runs(made, normal_inputs(made.network, 3, 1))


def test_fourteen_layers_in_sixteen_tiles():
    """Lines of four tiles: ten of thirteen tensors stay where they are made."""
    made = made_of(dense_network(DenseSpec((64,) * 15)), objective="fewest")
    assert shared_in(made) == 10 and made.iss_cycles <= 2852
    check_runs(made, normal_inputs(made.network, 2, 2))


@pytest.mark.parametrize("name", ["jet_tagger", "two sums"])
def test_one_after_the_other(name):
    """Without a gap, and with random ones: the two copies of each buffer in turn."""
    made = made_of(*NETWORKS[name][:2])
    given, image = normal_inputs(made.network, 16, 3), made.image.to_bytes()
    expected = stream_iss(PLATFORM, image, given)
    found, late = stream_rtl(PLATFORM, image, given), stream_rtl(PLATFORM, image, given, gap_seed=77)
    assert found.ends == expected.ends and late.ends[-1] > found.ends[-1]
    for inputs, *results in zip(given, found.results, late.results, strict=True):
        want = evaluate(made.network, inputs)
        assert all((values == want[name]).all() for each in results for name, values in each.items())


@pytest.mark.parametrize("backend", ["iss", "rtl"])
def test_what_the_compiler_refuses_is_wrong(monkeypatch, backend):
    """Takers begin with the other copy, and no check looks: the first layer's bits are right, no other's."""
    made, right = made_of(*NETWORKS["jet_tagger"][:2]), linking._homes
    monkeypatch.setattr(linking, "wrong_turns", lambda segments, generation: [])
    monkeypatch.setattr(linking, "_homes", lambda plan, at: {
        name: replace(each, west=each.west[::-1]) for name, each in right(plan, at).items()})  # fmt: skip
    image = linking.linked(made.network, PLATFORM, made.lowered.private, made.placement).to_bytes()
    (given,) = normal_inputs(made.network, 1, 4)
    run = BENCH.run(PLATFORM, image, [given], backend=backend, driver="direct" if backend == "rtl" else None, seed=3)
    want = evaluate(made.network, given)
    found = [(run.frames[0].tensors[op.output] == want[op.output]).all() for op in made.network.ops]
    assert found == [True, False, False, False]
