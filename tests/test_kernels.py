# SPDX-License-Identifier: Apache-2.0
"""Kernels of J3DAI: what a nest's loops compute, walked in numpy, is what the kernel's reference says."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from nncosim.compiler.backends import backend_for
from nncosim.compiler.ir.arithmetic import round_shift
from nncosim.compiler.ir.operators import Concat
from nncosim.hdl.formats import decode
from nncosim.hdl.j3dai.isa import MacOp, RequantRecord
from nncosim.kernels.base import candidate_kernels
from nncosim.kernels.j3dai import KERNELS
from nncosim.kernels.j3dai.channels import held_channels
from nncosim.kernels.j3dai.nest import records
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.cases import CASES, case, random_inputs

# Several operators, or more than requantized results.
OTHERS = ("chain", "random", "concat", "packed_read", "separable", "inverted", "whole")
SMALL = [c for c in CASES if not c.tags & {"large"} and not c.name.startswith(OTHERS)]


def walk(nest, maps, held=16):
    """Accumulators (operand, 16 * blocks, rows, columns) by the definition of a nest, pixel by pixel."""
    h, w = nest.out_map[0], nest.result_columns
    maps = [pad_channels(m, held).reshape(-1, *nest.in_map) for m in maps]
    out = np.zeros((len(maps) if nest.pair else 1, nest.out_blocks * 16, h, w), dtype=np.int64)
    for b, y, x in itertools.product(range(nest.out_blocks), range(h), range(w)):
        for operand in range(len(out)):
            out[operand, 16 * b : 16 * b + 16, y, x] = accumulate(nest, maps, operand, b, y, x)
    return out


def gathered(array, gather, in_map):
    """What of an input a nest sees: its words' bytes as channels, from rows of pixels with all their channels."""
    if gather is None:
        return array
    rows = array.transpose(1, 2, 0).reshape(-1, gather.row or in_map[1] * gather.step)
    fill = gather.fill - 256 if array.min() < 0 and gather.fill > 127 else gather.fill
    words = np.full((16, *in_map), 77)
    for y, u, j in itertools.product(range(in_map[0]), range(in_map[1]), range(gather.used)):
        at = gather.first + u * gather.step + j
        words[j, y, u] = rows[y, at] if 0 <= at < rows.shape[1] else fill
    return words


def pad_channels(array, held):
    """Blocks of 16 that hold so many channels each, with garbage behind them: nobody may rely on it."""
    blocks = -(-array.shape[0] // held)
    full = np.full((blocks * 16, *array.shape[1:]), 77)
    full[byte_of(np.arange(array.shape[0]), held)] = array
    return full


def byte_of(channel, held):
    """Which byte of all blocks one after the other a channel is."""
    return channel // held * 16 + channel % held


def window(nest, maps, operand, block, y, x, r, k):
    iy = y * nest.stride[0] - nest.pads[0] + r * nest.dilation[0]
    ix = x * nest.stride[1] - nest.pads[1] + k * nest.dilation[1]
    if not (0 <= iy < nest.in_map[0] and 0 <= ix < nest.in_map[1]):
        return np.full(16, nest.pad_value)
    whole = maps[operand] if nest.depthwise else np.concatenate(maps)
    return whole[16 * block : 16 * block + 16, iy, ix]


def accumulate(nest, maps, operand, b, y, x):
    taps = list(itertools.product(range(nest.kernel[0]), range(nest.kernel[1])))
    if nest.depthwise:
        values = np.stack([window(nest, maps, operand, b, y, x, r, k) for r, k in taps])
        if nest.op is MacOp.TABLE:
            values = np.frombuffer(nest.table, np.int8 if nest.signed[0] else np.uint8).astype(np.int64)[values & 255]
        if nest.op is MacOp.MAC:
            values = values * np.frombuffer(nest.weights[b], np.int8).reshape(len(taps), 16).astype(np.int64)
        return values.max(axis=0) if nest.op is MacOp.MAX else values.sum(axis=0)
    first, count = nest.reads[b]
    weights = np.frombuffer(nest.weights[b], np.int8).reshape(count, len(taps), nest.lanes, 16).astype(np.int64)
    total = np.zeros(16, dtype=np.int64)
    x, lane = x // nest.interleave, x % nest.interleave * nest.lane_step
    for c in range(count):
        for t, (r, k) in enumerate(taps):
            total += window(nest, maps, 0, first + c, y, x, r, k)[lane : lane + nest.lanes] @ weights[c, t]
    return total


@pytest.mark.parametrize("c", SMALL, ids=lambda c: c.name)
def test_nest_is_the_reference(c):
    network = c.build(2)
    (op,) = network.ops
    inputs = tuple(random_inputs(network, 2)[name] for name in op.inputs)
    fitting, reasons = candidate_kernels(KERNELS, op, network, PLATFORM)
    assert fitting and not reasons
    for kernel in fitting:
        nest = kernel.code(op, network, PLATFORM)
        held = held_channels(op.inputs[0], network, PLATFORM)
        seen = [gathered(v, s.gather, nest.in_map) for v, s in zip(inputs, nest.sources, strict=True)]
        got = walk(nest, seen, held)
        expected = kernel.reference(op, network, PLATFORM, inputs)
        channels = np.arange(expected.shape[0])
        result = requantize(nest, got)[byte_of(channels, held_channels(op.output, network, PLATFORM))]
        result = result.repeat(nest.upsample[0], axis=1).repeat(nest.upsample[1], axis=2)
        assert np.array_equal(result.reshape(expected.shape), expected), kernel.name


def requantize(nest, accumulators):
    """By the records as the hardware will read them."""
    out = np.zeros(accumulators.shape[1:], dtype=np.int64)
    for channel in range(out.shape[0]):
        raw = nest.records[channel // 16]
        sets = [
            decode(RequantRecord, int.from_bytes(raw[256 * s + 16 * (channel % 16) :][:16], "little"))
            for s in range(nest.record_sets)
        ]
        total = sets[0]["c"] + sum(a[channel] * r["m"] for a, r in zip(accumulators, sets, strict=True))
        last = sets[-1]
        out[channel] = np.clip(round_shift(total, last["s"], last["rounding"]), last["lo"], last["hi"])
    return out


@pytest.mark.parametrize("name", ["conv_groups_aligned", "conv_groups_small", "conv_multiplier"])
def test_groups_read_only_their_blocks(name):
    network = case(name).build(1)
    nest = KERNELS[0].code(network.ops[0], network, PLATFORM)
    blocks = sum(s.blocks for s in nest.sources)
    assert all(0 <= first and first + count <= blocks for first, count in nest.reads)
    if name == "conv_groups_aligned":
        assert nest.reads == ((0, 2), (0, 2), (2, 2), (2, 2))


def test_depthwise_has_two_candidates_and_the_cheaper_wins():
    network = case("dw3x3_odd").build(1)
    found, _ = backend_for(PLATFORM).candidates(network.ops[0], network, PLATFORM)
    assert [c.kernel.name for c in found] == ["conv", "depthwise"]
    assert min(found, key=lambda c: c.cost.best).kernel.name == "depthwise"


@pytest.mark.parametrize("c", [c for c in CASES if "random" not in c.name], ids=lambda c: c.name)
def test_estimates_claim_no_bounds(c):
    """A kernel alone knows neither plan nor transfers: its cost is an estimate, and says so."""
    network = c.build(1)
    for op in network.ops:
        found, _ = backend_for(PLATFORM).candidates(op, network, PLATFORM)
        assert found and all(candidate.cost.upper is None for candidate in found)


def test_concat_selects_channels():
    network = case("concat_shifted").build(1)
    op = next(op for op in network.ops if isinstance(op, Concat))
    rng = np.random.default_rng(4)
    inputs = [rng.integers(-128, 128, network.tensors[name].shape) for name in op.inputs]
    nest = next(k for k in KERNELS if k.name == "concat").code(op, network, PLATFORM)
    got = walk(nest, inputs)[0, : sum(i.shape[0] for i in inputs)]
    assert np.array_equal(got.reshape(-1, *inputs[0].shape[1:]), np.concatenate(inputs))


def test_a_wrong_record_is_seen():
    network = case("conv1x1_16").build(1)
    op = network.ops[0]
    nest = KERNELS[0].code(op, network, PLATFORM)
    inputs = (random_inputs(network, 1)["x"],)
    bad = bytearray(nest.records[0])
    bad[2] ^= 0x40  # channel 0's multiplier
    result = requantize(replace(nest, records=(bytes(bad),)), walk(nest, list(inputs)))
    assert not np.array_equal(result.reshape(16, 8, 8), KERNELS[0].reference(op, network, PLATFORM, inputs))


def test_records_of_a_pair():
    network = case("add").build(1)
    requant = network.ops[0].requant
    first = records(requant, PLATFORM, 16)[0]
    a = decode(RequantRecord, int.from_bytes(first[16:32], "little"))
    b = decode(RequantRecord, int.from_bytes(first[256 + 16 : 256 + 32], "little"))
    assert (a["m"], a["c"]) == (requant.m[0][1], requant.c[1])
    assert (b["m"], b["s"], b["lo"], b["hi"]) == (requant.m[1][1], requant.s[1], requant.lo[1], requant.hi[1])
