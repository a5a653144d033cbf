# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.regress.aie_ml_whole`: one layer on a whole array, batches streamed through; every output bit.

The interval is from the last word of a batch to that of the next, streams in and out included; it is held against the
same kernel alone on one core, with its data in place (`nncosim.regress.aie_ml_table`: 4,120 cycles).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.errors import PlatformError
from nncosim.regress.dense_models import DenseSpec, compiled, frames_of
from nncosim.tb.aie_ml.streaming import Streamed, stream_iss, stream_rtl
from nncosim.tb.errors import CapacityError

__all__ = ["KERNEL_CYCLES", "main", "streamed"]

KERNEL_CYCLES = 4120
"""Of 64 x 128 x 128 on one core."""
_SLICE = 128


def streamed(columns: int, rows: int, batches: int, backend: str, free: int = 0) -> Streamed:
    """A layer of 128 x 128 a tile, on columns x rows of them, with so many columns more in the array.

    Raises:
        ValueError: a wrong bit.
    """
    platform, spec = AieMl(columns=columns + free, rows=rows), DenseSpec((_SLICE * columns, _SLICE * rows), batch=64)
    made = compiled(spec, platform, splits=[(columns, rows)])
    given = frames_of(spec, made.network, batches)
    run = stream_rtl if backend == "rtl" else stream_iss
    found = run(platform, made.image.to_bytes(), given)
    for number, (each, result) in enumerate(zip(given, found.results, strict=True)):
        if not np.array_equal(evaluate(made.network, each)["y"], result["y"]):
            raise ValueError(f"batch {number} is wrong")
    return found


def main() -> None:
    """Print latency and intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("rtl", "iss"), default="iss")
    parser.add_argument("--columns", type=int, default=37)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--free", type=int, default=1, help="columns of the array that the layer leaves alone")
    given = parser.parse_args()
    if given.batches < 2 or given.free < 0:
        parser.error(f"an interval takes at least 2 batches, and no columns less than 0 are free, not {given.batches} "
                     f"and {given.free}")
    try:
        AieMl(columns=given.columns + given.free, rows=given.rows)
    except PlatformError as error:
        parser.error(str(error))
    begin = time.perf_counter()
    try:
        found = streamed(given.columns, given.rows, given.batches, given.backend, given.free)
    except CapacityError as error:
        parser.error(str(error))
    steady = np.diff(found.ends)
    mean = steady[len(steady) // 2 :].mean()
    print(f"{given.columns} x {given.rows} tiles on {given.backend}, every bit right: the first batch is out after "
          f"{found.ends[0]:,} cycles, then one in {mean:,.1f} (intervals {', '.join(map(str, steady))}), "
          f"{KERNEL_CYCLES / mean:.1%} of the kernel alone; {time.perf_counter() - begin:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
