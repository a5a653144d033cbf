# SPDX-License-Identifier: Apache-2.0
"""Fused groups: every tensor exact, those that stay in L1 included, on both backends; cycles those of the ISS."""

from __future__ import annotations

import numpy as np
import pytest
from nncosim.compiler.image.image import Image
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.compiler.placement.placement import PlacementError
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import inverted_residuals, separable
from nncosim.regress.cases import random_inputs
from nncosim.regress.fusion import compile_fused, gains, random_chain
from nncosim.regress.harness import run_compiled
from nncosim.tb.j3dai.capture import places
from nncosim.tb.j3dai.iss import Machine
from nncosim.tb.j3dai.l1_capture import capture_l1, inside_places
from nncosim.tb.run.capture import pack_input

CHAINS, ON_RTL = 16, 4


def groups(compiled):
    return [step for step in compiled.image.notes.steps if len(step.ops) > 1]


def check(compiled, backend, driver="direct", seed=1):
    run = run_compiled(compiled, backend, driver, seed=seed, frames=2)
    assert run.problems() == []
    assert {t.tensor for t in run.comparison.tensors} >= compiled.lowered.inside
    assert run.cycles == compiled.iss_cycles
    return run


@pytest.mark.parametrize("index", range(CHAINS))
def test_random_chains_on_iss(index, seed):
    compiled = compile_fused(random_chain(seed, index), "prefer")
    assert groups(compiled) and compiled.lowered.inside
    check(compiled, "iss", seed=seed)


@pytest.mark.parametrize("index", range(ON_RTL))
def test_random_chains_on_rtl(index, driver, seed):
    check(compile_fused(random_chain(seed, index), "prefer"), "rtl", driver, seed)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(CHAINS, 5 * CHAINS))
def test_more_random_chains(index, seed):
    check(compile_fused(random_chain(seed, index), "prefer"), "rtl", seed=seed)


@pytest.mark.parametrize(
    "settings",
    [{"clusters": 1, "l1_bytes": 16 * 1024}, {"clusters": 8, "wmem_bytes": 8 * 1024}, {"l1_bytes": 256 * 1024},
     {"pes_per_ncb": 16}, {"ncbs_per_cluster": 8, "pes_per_ncb": 4, "dmpa_bits": 256}],
    ids=str,
)  # fmt: skip
def test_other_machines(settings):
    platform = PLATFORM.with_parameters(**settings)
    check(compile_fused(inverted_residuals(1, 16, (12, 20)), "prefer", platform), "iss")


def test_weights_that_come_in_parts():
    compiled = compile_fused(inverted_residuals(2, 64, (12, 16), 1), "prefer")
    assert any("parts through" in one.plan for one in j3dai_notes(compiled.image).lists)
    check(compiled, "iss")


def test_fusing_by_cost_is_not_slower():
    network = separable(3, 40, (60, 96), 56, 2)
    fused, apart = compile_fused(network), compile_fused(network, "off")
    found = gains(fused, apart)
    assert found and sum(together for _, _, together, _ in found) < sum(alone for *_, alone in found)
    assert fused.iss_cycles < apart.iss_cycles


def test_a_network_that_fits_only_fused():
    """The widened maps are six times the rest; the memory holds a little less than two of them."""
    network = inverted_residuals(4, 16, (64, 64), 1)
    small = PLATFORM.with_parameters(l2_bytes=400 * 1024)
    with pytest.raises(PlacementError, match="'l2'"):
        compile_fused(network, "off", small)
    compiled = compile_fused(network, "cost", small)
    assert compiled.lowered.inside
    check(compiled, "iss")


def test_a_wrong_parameter_of_the_first_member_is_seen_in_its_own_tensor(backend):
    compiled = compile_fused(inverted_residuals(5, count=1), "prefer")
    step = groups(compiled)[0]
    address = L2_BASE + compiled.placement.address[f"{step.name}.parameters"]

    def spoil(image):
        at = next(s for s in compiled.image.segments if s.address <= address < s.address + len(s.data))
        position = image.index(at.data) + address - at.address
        return image[:position] + bytes(b ^ 0x55 for b in image[position : position + 4]) + image[position + 4 :]

    run = run_compiled(compiled, backend, spoil=spoil)
    assert run.comparison.first is not None and run.comparison.first.tensor == step.inside[0]


@pytest.fixture(scope="module")
def recorded():
    """(what stays in L1, what was written there, platform, tensors) of one inference."""
    compiled = compile_fused(inverted_residuals(6, count=1), "prefer")
    image = Image.from_bytes(compiled.image.to_bytes())
    machine = Machine(PLATFORM, seed=1)
    machine.load_elf(compiled.image.to_bytes())
    machine.core.log_l1()
    table = places(image)
    for name, value in random_inputs(compiled.network, 1).items():
        data = np.frombuffer(pack_input(table[name], value), np.uint8)
        machine.l2[table[name].word * PLATFORM.word_bytes :][: len(data)] = data
    assert machine.run_frame(10_000_000).diagnosis is None
    return inside_places(image), machine.core.l1_writes()


def test_elements_computed_twice_must_agree(recorded):
    inside, writes = recorded
    first, disputes = capture_l1(inside, writes, 0, PLATFORM.l1_words, 1)
    assert first and not disputes
    seen = set()
    for k in range(0, len(writes), 7):
        wrong = writes.copy()
        wrong["data"][k] ^= 1
        tensors, disputes = capture_l1(inside, wrong, 0, PLATFORM.l1_words, 1)
        changed = {name for name in first if not np.array_equal(first[name], tensors[name])}
        seen |= {"dispute" for _ in disputes} | {"changed" for _ in changed}
        for text in disputes:
            assert "computed twice" in text and text.split("[")[0] in first
        if len(seen) == 2:
            return
    pytest.fail(f"only {seen} in all records")


def test_what_is_not_written_shows(recorded):
    inside, writes = recorded
    first, _ = capture_l1(inside, writes, 0, PLATFORM.l1_words, 1)
    cluster = inside.tensors[0].pieces[0].cluster
    fewer, _ = capture_l1(inside, writes[writes["cluster"] != cluster], 0, PLATFORM.l1_words, 1)
    name = inside.tensors[0].name
    assert not np.array_equal(first[name], fewer[name])
    assert not capture_l1(inside, writes[:0], 0, PLATFORM.l1_words, 1)[0]
