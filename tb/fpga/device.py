# SPDX-License-Identifier: Apache-2.0
"""The FPGAs that blocks are placed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nncosim.tb.errors import BenchError

__all__ = ["DEFAULT_DEVICE", "DEVICES", "Device", "device_of"]


@dataclass(frozen=True)
class Device:
    """A Lattice ECP5. `flag`: nextpnr's option for it. `grade`: its speed, 6 (slowest) to 8. The package has no part in
    timing: of the block's ports only the clock is a pin."""

    name: str
    flag: str
    package: str = "CABGA381"
    grade: int = 6


DEVICES: Mapping[str, Device] = {
    name: Device(name, flag) for name, flag in (
        ("LFE5U-25F", "--25k"), ("LFE5U-45F", "--45k"), ("LFE5U-85F", "--85k"))
}  # fmt: skip
"""Not the LFE5U-12F: it is a 25F's die sold as half of one, and nextpnr would place on all of it."""
DEFAULT_DEVICE = "LFE5U-85F"


def device_of(name: str) -> Device:
    """The device of that name.

    Raises:
        BenchError: there is none.
    """
    if name not in DEVICES:
        raise BenchError(f"there is no device {name!r}; there are {', '.join(DEVICES)}")
    return DEVICES[name]
