# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.regress.aie_ml_table`: the dense kernel on one AIE-ML core's RTL, beside AIE4ML's measured cycles.

Cycles: from the first instruction's issue to the last store's access to memory, both included. Inputs lie in the tile's
memory before, in tiles of 4 rows, and results after, as AIE4ML's kernels have them; loading them is not counted. (With
streams in and out: `python -m nncosim.regress.aie_ml_networks`.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from nncosim.compiler.aie_ml.checker import wrong_in
from nncosim.compiler.aie_ml.program import Addresses, program_of
from nncosim.compiler.compile import prove_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.layout import from_bytes, size_bytes, to_bytes
from nncosim.compiler.ir.operators import Conv
from nncosim.hdl.aie_ml.isa import BEAT_BYTES
from nncosim.kernels.aie_ml.dense import part_of
from nncosim.kernels.aie_ml.matrix import layout_of
from nncosim.kernels.aie_ml.product import Role
from nncosim.platforms.aie_ml import BANK_BYTES, PLATFORM
from nncosim.regress.aie_ml_programs import on_rtl
from nncosim.regress.dense_models import DenseSpec, dense_network, frames_of
from nncosim.tb.aie_ml.build import build_array
from nncosim.tb.sim.verilate import BuiltModel
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


_PAIR = BANK_BYTES // BEAT_BYTES
_AT = Addresses(0, 2 * _PAIR, _PAIR, 3 * _PAIR)
"""Inputs, weights, bias and results in a logical bank each."""


def cycles_of(spec: DenseSpec, built: BuiltModel, changed: Mapping[int, int] | None = None) -> int:
    """On the RTL, every bit compared.

    Args:
        built: an array of one tile. changed: bytes of memory to exchange, by their address.

    Raises:
        ValueError: a wrong bit.
    """
    network = prove_network(import_model(dense_network(spec), name="dense", keep_batch=True), PLATFORM)
    (op,), (name,) = network.ops, network.inputs
    assert isinstance(op, Conv)
    outputs, inputs = op.weights.shape[:2]
    dense = part_of(op, network, (0, inputs), (0, outputs), Role.SINGLE)
    source, out = network.tensors[name], network.tensors[op.output]
    (given,) = frames_of(spec, network, 1)
    program = program_of([(dense, _AT)], PLATFORM.instructions).words
    found = wrong_in(program, [(dense, _AT)])
    if found:
        raise ValueError(f"{spec.name}: {found[0]}")
    memory = np.random.default_rng(1).integers(0, 256, 4 * BANK_BYTES, dtype=np.uint8)
    activations = to_bytes(given[name], layout_of(source), source.axes)
    for beat, data in ((_AT.input, activations), (_AT.weights, dense.constant), (_AT.bias, dense.bias)):
        memory[beat * BEAT_BYTES :][: len(data)] = np.frombuffer(data, np.uint8)
    for at, byte in (changed or {}).items():
        memory[at] = byte
    (run,) = on_rtl(built, [program], memory[None])
    results = np.zeros((_PAIR, BEAT_BYTES), np.uint8)
    results[run.stores["beat"].astype(np.int64) - _AT.output] = run.stores["data"]
    data = results.tobytes()[: size_bytes(out.shape, layout_of(out), out.axes)]
    made = from_bytes(data, out.shape, layout_of(out), out.type.signed, out.axes)
    if not np.array_equal(made, evaluate(network, given)[op.output]):
        raise ValueError(f"{spec.name}: wrong results")
    return int(run.stores["cycle"][-1]) + 1


def main() -> None:
    """Print the table."""
    table, built = Table(title="Dense layers on one core, bit-exact on RTL", box=None), build_array(PLATFORM, 1, 1)
    for column in ("layer (rows x inputs x outputs)", "cycles", "ideal", "of the peak", "AIE4ML"):
        table.add_column(column, justify="left" if column.startswith("layer") else "right")
    for name, spec, rate, published in TABLE:
        cycles, ideal = cycles_of(spec, built), spec.batch * spec.sizes[0] * spec.sizes[1] / rate
        table.add_row(name, f"{cycles:,}", f"{ideal:,.0f}", f"{ideal / cycles:.1%}", published)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
