# SPDX-License-Identifier: Apache-2.0
"""From a file to a clean graph: domains, batch, constants, shapes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.examine import (
    constant_problems,
    declared_problems,
    is_text,
    shift_problems,
    size_problems,
)
from nncosim.compiler.frontend.forms import DOMAIN, InputForm, write_forms
from nncosim.compiler.frontend.meanings import remarks_of
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.pads import fold_pads
from nncosim.compiler.frontend.tails import Tail, cut_tail, drop_unused
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_model
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.general import RemoveStaticGraphInputs
from qonnx.transformation.infer_shapes import InferShapes

__all__ = [
    "LINEAR_OPS", "QUANT_OPS", "Prepared", "is_tflite", "load_model", "name_nodes", "prepare", "tail_of", "title_of",
    "with_forms",
]  # fmt: skip

QUANT_OPS = ("Quant", "IntQuant", "Trunc", "BipolarQuant", "FloatQuant", "MultiThreshold")
LINEAR_OPS = ("QuantizeLinear", "DequantizeLinear")
CHANNELS_LAST = "qonnx.custom_op.channels_last"
"""Conv, MaxPool and BatchNormalization of maps (N, H, W, C), with kernels (O, H, W, C)."""
FIRST = ".first"
"""Of the name of what such an operator makes, before it is transposed."""
_OLD_DOMAINS = ("onnx.brevitas", "finn.custom_op.general", "finn", DOMAIN)


class Prepared(NamedTuple):
    """A graph that the importer reads. `shape_problem`: if shapes could not be inferred (a later message may be
    better). `batch`: with which the graph was exported. `remarks`: for the user, what was assumed of it."""

    model: ModelWrapper
    shape_problem: Problem | None
    batch: int
    remarks: tuple[str, ...] = ()


def load_model(source: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """Read a model, with the weights that lie beside it, or copy one that is given.

    Raises:
        ModelError: what is not an ONNX file, or weights that are not there.
    """
    if isinstance(source, onnx.ModelProto):
        return copy.deepcopy(source)
    path = Path(source)
    if not path.is_file():
        raise ModelError(str(path), [Problem("", "", "there is no such file")])
    if is_tflite(path):
        # the schema's package takes a fifth of a command's start to import
        from nncosim.compiler.frontend.tflite_reader import load_tflite

        return load_tflite(path)
    head = _head(path)
    other = next((what for start, what in _OTHER_FORMATS.items() if head.startswith(start)), "")
    if other:
        raise ModelError(str(path), [Problem("", "", f"this is {other}, not an ONNX or TensorFlow Lite file",
                                             "convert it to ONNX with QONNX's quantisers: Brevitas export_qonnx for "
                                             "PyTorch, qonnx and tf2onnx for QKeras and Keras")])  # fmt: skip
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError and onnx's own errors have no common base
        text = f"this is not an ONNX file, or a damaged one ({type(error).__name__})"
        raise ModelError(str(path), [Problem("", "", text, "export it again")]) from error
    if not model.graph.node:
        raise ModelError(str(path), [Problem("", "", "this is not an ONNX file, or its graph is empty")])
    if not is_text(model):
        text = "this ONNX file is damaged: a name or a text in it is no text (UTF-8)"
        raise ModelError(str(path), [Problem("", "", text, "export it again")])
    _load_weights(model, path)
    return model


_OTHER_FORMATS = {b"\x89HDF": "an HDF5 file (of Keras)", b"PK\x03\x04": "a zip archive (of PyTorch or Keras)"}
"""What a file is that begins so."""


def is_tflite(path: Path) -> bool:
    """Whether a file says by its first bytes that it is TensorFlow Lite."""
    return _head(path)[4:8] == b"TFL3"


def _head(path: Path) -> bytes:
    """The first 8 bytes of a file; none where it cannot be read: who reads it on says why."""
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError:
        return b""


def with_forms(source: str | Path | onnx.ModelProto, forms: Mapping[str, InputForm]) -> onnx.ModelProto:
    """A copy of a model without its `Tail`, in which float inputs are quantised as `write_forms` says; raises as
    `load_model`."""
    model = load_model(source)
    cut_tail(model)
    write_forms(model, forms)
    return model


def tail_of(source: str | Path | onnx.ModelProto) -> Tail | None:
    """What a model's graph does at its end that is left to the host; raises as `load_model`."""
    return cut_tail(load_model(source))


def _load_weights(model: onnx.ModelProto, path: Path) -> None:
    """What the model keeps in files of their own, beside it."""
    stored = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    folder = path.resolve().parent
    for tensor in stored:
        name = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if not (folder / name).is_file():
            raise ModelError(str(path), [Problem(
                tensor.name, "", f"its values are in the file {name!r}, which is not in {folder}",
                "copy that file there too, or export the model as one file",
            )])
    try:
        load_external_data_for_model(model, str(folder))
    except Exception as error:  # onnx's own errors have no common base
        text = f"values that the model keeps in a file beside it cannot be read ({error})"
        raise ModelError(str(path), [Problem("", "", text, "export it again")]) from error


def title_of(source: str | Path | onnx.ModelProto) -> str:
    """What messages call a model."""
    return source.graph.name if isinstance(source, onnx.ModelProto) else Path(source).stem


def _refuse(source: str | Path | onnx.ModelProto, problems: list[Problem]) -> None:
    if problems:
        raise ModelError(title_of(source), problems)


def _unify_domains(model: onnx.ModelProto) -> None:
    """Give all quantisation nodes qonnx's own domain, in the version that their inputs tell."""
    version = 1
    for node in model.graph.node:
        if node.domain in _OLD_DOMAINS or (node.op_type in QUANT_OPS and node.domain in ("", "ai.onnx")):
            node.domain = DOMAIN
            if node.op_type == "Trunc" and len(node.input) >= 6:
                version = 2
    known = {o.domain: o.version for o in model.opset_import if o.domain not in _OLD_DOMAINS}
    del model.opset_import[:]
    known[""] = known.pop("ai.onnx", 0) or known[""]
    # the default domain first: qonnx's constant folding reads its version there
    for domain in sorted(known):
        model.opset_import.append(onnx.helper.make_opsetid(domain, known[domain]))
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, version))


def name_nodes(model: onnx.ModelProto) -> None:
    """Every node gets a unique name, its own where it has one, else that of its first output."""
    taken: set[str] = set()
    for node in model.graph.node:
        node.name = unique_name(node.name or node.output[0], taken)
        taken.add(node.name)


def _to_float32(graph: onnx.GraphProto) -> None:
    """Constants of other floating-point types as float32, which all activations are."""
    for tensor in graph.initializer:
        if tensor.data_type in (onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
            with np.errstate(over="ignore"):  # an infinity is refused where it is used
                array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [n for n in graph.node if n.op_type == "Constant" and n.domain in ("", "ai.onnx")]:
        values = [a for a in node.attribute if a.name in ("value", "value_float", "value_int",
                                                          "value_floats", "value_ints")]
        if not values:
            continue
        value = onnx.helper.get_attribute_value(values[0])
        if values[0].name != "value":
            kind = np.float32 if "float" in values[0].name else np.int64
            value = numpy_helper.from_array(np.array(value, dtype=kind))
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _spell_out(graph: onnx.GraphProto) -> None:
    """qonnx's channels-last operators as the standard's between two Transposes; what they make keeps its name."""
    nodes = [made for node in graph.node for made in _standard(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _standard(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    if node.domain != CHANNELS_LAST or node.op_type not in ("BatchNormalization", "Conv", "MaxPool"):
        return [node]
    out, turned = node.output[0], list(node.input[: 2 if node.op_type == "Conv" else 1])
    before = [onnx.helper.make_node("Transpose", [name], [f"{out}.in{n}"], name=f"{node.name}.in{n}", perm=(0, 3, 1, 2))
              for n, name in enumerate(turned)]  # fmt: skip
    core = onnx.NodeProto.FromString(node.SerializeToString())
    core.domain = ""
    core.input[:] = [*(made.output[0] for made in before), *node.input[len(turned):]]
    core.output[:] = [f"{out}{FIRST}"]
    after = onnx.helper.make_node("Transpose", [f"{out}{FIRST}"], [out], name=f"{node.name}.out", perm=(0, 2, 3, 1))
    return [*before, core, after]


def _batches(graph: onnx.GraphProto) -> set[int]:
    """The first sizes of the graph's inputs, as far as these have one."""
    constants = {t.name for t in graph.initializer}
    shapes = [value.type.tensor_type.shape.dim for value in graph.input if value.name not in constants]
    return {dims[0].dim_value for dims in shapes if dims and dims[0].dim_value}


def _batch_problems(graph: onnx.GraphProto) -> list[Problem]:
    found = sorted(_batches(graph))
    if len(found) < 2:
        return []
    text = f"the graph inputs have batches of {', '.join(map(str, found[:-1]))} and {found[-1]}; expected one for all"
    return [Problem("graph", "", text, "export the model with a batch of 1")]


def _set_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Force the first dimension of all graph inputs; Reshape constants follow."""
    constants = {t.name: t for t in graph.initializer}
    old = {*_batches(graph), 1}
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name in constants or not dims:
            continue
        dims[0].dim_value = batch
    del graph.value_info[:]
    for node in graph.node:
        if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in constants:
            tensor = constants[node.input[1]]
            shape = numpy_helper.to_array(tensor).copy()
            if shape.size and shape[0] in old:
                # a constant may be shared with another node: this Reshape gets its own
                shape[0] = batch
                name = f"{node.name}.batch"
                graph.initializer.append(numpy_helper.from_array(shape, name))
                node.input[1] = name


def prepare(
    source: str | Path | onnx.ModelProto, batch: int | None = 1, forms: Mapping[str, InputForm] | None = None, *,
    as_written: bool = False,
) -> Prepared:
    """The graph with a fixed batch (None: its own), named nodes, folded constants and inferred shapes.

    Tensor names stay as they are. Uses the qonnx package's InferShapes, RemoveStaticGraphInputs and
    FoldConstants passes.

    Raises:
        ModelError: what is no ONNX file, or one that breaks the rules of `examine`.

    `forms`: see `forms.write_forms`. `as_written`: keep the graph's end, and float inputs as they are.
    """
    model = load_model(source)
    tail = None if as_written else cut_tail(model)
    _refuse(source, shift_problems(model.graph) or declared_problems(model))
    try:
        written = () if as_written else write_forms(model, forms or {})
        remarks = (*remarks_of(model), *written, *(tail.remarks if tail else ()))
    except ModelError as error:
        raise ModelError(title_of(source), error.problems) from error
    _unify_domains(model)
    name_nodes(model)
    _spell_out(model.graph)
    _constants_to_initializers(model.graph)
    _refuse(source, constant_problems(model.graph))
    _to_float32(model.graph)
    fold_pads(model.graph)
    drop_unused(model.graph)
    _refuse(source, _batch_problems(model.graph))
    exported = max(_batches(model.graph), default=1)
    _set_batch(model.graph, exported if batch is None else batch)
    wrapper = ModelWrapper(model)
    try:
        wrapper = wrapper.transform(RemoveStaticGraphInputs())
        wrapper = wrapper.transform(InferShapes())
        _refuse(source, size_problems(wrapper.graph))
        wrapper = wrapper.transform(FoldConstants(exclude_op_types=[*QUANT_OPS, *LINEAR_OPS]))
    except ModelError:
        raise
    except Exception as error:  # qonnx and onnx raise bare Exception; the importer names the nodes
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = Problem("graph", "", f"shapes could not be inferred: {text}", "check the model with onnx.checker")
        return Prepared(wrapper, problem, exported, remarks)
    return Prepared(wrapper, None, exported, remarks)
