# SPDX-License-Identifier: Apache-2.0
"""A float network and its integers side by side, on labelled data: classes of images or pixels, or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nncosim.compiler.frontend import dequantise_output, import_model
from nncosim.compiler.frontend.user_arrays import quantise_inputs
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.quantize import Quantized
from nncosim.compiler.quantize.statistics import Runner
from nncosim.tb.run.evaluate import LABELS, float_images, image_count
from nncosim.tb.run.inputs import InputError
from nncosim.tb.system.progress import Progress

__all__ = ["SideBySide", "side_by_side"]

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Results of the float network, of its integers in exact arithmetic, and as they should be.

    All of one shape: (N,) or (N, H, W) integers where these are classes, by the largest of the first output's channels;
    (N, ...) floats where they are numbers.
    """

    float_results: np.ndarray
    integer_results: np.ndarray
    labels: np.ndarray

    @property
    def classes(self) -> bool:
        return self.labels.dtype.kind in "iu"

    def score(self, results: np.ndarray) -> float:
        """The share of right classes; of numbers R2, the share of the labels' variance that is explained."""
        if self.classes:
            return float((results == self.labels).mean())
        labels = self.labels.astype(np.float64)
        return 1 - float(np.square(results.astype(np.float64) - labels).sum() / np.square(labels - labels.mean()).sum())

    @property
    def float_score(self) -> float:
        return self.score(self.float_results)

    @property
    def integer_score(self) -> float:
        return self.score(self.integer_results)

    def __str__(self) -> str:
        count, size = len(self.labels), self.labels.size
        what = f"{count} images" + (f" ({size:,} pixels)" if self.classes and size > count else "")
        if not self.classes:
            return f"R2 on {what}: float {self.float_score:.4f}, integers {self.integer_score:.4f}"
        changed = int((self.float_results != self.integer_results).sum())
        return (f"accuracy on {what}: float {self.float_score:.2%}, integers {self.integer_score:.2%}; "
                f"{changed:,} classes changed")  # fmt: skip

    def to_json(self) -> dict[str, float | int | str]:
        return {
            "measure": "accuracy" if self.classes else "R2", "images": len(self.labels), "float": self.float_score,
            "integers": self.integer_score, "changed": int((self.float_results != self.integer_results).sum()),
        }  # fmt: skip


def side_by_side(result: Quantized, arrays: Arrays, source: Path, say: Progress) -> SideBySide:
    """Run both on all images of `arrays`, which have labels. `source`: where these are from, for messages.

    Raises:
        InputError: arrays that do not fit the network, or no labels that fit its first output.
    """
    network = import_model(result.model)
    count = image_count(network, arrays, str(source), None)
    output = network.outputs[0]
    labels = _labels(arrays, count, network.onnx_shapes[output], source)
    runner = Runner(result.graph.proto(), [output])
    floats = {name: np.asarray(arrays[name]).astype(np.float32) for name in network.inputs}
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number, image in enumerate(float_images(network, floats, str(source), count)):
        say(f"accuracy: image {number + 1} of {count}")
        integers = evaluate(network, quantise_inputs(network, image), exact=True)[output]
        both = runner(image)[output], dequantise_output(network, output, integers)
        for results, values in zip(found, both, strict=True):
            results.append(np.argmax(values, axis=1)[0] if labels.dtype.kind in "iu" else values[0])
    of_floats, of_integers = (np.array(results).reshape(labels.shape) for results in found)
    return SideBySide(of_floats, of_integers, labels)


def _labels(arrays: Arrays, count: int, shape: tuple[int, ...], source: Path) -> np.ndarray:
    """The array `labels`. `shape`: of the output, (1, C), (1, C, H, W) and the like."""
    if LABELS not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise InputError(f"{source}: no array {LABELS!r} with the right results; found {found}")
    labels = np.asarray(arrays[LABELS])
    wanted = (count, *shape[2:]) if labels.dtype.kind in "iu" else (count, *shape[1:])
    if labels.dtype.kind not in "iuf" or labels.shape not in (wanted, tuple(n for n in wanted if n != 1)):
        raise InputError(
            f"{source}: {LABELS!r} must hold classes, integers {(count, *shape[2:])}, or numbers, floats "
            f"{(count, *shape[1:])}; got {labels.dtype} {labels.shape}"
        )
    if labels.dtype.kind in "iu" and not 0 <= labels.min(initial=0) <= labels.max(initial=0) < shape[1]:
        found = f"{labels.min()}..{labels.max()}"
        raise InputError(f"{source}: {LABELS!r} must be classes 0 to {shape[1] - 1}, got {found}")
    return labels.reshape(wanted)
