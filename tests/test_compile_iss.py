# SPDX-License-Identifier: Apache-2.0
"""Compiled images on the instruction-set simulator: every tensor of every case, against the exact executor."""

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.image.image import read_tiles
from nncosim.compiler.image.tiles import tensor_from_bytes, tensor_to_bytes
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import CASES, case, random_inputs
from nncosim.tb.j3dai.iss import Machine

SEED = 1


def run(network, platform=PLATFORM, frames=2, spoil=None):
    """(first frame's result, names of wrong outputs, bytes that changed and belong to nothing)."""
    compiled = compile_network(network, platform)
    places = read_tiles(compiled.image)
    machine = Machine(platform, seed=SEED)
    machine.load_elf(compiled.image.stripped().to_bytes())
    if spoil is not None:
        spoil(machine)
    before = machine.l2.copy()
    wrong, results = [], []
    for frame in range(frames):
        inputs = random_inputs(network, SEED + frame)
        for name, value in inputs.items():
            put(machine, places[name], value)
        results.append(machine.run_frame(20_000 + 4 * compiled.iss_cycles))
        assert results[-1].diagnosis is None, results[-1].diagnosis
        expected = evaluate(compiled.network, inputs)
        wrong += [name for name in network.outputs if not np.array_equal(get(machine, places[name]), expected[name])]
    for place in (place for place in places.values() if place.fragments):
        at, size = place.only.address - L2_BASE, place.size
        before[at:][:size] = machine.l2[at:][:size]
    return results, wrong, int((before != machine.l2).sum())


def put(machine, place, value):
    for fragment, data in tensor_to_bytes(place, value):
        machine.l2[fragment.address - L2_BASE :][: len(data)] = np.frombuffer(data, np.uint8)


def get(machine, place):
    return tensor_from_bytes(place, lambda part, size: machine.l2[part.address - L2_BASE :][:size].tobytes())


@pytest.mark.parametrize("c", [c for c in CASES if "large" not in c.tags], ids=lambda c: c.name)
def test_case(c):
    _, wrong, stray = run(c.build(SEED))
    assert wrong == []
    assert stray == 0, "bytes of L2 outside all tensors changed"


@pytest.mark.parametrize(
    "settings",
    [{"clusters": 1}, {"clusters": 4}, {"clusters": 8}, {"dmpa_bits": 128}, {"l1_bytes": 8192, "wmem_bytes": 4096}],
    ids=str,
)
@pytest.mark.parametrize("name", ["conv3x3_24ch_odd", "dw5x5_s2", "conv3x3_stream", "add_mixed_signs", "chain"])
def test_other_platforms(name, settings):
    _, wrong, stray = run(case(name).build(SEED), PLATFORM.with_parameters(**settings), frames=1)
    assert wrong == [] and stray == 0


def test_a_wrong_weight_is_seen():
    network = case("conv3x3_16").build(SEED)
    weights = compile_network(network, PLATFORM).placement.address["conv.parameters"] + 256  # behind the records

    def spoil(machine):
        machine.l2[weights + 100] ^= 0x10

    assert run(network, frames=1, spoil=spoil)[1] == ["y"]


@pytest.mark.parametrize(("name", "share"), [("conv3x3_128", 0.85), ("conv1x1_128", 0.85), ("dw3x3_128", 0.38)])
def test_performance_targets(name, share):
    network = case(name).build(SEED)
    (result,), wrong, _ = run(network, frames=1)
    macs = network.ops[0].weights.size * 32 * 32
    assert wrong == []
    assert macs / result.cycles >= share * PLATFORM.peak_macs_per_cycle


@pytest.mark.parametrize("c", [c for c in CASES if not c.tags & {"large", "extreme"}], ids=lambda c: c.name)
def test_cases_use_the_range_of_their_outputs(c):
    """A case whose results saturate or hardly vary would not see a wrong bit."""
    network = c.build(SEED)
    for name in network.outputs:
        if network.tensors[name].shape[1:] == (1, 1) or "random" in c.name:
            continue
        t = network.tensors[name].type
        values = np.concatenate([evaluate(network, random_inputs(network, s))[name].ravel() for s in range(20)])
        if "max" not in c.name and "resize" not in c.name:
            assert np.mean((values <= t.lo) | (values >= t.hi)) < 0.01
        assert len(np.unique(values)) > 50
