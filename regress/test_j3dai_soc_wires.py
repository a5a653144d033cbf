# SPDX-License-Identifier: Apache-2.0
"""The wires of the J3DAI SoC: real DMPA, L2 and registers; the bench is each cluster and the host's core.

The DMPA's bench runs here too, with each of its ports found where the SoC connects it, lists pushed by the host's bus
and L2 real. What the DMPA has no part in is set at one end and looked at on the other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ClockSignal, Instance
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from nncosim.hdl.j3dai import soc as soc_module
from nncosim.hdl.j3dai.cluster import Cluster
from nncosim.hdl.j3dai.soc import SOC_MODULE
from nncosim.platforms.j3dai import J3dai
from nncosim.regress.cv32e40p_stub import CORE_PORTS, CORE_VERILOG
from nncosim.regress.planted import planted
from nncosim.regress.puppet import Puppet, puppet_verilog
from nncosim.regress.test_j3dai_control import OFFSETS
from nncosim.regress.test_j3dai_dmpa_cycles import DmpaCycleBench, episode
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import build

PLATFORM = J3dai(clusters=5, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=128, l2_bytes=8 * 4 * 37)
STUB_MODULE = "j3dai_stub_cluster"
MMIO = 0x1000_0000


def signature(platform: J3dai) -> wiring.Signature:
    cluster = Cluster(platform)
    cluster._MustUse__used = True  # Amaranth need not warn that it is never elaborated
    return cluster.signature


class StubCluster(wiring.Component):
    """A cluster's ports, for the bench to play on."""

    def __init__(self, platform: J3dai):
        super().__init__(signature(platform))

    def elaborate(self, platform: object) -> Instance:
        return Instance(STUB_MODULE, i_clk=ClockSignal(), **{
            ("i_" if member.flow == In else "o_") + name: getattr(self, name)
            for name, member in self.signature.members.items()})


def cluster_ports(platform: J3dai) -> dict[str, tuple[str, int]]:
    members = signature(platform).members
    return {"clk": ("in", 1), **{name: ("in" if member.flow == In else "out", member.shape)
                                 for name, member in members.items()}}


class SocAsDmpa:
    """The SoC as the DMPA's bench sees a DMPA: the same ports, each where it is connected."""

    def __init__(self, model: Model, platform: J3dai):
        self.soc, self.platform = model, platform
        self.core = Puppet(model, "host.core", CORE_PORTS)
        ports = cluster_ports(platform)
        self.clusters = [Puppet(model, f"cluster{k}.macro", ports) for k in range(platform.clusters)]
        self.banks = [model.stack(f"l2.bank{k}", np.uint8) for k in range(platform.banks)]

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        return {}

    def quiet(self) -> None:
        """Outputs of the stubs that mean nothing."""
        for stub in (self.core, *self.clusters):
            for name, (direction, _) in stub.ports.items():
                if direction == "out":
                    stub[name] = 0

    def reset(self) -> None:
        self.quiet()
        self.soc.frame = self.soc.boot = self.soc.entry__valid = 0
        self.soc.reset()

    def tick(self) -> None:
        self.soc.tick()

    def access(self, register: str, value: int | None = None) -> None:
        """Put an access to a register on the core's data bus."""
        core = self.core
        core["data_req_o"], core["data_we_o"], core["data_be_o"] = 1, value is not None, 15
        core["data_addr_o"], core["data_wdata_o"] = MMIO + OFFSETS[register], value or 0
        self.soc.eval()

    def write(self, register: str, value: int) -> None:
        self.access(register, value)
        self.soc.tick()
        self.core["data_req_o"] = 0

    def read(self, register: str) -> int:
        self.access(register)
        self.soc.tick()
        self.core["data_req_o"] = 0
        self.soc.eval()
        return self.core["data_rdata_i"]

    # The ports of a DMPA

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "push":
            self.core["data_req_o"], self.core["data_we_o"] = int(value), int(value)
            self.core["data_addr_o"] = MMIO + OFFSETS["DMPA_PUSH"]
        elif name == "push_addr":
            self.core["data_wdata_o"] = value
        elif name in ("signal_out", "rd_data"):
            bits = 8 if name == "signal_out" else self.platform.line_bits
            for k, cluster in enumerate(self.clusters):
                cluster[name] = value >> bits * k & (1 << bits) - 1
        elif name == "drain_ahead":
            for k, cluster in enumerate(self.clusters):
                cluster[name] = value >> k & 1
        elif name in ("in_frame", "l2_rdata"):  # comes from the registers, and from L2
            self.soc.eval()
        else:
            super().__setattr__(name, value)

    def __getitem__(self, name: str) -> int:
        soc, dmpa = self.soc, self.soc.probe_dmpa
        fields = {"probe_descriptor": (0, 20), "probe_op": (20, 4), "probe_semaphore": (24, 3), "idle": (27, 1),
                  "probe_running": (28, 1), "probe_state": (29, 3), "probe_waiting": (32, 8)}
        if name in fields:
            low, bits = fields[name]
            found = dmpa >> low & (1 << bits) - 1
            if name == "idle":
                assert [cluster["dmpa_idle"] for cluster in self.clusters] == [found] * len(self.clusters)
            return found
        if name in ("wr_valid", "rd_valid", "signal_in"):
            bits = 8 if name == "signal_in" else 1
            found = sum(cluster[name] << bits * k for k, cluster in enumerate(self.clusters))
            assert name != "wr_valid" or soc.probe_wr_valid == found
            return found
        if name in ("wr_space", "wr_addr", "wr_mask", "wr_data", "rd_addr"):
            found, *others = (cluster[name] for cluster in self.clusters)
            assert others == [found] * len(others)
            assert name != "wr_space" or soc.probe_wr_space == found
            return found
        if name == "trap":
            assert soc.trap == (soc.probe_trap != 0)
            return soc.probe_trap >> 8
        if name == "counters":
            return soc.probe_counters >> 192 * self.platform.clusters & (1 << 192) - 1
        names = {"lists_done": "lists_done", "transfers": "probe_transfers", "probe_list": "probe_list",
                 "list_done": "probe_list_done", "probe_lost": "probe_lost",
                 "probe_sources": "probe_l2_sources", "l2_wdata": "probe_l2_data",
                 **{f"l2_{port}": f"probe_l2_{port}" for port in ("re", "we", "addr", "mask")}}
        return soc[names[name]]


class InSoc(DmpaCycleBench):
    """The DMPA's bench with L2 in the design. What only registers show (`free`, `busy`) is read there by a test."""

    asked = started = False

    def reset(self) -> None:
        super().reset()
        self.asked = self.rng.random() < 0.5
        self.started = False
        for address in range(self.platform.l2_words):
            self._poke(address, self.word(address))

    def in_frame(self) -> int:
        soc = self.model.soc
        soc.frame = int(self.asked and not self.started)
        asked, self.started = int(self.started and self.asked), True
        return asked

    def place(self, address: int, *descriptors: dict[str, int], end: bool = True) -> None:
        super().place(address, *descriptors, end=end)
        for word, value in self.l2.items():
            if word < self.platform.l2_words:
                self._poke(word, value)

    def _poke(self, address: int, value: int) -> None:
        banks = self.model.banks
        raw = value.to_bytes(self.platform.word_bytes, "little")
        banks[address % len(banks)][address // len(banks)] = np.frombuffer(raw, np.uint8)

    def _compare(self, expected: dict[str, Any]) -> None:
        drains = sum(cluster.cells["drain_ahead"][0] << k for k, cluster in enumerate(self.model.clusters))
        assert self.model.soc.probe_drain_ahead == drains
        super()._compare({name: value for name, value in expected.items() if name not in ("free", "busy")})


@contextmanager
def simulated(module: ModuleType = soc_module) -> Iterator[SocAsDmpa]:
    """The SoC of `module`, among stubs."""
    sources = module.emit_soc(PLATFORM, StubCluster) | {
        "core.v": CORE_VERILOG, "cluster.v": puppet_verilog(STUB_MODULE, cluster_ports(PLATFORM))}
    vlt = f'public_flat_rw -module "{SOC_MODULE}" -var "probe_cycle"'
    with Model(build(sources, SOC_MODULE, vlt=vlt, optimize="-O0"), seed=1) as model:
        model.poison(1)
        yield SocAsDmpa(model, PLATFORM)


@pytest.fixture(scope="module")
def soc() -> Iterator[SocAsDmpa]:
    with simulated() as soc:
        yield soc


def test_dmpa_l2_and_clusters(soc):
    """Random lists: every port of the DMPA where it is connected, and all of L2 at the end of each."""
    lists(InSoc(soc, PLATFORM, 1), 40)


def lists(bench: InSoc, episodes: int) -> None:
    soc = bench.model
    for number in range(episodes):
        episode(bench, calm=number % 2 == 0)
        for _ in range(8):
            bench.step()
        words = [int.from_bytes(soc.banks[a % 4][a // 4].tobytes(), "little") for a in range(PLATFORM.l2_words)]
        assert words == [bench.word(a) for a in range(PLATFORM.l2_words)]
        assert soc.read("LISTS_DONE") == bench.reference.lists_done
        status = soc.read("DMPA_STATUS")
        assert status >> 16 == bench.reference.trap


def test_status_of_the_dmpa(soc):
    """Free places, busy and idle, as the host reads them while a list waits for ever."""
    bench = InSoc(soc, PLATFORM, 1)
    bench.place(0, {"op": 3, "wait_mask": 1})
    assert soc.read("DMPA_STATUS") == 4
    for lists, free in enumerate([4, 4, 3, 2, 1, 0]):
        soc.write("DMPA_PUSH", 0)
        for _ in range(10):
            soc.tick()
        assert soc.read("DMPA_STATUS") == free | 1 << 8, lists
    soc.write("DMPA_PUSH", 0)
    assert soc.read("DMPA_STATUS") == 0 | 1 << 8 | 1 << 16 and soc.soc.trap == 1 and soc.soc.probe_trap == 1 << 8


def test_clusters_reach_the_host_and_the_probes(soc, seed):
    """Starts, status, traps, counters and probes: each cluster by itself, and all of them at once."""
    rng, count = random.Random(seed), PLATFORM.clusters
    soc.reset()
    for _ in range(40):
        drawn = {name: [rng.getrandbits(bits) for _ in range(count)] for name, bits in (
            ("running", 1), ("armed", 1), ("trap", 1), ("drain_ahead", 1), ("probe", 32), ("counters", 192))}
        if rng.random() < 0.5:
            one = rng.randrange(count)
            for name in ("running", "armed", "trap", "drain_ahead"):
                drawn[name] = [int(k == one) for k in range(count)]
        for name, values in drawn.items():
            for cluster, value in zip(soc.clusters, values, strict=True):
                cluster[name] = value
        soc.soc.eval()
        bits = {name: sum(value << k for k, value in enumerate(drawn[name]))
                for name in ("running", "armed", "trap", "drain_ahead")}
        top = soc.soc
        assert (top.probe_running, top.probe_armed, top.probe_trap, top.probe_drain_ahead) == tuple(bits.values())
        assert top.trap == (bits["trap"] != 0)
        assert top.probe_cluster == sum(value << 32 * k for k, value in enumerate(drawn["probe"]))
        counters = sum(value << 192 * k for k, value in enumerate(drawn["counters"]))
        assert top.probe_counters & (1 << 192 * count) - 1 == counters
        assert soc.read("CLUSTER_STATUS") == (
            bits["running"] | bits["armed"] | bits["armed"] << 8 | bits["trap"] << 16)
        engine, kind = rng.randrange(count), rng.randrange(6)
        soc.write("COUNTER_SELECT", engine | kind << 4)
        assert soc.read("COUNTER_VALUE") == drawn["counters"][engine] >> 32 * kind & 0xFFFFFFFF
        chosen, pc = rng.choice([0, 1 << rng.randrange(8), rng.randrange(256)]), rng.choice([0, 1, 510, 511])
        soc.access("CLUSTER_START", chosen | pc << 16)
        assert [cluster["start"] for cluster in soc.clusters] == [chosen >> k & 1 for k in range(count)]
        assert {cluster["start_pc"] for cluster in soc.clusters} == {pc}
        soc.tick()
        soc.core["data_req_o"] = 0
        soc.soc.eval()
        assert not any(cluster["start"] for cluster in soc.clusters)


def test_counters_of_dmpa_and_host(soc):
    """Read by the host, each is what its probe shows: engines 8 and 9, and 10 to 13, whose numbers all differ."""
    bench = InSoc(soc, PLATFORM, 2)
    bench.drains = 0.3
    for _ in range(3):
        bench.run({"op": 1, "clusters": 3, "n0": 9, "local": 1}, {"op": 2, "clusters": 2, "n0": 5, "l2": 90},
                  {"op": 3, "wait_mask": 2}, {"op": 1, "clusters": 1, "n0": 2, "wait_mask": 1})
    for sleep in (0, 1, 1):
        soc.core["core_sleep_o"] = sleep
        soc.soc.tick(13)
    soc.soc.eval()
    count = PLATFORM.clusters
    for engine in (8, 9):
        for kind in range(6):
            soc.write("COUNTER_SELECT", engine | kind << 4)
            soc.access("COUNTER_VALUE")
            shown = soc.soc.probe_counters >> 192 * (count + engine - 8) + 32 * kind & 0xFFFFFFFF
            assert soc.read("COUNTER_VALUE") == shown
    host = soc.soc.probe_counters >> 192 * (count + 1)
    assert host >> 32 * 5 and sum(host >> 32 * k & 0xFFFFFFFF for k in range(6)) == soc.soc.probe_cycle - 1
    for kind in range(4):
        for which in range(7):
            soc.write("COUNTER_SELECT", 10 + kind | which << 4)
            assert soc.read("COUNTER_VALUE") == soc.soc.probe_transfers >> 32 * (7 * kind + which) & 0xFFFFFFFF


def test_frames(soc):
    """A request reaches the registers, the interrupt, the clusters' and the host's counters; the answer the ports."""
    soc.reset()
    top, core = soc.soc, soc.core
    core["core_sleep_o"] = 1
    for number in range(1, 4):
        assert [cluster["in_frame"] for cluster in soc.clusters] == [0] * PLATFORM.clusters and core["irq_i"] == 0
        top.tick()
        assert top.probe_host_state == 5
        top.frame = 1
        top.tick()
        top.frame = 0
        top.eval()
        assert [cluster["in_frame"] for cluster in soc.clusters] == [1] * PLATFORM.clusters
        assert core["irq_i"] == 1 << 16 and top.frames_done == number - 1
        top.tick()
        assert top.probe_host_state == 1 and top.probe_host_sleeping == 1
        assert soc.read("FRAMES_REQUESTED") == number
        soc.write("IRQ_FRAMES_SEEN", number)
        top.eval()
        assert core["irq_i"] == 0
        soc.write("FRAMES_DONE", number)
        soc.write("ERROR", number << 20)
        top.eval()
        assert top.frames_done == number and top.error == number << 20
    cycle = top.probe_cycle
    core["core_sleep_o"], core["instr_req_o"], core["instr_addr_o"] = 0, 1, 0x1234
    top.tick()
    assert top.probe_cycle == cycle + 1 and top.probe_host_pc == 0x1234 and top.probe_host_sleeping == 0
    assert top.probe_host_state == 0


def test_lists_interrupt(soc):
    bench = InSoc(soc, PLATFORM, 1)
    soc.write("IRQ_FRAMES_SEEN", 0)
    bench.place(0, {"op": 3})
    soc.write("DMPA_PUSH", 0)
    for _ in range(20):
        soc.tick()
    soc.soc.eval()
    assert soc.core["irq_i"] == 1 << 16 and soc.soc.lists_done == 1
    soc.write("IRQ_LISTS_SEEN", 1)
    soc.soc.eval()
    assert soc.core["irq_i"] == 0


def test_lost_signals(soc):
    """The 256th signal of one cluster's semaphore is lost, and no other."""
    soc.reset()
    for k, cluster in enumerate(soc.clusters):
        cluster["signal_out"] = 1 << k
        for _ in range(255):
            soc.soc.eval()
            assert soc.soc.probe_lost == 0
            soc.tick()
        soc.soc.eval()
        assert soc.soc.probe_lost == 1 << 9 * k
        cluster["signal_out"] = 0


@pytest.mark.parametrize("start", [(1 << bits) - 2 for bits in (8, 16, 20, 24, 31, 32, 48, 63)])
def test_cycles_are_counted_in_64_bits(soc, start):
    soc.reset()
    assert soc.soc.probe_cycle == 0
    soc.soc.register("probe_cycle")[:] = start
    for k in range(4):
        soc.soc.eval()
        assert soc.soc.probe_cycle == start + k
        soc.tick()


BUGS = {
    "the STORE data of a neighbour": (
        "dmpa.rd_data.word_select(index,", "dmpa.rd_data.word_select(self.platform.clusters - 1 - index,"),
    "signals of another cluster": (
        "dmpa.signal_out.word_select(index, 8)", "dmpa.signal_out.word_select(index ^ 1, 8)"),
    "armed is taken for running": (
        "control.armed[index].eq(cluster.armed)", "control.armed[index].eq(cluster.running)"),
    "one program counter bit short": (
        "cluster.start_pc.eq(control.start_pc)", "cluster.start_pc.eq(control.start_pc[:8])"),
    "counters in another order": ("dmpa.counters, host.counters)", "host.counters, dmpa.counters)"),
    "all start": ("cluster.start.eq(control.start[index])", "cluster.start.eq(control.start.any())"),
    "a trap is not told": ("control.cluster_trap[index].eq(cluster.trap)", "control.cluster_trap[0].eq(cluster.trap)"),
    "drains of the first cluster only": ("dmpa.drain_ahead[index].eq(", "dmpa.drain_ahead[0].eq("),
    "idle is busy": ("cluster.dmpa_idle.eq(dmpa.idle)", "cluster.dmpa_idle.eq(dmpa.busy)"),
    "the host does not see frames": ("host.in_frame.eq(control.in_frame)", "host.in_frame.eq(0)"),
    "no interrupt": ("host.irq.eq(control.irq)", "host.irq.eq(0)"),
    "lost signals are not shown": ("self.probe_lost.eq(dmpa.probe_lost)", "self.probe_lost.eq(0)"),
    "a mask short of a word": ("l2.mask.eq(port.l2_mask)", "l2.mask.eq(port.l2_mask[:3])"),
    "descriptors do not trap": ("control.dmpa_trap.eq(dmpa.trap)", "control.dmpa_trap.eq(0)"),
    "transfers of the probe alone": ("control.transfers.eq(dmpa.transfers)", "control.transfers.eq(0)"),
    "32 bits of cycles": (
        "self.probe_cycle.eq(self.probe_cycle + 1)", "self.probe_cycle.eq((self.probe_cycle + 1)[:32])"),
}


@pytest.mark.parametrize("bug", [
    pytest.param(bug, marks=[] if number < 1 else pytest.mark.slow) for number, bug in enumerate(BUGS)])
def test_planted_bug_is_noticed(bug):
    with simulated(planted(soc_module, *BUGS[bug])) as soc, pytest.raises(AssertionError):
        test_frames(soc)
        test_lists_interrupt(soc)
        test_status_of_the_dmpa(soc)
        test_clusters_reach_the_host_and_the_probes(soc, 1)
        test_counters_of_dmpa_and_host(soc)
        test_lost_signals(soc)
        test_cycles_are_counted_in_64_bits(soc, (1 << 32) - 2)
        lists(InSoc(soc, PLATFORM, 1), 20)
