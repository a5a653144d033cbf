# SPDX-License-Identifier: Apache-2.0
"""Graph inputs as a camera gives them: what lies so, which are packed on their way, that random layers are exact."""

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.ir.layout import Layout
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Concat, Conv
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.packed import is_interleaved, packed_input
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import INT8, UINT8, NetworkBuilder
from nncosim.regress.cases import case, conv
from nncosim.regress.harness import run_compiled
from nncosim.tb.j3dai.capture import places
from nncosim.tb.run.capture import pack_input


def test_an_image_lies_in_l2_as_a_camera_gives_it():
    compiled = compile_network(conv(1, 3, 192, 256, 32, 3, 2, source=UINT8), PLATFORM)
    place = places(compiled.image)["x"]
    image = np.random.default_rng(1).integers(0, 256, (3, 192, 256))
    assert pack_input(place, image) == image.transpose(1, 2, 0).astype(np.uint8).tobytes()
    assert compiled.image.tiles["x"].size == 147_456 == 3 * 192 * 256
    assert place.layout == Layout("H W C")


def test_only_the_end_is_filled_up():
    compiled = compile_network(conv(1, 3, 7, 9, 8, 3), PLATFORM)
    place = places(compiled.image)["x"]
    image = np.arange(3 * 7 * 9).reshape(3, 7, 9) - 90
    assert pack_input(place, image) == image.transpose(1, 2, 0).astype(np.int8).tobytes() + bytes(3)


@pytest.mark.parametrize(("name", "packed"), [
    ("packed3x3_s2", True), ("packed3x3_s1", True), ("packed_read_twice", True), ("packed_read_twice_out", True),
    ("packed_not_padvalue", False), ("packed_not_7x7", False), ("dw3x3_odd", False), ("conv1x1_odd", False),
])  # fmt: skip
def test_which_are_packed(name, packed):
    network = case(name).build(1)
    convs = [op for op in network.ops if isinstance(op, Conv) and op.inputs[0] in network.inputs]
    assert convs and {packed_input(op, network, PLATFORM) is not None for op in convs} == {packed}


def test_channels_that_fill_more_than_a_word_are_block_planar():
    network = conv(1, 17, 8, 8, 16, 3)
    assert not is_interleaved("x", network, PLATFORM)
    assert is_interleaved("x", network, PLATFORM.with_parameters(ncbs_per_cluster=32))


def several(seed: int) -> Network:
    """Inputs of few channels, read by all kinds of operators, some by two."""
    b, rng = NetworkBuilder(seed), np.random.default_rng([seed, 4])
    c, h, w = int(rng.integers(1, 16)), int(rng.integers(3, 20)), int(rng.integers(3, 40))
    x, y = b.input(c, h, w), b.input(c, h, w)
    outputs = [
        b.add(x, y), b.conv(x, 20, 3, 2), b.depthwise(y), b.concat(y, x), b.conv(b.add(y, x), 8, 3),
        b.conv(y, 9, int(rng.integers(1, 4))),
    ]  # fmt: skip
    if rng.random() < 0.5:
        outputs.append(x)
    return b.build("several", *outputs)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [
    {}, {"ncbs_per_cluster": 32, "pes_per_ncb": 16}, {"ncbs_per_cluster": 8, "pes_per_ncb": 4}, {"dmpa_bits": 256},
], ids=str)  # fmt: skip
def test_all_readers(seed, settings):
    """Packed, unpacked and fused; each graph input is read by GATHERs alone."""
    compiled = compile_network(several(seed), PLATFORM.with_parameters(**settings))
    assert run_compiled(compiled, "iss", seed=seed, frames=2).problems() == []
    operations = {name: set() for name in compiled.network.inputs}
    for layer in compiled.lowered.private.layers:
        for t in layer.transfers:
            for p in t.pieces:
                if p.buffer in operations:
                    operations[p.buffer].add(p.gather is not None)
    word = PLATFORM.with_parameters(**settings).word_bytes
    for name, found in operations.items():
        assert found == {compiled.network.tensors[name].shape[0] < word}


@pytest.mark.parametrize("seed", range(16))
def test_random_convolutions(seed):
    rng = np.random.default_rng([seed, 9])
    source = [INT8, UINT8][rng.integers(2)]
    kernel = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    h, w = int(rng.integers(kernel[0], 25)), int(rng.integers(kernel[1], 70))
    pad = tuple(int(p) for p in rng.integers(0, [*kernel, *kernel]))
    network = conv(
        seed, int(rng.integers(1, 6)), h, w, int(rng.integers(1, 40)), kernel, int(rng.integers(1, 4)), pad,
        source=source, pad_value=int(rng.integers(source.lo, source.hi + 1)), rounding=None,
    )  # fmt: skip
    compiled = compile_network(network, PLATFORM.with_parameters(clusters=int(rng.integers(1, 9))))
    assert run_compiled(compiled, "iss", seed=seed, frames=2).problems() == []


def held(network: Network) -> dict[str, int]:
    return {name: held_channels(name, network, PLATFORM) for name in network.tensors}


def test_blocks_hold_evenly_many_channels():
    """Channelwise operators keep what they read; what is joined lies without gaps."""
    b = NetworkBuilder(1)
    first = b.conv(b.input(33, 6, 9), 24, 1)
    second = b.add(first, b.depthwise(first))
    third = b.conv(second, 40, 1)
    joined = b.concat(b.conv(third, 24, 1), b.conv(third, 16, 1))
    network = b.build("even", joined)
    found = held(network)
    assert found["x0"] == 11 and found[first] == found[second] == 12 and found[third] == 14
    assert all(found[name] == 16 for op in network.ops if isinstance(op, Concat) for name in (*op.inputs, op.output))
    assert run_compiled(compile_network(network, PLATFORM), "iss", seed=1).problems() == []


def test_even_blocks_save_a_quarter():
    """24 channels cost as many micro-operations as 24 lanes, not 32."""
    cycles = {c: compile_network(conv(1, c, 32, 64, 96, 1), PLATFORM).iss_cycles for c in (24, 32)}
    assert cycles[24] < 0.8 * cycles[32]
