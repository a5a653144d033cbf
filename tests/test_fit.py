# SPDX-License-Identifier: Apache-2.0
"""The early answer to "can this fit?": a lower bound, never above what a compilation needs, and before the work."""

from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler import compile as compiler
from nncosim.compiler.compile import check_network, compile_network
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.j3dai.backend import BACKEND
from nncosim.compiler.placement.placement import PlacementError
from nncosim.compiler.placement.room import Room, check_room, least_need
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import NetworkBuilder, mobilenet_like, random_network
from nncosim.regress.cases import CASES, chain
from nncosim.regress.harness import compile_digits

APART = Room("l2", 8)
"""Of a machine that fuses nothing."""


def fusing(network, most, *apart):
    """Of a machine that fuses up to so many operators, each with its only reader; not those of the kinds `apart`."""
    reads = [name for op in network.ops for name in op.inputs]
    inside = {op.output for op in network.ops if reads.count(op.output) == 1 and op.kind not in apart}
    return replace(APART, most_fused=most, inside=frozenset(inside - set(network.outputs)))


def peak(compiled) -> int:
    return next(use.peak for use in compiled.memory if use.memory == "l2")


def straight(*sizes: int):
    """1x1 convolutions in a row, over 8 x 8 pixels."""
    b = NetworkBuilder(3)
    at = b.input(sizes[0], 8, 8)
    for channels in sizes[1:]:
        at = b.conv(at, channels, 1)
    return b.build("straight", at)


def test_a_row_of_operators_by_hand():
    network = straight(16, 32, 64, 48, 32, 16)
    least = least_need(network, APART)
    assert list(least.weights.values()) == [16 * 32, 32 * 64, 64 * 48, 48 * 32, 32 * 16]
    assert least.tensors == {"t1": 64 * 64} and least.total == sum(least.weights.values()) + 4096
    # of three in a row one is in the memory: the smallest at best
    pairs = [min(a, b) for a, b in ((32, 64), (64, 48), (48, 32))]
    assert sum(least_need(network, fusing(network, 2)).tensors.values()) == 64 * max(pairs)
    assert least_need(network, fusing(network, 9)).tensors == {"x0": 16 * 64}
    assert sum(least_need(network, replace(APART, element_bits=16)).tensors.values()) == 2 * 4096


def test_what_two_operators_read_cannot_stay_inside():
    b = NetworkBuilder(4)
    x = b.input(8, 8, 8)
    wide = b.conv(x, 64, 1)
    y = b.add(b.conv(wide, 64, 1), b.conv(wide, 64, 3))
    network = b.build("diamond", b.conv(y, 8, 1))
    least = least_need(network, fusing(network, 9))
    assert least.tensors in ({wide: 4096, "t1": 4096}, {wide: 4096, "t2": 4096})
    # Where nothing is fused, the sum finds both that it reads.
    assert sum(least_need(network, APART).tensors.values()) == 4096 + 4096
    # A group that ends in the sum reads what its members read: the wide tensor, and the other branch.
    assert sum(least_need(network, fusing(network, 2)).tensors.values()) == 4096 + 4096
    with_output = replace(network, outputs=(*network.outputs, "t1"))
    assert sum(least_need(with_output, fusing(with_output, 9)).tensors.values()) == 4096 + 4096


def test_what_lies_inside_a_concatenation_counts_once():
    b = NetworkBuilder(6)
    x = b.input(8, 8, 8)
    a, c = b.conv(x, 32, 1), b.conv(x, 32, 3)
    both = b.concat(a, c)
    network = b.build("joined", b.add(b.conv(both, 32, 1), a), both)
    for most in (1, 2, 9):
        assert sum(least_need(network, fusing(network, most)).tensors.values()) <= 64 * (64 + 32)
    assert sum(least_need(network, fusing(network, 9)).tensors.values()) >= 64 * 64


def test_a_kind_that_is_never_fused():
    """The larger map of a decoder's step: its result and the skipped map are there together, however it is fused."""
    b = NetworkBuilder(7)
    low = b.conv(b.input(16, 8, 8), 32, 1)
    skip = b.conv(b.input(16, 16, 16), 16, 1)
    wide = b.conv(skip, 32, 1)
    network = b.build("decoder", b.conv(b.add(wide, b.resize(low, 2, 2)), 16, 1), skip)
    free, kept = fusing(network, 9), fusing(network, 9, "resize")
    upsampled, skipped = 32 * 256, 16 * 256
    assert sum(least_need(network, kept).tensors.values()) == upsampled + skipped
    # Fused with what makes it, the upsampled map need not be there, but the wide one and the small input are.
    assert least_need(network, free).tensors == {wide: upsampled, "x0": 16 * 64}


def test_equal_channels_of_weights_count_once():
    network = straight(16, 32)
    (op,) = network.ops
    assert isinstance(op, Conv)
    same = network.with_ops((replace(op, weights=np.concatenate([op.weights[:16]] * 2)),))
    assert sum(least_need(network, APART).weights.values()) == 512
    assert sum(least_need(same, APART).weights.values()) == 256


NETWORKS = {
    **{case.name: case.build for case in CASES if "large" not in case.tags},
    **{f"random{seed}": lambda _, s=seed: random_network(s) for seed in range(12)},
    "mobilenet_like": lambda seed: mobilenet_like(seed, 32, 48),
    "chain": chain,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_compilation_needs_less(name):
    """Whatever compiles uses at least what the bound says, and keeps nothing inside that the bound wants outside."""
    network = NETWORKS[name](5)
    compiled = compile_network(network, PLATFORM)
    room = BACKEND.room(network, PLATFORM)
    assert 0 < least_need(network, room).total <= peak(compiled)
    assert compiled.lowered.inside <= room.inside


@pytest.mark.parametrize("name", ["mobilenet_like", "random3", "conv3x3_16", "chain"])
def test_on_ever_smaller_memories(name):
    """From what the first compilation used down to nothing: what still compiles is above the bound."""
    network = NETWORKS[name](5)
    least = least_need(network, BACKEND.room(network, PLATFORM)).total
    size = peak(compile_network(network, PLATFORM))
    while size > least // 2:
        size = max(size * 4 // 5 // PLATFORM.line_bytes, 1) * PLATFORM.line_bytes
        result = check_network(network, PLATFORM.with_parameters(l2_bytes=size))
        if result.compiled is not None:
            assert size >= least
        elif size < least:
            assert "at least" in str(result.problems[0])


def test_what_cannot_fit_is_refused_before_the_work():
    """Nothing is proved, lowered or placed; the message has tensor, bytes and limit."""
    network = compile_digits().network
    passes: list[str] = []
    with pytest.raises(PlacementError) as error:
        compile_network(network, PLATFORM.with_parameters(l2_bytes=8192), progress=passes.append)
    assert passes == ["legalize", "fit"] == [step.name for step in compiler.PASSES[:2]]
    text = str(error.value)
    least = least_need(network, BACKEND.room(network, PLATFORM))
    assert "memory 'l2' holds 8192 bytes" in text and f"needs {least.total} at least" in text
    (tensor,) = least.tensors
    assert f"tensor {tensor} (" in text and "weights 1" in text and "would help" in text
    assert error.value.missing == least.total - 8192


def test_an_input_that_is_too_large_is_named():
    network = straight(16, 16)
    big = replace(network, tensors={
        name: replace(tensor, shape=(16, 1024, 512)) for name, tensor in network.tensors.items()
    })  # fmt: skip
    with pytest.raises(PlacementError, match=r"tensor x0 \(16 x 1024 x 512\) 8,388,608; a smaller input"):
        check_room(big, PLATFORM, BACKEND.room(big, PLATFORM))
