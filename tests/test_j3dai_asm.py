# SPDX-License-Identifier: Apache-2.0
"""The J3DAI assembler: every field lands where the format says, and what the hardware traps on is refused."""

import random

import pytest
from nncosim.hdl.formats import EncodingError, decode, encode
from nncosim.hdl.j3dai.asm import (
    AssemblyError,
    ClusterProgram,
    DescriptorList,
    address,
    decode_descriptors,
    disassemble,
    disassemble_descriptors,
    fields_of,
    words_of,
)
from nncosim.hdl.j3dai.isa import INSTRUCTIONS, Agu, Descriptor, DmpaOp, Drain, MacOp, Opcode, Space


def small_program() -> ClusterProgram:
    p = ClusterProgram()
    p.wait(3)
    p.setb(Agu.A, base=100, x=-1, y=-2, rewind=1)
    p.setd(Agu.O, 2, count=5, step=-7, xstep=8)
    with p.loop(3):
        p.mac(MacOp.MAC, first=1, last=1, lanes=3, drain=Drain.PAIR, repeat=9)
        with p.loop(2):
            p.nop()
        p.addw(-4)
    p.signal(1)
    p.halt()
    return p


def test_program_words() -> None:
    words = small_program().words()
    assert [w & 63 for w in words] == [
        Opcode.WAIT, Opcode.SETB, Opcode.SETD, Opcode.LOOP, Opcode.MAC, Opcode.LOOP, Opcode.NOP, Opcode.ADDW,
        Opcode.SIGNAL, Opcode.HALT,
    ]  # fmt: skip
    setb = decode(INSTRUCTIONS[Opcode.SETB], words[1])
    assert (setb["agu"], setb["base"], setb["x"], setb["y"], setb["rewind"]) == (0, 100, -1, -2, 1)
    outer, inner = decode(INSTRUCTIONS[Opcode.LOOP], words[3]), decode(INSTRUCTIONS[Opcode.LOOP], words[5])
    assert (outer["count"], outer["body"]) == (3, 4)
    assert (inner["count"], inner["body"]) == (2, 1)
    mac = decode(INSTRUCTIONS[Opcode.MAC], words[4])
    assert (mac["drain"], mac["repeat"], mac["lanes"], mac["op"]) == (3, 9, 3, 0)


def test_bytes_round_trip() -> None:
    p = small_program()
    p.nop()
    raw = p.to_bytes()
    assert len(raw) == 96  # 11 instructions in 6 words
    assert words_of(raw) == [*p.words(), 0]


def test_fast_decoder_agrees_with_the_format() -> None:
    rng = random.Random(5)
    for fmt in (*INSTRUCTIONS.values(), Descriptor):
        for _ in range(20):
            word = rng.getrandbits(256 if fmt is Descriptor else 64)
            assert fields_of(fmt, word) == decode(fmt, word)


def test_disassembly() -> None:
    lines = disassemble([*small_program().words(), 0])
    assert lines[1] == "  1: setb agu=A rewind=1 base=100 x=-1 y=-2"
    assert lines[2] == "  2: setd agu=O dim=2 count=5 step=-7 xstep=8"
    assert lines[6] == "  6:     nop"
    assert lines[7] == "  7:   addw step=-4"
    assert lines[10] == " 10: ? 0x0000000000000000"


def test_refusals() -> None:
    with pytest.raises(AssemblyError, match="ends on instruction 2, where the loop at 1"):
        p = ClusterProgram()
        with p.loop(2), p.loop(2):
            p.nop()
    with pytest.raises(AssemblyError, match="at most 4 deep"):
        p = ClusterProgram()
        with p.loop(2), p.loop(2), p.loop(2), p.loop(2), p.loop(2):
            p.nop()
    with pytest.raises(AssemblyError, match="body is empty"), ClusterProgram().loop(2):
        pass
    with pytest.raises(AssemblyError, match="count must be"), ClusterProgram().loop(0):
        pass
    with pytest.raises(AssemblyError, match="AGU O has dimensions 0 to 2"):
        ClusterProgram().setd(Agu.O, 3)
    with pytest.raises(AssemblyError, match="whole lines"):
        ClusterProgram().ldp(0, 4)
    with pytest.raises(EncodingError, match=r"SetB\.base"):
        ClusterProgram().setb(Agu.A, base=1 << 14)
    p = ClusterProgram()
    for _ in range(512):
        p.nop()
    with pytest.raises(AssemblyError, match="exceeds 512"):
        p.halt()


def test_descriptors() -> None:
    d = DescriptorList()
    d.load(l2=64, clusters=0b101, local=address(Space.WMEM, 24), n0=8, n1=3, l2_step1=-16, local_step1=8,
           signal_mask=0b101, signal_semaphore=7)
    d.sync(wait_mask=0b1, wait_semaphore=2)
    d.store(l2=4096, clusters=0b1, local=address(Space.L1, 5), n0=20)
    d.gather(l2=9, clusters=1, n0=4, offset=3, step=12, used=15, left=3, length=48, fill=200)
    raw = d.to_bytes()
    assert len(raw) == 128
    first, second, third, fourth = (decode(Descriptor, w) for w in d.words())
    assert first["local"] == 1 << 14 | 24 and first["l2_step1"] == -16 and first["end"] == 0
    assert second["op"] == DmpaOp.SYNC.value and fourth["end"] == 1
    assert decode_descriptors(raw) == [first, second, third, fourth]
    assert disassemble_descriptors(raw) == [
        "  0: load clusters=0b00000101 signal_mask=0b00000101 signal_semaphore=7 l2=64 local=WMEM:24 n0=8 n1=3 "
        "l2_step1=-16 local_step1=8",
        "  1: sync wait_mask=0b00000001 wait_semaphore=2",
        "  2: store clusters=0b00000001 l2=4096 local=L1:5 n0=20",
        "  3: gather end=1 clusters=0b00000001 l2=9 local=L1:0 n0=4 offset=3 step=12 used=15 left=3 length=48 fill=200",
    ]


def test_descriptor_refusals() -> None:
    d = DescriptorList()
    with pytest.raises(AssemblyError, match="at least one descriptor"):
        d.to_bytes()
    with pytest.raises(AssemblyError, match="n0"):
        d.load(l2=0, clusters=1)
    with pytest.raises(AssemblyError, match="clusters"):
        d.load(l2=0, n0=1)
    with pytest.raises(AssemblyError, match="space 1"):
        d.store(l2=0, n0=1, clusters=1, local=address(Space.WMEM, 0))
    with pytest.raises(EncodingError, match="l2"):
        d.load(l2=1 << 20, n0=1, clusters=1)
    with pytest.raises(AssemblyError, match=r"0\.\.16383"):
        address(Space.L1, 1 << 14)
    good = {"l2": 0, "n0": 1, "clusters": 1, "step": 3, "used": 3, "length": 3}
    d.gather(**good)
    for name, value in (("step", 0), ("step", 17), ("used", 0), ("used", 17), ("offset", 16), ("left", 3),
                        ("length", 0)):
        with pytest.raises(AssemblyError, match=name):
            d.gather(**good | {name: value})


def test_encode_is_what_the_assembler_uses() -> None:
    p = ClusterProgram()
    p.seti(width=32, height=24, pstride=-5, xpstep=2, pad=-128)
    seti = INSTRUCTIONS[Opcode.SETI]
    assert p.words() == [encode(seti, opcode=10, width=32, height=24, pstride=-5, xpstep=2, pad=-128)]
