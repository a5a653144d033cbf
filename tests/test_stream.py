# SPDX-License-Identifier: Apache-2.0
"""Layers that no cluster's memories can hold: streamed in slices, on machines of a few KiB, on the simulator."""

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import CompileError
from nncosim.compiler.j3dai.fold import assemble
from nncosim.compiler.j3dai.stream import StreamPlan, make_stream_plan, stream_code
from nncosim.compiler.tiling.grids import Grid
from nncosim.kernels.j3dai import KERNELS
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.builder import INT8, UINT8
from nncosim.regress.cases import conv, pool, resize, table
from nncosim.regress.harness import run_compiled

TINY = {"l1_bytes": 2048, "wmem_bytes": 2048}


def streamed(network, **settings):
    """The plan that was taken, after a run that must be exact."""
    compiled = compile_network(network, PLATFORM.with_parameters(**settings))
    assert run_compiled(compiled, "iss", seed=3).problems() == []
    return compiled.lowered.private.layers[0].code.plan


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        (lambda: conv(1, 512, 5, 6, 20, 7), {"l1_bytes": 8192}),
        (lambda: conv(1, 24, 20, 30, 24, (65, 50), 1, (32, 25, 32, 25), groups=24), {}),  # depthwise, 3,250 weights
        (lambda: conv(1, 24, 20, 30, 24, 9, 2, groups=24), TINY),
        (lambda: conv(1, 40, 9, 21, 33, 5, source=UINT8, pad_value=7, rounding=None), TINY),
        (lambda: conv(1, 96, 6, 19, 64, 3, 3, groups=2), TINY),  # blocks that read other channels
        (lambda: conv(1, 24, 14, 12, 20, 5, 2, (0, 1, 3, 4), dilation=(3, 2)), TINY),
        (lambda: conv(1, 2400, 3, 21, 20, 1), TINY),  # walked as one row
        (lambda: conv(1, 3, 60, 40, 20, (41, 3), 2), TINY),  # packed input
        (lambda: pool(1, "sum", 40, 100, 90, 90, 1), {}),
        (lambda: pool(1, "max", 40, 20, 24, 13, 2, 6, UINT8), TINY),
    ],
    ids=["7x7x512", "dw65x50", "dw9", "conv5", "groups", "dilated", "flat", "packed", "mean", "max"],
)  # fmt: skip
def test_streamed(network, settings):
    assert isinstance(streamed(network(), **settings), StreamPlan)


def test_a_result_of_many_columns_is_cut_by_pixels():
    assert not isinstance(streamed(resize(1, 24, 5, 7, 2, 14), l1_bytes=2048), StreamPlan)


def random_layer(rng):
    """A convolution, a depthwise one or a maximum, of any shape."""
    h, w = int(rng.integers(3, 24)), int(rng.integers(3, 40))
    kernel = (int(rng.integers(1, min(h, 9) + 1)), int(rng.integers(1, min(w, 9) + 1)))
    stride, source = int(rng.integers(1, 4)), [INT8, UINT8][rng.integers(2)]
    pad = tuple(int(p) for p in rng.integers(0, min(kernel), 4)) if min(kernel) > 1 else 0
    channels, kind = int(rng.integers(1, 90)), rng.integers(3)
    seed = int(rng.integers(1 << 30))
    if kind == 0:
        return pool(seed, "max", channels, h, w, min(kernel), stride, 0, source)
    groups, out = (channels, channels) if kind == 1 else (1, int(rng.integers(1, 50)))
    value = int(rng.integers(source.lo, source.hi + 1))
    return conv(seed, channels, h, w, out, kernel, stride, pad, groups, source, pad_value=value, rounding=None)


@pytest.mark.parametrize("seed", range(12))
def test_random_layers_on_small_machines(seed):
    rng = np.random.default_rng([seed, 5])
    settings = {
        "l1_bytes": int(rng.choice([2048, 4096, 16384])), "wmem_bytes": int(rng.choice([2048, 4096, 32768])),
        "clusters": int(rng.integers(1, 9)),
    }  # fmt: skip
    streamed(random_layer(rng), **settings)


def test_programs_do_not_grow_with_the_map():
    """Slices differ from each other by differences only, so that all jobs fold into loops."""
    sizes = []
    for height in (9, 36):
        network = conv(1, 64, height, 40, 16, 5)
        platform = PLATFORM.with_parameters(**TINY)
        plan = make_stream_plan(KERNELS[0].code(network.ops[0], network, platform), platform, Grid(1, 1, 1), slots=1)
        sizes.append(len(assemble(stream_code(plan, plan.regions[0]).units)))
    assert sizes[1] <= sizes[0] + 40


def test_what_cannot_run_says_why():
    """A look-up table takes 2 KiB of L1, all there is."""
    with pytest.raises(CompileError, match=r"table: no tile fits a cluster.*l1_bytes would help"):
        compile_network(table(1, 16, 8, 8), PLATFORM.with_parameters(**TINY))
