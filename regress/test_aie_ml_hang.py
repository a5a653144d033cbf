# SPDX-License-Identifier: Apache-2.0
"""An image that comes to no end, on the RTL: the diagnosis has the simulator's account of the same."""

from dataclasses import replace

import numpy as np
from nncosim.compiler.aie_ml.notes import tile_of
from nncosim.compiler.image.image import Segment
from nncosim.hdl.aie_ml.config import LOCKS_AT
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.bench import BENCH

PLATFORM, SPEC = AieMl(columns=1, rows=1, memory_rows=0), DenseSpec((16, 16), batch=8)


def full(segment: Segment) -> Segment:
    """No buffer is free at the begin."""
    at_locks = tile_of(segment.address)[2] == LOCKS_AT
    return replace(segment, data=np.zeros(16, "<u4").tobytes()) if at_locks else segment


def test_a_hang_on_rtl_is_explained():
    made = compiled(SPEC, PLATFORM, splits=[(1, 1)])
    image = replace(made.image, segments=tuple(map(full, made.image.segments)))
    run = BENCH.run(PLATFORM, image.to_bytes(), frames_of(SPEC, made.network, 1), backend="rtl", driver="direct",
                    limit_cycles=2000)  # fmt: skip
    assert run.diagnosis is not None and run.diagnosis.kind == "hang"
    lines = run.diagnosis.text.splitlines()
    assert lines[0] == "shim: 0 words of results came within 2000 cycles"
    assert lines[1].startswith("on the simulator: shim: 0 of 32 words of results came; nothing goes on any more")
    assert lines[2].startswith("- the shim waits for words of stream 0 of column 0 from MM2S 0 of tile (0,1)")
    assert lines[-1] == "- the last 2 wait for each other, in a circle"
