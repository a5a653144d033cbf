# SPDX-License-Identifier: Apache-2.0
"""What an image puts into the tile's memories: the same for the RTL and for the simulator."""

from __future__ import annotations

from nncosim.compiler.aie_ml.notes import PROGRAM_BASE
from nncosim.compiler.image.image import Image, ImageError
from nncosim.hdl.aie_ml.isa import BEAT_BYTES, INSTRUCTION_BYTES, MEMORY_BEATS
from nncosim.platforms.aie_ml import AieMl

__all__ = ["loads_of"]


def loads_of(image: Image, platform: AieMl) -> tuple[list[tuple[int, bytes]], bytes]:
    """(first beat, whole beats) of data memory; and the program.

    Raises:
        ImageError: a segment lies outside the tile's memories, or is not whole beats or instructions.
    """
    data, program = [], b""
    for segment in image.segments:
        at, size = segment.address, len(segment.data)
        if at + size <= BEAT_BYTES * MEMORY_BEATS and at % BEAT_BYTES == size % BEAT_BYTES == 0:
            data.append((at // BEAT_BYTES, segment.data))
        elif at == PROGRAM_BASE and size <= platform.program_bytes and size % INSTRUCTION_BYTES == 0:
            program = segment.data
        else:
            raise ImageError(f"segment {segment.memory} of {size} bytes at {at:#x} does not lie in data memory "
                             f"(0 to {BEAT_BYTES * MEMORY_BEATS:#x}, beats of {BEAT_BYTES} bytes) or at the begin of "
                             f"program memory ({PROGRAM_BASE:#x}, {platform.program_bytes} bytes); compile it again")
    return data, program
