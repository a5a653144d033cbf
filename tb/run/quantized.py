# SPDX-License-Identifier: Apache-2.0
"""A float network and its integers side by side, on labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nncosim.compiler.frontend import dequantise_output, import_model
from nncosim.compiler.frontend.user_arrays import quantise_inputs
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.quantize import Quantized
from nncosim.compiler.quantize.statistics import Runner
from nncosim.tb.run.evaluate import float_images, image_count, read_labels
from nncosim.tb.system.progress import Progress

__all__ = ["SideBySide", "side_by_side"]


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Classes (N,) by the largest of the first output: of the float network, of its integers in exact arithmetic, and
    as they should be."""

    float_classes: npt.NDArray[np.int64]
    integer_classes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @property
    def float_right(self) -> int:
        return int((self.float_classes == self.labels).sum())

    @property
    def integer_right(self) -> int:
        return int((self.integer_classes == self.labels).sum())

    @property
    def changed(self) -> int:
        return int((self.float_classes != self.integer_classes).sum())

    def to_json(self) -> dict[str, Any]:
        return {"images": len(self.labels), "float_right": self.float_right, "integer_right": self.integer_right,
                "changed": self.changed}  # fmt: skip


def side_by_side(
    result: Quantized, arrays: Mapping[str, npt.NDArray[Any]], source: Path, say: Progress
) -> SideBySide:
    """Run both on all images of `arrays`, which have labels. `source`: where these are from, for messages.

    Raises:
        InputError: arrays that do not fit the network, or no labels.
    """
    network = import_model(result.model)
    count = image_count(network, arrays, str(source), None)
    labels = read_labels(arrays, count, str(source))
    output = network.outputs[0]
    runner = Runner(result.graph.proto(), [output])
    arrays = {name: np.asarray(arrays[name]).astype(np.float32) for name in network.inputs}
    found: tuple[list[int], list[int]] = ([], [])
    for number, image in enumerate(float_images(network, arrays, str(source), count)):
        say(f"accuracy: image {number + 1} of {count}")
        found[0].append(int(np.argmax(runner(image)[output])))
        integers = evaluate(network, quantise_inputs(network, image), exact=True)[output]
        found[1].append(int(np.argmax(dequantise_output(network, output, integers))))
    return SideBySide(np.array(found[0]), np.array(found[1]), labels)
