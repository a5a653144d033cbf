# SPDX-License-Identifier: Apache-2.0
"""J3DAI's DMPA alone, every port in every cycle against `j3dai_dmpa_reference`: corners, meetings of events, traps.

The bench is L2, the clusters and the host: read data is there in the one cycle in which it is promised, and noise
otherwise.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any

import pytest
from nncosim.hdl.formats import decode, encode
from nncosim.hdl.j3dai.dmpa import Dmpa
from nncosim.hdl.j3dai.isa import Descriptor
from nncosim.hdl.j3dai.timing import STORE_TO_CLUSTER, STORE_TO_DATA
from nncosim.platforms.j3dai import J3dai
from nncosim.regress import j3dai_dmpa_reference as reference
from nncosim.regress.emission import emit_once
from nncosim.regress.j3dai_dmpa_reference import GATHER, LOAD, STORE, SYNC, DmpaInputs, DmpaReference
from nncosim.tb.sim.model import Model
from nncosim.tb.sim.verilate import BuiltModel, build

SEED = 1
GOOD = {"op": LOAD, "clusters": 1, "n0": 1}
GATHERED = {"step": 3, "used": 2, "left": 1, "length": 1, "fill": 77, "offset": 0}
MACHINES = {
    "8 x 4, all of L2": J3dai(clusters=8, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=256, l2_bytes=8 << 20),
    "8 x 4, two words": J3dai(clusters=3, ncbs_per_cluster=8, pes_per_ncb=4, dmpa_bits=128, l2_bytes=8 * 4 * 37),
    "default": J3dai(),
    "32 x 16": J3dai(clusters=2, ncbs_per_cluster=32, pes_per_ncb=16, dmpa_bits=4096, l2_bytes=16 << 20),
}
"""Descriptors of four, four, two and one words; lines of one, one, four and sixteen."""


VISIBLE = """
public_flat_rw -module "dmpa_alone" -var "lists_done"
public_flat_rw -module "dmpa_alone.fetch" -var "list_index"
"""


def built(platform: J3dai) -> BuiltModel:
    return build(emit_once(Dmpa, platform, "dmpa_alone"), "dmpa_alone", vlt=VISIBLE, optimize="-O0")


class DmpaCycleBench:
    """The DMPA and its reference in step."""

    def __init__(self, model: Any, platform: J3dai, seed: int):
        self.model, self.platform, self.rng = model, platform, random.Random(seed)
        self.reference = DmpaReference(platform)
        self.drains = self.frames = 0.0
        self.factor = self.rng.getrandbits(platform.word_bits) | 1
        self.reset()

    def reset(self) -> None:
        m = self.model
        for name, (direction, bits) in m.ports.items():
            if direction == "in" and name not in ("clk", "rst"):
                m[name] = self.rng.getrandbits(bits)  # reset is above all inputs
        m.reset()
        self.reference.reset()
        self.l2: dict[int, int] = {}
        self.line: int | None = None  # what L2 gives in this cycle
        self.answers: dict[int, tuple[int, int]] = {}  # cycle to (cluster, local word address)

    def in_frame(self) -> int:
        return int(self.rng.random() < self.frames)

    def word(self, address: int, cluster: int | None = None) -> int:
        """What a word of L2, or of a cluster's L1, holds."""
        if cluster is None and address in self.l2:
            return self.l2[address]
        where = address if cluster is None else (cluster + 1 << 20) + address
        return (where + 1) * self.factor % (1 << self.platform.word_bits)

    def words(self, first: int, space: int, cluster: int | None = None) -> int:
        """A line from any word on."""
        bits = self.platform.word_bits
        return sum(self.word((first + k) % space, cluster) << bits * k for k in range(self.platform.banks))

    def place(self, address: int, *descriptors: dict[str, int], end: bool = True) -> None:
        """Put a list into L2; the bits that mean nothing are noise."""
        bits = self.platform.word_bits
        for number, fields in enumerate(descriptors):
            op = fields.get("op", 0)
            last = int(end and number == len(descriptors) - 1)
            unused = [name for name in OTHERS if op != GATHER or name == "pad"]
            noise = {name: self.rng.getrandbits(OTHERS[name]) for name in unused}
            word = encode(Descriptor, **{"end": last, **noise, **fields, "op": 0}) | op
            for k in range(256 // bits):
                self.l2[address] = word >> bits * k & (1 << bits) - 1
                address += 1

    def step(self, push: int | None = None, signals: int = 0) -> None:
        """One cycle: drive inputs, hold every port against the reference, go on."""
        m, r, p, rng = self.model, self.reference, self.platform, self.rng
        i = DmpaInputs(push, signals, in_frame=self.in_frame())
        for c in range(p.clusters):
            i.drain_ahead |= (rng.random() < self.drains) << c
        i.l2_rdata = rng.getrandbits(p.line_bits) if self.line is None else self.line
        i.rd_data = [rng.getrandbits(p.line_bits) for _ in range(p.clusters)]
        if answer := self.answers.pop(r.t, None):
            cluster, address = answer
            i.rd_data[cluster] = self.words(address, 1 << 14, cluster)
        m.push, m.push_addr = push is not None, rng.getrandbits(32) if push is None else push
        m.signal_out, m.drain_ahead, m.in_frame, m.l2_rdata = signals, i.drain_ahead, i.in_frame, i.l2_rdata
        m.rd_data = sum(data << p.line_bits * c for c, data in enumerate(i.rd_data))
        expected = r.expect(i)
        self._compare(expected)
        self._memories(expected)
        r.advance(i)
        m.tick()

    def _compare(self, expected: dict[str, Any]) -> None:
        m, p = self.model, self.platform
        for name, value in expected.items():
            if name.endswith("_words"):
                port = name.removesuffix("_words")
                line = m[port]
                found = {k: line >> p.word_bits * k & (1 << p.word_bits) - 1 for k in value}
            else:
                found = m[name]
            assert found == value, f"cycle {self.reference.t}: {name} is {found}, expected {value}"

    def _memories(self, expected: dict[str, Any]) -> None:
        """L2 and the clusters' read ports; what the reference asks for is what the DMPA does."""
        self.line = self.words(expected["l2_addr"], 1 << 20) if expected["l2_re"] else None
        if expected["l2_we"]:
            self.l2 |= {(expected["l2_addr"] + k) % (1 << 20): word for k, word in expected["l2_wdata_words"].items()}
        if valid := expected["rd_valid"]:
            at = self.reference.t + STORE_TO_DATA - STORE_TO_CLUSTER
            self.answers[at] = valid.bit_length() - 1, expected["rd_addr"]

    def drain(self, limit: int = 400) -> None:
        """Until nothing is left to do, or it is trapped, and ten cycles on; the clusters signal what is waited for."""
        for _ in range(limit):
            clusters, semaphore = self.reference.waiting
            wanted = sum(1 << 8 * c + semaphore for c in range(8) if clusters >> c & 1)
            self.step(signals=wanted if self.rng.random() < 0.3 else 0)
            if self.reference.trap or (self.reference.nothing and not self.reference.events):
                break
        else:
            raise AssertionError("the list does not end")
        for _ in range(10):
            self.step()

    def run(self, *descriptors: dict[str, int], at: int = 0, limit: int = 400) -> None:
        """One list, from the push to its end."""
        self.place(at, *descriptors)
        self.step(push=at)
        self.drain(limit)


# Random descriptors

OTHERS = {name: field.width for name, field in Descriptor.as_shape() if name in (
    "pad", "offset", "step", "used", "left", "length", "fill")}
"""Fields that no operation but GATHER looks at, and none at all."""


def fits(platform: J3dai, f: dict[str, int]) -> bool:
    if f["op"] == GATHER:
        size = platform.word_bytes
        return all(
            (f["l2"] * size + f["offset"] + i1 * f["l2_step1"] + i2 * f["l2_step2"]) % (size << 20) + f["length"]
            <= platform.l2_bytes for i1 in range(max(f["n1"], 1)) for i2 in range(max(f["n2"], 1)))
    for i2 in range(max(f["n2"], 1)):
        for i1 in range(max(f["n1"], 1)):
            first = (f["l2"] + i1 * f["l2_step1"] + i2 * f["l2_step2"]) % (1 << 20)
            if first + f["n0"] > platform.l2_words:
                return False
    return True


def descriptor(rng: random.Random, p: J3dai) -> dict[str, int]:
    """A legal one, with corners of every field."""
    clusters, existing = rng.choice([1, 1 << p.clusters - 1, rng.randrange(1, 1 << p.clusters)]), 1 << p.clusters
    f = {"op": rng.choice([LOAD, LOAD, GATHER, GATHER, STORE, STORE, SYNC]), "clusters": clusters,
         "signal_mask": rng.choice([0, existing - 1, 255, rng.randrange(256)]), "signal_semaphore": rng.randrange(8),
         "wait_semaphore": rng.randrange(8)}
    if rng.random() < 0.4:
        f["wait_mask"] = rng.choice([1, 1 << p.clusters - 1, 255, 256 - existing, rng.randrange(256)])
    if f["op"] == SYNC:  # has no other fields
        return f | {"clusters": rng.randrange(256), "n0": rng.choice([0, 5]), "local": rng.randrange(1 << 16),
                    "l2": rng.randrange(1 << 20)}
    b = p.beat_words
    n0 = rng.choice([1, 2, b - 1 or 1, b, b + 1, 2 * b, 2 * b + 1, rng.randrange(1, 4 * b)])
    n0 = min(n0, p.l2_words)
    space = rng.choice([0, 0, 1, 2]) if f["op"] != STORE else 0
    word = rng.choice([0, 1, (1 << 14) - 1, (1 << 14) - n0, rng.randrange(1 << 14)])
    f |= {"n0": n0, "n1": rng.choice([0, 1, 2, 3]), "n2": rng.choice([0, 0, 1, 2, 3]), "local": space << 14 | word,
          **{f"local_step{k}": rng.choice([-(1 << 13), (1 << 13) - 1, -1, 0, n0, rng.randrange(-200, 200)])
             for k in (1, 2)}}
    while True:
        steps = {f"l2_step{k}": rng.choice([-(1 << 19), (1 << 19) - 1, -n0, 0, n0, rng.randrange(-90, 90)])
                 for k in (1, 2)}
        last = p.l2_words - n0
        if f["op"] == GATHER:
            last = gathering(rng, p, f, n0)
        f |= steps | {"l2": rng.choice([0, last, rng.randrange(last + 1), last - steps["l2_step1"]]) % (1 << 20)}
        if fits(p, f):
            return f


def gathering(rng: random.Random, p: J3dai, f: dict[str, int], n0: int) -> int:
    """Gives a GATHER its own fields, with their corners; the greatest word that its first run may begin in."""
    size = p.word_bytes
    step, used = (rng.choice([1, size, rng.randrange(1, size + 1)]) for _ in range(2))
    left = rng.choice([0, used - 1, rng.randrange(used)])
    whole = max(1, (n0 - 1) * step + used - left)
    length = rng.choice([whole, 1, rng.randrange(1, whole + 1), whole + rng.randrange(3 * size)])
    length = min(length, p.l2_bytes - size)
    f |= {"step": step, "used": used, "left": left, "length": length, "fill": rng.randrange(256),
          "offset": rng.choice([0, size - 1, rng.randrange(size), -length % size])}
    return (p.l2_bytes - length - f["offset"]) // size


def illegal(rng: random.Random, p: J3dai) -> dict[str, int]:
    """One that traps at once, or at some beat."""
    f = descriptor(rng, p)
    f["op"] = rng.choice([LOAD, STORE])
    good = {"n0": 3, "n1": 0, "n2": 0, "local": rng.randrange(1 << 14), "clusters": 1}
    end, b = p.l2_words, p.beat_words
    changes: list[dict[str, int]] = [
        {"n0": 0}, {"clusters": 0}, {"local": 3 << 14 | 5}, {"op": rng.choice([0, *range(5, 16)])},
        {"op": STORE, "local": rng.choice([1, 2, 3]) << 14}]
    gather = {"op": GATHER, "step": 1, "used": 2, "left": 1, "length": 4, "offset": p.word_bytes - 4}
    changes += [gather | wrong for wrong in (
        {"step": 0}, {"step": p.word_bytes + 1}, {"step": 63}, {"used": 0}, {"used": p.word_bytes + 1}, {"left": 2},
        {"length": 0}, {"offset": 31 if p.word_bytes < 32 else 0, "used": 1}, {"local": 3 << 14}, {"n0": 0})]
    if p.clusters < 8:
        changes += [{"clusters": 1 << k} for k in range(p.clusters, 8)] + [{"clusters": 1 | 1 << p.clusters}]
    beyond: list[dict[str, int]] = [
        {"l2": end - 2}, {"l2": end - 1, "n0": 2}, {"l2": end - 2 * b, "n0": 2 * b + 1}, {"l2": end - b, "n0": 2 * b},
        {"l2": end - 3, "n1": 2, "l2_step1": 1}, {"l2": end - 3, "n1": 1, "n2": 3, "l2_step2": 1}]
    beyond += [gather | wrong for wrong in (
        {"l2": end - 1, "length": 5}, {"l2": end - 1, "n1": 2, "l2_step1": 1}, {"l2": end - 1, "n2": 2, "l2_step2": 1},
        {"l2": (1 << 20) - 1, "length": 5, "left": 0})]
    if end < 1 << 20:
        beyond += [{"l2": end}, {"l2": (1 << 20) - 1}, {"l2": 0, "n1": 2, "l2_step1": -1}]
    return f | good | rng.choice([rng.choice(changes), rng.choice(beyond)])


def episode(bench: DmpaCycleBench, calm: bool) -> None:
    """Some lists from reset on, pushed while others run; ends when all is done, in a trap, or in the middle.

    `calm`: signals come only where they are waited for; otherwise also where nobody waits.
    """
    b, rng, p = bench, bench.rng, bench.platform
    b.reset()
    b.drains, b.frames = rng.choice([0.0, 0.3, 0.7]), rng.choice([0.0, 0.5, 1.0])
    lines = p.l2_words // p.banks
    starts = []
    for _ in range(rng.randrange(1, 9)):
        start = p.banks * rng.choice([0, lines - 1, rng.randrange(lines)])
        room = (p.l2_words - start) * p.word_bits // 256
        count = rng.choice([1, 2, 3, 7, room if room < 20 else 5])
        tasks = [descriptor(rng, p) for _ in range(min(count, room))]
        if rng.random() < 0.15:
            tasks[rng.randrange(len(tasks))] = illegal(rng, p)
        b.place(start, *tasks, end=room > len(tasks) or rng.random() < 0.5)
        starts.append(start)
    rushed, eager = rng.random() < 0.3, rng.choice([0.05, 0.5, 1.0])
    hurry = 0.9 if rushed else 0.1
    for _ in range(rng.choice([30, 120, 400])):
        push = None
        ends = b.reference.calendar.get(b.reference.t, {}).get("list_done")
        if starts and rng.random() < (0.7 if ends else hurry) and (rushed or len(b.reference.queue) < 4):
            push = rng.choice([starts.pop()] * 12 + [rng.choice([p.l2_words, 1, p.banks // 2, 1 << 20, 1 << 31])])
        signals = 0 if calm or rng.random() < 0.7 else rng.getrandbits(8 * p.clusters) & rng.getrandbits(8 * p.clusters)
        clusters, semaphore = b.reference.waiting
        for c in range(p.clusters):
            if clusters >> c & 1 and rng.random() < eager:
                signals |= 1 << 8 * c + semaphore
        b.step(push, signals)
        if b.reference.trap and rng.random() < 0.05:
            break


@pytest.fixture(params=MACHINES, scope="module")
def bench(request) -> Iterator[DmpaCycleBench]:
    platform = MACHINES[request.param]
    with Model(built(platform), seed=SEED) as model:
        yield DmpaCycleBench(model, platform, SEED)


NEEDED = {
    "push and fetch of a list", "push to an idle DMPA", "push of the fourth", "push while full", "push beyond",
    "push unaligned", "push after a trap", "fetch stops a LOAD", "fetch and drain", "drain stops a LOAD",
    "drain beside a LOAD", "drain stops a LOAD to WMEM or IMEM", "drain and STORE", "fetch with a STORE's beat",
    "fetch waits for a STORE", "take behind a last beat", "take later", "last beat, next waits",
    "last beat, nothing offered", "line arrives as a descriptor is taken", "line arrives, none offered",
    "list done and push", "list done and signals", "list done and take", "LOAD turns", "STORE turns", "SYNC turns",
    "LOAD of L2's last word", "STORE to L2's last word", "L2's last line fetched", "LOAD beyond", "STORE beyond",
    "GATHER of L2's last word", "GATHER turns", "GATHER beyond",
    "a later beat beyond", "beyond while the port is taken", "list beyond", "list beyond, held back",
    "refused behind a last beat", "refused without its semaphores", "trap with beats under way", "idle in a frame",
    "idle outside", "signal and take, below",
}
"""What must have met in one cycle, on every machine."""


def test_random_lists(bench):
    seen: Tally[str] = Tally()
    bench.reference.seen = seen
    # Rare by chance on long lines: no place for the beat that would be beyond the end.
    calm(bench, drains=1.0).run(GOOD | {"l2": bench.platform.l2_words - 1, "n0": 2})
    for number in range(480):
        episode(bench, calm=number % 2 == 0)
        if number >= 120 and all(seen[name] for name in NEEDED):
            break
    assert NEEDED - {name for name, count in seen.items() if count} == set(), dict(seen)


# One corner after the other

def calm(bench: DmpaCycleBench, *, drains: float = 0.0) -> DmpaCycleBench:
    bench.reset()
    bench.drains, bench.frames = drains, 0.5
    return bench


def test_operations_clusters_and_spaces(bench):
    """Every operation, each cluster that exists and each that does not, every space; SYNC looks at none of them."""
    p = bench.platform
    for op in range(16):
        for change in [{}, {"n0": 0}, {"clusters": 0}, *({"clusters": 1 << c} for c in range(8)),
                       {"clusters": 0xFF}, *({"local": k << 14} for k in range(4))]:
            if op > GATHER and change:
                continue
            calm(bench).run(GOOD | GATHERED | {"op": op, "l2": p.l2_words - 1, "signal_mask": 255} | change)
            spaces, clusters = 1 if op == STORE else 3, change.get("clusters", 1)
            legal = op == SYNC or (op in (LOAD, STORE, GATHER) and change.get("n0", 1)
                                   and change.get("local", 0) >> 14 < spaces and 0 < clusters < 1 << p.clusters)
            assert bench.reference.trap != bool(legal)


@pytest.mark.parametrize("op", [LOAD, STORE])
def test_both_sides_of_the_end_of_l2(bench, op):
    """Runs that end at the last word, and one behind it, by their beginning, their length, their steps."""
    p, b = bench.platform, bench.platform.beat_words
    least = 1 if p.l2_words < 1 << 20 else 2  # the word behind the largest L2 is word 0
    for n0 in sorted({least, b, b + 1, 2 * b, 3 * b - 1}):
        first = p.l2_words - n0
        for change, traps in [({"l2": first}, False), ({"l2": first + 1}, True), ({"l2": first, "n0": n0 + 1}, True),
                              ({"l2": 0, "n1": 2, "l2_step1": first}, False) if first < 1 << 19 else ({}, False),
                              ({"l2": first - 7, "n1": 2, "l2_step1": 8}, True),
                              ({"l2": first - 7, "n2": 2, "l2_step2": 7}, False),
                              ({"l2": first - 7, "n2": 2, "l2_step2": 8}, True)]:
            calm(bench).run(GOOD | {"op": op, "n0": n0} | change)
            assert bench.reference.trap == traps


def test_lists_at_both_ends_of_l2(bench):
    """In the first line and the last; one that goes on behind the last; pushes at the first word behind it."""
    p = bench.platform
    last = p.l2_words - p.banks
    room = p.line_bits // 256
    for start in (0, p.banks, last):
        calm(bench).run(*[GOOD | {"l2": 1}] * room, at=start)
        assert not bench.reference.trap
    calm(bench).place(last, *[GOOD] * room, end=False)
    bench.step(push=last)
    bench.drain()
    assert bench.reference.trap
    for address in (p.l2_words, p.l2_words + p.banks, *(1 << k for k in range(32)), last + 1, last | 1 << 31):
        calm(bench).place(address % (1 << 20), GOOD)
        bench.step(push=address)
        bench.drain()
        assert bench.reference.trap == (address >= p.l2_words or address % p.banks != 0)


def test_each_semaphore_alone(bench):
    """A wait for one semaphore is not served by all others; one of all clusters needs each of them."""
    p = calm(bench).platform
    everything = (1 << 8 * p.clusters) - 1
    for c in range(p.clusters):
        for k in range(8):
            for mask in (1 << c, (1 << p.clusters) - 1):
                bench.reset()
                bench.place(0, {"op": SYNC, "wait_mask": mask, "wait_semaphore": k, "signal_mask": 1 << c,
                                "signal_semaphore": 7 - k})
                bench.step(push=0, signals=everything & ~(1 << 8 * c + k))
                for _ in range(8):
                    bench.step(signals=0)
                assert bench.reference.waits
                bench.step(signals=1 << 8 * c + k)
                for _ in range(8):
                    bench.step()
                assert bench.reference.lists_done == 1


@pytest.mark.parametrize("signals", [254, 255, 256, 257])
def test_semaphores_saturate(bench, signals):
    """All of them at once up to their ends, with an increment and a take in one cycle there; then down to 0."""
    p = calm(bench).platform
    everything = (1 << 8 * p.clusters) - 1
    for _ in range(signals):
        bench.step(signals=everything)
    room, waits = p.line_bits // 256, {"op": SYNC, "wait_mask": 255}
    taken = 0
    bench.place(0, *[waits | {"wait_semaphore": k} for k in range(8)])
    bench.step(push=0)
    while bench.reference.lists_done < 1:  # increments and takes at the end of the range meet
        bench.step(signals=everything if bench.reference.offered else 0)
    before = [list(values) for values in bench.reference.semaphores]
    assert before == [[255] * 8] * p.clusters
    which = signals % 8
    count = -(-256 // room) * room
    bench.place(p.banks * 4, *[waits | {"wait_semaphore": which}] * min(count, 16))
    while not bench.reference.waits and taken < 60:
        if len(bench.reference.queue) < 4:
            bench.step(push=p.banks * 4)
            taken += 1
        else:
            bench.step()
    assert [values[which] for values in bench.reference.semaphores] == [0] * p.clusters
    bench.drain(4000)


@pytest.mark.parametrize("fields", [{"n0": 65535}, {"n1": 4095, "l2_step1": 1}, {"n2": 4095, "l2_step2": 1},
                                    {"n1": 2, "n2": 2050, "local_step2": 1}, {"n1": 2049, "n2": 2, "local_step1": 1}])
def test_longest_runs(bench, fields):
    """Counts by their widths, to WMEM: the words wrap there."""
    if bench.platform.l2_words < 1 << 17 or ("n0" in fields and bench.platform.beat_words < 8):
        pytest.skip("takes a wide beat or a large L2")
    calm(bench).run(GOOD | {"l2": 5, "local": 1 << 14 | 9} | fields, limit=70_000 // bench.platform.beat_words)
    assert not bench.reference.trap


@pytest.mark.parametrize("start", [0xFE, 0xFFFE, 0xFF_FFFE, 0x7FFF_FFFE, 0xFFFF_FFFE])
def test_lists_are_counted_in_32_bits(bench, start):
    """LISTS_DONE and the index that goes with a write, preset."""
    calm(bench)
    bench.model.register("lists_done")[:] = bench.reference.lists_done = start
    bench.model.register("fetch.list_index")[:] = start - 1
    bench.reference.list_index = start - 1
    for _ in range(4):
        bench.run(GOOD | {"op": STORE})
    assert bench.reference.lists_done == start + 4


# The bench is shown to notice: a reference that differs is one design too many

@pytest.fixture(scope="module")
def small() -> Iterator[DmpaCycleBench]:
    platform = MACHINES["8 x 4, two words"]
    with Model(built(platform), seed=SEED) as model:
        yield DmpaCycleBench(model, platform, SEED)


@pytest.mark.parametrize(("constant", "change"), [
    ("LOAD_TO_CLUSTER", -1), ("LOAD_TO_SIGNAL", 1), ("LOAD_TO_STORE", -1), ("STORE_TO_CLUSTER", 1),
    ("STORE_TO_L2", -1), ("STORE_TO_LOAD", 1), ("STORE_TO_SIGNAL", -1), ("QUEUE", 1)])
def test_a_cycle_or_a_place_more_or_less_is_noticed(small, monkeypatch, constant, change):
    monkeypatch.setattr(reference, constant, getattr(reference, constant) + change)
    with pytest.raises((AssertionError, KeyError)):
        for number in range(60):
            episode(small, calm=number % 2 == 0)


@pytest.mark.parametrize("change", [{"end": 1}, {"signal_semaphore": 1}, {"wait_semaphore": 1}, {"clusters": 2},
                                    {"local": 1}, {"n2": 1}, {"l2_step1": 1}, {"local_step2": 1}, {"offset": 1},
                                    {"step": 1}, {"used": 1}, {"left": 1}, {"length": 1}, {"fill": 1}])
def test_a_wrong_bit_of_a_descriptor_is_noticed(small, monkeypatch, change):
    def wrong(fmt, word):
        fields = decode(fmt, word)
        return fields | {name: fields[name] ^ bit for name, bit in change.items()}

    monkeypatch.setattr(reference, "decode", wrong)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        for number in range(60):
            episode(small, calm=number % 2 == 0)
