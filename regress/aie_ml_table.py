# SPDX-License-Identifier: Apache-2.0
"""`python -m nncosim.regress.aie_ml_table`: the dense kernel on one AIE-ML core's RTL, beside AIE4ML's measured cycles.

Cycles: from the first instruction's issue to the last store's access to memory, both included. Inputs lie in the tile's
memory before, in tiles of 4 rows, and results after, as AIE4ML's kernels have them; loading them is not counted. (With
streams in and out: `python -m nncosim.regress.aie_ml_networks`.)
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from nncosim.compiler.aie_ml.checker import proof_of
from nncosim.compiler.aie_ml.program import Addresses, program_of
from nncosim.compiler.compile import prove_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.layout import from_bytes, size_bytes, to_bytes
from nncosim.compiler.ir.operators import Conv
from nncosim.kernels.aie_ml.dense import part_of
from nncosim.kernels.aie_ml.matrix import layout_of
from nncosim.kernels.aie_ml.product import Role
from nncosim.platforms.aie_ml import BANK_BYTES, BANKS, PLATFORM, AieMl
from nncosim.platforms.registry import get_platform
from nncosim.regress.aie_ml_programs import core_image, on_iss, on_rtl
from nncosim.regress.dense_models import DenseSpec, dense_network, frames_of
from nncosim.tb.aie_ml.build import build_array
from nncosim.tb.aie_ml.hazards import hazard_text
from nncosim.tb.sim.verilate import BuiltModel
from rich.console import Console
from rich.table import Table

__all__ = ["TABLE", "cycles_of", "ideal_of", "main"]

TABLE: tuple[tuple[str, DenseSpec, str], ...] = (
    ("int8 64x64x64", DenseSpec((64, 64), batch=64), "1122; 1050 at 8x8x8"),
    ("int8 64x64x64, Relu", DenseSpec((64, 64), batch=64, last_relu=True), "1122; 1050 at 8x8x8"),
    ("int8 64x64x64, Relu, unsigned", DenseSpec((64, 64), batch=64, last_relu=True, unsigned=True), ""),
    ("int8 64x128x128", DenseSpec((128, 128), batch=64), ""),
    ("int8 16x16x16", DenseSpec((16, 16), batch=16), "38 at 8x8x8"),
    ("int8 1x512x32 (batch 1)", DenseSpec((512, 32), batch=1), ""),
    ("int16 x int8 64x64x64", DenseSpec((64, 64), batch=64, bits=16), ""),
    ("int16 x int16 64x64x64", DenseSpec((64, 64), batch=64, bits=16, weight_bits=16), ""),
)
"""Name, layer, AIE4ML's cycles on AIE-ML in AMD's simulator (its kernels' comments)."""


def cycles_of(
    spec: DenseSpec, built: BuiltModel | None, changed: Mapping[int, int] | None = None, platform: AieMl = PLATFORM
) -> int:
    """On the RTL, every bit compared.

    Args:
        built: an array of one tile; None: on the simulator. changed: bytes of memory to exchange, by their address.

    Raises:
        ValueError: a wrong bit, or a violated latency.
    """
    generation = platform.generation
    size, pair = generation.beat_bytes, generation.beats // BANKS
    at = Addresses(0, 2 * pair, pair, 3 * pair)  # inputs, weights, bias and results in a logical bank each
    network = prove_network(import_model(dense_network(spec), name="dense", keep_batch=True), platform)
    (op,), (name,) = network.ops, network.inputs
    assert isinstance(op, Conv)
    outputs, inputs = op.weights.shape[:2]
    dense = part_of(op, network, generation, (0, inputs), (0, outputs), Role.SINGLE)
    source, out = network.tensors[name], network.tensors[op.output]
    (given,) = frames_of(spec, network, 1)
    program = program_of([(dense, at)], platform.instructions).words
    proof = proof_of(program, [(dense, at)])
    if proof.wrong:
        raise ValueError(f"{spec.name}: {proof.wrong[0]}")
    memory = np.random.default_rng(1).integers(0, 256, 4 * BANK_BYTES, dtype=np.uint8)
    activations = to_bytes(given[name], layout_of(source, generation), source.axes)
    for beat, data in ((at.input, activations), (at.weights, dense.constant), (at.bias, dense.bias)):
        memory[beat * size :][: len(data)] = np.frombuffer(data, np.uint8)
    for place, byte in (changed or {}).items():
        memory[place] = byte
    if built is None:
        run = on_iss(program, np.stack([memory[::-1], memory]), platform=platform)[0]
    else:
        (run,) = on_rtl(built, [program], memory[None], platform=platform, early_reads=[proof.early_reads])
    if len(run.hazards):
        raise ValueError(f"{spec.name}: {hazard_text(run.hazards, core_image(program))}")
    results, layout = np.zeros((pair, size), np.uint8), layout_of(out, generation)
    results[run.stores["beat"].astype(np.int64) - at.output] = run.stores["data"]
    data = results.tobytes()[: size_bytes(out.shape, layout, out.axes)]
    made = from_bytes(data, out.shape, layout, out.type.signed, out.axes)
    if not np.array_equal(made, evaluate(network, given)[op.output]):
        raise ValueError(f"{spec.name}: wrong results")
    return int(run.stores["cycle"][-1]) + 1


def ideal_of(spec: DenseSpec, platform: AieMl) -> float:
    """Cycles at the peak for its bits."""
    rate = platform.generation.macs[spec.bits, spec.weight_bits]
    return spec.batch * spec.sizes[0] * spec.sizes[1] / rate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", choices=("aie_ml", "aie_ml_v2"), default="aie_ml")
    platform = get_platform(parser.parse_args().platform)
    assert isinstance(platform, AieMl)
    title = f"Dense layers on one core of {platform.name}, bit-exact on RTL"
    table, built = Table(title=title, box=None), build_array(platform, 1, 1)
    for column in ("layer (rows x inputs x outputs)", "cycles", "ideal", "of the peak", "AIE4ML on AIE-ML"):
        table.add_column(column, justify="left" if column.startswith("layer") else "right")
    for name, spec, published in TABLE:
        cycles, ideal = cycles_of(spec, built, platform=platform), ideal_of(spec, platform)
        table.add_row(name, f"{cycles:,}", f"{ideal:,.0f}", f"{ideal / cycles:.1%}", published)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
