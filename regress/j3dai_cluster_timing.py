# SPDX-License-Identifier: Apache-2.0
"""The timing rules of a J3DAI cluster, instruction by instruction, and with what each of its cycles is counted."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from nncosim.hdl.j3dai.isa import Drain, MacOp, Opcode
from nncosim.hdl.j3dai.regs import Counter
from nncosim.hdl.j3dai.timing import (
    CONTROLLER_CYCLES,
    FETCH_CYCLES,
    MAC_TO_FETCH,
    TABLE_LATENCY,
    drain_spacing,
    parameter_cycles,
    pipeline_cycles,
    record_lines,
)

__all__ = ["Timeline"]

_NEVER = -1000


class Timeline:
    """Cycles of what a program does; cycle 0 is that in which the cluster takes its start semaphore.

    Attributes:
        executes: Cycle in which the latest instruction executed. issues: micro-operations issued so far.
        busy, wait_data, wait_port: cycles that count so; all others with the cluster running are control.

    Args:
        lanes, pes: Bytes of a word; PEs of an NCB.
        blocked: Cycles in which a STORE beat takes L1's read port.
        arrivals: By semaphore, the cycles in which it is incremented, in order.
    """

    def __init__(self, lanes: int, pes: int, blocked: Collection[int] = (),
                 arrivals: Mapping[int, Sequence[int]] | None = None) -> None:
        self.lanes, self.pes = lanes, pes
        self.blocked = blocked
        self.busy, self.wait_data, self.wait_port = set[int](), set[int](), set[int]()
        self._arrivals = {which: iter(cycles) for which, cycles in (arrivals or {}).items()}
        self.executes = 0
        self.issues = 0
        self._last_issue = _NEVER
        self._last_drain = _NEVER
        self._set_used = [_NEVER, _NEVER]
        self._records_read = _NEVER

    def run(self, trace: Iterable[tuple[int, dict[str, int]]]) -> int:
        """The cycle in which the last instruction of the trace (its HALT) executes."""
        for opcode, fields in trace:
            earliest = self.executes + CONTROLLER_CYCLES
            if opcode not in (Opcode.NOP, Opcode.LOOP):
                earliest = max(earliest, self._last_issue + 1)
            if opcode in (Opcode.FENCE, Opcode.HALT):
                earliest = max(earliest, self._last_issue + pipeline_cycles(self.pes))
            if opcode == Opcode.LDP:
                used = self._set_used[fields["pset"]]
                earliest = max(earliest, used + parameter_cycles(self.pes), self._records_read)
                self._records_read = earliest + record_lines(self.pes)
            if opcode == Opcode.WAIT:
                ready = max(earliest, next(self._arrivals[fields["semaphore"]]) + 1)
                self.wait_data.update(range(earliest, ready))
                earliest = ready
            self.executes = earliest
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

    def _free(self, cycle: int) -> int:
        """The first cycle from this one on in which L1's read port is free; it is waited for."""
        while cycle in self.blocked:
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
                    self._last_drain = self._last_issue
                    pset = job % 2 if f["drain"] == Drain.PAIR.value else f["pset"]
                    self._set_used[pset] = self._last_issue

    def _window(self, fetched: int, lanes: int, table: bool, ends_job: bool) -> int:
        """Issue a window's micro-operations; when the next fetch may start."""
        first = 0
        for lane in range(lanes):
            issue = max(self._last_issue + 1, fetched + 1 + ((TABLE_LATENCY + 2) if table else 0))
            earliest = issue
            if ends_job and lane == lanes - 1:
                issue = max(issue, self._last_drain + drain_spacing(self.pes))
            if table:  # a look-up waits for the port, and for the drain before it
                self.wait_port.update(cycle for cycle in range(earliest, issue) if cycle in self.blocked)
                issue = self._free(issue)
            first = first or issue
            self._last_issue = issue
            self.busy.add(issue)
            self.issues += 1
        return self._last_issue + 1 if table else first
