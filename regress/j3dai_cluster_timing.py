# SPDX-License-Identifier: Apache-2.0
"""The timing rules of a J3DAI cluster, instruction by instruction, without transfers in its way."""

from collections.abc import Iterable

from nncosim.hdl.j3dai.isa import Drain, MacOp, Opcode
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

    Args:
        lanes, pes: Bytes of a word; PEs of an NCB.
    """

    def __init__(self, lanes: int, pes: int) -> None:
        self.lanes, self.pes = lanes, pes
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
            self.executes = earliest
            if opcode == Opcode.MAC:
                self._mac(fields)
        return self.executes

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
                fetched = max(fetch_from, previous_fetch + 1) + fetch - 1
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
            if ends_job and lane == lanes - 1:
                issue = max(issue, self._last_drain + drain_spacing(self.pes))
            first = first or issue
            self._last_issue = issue
            self.issues += 1
        return self._last_issue + 1 if table else first
