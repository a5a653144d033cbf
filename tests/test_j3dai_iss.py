# SPDX-License-Identifier: Apache-2.0
"""The simulated accelerator: operators against numpy, transfers against the reference, traps, semaphores, deadlocks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.j3dai.cycle_model import LayerRun
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.asm import ClusterProgram, DescriptorList, address, decode_descriptors
from nncosim.hdl.j3dai.isa import Agu, Descriptor, DmpaOp, Drain, MacOp, RequantRecord, Space
from nncosim.hdl.j3dai.regs import Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.platforms.rounding import Rounding
from nncosim.regress.j3dai_transfer_model import TransferTrap, run_descriptor
from nncosim.tb.iss.hart import Reason, ScriptHost
from nncosim.tb.j3dai.cycles import layer_script
from nncosim.tb.j3dai.iss import FrameResult, Machine

PLATFORM = J3dai(clusters=2, l2_bytes=256 * 1024)
LIST, CODE, WEIGHTS, INPUT, OUTPUT = 0, 256, 1024, 4096, 10240  # words of L2


def put(machine: Machine, word: int, contents: bytes | np.ndarray) -> None:
    raw = np.frombuffer(bytes(contents) if isinstance(contents, bytes) else contents.tobytes(), np.uint8)
    machine.l2[16 * word : 16 * word + len(raw)] = raw


def code_descriptor(lists: DescriptorList, program: ClusterProgram, clusters: int = 1) -> None:
    lists.load(l2=CODE, clusters=clusters, local=address(Space.IMEM, 0), n0=len(program.to_bytes()) // 16,
               signal_mask=clusters, signal_semaphore=7)


def run(
    machine: Machine, program: ClusterProgram, lists: DescriptorList, clusters: int = 1, limit: int = 200_000
) -> FrameResult:
    put(machine, LIST, lists.to_bytes())
    put(machine, CODE, program.to_bytes())
    machine.run_script(layer_script([LayerRun(LIST, clusters)]))
    return machine.run_frame(limit)


def run_layer(
    machine: Machine, program: ClusterProgram, records: int, inputs: int, output: int, outputs: int, semaphore: int = 0
) -> None:
    """Cluster 0 gets words of records (WEIGHTS) and of L1 (INPUT, from word 0 on); `outputs` words of its L1 from
    `output` on go to OUTPUT when it signals `semaphore`."""
    lists = DescriptorList()
    code_descriptor(lists, program)
    lists.load(l2=WEIGHTS, clusters=1, local=address(Space.WMEM, 0), n0=records)
    lists.load(l2=INPUT, clusters=1, local=0, n0=inputs, signal_mask=1, signal_semaphore=0)
    lists.store(l2=OUTPUT, clusters=1, local=output, n0=outputs, wait_mask=1, wait_semaphore=semaphore)
    assert run(machine, program, lists).diagnosis is None


def blocks(x: np.ndarray) -> np.ndarray:
    """(C, H, W) as bytes in the block planar layout; channels past the last are zero."""
    c, h, w = x.shape
    padded = np.zeros((-(-c // 16) * 16, h, w), np.int64)
    padded[:c] = x
    return (padded.reshape(-1, 16, h, w).transpose(0, 2, 3, 1) & 0xFF).astype(np.uint8)


def planes(raw: np.ndarray, blocks_: int, h: int, w: int, signed: bool = True) -> np.ndarray:
    out = raw[: blocks_ * h * w * 16].reshape(blocks_, h, w, 16).transpose(0, 3, 1, 2).reshape(-1, h, w)
    return out.view(np.int8).astype(np.int64) if signed else out.astype(np.int64)


def records(r: MultiplyShift, operand: int = 0) -> bytes:
    return b"".join(
        encode(RequantRecord, m=int(r.m[operand][n]), c=int(r.c[n]), s=int(r.s[n]), lo=int(r.lo[n]), hi=int(r.hi[n]),
               rounding=int(r.rounding[n])).to_bytes(16, "little") for n in range(16))  # fmt: skip


def fitting(rng: np.random.Generator, acc: np.ndarray, operands: int = 1) -> MultiplyShift:
    """A requantization that brings accumulators (16, ...) to about +-100, another rounding in each channel."""
    s = rng.integers(10, 24, 16)
    reach = np.abs(acc).reshape(16, -1).max(axis=1) + 1
    m = np.maximum((100 << s) // (reach * operands), 1)
    return MultiplyShift((m,) * operands, rng.integers(-(1 << 12), 1 << 12, 16), s, np.full(16, -128), np.full(16, 127),
                   np.arange(16) % 8)


@dataclass(frozen=True)
class Conv:
    c: int = 32
    h: int = 7
    w: int = 21
    k: int = 3
    stride: int = 1
    pad: int = 1
    pad_value: int = 0
    depthwise: bool = False
    signed: bool = True

    @property
    def out(self) -> tuple[int, int]:
        return tuple((n + 2 * self.pad - self.k) // self.stride + 1 for n in (self.h, self.w))  # type: ignore[return-value]


def conv_program(case: Conv) -> ClusterProgram:
    """Block planar input at L1 word 0, output at word 2048; records at WMEM word 0, weights from 16 on."""
    (oh, ow), s, plane = case.out, case.stride, case.h * case.w
    p = ClusterProgram()
    p.wait(0)
    p.ldp(0, 0)
    p.setb(Agu.A, (-case.pad * (case.w + 1)) % (1 << 14), -case.pad, -case.pad, rewind=1)
    p.setd(Agu.A, 0, case.k, 1, 1, 0)
    p.setd(Agu.A, 1, case.k, case.w, 0, 1)
    p.setd(Agu.A, 2, 1 if case.depthwise else case.c // 16, plane)
    groups = -(-ow // 8)
    p.setd(Agu.A, 3, groups, 8 * s, 8 * s, 0)
    p.setd(Agu.A, 4, oh, case.w * s, 0, s)
    p.setd(Agu.A, 5, 1)
    p.seti(case.w, case.h, s, s, case.pad_value)
    p.setb(Agu.O, 2048, 0, rewind=1)
    p.setd(Agu.O, 0, groups, 8, 8)
    p.setd(Agu.O, 1, oh, ow)
    p.setd(Agu.O, 2, 1)
    p.seto(ow)
    p.setw(16)
    p.mac(first=1, last=1, advance=1, rewind_w=1, signed_a=int(case.signed), depthwise=int(case.depthwise),
          repeat=groups * oh - 1)
    p.signal(0)
    p.halt()
    return p


def conv_accumulators(case: Conv, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(16, OH, OW), straight from the definition. weights: (16, C, K, K), or (16, 1, K, K) depthwise."""
    oh, ow = case.out
    wide = np.pad(x, ((0, 0), (case.pad,) * 2, (case.pad,) * 2), constant_values=case.pad_value)
    acc = np.zeros((16, oh, ow), np.int64)
    for ky in range(case.k):
        for kx in range(case.k):
            part = wide[:, ky : ky + oh * case.stride : case.stride, kx : kx + ow * case.stride : case.stride]
            part = part[:, :oh, :ow]
            if case.depthwise:
                acc += part[:16] * weights[:, 0, ky, kx, None, None]
            else:
                acc += np.einsum("chw,oc->ohw", part, weights[:, :, ky, kx])
    return acc


def weight_words(case: Conv, weights: np.ndarray) -> np.ndarray:
    """In the order of use: block, ky, kx, lane; byte n is output channel n."""
    if case.depthwise:
        return weights[:, 0].transpose(1, 2, 0).astype(np.int8)
    k = case.k
    return weights.reshape(16, -1, 16, k, k).transpose(1, 3, 4, 2, 0).astype(np.int8)


CONVS = {
    "3x3": Conv(), "1x1": Conv(k=1, pad=0, c=64), "unsigned": Conv(signed=False, pad_value=77),
    "pad value": Conv(pad_value=-9, pad=2), "stride 2": Conv(stride=2), "stride 3": Conv(stride=3, k=5, pad=2),
    "depthwise": Conv(depthwise=True, c=16), "depthwise stride 2": Conv(depthwise=True, c=16, stride=2, w=30),
    "7x7": Conv(k=7, pad=3, c=16), "narrow": Conv(w=5),
}  # fmt: skip


def run_conv(
    case: Conv, seed: int, spoilt: dict[int, int] | None = None, planted: Conv | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(got, expected) of cluster 1, whose neighbour gets the same input by broadcast.

    spoilt: bits to flip on the machine alone, by byte from the first record on; the weights begin at byte 256.
    planted: what the machine's program is made for, if not for `case`.
    """
    rng = np.random.default_rng(seed)
    x = rng.integers(-128 if case.signed else 0, 128 if case.signed else 256, (case.c, case.h, case.w))
    weights = rng.integers(-128, 128, (16, 1 if case.depthwise else case.c, case.k, case.k))
    acc = conv_accumulators(case, x, weights)
    requant = fitting(rng, acc)
    machine = Machine(PLATFORM, seed=seed)
    words = weight_words(case, weights)
    put(machine, WEIGHTS, records(requant))
    put(machine, WEIGHTS + 16, words)
    put(machine, INPUT, blocks(x))
    for byte, bits in (spoilt or {}).items():
        machine.l2[16 * WEIGHTS + byte] ^= bits
    p, lists = conv_program(planted or case), DescriptorList()
    oh, ow = case.out
    code_descriptor(lists, p, 0b11)
    lists.load(l2=WEIGHTS, clusters=0b11, local=address(Space.WMEM, 0), n0=16 + words.size // 16)
    lists.load(l2=INPUT, clusters=0b11, local=0, n0=blocks(x).size // 16, signal_mask=0b11, signal_semaphore=0)
    lists.store(l2=OUTPUT, clusters=0b10, local=2048, n0=oh * ow, wait_mask=0b11, wait_semaphore=0)
    result = run(machine, p, lists, clusters=0b11)
    assert result.diagnosis is None, result.diagnosis
    return planes(machine.l2[16 * OUTPUT :], 1, oh, ow), requant.apply(acc)


@pytest.mark.parametrize("name", CONVS)
def test_convolution(name: str) -> None:
    got, expected = run_conv(CONVS[name], 7)
    assert len(np.unique(expected)) > 100
    np.testing.assert_array_equal(got, expected)


def test_convolution_check_catches_a_planted_error() -> None:
    """One weight, one constant or one padding value off is seen, where it belongs and nowhere else."""
    case = CONVS["pad value"]
    _, expected = run_conv(case, 7)
    got, _ = run_conv(case, 7, planted=replace(case, pad_value=-10))
    inside = np.s_[:, case.pad : -case.pad, case.pad : -case.pad]
    assert (got != expected).any() and (got[inside] == expected[inside]).all()
    constant = encode(RequantRecord, c=1 << 21).to_bytes(16, "little")
    for channel, spoilt in (
        (3, {256 + 16 * 40 + 3: 0x40}),
        (5, {16 * 5 + byte: bits for byte, bits in enumerate(constant) if bits}),
    ):
        got, _ = run_conv(case, 7, spoilt)
        assert set(np.argwhere(got != expected)[:, 0]) == {channel}


def test_pair_adds_two_tensors() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(-128, 128, (2, 16, 4, 16))
    requant = MultiplyShift((np.arange(100, 116), np.arange(-220, -204)), rng.integers(-999, 999, 16), np.full(16, 8),
                      np.full(16, -120), np.full(16, 127), np.arange(16) % 8)
    machine = Machine(PLATFORM)
    put(machine, WEIGHTS, records(requant, 0) + records(requant, 1))
    put(machine, INPUT, np.concatenate([blocks(a), blocks(b)]))
    p = ClusterProgram()
    p.wait(0)
    p.ldp(0, 0)
    p.ldp(1, 16)
    p.setd(Agu.A, 3, 2, 64)
    p.setd(Agu.A, 4, 8, 8)
    p.seti(4095, 4095)
    p.setb(Agu.O, 1024)
    p.setd(Agu.O, 0, 8, 8)
    p.seto(8)
    p.mac(MacOp.ADD, depthwise=1, signed_a=1, first=1, last=1, advance=1, drain=Drain.PAIR, repeat=15)
    p.signal(4)
    p.halt()
    run_layer(machine, p, 32, 128, 1024, 64, semaphore=4)
    expected = requant.apply(a, b)
    assert len(np.unique(expected)) > 100
    np.testing.assert_array_equal(planes(machine.l2[16 * OUTPUT :], 1, 4, 16), expected)


def test_table_and_pooling() -> None:
    """MAX over 2 x 2 windows with stride 2, then the result through a table."""
    rng = np.random.default_rng(4)
    x, table = rng.integers(0, 256, (16, 6, 32)), rng.integers(-128, 128, 256)
    machine = Machine(PLATFORM)
    put(machine, WEIGHTS, records(MultiplyShift.uniform(16, lo=-128, hi=255)))
    put(machine, INPUT, blocks(x))
    copies = np.repeat(table.reshape(16, 1, 16), 8, axis=1)  # word (b // 16, copy)
    put(machine, INPUT + 192, (copies & 0xFF).astype(np.uint8))
    p = ClusterProgram()
    p.wait(0)
    p.ldp(0, 0)
    for dim, (count, step) in enumerate([(2, 1), (2, 32), (1, 0), (2, 16), (3, 64)]):
        p.setd(Agu.A, dim, count, step)
    p.seti(4095, 4095, pstride=2)
    p.setb(Agu.O, 1024)
    p.setd(Agu.O, 0, 100, 8)
    p.seto(8)
    p.mac(MacOp.MAX, depthwise=1, first=1, last=1, advance=1, repeat=5)
    p.fence()
    p.setb(Agu.A, 1024, rewind=1)
    for dim, (count, step) in enumerate([(1, 0), (1, 0), (1, 0), (6, 8)]):
        p.setd(Agu.A, dim, count, step)
    p.seti(4095, 4095)
    p.setw(192)
    p.mac(MacOp.TABLE, signed_a=1, first=1, last=1, advance=1, repeat=5)
    p.signal(0)
    p.halt()
    run_layer(machine, p, 16, 320, 1024, 96)
    pooled = x.reshape(16, 3, 2, 16, 2).max(axis=(2, 4))
    np.testing.assert_array_equal(planes(machine.l2[16 * OUTPUT :], 1, 3, 16, signed=False), pooled)
    np.testing.assert_array_equal(planes(machine.l2[16 * (OUTPUT + 48) :], 1, 3, 16), table[pooled])


@pytest.mark.parametrize("shift", [0, 1, 2, 5])
def test_ties_round_as_each_channel_says(shift: int) -> None:
    """Every byte value, small shifts: most results are ties."""
    x = np.tile(np.arange(-128, 128).reshape(1, 4, 64), (16, 1, 1))
    requant = MultiplyShift((np.ones(16, np.int64),), np.arange(16) - 8, np.full(16, shift), np.full(16, -128),
                      np.full(16, 127), np.arange(16) % 8)
    machine = Machine(PLATFORM)
    put(machine, WEIGHTS, records(requant))
    put(machine, INPUT, blocks(x))
    p = ClusterProgram()
    p.wait(0)
    p.ldp(0, 0)
    p.setd(Agu.A, 3, 32, 8)
    p.seti(4095, 4095)
    p.setb(Agu.O, 512)
    p.setd(Agu.O, 0, 32, 8)
    p.seto(8)
    p.mac(MacOp.ADD, depthwise=1, signed_a=1, first=1, last=1, advance=1, repeat=31)
    p.signal(0)
    p.halt()
    run_layer(machine, p, 16, 256, 512, 256)
    np.testing.assert_array_equal(planes(machine.l2[16 * OUTPUT :], 1, 4, 64), requant.apply(x))


def test_ostride_interleaves() -> None:
    machine = Machine(PLATFORM)
    put(machine, WEIGHTS, records(MultiplyShift.uniform(16, hi=255)))
    x = np.random.default_rng(5).integers(0, 128, (16, 1, 16))
    put(machine, INPUT, blocks(x))
    p, lists = ClusterProgram(), DescriptorList()
    p.wait(0)
    p.ldp(0, 0)
    p.setd(Agu.A, 3, 2, 8)
    p.seti(4095, 4095)
    p.setb(Agu.O, 512)
    p.setd(Agu.O, 0, 2, 16, 8)
    p.seto(13, 1)
    p.mac(MacOp.ADD, depthwise=1, first=1, last=1, advance=1, repeat=1)
    p.signal(0)
    p.halt()
    code_descriptor(lists, p)
    lists.load(l2=WEIGHTS, clusters=1, local=address(Space.WMEM, 0), n0=16)
    lists.load(l2=INPUT, clusters=1, local=0, n0=16, signal_mask=1, signal_semaphore=0)
    lists.sync(wait_mask=1, wait_semaphore=0)
    before = machine.core.l1[0].reshape(-1, 16).copy()
    assert run(machine, p, lists).diagnosis is None
    after = machine.core.l1[0].reshape(-1, 16)
    before[:16] = after[:16]
    before[512 : 512 + 26 : 2] = blocks(x)[0, 0, :13]
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("bits", [1024, 256])
@pytest.mark.parametrize("seed", range(3))
def test_transfers(seed: int, bits: int) -> None:
    """Random strided LOADs and STOREs, local addresses that wrap, broadcasts; all memories compared."""
    rng = random.Random(seed)
    platform = J3dai(clusters=3, l2_bytes=128 * 1024, dmpa_bits=bits)
    lists = DescriptorList()
    for _ in range(60):
        store = rng.random() < 0.5
        n1, n2 = rng.randrange(0, 5), rng.randrange(0, 4)
        fields = {
            "clusters": rng.randrange(1, 8), "n0": rng.choice([1, 7, 8, 9, rng.randrange(1, 70)]), "n1": n1, "n2": n2,
            "l2": rng.randrange(4000, 5000), "l2_step1": rng.randrange(-300, 300), "l2_step2": rng.randrange(-300, 300),
            "local": address(Space.L1 if store else rng.choice(list(Space)[:2]), rng.randrange(1 << 14)),
            "local_step1": rng.randrange(-8192, 8192), "local_step2": rng.randrange(-8192, 8192),
        }  # fmt: skip
        if not store and rng.random() < 0.5:
            used = rng.randrange(1, 17)
            fields |= {
                "offset": rng.randrange(16), "step": rng.randrange(1, 17), "used": used, "fill": rng.randrange(256),
                "left": rng.choice([0, rng.randrange(used)]), "length": rng.randrange(1, 1200),
            }  # fmt: skip
            lists.gather(**fields)
        else:
            (lists.store if store else lists.load)(**fields)
    machine = Machine(platform, seed=seed)
    put(machine, LIST, lists.to_bytes())
    l2 = machine.l2.copy()
    local = {Space.L1: machine.core.l1.copy(), Space.WMEM: machine.core.wmem.copy()}
    for fields in decode_descriptors(lists.to_bytes()):
        run_descriptor(platform, fields, l2, local)
    machine.run_script(layer_script([LayerRun(LIST, 0)]))
    result = machine.run_frame(100_000)
    assert result.diagnosis is None
    np.testing.assert_array_equal(machine.l2, l2)
    np.testing.assert_array_equal(machine.core.l1, local[Space.L1])
    np.testing.assert_array_equal(machine.core.wmem, local[Space.WMEM])


BAD_DESCRIPTORS = [
    {"op": 0}, {"op": 7}, {"op": 1, "n0": 0, "clusters": 1}, {"op": 1, "n0": 1}, {"op": 2, "n0": 1},
    {"op": 1, "n0": 1, "clusters": 0b100}, {"op": 2, "n0": 1, "clusters": 1, "local": 1 << 14},
    {"op": 1, "n0": 1, "clusters": 1, "local": 3 << 14}, {"op": 1, "n0": 9, "clusters": 1, "l2": PLATFORM.l2_words - 8},
    {"op": 2, "n0": 9, "clusters": 1, "l2": PLATFORM.l2_words - 8},
    *({"op": 4, "n0": 9, "clusters": 1, "step": 3, "used": 4, "length": 28} | wrong for wrong in (
        {"n0": 0}, {"clusters": 0}, {"local": 3 << 14}, {"step": 0}, {"step": 17}, {"used": 0}, {"used": 17},
        {"offset": 16}, {"left": 4}, {"length": 0}, {"l2": PLATFORM.l2_words - 2, "offset": 5},
        {"n1": 2, "l2_step1": -1, "left": 3}, {"l2": (1 << 20) - 1},
    )),
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD_DESCRIPTORS, ids=str)
def test_descriptor_traps(fields: dict[str, int]) -> None:
    machine = Machine(PLATFORM)
    word = 0
    for name, field in Descriptor.as_shape():  # not encode(): operation numbers that do not exist
        word |= ((fields.get(name, 0) | (name == "end")) & (1 << field.width) - 1) << field.offset
    put(machine, LIST, word.to_bytes(32, "little"))
    machine.run_script(layer_script([LayerRun(LIST, 0)]))
    result = machine.run_frame(10_000)
    assert result.diagnosis is not None and result.diagnosis.kind == "trap" and "dmpa: trap" in result.diagnosis.text
    with pytest.raises(TransferTrap):
        run_descriptor(PLATFORM, {name: fields.get(name, 0) for name, _ in Descriptor.as_shape()}, machine.l2,
                       {Space.L1: machine.core.l1, Space.WMEM: machine.core.wmem, Space.IMEM: machine.core.imem})


@pytest.mark.parametrize("push", [4, PLATFORM.l2_words, 1 << 24])
def test_bad_list_addresses_trap(push: int) -> None:
    machine = Machine(PLATFORM)
    machine.run_script(layer_script([LayerRun(push, 0)]))
    diagnosis = machine.run_frame(10_000).diagnosis
    assert diagnosis is not None and "DMPA_PUSH of an address that is no line" in diagnosis.text


@pytest.mark.parametrize("l2_bytes", [PLATFORM.l2_bytes, 16 << 20])
def test_list_beyond_the_end_of_l2_traps(l2_bytes: int) -> None:
    """Of the largest L2, too, where the next address is 0 in 20 bits."""
    machine = Machine(replace(PLATFORM, l2_bytes=l2_bytes))
    end = machine.platform.l2_words
    sync = encode(Descriptor, op=DmpaOp.SYNC.value).to_bytes(32, "little")
    put(machine, end - 8, sync * 4)
    machine.run_script(layer_script([LayerRun(end - 8, 0)]))
    diagnosis = machine.run_frame(10_000).diagnosis
    assert diagnosis is not None and "list beyond the end of L2" in diagnosis.text


@pytest.mark.parametrize("word, text", [
    (0, "opcode 0 at 1 does not exist"), (63, "opcode 63 at 1 does not exist"), (2 | 1 << 6, "LOOP at 1"),
    (2 | 1 << 22, "LOOP at 1"),
])  # fmt: skip
def test_program_traps(word: int, text: str) -> None:
    p, lists = ClusterProgram(), DescriptorList()
    p.nop()
    machine = Machine(PLATFORM)
    code_descriptor(lists, p)
    lists.sync(wait_mask=1)
    put(machine, LIST, lists.to_bytes())
    put(machine, CODE, p.to_bytes()[:8] + word.to_bytes(8, "little"))
    machine.run_script(layer_script([LayerRun(LIST, 1)]))
    diagnosis = machine.run_frame(10_000).diagnosis
    assert diagnosis is not None and diagnosis.kind == "trap" and f"cluster0: trap: {text}" in diagnosis.text


def test_fifth_loop_traps() -> None:
    p, lists = ClusterProgram(), DescriptorList()
    with p.loop(9):
        p.nop()
    machine = Machine(PLATFORM)
    lists.load(l2=CODE, clusters=1, local=address(Space.IMEM, 0), n0=3, signal_mask=1, signal_semaphore=7)
    lists.sync(wait_mask=1)
    put(machine, LIST, lists.to_bytes())
    put(machine, CODE, p.to_bytes()[:8] * 5)
    machine.run_script(layer_script([LayerRun(LIST, 1)]))
    diagnosis = machine.run_frame(10_000).diagnosis
    assert diagnosis is not None and "cluster0: trap: LOOP at 4" in diagnosis.text


def waiting_program(waits: int, semaphore: int) -> ClusterProgram:
    p = ClusterProgram()
    with p.loop(waits):
        p.wait(semaphore)
    p.halt()
    return p


@pytest.mark.parametrize("waits", [255, 256])
def test_input_semaphores_count_to_255(waits: int) -> None:
    lists = DescriptorList()
    for _ in range(255):
        lists.sync(signal_mask=1, signal_semaphore=3)
    p = waiting_program(waits, 3)
    code_descriptor(lists, p)
    machine = Machine(PLATFORM)
    put(machine, 2048, lists.to_bytes())
    put(machine, CODE, p.to_bytes())
    machine.run_script(layer_script([LayerRun(2048, 1)]))
    result = machine.run_frame(50_000)
    assert result.diagnosis is None
    machine.core.run(machine.core.cycle + 2000)
    status = machine.core.status().cluster[0]
    assert (status.running, status.waits) == (waits - 255, waits - 255)


@pytest.mark.parametrize("extra", [0, 1])
def test_output_semaphores_count_to_255(extra: int) -> None:
    lists, p = DescriptorList(), ClusterProgram()
    with p.loop(255):
        p.signal(5)
    p.signal(6)
    p.halt()
    code_descriptor(lists, p)
    lists.sync(wait_mask=1, wait_semaphore=6)
    for _ in range(255 + extra):
        lists.sync(wait_mask=1, wait_semaphore=5)
    machine = Machine(PLATFORM)
    put(machine, 2048, lists.to_bytes())
    put(machine, CODE, p.to_bytes())
    machine.run_script(layer_script([LayerRun(2048, 1)]))
    diagnosis = machine.run_frame(50_000).diagnosis
    assert (diagnosis is not None) == bool(extra)
    if diagnosis is not None:
        assert diagnosis.kind == "hang" and "waits for output semaphore 5 of cluster0" in diagnosis.text


def lost(machine: Machine, program: ClusterProgram, lists: DescriptorList) -> str:
    """What the simulator says of a semaphore that ran over; it stops for good."""
    put(machine, 2048, lists.to_bytes())
    put(machine, CODE, program.to_bytes())
    machine.run_script(layer_script([LayerRun(2048, 3)]))
    diagnosis = machine.run_frame(50_000).diagnosis
    assert diagnosis is not None and diagnosis.kind == "check"
    at = machine.core.cycle
    assert machine.core.run(at + 100) == Reason.LOST and machine.core.cycle == at
    first = diagnosis.text.splitlines()[0]
    assert first.startswith(f"checker error: cycle {at - 1}: ")
    return first


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("semaphore", [0, 7])
@pytest.mark.parametrize("cluster", [0, 1])
def test_an_increment_of_an_input_semaphore_at_255_stops(cluster: int, semaphore: int, batch: bool) -> None:
    """As the RTL's monitors do; 255 of them are right, see above."""
    lists, p = DescriptorList(), ClusterProgram()
    p.wait(1)
    p.halt()
    code_descriptor(lists, p, 3)
    for _ in range(256):
        lists.sync(signal_mask=1 << cluster, signal_semaphore=semaphore)
    text = lost(Machine(PLATFORM, batch=batch), p, lists)
    assert f"input semaphores {1 << semaphore:08b} of cluster {cluster} are incremented at 255: that is lost" in text


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("semaphore", [0, 7])
def test_a_signal_to_an_output_semaphore_at_255_stops(semaphore: int, batch: bool) -> None:
    lists, p = DescriptorList(), ClusterProgram()
    with p.loop(256):
        p.signal(semaphore)
    p.halt()
    lists.load(l2=CODE, clusters=2, local=address(Space.IMEM, 0), n0=len(p.to_bytes()) // 16, signal_mask=2,
               signal_semaphore=7)
    lists.sync(wait_mask=1)
    text = lost(Machine(PLATFORM, batch=batch), p, lists)
    assert f"cluster 1 signals output semaphores {1 << semaphore:08b} at 255: that is lost" in text


def deadlocked() -> tuple[Machine, ClusterProgram, DescriptorList]:
    p, lists = waiting_program(1, 2), DescriptorList()
    code_descriptor(lists, p)
    lists.sync(wait_mask=0b11, wait_semaphore=1)
    return Machine(PLATFORM), p, lists


def test_deadlock_says_who_waits_for_whom() -> None:
    diagnosis = run(*deadlocked(), limit=10_000_000).diagnosis
    assert diagnosis is not None and diagnosis.kind == "hang" and "deadlock" in diagnosis.text
    waits = "dmpa: SYNC descriptor at L2 word 2 (list 0) waits for output semaphore 1 of cluster0, cluster1"
    assert waits in diagnosis.text
    assert "cluster0: waits at 1 for input semaphore 2" in diagnosis.text
    assert "cluster1: idle" in diagnosis.text


def test_endless_program_ends_at_the_limit() -> None:
    p, lists = ClusterProgram(), DescriptorList()
    with p.loop(65535):
        with p.loop(65535):
            p.nop()
        p.nop()
    p.halt()
    code_descriptor(lists, p)
    lists.sync(wait_mask=1, wait_semaphore=1)
    result = run(Machine(PLATFORM), p, lists, limit=5_000)
    assert result.diagnosis is not None and result.diagnosis.kind == "hang"
    assert "no end within 5000 cycles" in result.diagnosis.text and result.cycles == 5_000


def test_arming_an_armed_cluster_traps() -> None:
    machine = Machine(PLATFORM)

    def script(host: ScriptHost) -> Iterator[None]:
        host.write(Reg.CLUSTER_START, 1)
        host.write(Reg.CLUSTER_START, 1)
        yield

    machine.run_script(script)
    diagnosis = machine.run_frame(1_000).diagnosis
    assert diagnosis is not None and "cluster0: trap" in diagnosis.text


def test_poison_depends_on_the_seed() -> None:
    first, again, other = (Machine(PLATFORM, seed=seed) for seed in (1, 1, 2))
    assert (first.l2 == again.l2).all() and (first.core.l1 == again.core.l1).all()
    assert (first.core.l1 != other.core.l1).mean() > 0.9


def test_two_inferences_without_reset() -> None:
    """The second one gives the same result and takes about the same time; all counters add up."""
    rng = np.random.default_rng(0)
    conv = CONVS["3x3"]
    machine = Machine(PLATFORM)
    p, lists = conv_program(conv), DescriptorList()
    oh, ow = conv.out
    code_descriptor(lists, p)
    lists.load(l2=WEIGHTS, clusters=1, local=address(Space.WMEM, 0), n0=304)
    lists.load(l2=INPUT, clusters=1, local=0, n0=294, signal_mask=1, signal_semaphore=0)
    lists.store(l2=OUTPUT, clusters=1, local=2048, n0=oh * ow, wait_mask=1, wait_semaphore=0)
    put(machine, WEIGHTS, records(MultiplyShift.uniform(16, s=6, rounding=Rounding.HALF_UP)))
    put(machine, WEIGHTS + 16, rng.integers(0, 256, 288 * 16, dtype=np.uint8))
    first = run(machine, p, lists)
    output = machine.l2[16 * OUTPUT : 16 * (OUTPUT + oh * ow)].copy()
    machine.l2[16 * OUTPUT : 16 * (OUTPUT + oh * ow)] = 0
    second = machine.run_frame(100_000)
    assert (machine.l2[16 * OUTPUT : 16 * (OUTPUT + oh * ow)] == output).all()
    assert abs(first.cycles - second.cycles) < 20 and second.begin == first.cycles + 1
    for result in (first, second):
        assert len(result.lists) == 1
        assert result.counters["cluster0"]["busy"] == 18 * 16 * 3 * oh
        for entry in (*result.lists, None):
            counters = entry.counters if entry else result.counters
            length = entry.end - entry.start if entry else result.cycles
            assert all(sum(kinds.values()) == length for kinds in counters.values())
            assert all(value >= 0 for kinds in counters.values() for value in kinds.values())
