# SPDX-License-Identifier: Apache-2.0
"""The C header of the host's view of the accelerator, generated from `regs.py` and the platform."""

from nncosim.hdl import registers
from nncosim.hdl.j3dai.isa import Space
from nncosim.hdl.j3dai.regs import (
    ENTRY_ENGINE,
    HOST_DMEM_BASE,
    HOST_IMEM_BASE,
    ID_VALUE,
    MMIO_BASE,
    REGISTERS,
    TRANSFER_ENGINE,
    Counter,
    EntryCounter,
    TransferCounter,
    TransferKind,
)
from nncosim.platforms.j3dai import J3dai

__all__ = ["c_header"]


def c_header(platform: J3dai) -> str:
    """Text of `j3dai.h`: registers as lvalues ``J3DAI_<REG>``, sizes and addresses as constants ``J3DAI_...``.

    Sizes are in bytes unless the name ends in ``_WORDS``.
    """
    constants = {
        "ID_VALUE": ID_VALUE, "CLUSTERS": platform.clusters, "L2_WORDS": platform.l2_words,
        "HOST_IMEM_BASE": HOST_IMEM_BASE, "HOST_IMEM_BYTES": platform.host_imem_bytes,
        "HOST_DMEM_BASE": HOST_DMEM_BASE, "HOST_DMEM_BYTES": platform.host_dmem_bytes,
        "MMIO_BASE": MMIO_BASE, "IRQ_LINE": 16,
        **{f"SPACE_{space.name}": space << 14 for space in Space},
        **{f"COUNTER_{counter.name}": counter << 4 for counter in Counter},
        "ENGINE_DMPA": 8, "ENGINE_HOST": 9,
        **{f"ENGINE_{kind.name}": TRANSFER_ENGINE + kind for kind in TransferKind},
        **{f"TRANSFER_{which.name}": which << 4 for which in TransferCounter},
        "ENGINE_ENTRY": ENTRY_ENGINE, **{f"ENTRY_{which.name}": which << 4 for which in EntryCounter},
    }
    title = "host-visible registers of the J3DAI accelerator"
    return registers.c_header("J3DAI", title, constants, REGISTERS, MMIO_BASE)
