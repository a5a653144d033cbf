# SPDX-License-Identifier: Apache-2.0
"""J3DAI's host."""

from nncosim.hdl.cv32e40p import Cv32e40pHost, HostMap
from nncosim.hdl.j3dai.regs import HOST_DMEM_BASE, HOST_IMEM_BASE, MMIO_BASE, Counter
from nncosim.platforms.j3dai import J3dai

__all__ = ["HOST_MAP", "j3dai_host"]

HOST_MAP = HostMap(HOST_IMEM_BASE, HOST_DMEM_BASE, MMIO_BASE)


def j3dai_host(platform: J3dai) -> Cv32e40pHost:
    """The core with its memories; the entry port loads them."""
    return Cv32e40pHost(platform.host_imem_bytes, platform.host_dmem_bytes, HOST_MAP, Counter)
