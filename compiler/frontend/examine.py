# SPDX-License-Identifier: Apache-2.0
"""What a model file must keep to before it is believed: names used once, types, operators that are known, sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from nncosim.compiler.errors import Problem
from onnx import TensorProto, numpy_helper

__all__ = [
    "MAX_CHANNELS",
    "MAX_ELEMENTS",
    "MIN_OPSET",
    "constant_problems",
    "declared_problems",
    "excess",
    "is_text",
    "shift_problems",
    "size_problems",
]  # fmt: skip

MIN_OPSET = 7
"""From here on the operators mean what the handlers take them to mean."""

MAX_ELEMENTS = 1 << 26
"""Of a tensor: some times more than the memories of any platform hold."""

MAX_CHANNELS = 1 << 18
"""Of a tensor: each has numbers of its own."""

_TYPES = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
"""Of graph inputs and outputs: integers where the graph takes or gives quantised data as they are."""

_EXPORT = "export the model again"
_CHECK = "check the model with onnx.checker"


def is_text(message: Message) -> bool:
    """Whether all names and texts in a message are UTF-8, as protobuf's and ONNX's rules have it."""
    try:
        if isinstance(message, onnx.AttributeProto):
            for value in (message.s, *message.strings):
                value.decode()
        for field, value in message.ListFields():
            if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
                continue
            for entry in (value,) if isinstance(value, str | bytes | Message) else value:
                if not (is_text(entry) if isinstance(entry, Message) else isinstance(entry, str)):
                    return False
    except UnicodeDecodeError:
        return False
    return True


def declared_problems(model: onnx.ModelProto) -> list[Problem]:
    """What is wrong with what a file says of itself: operator sets, types of inputs and outputs, names, batch."""
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    return [
        *_opset(model), *_names(graph), *(p for value in inputs for p in _input(value)),
        *(p for value in graph.output for p in _type(value, "output", (*_TYPES, TensorProto.UNDEFINED))),
    ]  # fmt: skip


def shift_problems(graph: onnx.GraphProto) -> list[Problem]:
    """A QuantizeLinear with an integer scale: so Aidge's export writes a shift, which ONNX does not know."""
    numbers = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.INT32}
    found = []
    for node in graph.node:
        scale = numbers.get(node.input[1]) if node.op_type == "QuantizeLinear" and len(node.input) > 1 else None
        if scale is not None:
            value = ", ".join(map(str, scale.ravel()[:3].tolist()))
            text = f"it has an integer scale ({value}), as Aidge's ONNX export writes a shift; ONNX has float scales"
            remedy = "in Python, onnx.save(nncosim.compiler.frontend.aidge.onnx_of(graph), FILE) of Aidge's own graph"
            found.append(Problem(node.name or node.output[0], node.op_type, text, remedy))
    return found[:1]  # all others follow


def _opset(model: onnx.ModelProto) -> Iterator[Problem]:
    newest = onnx.defs.onnx_opset_version()
    versions = {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    known = f"{MIN_OPSET} to {newest} are supported"
    if not versions:
        yield Problem("", "", f"the model does not say which version of the ONNX operators it uses; {known}", _EXPORT)
    elif len(versions) > 1:
        text = f"the model uses several versions of the ONNX operators: {', '.join(map(str, sorted(versions)))}"
        yield Problem("", "", text, _EXPORT)
    elif not MIN_OPSET <= min(versions) <= newest:
        text = f"the model uses version {min(versions)} of the ONNX operators (opset); {known}"
        yield Problem("", "", text, "convert it with onnx.version_converter, or export it again")


def _names(graph: onnx.GraphProto) -> Iterator[Problem]:
    made = (name for node in graph.node for name in node.output if name)
    constants = [t.name for t in graph.initializer]
    given = [value.name for value in graph.input]
    for what, names in (
        ("graph output", [value.name for value in graph.output]), ("graph input", given), ("initializer", constants),
        ("value", [*made, *dict.fromkeys([*given, *constants])]),
    ):  # fmt: skip
        for name in _repeated(names):
            yield Problem(name, "", f"there are two of this {what}; names stand for one thing each", _EXPORT)
    for what, names in (("input", given), ("output", [value.name for value in graph.output])):
        if "" in names:
            yield Problem("graph", "", f"an {what} has no name", _EXPORT)
        for name in names:
            if "\0" in name or len(name.encode()) > 60_000:  # what a member of an .npz file can be called
                yield Problem(name[:40], "", f"this {what}'s name has a zero byte or is too long", "rename it")


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _type(value: onnx.ValueInfoProto, what: str, allowed: tuple[int, ...]) -> Iterator[Problem]:
    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        text = f"the graph {what} is a {kind.removesuffix('_type')}; expected a tensor"
        yield Problem(value.name, "", text, "export a model of tensors")
    elif value.type.tensor_type.elem_type not in allowed:
        number = value.type.tensor_type.elem_type
        name = TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else f"type {number}"
        yield Problem(value.name, "", f"the graph {what} holds {name}; expected FLOAT", "export the model in float32")


def _input(value: onnx.ValueInfoProto) -> Iterator[Problem]:
    yield from _type(value, "input", _TYPES)
    dims = value.type.tensor_type.shape.dim
    if dims and dims[0].WhichOneof("value") == "dim_value" and dims[0].dim_value == 0:
        yield Problem(value.name, "", "the graph input has a batch of 0", "export the model with a batch of 1")
    elif len(dims) > 1:
        shape = [d.dim_value for d in dims]
        if _too_large(shape[1:]):
            yield Problem(value.name, "", _size_text("graph input", shape), "use smaller images")
        elif shape[1] > MAX_CHANNELS:
            yield Problem(value.name, "", _channels_text(shape[1]), "use fewer channels")


def _too_large(shape: Iterable[int]) -> bool:
    """Whether a tensor of this shape has more elements than are taken in."""
    return math.prod(shape) > MAX_ELEMENTS


def _size_text(what: str, shape: list[int]) -> str:
    return f"the {what} has {' x '.join(map(str, shape))} elements; at most {MAX_ELEMENTS:,} are taken in"


def _channels_text(count: int) -> str:
    return f"the tensor has {count:,} channels; at most {MAX_CHANNELS:,} are taken in"


def excess(shape: tuple[int, ...], channels: int) -> tuple[str, str]:
    """What is too much about a tensor of this shape, and a remedy; two empty texts if nothing is."""
    if _too_large(shape):
        return _size_text("result", list(shape)), "use smaller images"
    return (_channels_text(channels), "use fewer channels") if channels > MAX_CHANNELS else ("", "")


def constant_problems(graph: onnx.GraphProto) -> list[Problem]:
    """Constants whose data are not what their type and shape say."""
    problems = []
    for tensor in graph.initializer:
        shape = list(tensor.dims)
        if _too_large(shape):
            problems.append(Problem(tensor.name, "", _size_text("constant", shape), "use a smaller model"))
            continue
        if tensor.data_type == TensorProto.STRING:
            problems.append(Problem(tensor.name, "", "the constant holds text; expected numbers", _CHECK))
            continue
        try:
            if min(shape, default=0) < 0:
                raise ValueError("a dimension is negative")
            numpy_helper.to_array(tensor)
        except (TypeError, ValueError, KeyError) as error:
            text = f"the constant's data do not fit its shape {tuple(shape)} ({str(error).splitlines()[0]})"
            problems.append(Problem(tensor.name, "", text, _CHECK))
    return problems


def size_problems(graph: onnx.GraphProto) -> list[Problem]:
    """Tensors, by their inferred shapes, that are too large: before anything is computed of them."""
    problems = []
    for value in (*graph.value_info, *graph.output):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if _too_large(shape):
            problems.append(Problem(value.name, "", _size_text("tensor", shape), "use smaller images"))
    return problems
