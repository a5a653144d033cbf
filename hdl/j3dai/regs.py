# SPDX-License-Identifier: Apache-2.0
"""Host-visible registers of the J3DAI accelerator: one table for RTL, ISS, generated C header and manual."""

from __future__ import annotations

import enum

from nncosim.hdl.registers import Register

__all__ = [
    "ENTRY_ENGINE", "HOST_DMEM_BASE", "HOST_IMEM_BASE", "ID_VALUE", "L2_BASE", "MMIO_BASE", "REGISTERS",
    "TRANSFER_COUNTERS", "TRANSFER_ENGINE", "Counter", "EntryCounter", "EntryError", "Reg", "TransferCounter",
    "TransferKind",
]  # fmt: skip

HOST_IMEM_BASE = 0x0000_0000  # reset vector; 256 KiB, instruction fetch only
HOST_DMEM_BASE = 0x0010_0000  # 256 KiB, byte-writable
MMIO_BASE = 0x1000_0000
L2_BASE = 0x8000_0000  # where the image's L2 sections lie; not on the host's bus
ID_VALUE = 0x4A33_4441  # "J3DA"


class Reg(enum.IntEnum):
    """Byte offsets from `MMIO_BASE`; all registers are 32 bit, access is by whole words."""

    ID = 0x00
    FRAMES_REQUESTED = 0x04
    FRAMES_DONE = 0x08
    ERROR = 0x0C
    DMPA_PUSH = 0x10
    DMPA_STATUS = 0x14
    LISTS_DONE = 0x18
    CLUSTER_START = 0x1C
    CLUSTER_STATUS = 0x20
    IRQ_LISTS_SEEN = 0x24
    IRQ_FRAMES_SEEN = 0x28
    COUNTER_SELECT = 0x2C
    COUNTER_VALUE = 0x30
    INPUTS_FREE = 0x34
    ENTRY_STATUS = 0x38


REGISTERS = (
    Register(Reg.ID, "ro", "0x4A334441."),
    Register(Reg.FRAMES_REQUESTED, "ro", "How many inferences were asked for since reset, by the `frame` input and by "
             "the entry port's packets FRAME."),
    Register(Reg.FRAMES_DONE, "rw", "The host writes the number of inferences completed; drives port `frames_done`."),
    Register(Reg.ERROR, "rw", "The host writes a code other than 0 to report an error; drives port `error`."),
    Register(Reg.DMPA_PUSH, "wo", "Word address in L2 (of a line) of a descriptor list; queued. Writing to "
             "a full queue traps the DMPA."),
    Register(Reg.DMPA_STATUS, "ro", "Bits 2..0: free places in the list queue (of 4). Bit 8: busy. Bit 16: trap."),
    Register(Reg.LISTS_DONE, "ro", "How many lists were completed, with all their writes in L2, since reset."),
    Register(Reg.CLUSTER_START, "wo", "Bits 7..0: clusters; bits 24..16: program counter. Arms one start in each "
             "cluster; arming an armed cluster traps it."),
    Register(Reg.CLUSTER_STATUS, "ro", "Bits 7..0: running or armed. Bits 15..8: armed. Bits 23..16: trap."),
    Register(Reg.IRQ_LISTS_SEEN, "rw", "Interrupt is asserted while LISTS_DONE differs from this value."),
    Register(Reg.IRQ_FRAMES_SEEN, "rw", "Interrupt is asserted while FRAMES_REQUESTED differs from this value."),
    Register(Reg.COUNTER_SELECT, "rw", "Bits 3..0: engine (0 to 7 clusters, 8 DMPA, 9 host); bits 6..4: `Counter`. "
             "Engines 10 to 13: the DMPA's LOADs, STOREs, SYNCs and line fetches; bits 6..4: `TransferCounter`. "
             "Engine 14: the entry port; bits 6..4: `EntryCounter`."),
    Register(Reg.COUNTER_VALUE, "ro", "The selected performance counter, since reset; 0 where there is none."),
    Register(Reg.INPUTS_FREE, "rw", "The host writes of how many inferences the network has read its input; while this "
             "is FRAMES_REQUESTED, port `input_free` is high and the entry port lets the next input in."),
    Register(Reg.ENTRY_STATUS, "ro", "The entry port. Bits 2..0: `EntryError`. Bit 8: in a packet. Bit 16: trap."),
)


class Counter(enum.IntEnum):
    """What an engine did in a cycle; each cycle counts in exactly one, so the sum is the run."""

    BUSY = 0
    WAIT_DATA = 1
    WAIT_PORT = 2
    WAIT_HOST = 3
    CONTROL = 4  # instruction or descriptor fetch and decode, pipeline fill
    IDLE = 5


class TransferKind(enum.IntEnum):
    """Kinds of transfers of the DMPA. FETCH: reading a line of descriptors."""

    LOAD = 0
    STORE = 1
    SYNC = 2
    FETCH = 3


TRANSFER_ENGINE = 10
"""Engine number in COUNTER_SELECT of the first `TransferKind`."""


class TransferCounter(enum.IntEnum):
    """What is counted of each kind of transfer."""

    DESCRIPTORS = 0  # whose last beat was issued
    BEATS = 1  # cycles of L2's port; a broadcast counts once
    WORDS = 2  # of L2 that were moved
    DELIVERED = 3  # words at the clusters' side: of a broadcast, once for each cluster
    WAIT_DATA = 4  # cycles in which a descriptor waited for a semaphore
    WAIT_TURN = 5  # ... for words of the other direction to land
    WAIT_PORT = 6  # ... for a drain, or for L2's port


_WAITS = (TransferCounter.WAIT_DATA, TransferCounter.WAIT_TURN)
_MOVES = (TransferCounter.DESCRIPTORS, TransferCounter.BEATS, TransferCounter.WORDS, TransferCounter.DELIVERED)
TRANSFER_COUNTERS = {
    TransferKind.LOAD: (*_MOVES, *_WAITS, TransferCounter.WAIT_PORT),
    TransferKind.STORE: (*_MOVES, *_WAITS, TransferCounter.WAIT_PORT),
    TransferKind.SYNC: (TransferCounter.DESCRIPTORS, *_WAITS),
    TransferKind.FETCH: (TransferCounter.BEATS, TransferCounter.WAIT_PORT),
}
"""The counters that each kind has. The others are 0."""


ENTRY_ENGINE = 14
"""Engine number in COUNTER_SELECT of the entry port."""


class EntryCounter(enum.IntEnum):
    """What is counted of the entry port."""

    BEATS = 0  # that it took: headers and words
    WORDS = 1  # that are written
    WAIT_PORT = 2  # cycles in which a word for L2 waited for the DMPA
    LONGEST_WAIT = 3  # of one word: what a FIFO before the port must hold, at its rate
    WAIT_INPUT = 4  # cycles in which a header waited for the input's place to be free


class EntryError(enum.IntEnum):
    """Why the entry port stopped."""

    NONE = 0
    HEADER = 1  # no header where one must be: its magic number, or bits that must be 0
    OP = 2
    ADDRESS = 3  # no whole word, no words, or (partly) in none of the memories
    RUNNING = 4  # GO, or words for its instruction memory, while the host runs
