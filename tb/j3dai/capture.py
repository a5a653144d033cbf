# SPDX-License-Identifier: Apache-2.0
"""What of J3DAI's is captured by `nncosim.tb.run.capture`: tensors in L2, and the DMPA's transfers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.image import Image
from nncosim.compiler.j3dai.notes import j3dai_notes
from nncosim.hdl.j3dai.regs import L2_BASE, TRANSFER_COUNTERS
from nncosim.tb.run import capture
from nncosim.tb.run.capture import Place

__all__ = ["named_transfers", "places"]


def places(image: Image) -> dict[str, Place]:
    """The tensors of an image's tile table that lie in L2; raises as `nncosim.tb.run.capture.places`."""
    return capture.places(image, "l2", L2_BASE, j3dai_notes(image).word_bytes)


def named_transfers(counters: npt.NDArray[np.uint32]) -> dict[str, dict[str, int]]:
    """The DMPA's counters (`Transfer`, `TransferCounter`) by names in lower case; those that exist."""
    return {
        kind.name.lower(): {which.name.lower(): int(counters[kind, which]) for which in existing}
        for kind, existing in TRANSFER_COUNTERS.items()
    }
