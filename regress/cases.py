# SPDX-License-Identifier: Apache-2.0
"""Single-layer cases: one table for the RTL regressions, the instruction-set simulator and the compiler's tests.

Every case is a network of one operator (plus what it needs), built from a seed. Weights and requantization are scaled
so that outputs use their range and under 1 % saturate, unless the case is about extreme values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.network import Network, Op, QuantFunction, Tensor, TensorType
from nncosim.compiler.ir.operators import Add, Concat, Conv, Pool, Requantize, Resize, Table
from nncosim.platforms.rounding import HARDWARE_ROUNDINGS, Rounding
from nncosim.regress.builder import (
    INT8,
    UINT8,
    NetworkBuilder,
    fit,
    inverted_residuals,
    mobilenet_like,
    random_network,
    separable,
)

__all__ = ["CASES", "Case", "case", "chain", "random_inputs"]


@dataclass(frozen=True)
class Case:
    """`build(seed)` gives the network. `tags`: "small" (RTL in under a second), "large", "extreme"."""

    name: str
    build: Callable[[int], Network]
    tags: frozenset[str] = frozenset({"small"})


def random_inputs(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Uniform random values over each graph input's range, int64 (C, H, W)."""
    rng = np.random.default_rng([seed, 77])
    out = {}
    for name in network.inputs:
        t = network.tensors[name]
        out[name] = rng.integers(t.type.lo, t.type.hi + 1, t.shape)
    return out


def _fit(
    rng: np.random.Generator, op: Op, sources: list[Tensor], out: TensorType, rounding: Rounding | None, bits: int
) -> Op:
    """Fitted on random data."""
    sample = [rng.integers(t.type.lo, t.type.hi + 1, t.shape) for t in sources]
    return fit(rng, op, sample, out, rounding, bits)


def _network(name: str, sources: list[Tensor], ops: list[Op], made: list[Tensor], outputs: tuple[str, ...]) -> Network:
    tensors = {t.name: t for t in (*sources, *made)}
    inputs = tuple(t.name for t in sources)
    shapes = {n: (1, *tensors[n].shape) for n in (*inputs, *outputs)}
    return Network(name, tensors, tuple(ops), inputs, outputs, shapes)


def conv(
    seed: int, ic: int, h: int, w: int, oc: int, k: int | tuple[int, int], stride: int = 1,
    pad: int | tuple[int, int, int, int] | None = None,
    groups: int = 1, source: TensorType = INT8, out: TensorType = INT8, rounding: Rounding | None = Rounding.HALF_EVEN,
    pad_value: int = 0, dilation: int | tuple[int, int] = 1, bits: int = 24,
) -> Network:  # fmt: skip
    """One convolution.

    pad: on all sides, or (top, left, bottom, right), None: half the kernel.
    rounding: None: another one in each channel.
    """
    rng = np.random.default_rng(seed)
    kh, kw = (k, k) if isinstance(k, int) else k
    dy, dx = (dilation, dilation) if isinstance(dilation, int) else dilation
    half = (kh // 2 * dy, kw // 2 * dx)
    pads = (*half, *half) if pad is None else (pad,) * 4 if isinstance(pad, int) else pad
    oh = (h + pads[0] + pads[2] - (kh - 1) * dy - 1) // stride + 1
    ow = (w + pads[1] + pads[3] - (kw - 1) * dx - 1) // stride + 1
    weights = rng.integers(-128, 128, (oc, ic // groups, kh, kw))
    x, y = Tensor("x", (ic, h, w), source), Tensor("y", (oc, oh, ow), out)
    op = Conv("conv", ("x",), "y", weights=weights, stride=(stride, stride), pads=pads,
              dilation=(dy, dx), groups=groups, pad_value=pad_value)  # fmt: skip
    return _network("conv", [x], [_fit(rng, op, [x], out, rounding, bits)], [y], ("y",))


def whole(seed: int, *args: Any, **named: Any) -> Network:
    """A convolution whose output is its accumulators: a graph output without a Quant."""
    network = conv(seed, *args, **named)
    (op,), x, y = network.ops, network.tensors["x"], network.tensors["y"]
    low, high = op.bounds([x])
    one, zero = (Fraction(1),) * y.shape[0], (Fraction(0),) * y.shape[0]
    kind = TensorType(32, True, (Fraction(1, 64),), 0, int(low.min()), int(high.max()))
    requant = MultiplyShift.uniform(y.shape[0], lo=kind.lo, hi=kind.hi)
    function = QuantFunction((one,), zero, Rounding.HALF_EVEN, kind.lo, kind.hi)
    op = replace(op, requant=requant, function=function)
    return _network("whole", [x], [op], [replace(y, type=kind)], ("y",))


def extreme(seed: int, source: TensorType = INT8) -> Network:
    """All weights at an end of their range, multipliers and constants at theirs: saturates on purpose."""
    rng = np.random.default_rng(seed)
    x, y = Tensor("x", (32, 6, 9), source), Tensor("y", (24, 6, 9), INT8)
    weights = rng.choice([-128, 127], (24, 32, 3, 3))
    c = rng.choice([-(1 << 62), (1 << 62) - 1, 0, -1], 24).astype(np.int64)
    m = rng.choice([-(1 << 31), (1 << 31) - 1, 1, -1], 24).astype(np.int64)
    s = rng.choice([0, 1, 31, 47, 62], 24).astype(np.int64)
    lo, hi = rng.integers(-128, 0, 24), rng.integers(0, 128, 24)
    requant = MultiplyShift((m,), c, s, lo, hi, rng.integers(0, 8, 24))
    op = Conv("conv", ("x",), "y", weights=weights, pads=(1, 1, 1, 1), requant=requant)
    return _network("extreme", [x], [op], [y], ("y",))


def pool(
    seed: int, mode: str, c: int, h: int, w: int, k: int, stride: int, pad: int = 0, source: TensorType = INT8
) -> Network:
    rng = np.random.default_rng(seed)
    oh, ow = (h + 2 * pad - k) // stride + 1, (w + 2 * pad - k) // stride + 1
    x, y = Tensor("x", (c, h, w), source), Tensor("y", (c, oh, ow), source)
    value = source.lo if mode == "max" else 0
    op = Pool("pool", ("x",), "y", mode=mode, kernel=(k, k), stride=(stride, stride), pads=(pad,) * 4, pad_value=value)
    if mode == "max":
        low, high = (-128, 127) if source.signed else (0, 255)
        requant = MultiplyShift.uniform(c, lo=low, hi=high)
        fitted: Op = Pool("pool", ("x",), "y", mode=mode, kernel=op.kernel, stride=op.stride, pads=op.pads,
                          pad_value=value, requant=requant)  # fmt: skip
    else:
        fitted = _fit(rng, op, [x], source, Rounding.HALF_EVEN, 24)
    return _network("pool", [x], [fitted], [y], ("y",))


def add(
    seed: int, c: int, h: int, w: int, a: TensorType = INT8, b: TensorType = INT8, rounding: Rounding | None = None
) -> Network:
    rng = np.random.default_rng(seed)
    x, z, y = Tensor("x", (c, h, w), a), Tensor("z", (c, h, w), b), Tensor("y", (c, h, w), INT8)
    op = Add("add", ("x", "z"), "y")
    return _network("add", [x, z], [_fit(rng, op, [x, z], INT8, rounding, 20)], [y], ("y",))


def requantize(seed: int, c: int, h: int, w: int, source: TensorType = INT8, out: TensorType = UINT8) -> Network:
    rng = np.random.default_rng(seed)
    x, y = Tensor("x", (c, h, w), source), Tensor("y", (c, h, w), out)
    return _network("requantize", [x], [_fit(rng, Requantize("rq", ("x",), "y"), [x], out, None, 24)], [y], ("y",))


def _sigmoid(q: int) -> int:
    return round(255 / (1 + math.exp(-q / 32)))


def table(
    seed: int, c: int, h: int, w: int, out: TensorType = INT8, value: Callable[[int], int] | None = None,
    source: TensorType = INT8,
) -> Network:  # fmt: skip
    """A table operator: of `value` for each input integer, or of random bytes."""
    rng = np.random.default_rng(seed)
    x, y = Tensor("x", (c, h, w), source), Tensor("y", (c, h, w), out)
    values = rng.integers(out.lo, out.hi + 1, 256).tolist()
    if value is not None:
        values = [value(q - 256 if source.signed and q > 127 else q) for q in range(256)]
    return _network("table", [x], [Table("table", ("x",), "y", values=tuple(values))], [y], ("y",))


def concat(seed: int, channels: tuple[int, ...], h: int, w: int, source: TensorType = INT8) -> Network:
    """Requantized inputs, so that what is joined has been written by the accelerator too; then a 1x1 convolution."""
    rng = np.random.default_rng(seed)
    sources = [Tensor(f"x{i}", (c, h, w), source) for i, c in enumerate(channels)]
    parts = [Tensor(f"p{i}", (c, h, w), source) for i, c in enumerate(channels)]
    joined, y = Tensor("joined", (sum(channels), h, w), source), Tensor("y", (16, h, w), INT8)
    ops: list[Op] = [
        _fit(rng, Requantize(f"rq{i}", (s.name,), p.name), [s], source, None, 24)
        for i, (s, p) in enumerate(zip(sources, parts, strict=True))
    ]
    ops.append(Concat("concat", tuple(p.name for p in parts), "joined"))
    mix = Conv("mix", ("joined",), "y", weights=rng.integers(-128, 128, (16, sum(channels), 1, 1)))
    ops.append(_fit(rng, mix, [joined], INT8, None, 24))
    return _network("concat", sources, ops, [*parts, joined, y], ("y", "joined"))


def resize(seed: int, c: int, h: int, w: int, fy: int, fx: int, source: TensorType = INT8) -> Network:
    x, y = Tensor("x", (c, h, w), source), Tensor("y", (c, h * fy, w * fx), source)
    return _network("resize", [x], [Resize("resize", ("x",), "y", factors=(fy, fx))], [y], ("y",))


def chain(seed: int, c: int = 24, h: int = 13, w: int = 11) -> Network:
    """Several layers with a residual sum, two outputs and a fully connected end."""
    b = NetworkBuilder(seed)
    a = b.conv(b.input(3, h, w), c, 3, 2)
    d = b.conv(b.depthwise(a), c, 1)
    e = b.add(a, d)
    return b.build("chain", b.conv(b.mean(e), 10, 1), e)


def read_twice(seed: int, itself: bool = False) -> Network:
    """A graph input that two convolutions read, or one that is a graph output too: stays unpacked."""
    b = NetworkBuilder(seed)
    image = b.input(3, 9, 22)
    first = b.conv(image, 16, 3, 2)
    return b.build("read_twice", first, image if itself else b.conv(image, 20, 3, 2))


def _case(name: str, build: Callable[..., Network], *args: object, tags: str = "small", **named: object) -> Case:
    return Case(name, lambda seed: build(seed, *args, **named), frozenset(tags.split()))


CASES: tuple[Case, ...] = (
    # dense convolutions: shapes that do not divide the array
    _case("conv1x1_16", conv, 16, 8, 8, 16, 1),
    _case("conv3x3_16", conv, 16, 8, 8, 16, 3),
    _case("conv3x3_rgb_s2", conv, 3, 17, 19, 24, 3, 2, source=UINT8),
    _case("conv3x3_24ch_odd", conv, 24, 7, 13, 40, 3, rounding=None),
    _case("conv1x1_odd", conv, 24, 5, 11, 20, 1, rounding=None),
    _case("conv1x1_1x1_map", conv, 64, 1, 1, 100, 1),
    _case("conv3x3_1x1_map", conv, 16, 1, 1, 16, 3),
    _case("conv5x5", conv, 20, 9, 10, 18, 5),
    _case("conv7x7_s2_rgb", conv, 3, 23, 21, 16, 7, 2, source=UINT8),
    _case("conv3x3_s3", conv, 16, 13, 14, 16, 3, 3),
    _case("conv3x5", conv, 16, 9, 12, 16, (3, 5)),
    _case("conv2x2_nopad", conv, 16, 6, 7, 16, 2, 2, 0),
    _case("conv1x1_s2", conv, 32, 9, 15, 16, 1, 2, 0),
    _case("conv_padvalue", conv, 16, 6, 9, 16, 3, source=UINT8, pad_value=37),
    _case("conv_uint8_out", conv, 16, 6, 9, 32, 3, out=UINT8),
    _case("conv_dilated", conv, 16, 9, 12, 16, 3, dilation=(2, 2)),
    _case("conv_dilated_2x3", conv, 20, 7, 11, 24, 3, source=UINT8, dilation=(2, 3)),
    _case("dw_dilated_3x2", conv, 40, 9, 13, 40, 3, groups=40, dilation=(3, 2)),
    _case("conv_groups_aligned", conv, 64, 6, 9, 64, 3, groups=2),
    _case("conv_groups_small", conv, 24, 6, 9, 36, 3, groups=3),
    _case("conv_multiplier", conv, 16, 6, 9, 32, 3, groups=16),
    _case("conv_wide", conv, 16, 3, 200, 16, 3),
    _case("gemm", conv, 300, 1, 1, 50, 1, source=UINT8),
    _case("gemm_map", conv, 32, 4, 5, 21, (4, 5), pad=0),
    _case("gemm_large_k", conv, 2500, 1, 1, 40, 1),
    _case("conv3x3_large_k", conv, 272, 5, 9, 40, 3),
    _case("conv3x3_stream", conv, 128, 9, 16, 64, 3),
    *(_case(f"conv_{r.name.lower()}", conv, 16, 4, 8, 16, 1, rounding=r, bits=12) for r in HARDWARE_ROUNDINGS),
    _case("extreme", extreme, tags="small extreme"),
    _case("extreme_uint8", extreme, UINT8, tags="small extreme"),
    # accumulators as they are: two, three, four bytes
    _case("whole_gemm", whole, 300, 1, 1, 50, 1, source=UINT8),
    _case("whole_conv_odd", whole, 24, 7, 13, 40, 3),
    _case("whole_packed", whole, 3, 9, 30, 16, 3, 2, source=UINT8, pad_value=37),
    _case("whole_narrow", whole, 1, 9, 30, 20, 1),
    _case("whole_gemm_large_k", whole, 2500, 1, 1, 40, 1),
    # packed graph inputs: one or two results a word, pads on one side, padding values, channels that fill a word
    _case("packed3x3_s2", conv, 3, 21, 61, 32, 3, 2, source=UINT8, pad_value=37, rounding=None),
    _case("packed3x3_s2_right", conv, 3, 10, 32, 24, 3, 2, (0, 0, 1, 1), pad_value=-7),
    _case("packed3x3_s1", conv, 3, 9, 30, 16, 3, source=UINT8, pad_value=255),
    _case("packed5x5_s2", conv, 3, 12, 18, 40, 5, 2, (1, 2, 2, 1)),
    _case("packed3x3_s3_5ch", conv, 5, 11, 30, 16, 3, 3, rounding=None),
    _case("packed2x7_1ch", conv, 1, 9, 27, 20, (2, 7), 2, source=UINT8),
    _case("packed1x1_s2_4ch", conv, 4, 7, 31, 33, 1, 2, 0),
    _case("packed3x3_dilated_rows", conv, 2, 13, 31, 16, 3, dilation=(3, 1), pad_value=5),
    _case("packed3x3_narrow", conv, 3, 9, 2, 16, 3, 2),
    _case("packed3x3_tail", conv, 3, 6, 66, 16, 3, 2, 0),
    _case("packed_not_padvalue", conv, 3, 8, 18, 16, 3, 2, source=UINT8, pad_value=-1),
    _case("packed_not_7x7", conv, 3, 15, 18, 16, 7, 2, source=UINT8),
    _case("packed_read_twice", read_twice),
    _case("packed_read_twice_out", read_twice, True),
    # depthwise
    _case("dw3x3", conv, 16, 8, 8, 16, 3, groups=16),
    _case("dw3x3_odd", conv, 40, 7, 13, 40, 3, groups=40, source=UINT8),
    _case("dw3x3_s2", conv, 24, 11, 15, 24, 3, 2, groups=24),
    _case("dw5x5_s2", conv, 48, 13, 9, 48, 5, 2, groups=48),
    _case("dw1x1", conv, 24, 5, 9, 24, 1, groups=24),
    # pooling
    _case("maxpool2", pool, "max", 24, 9, 14, 2, 2),
    _case("maxpool3_s2_pad", pool, "max", 16, 11, 13, 3, 2, 1, source=UINT8),
    _case("maxpool3_pad_signed", pool, "max", 33, 6, 7, 3, 1, 1),
    _case("avgpool2", pool, "sum", 16, 8, 10, 2, 2),
    _case("avgpool3_pad", pool, "sum", 20, 7, 9, 3, 1, 1, source=UINT8),
    _case("global_avgpool", pool, "sum", 72, 7, 7, 7, 1),
    # element-wise
    _case("add", add, 24, 7, 9),
    _case("add_half_even", add, 40, 6, 11, rounding=Rounding.HALF_EVEN),
    _case("add_uint8", add, 16, 8, 8, UINT8, UINT8),
    _case("add_mixed_signs", add, 24, 5, 13, INT8, UINT8),
    _case("requantize", requantize, 24, 5, 13),
    _case("requantize_uint8", requantize, 100, 1, 1, UINT8, INT8),
    _case("table_sigmoid", table, 24, 7, 13, UINT8, _sigmoid),
    _case("table_random", table, 40, 5, 11),
    _case("table_unsigned", table, 100, 1, 1, INT8, source=UINT8),
    _case("table_few_channels", table, 3, 9, 17, source=UINT8, out=UINT8),
    # copies
    _case("concat_aligned", concat, (16, 32), 5, 7),
    _case("concat_tail", concat, (16, 24), 5, 7),
    _case("concat_shifted", concat, (24, 8, 20), 5, 7),
    _case("resize_2x2", resize, 24, 5, 7, 2, 2),
    _case("resize_1x2", resize, 16, 4, 9, 1, 2),
    _case("resize_3x1", resize, 16, 4, 9, 3, 1),
    _case("resize_3x5", resize, 20, 3, 7, 3, 5),
    _case("resize_2x11", resize, 16, 3, 4, 2, 11),
    # several layers
    _case("chain", chain),
    _case("separable", separable, 40, (21, 30), 72, 1),
    _case("separable_s2", separable, 40, (60, 96), 56, 2),
    _case("inverted_residuals", inverted_residuals, 24, (24, 32), 1),
    *(_case(f"random{i}", lambda seed, i=i: random_network(1000 * i + seed)) for i in range(6)),
    _case("mobilenet_like", mobilenet_like, 48, 64, tags="large"),
    # the performance targets
    _case("conv3x3_128", conv, 128, 32, 32, 128, 3, tags="large"),
    _case("conv1x1_128", conv, 128, 32, 32, 128, 1, tags="large"),
    _case("dw3x3_128", conv, 128, 32, 32, 128, 3, groups=128, tags="large"),
    _case("add_128", add, 128, 32, 32, tags="large"),
    _case("conv3x3_512_7x7", conv, 512, 7, 7, 512, 3, tags="large"),
    _case("conv1x1_1024", conv, 1024, 8, 6, 1024, 1, tags="large"),
    _case("gemm_7x7x320", conv, 320, 7, 7, 100, 7, pad=0, tags="large"),
)  # fmt: skip


def case(name: str) -> Case:
    """The case of that name; KeyError if there is none."""
    return {c.name: c for c in CASES}[name]
