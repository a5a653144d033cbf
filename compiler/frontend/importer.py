# SPDX-License-Identifier: Apache-2.0
"""QONNX, or ONNX with QuantizeLinear and DequantizeLinear (QDQ), to the integer network; TensorFlow Lite as the latter.

Each ONNX node has a handler from values to a value (see `values`): constants stay constants, a sum of
products is an affine form with exact rational coefficients, BatchNormalization, bias and Relu change
that form, and the Quant at its end turns it into one integer operator. What is still an affine form
where integers are needed is a float between quantised operators, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend import (
    bipolar,
    curves,
    elementwise,
    layers,
    linear,
    moved,
    multithreshold,
    qlinear,
    quant,
)
from nncosim.compiler.frontend.builder import Builder, Handler, Node, Refusal
from nncosim.compiler.frontend.forms import DOMAIN, InputForm, integer_weights
from nncosim.compiler.frontend.meanings import meanings_of
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.outputs import restated
from nncosim.compiler.frontend.prepare import LINEAR_OPS, QUANT_OPS, prepare, title_of
from nncosim.compiler.frontend.values import (
    Affine,
    Constant,
    Curve,
    FloatInput,
    Integers,
    Moved,
    Parts,
    QuantConstant,
    Quantised,
    Unknown,
    Value,
)
from nncosim.compiler.ir.host import HostStep
from nncosim.compiler.ir.network import Network, Op, TensorType
from nncosim.platforms.rounding import Rounding
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper

__all__ = ["HANDLERS", "Import", "import_details", "import_model"]

HANDLERS: Mapping[str, Handler] = {
    "Add": elementwise.add,
    "AveragePool": layers.average_pool,
    "BatchNormalization": elementwise.batch_normalization,
    "BipolarQuant": bipolar.bipolar_quant,
    "Cast": elementwise.cast,
    "Clip": elementwise.clip,
    "Concat": elementwise.concat,
    "Conv": layers.conv,
    "DequantizeLinear": linear.dequantize_linear,
    "Div": elementwise.divide,
    "DepthToSpace": moved.depth_to_space,
    "Dropout": elementwise.identity,
    "Flatten": elementwise.flatten,
    "Gemm": layers.gemm,
    "GlobalAveragePool": layers.global_average_pool,
    "Identity": elementwise.identity,
    "IntQuant": quant.quant,
    "MatMul": layers.gemm,
    "MaxPool": layers.max_pool,
    "Mul": elementwise.multiply,
    "Quant": quant.quant,
    "MultiThreshold": multithreshold.multi_threshold,
    "QuantizeLinear": linear.quantize_linear,
    "ReduceMean": layers.reduce_mean,
    "Relu": elementwise.relu,
    "Reshape": elementwise.reshape,
    "Resize": elementwise.resize,
    "SpaceToDepth": moved.space_to_depth,
    "Squeeze": elementwise.reshape,
    "Sub": elementwise.subtract,
    "Transpose": moved.transpose,
    "Trunc": quant.trunc,
    "Unsqueeze": elementwise.reshape,
    "Upsample": elementwise.resize,
    **dict.fromkeys(curves.FUNCTIONS, curves.element_function),
    **dict.fromkeys(qlinear.OPERATORS, qlinear.qlinear),
}
"""ONNX operator type to the function that imports it: a new operator is one more line here."""

_DYNAMIC = ("ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat")
_DOMAINS = ("", "ai.onnx", DOMAIN)
_CONTRIBUTED = (*linear.TAKERS, *qlinear.OPERATORS)
"""Operators that onnxruntime has in a domain of its own, "com.microsoft"."""

_REMEDIES = {
    "FloatQuant": "use integer quantisation (Quant)",
    **dict.fromkeys(("ArgMax", "LogSoftmax", "Softmax", "TopK"),
                    "end the model before it, or with it: at the end it is left to the host"),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), "there are no recurrent layers; use convolutions or Gemm"),
    **dict.fromkeys(("Attention", "Einsum"), "products of two activations are not supported; use Conv or Gemm"),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization"),
                    "it depends on the input's own mean; use BatchNormalization, which folds"),
    **dict.fromkeys(("Gather", "Pad", "Slice", "Split"), "leave it out; a Conv has its padding itself"),
    "PRelu": "use Relu, or LeakyRelu",
    "Erf": "use HardSwish, or x * Sigmoid(x)",
    "Gelu": "use HardSwish, or x * Sigmoid(x)",
    "ConvTranspose": "use nearest Resize and Conv",
    **dict.fromkeys(_DYNAMIC, "its scales depend on the data: quantise statically (onnxruntime: quantize_static)"),
    "QLinearSoftmax": "end the model before it: the order of the classes is the same",
    "ReduceMax": "use MaxPool",
}


@dataclass(frozen=True)
class Output:
    """A graph output: its ONNX name and shape, and the steps of layout by which the host gives it that shape."""

    name: str
    shape: tuple[int, ...]
    steps: tuple[HostStep, ...] = ()


@dataclass(frozen=True, eq=False)
class Import:
    """A network and where it came from.

    `onnx_names`: for each tensor, the ONNX value it stands for and that value's first channel; and, where that value
    has another layout, the steps that bring it into the tensor's.
    `magnitudes`: for each operator, per output channel, the sum of absolute values (in output steps) of
    what was folded into its offset. `model`: the cleaned graph.
    """

    network: Network
    onnx_names: Mapping[str, tuple[Any, ...]]
    magnitudes: Mapping[str, tuple[float, ...]]
    model: ModelWrapper


def import_model(
    source: str | Path | onnx.ModelProto, *, name: str | None = None, keep_batch: bool = False,
    forms: Mapping[str, InputForm] | None = None, nearest: bool = False,
) -> Network:
    """Read a QONNX, QDQ or TensorFlow Lite model as a network of integer operators with exact rational functions.

    Args:
        source: a file, or a model in memory (not changed).
        name: the network's name; by default the file's stem, or the graph's name.
        keep_batch: tensors have the graph's batch as their first axis, "N". Else they hold one inference, whatever the
            batch with which the graph was exported, which is then the network's `batch`.
        forms: what integers float inputs are that the graph does not quantise, see `forms.write_forms`.
        nearest: results may be the nearest that a machine has where it lacks the file's own roundings.

    Raises:
        ModelError: with every problem of the model.

    Widths are kept as they are, also where a platform will refuse them. A graph output without a Quant
    becomes a 32-bit tensor of raw accumulators.
    """
    return replace(import_details(source, name=name, keep_batch=keep_batch, forms=forms).network, nearest=nearest)


def import_details(
    source: str | Path | onnx.ModelProto, *, name: str | None = None, keep_batch: bool = False,
    forms: Mapping[str, InputForm] | None = None,
) -> Import:
    """`import_model`, with what a comparison against the ONNX graph needs besides."""
    if name is None:
        name = title_of(source)
    wrapper, shape_problem, batch, remarks = prepare(source, None if keep_batch else 1, forms)
    graph = wrapper.graph
    if not graph.output:
        raise ModelError(name, [Problem("graph", "", "it has no outputs", "name the tensors to compute as outputs")])
    if not any(n.op_type in (*QUANT_OPS, *LINEAR_OPS, *qlinear.OPERATORS, *_DYNAMIC) for n in graph.node):
        raise ModelError(name, [Problem(
            "graph", "", "the model is float: it has neither Quant nor QuantizeLinear nodes",
            "`nncosim quantize MODEL --data CALIB.npz --out Q.onnx` makes what `run` takes; or train it quantised "
            "(Brevitas: export_qonnx)",
        )])
    builder = Builder(batch=batch if keep_batch else None, meanings=meanings_of(wrapper.model))
    values = _initial_values(builder, graph)
    for proto in graph.node:
        _import_node(builder, proto, values)
    outputs = _outputs(builder, graph, values)
    if shape_problem is not None and not builder.problems:
        builder.problems.append(shape_problem)
    if builder.problems:
        raise ModelError(name, list(dict.fromkeys(builder.problems)))
    network = replace(_finish(builder, graph, name, outputs), batch=1 if keep_batch else batch, remarks=remarks,
                      to_the_bit=bool(builder.meanings))  # fmt: skip
    return Import(network, builder.onnx_names, builder.magnitudes, wrapper)


def _graph_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def _shape_text(value: onnx.ValueInfoProto) -> str:
    """The shape with the names of dimensions that have no size."""
    sizes = [d.dim_param or (str(d.dim_value) if d.dim_value else "?") for d in value.type.tensor_type.shape.dim]
    return " x ".join(sizes) or "none"


def _initial_values(builder: Builder, graph: onnx.GraphProto) -> dict[str, Value]:
    values: dict[str, Value] = {t.name: Constant(numpy_helper.to_array(t)) for t in graph.initializer}
    for name, bits in integer_weights(graph).items():
        array = numpy_helper.to_array(next(t for t in graph.initializer if t.name == name))
        values[name] = QuantConstant(array.astype(np.int64), np.ones(array.shape, np.float32), bits)
    for given in graph.input:
        if given.name in values:
            continue
        shape = _graph_shape(given)
        kind = given.type.tensor_type.elem_type
        if min(shape, default=0) < 1:
            builder.problems.append(Problem(
                given.name, "", f"the graph input has no fixed shape (found {_shape_text(given)})",
                "export the model with a fixed input size",
            ))
            values[given.name] = Unknown()
        elif kind in (0, onnx.TensorProto.FLOAT):
            values[given.name] = FloatInput(given.name, shape, at=given.name)
        else:
            values[given.name] = linear.graph_input(given.name, shape, onnx.helper.tensor_dtype_to_np_dtype(kind))
    return values


def _import_node(builder: Builder, proto: onnx.NodeProto, values: dict[str, Value]) -> None:
    """Set the values of the node's outputs, or note why that is not possible."""
    for output in proto.output:
        values[output] = Unknown()
    missing = [i for i in proto.input if i and i not in values]
    if missing:
        builder.problems.append(Problem(proto.name, proto.op_type, f"input {missing[0]!r} is made by no node before it",
                                        "check the model with onnx.checker"))
        return
    node = Node.read(proto, values)
    if any(isinstance(v, Unknown) for v in node.inputs):
        # the cause is already noted; only what could never work is worth a line of its own
        if proto.op_type not in HANDLERS:
            builder.problems.append(_unsupported(node))
        else:
            builder.problems.extend(_own_problems(node))
        return
    handler = HANDLERS.get(proto.op_type)
    contributed = proto.domain == "com.microsoft" and proto.op_type in _CONTRIBUTED
    if handler is None or not (proto.domain in _DOMAINS or contributed):
        builder.problems.append(_unsupported(node))
        return
    try:
        _require_finite(node, proto)
        if proto.op_type in qlinear.OPERATORS:
            values[proto.output[0]] = handler(builder, node)
        elif proto.op_type not in linear.TAKERS and any(linear.are_integers(v) for v in node.inputs):
            values[proto.output[0]] = linear.on_integers(partial(moved.handled, handler=handler), builder, node)
        else:
            values[proto.output[0]] = moved.handled(builder, node, handler)
    except Refusal as refusal:
        builder.problems.append(refusal.problem(node))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # attributes or shapes against ONNX's rules
        text = f"the node is malformed ({type(error).__name__}: {error})"
        builder.problems.append(Problem(node.name, node.op, text, "check the model with onnx.checker"))


def _own_problems(node: Node) -> list[Problem]:
    """What is wrong with a node whatever its activation is: its weights, or its Quant's parameters."""
    try:
        if node.op in ("Conv", "Gemm", "MatMul") and isinstance(node.input(1), Constant):
            layers.weights_of(node)
        if node.op in ("IntQuant", "Quant"):
            quant.read_parameters(node)
    except Refusal as refusal:
        return [refusal.problem(node)]
    return []


def _require_finite(node: Node, proto: onnx.NodeProto) -> None:
    """Refuse constants with NaN, or with infinities other than a Clip's bounds; a Quant sees to its own parameters."""
    data = slice(1) if node.op in QUANT_OPS else slice(None)
    for name, value in zip(proto.input[data], node.inputs[data], strict=True):
        if isinstance(value, Constant) and value.array.dtype.kind == "f":
            wrong = np.isnan(value.array) if node.op == "Clip" else ~np.isfinite(value.array)
            if wrong.any():
                count = f"{int(wrong.sum())} of {wrong.size}"
                raise Refusal(f"constant {name!r} has {count} values that are NaN or infinite",
                              "export the model again from finite weights and scales")


def _unsupported(node: Node) -> Problem:
    remedy = _REMEDIES.get(node.op, f"supported are {', '.join(sorted(HANDLERS))}")
    return Problem(node.name, node.op, f"{node.op} is not supported", remedy)


def _outputs(builder: Builder, graph: onnx.GraphProto, values: Mapping[str, Value]) -> dict[str, Output]:
    """Network tensor to graph output, in the graph's order."""
    found: dict[str, Output] = {}
    for out in graph.output:
        value, others = values.get(out.name), [values.get(o.name) for o in graph.output if o is not out]
        node = next((n for n in graph.node if out.name in n.output), None)
        where = Node(node.name if node else out.name, node.op_type if node else "", (), (out.name,), {})
        try:
            if isinstance(value, Unknown):
                if builder.problems:
                    continue  # the cause is among them
                raise Refusal("this output is computed from an output that its node does not have here",
                              "use the first output of Dropout, MaxPool and the like only")
            steps, shape = tuple[HostStep, ...](), getattr(value, "shape", ())
            if isinstance(value, Moved):
                steps, value = (HostStep("Reshape", value.inner.shape), *value.steps), value.inner
            if isinstance(value, Integers):
                value = linear.write(builder, value)
            if isinstance(value, Affine):
                value = restated(builder, where, value, others) or _raw_output(builder, where, value)
            elif isinstance(value, Quantised) and value.kind is not None:
                value = restated(builder, where, builder.affine(value), others) or value
            if isinstance(value, Curve):
                raise Refusal("this graph output is a float", "add an output Quant (Brevitas: QuantIdentity) after it")
            if not isinstance(value, Parts | Quantised):
                raise Refusal("a graph output must be computed from a quantised input")
            tensor = builder.quantised(value).tensor
            if tensor in found or tensor in builder.input_rounding:
                tensor = _copy(builder, where, tensor)
            found[tensor] = Output(out.name, shape, steps if any(s.op != "Reshape" for s in steps) else ())
        except Refusal as refusal:
            builder.problems.append(refusal.problem(where))
    return found


def _raw_output(builder: Builder, node: Node, form: Affine) -> Quantised:
    """A graph output without a Quant: the accumulators themselves, the bias in the type."""
    if form.clipped or len(form.ratios) != 1 or any(r <= 0 for r in form.ratios[0]):
        raise Refusal("this graph output is a float", "add an output Quant (Brevitas: QuantIdentity) after it")
    low, high = form.op.bounds([builder.tensors[i] for i in form.op.inputs])
    ratios = form.ratios[0]
    bits = 8 if -128 <= low.min() and high.max() <= 127 else 32
    kind = TensorType(
        bits, True, ratios[:1] if len(set(ratios)) == 1 else ratios, 0, int(low.min()), int(high.max()),
        form.offset if any(form.offset) else (),
    )
    zero = tuple(-o for o in form.offset)
    form = form.scaled((ratios[0] / ratios[0],) * form.channels, zero, (0.0,) * form.channels)
    return builder.emit(form, kind, Rounding.HALF_EVEN, node)


def _copy(builder: Builder, node: Node, tensor: str) -> str:
    """A second tensor with the same integers, for a graph output that has no tensor of its own."""
    name = builder.copy(node, tensor, builder.tensors[tensor].type, (node.name,))
    builder.onnx_names[name] = builder.onnx_names[tensor]
    return name


def _finish(builder: Builder, graph: onnx.GraphProto, name: str, outputs: Mapping[str, Output]) -> Network:
    """Rename output tensors to the graph's names and drop what no output needs."""
    constants = {t.name for t in graph.initializer}
    inputs = tuple(i.name for i in graph.input if i.name not in constants)
    rename = {tensor: output.name for tensor, output in outputs.items()}
    for old in builder.tensors:  # an inner tensor may carry the name that an output needs
        if old not in outputs and old in rename.values():
            rename[old] = unique_name(f"{old}.inner", builder.tensors)
    builder.onnx_names = {rename.get(k, k): v for k, v in builder.onnx_names.items()}
    ops = [_renamed(op, rename) for op in moved.relabelled(builder, _needed(builder.ops, set(outputs)), name)]
    used = {t for op in ops for t in (*op.inputs, op.output)} | set(inputs)
    tensors = {
        rename.get(k, k): replace(t, name=rename.get(k, k))
        for k, t in builder.tensors.items() if rename.get(k, k) in used
    }
    shapes = {i.name: _graph_shape(i) for i in graph.input if i.name not in constants}
    shapes |= {output.name: output.shape for output in outputs.values()}
    unused = [i for i in inputs if i not in tensors]
    if unused:
        raise ModelError(name, [Problem(i, "", "this graph input is not used", "remove it") for i in unused])
    names = tuple(output.name for output in outputs.values())
    return Network(name, tensors, tuple(ops), inputs, names, shapes, builder.input_rounding,
                   input_steps=builder.input_steps, linear_inputs=tuple(builder.linear_inputs),
                   output_steps={output.name: output.steps for output in outputs.values() if output.steps})


def _needed(ops: list[Op], wanted: set[str]) -> list[Op]:
    keep = []
    for op in reversed(ops):
        if op.output in wanted:
            wanted |= set(op.inputs)
            keep.append(op)
    return keep[::-1]


def _renamed(op: Op, names: Mapping[str, str]) -> Op:
    inputs = tuple(names.get(i, i) for i in op.inputs)
    return replace(op, inputs=inputs, output=names.get(op.output, op.output))
