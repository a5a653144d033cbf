# SPDX-License-Identifier: Apache-2.0
"""What each semaphore of a cluster means to the compiler's programs and lists.

START is the machine's: input semaphore 7 lets an armed cluster begin (MANUAL 2.4). The other numbers are the
compiler's choice, and the meaning of both together is all that programs and lists agree upon.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ToCluster", "ToDmpa"]


class ToCluster(IntEnum):
    """Input semaphores: the DMPA adds when a transfer has landed, the cluster takes by WAIT."""

    INPUT_READY = 0  # the next slot of input is filled
    WEIGHTS_READY = 1  # the next records or weights are there
    OUTPUT_FREE = 2  # the results of a slot are stored, which may be written again
    START = 7  # the program is in IMEM


class ToDmpa(IntEnum):
    """Output semaphores: the cluster adds by SIGNAL, the DMPA takes before a transfer."""

    INPUT_FREE = 0  # a slot of input has been read, and may be loaded again
    WEIGHTS_FREE = 1  # a slot of weights likewise
    OUTPUT_READY = 2  # a slot is full of results
