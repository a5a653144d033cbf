# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.regress.aie_ml_table`: dense layers on the AIE-ML tile's RTL, beside AIE4ML's measured cycles.

Cycles: from the first instruction's issue to the last store's access to memory, both included. Inputs lie in the tile's
memory before, in tiles of 4 rows, and results after, as AIE4ML's kernels have them; loading them is not counted.
"""

from __future__ import annotations

import numpy as np
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.hdl.aie_ml.core import DRAIN_CYCLES
from nncosim.hdl.aie_ml.isa import LATENCY
from nncosim.platforms.aie_ml import PLATFORM
from nncosim.regress.dense_models import DenseSpec, dense_network, random_inputs
from nncosim.tb.aie_ml.bench import BENCH
from nncosim.tb.aie_ml.frames import LEAD_CYCLES
from rich.console import Console
from rich.table import Table

__all__ = ["TABLE", "cycles_of", "main"]

TABLE: tuple[tuple[str, DenseSpec, int, str], ...] = (
    ("int8 64x64x64", DenseSpec((64, 64), batch=64), 256, "1122; 1050 at 8x8x8"),
    ("int8 64x64x64, Relu", DenseSpec((64, 64), batch=64, last_relu=True), 256, "1122; 1050 at 8x8x8"),
    ("int8 64x64x64, Relu, unsigned", DenseSpec((64, 64), batch=64, last_relu=True, unsigned=True), 256, ""),
    ("int8 64x128x128", DenseSpec((128, 128), batch=64), 256, ""),
    ("int8 16x16x16", DenseSpec((16, 16), batch=16), 256, "38 at 8x8x8"),
    ("int8 1x512x32 (batch 1)", DenseSpec((512, 32), batch=1), 256, ""),
    ("int16 x int8 64x64x64", DenseSpec((64, 64), batch=64, bits=16), 128, ""),
    ("int16 x int16 64x64x64", DenseSpec((64, 64), batch=64, bits=16, weight_bits=16), 64, ""),
)
"""Name, layer, multiply-accumulates a cycle at most, AIE4ML's cycles in AMD's simulator (its kernels' comments)."""


def cycles_of(spec: DenseSpec) -> int:
    """On the RTL, every bit compared.

    Raises:
        ValueError: a wrong bit.
    """
    made = compile_network(import_model(dense_network(spec), name="dense", keep_batch=True), PLATFORM)
    (name,) = made.network.inputs
    inputs = {name: random_inputs(spec, 1, 11).reshape(made.network.tensors[name].shape)}
    run = BENCH.run(PLATFORM, made.image.to_bytes(), [inputs], backend="rtl", driver="direct")
    frame = run.frames[0]
    if run.diagnosis or not np.array_equal(frame.memory["y"], evaluate(made.network, inputs)["y"]):
        raise ValueError(f"{spec.name}: wrong results ({run.diagnosis})")
    # HALT is issued behind the last store, and the core is idle when that has drained.
    return frame.cycles - LEAD_CYCLES - (1 + DRAIN_CYCLES) + LATENCY["store_memory"]


def main() -> None:
    """Print the table."""
    table = Table(title="Dense layers on one tile, bit-exact on RTL", box=None)
    for column in ("layer (rows x inputs x outputs)", "cycles", "ideal", "of the peak", "AIE4ML"):
        table.add_column(column, justify="left" if column.startswith("layer") else "right")
    for name, spec, rate, published in TABLE:
        cycles, ideal = cycles_of(spec), spec.batch * spec.sizes[0] * spec.sizes[1] / rate
        table.add_row(name, f"{cycles:,}", f"{ideal:,.0f}", f"{ideal / cycles:.1%}", published)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
