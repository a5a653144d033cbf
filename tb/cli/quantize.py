# SPDX-License-Identifier: Apache-2.0
"""`nncosim quantize`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from nncosim.compiler.quantize import Quantized, QuantizeOptions, quantize
from nncosim.compiler.quantize.measure import LayerCost, Sensitivity
from nncosim.compiler.quantize.options import JOINS, METHODS, SCALES
from nncosim.tb.cli.options import (
    PATH,
    check_outputs,
    json_option,
    model_argument,
    output_console,
    progress,
    write_json,
)
from nncosim.tb.run.evaluate import LABELS
from nncosim.tb.run.inputs import InputError, read_npz
from nncosim.tb.run.quantized import SideBySide, side_by_side
from nncosim.tb.system.files import prepare_file, write_file
from nncosim.tb.system.terminal import plain_table
from rich.console import Console
from rich.markup import escape

__all__ = ["quantize_command"]

CALIBRATION_IMAGES = 32


def _bits(text: str | None) -> tuple[dict[str, int], float | None]:
    """Of --bits: bits by layer, or an average over all weights.

    Raises:
        InputError: neither a number nor a JSON file of an object of numbers.
    """
    if text is None:
        return {}, None
    try:
        return {}, float(text)
    except ValueError:
        pass
    try:
        found = json.loads(Path(text).read_text())
    except OSError as error:
        raise InputError(f"--bits {text}: expected a number or a JSON file ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"--bits {text}: not a JSON file ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(v, int) and 2 <= v <= 8 for v in found.values()):
        raise InputError(f'--bits {text}: expected {{"LAYER": BITS, ...}} with 2 to 8 bits')
    return found, None


def _db(value: float) -> str:
    return "exact" if value == np.inf else f"{value:.1f}"


def _print_layers(console: Console, costs: tuple[LayerCost, ...]) -> None:
    table = plain_table()
    for column in ("layer", "operator"):
        table.add_column(column, overflow="fold")
    for column in ("weights", "range of integers", "seen", "clipped", "SNR alone", "SNR of the network", "equalised"):
        table.add_column(column, justify="right")
    for row in costs:
        table.add_row(
            escape(row.layer), escape(row.op), f"{row.weight_bits} bit" if row.weight_bits else "-",
            f"{row.low:.4g} .. {row.high:.4g}", f"{row.seen[0]:.4g} .. {row.seen[1]:.4g}", f"{row.clipped:.3%}",
            _db(row.alone_db), _db(row.network_db), f"x {row.equalized:.2f}" if row.equalized != 1 else "-",
        )  # fmt: skip
    console.print(table, "SNR: signal-to-noise ratio in dB against the float network", "")


def _print_sensitivity(console: Console, rows: list[Sensitivity], images: int) -> None:
    table = plain_table("the outputs, if one layer alone is quantised")
    table.add_column("layer", overflow="fold")
    table.add_column("SNR", justify="right")
    if rows and rows[0].right is not None:
        table.add_column("right", justify="right")
    for row in rows:
        cells = [escape(row.layer), _db(row.output_db)]
        table.add_row(*cells, *([] if row.right is None else [f"{row.right} of {images}"]))
    console.print(table, "")


def _json(result: Quantized, rows: list[Sensitivity], test: SideBySide | None) -> dict[str, Any]:
    chosen = result.options
    return {
        "options": {**vars(chosen), "layer_bits": dict(chosen.layer_bits)},
        "average_weight_bits": result.average_bits,
        "layers": [vars(row) for row in result.costs],
        "left_to_the_host": list(result.dropped),
        "sensitivity": [vars(row) for row in rows],
        "accuracy": test.to_json() if test else None,
    }


def _test_data(
    test: Path | None, data: Path, arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[Mapping[str, npt.NDArray[Any]], Path] | None:
    """The labelled images, where there are any."""
    if test is not None:
        return read_npz(test), test
    return (arrays, data) if LABELS in arrays else None


@click.command("quantize")
@model_argument
@click.option("--data", type=PATH, metavar="CALIB.npz", required=True,
              help="Calibration images, one array per graph input, (N, ...); and `labels` (N,), if there are any.")
@click.option("--out", type=PATH, metavar="Q.onnx", required=True, help="The QONNX file to write.")
@click.option("--images", type=click.IntRange(min=1), default=CALIBRATION_IMAGES, show_default=True, metavar="N",
              help="How many images of --data are for calibration, the first ones.")
@click.option("--test", type=PATH, metavar="TEST.npz", help="Labelled images for the accuracy [default: --data].")
@click.option("--method", type=click.Choice(METHODS), default="max", show_default=True,
              help="How ranges of activations follow from what was seen.")
@click.option("--percentile", type=click.FloatRange(50, 100), default=99.99, show_default=True,
              help="Of magnitudes, for --method percentile.")
@click.option("--sigmas", type=click.FloatRange(min=0.5), default=5.0, show_default=True,
              help="Standard deviations, for --method sigma.")
@click.option("--scales", type=click.Choice(SCALES), default="float", show_default=True,
              help="Requantisation by any number, by 8-bit integers and a shift, or by a single shift.")
@click.option("--per-tensor", is_flag=True, help="One scale for a layer's weights, instead of one a channel.")
@click.option("--unsigned", is_flag=True, help="Activations that are never negative are uint8.")
@click.option("--equalize/--no-equalize", default=None,
              help="Cross-layer equalisation [default: with --per-tensor].")
@click.option("--joins", type=click.Choice(JOINS), default="own", show_default=True,
              help="Operands of Add and Concat keep their own scales, or share one.")
@click.option("--bits", metavar="FILE|AVERAGE",
              help='Of weights: a JSON file {"LAYER": BITS}, or an average that is reached where it costs least.')
@click.option("--sensitivity", is_flag=True, help="Say what each layer costs by itself.")
@json_option  # fmt: skip
def quantize_command(
    model: Path, data: Path, out: Path, images: int, test: Path | None, method: str, percentile: float, sigmas: float,
    scales: str, per_tensor: bool, unsigned: bool, equalize: bool | None, joins: str, bits: str | None,
    sensitivity: bool, json_file: Path | None,
) -> int:
    """Quantise a trained float network (ONNX) to QONNX that `nncosim run` takes as it is.

    BatchNormalization is folded; a Softmax, ArgMax or TopK at the end is left to the host.
    """
    check_outputs({"the model": model, "the data": data, "the test data": test}, json_file=json_file, out=out,
                  results=None)  # fmt: skip
    prepare_file(out, "--out")
    layer_bits, average = _bits(bits)
    options = QuantizeOptions(
        method, percentile, sigmas, unsigned=unsigned, layer_bits=layer_bits, per_channel=not per_tensor,
        equalize=per_tensor if equalize is None else equalize, scales=scales, joins=joins,
    )  # fmt: skip
    arrays = read_npz(data)
    labelled = _test_data(test, data, arrays)
    console = output_console(json_file)
    with progress() as say:
        few = {name: array[:images] if array.ndim else array for name, array in arrays.items()}
        result = quantize(model, few, options, average_bits=average, say=say)
        found = side_by_side(result, *labelled, say) if labelled else None
        labels = few[LABELS].astype(np.int64) if LABELS in few and few[LABELS].ndim == 1 else None
        rows = result.sensitivities(labels, say) if sensitivity else []
    write_file(out, result.model.SerializeToString(deterministic=True))
    for text in result.dropped:
        console.print(f"left to the host: {escape(text)}; the outputs are what goes into it")
    _print_layers(console, result.costs)
    if average is not None or layer_bits:
        console.print(f"weights: {result.average_bits:.2f} bits on average")
    if rows:
        _print_sensitivity(console, rows, len(few[LABELS]) if LABELS in few else 0)
    if found:
        console.print(str(found))
    console.print(
        f"{escape(str(out))}: {len(result.plan.layers)} layers, calibrated on {len(result.images)} images; "
        f"next: nncosim run {escape(str(out))} --input {escape(str(data))} --index 0", soft_wrap=True,
    )  # fmt: skip
    write_json({"model": model.name, "out": str(out), **_json(result, rows, found)}, json_file)
    return 0
