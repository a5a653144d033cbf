# SPDX-License-Identifier: Apache-2.0
"""The simulator's clusters, over random register contents, against the interpreter that the RTL is checked with.

Each program also runs strictly cycle by cycle: several cycles at a time give the same memories, cycles and counters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from nncosim.hdl.formats import encode
from nncosim.hdl.j3dai.asm import ClusterProgram, DescriptorList, address
from nncosim.hdl.j3dai.isa import Agu, Drain, MacOp, RequantRecord, Space
from nncosim.hdl.j3dai.regs import Reg
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.j3dai_cluster_model import ClusterModel
from nncosim.tb.iss.hart import ScriptHost
from nncosim.tb.j3dai.iss import FrameResult, Machine

PLATFORM = J3dai(clusters=1, l2_bytes=64 * 1024)
SMALL = J3dai(clusters=1, l2_bytes=64 * 1024, l1_bytes=8 * 1024, wmem_bytes=4 * 1024, imem_bytes=2 * 1024)


def shaped(ncbs: int, pes: int) -> J3dai:
    """A machine with memories of as many words as the default one's."""
    return J3dai(clusters=1, ncbs_per_cluster=ncbs, pes_per_ncb=pes, l2_bytes=64 * 1024, l1_bytes=4096 * ncbs,
                 wmem_bytes=2048 * ncbs)


OTHERS = {f"{ncbs}x{pes}": shaped(ncbs, pes) for ncbs, pes in ((8, 4), (8, 16), (32, 4), (32, 16))}
CODE = 1024
"""Byte of L2 at which the program lies, behind a line of descriptors."""


def placed(program: ClusterProgram, platform: J3dai, pc: int) -> np.ndarray:
    """IMEM with the program from `pc` on, wrapping at its end."""
    imem = np.zeros(platform.imem_bytes, np.uint8)
    code = np.frombuffer(program.to_bytes(), np.uint8)
    imem[: len(code)] = code
    return np.roll(imem, 8 * pc)


def run_program(
    program: ClusterProgram, platform: J3dai, seed: int, l1: np.ndarray, wmem: np.ndarray, pc: int = 0,
    batch: bool = True,
) -> tuple[Machine, FrameResult]:
    """Load the program by the DMPA, run it on cluster 0; its memories start as given."""
    machine = Machine(platform, seed=seed, batch=batch)
    code = placed(program, platform, pc)
    lists, word = DescriptorList(platform), platform.word_bytes
    lists.load(l2=CODE // word, clusters=1, local=address(Space.IMEM, 0), n0=len(code) // word, signal_mask=1,
               signal_semaphore=7)
    lists.sync(wait_mask=1, wait_semaphore=7)
    raw = np.frombuffer(lists.to_bytes(), np.uint8)
    machine.l2[: len(raw)] = raw
    machine.l2[CODE : CODE + len(code)] = code
    machine.core.l1[0], machine.core.wmem[0] = l1, wmem

    def script(host: ScriptHost) -> Iterator[None]:
        host.write(Reg.IRQ_FRAMES_SEEN, 1)
        host.write(Reg.CLUSTER_START, 1 | pc << 16)
        host.write(Reg.DMPA_PUSH, 0)
        yield
        host.write(Reg.FRAMES_DONE, 1)

    machine.run_script(script)
    result = machine.run_frame(1_000_000)
    assert result.diagnosis is None, result.diagnosis
    return machine, result


def check(
    program: ClusterProgram, platform: J3dai, seed: int, wmem: np.ndarray, pc: int = 0,
    expected: ClusterProgram | None = None,
) -> np.ndarray:
    """Run on both; gives the words of L1 that the program changed.

    expected: what the interpreter runs, if it is to be another program.
    """
    rng = np.random.default_rng(seed)
    l1 = rng.integers(0, 256, platform.l1_bytes, dtype=np.uint8)
    shape = (-1, platform.word_bytes)
    code = placed(expected or program, platform, pc)
    model = ClusterModel(l1.reshape(shape).copy(), wmem.reshape(shape), code.reshape(shape), platform.pes_per_ncb)
    model.run(pc)
    machine, result = run_program(program, platform, seed, l1, wmem, pc)
    single, same = run_program(program, platform, seed, l1, wmem, pc, batch=False)
    assert same == result
    np.testing.assert_array_equal(single.core.l1, machine.core.l1)
    np.testing.assert_array_equal(machine.core.l1[0].reshape(shape), model.l1)
    return np.flatnonzero((model.l1 != l1.reshape(shape)).any(axis=1))


def random_records(rng: random.Random, wmem: np.ndarray, platform: J3dai = PLATFORM) -> None:
    """Two sets of records at the start of WMEM: half of them bring accumulators of 9 to 22 bits into the range of a
    byte, half are nonsense."""
    for n in range(2 * platform.ncbs_per_cluster):
        bits = rng.randrange(1, 31)
        m, c, s = rng.randrange(1 << bits - 1, 1 << bits), rng.randrange(1 << 10), bits + rng.randrange(0, 15)
        lo, hi = rng.choice([-256, -128]), rng.choice([127, 255])
        if n % 2:
            m, c = rng.randrange(-(1 << 31), 1 << 31), rng.randrange(-(1 << 63), 1 << 63) >> rng.randrange(0, 64)
            lo, hi, s = rng.randrange(-256, 256), rng.randrange(-256, 256), rng.randrange(64)
        record = encode(RequantRecord, m=m, c=c, s=s, lo=lo, hi=hi, rounding=rng.randrange(8), wrap=n % 7 == 3)
        wmem[16 * n : 16 * n + 16] = np.frombuffer(record.to_bytes(16, "little"), np.uint8)


def random_registers(rng: random.Random, p: ClusterProgram) -> None:
    """AGU A and window registers without any sense, small enough to end."""
    p.setb(Agu.A, rng.randrange(1 << 14), rng.randrange(-40, 40), rng.randrange(-40, 40), rewind=rng.randrange(2))
    for dim in range(6):
        if rng.random() < 0.8:
            p.setd(Agu.A, dim, rng.randrange(0, 4), rng.randrange(-8192, 8192), rng.randrange(-10, 10),
                   rng.randrange(-10, 10))
    p.seti(rng.randrange(64), rng.randrange(64), rng.choice([1, 1, 2, 2, -1, 0, 3, rng.randrange(-8192, 8192)]),
           rng.randrange(-32, 32), rng.randrange(-256, 256))


def random_mac(rng: random.Random, platform: J3dai = PLATFORM, **fields: int) -> dict[str, int]:
    lanes = platform.ncbs_per_cluster
    return {
        "depthwise": rng.randrange(2), "signed_a": rng.randrange(2), "first": rng.randrange(2),
        "lane": rng.randrange(lanes), "advance": rng.randrange(2), "lanes": rng.randrange(lanes),
        "rewind_w": rng.randrange(2), "next_w": rng.randrange(2), "pset": rng.randrange(2), **fields,
    }


@pytest.mark.parametrize("platform", [PLATFORM, SMALL, *OTHERS.values()], ids=["default", "small", *OTHERS])
@pytest.mark.parametrize("seed", range(6))
def test_random_accumulation(platform: J3dai, seed: int) -> None:
    """Any registers, any operation: accumulate over several jobs, then drain one job and look."""
    rng = random.Random(seed)
    wmem = np.random.default_rng(seed).integers(0, 256, platform.wmem_bytes, dtype=np.uint8)
    random_records(rng, wmem, platform)
    p = ClusterProgram(platform)
    p.ldp(0, 0)
    p.ldp(1, 16)
    p.seto(rng.randrange(6, 30), rng.randrange(2))
    p.setb(Agu.O, rng.randrange(1 << 14), rng.randrange(-3, 4))
    p.setd(Agu.O, 0, 3, rng.randrange(-8192, 8192), rng.randrange(-2, 3))
    p.setd(Agu.O, 2, 9, rng.randrange(-8192, 8192), rng.randrange(-1, 2))
    for _ in range(10):
        random_registers(rng, p)
        if rng.random() < 0.5:
            p.setw(rng.randrange(1 << 14))
        if rng.random() < 0.5:
            p.addw(rng.randrange(-8192, 8192))
        p.mac(rng.choice(list(MacOp)), **random_mac(rng, platform, repeat=rng.randrange(3)))
        p.addb(Agu.A, rng.randrange(-8192, 8192), rng.randrange(-20, 20), rng.randrange(-20, 20))
        drain = rng.choice([Drain.WRITE, Drain.KEEP, Drain.ADD, Drain.WRITE])
        p.mac(rng.choice(list(MacOp)), **random_mac(rng, platform, last=1, first=rng.random() < 0.2), drain=drain)
        p.fence()
        if rng.random() < 0.5:
            p.addb(Agu.O, rng.randrange(-8192, 8192), rng.randrange(-2, 3))
    p.signal(7)
    p.halt()
    assert len(check(p, platform, seed, wmem)) > (8 if platform.pes_per_ncb >= 8 else 2)


@pytest.mark.parametrize("platform", [PLATFORM, *OTHERS.values()], ids=["default", *OTHERS])
@pytest.mark.parametrize("drain", list(Drain))
@pytest.mark.parametrize("seed", range(4))
def test_random_jobs(drain: Drain, seed: int, platform: J3dai) -> None:
    """Many jobs that drain, reading from one half of L1 and writing to the other."""
    rng = random.Random(100 * seed + drain.value)
    wmem = np.random.default_rng(seed).integers(0, 256, platform.wmem_bytes, dtype=np.uint8)
    random_records(rng, wmem, platform)
    p = ClusterProgram(platform)
    p.ldp(0, 0)
    p.ldp(1, 16)
    for k in range(4):
        pstride = rng.choice([1, 2, 5])
        p.setb(Agu.A, rng.randrange(100), rng.randrange(-3, 3), rng.randrange(-2, 2), rewind=1)
        p.setd(Agu.A, 0, rng.randrange(1, 4), rng.randrange(4), 1, 0)
        p.setd(Agu.A, 1, rng.randrange(0, 4), rng.randrange(40), 0, 1)
        p.setd(Agu.A, 2, rng.randrange(0, 3), rng.randrange(40), 0, 0)
        p.setd(Agu.A, 3, rng.randrange(1, 4), 8 * pstride, 8 * pstride, 0)
        p.setd(Agu.A, 4, 4, 50, 0, 2)
        p.seti(rng.randrange(10, 40), rng.randrange(3, 20), pstride, pstride, rng.randrange(-256, 256))
        p.setb(Agu.O, 2048 + 400 * k, 0, rewind=1)
        p.setd(Agu.O, 0, 3, 16, 8)
        p.setd(Agu.O, 1, 8, 48, 0)
        p.seto(rng.randrange(9, 25), rng.randrange(2))
        p.setw(rng.randrange(32, 1000))
        op = rng.choice(list(MacOp))
        if op is MacOp.TABLE:
            p.setw(rng.randrange(0, 1024) & ~15)
        p.mac(op, **random_mac(rng, platform, last=1, repeat=rng.randrange(3, 20)), drain=drain)
        p.fence()
    p.signal(7)
    p.halt()
    changed = check(p, platform, seed, wmem)
    assert (len(changed) > (50 if platform.pes_per_ncb >= 8 else 20)) == (drain is not Drain.KEEP)
    assert not len(changed) or changed.min() >= 2048


def test_loops_and_wrapping_program_counter() -> None:
    """Nested loops that cross the end of the program memory; every turn leaves a trace in L1."""
    rng = random.Random(1)
    wmem = np.random.default_rng(1).integers(0, 256, PLATFORM.wmem_bytes, dtype=np.uint8)
    random_records(rng, wmem)
    p = ClusterProgram()
    p.ldp(0, 0)
    p.seto(64)
    p.setb(Agu.O, 1000)
    p.setd(Agu.O, 0, 100, 8, 0)
    p.seti(64, 64)
    with p.loop(3):
        p.addb(Agu.A, 16)
        with p.loop(2):
            p.mac(first=1, last=1, lanes=3)
            with p.loop(1):
                with p.loop(2):
                    p.addw(5)
                p.addw(1)
            p.nop()
        p.nop()
    p.signal(7)
    p.halt()
    assert len(check(p, PLATFORM, 1, wmem, pc=500)) == 3 * 2 * 8


@pytest.mark.parametrize("field", ["pad", "width", "pstride", "lane", "pset", "ostride"])
def test_checker_catches_a_planted_difference(field: str) -> None:
    """The comparison fails when the two sides run programs that differ in one field."""

    def program(planted: str = "") -> ClusterProgram:
        p = ClusterProgram()
        p.seti(20 + (planted == "width"), 20, 1 + (planted == "pstride"), 1, 5 + (planted == "pad"))
        p.setb(Agu.A, 0, 16)
        p.setb(Agu.O, 1024)
        p.seto(64, int(planted == "ostride"))
        p.ldp(0, 0)
        p.ldp(1, 16)
        p.mac(MacOp.ADD, first=1, last=1, lanes=0, lane=int(planted == "lane"), pset=int(planted == "pset"))
        p.signal(7)
        p.halt()
        return p

    wmem = np.zeros(PLATFORM.wmem_bytes, np.uint8)
    for pset in range(2):
        record = encode(RequantRecord, m=1 + pset, lo=-128, hi=255)
        wmem[256 * pset : 256 * pset + 256] = np.tile(np.frombuffer(record.to_bytes(16, "little"), np.uint8), 16)
    assert len(check(program(), PLATFORM, 3, wmem)) == 8
    with pytest.raises(AssertionError, match="Mismatched"):
        check(program(), PLATFORM, 3, wmem, expected=program(field))
