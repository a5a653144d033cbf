# SPDX-License-Identifier: Apache-2.0
"""Where a float network needs integers: a point is a value that a Quant will stand behind.

Convolutions and the like read integers and give sums; what only scales, shifts or clips a sum (a bias, Relu) stays part
of it, so the point lies behind it. What only moves or selects values (MaxPool, Flatten) keeps the integers it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.curves import FUNCTIONS
from nncosim.compiler.quantize.graph import FloatGraph

__all__ = ["AFFINE", "AVERAGES", "FOLLOWS", "MOVES", "Layer", "Plan", "Point", "plan_points"]

AFFINE = ("Conv", "Gemm", "MatMul")
AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")
MOVES = ("DepthToSpace", "Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Resize", "Squeeze", "Transpose",
         "Unsqueeze", "Upsample")  # fmt: skip
FOLLOWS = ("Add", "BatchNormalization", "Clip", "Div", "Mul", "Relu", "Sub")
"""With a constant as their other operand, where they have one."""
_LINEAR = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul. `source`: the point that it reads. `axis`: of its weights' output channels.

    `bias`: index of the node's bias, None where it has none.
    """

    name: str
    node: onnx.NodeProto
    source: str
    axis: int

    @property
    def weights(self) -> str:
        """The name of the constant."""
        return self.node.input[1]

    @property
    def bias(self) -> str | None:
        return self.node.input[2] if len(self.node.input) > 2 and self.node.input[2] else None


@dataclass
class Point:
    """`value`: a name in the graph. `node`: what makes it, "" for a graph input. `kind`: "input", "layer", "add",
    "concat", "average", "curve" or "scale".

    `sources`: points that it is made of. `chain`: nodes between the first and the value, which are part of it.
    """

    value: str
    node: str
    kind: str
    sources: tuple[str, ...]
    chain: tuple[onnx.NodeProto, ...] = ()


@dataclass
class Plan:
    """`point_of`: value, of every one that is integers later, to the point whose integers it holds.

    Attributes:
        points: by value, in the graph's order.
        layers: by name.
        joined: sets of points that share a scale.
    """

    points: dict[str, Point] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    point_of: dict[str, str] = field(default_factory=dict)
    joined: list[set[str]] = field(default_factory=list)

    def layer_of(self, point: Point) -> Layer | None:
        return self.layers.get(point.node)

    def result_of(self, layer: Layer) -> Point:
        """The point that a layer makes."""
        return next(point for point in self.points.values() if point.node == layer.name)


@dataclass(frozen=True)
class _Open:
    """A float value that waits for its point."""

    node: onnx.NodeProto
    kind: str
    sources: tuple[str, ...]
    chain: tuple[onnx.NodeProto, ...] = ()
    curve_of: str = ""  # the value that it is a function of


def plan_points(graph: FloatGraph, joins: str) -> Plan:
    """Points and layers of a graph. `joins`: see `QuantizeOptions`.

    Raises:
        ModelError: with every node that is not supported.
    """
    planner = _Planner(graph, joins)
    for node in graph.nodes:
        planner.visit(node)
    for name in graph.outputs:
        planner.close(name)
    if planner.problems:
        raise ModelError(graph.name, planner.problems)
    return planner.plan


class _Planner:
    def __init__(self, graph: FloatGraph, joins: str):
        self.graph, self.joins = graph, joins
        self.plan = Plan()
        self.problems: list[Problem] = []
        self.open: dict[str, _Open] = {}
        self.unknown: set[str] = set()
        for name in graph.inputs:
            self.plan.points[name] = Point(name, "", "input", ())
            self.plan.point_of[name] = name

    def visit(self, node: onnx.NodeProto) -> None:
        given = self.graph.activations(node)
        if any(name in self.unknown for name in given):
            self.unknown.update(node.output)
            return
        made = self._made(node, given)
        if made is None:
            self.unknown.update(node.output)
        elif isinstance(made, _Open):
            self.open[node.output[0]] = made
        else:
            self.plan.point_of[node.output[0]] = made

    def _made(self, node: onnx.NodeProto, given: Sequence[str]) -> _Open | str | None:
        """What a node's result is: a float to be closed, a point whose integers it holds, or None if it is refused."""
        op = node.op_type
        if op in FOLLOWS and len(given) == 1:
            return self._follow(node, given[0])
        if op in ("Add", "Sum") and len(given) == 2:
            return self._join(node, given, "add")
        if op == "Mul" and len(given) == 2:
            return self._product(node, given)
        if op in FUNCTIONS and len(given) == 1:
            value = self.close(given[0])
            return _Open(node, "curve", (value,), curve_of=value)
        if op in AFFINE and len(given) == 1 and given[0] == node.input[0]:
            return self._layer(node, given[0])
        if op in AVERAGES and len(given) == 1:
            return _Open(node, "average", (self.close(given[0]),))
        if op in MOVES and len(given) == 1:
            return self.close(given[0])
        if op == "Concat" and len(given) == len(node.input):
            return self._join(node, given, "concat")
        self._refuse(node, given)
        return None

    def _refuse(self, node: onnx.NodeProto, given: Sequence[str]) -> None:
        known = sorted({*AFFINE, *AVERAGES, *MOVES, *FOLLOWS, *FUNCTIONS, "Concat"})
        if node.op_type in known:
            text = f"{node.op_type} of {len(given)} activations ({', '.join(given)}) is not supported"
            remedy = "one operand must be a constant" if given else "export the model with its constants folded"
        else:
            text, remedy = f"{node.op_type} is not supported", f"supported are {', '.join(known)}"
        self.problems.append(Problem(node.name, node.op_type, text, remedy))

    def _follow(self, node: onnx.NodeProto, value: str) -> _Open:
        waits = self.open.get(value)
        if waits is not None and self._alone(value) and (waits.kind != "curve" or node.op_type in _LINEAR):
            del self.open[value]
            return replace(waits, chain=(*waits.chain, node))
        source = self.close(value)
        return _Open(node, "scale", (source,), curve_of=source)

    def _alone(self, value: str) -> bool:
        """Whether one node reads it, and no user."""
        return value not in self.graph.outputs and len(self.graph.readers(value)) == 1

    def _join(self, node: onnx.NodeProto, given: Sequence[str], kind: str) -> _Open | str:
        sources = tuple(self.close(value) for value in given)
        if self.joins == "own":
            return _Open(node, kind, sources)
        self.plan.joined.append({*sources})
        if kind == "add":
            return _Open(node, kind, sources)
        return sources[0]  # integers of one scale side by side

    def _product(self, node: onnx.NodeProto, given: Sequence[str]) -> _Open | None:
        """Two functions of one tensor, as x * Sigmoid(x)."""
        roots = {self.open[v].curve_of if v in self.open else self.plan.point_of[v] for v in given}
        if len(roots) != 1 or "" in roots or not all(v in self.plan.point_of or self._alone(v) for v in given):
            self._refuse(node, given)
            return None
        for value in given:
            self.open.pop(value, None)
        (root,) = roots
        return _Open(node, "curve", (root,), curve_of=root)

    def _layer(self, node: onnx.NodeProto, value: str) -> _Open:
        axis = 0 if node.op_type == "Conv" or _flag(node, "transB") else 1
        source = self.close(value)
        self.plan.layers[node.name] = Layer(node.name, node, source, axis)
        return _Open(node, "layer", (source,))

    def close(self, value: str) -> str:
        """The point whose integers a value holds; from now on it has one."""
        waits = self.open.pop(value, None)
        if waits is not None:
            self.plan.points[value] = Point(value, waits.node.name, waits.kind, waits.sources, waits.chain)
            self.plan.point_of[value] = value
        return self.plan.point_of[value] if value not in self.unknown else value


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(a.name == name and a.i for a in node.attribute)
