# SPDX-License-Identifier: Apache-2.0
"""A run whose vectors the regressions replay: digits on one cluster of the default machine, with all waveforms."""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import compile_digits, digits_images
from nncosim.tb.j3dai.recorded import record_unit
from nncosim.tb.netlist.recorded import Vectors

__all__ = ["ONE", "recorded", "waveform"]

ONE = replace(PLATFORM, clusters=1)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="nncosim-")


def waveform() -> Path:
    """Where the run's waveform is, or will be once something of it is `recorded`."""
    return Path(_folder().name) / "run.fst"


@functools.cache
def recorded(unit: str) -> Vectors:
    """The vectors of a unit; the run is done once a process."""
    compiled = compile_digits(ONE)
    return record_unit(ONE, unit, compiled.image.to_bytes(), digits_images(compiled, 0), waveform=waveform())
