# SPDX-License-Identifier: Apache-2.0
"""200 random layers that nobody has seen before: every bit right, the cycles of the ISS within their limits.

`--seed` makes 200 others.
"""

from __future__ import annotations

from collections import Counter

import pytest
from nncosim.compiler.compile import compile_network
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import ComparedRun, command, run_compiled, saturated
from nncosim.regress.random_layers import LAYERS, random_layer

GROUP = 20  # layers in one test: a failure names the layer, and few tests share the cost of starting
MAY_SATURATE = 0.05


def run_layer(seed: int, index: int, backend: str) -> tuple[str, ComparedRun]:
    text, network = random_layer(seed, index)
    return text, run_compiled(compile_network(network, PLATFORM), backend, "direct", seed=seed)


def check(indices: range, seed: int, backend: str, test: str) -> None:
    """Runs layers; fails with all that do not hold."""
    found = []
    worst = 0.0
    for index in indices:
        text, run = run_layer(seed, index, backend)
        problems = run.problems()
        if not problems and not text.startswith("max"):
            share = saturated(run.compiled.network, run.result.frames[0].tensors)
            elements = min(t.size for t in run.result.frames[0].tensors.values())
            # A handful of values may lie at an end by chance.
            problems += [f"{share:.1%} saturated"] if share > MAY_SATURATE + 4 / elements else []
        found += [f"layer {index} ({text}): {problem}" for problem in problems]
        worst = max(worst, abs(run.cycles / run.compiled.iss_cycles - 1))
    print(f"{len(indices)} layers on {backend}, cycles off those of the ISS by {worst:.2%} at most")
    again = command("regress/test_random_layers.py", test, backend, "direct", seed)
    assert not found, "\n".join([f"seed {seed}", *found, f"repeat with: {again}"])


@pytest.mark.parametrize("first", range(0, LAYERS, GROUP))
def test_layers(first, backend, seed):
    check(range(first, first + GROUP), seed, backend, f"test_layers[{backend}-{first}]")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(LAYERS, 10 * LAYERS, GROUP))
def test_more_layers(first, seed):
    check(range(first, first + GROUP), seed, "rtl", f"test_more_layers[{first}]")


def test_the_layers_are_of_all_kinds(seed):
    """And the same for the same seed, others for another."""
    texts = [random_layer(seed, index)[0] for index in range(LAYERS)]
    kinds = Counter(text.split()[0] for text in texts)
    assert len(kinds) == 12 and min(kinds.values()) >= 1, kinds
    assert len(set(texts)) > LAYERS - 5
    assert random_layer(seed, 3)[0] == texts[3] != random_layer(seed + 1, 3)[0]


def test_layers_of_a_machine_that_has_few_kinds(seed):
    layers = [random_layer(seed, index, {"dense": 3, "add": 1}, most_macs=50_000) for index in range(20)]
    assert {text.split()[0] for text, _ in layers} == {"dense", "add"}
    assert all(type(op).__name__ in ("Conv", "Add") for _, network in layers for op in network.ops)
