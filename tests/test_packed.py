# SPDX-License-Identifier: Apache-2.0
"""Packed graph inputs: what is packed, how small it gets, and that random convolutions over them are exact."""

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.ir import Concat, Network
from nncosim.compiler.layout import size_bytes
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.packed import packed_layout
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import INT8, UINT8, NetworkBuilder
from nncosim.regress.cases import case, conv
from nncosim.regress.harness import run_compiled


def test_an_image_takes_a_quarter_of_its_words():
    network = conv(1, 3, 192, 256, 32, 3, 2, source=UINT8)
    layout = packed_layout("x", network, PLATFORM)
    assert layout is not None
    assert size_bytes((3, 192, 256), layout) == 196_608 == 192 * 256 * 16 // 4


@pytest.mark.parametrize("name", ["packed_not_padvalue", "packed_not_7x7", "packed_read_twice", "packed_read_twice_out",
                                  "dw3x3_odd", "conv1x1_odd"])  # fmt: skip
def test_what_stays_as_it_is(name):
    network = case(name).build(1)
    assert all(packed_layout(tensor, network, PLATFORM) is None for tensor in network.tensors)


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
