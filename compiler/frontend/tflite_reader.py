# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite's operators of int8, one function each: what the reference kernels compute, as ONNX.

The products of scales are those of the kernels, to the last bit: in doubles, or where a kernel has it so, in floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import tflite
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.meanings import FixedPoint, Operand, Rescale
from nncosim.compiler.frontend.tflite_file import TfliteGraph, TfliteOperator, TfliteTensor, read_tflite
from nncosim.compiler.frontend.tflite_graph import Place, Unfit, Writer, clip_bounds, require_int8
from nncosim.platforms.rounding import Rounding

__all__ = ["OPERATORS", "TfliteModel", "load_tflite", "translate"]

_HIGHEST_LEFT = 20
"""Bits by which an ADD of int8 shifts its operands before it scales them."""


@dataclass(frozen=True)
class TfliteModel:
    """A file as ONNX: the model; which tensor each ONNX value has the integers of; and for each of its inputs the
    file's own, which is a float one where its QUANTIZE is left to the host."""

    model: onnx.ModelProto
    places: Mapping[str, Place]
    inputs: Mapping[str, TfliteTensor]


def load_tflite(path: Path) -> onnx.ModelProto:
    """A TensorFlow Lite file of int8 operators as an ONNX model.

    Raises:
        ModelError: with every operator that is not supported, or a damaged file.
    """
    return translate(path).model


def translate(path: Path) -> TfliteModel:
    """`load_tflite`, with what a comparison with the file's own tensors needs besides."""
    graph = read_tflite(path)
    inner = _without_ends(graph)
    writer, problems = Writer(inner), list[Problem]()
    for tensor in inner.inputs:
        writer.plain[tensor.index] = tensor.name
        writer.places[tensor.name] = Place(tensor.index)
    if inner is not graph:
        writer.remarks.append("QUANTIZE and DEQUANTIZE at the ends are left to the host: inputs and outputs are int8")
    for op in inner.operators:
        _try(writer, problems, op.name, op.kind, {t.index for t in op.outputs}, partial(_written, writer, op))
    for tensor in (*inner.inputs, *inner.outputs):
        if not problems:
            _try(writer, problems, tensor.name, "", set(), partial(_end, writer, tensor))
    if not problems and all(op.kind in ("PAD", "RESHAPE", "SQUEEZE") for op in inner.operators):
        problems.append(Problem("", "", "there is no layer in it that computes with int8",
                                "convert with full-integer quantisation (TFLITE_BUILTINS_INT8)"))  # fmt: skip
    if problems:
        raise ModelError(path.stem, problems)
    given = dict(zip(inner.inputs, graph.inputs, strict=True))
    return TfliteModel(writer.model(), writer.places, {t.name: source for t, source in given.items()})


def _try(
    writer: Writer, problems: list[Problem], name: str, kind: str, makes: set[int], do: Callable[[], object]
) -> None:
    """Note what goes wrong; what an operator should have made is then refused, and silently what reads that."""
    try:
        do()
    except Unfit as error:
        problems.append(Problem(name, kind, error.expected, error.remedy))
        writer.refused |= makes
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:  # numbers that no converter writes
        text = f"it is malformed ({type(error).__name__}: {error})"
        problems.append(Problem(name, kind, text, "convert or download the file again"))
        writer.refused |= makes


def _written(writer: Writer, op: TfliteOperator) -> None:
    if any(t is not None and t.index in writer.refused for t in op.inputs):
        writer.refused |= {t.index for t in op.outputs}
        return
    if op.kind not in OPERATORS:
        raise Unfit(f"{op.kind} is not supported", f"supported are {', '.join(sorted(OPERATORS))}")
    OPERATORS[op.kind](writer, op)


def _end(writer: Writer, tensor: TfliteTensor) -> None:
    """An input or output of the graph, which has to be there as int8."""
    require_int8(tensor)
    if tensor in writer.graph.outputs:
        if tensor in writer.graph.inputs:
            raise Unfit("the graph's input is its output", "leave it out")
        writer.value(tensor, False)


def _without_ends(graph: TfliteGraph) -> TfliteGraph:
    """The graph without the operators that make integers of float inputs, and floats of integer outputs."""
    casts = [op for op in graph.operators if op.kind in ("QUANTIZE", "DEQUANTIZE") and op.inputs and op.outputs
             and op.inputs[0] is not None and op.inputs[0].dtype != op.outputs[0].dtype]  # fmt: skip
    first = {op.inputs[0]: op for op in casts if op.inputs[0] in graph.inputs and op.kind == "QUANTIZE"}
    last = {op.outputs[0]: op for op in casts if op.outputs[0] in graph.outputs and op not in first.values()}
    dropped = {id(op) for op in (*first.values(), *last.values())}
    readers = [tensor for op in graph.operators if id(op) not in dropped for tensor in op.inputs]
    if not dropped or any(tensor in readers for tensor in (*first, *last)):
        return graph
    return replace(
        graph, operators=tuple(op for op in graph.operators if id(op) not in dropped),
        inputs=tuple(first[t].outputs[0] if t in first else t for t in graph.inputs),
        outputs=tuple(last[t].inputs[0] if t in last else t for t in graph.outputs),  # type: ignore[misc]
    )


def _activation(op: TfliteOperator, index: int = 0) -> TfliteTensor:
    tensor = op.input(index)
    if tensor is None:
        raise Unfit(f"input {index} is missing")
    return tensor


def _weights(op: TfliteOperator, axis: int) -> TfliteTensor:
    """int8, their output channels along `axis`, with scales for all or for each of these."""
    weights = _activation(op, 1)
    if weights.dtype == "int8" and weights.values is None:
        raise Unfit(f"the weights {weights.name!r} are no constant", "products of two activations are not supported")
    require_int8(weights, "the weights ")
    if weights.zero_points.any():
        raise Unfit(f"the weights {weights.name!r} have a zero point", "int8 weights are symmetric in TensorFlow Lite")
    if len(weights.scales) not in (1, weights.shape[axis]) or (len(weights.scales) > 1 and weights.axis != axis):
        raise Unfit(f"{len(weights.scales)} scales of {weights.name!r} do not fit its shape {weights.shape}")
    return weights


def _bias(writer: Writer, op: TfliteOperator) -> list[str]:
    """What stands in the file; its scale has no part in what the kernels compute."""
    bias = op.input(2)
    if bias is None:
        return []
    if bias.values is None or bias.dtype != "int32":
        raise Unfit(f"expected the bias {bias.name!r} as constant int32")
    return [writer.constant(bias.values, bias.name)]


def _product(writer: Writer, op: TfliteOperator, weights: TfliteTensor, ints: np.ndarray) -> list[str]:
    """Weights with scale and zero point, then the result's: inputs of QLinearConv and QGemm behind the first three."""
    zeros = np.zeros(len(weights.scales), np.int8)
    scale, zero = (v if len(v) > 1 else v[0] for v in (weights.scales, zeros))
    return [writer.constant(ints, weights.name), writer.constant(np.asarray(scale), f"{weights.name}.scale"),
            writer.constant(np.asarray(zero), f"{weights.name}.zero_point")]  # fmt: skip


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding of "SAME" before and after: the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _window(
    op: TfliteOperator, source: TfliteTensor, kernel: tuple[int, int], more: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> dict[str, int | Sequence[int]]:
    """ONNX attributes of a convolution or pool. more: padding (top, left, bottom, right) besides its own."""
    strides = [op.option("StrideH"), op.option("StrideW")]
    dilations = [int(op.options.get(f"Dilation{axis}Factor", 1)) for axis in "HW"]
    pads = list(more)
    if op.option("Padding") == tflite.Padding.SAME:
        for axis in range(2):
            size = source.shape[1 + axis] + more[axis] + more[2 + axis]
            both = _same(size, (kernel[axis] - 1) * dilations[axis] + 1, strides[axis])
            pads[axis], pads[2 + axis] = pads[axis] + both[0], pads[2 + axis] + both[1]
    for axis in range(2):
        room = source.shape[1 + axis] + pads[axis] + pads[2 + axis] - (kernel[axis] - 1) * dilations[axis] - 1
        if len(op.outputs[0].shape) != 4 or op.outputs[0].shape[1 + axis] != room // strides[axis] + 1:
            raise Unfit(f"its result has shape {op.outputs[0].shape}, which is not what it makes of {source.shape}")
    found: dict[str, int | Sequence[int]] = {"kernel_shape": [*kernel], "strides": strides, "pads": pads}
    return found if dilations == [1, 1] else {**found, "dilations": dilations}


def _convolution(writer: Writer, op: TfliteOperator) -> None:
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    source, more = writer.padding.get(_activation(op).index, (_activation(op), (0, 0, 0, 0)))
    weights = _weights(op, 3 if depthwise else 0)
    writer.shape(source, True)
    if len(weights.shape) != 4:
        raise Unfit(f"expected weights of four axes, found {weights.shape}")
    ints = weights.values.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))  # type: ignore[union-attr]
    out, channels = op.outputs[0], source.shape[3]
    factors = [float(source.scale) * float(s) / float(out.scale) for s in weights.scales]
    writer.write(
        op, "QLinearConv",
        [writer.value(source, True), *writer.quantisation(source), *_product(writer, op, weights, ints),
         *writer.quantisation(out), *_bias(writer, op)],
        True, FixedPoint(tuple(map(Rescale.of, factors))),
        {"group": channels if depthwise else channels // ints.shape[1],
         **_window(op, source, (ints.shape[2], ints.shape[3]), more)},
    )  # fmt: skip


def _fully_connected(writer: Writer, op: TfliteOperator) -> None:
    """Unlike the others, this kernel rounds once, a product of doubles."""
    source, weights, out = _activation(op), _weights(op, 0), op.outputs[0]
    if op.option("WeightsFormat") or weights.values is None or len(weights.shape) != 2:
        raise Unfit("expected weights (outputs, inputs) in plain order", "convert without shuffled weights")
    flat = writer.flat(source, out, weights.shape[1])
    writer.write(
        op, "QGemm",
        [flat, *writer.quantisation(source), *_product(writer, op, weights, weights.values),
         *(_bias(writer, op) or [""]), *writer.quantisation(out)],
        False, FixedPoint(rounding=Rounding.HALF_AWAY), {"transB": 1},
    )  # fmt: skip


def _add(writer: Writer, op: TfliteOperator) -> None:
    first, second, out = _activation(op), _activation(op, 1), op.outputs[0]
    if first.index == second.index:
        raise Unfit("it adds a tensor to itself", "double the scale of the layer before instead")
    if first.shape != second.shape:
        raise Unfit(f"expected two activations of one shape, got {first.shape} and {second.shape}",
                    "fold constants into the layer before; broadcasts are not supported")  # fmt: skip
    maps = len(out.shape) == 4
    reals = [writer.real(first, maps), writer.real(second, maps)]
    total = writer.node("Add", reals, writer.fresh(f"{out.name}.sum"), writer.shape(out, maps), "float32", out.name)
    twice = 2 * max(float(first.scale), float(second.scale))
    operands = tuple(
        Operand(t.zero_point, _HIGHEST_LEFT, Rescale.of(float(t.scale) / twice)) for t in (first, second)
    )
    last = Rescale.of(twice / ((1 << _HIGHEST_LEFT) * float(out.scale)))
    writer.quantise(op, total, maps, FixedPoint((last,), operands))


def _rescaled(writer: Writer, op: TfliteOperator) -> None:
    """RELU and its kin, and a QUANTIZE of integers: another scale, and a clip."""
    source, out = _activation(op), op.outputs[0]
    if source.dtype != "int8" or out.dtype != "int8":
        raise Unfit(f"expected int8 to int8, found {source.dtype} to {out.dtype}", "convert with int8 ends")
    maps = len(out.shape) == 4
    real = writer.real(source, maps)
    bounds = {"RELU": (0, None), "RELU6": (0, 6)}.get(op.kind)
    clip = clip_bounds(out, *bounds) if bounds else None  # type: ignore[arg-type]
    # RELU divides the scales as floats, QUANTIZE as doubles
    factor = float(source.scale / out.scale) if bounds else float(source.scale) / float(out.scale)
    meaning = FixedPoint((Rescale.of(factor),))
    writer.write(op, "QuantizeLinear", [real, *writer.quantisation(out)], maps, meaning, clip=clip)


def _no_function(op: TfliteOperator) -> None:
    if op.option("FusedActivationFunction") != tflite.ActivationFunctionType.NONE:
        raise Unfit("a function is fused into it", "fuse it into the layer before")


def _like(source: TfliteTensor, out: TfliteTensor) -> None:
    require_int8(source)
    require_int8(out)
    if (source.scale, source.zero_point) != (out.scale, out.zero_point):
        raise Unfit(f"{source.name!r} and {out.name!r} have other scales or zero points", "convert the model again")


def _average_pool(writer: Writer, op: TfliteOperator) -> None:
    source, out = _activation(op), op.outputs[0]
    _like(source, out)
    window = _window(op, source, (op.option("FilterHeight"), op.option("FilterWidth")))
    if np.any(window["pads"]):
        raise Unfit("an average of windows that reach over the border divides by other numbers there",
                    "use VALID padding, or a size that the windows fill")  # fmt: skip
    mean = writer.node("AveragePool", [writer.real(source, True)], writer.fresh(f"{out.name}.mean"),
                       writer.shape(out, True), "float32", out.name, window)  # fmt: skip
    writer.quantise(op, mean, True, FixedPoint(rounding=Rounding.HALF_AWAY, whole=True))


def _max_pool(writer: Writer, op: TfliteOperator) -> None:
    source, out = _activation(op), op.outputs[0]
    _like(source, out)
    _no_function(op)
    window = _window(op, source, (op.option("FilterHeight"), op.option("FilterWidth")))
    if source not in writer.graph.inputs:
        writer.write(op, "MaxPool", [writer.value(source, True)], True, None, window)
        return
    largest = writer.node("MaxPool", [writer.real(source, True)], writer.fresh(f"{out.name}.largest"),
                          writer.shape(out, True), "float32", out.name, window)  # fmt: skip
    writer.places[largest] = Place(out.index, True)
    writer.quantise(op, largest, True, None)


def _mean(writer: Writer, op: TfliteOperator) -> None:
    source, axes, out = _activation(op), _activation(op, 1), op.outputs[0]
    named = [] if axes.values is None else np.atleast_1d(axes.values).tolist()
    found = sorted(a % len(source.shape) for a in named)
    if len(source.shape) != 4 or found != [1, 2]:
        raise Unfit(f"expected the mean of a map over rows and columns, found axes {found} of {source.shape}")
    maps = len(out.shape) == 4
    n, _, _, c = source.shape
    shape = (n, c, 1, 1) if maps else (n, c)
    mean = writer.node("ReduceMean", [writer.real(source, True)], writer.fresh(f"{out.name}.mean"), shape, "float32",
                       out.name, {"axes": [2, 3], "keepdims": int(maps)})  # fmt: skip
    count = source.shape[1] * source.shape[2]
    whole = Rescale.of(float(source.scale) / float(out.scale))
    left = min(count.bit_length() - 1, 32, 31 + whole.shift)  # as the kernel has it, to divide by the count
    meaning = FixedPoint((Rescale((whole.multiplier << left) // count, whole.shift - left),))
    writer.quantise(op, mean, maps, meaning)


def _reshape(writer: Writer, op: TfliteOperator) -> None:
    source, out = _activation(op), op.outputs[0]
    _like(source, out)
    shape = writer.constant(np.array(out.shape), f"{out.name}.shape")
    writer.write(op, "Reshape", [writer.value(source, False), shape], False, None)


# MaxPool and Concat move integers, whatever these mean; but what those of a graph input mean its first reader has to
# say: there they are read as reals.


def _concatenation(writer: Writer, op: TfliteOperator) -> None:
    parts, out = [_activation(op, i) for i in range(len(op.inputs))], op.outputs[0]
    maps = len(out.shape) == 4
    axis = op.option("Axis") % len(out.shape)
    if axis != len(out.shape) - 1 or len(out.shape) < 2:
        raise Unfit(f"expected a concatenation of channels, the last axis, found axis {axis} of {out.shape}")
    _no_function(op)
    for part in parts:
        _like(part, out)
    axis = 1 if maps else axis
    if not any(part in writer.graph.inputs for part in parts):
        writer.write(op, "Concat", [writer.value(part, maps) for part in parts], maps, None, {"axis": axis})
        return
    whole = writer.node("Concat", [writer.real(part, maps) for part in parts], writer.fresh(f"{out.name}.whole"),
                        writer.shape(out, maps), "float32", out.name, {"axis": axis})  # fmt: skip
    writer.places[whole] = Place(out.index, maps)
    writer.quantise(op, whole, maps, None)


def _pad(writer: Writer, op: TfliteOperator) -> None:
    """Kept for the convolutions that read it, which have their own padding."""
    source, amounts = _activation(op), _activation(op, 1)
    _like(source, op.outputs[0])
    found = None if amounts.values is None else amounts.values.astype(int)
    if found is None or found.shape != (4, 2) or found[[0, 3]].any():
        raise Unfit("expected a constant border of rows and columns of a map")
    (top, bottom), (left, right) = found[1:3].tolist()
    writer.padding[op.outputs[0].index] = source, (top, left, bottom, right)


def _host(writer: Writer, op: TfliteOperator) -> None:
    """On reals: it has to be the end of the graph, which is left to the host."""
    source, out = _activation(op), op.outputs[0]
    if op.kind == "SOFTMAX" and op.options["Beta"] != 1:
        raise Unfit(f"expected a Softmax with beta 1, found {op.options['Beta']}")
    attributes = {"axis": -1} if op.kind == "SOFTMAX" else {}
    name = "Softmax" if op.kind == "SOFTMAX" else "Sigmoid"
    writer.plain[out.index] = out.name
    writer.node(name, [writer.real(source, False)], out.name, out.shape, "float32", attributes=attributes)
    writer.remarks.append(f"{name} {out.name!r} gives floats here, int8 in the file")


OPERATORS: Mapping[str, Callable[[Writer, TfliteOperator], None]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _host,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "PAD": _pad,
    "QUANTIZE": _rescaled,
    "RELU": _rescaled,
    "RELU6": _rescaled,
    "RESHAPE": _reshape,
    "SOFTMAX": _host,
    "SQUEEZE": _reshape,
}
"""By the schema's name; a new operator is one more line here, and in `tflite_file` if it has options."""
