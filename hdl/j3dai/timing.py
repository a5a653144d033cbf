# SPDX-License-Identifier: Apache-2.0
"""Fixed latencies of the J3DAI pipelines, in cycles: the RTL is built to them, the cycle model reads them.

"Issue" of a micro-operation is its cycle in the sequencer (stage 0); issue of a beat its cycle in the DMPA.
"Uses a port in cycle t" means that the SRAM macro samples its inputs at the end of cycle t.
"""

__all__ = [
    "CONTROLLER_CYCLES",
    "DRAIN_AHEAD",
    "DRAIN_TO_L1_WRITE",
    "DRAIN_TO_PARAMETERS",
    "DRAIN_TO_SETTLED",
    "FETCH_CYCLES",
    "FETCH_TO_L1_READ",
    "ISSUE_TO_SETTLED",
    "LIST_TO_TAKE",
    "LOAD_TO_CLUSTER",
    "LOAD_TO_SIGNAL",
    "LOAD_TO_STORE",
    "MAC_TO_FETCH",
    "SIGNAL_CYCLES",
    "STORE_TO_CLUSTER",
    "STORE_TO_DATA",
    "STORE_TO_L2",
    "STORE_TO_LOAD",
    "STORE_TO_SIGNAL",
    "TABLE_LATENCY",
    "drain_cycles",
    "passes",
    "record_lines",
]  # fmt: skip

CONTROLLER_CYCLES = 3
"""Fetch, decode, execute: one instruction without waiting."""


def passes(wide_x: int, wide_m: int, add: int) -> int:
    """Partial products of one result: one for each part of the accumulator and of m. With `add`, two accumulators."""
    return (1 + (wide_x | add)) * (1 + wide_m)


def drain_cycles(pes: int, ncbs_per_requantizer: int, passes: int) -> int:
    """Cycles in which a job's results go through the requantizers, a partial product a cycle. It is the least distance
    from a micro-operation that ends a job with `last` to the next that does; after one that KEEPs it is 1."""
    return pes * ncbs_per_requantizer * passes


FETCH_TO_L1_READ = 1
"""A window fetch issued in cycle t uses L1's read port in cycle t + 1."""

FETCH_CYCLES = {1: 1, 2: 2}
"""Read cycles of a window by `pstride`; any other takes one for each PE."""

LOAD_TO_CLUSTER = 4
"""A LOAD beat issued in cycle t is at the cluster's `wr` inputs in cycle t + 4 and uses its memories' write port in t
+ 5. So does a GATHER's, here and below."""

DRAIN_AHEAD = LOAD_TO_CLUSTER + 1
"""A cluster's `drain_ahead` in cycle t says that a drain uses L1's write port in cycle t + 5."""

STORE_TO_CLUSTER = 1
"""A STORE beat issued in cycle t is at the cluster's `rd` inputs in cycle t + 1, blocks a window fetch issued in t + 1
and uses L1's read port in t + 2."""

STORE_TO_DATA = 4
"""The words of a STORE beat issued in cycle t are on the cluster's `rd_data` in cycle t + 4."""

STORE_TO_L2 = STORE_TO_DATA + 1
"""A STORE beat issued in cycle t uses L2's port in cycle t + 5. A LOAD beat or line fetch uses it in t + 1."""

LOAD_TO_STORE = LOAD_TO_CLUSTER + 1 - (STORE_TO_CLUSTER + 1) + 1
"""Least distance from a LOAD beat to a STORE beat: the STORE reads L1 in the cycle after the LOAD wrote it."""

STORE_TO_LOAD = STORE_TO_L2
"""Least distance from a STORE beat to a LOAD beat or a SYNC: the LOAD reads L2 a cycle after the STORE wrote it."""

LOAD_TO_SIGNAL = LOAD_TO_CLUSTER + 1
"""The descriptor's last LOAD beat, or a SYNC, issued in cycle t increments semaphores (`signal_in`) in cycle t + 5."""

STORE_TO_SIGNAL = STORE_TO_L2
"""A STORE's last beat issued in cycle t signals in cycle t + 5. LISTS_DONE is incremented in the same cycle."""

LIST_TO_TAKE = 5
"""A list pushed (the bus writes DMPA_PUSH) in cycle t to an idle DMPA has its first descriptor offered in cycle t + 5;
it is taken then if its semaphores allow, and its first beat is issued in t + 6. A further line of descriptors is
offered 4 cycles after the last descriptor of the line before it was."""

MAC_TO_FETCH = 1
"""A MAC that executes in cycle t issues its first window fetch in t + 1 at the earliest."""


DRAIN_TO_L1_WRITE = 14
"""The results of a job use L1's write port so many cycles, and those of `drain_cycles`, after its last micro-operation
is issued; with `ostride` 1, the words of the upper half of the PEs do one cycle after that."""

DRAIN_TO_SETTLED = DRAIN_TO_L1_WRITE + 1
"""FENCE and HALT execute, and a SIGNAL increments its semaphore (`signal_out`), at the earliest so many cycles, and
those of `drain_cycles`, after the last micro-operation of a drained job is issued."""

ISSUE_TO_SETTLED = 3
"""They do so at the earliest so many cycles after the issue of any micro-operation: its memories have been read."""

SIGNAL_CYCLES = 20
"""A SIGNAL increments its semaphore at the earliest so many cycles after it executes, and one after the SIGNAL before
it: about what it waits for behind the shortest drain. For so long a simulator may run a cluster by itself."""

DRAIN_TO_PARAMETERS = 9
"""LDP executes at the earliest so many cycles, and those of `drain_cycles`, after the issue of the last micro-operation
of a job drained with the same parameter set. ADD needs both."""


def record_lines(pes: int) -> int:
    """LDP reads so many lines of WMEM, one a cycle; the next LDP executes at the earliest as many cycles later."""
    return 16 // pes


TABLE_LATENCY = 2
"""TABLE: a window staged in cycle t is taken in t (at the earliest one cycle after its fetch, as any window); its
first micro-operation is issued in t + TABLE_LATENCY + 2 at the earliest. The next window's fetch starts one cycle
after the last micro-operation was issued."""
