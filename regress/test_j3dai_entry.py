# SPDX-License-Identifier: Apache-2.0
"""The entry port alone, cycle by cycle against a plain model: packets with pauses, a busy L2, wrong headers."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai import entry
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.block_bench import simulate
from nncosim.regress.planted import planted
from nncosim.tb.j3dai.entry_model import (
    ADDRESS_ERROR,
    DMEM,
    FRAME,
    GO,
    HEADER_ERROR,
    IMEM,
    L2,
    LOAD,
    MMIO,
    OP_ERROR,
    RUNNING_ERROR,
    EntryReference,
    header,
)

DEFAULT = replace(J3dai(), l2_bytes=256 * 1024, host_imem_bytes=8192, host_dmem_bytes=16384)
# A word of 8 bytes; one of 32, and an L2 that is no power of two.
MACHINES = {
    "default": DEFAULT,
    "narrow": replace(DEFAULT, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256),
    "wide": replace(DEFAULT, ncbs_per_cluster=32, pes_per_ncb=16, l2_bytes=3 * 64 * 1024),
}


class EntryWithL2Port(wiring.Component):
    """The entry port with its share of L2's port, from `module`."""

    def __init__(self, module: ModuleType, platform: J3dai):
        self.entry, self.port = module.Entry(platform), module.EntryL2Port(platform)
        line, word = platform.line_bits, platform.word_bits
        super().__init__({
            "i": In(stream.Signature(word)), "boot": In(1), "run": Out(1), "frame": Out(1), "input_free": In(1),
            "r_en": In(1), "w_en": In(1), "addr": In(20), "mask": In(platform.banks), "w_data": In(line),
            "l2_r_en": Out(1), "l2_w_en": Out(1), "l2_addr": Out(20), "l2_mask": Out(platform.banks),
            "l2_w_data": Out(line), "entry_write": Out(1),
            "host_ready": In(1), "host_valid": Out(1), "host_imem": Out(1), "host_addr": Out(18), "host_data": Out(32),
            "status": Out(32), "trap": Out(1), "counters": Out(160),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.entry, m.submodules.port = self.entry, self.port
        wiring.connect(m, wiring.flipped(self.i), self.entry.i)
        for part, names in (
            (self.entry, "boot run frame input_free host_ready host_valid host_imem host_addr host_data status trap "
             "counters"),
            (self.port, "r_en w_en addr mask w_data l2_r_en l2_w_en l2_addr l2_mask l2_w_data entry_write"),
        ):
            for name in names.split():
                outside, inside = getattr(self, name), getattr(part, name)
                m.d.comb += outside.eq(inside) if self.signature.members[name].flow == Out else inside.eq(outside)
        m.d.comb += [
            self.port.entry_valid.eq(self.entry.l2_valid), self.port.entry_addr.eq(self.entry.l2_addr),
            self.port.entry_data.eq(self.entry.l2_data), self.entry.l2_busy.eq(self.port.busy),
        ]
        return m


@dataclass(frozen=True)
class Noise:
    """Chances a cycle: the sensor offers a beat; the DMPA has L2; the host uses its memory; the input is free."""

    offer: float = 1.0
    busy: float = 0.0
    host: float = 0.0
    free: float = 1.0


CALM, ROUGH, JAMMED = Noise(), Noise(0.6, 0.5, 0.4, 0.1), Noise(1.0, 0.93, 0.9, 0.02)
NOISES = {"calm": CALM, "rough": ROUGH, "jammed": JAMMED}


def differences(module: ModuleType, platform: J3dai, packets: Sequence[int], noise: Noise, *, boot: int = 1,
                seed: int = 1, least: int = 40) -> tuple[list[str], EntryReference]:
    """Outputs that are not those of the reference, at most ten; and the reference at the end."""
    rng, dut, model = random.Random(seed), EntryWithL2Port(module, platform), EntryReference(platform, boot)
    found: list[str] = []
    queue, offered = deque(packets), False

    def given() -> dict[str, int]:
        nonlocal offered
        offered = bool(queue) and (offered or rng.random() < noise.offer)
        use = rng.random() < noise.busy
        return {
            "valid": offered, "payload": queue[0] if offered else rng.getrandbits(platform.word_bits),
            "r_en": use and rng.random() < 0.5, "w_en": use, "addr": rng.getrandbits(20),
            "mask": rng.getrandbits(platform.banks), "w_data": rng.getrandbits(platform.line_bits),
            "host_ready": rng.random() >= noise.host, "input_free": rng.random() < noise.free,
        }

    async def bench(ctx: Any) -> None:
        nonlocal offered
        ctx.set(dut.boot, boot)
        idle = 0
        for now in range(200_000):
            inputs = given()
            inputs["w_en"] &= not inputs["r_en"]
            for name, value in inputs.items():
                port = getattr(dut.i, name) if name in ("valid", "payload") else getattr(dut, name)
                ctx.set(port, int(value))
            for name, value in model.cycle({n: int(v) for n, v in inputs.items()}).items():
                if name == "word0":
                    got = ctx.get(dut.l2_w_data) & (1 << platform.word_bits) - 1
                else:
                    got = ctx.get(dut.i.ready if name == "ready" else getattr(dut, name))
                if got != value and len(found) < 10:
                    found.append(f"cycle {now}: {name} is {got:#x}, not {value:#x}")
                if name == "ready" and value and offered:
                    queue.popleft()
                    offered = False
            await ctx.tick()
            idle = 0 if queue and not model.error else idle + 1
            if found or (idle > least and not model.beats) or (model.error and idle > least):
                break
        else:
            found.append("the packets were not taken")

    simulate(dut, bench)
    return found, model


def load(platform: J3dai, address: int, words: int, rng: random.Random, wait: int = 0) -> list[int]:
    """A packet of random words."""
    return [header(LOAD, address, words, wait=wait), *(rng.getrandbits(platform.word_bits) for _ in range(words))]


def last(platform: J3dai, words: int) -> tuple[int, int, int]:
    """Where the last `words` words of each memory begin: imem, dmem, L2."""
    back = words * platform.word_bytes
    return platform.host_imem_bytes - back, DMEM + platform.host_dmem_bytes - back, L2 + platform.l2_bytes - back


def session(platform: J3dai, seed: int) -> list[int]:
    """Boot and some images: every memory with its first and last word, packets of one word."""
    rng, p = random.Random(seed), platform
    first = (IMEM, DMEM, L2)
    packets = [load(p, at, rng.randrange(1, 6), rng) for at in first]
    packets += [load(p, at, n, rng) for n in (1, 3) for at in last(p, n)]
    packets += [load(p, L2 + rng.randrange(p.l2_words - 20) * p.word_bytes, rng.randrange(1, 20), rng)
                for _ in range(6)]
    rng.shuffle(packets)
    packets += [load(p, L2, 9, rng, wait=1), [header(FRAME)], [header(GO)]]
    for _ in range(3):
        packets += [load(p, L2 + 3 * p.word_bytes, rng.randrange(1, 30), rng, wait=1),
                    load(p, DMEM + 5 * p.word_bytes, rng.randrange(1, 4), rng), [header(FRAME)]]
    # Above the header's 64 bits a beat may hold anything.
    junk = rng.getrandbits(p.word_bits) >> 64 << 64
    return [beat for packet in packets for beat in (packet[0] | junk, *packet[1:])]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("machine", MACHINES)
def test_sessions(machine: str, noise: str, seed: int) -> None:
    platform = MACHINES[machine]
    found, model = differences(entry, platform, session(platform, seed), NOISES[noise], seed=seed)
    assert found == [] and not model.error and model.started
    beats, words, waits, longest, input_waits = model.counters[-1]
    assert beats > words > 60 and (noise == "calm") == (waits == 0) == (input_waits == 0)
    assert noise == "calm" or longest > 3


def test_a_word_a_cycle() -> None:
    """While the DMPA leaves L2 alone, the port never waits within a packet."""
    packets = load(DEFAULT, L2, 200, random.Random(1))
    found, model = differences(entry, DEFAULT, packets, CALM, least=0)
    assert found == [] and len(model.counters) < 200 + 10


LARGE = replace(DEFAULT, l2_bytes=1 << 20)
LONG = ((DEFAULT, [header(LOAD, L2 + DEFAULT.l2_bytes - 16, 40000), *range(50)]),
        (LARGE, [header(LOAD, L2, 32769), *range(50)]))  # fmt: skip
"""The begin of packets that need all 16 bits of their length: the first runs beyond L2."""


@pytest.mark.parametrize("platform, packets", LONG, ids=["too long", "long"])
def test_a_long_packet_begins(platform: J3dai, packets: list[int]) -> None:
    assert differences(entry, platform, packets, CALM)[0] == []


@pytest.mark.slow
def test_long_packet(seed: int) -> None:
    """The most words a header can name."""
    found, model = differences(entry, LARGE, load(LARGE, L2 + 16, 65535, random.Random(seed)), CALM)
    assert found == [] and model.counters[-1][1] == 65535 and model.state == "header"


def wrong_headers(platform: J3dai) -> dict[str, tuple[int, int, int]]:
    """What is wrong -> (header, error, boot)."""
    word, cases = platform.word_bytes, {}
    for name, base, size in (("imem", IMEM, platform.host_imem_bytes), ("dmem", DMEM, platform.host_dmem_bytes),
                             ("l2", L2, platform.l2_bytes)):
        cases[f"{name} one beyond"] = (header(LOAD, base + size - 2 * word, 3), ADDRESS_ERROR, 1)
        cases[f"{name} behind"] = (header(LOAD, base + size, 1), ADDRESS_ERROR, 1)
        cases[f"{name} before"] = (header(LOAD, (base - word) & 0xFFFF_FFFF, 1), ADDRESS_ERROR, 1)
        cases[f"{name} unaligned"] = (header(LOAD, base + word // 2, 1), ADDRESS_ERROR, 1)
        cases[f"{name} by a byte"] = (header(LOAD, base + word + 1, 1), ADDRESS_ERROR, 1)
        cases[f"{name} no words"] = (header(LOAD, base, 0), ADDRESS_ERROR, 1)
        cases[f"{name} wraps"] = (header(LOAD, base + size - word, 65535), ADDRESS_ERROR, 1)
    for bit in range(20, 31):
        cases[f"address bit {bit}"] = (header(LOAD, L2 | 1 << bit, 1),
                                       0 if platform.l2_bytes > 1 << bit else ADDRESS_ERROR, 1)
    cases["mmio"] = (header(LOAD, MMIO, 1), ADDRESS_ERROR, 1)
    cases["imem while running"] = (header(LOAD, IMEM, 1), RUNNING_ERROR, 0)
    cases["go while running"] = (header(GO), RUNNING_ERROR, 0)
    cases |= {f"op {op}": (header(op, L2, 1), OP_ERROR, 1) for op in range(16) if op not in (LOAD, FRAME, GO)}
    cases |= {f"magic bit {bit}": (header(LOAD, L2, 1, magic=0xE7 ^ 1 << bit), HEADER_ERROR, 1) for bit in range(8)}
    cases |= {f"pad bit {bit}": (header(FRAME, pad=1 << bit), HEADER_ERROR, 1) for bit in range(3)}
    return cases


@pytest.mark.parametrize("machine", MACHINES)
def test_wrong_headers_stop_the_port(machine: str, seed: int) -> None:
    """Nothing behind a wrong header is taken, written or started."""
    platform, rng = MACHINES[machine], random.Random(seed)
    for name, (beat, error, boot) in wrong_headers(platform).items():
        packets = [beat, *load(platform, L2, 3, rng), header(FRAME), header(GO)]
        found, model = differences(entry, platform, packets, ROUGH, boot=boot, seed=seed, least=20)
        assert found == [], name
        if error:
            assert (model.error, model.counters[-1][:2]) == (error, [1, 0]), name


def test_a_second_go_is_wrong(seed: int) -> None:
    found, model = differences(entry, DEFAULT, [header(GO), header(GO)], CALM, seed=seed)
    assert found == [] and model.error == RUNNING_ERROR and model.run


BUGS = {
    "a beat is lost while one waits": ("spare.eq(self.i.payload), spare_valid.eq(1)", "spare.eq(self.i.payload)"),
    "the beat that waits is overtaken": ("word.eq(Mux(spare_valid, spare, self.i.payload))", "word.eq(self.i.payload)"),
    "always ready": ("self.i.ready.eq(~spare_valid)", "self.i.ready.eq(1)"),
    "the DMPA is not let through": ("self.entry_valid & ~self.busy)", "self.entry_valid)"),
    "only its reads are": ("self.busy.eq(self.r_en | self.w_en)", "self.busy.eq(self.r_en)"),
    "only its writes are": ("self.busy.eq(self.r_en | self.w_en)", "self.busy.eq(self.w_en)"),
    "a waiting word counts as written": ("self.l2_valid & ~self.l2_busy,", "self.l2_valid,"),
    "the whole line is written": ("Mux(self.busy, self.mask, 1)", "Mux(self.busy, self.mask, 3)"),
    "one word too few": ("m.If(left == 1)", "m.If(left == 2)"),
    "16 bits of words, one short": ("Signal(16)  #", "Signal(15)  #"),
    "the last word of a memory is refused": ("end <= size // p", "end < size // p"),
    "one beyond is taken": ("end <= size // p", "end <= 1 + size // p"),
    "end wraps": ('Signal(22, name="end")', 'Signal(13, name="end")'),
    "unaligned is taken": ("(header.address[:bits] != 0)", "(header.address[:bits - 1] != 0)"),
    "no words is taken": ("(header.words == 0)", "(header.words == 1)"),
    "instruction memory while it runs": ("to_imem & self.run", "to_imem & 0"),
    "GO while it runs": ("with m.If(self.run):", "with m.If(0):"),
    "pad is not looked at": ("(header.pad != 0)", "(header.pad[:2] != 0)"),
    "magic is looked at in part": ("header.magic != ENTRY_MAGIC", "header.magic[:7] != ENTRY_MAGIC & 127"),
    "an error passes": ("error.eq(found)", "error.eq(0)"),
    "it goes on after an error": ('m.next = "STOPPED"', 'm.next = "HEADER"'),
    "boot without strap": ("~self.boot | released", "released"),
    "the input is not waited for": ("header.input & ~self.input_free", "0"),
    "all words wait for the input": ("header.input & ~self.input_free", "~self.input_free"),
    "the host's memory is not waited for": ("m.If(self.host_valid & self.host_ready)", "m.If(self.host_valid)"),
    "a part is left out": ("(part == p.word_bytes // 4 - 1)", "(part == p.word_bytes // 4 - 2)"),
    "the longest wait stays": ("m.If(so_far == longest)", "m.If(so_far > longest)"),
    "waits are added up": ("m.d.sync += so_far.eq(0)", "pass"),
    "words count as beats": ("EntryCounter.WORDS: done", "EntryCounter.WORDS: pop"),
    "an idle port waits": ("wait.eq(self.l2_valid & self.l2_busy)", "wait.eq(self.l2_busy)"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_noticed(bug: str) -> None:
    module = planted(entry, *BUGS[bug])
    sessions = (differences(module, DEFAULT, session(DEFAULT, 1), noise)[0] for noise in (ROUGH, CALM))
    rest = (differences(module, DEFAULT, [beat, *load(DEFAULT, L2, 3, random.Random(1))], CALM, boot=boot, least=9)[0]
            for beat, _, boot in reversed(wrong_headers(DEFAULT).values()))
    others = (differences(module, machine, packets, CALM)[0] for machine, packets in LONG)
    assert any(sessions) or any(rest) or any(others)
