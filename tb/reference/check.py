# SPDX-License-Identifier: Apache-2.0
"""The integer network against the plain evaluator of its ONNX graph, layer by layer.

Each operator of the network gets the integers that the reference itself computed from the graph's inputs on, and its
output is held against the reference's. So all see the same inputs, a difference stays in its layer, and nothing that
the importer says takes part in the expected value. Which ONNX value a tensor of the network stands for is
the importer's word; a wrong word is a difference. What the integers mean (scale, zero point, range) is compared too.

A difference is explained where the requantization proof says that the layer is inexact: there the layer's own rational
function must give the reference's integer, and ours be within the proof's bound. Any other is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from nncosim.compiler.frontend import quantise_input, quantise_inputs
from nncosim.compiler.frontend.user_arrays import user_array
from nncosim.compiler.ir.evaluate import evaluate, execute
from nncosim.compiler.ir.host import arrange
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.platforms.plain import Json
from nncosim.tb.reference.onnx_reference import OnnxReference, ReferenceFailure, Value

__all__ = ["ReferenceLayer", "ReferenceReport", "compare_with_reference"]

REAL = 2.0**-40
"""Largest relative difference of an output that has no Quant: the reference has it as a float64."""


@dataclass
class ReferenceLayer:
    """Counts of one operator over all images.

    values: compared. rational: those so near a threshold that the reference computed them in rationals; tipped: those
    of them that float64 has wrong. inexact: differences that the requantization proof names. undecided: differences
    where neither float64 nor rationals decide (Sigmoid and the like within 1e-6 of a threshold). wrong: any other.
    first_wrong: (image, channel, row, column, expected, got), of tokens (image, token, channel, expected, got).
    meaning: how the tensor's scale, zero point or range differs from the graph's, or "".
    """

    name: str
    values: int = 0
    rational: int = 0
    tipped: int = 0
    inexact: int = 0
    undecided: int = 0
    wrong: int = 0
    first_wrong: tuple[int, ...] | None = None
    meaning: str = ""

    @property
    def ok(self) -> bool:
        return not self.wrong and not self.meaning


@dataclass
class ReferenceReport:
    """All layers. input_differences: of the inputs' integers. outputs, output_differences: elements of graph
    outputs, and those that differ when each goes all the way from the image alone."""

    images: int
    layers: list[ReferenceLayer] = field(default_factory=list)
    input_differences: int = 0
    outputs: int = 0
    output_differences: int = 0

    def total(self, what: str) -> int:
        """The sum of one of the layers' counts."""
        return sum(getattr(layer, what) for layer in self.layers)

    @property
    def faulty(self) -> list[str]:
        """Names of the layers that are not what the graph says."""
        return [layer.name for layer in self.layers if not layer.ok]

    @property
    def ok(self) -> bool:
        unexplained = self.output_differences and not self.total("inexact") and not self.total("undecided")
        return not self.input_differences and not self.faulty and not unexplained

    def to_json(self) -> dict[str, Json]:
        counts = ("values", "rational", "tipped", "inexact", "undecided", "wrong")
        return {
            "images": self.images,
            "ok": self.ok,
            **{name: self.total(name) for name in counts},
            "input_differences": self.input_differences,
            "outputs": self.outputs,
            "output_differences": self.output_differences,
            "layers": [vars(layer) for layer in self.layers],
        }


def compare_with_reference(
    reference: OnnxReference, network: Network, onnx_names: Mapping[str, tuple[str, int]],
    images: Sequence[Mapping[str, np.ndarray]], progress: Callable[[int, int], None] | None = None,
) -> ReferenceReport:
    """Compare a proved network with the ONNX graph it was imported from.

    Args:
        network: with `requant` (see `compiler.proof.prove`). onnx_names: of `compiler.frontend.Import`.
        images: float32 inputs in ONNX layout, batch 1, by graph input; a graph that takes integers gets those that the
            network makes of them.
        progress: called with (images done, images in all).

    Raises:
        ReferenceFailure: an operator that the reference does not know, or a tensor that stands for no integers of it.
    """
    report = ReferenceReport(len(images), [ReferenceLayer(op.name) for op in network.ops])
    for number, image in enumerate(images):
        given = dict(image)
        for name in reference.integers:
            whole = network.tensors[name].to_onnx(quantise_input(network, name, image[name]))
            given[name] = user_array(network, name, whole).reshape(image[name].shape)
        values = reference.run(given)
        for name in network.inputs:
            theirs = _integers(network.tensors[name], onnx_names[name], values)
            report.input_differences += int((quantise_input(network, name, image[name]) != theirs).sum())
        for op, layer in zip(network.ops, report.layers, strict=True):
            _compare_layer(reference, network, op, onnx_names, values, number, layer)
        _compare_outputs(network, onnx_names, image, values, report)
        if progress is not None:
            progress(number + 1, len(images))
    return report


def _part(array: np.ndarray, tensor: Tensor, place: Sequence[Any]) -> np.ndarray:
    """An array in ONNX layout in the tensor's shape; of a concatenation the channels from the first on.

    `place`: the ONNX value's name, the first channel, and steps of layout into the tensor's, if there are any.
    """
    _, first, *steps = place
    array = arrange(array, steps[0] if steps else ())
    row = tensor.onnx_axes[-2:] == ("W", "C")  # tokens that are the pixels of a map of one row
    if array.size != tensor.elements:
        channels = slice(first, first + tensor.shape[tensor.axes.index("C")])
        array = array[:, :, channels] if row or "T" in tensor.axes else array[:, channels]
    return (np.swapaxes(array, -2, -1) if row else array).reshape(tensor.shape)


def _spread(tensor: Tensor, numbers: Sequence[Fraction]) -> np.ndarray:
    """One number, or one per channel, so that it broadcasts against the tensor."""
    return np.array([float(n) for n in numbers]).reshape([-1 if axis == "C" else 1 for axis in tensor.axes])


def _integers(tensor: Tensor, place: Sequence[Any], values: Mapping[str, Value]) -> np.ndarray:
    value = values.get(place[0])
    if value is None or value.ints is None:
        raise ReferenceFailure(f"tensor {tensor.name!r} stands for {place[0]!r}, which the graph does not quantise")
    return _part(value.ints, tensor, place)


def _compare_layer(
    reference: OnnxReference, network: Network, op: Op, onnx_names: Mapping[str, tuple[str, int]],
    values: Mapping[str, Value], number: int, layer: ReferenceLayer,
) -> None:
    tensor, place = network.tensors[op.output], onnx_names[op.output]
    inputs = [_integers(network.tensors[i], onnx_names[i], values) for i in op.inputs]
    ours = execute(op, inputs, tensor.axes.index("C"))
    layer.values += ours.size
    value = values.get(place[0])
    if value is not None and value.ints is None:  # a graph output
        _compare_real(tensor, value.real, ours, number, layer)
        return
    expected = _integers(tensor, place, values)
    assert value is not None
    layer.meaning = layer.meaning or _meaning(tensor, value, place)
    differs = ours != expected
    decided = reference.decided.get(place[0])
    if decided is not None and place[1] == 0:
        layer.rational += decided.again
        layer.tipped += decided.tipped
    if not differs.any():
        return
    explained = np.zeros_like(differs)
    if decided is not None and decided.undecided:
        unknown = np.zeros(value.shape, dtype=bool)
        unknown[tuple(np.array(decided.undecided).T)] = True
        explained = differs & _part(unknown, tensor, place) & (np.abs(ours - expected) == 1)
        layer.undecided += int(explained.sum())
    if op.function is not None and op.proof is not None and not op.proof.exact:
        exact = execute(op, inputs, tensor.axes.index("C"), exact=True)
        inexact = differs & (exact == expected) & (np.abs(ours - expected) <= op.proof.max_lsb)
        layer.inexact += int((inexact & ~explained).sum())
        explained |= inexact
    _note(layer, tensor, differs & ~explained, expected, ours, number)


def _note(
    layer: ReferenceLayer, tensor: Tensor, where: np.ndarray, expected: np.ndarray, got: np.ndarray, number: int
) -> None:
    layer.wrong += int(where.sum())
    if where.any() and layer.first_wrong is None:
        index = tuple(int(i) for i in np.argwhere(where)[0])
        layer.first_wrong = (number, *tensor.onnx_index(index), int(expected[index]), int(got[index]))


def _compare_real(tensor: Tensor, real: np.ndarray, ours: np.ndarray, number: int, layer: ReferenceLayer) -> None:
    """A graph output without a Quant: real numbers, as near as float64 has them."""
    kind = tensor.type
    scale, offset = _spread(tensor, kind.scale), _spread(tensor, kind.offset or (Fraction(0),))
    theirs = _part(real, tensor, ("", 0))
    size = np.abs(ours * scale) + np.abs(offset) + np.abs(theirs)
    wrong = np.abs(ours * scale + offset - theirs) > REAL * size
    _note(layer, tensor, wrong, np.rint((theirs - offset) / scale), ours, number)


def _meaning(tensor: Tensor, value: Value, place: Sequence[Any]) -> str:
    """How a tensor's type contradicts the graph, or ""."""
    kind = tensor.type
    assert value.scale is not None
    theirs = _part(value.scale, tensor, place)
    ours = np.broadcast_to(_spread(tensor, kind.scale), tensor.shape)
    if (theirs != ours).any():
        at = tuple(np.argwhere(theirs != ours)[0])
        return f"scale {ours[at].item()!r}, in the graph {theirs[at].item()!r}"
    if kind.zero_point != value.zero:
        return f"zero point {kind.zero_point}, in the graph {value.zero}"
    if kind.lo < value.low or kind.hi > value.high:
        return f"range {kind.lo}..{kind.hi}, in the graph {value.low:g}..{value.high:g}"
    return ""


def _compare_outputs(
    network: Network, onnx_names: Mapping[str, tuple[str, int]], image: Mapping[str, np.ndarray],
    values: Mapping[str, Value], report: ReferenceReport,
) -> None:
    """Each from the image on."""
    ours = evaluate(network, quantise_inputs(network, image))
    for name in network.outputs:
        if values[name].ints is None:
            continue
        theirs = _integers(network.tensors[name], onnx_names[name], values)
        report.outputs += theirs.size
        report.output_differences += int((ours[name] != theirs).sum())
