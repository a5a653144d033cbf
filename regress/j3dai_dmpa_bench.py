# SPDX-License-Identifier: Apache-2.0
"""Bench of J3DAI's DMPA with L2, and what descriptor lists write, one word after the other."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.isa import DmpaOp, Space
from nncosim.hdl.j3dai.l2 import l2_memory
from nncosim.hdl.j3dai.timing import LOAD_TO_CLUSTER
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.emission import emit_once
from nncosim.regress.j3dai_transfer_model import words_gathered, words_moved
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

__all__ = [
    "ACTION_BASE", "BUGS", "CLUSTERS", "L2_WORDS", "LIST_BASE", "DescriptorTask", "DmpaBench", "ListReference",
    "PlantedDmpa", "built", "machine",
]  # fmt: skip

CLUSTERS = 3
L2_WORDS = 1280
LIST_BASE = 768  # words from here up hold descriptors
ACTION_BASE = 4096  # L1 words that only the clusters' own results are written to
BUGS = ("", "address", "mask", "back-pressure", "store mask")
"""What the port `bug` plants, by its value; 0 is a right design."""


class PlantedDmpa(wiring.Component):
    """DMPA and L2 wired as in the SoC; its port `bug` plants one of `BUGS` in that wiring, the same build has all."""

    def __init__(self, platform: J3dai):
        self.platform = platform
        self.dmpa = Dmpa(platform)
        ports = {name: member for name, member in self.dmpa.signature.members.items()
                 if not name.startswith(("l2_", "probe"))}
        super().__init__(ports | {"probe_sources": Out(3), "l2_we": Out(1), "l2_re": Out(1), "l2_addr": Out(20),
                                  "l2_mask": Out(platform.banks), "probe_list": Out(32), "bug": In(3)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dmpa = dmpa = self.dmpa
        m.submodules.l2 = l2 = l2_memory(self.platform)
        for name, member in self.signature.members.items():
            if name == "bug":
                continue
            if member.flow == In:
                m.d.comb += getattr(dmpa, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(dmpa, name))
        m.d.comb += [l2.addr.eq(dmpa.l2_addr), l2.mask.eq(dmpa.l2_mask), l2.r_en.eq(dmpa.l2_re),
                     l2.w_en.eq(dmpa.l2_we), l2.w_data.eq(dmpa.l2_wdata), dmpa.l2_rdata.eq(l2.r_data)]
        with m.Switch(self.bug):
            with m.Case(BUGS.index("address")):
                m.d.comb += self.wr_addr.eq(dmpa.wr_addr + (dmpa.wr_addr[:3] == 7))
            with m.Case(BUGS.index("mask")):
                m.d.comb += self.wr_mask.eq(dmpa.wr_mask | 0x80)
            with m.Case(BUGS.index("back-pressure")):
                m.d.comb += dmpa.drain_ahead.eq(0)
            with m.Case(BUGS.index("store mask")):
                m.d.comb += l2.mask.eq(dmpa.l2_mask | (dmpa.l2_mask << 1))
        return m


def machine(beat_words: int = 8, clusters: int = CLUSTERS, ncbs: int = 16, pes: int = 8) -> J3dai:
    """A machine with an L2 of `L2_WORDS`, whatever its words are."""
    return J3dai(clusters=clusters, ncbs_per_cluster=ncbs, pes_per_ncb=pes, dmpa_bits=8 * ncbs * beat_words,
                 l2_bytes=ncbs * L2_WORDS)


def built(platform: J3dai | None = None) -> BuiltModel:
    """The design under test as a simulation; some thousand cycles are not worth much compiling."""
    return build(emit_once(PlantedDmpa, platform or machine(), "dmpa_bench"), "dmpa_bench", optimize="-O0")


@dataclass
class DescriptorTask:
    """A descriptor's fields, and what the clusters write to their L1 before they signal it."""

    fields: dict
    list_index: int = 0
    writes: dict = field(default_factory=dict)  # (cluster, word address) -> value, before the SIGNAL


class ListReference:
    """Memory contents and, per descriptor, the words written, by the manual's words alone."""

    def __init__(self, platform: J3dai, l2: list[int]):
        self.platform, self.l2 = platform, list(l2)
        self.local: list[dict[tuple[int, int], int]] = [defaultdict(int) for _ in range(platform.clusters)]
        self.loads: list[tuple[int, int, int, int, int]] = []  # (task, cluster, space, word, value)
        self.stores: list[tuple[int, int, int]] = []  # (task, l2 word, value)

    def _byte(self, address: int) -> int:
        word, lane = divmod(address, self.platform.word_bytes)
        return self.l2[word] >> 8 * lane & 0xFF

    def execute(self, number: int, task: DescriptorTask) -> None:
        f = defaultdict(int, task.fields)
        for (cluster, word), value in task.writes.items():
            self.local[cluster][Space.L1, word] = value
        space, targets = f["local"] >> 14, [c for c in range(8) if f["clusters"] >> c & 1]
        if f["op"] == DmpaOp.GATHER.value:
            for near, value in words_gathered(self.platform, f, self._byte):
                for cluster in targets:
                    self.local[cluster][space, near] = value
                    self.loads.append((number, cluster, space, near, value))
            return
        for far, near in words_moved(self.platform, f):
            if f["op"] == DmpaOp.LOAD.value:
                for cluster in targets:
                    self.local[cluster][space, near] = self.l2[far]
                    self.loads.append((number, cluster, space, near, self.l2[far]))
            else:
                self.l2[far] = self.local[targets[0]][space, near]
                self.stores.append((number, far, self.l2[far]))


class DmpaBench:
    """Plays the clusters and the host, cycle by cycle, and notes what the DMPA did and when."""

    def __init__(self, model: Model, platform: J3dai, rng: random.Random, drains: float, bug: str = ""):
        model.bug = BUGS.index(bug)
        self.model, self.clusters, self.rng, self.drains = model, platform.clusters, rng, drains
        self.platform, self.beat_words = platform, platform.beat_words
        self.banks, self.word_bits = platform.banks, platform.word_bits
        self.word_mask = (1 << self.word_bits) - 1
        self.local: list[dict[tuple[int, int], int]] = [defaultdict(int) for _ in range(self.clusters)]
        self.loads: list[Any] = []  # as in ListReference, with the cycle first
        self.stores: list[Any] = []
        self.signals: list[Any] = []
        self.dones: list[int] = []
        self.signalled: dict[tuple[int, int], list[int]] = defaultdict(list)  # when the clusters signalled
        self.cycle = 0
        self.reads: dict[Any, Any] = {}
        self.answers: dict[Any, Any] = {}
        self.landing: dict[Any, Any] = {}
        self.drain_history: dict[Any, Any] = {}
        self.states = [model.stack(f"l2.bank{k}", np.uint8) for k in range(self.banks)]

    def poke(self, address: int, value: int) -> None:
        raw = value.to_bytes(self.word_bits // 8, "little")
        self.states[address % self.banks][address // self.banks] = np.frombuffer(raw, np.uint8)

    def poke_descriptor(self, address: int, value: int) -> int:
        """Put a descriptor into L2; gives the address behind it."""
        for k in range(256 // self.word_bits):
            self.poke(address + k, value >> (self.word_bits * k) & self.word_mask)
        return address + 256 // self.word_bits

    def peek(self, address: int) -> int:
        return int.from_bytes(self.states[address % self.banks][address // self.banks].tobytes(), "little")

    def step(self, push: int | None = None, signals: int = 0) -> None:
        """One cycle: drive inputs, look at what is on the wires, go on."""
        m, t = self.model, self.cycle
        drain = 0
        for c in range(self.clusters):
            drain |= (self.rng.random() < self.drains) << c
        self.drain_history[t] = drain
        m.drain_ahead = drain
        m.push, m.push_addr = (push is not None), push or 0
        m.signal_out = signals
        if t in self.answers:
            cluster, data = self.answers.pop(t)
            m.rd_data = data << (self.platform.line_bits * cluster)
        sources = m.probe_sources
        assert sources in (0, 1, 2, 4), f"cycle {t}: L2's port is used by several: {sources:03b}"
        self._cluster_side(t)
        self._l2_side(t)
        m.tick()
        for cluster, where, value in self.landing.pop(t, []):
            self.local[cluster][where] = value
        self.cycle += 1

    def _cluster_side(self, t: int) -> None:
        m = self.model
        for cluster, words in self.reads.pop(t, []):  # L1's read port: sees what landed before this cycle
            data = sum(self.local[cluster][Space.L1, word] << (self.word_bits * i) for i, word in enumerate(words))
            self.answers[t + 2] = cluster, data
        if valid := m.wr_valid:
            space, base, mask, data = m.wr_space, m.wr_addr, m.wr_mask, m.wr_data
            drains = self.drain_history[t - LOAD_TO_CLUSTER]
            assert not valid & drains, f"cycle {t}: a LOAD beat meets a drain"
            assert mask < 1 << self.beat_words, f"cycle {t}: beat of words {mask:#x}"
            for c in range(self.clusters):
                for i in range(self.banks):
                    if valid >> c & 1 and mask >> i & 1:
                        where, value = (space, (base + i) % (1 << 14)), data >> (self.word_bits * i) & self.word_mask
                        self.landing.setdefault(t + 1, []).append((c, where, value))
                        self.loads.append((t + 1, c, *where, value))
        if valid := m.rd_valid:
            assert valid & (valid - 1) == 0
            cluster, base = valid.bit_length() - 1, m.rd_addr
            self.reads.setdefault(t + 1, []).append((cluster, [(base + i) % (1 << 14) for i in range(self.banks)]))
        if pulses := m.signal_in:
            self.signals.append((t, pulses))

    def _l2_side(self, t: int) -> None:
        m = self.model
        if m.l2_we:
            mask, base = m.l2_mask, m.l2_addr
            assert mask < 1 << self.beat_words, f"cycle {t}: L2 beat of words {mask:#x}"
            self.stores += [(t, base + i, m.probe_list) for i in range(self.banks) if mask >> i & 1]
        if m.list_done:
            self.dones.append(t)
