# SPDX-License-Identifier: Apache-2.0
"""J3DAI's DMPA cycle by cycle, by the manual's words and the distances of `timing.py`: what each port shows, and when.

Shares nothing with the RTL but the formats: beats are a list made when a descriptor is taken, what happens later is
written into a calendar.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nncosim.hdl.formats import decode
from nncosim.hdl.j3dai.isa import Descriptor, DmpaOp, Space
from nncosim.hdl.j3dai.regs import TRANSFER_COUNTERS, Counter, TransferCounter, TransferKind
from nncosim.hdl.j3dai.timing import (
    LOAD_TO_CLUSTER,
    LOAD_TO_SIGNAL,
    LOAD_TO_STORE,
    STORE_TO_CLUSTER,
    STORE_TO_DATA,
    STORE_TO_L2,
    STORE_TO_LOAD,
    STORE_TO_SIGNAL,
)
from nncosim.platforms.j3dai import J3dai

__all__ = ["Beat", "DmpaInputs", "DmpaReference", "beats_of"]

LOAD, STORE, SYNC, GATHER = (op.value for op in (DmpaOp.LOAD, DmpaOp.STORE, DmpaOp.SYNC, DmpaOp.GATHER))
QUEUE = 4
LONG_AGO = -1000
NO_STATE = 7


@dataclass(frozen=True)
class Beat:
    """`count` words from L2 word `l2` (not wrapped beyond a run's start) and local word `local` up.

    end: L2 word behind the last that the beat, of a GATHER its run, touches. read: bit k: reads or writes word l2 + k.
    first: of a GATHER: the position in its run of the byte that its words begin with (negative: filling), and
        skipped: how many bytes of the line come before that.
    """

    l2: int
    local: int
    count: int
    end: int = 0
    read: int = 0
    first: int = 0
    skipped: int = 0


def beats_of(platform: J3dai, f: dict[str, int]) -> Iterator[Beat]:
    """What a legal descriptor moves; one empty beat for SYNC."""
    if f["op"] == SYNC:
        yield Beat(0, 0, 0)
        return
    if f["op"] == GATHER:
        yield from _gathering(platform, f)
        return
    most = platform.beat_words
    for i2 in range(f["n2"] or 1):
        for i1 in range(f["n1"] or 1):
            l2 = (f["l2"] + i1 * f["l2_step1"] + i2 * f["l2_step2"]) % (1 << 20)
            local = f["local"] + i1 * f["local_step1"] + i2 * f["local_step2"]
            for at in range(0, f["n0"], most):
                count = min(most, f["n0"] - at)
                yield Beat(l2 + at, (local + at) % (1 << 14), count, l2 + at + count, (1 << count) - 1)


def _gathering(platform: J3dai, f: dict[str, int]) -> Iterator[Beat]:
    size, line = platform.ncbs_per_cluster, platform.ncbs_per_cluster * platform.pes_per_ncb
    most = 1  # as many as lie in a line wherever in a word the first begins
    while most < platform.beat_words and size - 1 + most * f["step"] + size <= line:
        most += 1
    for i2 in range(f["n2"] or 1):
        for i1 in range(f["n1"] or 1):
            begin = f["l2"] * size + f["offset"] + i1 * f["l2_step1"] + i2 * f["l2_step2"]
            begin %= size << 20
            behind = begin + f["length"]
            local = f["local"] + i1 * f["local_step1"] + i2 * f["local_step2"]
            for at in range(0, f["n0"], most):
                first = at * f["step"] - f["left"]
                word, skipped = divmod(begin + first, size)
                read = [begin < (word + k + 1) * size and (word + k) * size < behind for k in range(line // size)]
                yield Beat(word, (local + at) % (1 << 14), min(most, f["n0"] - at), -(-behind // size),
                           sum(1 << k for k, wanted in enumerate(read) if wanted), first, skipped)


@dataclass
class DmpaInputs:
    """The DMPA's inputs in one cycle. `l2_rdata`, `rd_data`: a list of words, the latter for each cluster."""

    push: int | None = None
    signals: int = 0
    drain_ahead: int = 0
    in_frame: int = 0
    l2_rdata: int = 0
    rd_data: list[int] = field(default_factory=list)


@dataclass
class _RunningTask:
    fields: dict[str, int]
    address: int
    list_index: int
    beats: Iterator[Beat] = field(default_factory=lambda: iter(()))
    beat: Beat | None = None
    following: Beat | None = None  # None: `beat` is the last
    begun: bool = False

    def step(self) -> None:
        self.begun = self.beat is not None
        self.beat = self.following
        self.following = next(self.beats, None)


class DmpaReference:
    """State of the DMPA; `expect` gives a cycle's outputs, `advance` goes on to the next cycle.

    Attributes:
        seen: Which events met in one cycle, counted.
        waiting: (clusters, semaphore) that the descriptor offered still waits for, of the cycle looked at last.
        lists_done, list_index, transfers, counters: To be preset.
    """

    def __init__(self, platform: J3dai):
        self.platform = platform
        self.seen: Tally[str] = Tally()
        self.reset()

    def reset(self) -> None:
        self.t = 0
        self.trap = False
        self.queue: deque[int] = deque()
        self.reading: int | None = None
        self.line_from: tuple[int, int] | None = None  # (cycle of the fetch, address)
        self.buffer: deque[tuple[dict[str, int], int]] = deque()
        self.offered: Any = None  # a _RunningTask, or None
        self.running: Any = None
        self.beat: Any = None
        self.semaphores = [[0] * 8 for _ in range(self.platform.clusters)]
        self.last_load = self.last_store = LONG_AGO
        self.store_cycles: set[int] = set()
        self.calendar: dict[int, dict[str, Any]] = defaultdict(dict)
        self.events: set[int] = set()  # cycles until which something is on its way
        self.lists_done, self.list_index = 0, 0xFFFF_FFFF
        self.counters = dict.fromkeys(Counter, 0)
        self.transfers = {(kind, which): 0 for kind in TransferKind for which in TransferCounter}
        self.pending: list[tuple[int | None, list[tuple[TransferKind, TransferCounter, int]]]] = [(None, [])]
        self.state_before = NO_STATE
        self.store_from = 0
        self.line_of: tuple[Beat, dict[str, int]] | None = None
        self.waiting = (0, 0)

    # One cycle

    def _ready(self, task: _RunningTask) -> int:
        """The existing clusters that it still waits for."""
        mask, index = task.fields["wait_mask"], task.fields["wait_semaphore"]
        return sum(1 << c for c, values in enumerate(self.semaphores) if mask >> c & 1 and not values[index])

    def _bad(self, f: dict[str, int]) -> bool:
        if f["op"] == SYNC:
            return False
        space, size = f["local"] >> 14, self.platform.word_bytes
        if f["op"] == GATHER and not (1 <= f["step"] <= size and f["left"] < f["used"] <= size and f["offset"] < size
                                      and f["length"]):
            return True
        return bool(f["op"] not in (LOAD, STORE, GATHER) or f["n0"] == 0 or f["clusters"] == 0
                or f["clusters"] >> self.platform.clusters != 0
                or (f["op"] in (LOAD, GATHER) and space == 3) or (f["op"] == STORE and space != Space.L1))

    def _decide(self, i: DmpaInputs) -> None:
        """What this cycle does, from the state and the inputs."""
        p, t, r, o = self.platform, self.t, self.running, self.offered
        wanted = ((self.reading is not None or bool(self.queue)) and not self.buffer and self.line_from is None
                  and not self.trap)
        self.line = (self.reading if self.reading is not None else self.queue[0]) if wanted else 0
        store_lands = t + 1 - STORE_TO_L2 in self.store_cycles
        self.bad_line = wanted and self.line >= p.l2_words
        self.fetch = wanted and not self.bad_line and not store_lands
        self.held = wanted and not self.bad_line and store_lands
        self.op = r.fields["op"] if r else o.fields["op"] if o else None
        self.turning = self.beyond = self.port_wait = self.issue = self.last = False
        self.beat = r.beat if r else None
        if r and not self.trap:
            ordered = (t - self.last_load >= LOAD_TO_STORE if self.op == STORE else
                       t - self.last_store >= STORE_TO_LOAD)
            drained = r.fields["clusters"] & i.drain_ahead
            self.turning = not ordered
            if ordered:
                self.beyond = self.op != SYNC and self.beat.end > p.l2_words
                self.port_wait = self.op != SYNC and self.op != STORE and bool(self.fetch or drained)
                self.issue = not self.beyond and not self.port_wait
                self.last = self.issue and r.following is None
        missing = self._ready(o) if o else 0
        turn = o is not None and (r is None or self.last) and not self.trap
        self.refuse = turn and self._bad(o.fields)
        self.take = turn and not missing and not self.refuse
        self.waits = o is not None and r is None and missing != 0
        self.waiting = (missing, o.fields["wait_semaphore"]) if self.waits else (0, 0)
        self.push = None if self.trap else i.push
        self.push_refused = self.push is not None and (len(self.queue) == QUEUE or self.push % p.banks != 0
                                                       or self.push >= p.l2_words)
        self.no_line = self.bad_line and o is None and r is None
        self.nothing = not self.queue and self.reading is None and o is None and r is None
        self._state(i)

    def _state(self, i: DmpaInputs) -> None:
        if self.issue and self.op != SYNC:
            self.state = Counter.BUSY
        elif self.trap:
            self.state = Counter.IDLE
        elif self.port_wait:
            self.state = Counter.WAIT_PORT
        elif self.waits:
            self.state = Counter.WAIT_DATA
        elif not self.nothing:
            self.state = Counter.CONTROL
        else:
            self.state = Counter.WAIT_HOST if i.in_frame else Counter.IDLE

    def expect(self, i: DmpaInputs) -> dict[str, Any]:
        """Port to value; what is missing may have any. Data of a beat is told as ``..._words``: {word: value}."""
        self._decide(i)
        due = self.calendar.get(self.t, {})
        idle = self.nothing and not self.events
        out = {"free": QUEUE - len(self.queue), "trap": int(self.trap), "lists_done": self.lists_done & 0xFFFFFFFF,
               "idle": int(idle), "busy": int(not idle), "list_done": 0, "signal_in": 0, "wr_valid": 0, "rd_valid": 0,
               "l2_re": 0, "l2_we": 0, "probe_sources": 0, "probe_running": int(self.running is not None),
               "probe_waiting": self.waiting[0], "counters": sum(
                   (value & 0xFFFFFFFF) << 32 * kind for kind, value in self.counters.items()),
               "transfers": sum((value & 0xFFFFFFFF) << 32 * (7 * kind + which)
                                for (kind, which), value in self.transfers.items()), **due}
        if task := self.running or self.offered:
            out |= {"probe_descriptor": task.address, "probe_op": task.fields["op"]}
        if self.offered:
            out["probe_semaphore"] = self.offered.fields["wait_semaphore"]
        out["probe_state"], out["probe_lost"] = self.state_before, self._lost(i)
        for name in ("_store_from", "_line_of"):
            out.pop(name, None)
        return out

    def _lost(self, i: DmpaInputs) -> int:
        f = self.offered.fields if self.take else {"wait_mask": 0, "wait_semaphore": 0}
        return sum(1 << 8 * c + k for c, values in enumerate(self.semaphores) for k in range(8)
                   if i.signals >> 8 * c + k & 1 and values[k] == 255
                   and not (f["wait_mask"] >> c & 1 and f["wait_semaphore"] == k))

    def advance(self, i: DmpaInputs) -> None:
        """The clock edge behind the cycle that `expect` described."""
        self._meet(i)
        if due := self.calendar.pop(self.t, None):
            self.lists_done += due.get("list_done", 0)
        self._data(i)
        if self.issue:
            self._issue_beat()
        self._semaphores_change(i)
        self._front_end(i)
        if self.refuse or self.beyond or self.no_line or self.push_refused:
            self.trap = True
        self._count()
        self.t += 1
        self.events = {cycle for cycle in self.events if cycle >= self.t}
        self.store_cycles = {cycle for cycle in self.store_cycles if cycle > self.t - 10}

    # Parts of `advance`

    def _issue_beat(self) -> None:
        r, b, t = self.running, self.beat, self.t
        f = r.fields
        mask = (1 << b.count) - 1
        if self.op in (LOAD, GATHER):
            self.last_load = t
            self.calendar[t + 1] |= {"l2_re": 1, "l2_addr": b.l2 % (1 << 20), "l2_mask": b.read, "probe_sources": 1}
            self.calendar[t + 2] |= {"_line_of": (b, f)}
            self.calendar[t + LOAD_TO_CLUSTER] |= {
                "wr_valid": f["clusters"], "wr_space": f["local"] >> 14, "wr_addr": b.local, "wr_mask": mask}
        elif self.op == STORE:
            self.last_store = t
            self.store_cycles.add(t)
            lowest = min(c for c in range(8) if f["clusters"] >> c & 1)
            self.calendar[t + STORE_TO_CLUSTER] |= {"rd_valid": 1 << lowest, "rd_addr": b.local}
            self.calendar[t + STORE_TO_DATA] |= {"_store_from": lowest}
            self.calendar[t + STORE_TO_L2] |= {"l2_we": 1, "l2_addr": b.l2, "l2_mask": mask, "probe_sources": 4,
                                               "probe_list": r.list_index & 0xFFFFFFFF}
        if self.last:
            lands = t + (STORE_TO_SIGNAL if self.op == STORE else LOAD_TO_SIGNAL)
            bit = 1 << f["signal_semaphore"]
            pulses = sum(bit << 8 * c for c in range(self.platform.clusters) if f["signal_mask"] >> c & 1)
            if "signal_in" in self.calendar[lands]:
                raise AssertionError("two descriptors land in one cycle")
            self.calendar[lands] |= {"signal_in": pulses, "list_done": f["end"]}
            self.events.add(lands)
            self.running = None
        else:
            r.step()

    def _data(self, i: DmpaInputs) -> None:
        """Words that are on the wires in this cycle and travel on with a beat."""
        later = self.calendar.get(self.t + 1, {})
        if self.line_of is not None:
            beat, f = self.line_of
            words = self._words(i.l2_rdata, (1 << beat.count) - 1)
            if f["op"] == GATHER:
                words = {k: self._gather(beat, f, k, i.l2_rdata) for k in words}
            self.calendar[self.t - 2 + LOAD_TO_CLUSTER]["wr_data_words"] = words
        if "l2_we" in later:
            later["l2_wdata_words"] = self._words(i.rd_data[self.store_from], later["l2_mask"])

    def _words(self, line: int, mask: int) -> dict[int, int]:
        bits = self.platform.word_bits
        return {k: line >> bits * k & (1 << bits) - 1 for k in range(self.platform.banks) if mask >> k & 1}

    def _gather(self, beat: Beat, f: dict[str, int], word: int, line: int) -> int:
        """Word `word` of a beat: each byte 0, filling, or a byte of the line."""
        value = 0
        for j in range(f["used"]):
            at = word * f["step"] + j
            inside = 0 <= beat.first + at < f["length"]
            value |= (line >> 8 * (beat.skipped + at) & 0xFF if inside else f["fill"]) << 8 * j
        return value

    def _semaphores_change(self, i: DmpaInputs) -> None:
        taken = self.offered.fields if self.take else {"wait_mask": 0, "wait_semaphore": 0}
        for c, values in enumerate(self.semaphores):
            for k in range(8):
                up = i.signals >> 8 * c + k & 1
                down = taken["wait_mask"] >> c & 1 and taken["wait_semaphore"] == k
                if up and down:
                    self.seen[f"signal and take, {'at 255' if values[k] == 255 else 'below'}"] += 1
                elif up:
                    self.seen["signal at 255"] += values[k] == 255
                    values[k] = min(255, values[k] + 1)
                elif down:
                    values[k] -= 1

    def _front_end(self, i: DmpaInputs) -> None:
        p = self.platform
        if self.take:
            self.running, self.offered = self.offered, None
            self.running.beats = beats_of(p, self.running.fields)
            self.running.following = next(self.running.beats)
            self.running.step()
        if self.buffer and self.offered is None:
            fields, address = self.buffer.popleft()
            self.offered = _RunningTask(fields, address, self.list_index)
            if fields["end"]:
                self.buffer.clear()
                self.reading = None
        if self.line_from and self.t == self.line_from[0] + 2:
            words = 256 // p.word_bits
            self.buffer.extend((decode(Descriptor, i.l2_rdata >> 256 * k & (1 << 256) - 1),
                                self.line_from[1] + k * words) for k in range(p.line_bits // 256))
            self.line_from = None
        if self.fetch:
            self.calendar[self.t + 1] |= {"l2_re": 1, "l2_addr": self.line, "l2_mask": (1 << p.banks) - 1,
                                          "probe_sources": 2}
            self.line_from = (self.t, self.line)
            if self.reading is None:
                self.queue.popleft()
                self.list_index += 1
            self.reading = self.line + p.banks
        if self.push is not None and not self.push_refused:
            self.queue.append(self.push)

    def _count(self) -> None:
        """Counters show a cycle one cycle after it happened: what is noted now counts at the next edge."""
        what, kinds = TransferCounter, {LOAD: TransferKind.LOAD, GATHER: TransferKind.LOAD, STORE: TransferKind.STORE}
        kind, now = kinds.get(self.op, TransferKind.SYNC), list[tuple[TransferKind, TransferCounter, int]]()
        if self.issue and self.op != SYNC:
            copies = bin(self.calendar_clusters).count("1") if self.op != STORE else 1
            now += [(kind, what.BEATS, 1), (kind, what.WORDS, self.beat.count),
                    (kind, what.DELIVERED, self.beat.count * copies)]
        now += [(kind, which, 1) for which, happens in (
            (what.DESCRIPTORS, self.last), (what.WAIT_DATA, self.waits and not self.trap_was),
            (what.WAIT_TURN, self.turning), (what.WAIT_PORT, self.port_wait)) if happens]
        now += [(TransferKind.FETCH, which, 1) for which, happens in (
            (what.BEATS, self.fetch), (what.WAIT_PORT, self.held)) if happens]
        state, moved = self.pending.pop()
        if state is not None:
            self.counters[Counter(state)] += 1
        for transfer, which, amount in moved:
            assert which in TRANSFER_COUNTERS[transfer]
            self.transfers[transfer, which] += amount
        self.pending.append((self.state, now))
        self.state_before = self.state

    # Coverage

    def _meet(self, i: DmpaInputs) -> None:
        """Which events meet in this cycle; also keeps what the edge is about to change."""
        self.trap_was = self.trap
        self.calendar_clusters = self.running.fields["clusters"] if self.running else 0
        due = self.calendar.get(self.t, {})
        self.store_from = due.pop("_store_from", 0)
        self.line_of = due.pop("_line_of", None)
        p, seen = self.platform, self.seen
        last_words = self.beat and self.beat.end == p.l2_words
        pop = self.fetch and self.reading is None
        pushed, to = self.push is not None, self.push or 0
        arrives = self.line_from is not None and self.t == self.line_from[0] + 2
        for name, happens in {
            "push and fetch of a list": pushed and pop,
            "push to an idle DMPA": pushed and self.nothing,
            "push of the fourth": pushed and len(self.queue) == QUEUE - 1 and not pop,
            "push while full": self.push_refused and len(self.queue) == QUEUE,
            "push beyond": self.push_refused and to >= p.l2_words,
            "push unaligned": self.push_refused and to % p.banks != 0,
            "push after a trap": i.push is not None and self.trap,
            "fetch stops a LOAD": self.fetch and self.port_wait,
            "fetch and drain": self.fetch and self.port_wait and i.drain_ahead & self.calendar_clusters,
            "drain stops a LOAD": self.port_wait and not self.fetch,
            "drain beside a LOAD": self.issue and self.op == LOAD and i.drain_ahead,
            "drain stops a LOAD to WMEM or IMEM": self.port_wait and not self.fetch
            and self.running.fields["local"] >> 14 != Space.L1,
            "drain and STORE": self.issue and self.op == STORE and i.drain_ahead & self.calendar_clusters,
            "fetch with a STORE's beat": self.fetch and self.issue and self.op == STORE,
            "fetch waits for a STORE": self.held,
            "take behind a last beat": self.take and self.last,
            "take later": self.take and not self.last,
            "last beat, next waits": self.last and self.offered and not self.take,
            "last beat, nothing offered": self.last and not self.offered,
            "line arrives as a descriptor is taken": arrives and self.take,
            "line arrives, none offered": arrives and not self.offered,
            "list done and push": pushed and due.get("list_done"),
            "list done and signals": due.get("list_done") and due.get("signal_in"),
            "list done and take": due.get("list_done") and self.take,
            "LOAD turns": self.turning and self.op == LOAD, "STORE turns": self.turning and self.op == STORE,
            "SYNC turns": self.turning and self.op == SYNC,
            "LOAD of L2's last word": self.issue and self.op == LOAD and last_words,
            "STORE to L2's last word": self.issue and self.op == STORE and last_words,
            "L2's last line fetched": self.fetch and self.line == p.l2_words - p.banks,
            "GATHER of L2's last word": self.issue and self.op == GATHER and last_words,
            "GATHER turns": self.turning and self.op == GATHER, "GATHER beyond": self.beyond and self.op == GATHER,
            "LOAD beyond": self.beyond and self.op == LOAD, "STORE beyond": self.beyond and self.op == STORE,
            "a later beat beyond": self.beyond and self.running.begun,
            "beyond while the port is taken": self.beyond and self.port_wait,
            "list beyond": self.no_line, "list beyond, held back": self.bad_line and not self.no_line,
            "refused behind a last beat": self.refuse and self.last,
            "refused without its semaphores": self.refuse and self._ready(self.offered),
            "trap with beats under way": self.trap and due.get("wr_valid"),
            "idle in a frame": self.nothing and i.in_frame, "idle outside": self.nothing and not i.in_frame,
        }.items():
            seen[name] += bool(happens)
