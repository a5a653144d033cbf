# SPDX-License-Identifier: Apache-2.0
"""What calibration data give at the points of a network, by onnxruntime in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from nncosim.compiler.errors import InputDataError

__all__ = ["BINS", "Runner", "Statistics", "collect"]

BINS = 4096
"""Of a histogram, from the least to the greatest value seen: a sixteenth of a step of 8 bits."""

Arrays = Mapping[str, npt.NDArray[np.float32]]


class Runner:
    """A model that runs on images, one at a time, and gives values from within."""

    def __init__(self, model: onnx.ModelProto, wanted: Sequence[str]):
        self.wanted = tuple(dict.fromkeys(wanted))
        inner = onnx.ModelProto()
        inner.CopyFrom(model)
        del inner.graph.output[:]
        given = {value.name for value in model.graph.input}
        inner.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in self.wanted if name not in given
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            inner.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [i.name for i in self._session.get_inputs()]
        self._outputs = [o.name for o in self._session.get_outputs()]

    def __call__(self, image: Arrays) -> dict[str, npt.NDArray[np.float32]]:
        found = self._session.run(self._outputs, {name: image[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True)) | {n: image[n] for n in self.wanted if n in image}


@dataclass
class Statistics:
    """Of all values of a point in all images. `histogram`: int64 (BINS,), evenly from `low` to `high`."""

    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    squares: float = 0.0
    count: int = 0
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @property
    def deviation(self) -> float:
        return float(np.sqrt(max(self.squares / max(self.count, 1) - self.mean**2, 0.0)))

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return (edges[1:] + edges[:-1]) / 2

    def see(self, values: npt.NDArray[np.float32]) -> None:
        wide = values.astype(np.float64)
        self.low, self.high = min(self.low, float(wide.min())), max(self.high, float(wide.max()))
        self.total += float(wide.sum())
        self.squares += float(np.square(wide).sum())
        self.count += wide.size

    def place(self, values: npt.NDArray[np.float32]) -> None:
        """Into the histogram, when all values have been seen."""
        if self.high > self.low:
            self.histogram += np.histogram(values, BINS, (self.low, self.high))[0]

    def scale(self, factor: float) -> None:
        """As if all values had been multiplied by a positive factor."""
        self.low, self.high, self.total = self.low * factor, self.high * factor, self.total * factor
        self.squares *= factor * factor

    def outside(self, low: float, high: float) -> float:
        """The share of values outside of a range, to a bin."""
        centres = self.centres
        return float(self.histogram[(centres < low) | (centres > high)].sum() / max(self.histogram.sum(), 1))


def collect(
    runner: Runner, images: Callable[[], Iterable[Arrays]], say: Callable[[str], None]
) -> dict[str, Statistics]:
    """Statistics of every value that `runner` gives, in two runs over the images.

    Raises:
        InputDataError: a value that is not finite.
    """
    found = {name: Statistics() for name in runner.wanted}
    for number, values in enumerate(_runs(runner, images(), say, "ranges")):
        for name, array in values.items():
            if not np.isfinite(array).all():
                raise InputDataError(f"calibration image {number}: {name!r} has values that are not finite")
            found[name].see(array)
    for values in _runs(runner, images(), say, "histograms"):
        for name, array in values.items():
            found[name].place(array)
    return found


def _runs(
    runner: Runner, images: Iterable[Arrays], say: Callable[[str], None], what: str
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    for number, image in enumerate(images, 1):
        say(f"calibrating: {what}, image {number}")
        yield runner(image)
