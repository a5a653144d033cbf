# SPDX-License-Identifier: Apache-2.0
"""The readable schedule: what was chosen, what lost, and why."""

import json

import pytest
from nncosim.compiler.compile import compile_network
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import NetworkBuilder
from nncosim.regress.cases import case


def schedule(network, **settings):
    compiled = compile_network(network, PLATFORM.with_parameters(**settings))
    files = compiled.lowered.files
    return compiled, files["schedule.txt"], json.loads(files["schedule.json"])["layers"]


@pytest.fixture(scope="module")
def mobilenet():
    return schedule(case("mobilenet_like").build(1))


def test_each_layer_has_its_plan_and_its_rivals(mobilenet):
    compiled, text, layers = mobilenet
    assert [layer["layer"] for layer in layers] == [step.name for step in compiled.image.notes.steps]
    assert [m for layer in layers for m in layer["members"]] == [op.name for op in compiled.network.ops]
    for layer in layers:
        assert layer["plan"] in text
        measured = {p["verdict"]: p["cycles"] for p in layer["plans"] if p["cycles"] is not None}
        assert measured["chosen"] == min(measured.values()) == layer["cycles_alone"]
        for verdict, cycles in measured.items():
            if verdict != "chosen":
                assert verdict == f"slower by {cycles - measured['chosen']} cycles"


def test_no_dashes_and_one_step_is_one(mobilenet):
    _, text, layers = mobilenet
    assert "1 step," in text or "1 step of" in text
    assert "1 steps" not in text and "of 1 blocks" not in text and "cycles -" not in text and "estimated -" not in text
    guessed = [p for layer in layers for p in layer["plans"] if p["cycles"] is None and p["estimate"] is not None]
    assert guessed and all(f"estimated {p['estimate']} cycles: {p['verdict']}" in text for p in guessed)


def test_groups_say_what_they_save(mobilenet):
    _, text, layers = mobilenet
    fused = [layer for layer in layers if len(layer["members"]) > 1]
    assert fused and "one by one: slower by" in text
    for layer in fused:
        alone = next(g for g in layer["groups"] if g["verdict"].startswith("one by one"))
        assert alone["members"] == layer["members"] and alone["cycles"] > layer["cycles_alone"]


def test_layers_of_one_shape_are_alike():
    """The second is not searched again, and its schedule names nobody else's operators."""
    b = NetworkBuilder(1)
    at = b.conv(b.input(32, 12, 16), 32, 1)
    for _ in range(2):
        at = b.conv(b.depthwise(at), 32, 1)
    _, _, layers = schedule(b.build("twins", at))
    for layer in layers:
        others = {m for other in layers if other is not layer for m in other["members"]}
        assert not any(name in plan["plan"].split() for plan in layer["plans"] for name in others)


@pytest.mark.parametrize(
    ("name", "memory", "size"), [("conv3x3_stream", "WMEM", 2048), ("conv1x1_128", "L1", 1024)]
)
def test_what_did_not_fit_says_what_it_needs(name, memory, size):
    _, text, layers = schedule(case(name).build(1), l1_bytes=16384)
    refused = [p for layer in layers for p in layer["plans"] if p["estimate"] is None]
    assert refused and all(f"words of {memory} for" in p["verdict"] and p["cycles"] is None for p in refused)
    assert f"of {size}" in text


def test_the_same_network_gives_the_same_schedule(mobilenet):
    assert schedule(case("mobilenet_like").build(1))[1] == mobilenet[1]
