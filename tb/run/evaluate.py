# SPDX-License-Identifier: Apache-2.0
"""Judging a network as a whole: accuracy on labelled data, and agreement with others that evaluate the same graph."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.frontend import dequantise_output, import_details, quantise_input
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.frontend.meanings import meanings_of
from nncosim.compiler.frontend.prepare import prepare, with_forms
from nncosim.compiler.frontend.tails import Tail
from nncosim.compiler.frontend.user_arrays import user_array
from nncosim.compiler.ir.network import Network
from nncosim.compiler.proof.onnxruntime_check import OnnxruntimeExecutor, compare_with_onnxruntime
from nncosim.compiler.proof.qonnx_check import ExecutorReport, compare_with_qonnx, random_images, run_qonnx
from nncosim.platforms.base import Platform
from nncosim.platforms.plain import Json
from nncosim.tb.backend import Diagnosis, Frame
from nncosim.tb.reference.check import ReferenceReport, compare_with_reference
from nncosim.tb.reference.compare import Divergence
from nncosim.tb.reference.onnx_reference import OnnxReference, ReferenceFailure
from nncosim.tb.report.report import divergence_json
from nncosim.tb.run.flow import RunOptions, check_frames, execute
from nncosim.tb.run.inputs import InputError, batch_size, frames, images_of
from nncosim.tb.run.program import Program
from nncosim.tb.system.progress import Progress

__all__ = [
    "EXECUTORS",
    "LABELS",
    "LITERT",
    "Accuracy",
    "accuracy",
    "against_executor",
    "against_onnx",
    "executor_json",
    "executor_predictions",
    "float_images",
    "image_count",
    "read_labels",
]

LABELS = "labels"
"""The array of an .npz file with the right class of each image, (N,) integers."""
EXECUTORS = {"qonnx": compare_with_qonnx, "onnxruntime": compare_with_onnxruntime}
"""Of float32 graphs, by name: how a network is compared with each."""
LITERT = "litert"
"""TensorFlow Lite's reference kernels, of a file in that format."""
CHUNK = 25
"""Inferences a bench runs back to back between two signs of progress."""


@dataclass(frozen=True)
class Accuracy:
    """Classification of labelled images on a bench. `predictions`, `labels`: (N,) int64, N images that were run.

    `executor`: the predictions of the one called `executor_name` on the same images, if they were asked for.
    """

    predictions: np.ndarray
    labels: np.ndarray
    first: Divergence | None
    diagnosis: Diagnosis | None
    cycles: tuple[int, ...]
    wall_seconds: float
    executor: np.ndarray | None = None
    executor_name: str = ""
    backend: str = ""

    @property
    def right(self) -> int:
        return int(np.count_nonzero(self.predictions == self.labels))

    @property
    def share(self) -> float:
        return self.right / len(self.labels) if len(self.labels) else 0.0

    @property
    def passed(self) -> bool:
        """Every tensor of every image right, and the executor of one mind; the accuracy itself is not judged."""
        agrees = self.executor is None or bool(np.array_equal(self.executor, self.predictions))
        return self.first is None and self.diagnosis is None and agrees

    def to_json(self) -> dict[str, object]:
        out: dict[str, object] = {
            "backend": self.backend,
            "images": len(self.labels),
            "right": self.right,
            "accuracy": round(self.share, 6),
            "bit_exact": self.first is None and self.diagnosis is None,
            "first_divergence": divergence_json(self.first),
            "diagnosis": vars(self.diagnosis) if self.diagnosis else None,
            "predictions": self.predictions.tolist(),
            "labels": self.labels.tolist(),
            "cycles": int(sum(self.cycles)),
            "wall_seconds": round(self.wall_seconds, 3),
        }
        if self.executor is not None:
            out["executor_predictions"] = self.executor.tolist()
            out["executor_agrees"] = int(np.count_nonzero(self.executor == self.predictions))
        return out


def image_count(network: Network, arrays: Mapping[str, np.ndarray], source: str, limit: int | None) -> int:
    """How many images to run: all of the arrays, or the first `limit`.

    Raises:
        InputError: arrays that do not fit the model, fewer images than `limit`, or part of a batch.
    """
    batch = network.inference_batch
    count = batch * batch_size(network, arrays, source)
    if limit is not None and limit % batch:
        raise InputError(f"--images {limit}: the images are run {batch} at a time; give a multiple of {batch}")
    if limit is not None and limit > count:
        raise InputError(
            f"--images {limit}: {source} holds {count} image{'' if count == 1 else 's'}; give at most {count}, "
            "or leave --images out to run them all"
        )
    return count if limit is None else limit


def read_labels(arrays: Mapping[str, np.ndarray], count: int, source: str) -> np.ndarray:
    """The array `labels`, int64 (count,).

    Raises:
        InputError: it is missing, or not one integer an image.
    """
    if LABELS not in arrays:
        raise InputError(
            f"{source}: no array {LABELS!r} with the right classes; found {', '.join(arrays) or 'nothing'}"
        )
    labels = np.asarray(arrays[LABELS])
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{source}: {LABELS!r} must hold one integer an image, shape ({count},); got {labels.dtype} {labels.shape}"
        )
    return labels.astype(np.int64)


def _check_classes(labels: np.ndarray, classes: int, source: str) -> None:
    wrong = [int(label) for label in labels if not 0 <= label < classes]
    if wrong:
        raise InputError(f"{source}: {LABELS!r} must be 0 to {classes - 1}, one of the output's values, not {wrong[0]}")


def _single_output(network: Network) -> str:
    if len(network.outputs) != 1:
        raise InputError(
            f"accuracy needs a model with one output, not {len(network.outputs)}: {', '.join(network.outputs)}"
        )
    return network.outputs[0]


def _classes(network: Network, output: str, frame: Frame, tail: Tail | None) -> list[int]:
    """Of each image, the index of the largest dequantised value, the first of equals, or the class that the graph's
    `tail` names; -1 if it was not written."""
    batch = network.inference_batch
    if output not in frame.memory:
        return [-1] * batch
    scores = dequantise_output(network, output, frame.memory[output])
    found = tail.classes({output: scores}, batch) if tail else scores.reshape(batch, -1).argmax(axis=1)
    return [int(c) for c in found]


def accuracy(
    program: Program,
    platform: Platform,
    arrays: Mapping[str, np.ndarray],
    options: RunOptions,
    source: str,
    *,
    limit: int | None = None,
    tail: Tail | None = None,
    progress: Progress | None = None,
) -> Accuracy:
    """Run labelled images on a bench, compare every tensor, and count the right classes.

    Args:
        arrays: of the .npz file; one per graph input with N images, and `labels`.
        limit: run the first so many images only.
        tail: of the model, applied to what the bench gives.

    Raises:
        InputError: arrays that do not fit the model, fewer images than `limit`, no labels or no classes, or a model
            with several outputs.
    """
    network = program.network
    output = _single_output(network)
    batch = network.inference_batch
    labels = read_labels(arrays, image_count(network, arrays, source, None), source)
    _check_classes(labels, math.prod(network.onnx_shapes[output][1:]), source)
    count = image_count(network, arrays, source, limit)
    predictions: list[int] = []
    cycles: list[int] = []
    begin = time.perf_counter()
    for start in range(0, count // batch, CHUNK):
        if progress is not None:
            progress(f"image {start * batch} of {count}")
        inputs = frames(network, arrays, range(start, min(start + CHUNK, count // batch)), source)
        result = execute(program, platform, inputs, options, None if start else progress)
        first = check_frames(program, inputs, result).first
        predictions += [found for frame in result.frames for found in _classes(network, output, frame, tail)]
        cycles += [frame.cycles for frame in result.frames]
        if first is not None or result.diagnosis is not None:
            break
    done = np.array(predictions, dtype=np.int64)
    seconds = time.perf_counter() - begin
    return Accuracy(
        done, labels[: len(done)], first, result.diagnosis, tuple(cycles), seconds, backend=result.backend
    )


def float_images(
    network: Network, arrays: Mapping[str, np.ndarray], source: str, limit: int | None = None
) -> list[dict[str, np.ndarray]]:
    """What each inference takes as float32 in ONNX layout, for an executor; integers as the floats they stand for.

    Raises:
        InputError: arrays that do not fit the model, fewer images than `limit`, or integers out of range.
    """
    out: list[dict[str, np.ndarray]] = []
    for index in range(image_count(network, arrays, source, limit) // network.inference_batch):
        image = {}
        for name in network.inputs:
            one = images_of(network, name, np.asarray(arrays[name]), index)
            if not np.issubdtype(one.dtype, np.floating):
                try:
                    real = dequantise_output(network, name, quantise_input(network, name, one))
                    one = user_array(network, name, real)
                except InputDataError as error:
                    raise InputError(f"{source}: {error} (image {index})") from error
            image[name] = one.astype(np.float32)
        out.append(image)
    return out


def executor_predictions(
    model: Path, network: Network, images: list[dict[str, np.ndarray]], executor: str = "qonnx",
    forms: Mapping[str, InputForm] | None = None, tail: Tail | None = None,
) -> np.ndarray:
    """The class that an executor (of `EXECUTORS`) gives each image, int64 (N,)."""
    output = _single_output(network)
    found: list[np.ndarray] = []
    sessions = OnnxruntimeExecutor(model, network)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        size = len(part) * network.inference_batch
        stacked = {name: np.concatenate([image[name] for image in part]) for name in network.inputs}
        if executor == "qonnx":
            scores = run_qonnx(prepare(model, size, forms)[0], stacked)[output]
        else:
            scores = sessions(stacked, size)[1][output]
        found.append(tail.classes({output: scores}, size) if tail else scores.reshape(size, -1).argmax(axis=1))
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, dtype=np.int64)


def executor_json(report: ExecutorReport) -> dict[str, Json]:
    """The layer-by-layer comparison as JSON."""
    return {
        "images": report.images,
        "seed": report.seed,
        "ok": report.ok,
        "values": report.values,
        "float_differences": report.float_differences,
        "input_differences": report.input_differences,
        "outputs": report.outputs,
        "output_differences": report.output_differences,
        "layers": [vars(layer) for layer in report.layers],
    }


def against_executor(
    executor: str,
    model: Path,
    forms: Mapping[str, InputForm],
    network: Network,
    images: int | list[dict[str, np.ndarray]],
    seed: int,
    progress: Progress | None = None,
) -> ExecutorReport:
    """Compare with an executor (of `EXECUTORS`, or `LITERT`) layer by layer, each from its own input tensors.

    Raises:
        ModelError: operators that it does not know.
    """

    def say(done: int, total: int) -> None:
        if progress is not None:
            progress(f"{executor}: image {done} of {total}")

    if executor == LITERT:
        from nncosim.compiler.proof.litert_check import compare_with_litert  # and the schema's package, for this alone

        return compare_with_litert(model, network, images, seed, say)
    return EXECUTORS[executor](_in_floats(model, forms), network, images, seed, say)


def _in_floats(model: Path, forms: Mapping[str, InputForm]) -> onnx.ModelProto:
    """The graph for an evaluator that knows ONNX alone.

    Raises:
        InputError: it says how integers are computed in a way that ONNX has no words for.
    """
    written = with_forms(model, forms)
    if meanings_of(written):
        text = "its kernels round in a way that ONNX does not know"
        raise InputError(f"{model}: {text}; compare with --against {LITERT}")
    return written


def against_onnx(
    model: Path,
    forms: Mapping[str, InputForm],
    network: Network,
    images: int | list[dict[str, np.ndarray]],
    seed: int,
    progress: Progress | None = None,
) -> ReferenceReport:
    """Compare with the plain evaluator of the ONNX graph, layer by layer, each from that one's own input tensors.

    Raises:
        InputError: an operator that the evaluator does not know.
    """

    def say(done: int, total: int) -> None:
        if progress is not None:
            progress(f"onnx: image {done} of {total}")

    written = _in_floats(model, forms)
    names = import_details(written, name=network.name, keep_batch=network.keeps_batch).onnx_names
    data = random_images(network, images, seed) if isinstance(images, int) else images
    try:
        return compare_with_reference(OnnxReference(written), network, names, data, say)
    except ReferenceFailure as error:
        raise InputError(f"{model}: the evaluator of --against onnx cannot run it: {error}") from error
