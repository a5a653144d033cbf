# SPDX-License-Identifier: Apache-2.0
"""`nncosim evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.frontend.prepare import tail_of
from nncosim.compiler.ir.network import Network
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.proof.qonnx_check import ExecutorReport
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.base import Platform
from nncosim.platforms.parameters import Value
from nncosim.tb.backend import get_bench
from nncosim.tb.cli.asked import Asked, model_options
from nncosim.tb.cli.options import (
    PATH,
    backend_option,
    check_outputs,
    driver_option,
    json_option,
    model_argument,
    output_console,
    progress,
    read_forms,
    resolve_options,
    resolve_platform,
    seed_option,
    write_json,
)
from nncosim.tb.reference.check import ReferenceReport
from nncosim.tb.report.requantization import requantization_of
from nncosim.tb.report.table import print_remarks
from nncosim.tb.run.evaluate import (
    EXECUTORS,
    LITERT,
    Accuracy,
    accuracy,
    against_executor,
    against_onnx,
    executor_json,
    executor_predictions,
    float_images,
    image_count,
    read_labels,
)
from nncosim.tb.run.flow import RunOptions, choose
from nncosim.tb.run.inputs import read_npz
from nncosim.tb.run.program import compile_model, prove_model, read_model, read_source
from nncosim.tb.system.progress import Progress
from nncosim.tb.system.terminal import plain_table
from rich.console import Console
from rich.markup import escape

__all__ = ["evaluate_command"]

DEFAULT_IMAGES = 100


def _print_accuracy(console: Console, result: Accuracy) -> None:
    console.print(
        f"accuracy: {result.right} of {len(result.labels)} images right, {result.share:.2%} "
        f"({sum(result.cycles):,} cycles, {result.wall_seconds:.1f} s)"
    )
    if result.executor is not None:
        agree = int((result.executor == result.predictions).sum())
        console.print(f"{result.executor_name} executor: same class on {agree} of {len(result.predictions)} images")
    if result.first is not None:
        console.print(f"[red]first wrong element:[/] {escape(str(result.first))}")
    elif result.diagnosis is None:
        console.print("[green]every tensor of every image is bit-exact[/]")
    if result.diagnosis is not None:
        console.print(f"[red]{result.diagnosis.kind}[/]\n{escape(result.diagnosis.text)}")


def _print_executor(console: Console, report: ExecutorReport) -> None:
    table = plain_table(f"against the {report.executor} executor, {report.images} images")
    table.add_column("layer")
    for column in ("values", "not exact arithmetic", "float32 rounding", "of these ties", "unexplained"):
        table.add_column(column, justify="right")
    for layer in report.layers:
        table.add_row(
            escape(layer.name),
            f"{layer.values:,}",
            f"{layer.wrong:,}",
            f"{layer.float_differences:,}",
            f"{layer.ties:,}",
            f"{layer.outside:,}",
        )
    console.print(table)
    for layer in report.layers:
        for what, found in (("exact arithmetic", layer.first_wrong), ("the executor", layer.first_outside)):
            if found is not None:
                _print_first(console, layer.name, what, found)
    if report.integers:
        outside = sum(layer.outside for layer in report.layers)
        inexact = sum(layer.wrong for layer in report.layers if layer.inexact)
        console.print(
            f"{'[green]what the kernels compute[/]' if report.ok else '[red]not what the kernels compute[/]'}: "
            f"{outside:,} of {report.values:,} values differ from the file's arithmetic; {inexact:,} do by a "
            "requantization that is only near to it"
        )
    else:
        good = "[green]equal to exact arithmetic everywhere[/]; the executor differs from it in"
        bad = "[red]not equal[/]; the executor's float32 rounding differs in"
        console.print(
            f"{good if report.ok else bad} {report.float_differences:,} of {report.values:,} values, "
            "within its float32 error"
        )
    if report.outputs:
        optimized = ""
        if report.executor == "onnxruntime":
            optimized = " (onnxruntime as it optimizes; on x86 without VNNI its sums of 8-bit products saturate)"
        console.print(
            f"from the image to the end, each by itself{optimized}: {report.output_differences:,} of "
            f"{report.outputs:,} values of the outputs differ, {report.same_prediction} of {report.images} images "
            "have the largest at the same place"
        )


def _print_first(console: Console, layer: str, what: str, found: tuple[int, ...]) -> None:
    *index, expected, got = found
    axes = "image, token, channel" if len(index) == 3 else "image, channel, row, column"
    console.print(
        f"[red]{escape(layer)}[/] differs from {what} first at ({axes}) {tuple(index)}: expected {expected}, got {got}"
    )


def _print_onnx(console: Console, report: ReferenceReport) -> None:
    table = plain_table(f"against the ONNX graph in float64 and rationals, {report.images} images")
    table.add_column("layer")
    for column in ("values", "by rationals", "float64 rounding", "inexact requantization", "undecided", "unexplained"):
        table.add_column(column, justify="right")
    for layer in report.layers:
        counts = (layer.values, layer.rational, layer.tipped, layer.inexact, layer.undecided, layer.wrong)
        table.add_row(escape(layer.name), *(f"{count:,}" for count in counts))
    console.print(table)
    for layer in report.layers:
        if layer.first_wrong is not None:
            _print_first(console, layer.name, "the graph", layer.first_wrong)
        if layer.meaning:
            console.print(f"[red]{escape(layer.name)}[/] means something else than the graph: {escape(layer.meaning)}")
    if report.input_differences:
        console.print(f"[red]{report.input_differences:,} values of the inputs are quantised to something else[/]")
    explained = report.total("inexact") + report.total("undecided")
    console.print(
        f"{'[green]what the graph says[/]' if report.ok else '[red]not what the graph says[/]'}: "
        f"{report.total('wrong'):,} of {report.total('values'):,} values differ unexplained, {explained:,} explained; "
        f"from the image to the end {report.output_differences:,} of {report.outputs:,} values of the outputs"
    )


def _accuracy(
    model: Path,
    data: bytes,
    forms: Mapping[str, InputForm],
    platform: Platform,
    settings: dict[str, Value],
    source: Path,
    options: RunOptions,
    limit: int | None,
    executor: str | None,
    nearest: bool,
    told: Mapping[str, str],
    say: Progress,
) -> tuple[Accuracy, Network]:
    backend, driver = choose(get_bench(platform), platform, options.backend, options.driver, prefer="iss")
    options = replace(options, backend=backend, driver=driver)
    arrays = read_npz(source)
    say(f"importing {model.name}")
    network = read_model(model, data, platform, forms, nearest)
    # Before the work of compiling.
    image_count(network, arrays, str(source), limit)
    read_labels(arrays, image_count(network, arrays, str(source), None), str(source))
    program = compile_model(model, data, platform, settings, say, network, options=told)
    tail = tail_of(model)
    result = accuracy(program, platform, arrays, options, str(source), limit=limit, tail=tail, progress=say)
    if executor in EXECUTORS:
        say(f"{executor} executor")
        images = float_images(program.network, arrays, str(source), len(result.predictions))
        found = executor_predictions(model, program.network, images, executor, forms, tail)
        result = replace(result, executor=found, executor_name=executor)
    return result, program.network


def _images(network: Network, data: Path | None, limit: int | None) -> int | list[dict[str, np.ndarray]]:
    """Images of a file, or how many random ones."""
    if data is None:
        return DEFAULT_IMAGES if limit is None else limit
    return float_images(network, read_npz(data), str(data), limit)


def _compare(
    against: str, model: Path, forms: Mapping[str, InputForm], network: Network,
    images: int | list[dict[str, np.ndarray]], seed: int, say: Progress,
) -> ExecutorReport | ReferenceReport:
    if against == "onnx":
        return against_onnx(model, forms, network, images, seed, say)
    return against_executor(against, model, forms, network, images, seed, say)


def _comparison_json(comparison: ExecutorReport | ReferenceReport) -> dict[str, object]:
    """The part of the JSON report that the comparison is."""
    if isinstance(comparison, ExecutorReport):
        return {comparison.executor: executor_json(comparison)}
    return {"onnx": comparison.to_json()}


def _print_comparison(console: Console, comparison: ExecutorReport | ReferenceReport) -> None:
    if isinstance(comparison, ExecutorReport):
        _print_executor(console, comparison)
    else:
        _print_onnx(console, comparison)


def _reference(
    against: str, model: Path, asked: Asked, data: Path | None, limit: int | None, seed: int, json_file: Path | None,
) -> int:
    """The integer network against another, with any requantization that the importer's integers can be."""
    console, raw = output_console(json_file), read_source(model)
    forms = read_forms(model, asked.input_quant, asked.calibrate)
    with progress() as say:
        say(f"importing {model.name}")
        network = prove(read_model(model, raw, None, forms), RequantCaps(tables=True, as_given=True))
        comparison = _compare(against, model, forms, network, _images(network, data, limit), seed, say)
    print_remarks(console, network.remarks)
    _print_comparison(console, comparison)
    proof = requantization_of(network)
    console.print(f"requantization: {escape(str(proof))}")
    report: dict[str, object] = {
        "model": model.name, "platform": None, "seed": seed, "remarks": list(network.remarks),
        "requantization": proof.to_json(),
    }  # fmt: skip
    verdict = "pass" if comparison.ok else "mismatch"
    write_json(report | _comparison_json(comparison) | {"verdict": verdict}, json_file)
    return 0 if comparison.ok else 1


@click.command("evaluate")
@model_argument
@model_options
@click.option("--data", type=PATH, metavar="X.npz", help="One array per graph input, N images, and `labels` (N,).")
@click.option(
    "--against",
    type=click.Choice([*EXECUTORS, LITERT, "onnx"]),
    help="Compare layer by layer: with the qonnx package's float32 executor, with onnxruntime (QDQ models), with "
    "TensorFlow Lite's reference kernels (its files; needs the package ai-edge-litert), or with the ONNX graph in "
    "float64 and rationals, by an evaluator that shares nothing with the compiler.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"How many images [default: all of --data; {DEFAULT_IMAGES} random ones without].",
)
@seed_option("random images")
@backend_option("images", "iss")
@driver_option
@click.option(
    "--reference",
    is_flag=True,
    help="The integer network itself, on no machine: with --against, for models that no platform takes.",
)
@json_option
def evaluate_command(
    model: Path,
    asked: Asked,
    data: Path | None,
    against: str | None,
    images: int | None,
    seed: int,
    backend: str | None,
    driver: str | None,
    reference: bool,
    json_file: Path | None,
) -> int:
    """Accuracy on labelled data, or comparison with another evaluation of the graph, or both on the same images.

    Exit status: 0 if every tensor is right (and the other, if asked, agrees), 1 if not, 2 for bad input.
    """
    if data is None and against is None:
        raise click.UsageError("give --data X.npz (accuracy), --against qonnx, onnxruntime, litert or onnx, or both")
    check_outputs({"the model": model, "the data": data, "the data to calibrate by": asked.calibrate},
                  json_file=json_file)  # fmt: skip
    if reference:
        if against is None:
            raise click.UsageError(
                "--reference runs on no machine: give --against qonnx (onnxruntime, litert, onnx), or leave it out"
            )
        if asked._replace(input_quant=(), calibrate=None) != Asked() or backend or driver:
            options = "--platform, --set, --compiler-option, --backend, --driver, --nearest"
            raise click.UsageError(f"--reference runs on no machine: leave out {options}")
        return _reference(against, model, asked, data, images, seed, json_file)
    console, raw = output_console(json_file), read_source(model)
    forms = read_forms(model, asked.input_quant, asked.calibrate)
    platform, overrides = resolve_platform(asked.platform_name, asked.settings)
    told = resolve_options(platform, asked.compiler_options)
    report: dict[str, object] = {"model": model.name, "platform": platform.name, "seed": seed}
    passed = True
    with progress() as say:
        result, comparison = None, None
        if data is not None:
            result, network = _accuracy(
                model,
                raw,
                forms,
                platform,
                overrides,
                data,
                RunOptions(backend, driver, seed=seed),
                images,
                against,
                asked.nearest,
                told,
                say,
            )
            report |= result.to_json()
            passed &= result.passed
        else:
            network = prove_model(model, raw, platform, forms, asked.nearest)
        report["remarks"] = list(network.remarks)
        if against is not None:
            comparison = _compare(against, model, forms, network, _images(network, data, images), seed, say)
            report |= _comparison_json(comparison)
            passed &= comparison.ok
    print_remarks(console, network.remarks)
    if result is not None:
        _print_accuracy(console, result)
    if comparison is not None:
        _print_comparison(console, comparison)
    write_json(report | {"verdict": "pass" if passed else "mismatch"}, json_file)
    return 0 if passed else 1
