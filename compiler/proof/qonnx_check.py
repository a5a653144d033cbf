# SPDX-License-Identifier: Apache-2.0
"""The network against a float32 executor of the graph, layer by layer: here the qonnx package's.

Each operator gets the executor's own input tensors, so that a difference stays in its layer. Three
values are compared: ours (the integer `requant`), the exact rational `function`'s, and the executor's.
Ours must equal the exact one.
Where the executor differs from the exact value, the exact real number must lie within the float32 error of
a rounding threshold; such values are counted, anything further away is a fault of the import.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend import (
    Import,
    dequantise_output,
    import_details,
    quantise_input,
    quantise_inputs,
    raw_outputs,
)
from nncosim.compiler.frontend.prepare import prepare
from nncosim.compiler.frontend.user_arrays import user_array
from nncosim.compiler.ir.evaluate import apply_exact, evaluate
from nncosim.compiler.ir.host import arrange, inverse
from nncosim.compiler.ir.network import Network, Op, Tensor
from nncosim.compiler.ir.thresholds import round_fraction
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

__all__ = ["ExecutorReport", "QonnxLayer", "compare_with_executor", "compare_with_qonnx", "random_images", "run_qonnx"]

UNIT = 2.0**-24
"""Half the spacing of float32 relative to the value: the largest relative error of one operation."""


@dataclass
class QonnxLayer:
    """Counts of one operator over all images.

    values: compared. wrong: ours differs from exact arithmetic. float_differences: the executor differs from exact
    arithmetic, within its error. ties: those of them where the exact number is a tie. outside: it differs further than
    its error explains. inexact: the proof says that its integers are not everywhere exact. first_wrong,
    first_outside: (image, channel, row, column, expected, got), of tokens (image, token, channel, expected, got).
    """

    name: str
    values: int = 0
    wrong: int = 0
    float_differences: int = 0
    ties: int = 0
    outside: int = 0
    inexact: bool = False
    first_wrong: tuple[int, ...] | None = None
    first_outside: tuple[int, ...] | None = None


@dataclass
class ExecutorReport:
    """All layers; `same_prediction` counts images whose largest output has the same index in both.

    outputs, output_differences: elements of graph outputs, and those that differ when both go all the way from the
    image, so that every float32 rounding on the way has its consequences.
    integers: the executor computes in integers, so that nothing explains a difference from exact arithmetic; what the
    proof says of ours (`inexact`) is no mismatch.
    """

    executor: str
    images: int
    seed: int
    layers: list[QonnxLayer] = field(default_factory=list)
    input_differences: int = 0
    same_prediction: int = 0
    outputs: int = 0
    output_differences: int = 0
    integers: bool = False

    @property
    def values(self) -> int:
        return sum(layer.values for layer in self.layers)

    @property
    def float_differences(self) -> int:
        return sum(layer.float_differences for layer in self.layers)

    @property
    def ok(self) -> bool:
        wrong = any(x.wrong and not (self.integers and x.inexact) for x in self.layers)
        return not self.input_differences and not wrong and not any(x.outside for x in self.layers)


def random_images(network: Network, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Float32 inputs in ONNX layout that use the input quantiser's range, about 1 % saturated."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        image = {}
        for name in network.inputs:
            tensor = network.tensors[name]
            kind = tensor.type
            scale = tensor.per_channel(kind.scale)
            centre, spread = (kind.lo + kind.hi) / 2 - kind.zero_point, (kind.hi - kind.lo) / 5.2
            data = tensor.to_onnx((centre + spread * tensor.from_onnx(rng.standard_normal(tensor.elements))) * scale)
            image[name] = user_array(network, name, data).astype(np.float32)
        images.append(image)
    return images


def run_qonnx(model: ModelWrapper, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All tensors of the float graph, by qonnx's executor.

    Raises:
        ModelError: operators that it does not know, or inputs of integers.
    """
    unknown = sorted({n.op_type for n in model.graph.node if n.domain == "com.microsoft"})
    text = f"the qonnx package does not know {', '.join(unknown)}" if unknown else ""
    if any(value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT for value in model.graph.input):
        text = "the qonnx package takes float inputs only"
    if text:
        raise ModelError(model.graph.name, [Problem("graph", "", text, "compare with --against onnxruntime")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return execute_onnx(model, dict(inputs), return_full_exec_context=True)


def compare_with_qonnx(
    source: str | Path | onnx.ModelProto, network: Network, images: int | list[dict[str, np.ndarray]] = 10,
    seed: int = 0, progress: Callable[[int, int], None] | None = None,
) -> ExecutorReport:
    """Compare a proved network with the model it was imported from.

    Args:
        source: the model. network: imported from it, with `requant` (see `proof.prove`).
        images: how many random ones, or a list of float inputs in ONNX layout by graph input name.
        progress: called with (images done, images in all).
    """
    models: dict[int, ModelWrapper] = {}

    def run(inputs: Mapping[str, np.ndarray], size: int) -> tuple[Arrays, Arrays]:
        if size not in models:
            models[size] = prepare(source, size)[0]
        found = run_qonnx(models[size], inputs)
        return found, found

    details = import_details(source, name=network.name, keep_batch=network.keeps_batch)
    data = random_images(network, images, seed) if isinstance(images, int) else images
    return compare_with_executor(details, network, data, ExecutorReport("qonnx", len(data), seed), run, progress)


Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays, int], tuple[Arrays, Arrays]]
"""Of graph inputs stacked to a batch, and that batch: all tensors of the graph by name, which layers are compared with;
and graph outputs, which whole inferences are."""


def compare_with_executor(
    details: Import, network: Network, data: list[dict[str, np.ndarray]], report: ExecutorReport, run: Run,
    progress: Callable[[int, int], None] | None = None,
) -> ExecutorReport:
    """Compare a proved network with what an executor says of the images `data`; fills the new `report`."""
    report.layers = [QonnxLayer(op.name, inexact=bool(op.proof and not op.proof.exact)) for op in network.ops]
    size, batch = network.inference_batch, min(len(data), 16)
    for first in range(0, len(data), max(batch, 1)):
        part = data[first:first + batch]
        stacked = {name: np.concatenate([image[name] for image in part]) for name in network.inputs}
        whole = run(stacked, len(part) * size)
        for index, image in enumerate(part):
            values, ends = ({
                k: v[index * size:(index + 1) * size] for k, v in arrays.items()
                if isinstance(v, np.ndarray) and v.shape[:1] == (len(part) * size,)
            } for arrays in whole)
            _compare_image(details, network, image, values, first + index, report)
            _compare_outputs(network, image, ends, report)
            if progress is not None:
                progress(first + index + 1, len(data))
    return report


def _integers(tensor: Tensor, place: tuple[Any, ...], values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The executor's float tensor as the integers it stands for, int64 of the tensor's shape; or its integers."""
    name, first, *steps = place
    whole = values[name].dtype.kind in "iu"
    real = arrange(values[name].astype(np.float64), steps[0] if steps else ())
    if real.size != tensor.elements:  # one part of a concatenation
        real = real.take(range(first, first + tensor.channels), axis=tensor.onnx_channel_axis)
    kind = tensor.type
    if whole:
        return tensor.from_onnx(real).astype(np.int64)
    scale = tensor.per_channel(kind.scale)
    offset = tensor.per_channel(kind.offset or (0,))
    return np.rint((tensor.from_onnx(real) - offset) / scale + kind.zero_point).astype(np.int64)


def _compare_image(
    details: Import, network: Network, image: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], number: int,
    report: ExecutorReport,
) -> None:
    def executor(name: str) -> np.ndarray:
        return _integers(network.tensors[name], details.onnx_names[name], values)

    for name in network.inputs:
        ours = quantise_input(network, name, image[name])
        report.input_differences += int((ours != executor(name)).sum())
    raw = raw_outputs(network)
    for op, layer in zip(network.ops, report.layers, strict=True):
        inputs = [executor(i) for i in op.inputs]
        if op.output in raw:
            _compare_raw(details, network, op, inputs, values, number, layer)
        else:
            magnitude = details.magnitudes.get(op.name)
            theirs = executor(op.output)
            _compare_layer(op, network.tensors[op.output], inputs, theirs, magnitude, number, layer, report.integers)


def _compare_layer(
    op: Op, tensor: Tensor, inputs: list[np.ndarray], theirs: np.ndarray, magnitude: tuple[float, ...] | None,
    number: int, layer: QonnxLayer, integers: bool,
) -> None:
    axis = tensor.channel_axis
    accumulators = op.accumulate(inputs)
    layer.values += theirs.size
    exact = ours = accumulators[0]
    if op.requant is not None:
        ours = op.requant.apply(*accumulators, axis=axis)
    if op.function is not None:
        accumulators = accumulators if op.requantized else op.operands(inputs)
        exact = apply_exact(op.function, accumulators, axis)
    _note(layer, "wrong", tensor, ours != exact, exact, ours, number)
    differs = exact != theirs
    if not differs.any():
        return
    reach = None if integers else op.float_reach(inputs)
    if reach is not None:
        low, high = reach
        outside = differs & ~((low <= np.minimum(theirs, ours)) & (np.maximum(theirs, ours) <= high))
    elif op.function is None or integers:
        outside = differs
    else:
        near, ties = _near_threshold(op, tensor, inputs, accumulators, exact, theirs, magnitude)
        outside = differs & ~near
        layer.ties += int((near & ties).sum())
    layer.float_differences += int((differs & ~outside).sum())
    _note(layer, "outside", tensor, outside, exact, theirs, number)


def _note(
    layer: QonnxLayer, what: str, tensor: Tensor, where: np.ndarray, expected: np.ndarray, got: np.ndarray, number: int
) -> None:
    count = int(where.sum())
    setattr(layer, what, getattr(layer, what) + count)
    if count and getattr(layer, f"first_{what}") is None:
        index = tuple(int(i) for i in np.argwhere(where)[0])
        place = tensor.onnx_index(index)
        setattr(layer, f"first_{what}", (number, *place, int(expected[index]), int(got[index])))


def float32_error(
    op: Op, tensor: Tensor, inputs: list[np.ndarray], magnitude: tuple[float, ...] | None
) -> np.ndarray:
    """A bound of the executor's rounding error before its Quant, in output steps, float64 of the output tensor's shape.

    The usual bound of a sum of n products, (n + a few) * unit roundoff * the sum of absolute values, in
    any order of summation; dequantised operands, bias, BatchNormalization and scale add the few.
    """
    function = op.function
    assert function is not None
    sums, terms = op.absolute(inputs)
    size = np.zeros(sums[0].shape)
    for total, ratio in zip(sums, function.ratios, strict=True):
        size += total * tensor.per_channel([abs(r) for r in ratio])
    offset = magnitude if magnitude is not None else tuple(abs(float(o)) for o in function.offset)
    size += tensor.per_channel(offset)
    return (terms + 16) * UNIT * size


def _near_threshold(
    op: Op, tensor: Tensor, inputs: list[np.ndarray], accumulators: list[np.ndarray], exact: np.ndarray,
    theirs: np.ndarray, magnitude: tuple[float, ...] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """bool: `theirs` is one step from `exact` and the real number is within the float32 error of that step; and: it is
    that step."""
    function = op.function
    assert function is not None
    error = float32_error(op, tensor, inputs, magnitude)
    near, ties = np.zeros(exact.shape, dtype=bool), np.zeros(exact.shape, dtype=bool)
    for index in map(tuple, np.argwhere(exact != theirs)):
        channel = index[tensor.channel_axis]
        real = function.offset[channel]
        for acc, ratio in zip(accumulators, function.ratios, strict=True):
            real += int(acc[index]) * ratio[channel]
        slack = Fraction(float(error[index]))
        reach = [round_fraction(real + d, function.rounding) for d in (-slack, slack)]
        low, high = (min(max(q, function.lo), function.hi) for q in reach)
        step = 2 if op.signs else 1
        near[index] = low <= theirs[index] <= high and abs(int(theirs[index]) - int(exact[index])) == step
        ties[index] = real.denominator == 2
    return near, ties


def _compare_raw(
    details: Import, network: Network, op: Op, inputs: list[np.ndarray], values: Mapping[str, np.ndarray], number: int,
    layer: QonnxLayer,
) -> None:
    """A graph output without a Quant: real numbers, equal within the float32 error."""
    assert op.function is not None and op.requant is not None
    tensor = network.tensors[op.output]
    accumulators = op.accumulate(inputs)
    axis = tensor.channel_axis
    exact, ours = apply_exact(op.function, accumulators, axis), op.requant.apply(*accumulators, axis=axis)
    _note(layer, "wrong", tensor, ours != exact, exact, ours, number)
    scale, offset = tensor.per_channel(tensor.type.scale), tensor.per_channel(tensor.type.offset or (0,))
    theirs = tensor.from_onnx(values[details.onnx_names[op.output][0]].astype(np.float64))
    sums, terms = op.absolute(inputs)
    error = (terms + 16) * UNIT * (sums[0] * scale + np.abs(offset))
    real = exact * scale + offset
    layer.values += theirs.size
    _note(layer, "outside", tensor, np.abs(real - theirs) > error, exact,
          np.rint((theirs - offset) / scale).astype(int), number)


def _compare_outputs(
    network: Network, image: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], report: ExecutorReport,
) -> None:
    """Graph outputs, each run from the input on: whether the largest has the same place, and what differs."""
    ours = evaluate(network, quantise_inputs(network, image))
    report.same_prediction += all(
        dequantise_output(network, name, ours[name]).argmax() == values[name].argmax() for name in network.outputs
    )
    for name in set(network.outputs) - set(raw_outputs(network)):
        tensor = network.tensors[name]
        back = inverse(network.output_steps.get(name, ()), tensor.to_onnx(ours[name]).shape)
        theirs = _integers(tensor, (name, 0, back), values)
        report.outputs += theirs.size
        report.output_differences += int((ours[name] != theirs).sum())
