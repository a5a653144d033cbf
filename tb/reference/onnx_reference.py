# SPDX-License-Identifier: Apache-2.0
"""A plain evaluator of QONNX and QDQ graphs, the second opinion on what a model computes: it shares no code with the
compiler.

Standard operators are those of the `onnx` package's own reference evaluator, in float64; Quant and Trunc are here, by
QONNX's text, QuantizeLinear by the standard's; DequantizeLinear and what QLinear operators stand for are in
`onnx_linear`, pools in `onnx_windows`. (qonnx's executor cannot do this: it hands standard operators to onnxruntime,
with float32 parameters.) Where a float64 result lies so close to a rounding threshold that its own error could
carry it over, the element is computed again in rational arithmetic, see `onnx_exact`. So the integers are those of
exact arithmetic on the model's float32 parameters. Two things are defined in float32, as the training framework
computes them: what nodes make of constants (the integers of weights), and the integers of the graph's inputs.

    reference = OnnxReference("model.onnx")
    values = reference.run({"image": image})        # every quantised value: integers, and what they stand for
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from nncosim.tb.reference.onnx_exact import ROUNDINGS, Undecidable, exact_element
from nncosim.tb.reference.onnx_layouts import CHANNELS_LAST, LAST, first_layout, turned
from nncosim.tb.reference.onnx_linear import (
    along,
    dequantize_linear,
    integer_range,
    integer_type,
    narrowed,
    written_out,
)
from nncosim.tb.reference.onnx_values import ReferenceFailure, ReferenceNode, Value, scales, whole
from nncosim.tb.reference.onnx_windows import OnnxWindows, pool
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["COPIES", "Decided", "OnnxReference", "ReferenceFailure", "ReferenceNode", "Value"]

NEAR = 2.0**-20
"""In output steps: closer to a rounding threshold than this, float64 does not decide."""
ERROR = NEAR / 2
"""In output steps: what the error of float64 stays below, checked on each element that is computed again."""
COPIES = ("MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Resize",
          "Upsample", "Concat", "DepthToSpace", "SpaceToDepth")  # fmt: skip
"""Operators whose output has only values of their inputs: quantised if those are."""
_FLOAT32 = (
    "Add", "Clip", "Div", "Flatten", "Identity", "Mul", "Relu", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
"""What a graph input may go through before its Quant and still be defined in float32. (Rounding float64 once more to
float32 gives the same as float32 arithmetic.)"""
_INFERENCE = {"BatchNormalization": 15}
"""Versions to use instead of older ones: of opsets 9 to 13 the library takes `momentum` for a sign of training."""


@dataclass
class Decided:
    """Of one Quant node: how many elements were computed again, and in how many of them float64 was wrong.

    undecided: left as float64 has them, because their operator has no rational values (Sigmoid and the like).
    """

    elements: int = 0
    again: int = 0
    tipped: int = 0
    undecided: list[tuple[int, ...]] = field(default_factory=list)


class OnnxReference:
    """A QONNX model, ready to run.

    Args:
        source: a file, or the model.

    Attributes:
        inputs: names of the graph inputs. outputs: names of the graph outputs. steps: the nodes, in order.
        decided: after `run`, by output of each Quant, QuantizeLinear and Trunc on an activation. integers: of the
            graph inputs, those of integer type.
    """

    def __init__(self, source: str | Path | onnx.ModelProto):
        model = source if isinstance(source, onnx.ModelProto) else onnx.load(source)
        graph = model.graph
        self._opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        self._constants = {t.name: Value(_wide(numpy_helper.to_array(t)), constant=True) for t in graph.initializer}
        named = [(n.output[0], a) for n in graph.node if n.op_type == "Constant" for a in n.attribute]
        stored = {t.name: t for t in graph.initializer} | {name: a.t for name, a in named if a.name == "value"}
        arrays = {name: numpy_helper.to_array(t) for name, t in stored.items()}
        self._types = {name: t.data_type for name, t in stored.items()}
        protos: list[onnx.NodeProto] = []
        for proto in graph.node:
            nodes, more = written_out(proto, arrays)
            protos += nodes
            self._constants |= {name: Value(array, constant=True) for name, array in more.items()}
        self._protos = [first_layout(node) for node in protos]
        self.inputs = tuple(i.name for i in graph.input if i.name not in self._constants)
        self.outputs = tuple(o.name for o in graph.output)
        kinds = {i.name: i.type.tensor_type.elem_type for i in graph.input if i.name in self.inputs}
        self.integers = {name: kind for name, kind in kinds.items() if kind not in (0, TensorProto.FLOAT)}
        shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
        self._batch = max([1, *(shapes[name][0] for name in self.inputs if shapes[name])])
        self.nodes = tuple(
            ReferenceNode(
                n.name or n.output[0], n.op_type + (LAST if n.domain == CHANNELS_LAST else ""), tuple(n.input),
                tuple(n.output), {a.name: helper.get_attribute_value(a) for a in n.attribute},
            ) for n in protos
        )  # fmt: skip
        self.decided: dict[str, Decided] = {}
        self._makers = {output: node for node in self.nodes for output in node.outputs}
        self._evaluators: dict[str, ReferenceEvaluator] = {}
        self._last = {name: n for n, node in enumerate(self.nodes) for name in node.inputs}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Value]:
        """Evaluate the graph on one image.

        Args:
            inputs: arrays by graph input, float32 or, of `integers`, whole numbers, in ONNX layout with the graph's
                batch, or a batch of 1. (A graph that was exported with a larger batch gets so many copies, because the
                batch may stand in its Reshapes.)

        Returns:
            By name: quantised values, and graph outputs.

        Raises:
            ReferenceFailure: a node that cannot be evaluated.
        """
        self.decided = {}
        values, size = dict(self._constants), 1
        for name in self.inputs:
            given = np.asarray(inputs[name], dtype=np.int64 if name in self.integers else np.float32)
            size = len(given)
            copies = np.repeat(given, self._batch // size, axis=0)
            if name in self.integers:
                low, high = integer_range(self.integers[name])
                values[name] = Value(None, copies, low=low, high=high, integer=True)
            else:
                values[name] = Value(copies, given=True)
        for number, node in enumerate(self.nodes):
            try:
                made = self._node(number, node, values)
            except ReferenceFailure:
                raise
            except Exception as error:  # the library's own errors have no common base
                raise ReferenceFailure(f"{node.name} ({node.op}): {type(error).__name__}: {error}") from error
            values.update(zip(node.outputs, made, strict=False))
            for name in filter(None, node.inputs):  # maps of floats are large: of those that are done the shape stays
                value = values[name]
                done = self._last[name] == number and name not in self.outputs
                if done and value.ints is None and not value.constant:
                    values[name] = Value(np.broadcast_to(np.nan, value.shape))
        return {name: self._first(v, size) for name, v in values.items() if v.ints is not None or name in self.outputs}

    def _first(self, value: Value, size: int) -> Value:
        """The first `size` of the batch."""
        if self._batch == size or value.constant:
            return value
        parts = {name: getattr(value, name) for name in ("floats", "ints", "scale")}
        return replace(value, **{name: array[:size] for name, array in parts.items() if array is not None})

    def _node(self, number: int, node: ReferenceNode, values: dict[str, Value]) -> list[Value]:
        given = [values[name] if name else None for name in node.inputs]
        present = [v for v in given if v is not None]
        constant = all(v.constant for v in present)
        if node.op in ("Quant", "IntQuant"):
            return [self._quant(node, present, values, constant)]
        if node.op == "BipolarQuant":
            return [self._bipolar(node, present, values, constant)]
        if node.op == "MultiThreshold":
            return [self._thresholds(node, present, values)]
        if node.op == "Trunc":
            return [self._trunc(node, present, values)]
        if node.op == "QuantizeLinear":
            return [self._quantize_linear(node, present, values, constant)]
        if node.op == "DequantizeLinear":
            return [dequantize_linear(node, present)]
        if node.op in ("Clip", "Relu") and present[0].integer:
            return [narrowed(node, given)]
        if node.op.endswith(LAST):
            count = 2 if node.op.startswith("Conv") else 1
            first = [*(turned(v, last=False) for v in present[:count]), *present[count:]]
            return [turned(v, last=True) for v in self._plain(number, node, first, constant)]
        return self._plain(number, node, present, constant)

    def _plain(self, number: int, node: ReferenceNode, present: list[Value], constant: bool) -> list[Value]:
        """A node of the ONNX standard, on the inputs that are there."""
        data = present if node.op == "Concat" else present[:1]
        copies = node.op.removesuffix(LAST) in COPIES and all(v.ints is not None for v in data)
        if copies and len({v.zero for v in data}) == 1:
            ints, scale = (
                self._standard(number, [*(what(v) for v in data), *(v.real for v in present[len(data):])])[0]
                for what in (lambda v: v.ints.astype(np.float64), scales)
            )
            low, high = min(v.low for v in data), max(v.high for v in data)
            return [Value(None, ints.astype(np.int64), scale, data[0].zero, low, high, constant, data[0].integer)]
        if node.op == "Relu" and present[0].ints is not None:  # of 0 and whole steps
            ints, zero = np.maximum(present[0].ints, present[0].zero), present[0].zero
            return [replace(present[0], ints=ints, low=max(present[0].low, zero), high=max(present[0].high, zero))]
        if any(v.integer for v in present):
            raise ReferenceFailure(f"{node.name} ({node.op}): of integers")
        results = self._standard(number, [v.real for v in present])
        before_quant = not constant and all(v.constant or v.given for v in present) and node.op in _FLOAT32
        if constant or before_quant:
            results = [r.astype(np.float32) if r.dtype.kind == "f" else r for r in results]
        return [Value(_wide(result), constant=constant, given=before_quant) for result in results]

    def _standard(self, number: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """A node of the ONNX standard, by the onnx package; `arrays`: of the inputs that are there."""
        proto, node = self._protos[number], self.nodes[number]
        if proto.op_type in ("MaxPool", "AveragePool"):
            return [pool(proto.op_type, node.attributes, np.asarray(arrays[0], np.float64))]
        names = [name for name in proto.input if name]
        key = proto.output[0]
        if key not in self._evaluators:
            least = _INFERENCE.get(proto.op_type, 0)
            opsets = [helper.make_opsetid(d, max(v, least) if d == "" else v) for d, v in self._opsets.items()]
            first, last = ([helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in side]
                           for side in (dict.fromkeys(names), filter(None, proto.output)))  # fmt: skip
            graph = helper.make_graph([self._padded(proto, node, arrays)], "node", first, last)
            self._evaluators[key] = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
        feeds = {name: np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else a
                 for name, a in zip(names, arrays, strict=True)}  # fmt: skip
        return [np.asarray(result) for result in self._evaluators[key].run(None, feeds)]

    @staticmethod
    def _padded(proto: onnx.NodeProto, node: ReferenceNode, arrays: list[np.ndarray]) -> onnx.NodeProto:
        """A Conv with its padding as numbers: the library takes `auto_pad` for something else than the standard."""
        if "auto_pad" not in node.attributes:
            return proto
        windows = OnnxWindows(node.attributes, arrays[0].shape[2:], arrays[1].shape[2:])
        kept = {k: v for k, v in node.attributes.items() if k not in ("auto_pad", "pads")}
        pads = [*windows.before, *windows.after]
        return helper.make_node(proto.op_type, proto.input, proto.output, pads=pads, **kept)

    # --- Quant and Trunc ------------------------------------------------------------------------------------------

    def _quant(self, node: ReferenceNode, given: list[Value], values: Mapping[str, Value], constant: bool) -> Value:
        """clip(round(x / scale + zero), low, high), which stands for (q - zero) * scale."""
        data, scale, zero, bits = given[0], given[1].real, whole(given[2]), whole(given[3])
        low, high = _bounds(node, bits, narrow=1)
        full = np.broadcast_to(scale, data.shape)
        if constant or data.given:
            steps = data.real.astype(np.float32) / scale.astype(np.float32) + np.float32(zero)
            rounded = ROUNDINGS[_mode(node, "ROUND")].array(np.clip(steps, np.float32(low), np.float32(high)))
        else:
            def exact(index: tuple[int, ...], real: Fraction) -> Fraction:
                return real / Fraction(float(full[index])) + zero

            steps = data.real / scale + zero
            rounded = self._rounded(node, steps, exact, values, _mode(node, "ROUND"), (low, high))
        ints = np.clip(rounded, low, high).astype(np.int64)
        return Value(None, ints, full, zero, low, high, constant)

    def _bipolar(self, node: ReferenceNode, given: list[Value], values: Mapping[str, Value], constant: bool) -> Value:
        """+1 from 0 on, else -1, times the scale."""
        data, scale = given[0], given[1].real
        ints = np.where(data.real >= 0, 1, -1)
        if not constant and not data.given:
            size = max(float(np.abs(data.real).max(initial=0)), np.finfo(np.float64).tiny)
            seen = self.decided.setdefault(node.outputs[0], Decided(ints.size))
            for index in map(tuple, np.argwhere(np.abs(data.real) < NEAR * size).tolist()):
                try:
                    real = exact_element(node.inputs[0], index, values, self._makers)
                except Undecidable:
                    seen.undecided.append(index)
                    continue
                right = 1 if real >= 0 else -1
                seen.again += 1
                seen.tipped += int(right != ints[index])
                ints[index] = right
        return Value(None, ints, np.broadcast_to(scale, data.shape), 0, -1, 1, constant)

    def _thresholds(self, node: ReferenceNode, given: list[Value], values: Mapping[str, Value]) -> Value:
        """How many thresholds of its channel's row a value reaches."""
        data, rows = given[0].real, given[1].real
        layout = node.attributes.get("data_layout", b"").decode() or {3: "NWC"}.get(data.ndim, "NC")
        axis = layout.index("C")
        moved = np.moveaxis(data, axis, -1)[..., None]
        count = np.moveaxis((moved >= rows).sum(axis=-1), -1, axis)
        near = np.moveaxis((np.abs(moved - rows) < NEAR * (np.abs(rows) + np.abs(moved))).any(axis=-1), -1, axis)
        seen = self.decided.setdefault(node.outputs[0], Decided(count.size))
        for index in map(tuple, np.argwhere(near).tolist()):
            real = exact_element(node.inputs[0], index, values, self._makers)
            row = rows[index[axis] if len(rows) > 1 else 0]
            right = sum(real >= Fraction(float(t)) for t in row)
            seen.again += 1
            seen.tipped += int(right != count[index])
            count[index] = right
        scale, bias = (float(node.attributes.get(name, d)) for name, d in (("out_scale", 1.0), ("out_bias", 0.0)))
        if rows.shape[1] == 1 and bias == -scale / 2:
            return Value(None, 2 * count - 1, np.full(count.shape, scale / 2), 0, -1, 1)
        least = whole(Value(np.array(bias / scale)))
        return Value(None, count + least, np.full(count.shape, scale), 0, least, least + rows.shape[1])

    def _quantize_linear(
        self, node: ReferenceNode, given: list[Value], values: Mapping[str, Value], constant: bool
    ) -> Value:
        """clip(round(x / scale) + zero, low, high), half to even: an odd zero point turns ties to the odd integer."""
        axis, data = int(node.attributes.get("axis", 1)), given[0]
        scale = along(given[1].real, axis, len(data.shape))
        zeros = given[2].real if len(given) > 2 else np.zeros((), np.int64)
        low, high = integer_range(integer_type(node.attributes, node.inputs[2] if len(given) > 2 else "", self._types))
        if constant or data.given:
            rounded = np.rint(data.real.astype(np.float32) / scale.astype(np.float32)).astype(np.float64)
            if constant:
                zeros = along(zeros, axis, len(data.shape))
                return Value(np.clip(rounded + zeros, low, high).astype(np.int64), constant=True)
        full, zero = np.broadcast_to(scale, data.shape), whole(Value(zeros))
        if not data.given:
            def exact(index: tuple[int, ...], real: Fraction) -> Fraction:
                return real / Fraction(float(full[index]))

            rounded = self._rounded(node, data.real / scale, exact, values, "ROUND", (low - zero, high - zero))
        ints = np.clip(rounded + zero, low, high).astype(np.int64)
        return Value(None, ints, full, zero, low, high, integer=True)

    def _trunc(self, node: ReferenceNode, given: list[Value], values: Mapping[str, Value]) -> Value:
        """Drop low bits: q = round(clip(s / 2**t)) of the integers s = x / scale + zero.

        With six inputs (version 2) 2**t is the ratio of output scale and scale; with five (version 1) t is the
        difference of the two widths, there is no clip, and the output keeps scale and zero.
        """
        data, scale, zero = given[0], given[1].real, whole(given[2])
        full = np.broadcast_to(scale, data.shape)

        def exact(index: tuple[int, ...], real: Fraction) -> Fraction:
            return real / Fraction(float(full[index])) + zero

        sums = self._rounded(node, data.real / scale + zero, exact, values, "ROUND", (-np.inf, np.inf))
        rounding = ROUNDINGS[_mode(node, "FLOOR")]
        if len(given) < 6:
            ints = rounding.array(sums / 2.0 ** (whole(given[3]) - whole(given[4])))
            return Value(None, ints.astype(np.int64), full, zero)
        shift = 2.0 ** np.round(np.log2(given[4].real / scale))
        low, high = _bounds(node, whole(given[5]), narrow=0)
        ints = rounding.array(np.clip(sums / shift, low, high)).astype(np.int64)
        zeros = np.unique(zero / shift)
        if len(zeros) > 1 or zeros[0] != np.round(zeros[0]):
            raise ReferenceFailure(f"{node.name} (Trunc): its output's zero point is not one whole number: {zeros}")
        return Value(None, ints, np.broadcast_to(given[4].real, data.shape), int(zeros[0]), low, high)

    def _rounded(
        self, node: ReferenceNode, steps: np.ndarray, exact: Callable[[tuple[int, ...], Fraction], Fraction],
        values: Mapping[str, Value], mode: str, bounds: tuple[float, float],
    ) -> np.ndarray:
        """`steps` rounded, and those within `bounds` that are near a threshold computed again.

        exact: of an element's index and the exact real number before the node, its exact steps.
        """
        rounding = ROUNDINGS[mode]
        rounded = rounding.array(steps)
        near = rounding.distance(steps) < NEAR
        near &= (steps > bounds[0] - 1) & (steps < bounds[1] + 1)
        seen = self.decided.setdefault(node.outputs[0], Decided(steps.size))
        for index in map(tuple, np.argwhere(near).tolist()):
            try:
                real = exact(index, exact_element(node.inputs[0], index, values, self._makers))
            except Undecidable:
                seen.undecided.append(index)
                continue
            if abs(real - Fraction(float(steps[index]))) > Fraction(ERROR):
                raise ReferenceFailure(
                    f"{node.name} ({node.op}): at {index} float64 gives {steps[index]!r}, rationals {float(real)!r}"
                )
            right = rounding.exact(real)
            seen.again += 1
            seen.tipped += int(right != rounded[index])
            rounded[index] = right
        return rounded


def _wide(array: np.ndarray) -> np.ndarray:
    """Floats as float64, which holds float32 exactly."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array




def _mode(node: ReferenceNode, default: str) -> str:
    mode = node.attributes.get("rounding_mode", default)
    return (mode.decode() if isinstance(mode, bytes) else str(mode)).upper()


def _bounds(node: ReferenceNode, bits: int, narrow: int) -> tuple[int, int]:
    """The range of integers; `narrow`: the attribute's default. Narrow: one value fewer, at the end that has more."""
    narrow = int(node.attributes.get("narrow", narrow))
    if node.attributes.get("signed", 1):
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow
