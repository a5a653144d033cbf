# SPDX-License-Identifier: Apache-2.0
"""The timing rules of a J3DAI cluster, instruction by instruction, and with what each of its cycles is counted."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from nncosim.hdl.j3dai.isa import Drain, MacOp, Opcode
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.timing import (
    CONTROLLER_CYCLES,
    DRAIN_TO_L1_WRITE,
    DRAIN_TO_PARAMETERS,
    DRAIN_TO_SETTLED,
    FETCH_CYCLES,
    ISSUE_TO_SETTLED,
    MAC_TO_FETCH,
    SIGNAL_CYCLES,
    TABLE_LATENCY,
    record_lines,
)
from nncosim.platforms.j3dai import J3dai

__all__ = ["Timeline"]

_NEVER = -1000


class Timeline:
    """Cycles of what a program does; cycle 0 is that in which the cluster takes its start semaphore.

    Attributes:
        executes: Cycle in which the latest instruction executed. issues: micro-operations issued so far.
        busy, wait_data, wait_port: cycles that count so; all others with the cluster running are control.

    Args:
        platform: Bytes of a word, PEs of an NCB, NCBs of a requantizer, ports of L1.
        blocked: Cycles in which a STORE beat takes L1's read port in the next, or a LOAD beat L1's only one.
        arrivals: By semaphore, the cycles in which it is incremented, in order.
    """

    def __init__(self, platform: J3dai, blocked: Collection[int] = (),
                 arrivals: Mapping[int, Sequence[int]] | None = None) -> None:
        self.lanes, self.pes = platform.word_bytes, platform.pes_per_ncb
        self._shared, self._one_port = platform.ncbs_per_requantizer, platform.l1_ports == 1
        self.blocked = blocked
        self.busy, self.wait_data, self.wait_port = set[int](), set[int](), set[int]()
        self._arrivals = {which: iter(cycles) for which, cycles in (arrivals or {}).items()}
        self.executes = 0
        self.issues = 0
        self._last_issue = _NEVER
        self._next_drain = _NEVER  # the earliest end of another job that is drained
        self._settled = _NEVER
        self._writes: set[int] = set()  # cycles in which drains use L1
        self._set_free = [_NEVER, _NEVER]
        self._records_read = _NEVER

    def run(self, trace: Iterable[tuple[int, dict[str, int]]]) -> int:
        """The cycle in which the last instruction of the trace (its HALT) executes."""
        for opcode, fields in trace:
            earliest = self.executes + CONTROLLER_CYCLES
            if opcode not in (Opcode.NOP, Opcode.LOOP):
                earliest = max(earliest, self._last_issue + 1)
            if opcode in (Opcode.FENCE, Opcode.HALT):
                earliest = max(earliest, self._settled)
            if opcode == Opcode.LDP:
                earliest = max(earliest, self._set_free[fields["pset"]], self._records_read)
                self._records_read = earliest + record_lines(self.pes)
            if opcode == Opcode.WAIT:
                ready = max(earliest, next(self._arrivals[fields["semaphore"]]) + 1)
                self.wait_data.update(range(earliest, ready))
                earliest = ready
            self.executes = earliest
            if opcode == Opcode.SIGNAL:
                self._settled = max(self._settled, earliest + SIGNAL_CYCLES) + 1
            if opcode == Opcode.MAC:
                self._mac(fields)
        self.wait_port -= self.busy
        return self.executes

    def category(self, cycle: int) -> Counter:
        """Of a cycle between the first and the last in which the cluster runs."""
        for cycles, counter in ((self.busy, Counter.BUSY), (self.wait_data, Counter.WAIT_DATA),
                                (self.wait_port, Counter.WAIT_PORT)):
            if cycle in cycles:
                return counter
        return Counter.CONTROL

    def _taken(self, cycle: int) -> bool:
        """Whether no fetch or look-up may be issued: it would use L1's port in the next cycle."""
        return cycle in self.blocked or (self._one_port and cycle + 1 in self._writes)

    def _free(self, cycle: int) -> int:
        """The first cycle from this one on in which a fetch or look-up may be issued; it is waited for."""
        while self._taken(cycle):
            self.wait_port.add(cycle)
            cycle += 1
        return cycle

    def _mac(self, f: dict[str, int]) -> None:
        fetch = FETCH_CYCLES.get(f["pstride"], self.pes)
        table = f["op"] == MacOp.TABLE.value
        lanes = (f["lanes"] | f["lanes_high"] << 4) % self.lanes + 1
        if f["depthwise"] and not table:
            lanes = 1
        fetch_from = self.executes + MAC_TO_FETCH
        previous_fetch = _NEVER
        for job in range(f["repeat"] + 1):
            for window in range(f["windows"]):
                fetched = self._free(max(fetch_from, previous_fetch + 1))
                for _ in range(fetch - 1):
                    fetched = self._free(fetched + 1)
                previous_fetch = fetched
                ends_job = f["last"] and window == f["windows"] - 1
                fetch_from = self._window(fetched, lanes, table, bool(ends_job))
                if ends_job:
                    self._drain(f, job)

    def _drain(self, f: dict[str, int], job: int) -> None:
        """What follows from the issue of a drained job's last micro-operation."""
        mode = Drain(f["drain"])
        if mode == Drain.PAIR:
            mode = Drain.ADD if job % 2 else Drain.KEEP
        issued = self._last_issue
        if mode == Drain.KEEP:
            self._next_drain = issued + 1
            return
        products = (2 if mode == Drain.ADD or f["wide_x"] else 1) * (2 if f["wide_m"] else 1)
        cycles = self.pes * self._shared * products
        self._next_drain = issued + cycles
        self._settled = issued + cycles + DRAIN_TO_SETTLED
        for pset in (0, 1) if mode == Drain.ADD else (f["pset"],):
            self._set_free[pset] = issued + cycles + DRAIN_TO_PARAMETERS
        write = issued + cycles + DRAIN_TO_L1_WRITE
        self._writes |= {write, write + 1} if f["ostride"] else {write}

    def _window(self, fetched: int, lanes: int, table: bool, ends_job: bool) -> int:
        """Issue a window's micro-operations; when the next fetch may start."""
        first = 0
        for lane in range(lanes):
            issue = max(self._last_issue + 1, fetched + 1 + ((TABLE_LATENCY + 2) if table else 0))
            earliest = issue
            if ends_job and lane == lanes - 1:
                issue = max(issue, self._next_drain)
            if table:  # a look-up waits for the port, and for the drain before it
                self.wait_port.update(cycle for cycle in range(earliest, issue) if self._taken(cycle))
                issue = self._free(issue)
            first = first or issue
            self._last_issue = issue
            self.busy.add(issue)
            self._settled = max(self._settled, issue + ISSUE_TO_SETTLED)
            self.issues += 1
        return self._last_issue + 1 if table else first
