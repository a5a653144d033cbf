# SPDX-License-Identifier: Apache-2.0
"""From a file to a clean graph: domains, batch, constants, shapes."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend.examine import constant_problems, declared_problems, is_text, size_problems
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_model
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.general import RemoveStaticGraphInputs
from qonnx.transformation.infer_shapes import InferShapes

__all__ = ["LINEAR_OPS", "QUANT_OPS", "load_model", "prepare", "title_of"]

QUANT_OPS = ("Quant", "IntQuant", "Trunc", "BipolarQuant", "FloatQuant")
LINEAR_OPS = ("QuantizeLinear", "DequantizeLinear")
_DOMAIN = "qonnx.custom_op.general"
_OLD_DOMAINS = ("onnx.brevitas", "finn.custom_op.general", "finn", _DOMAIN)


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
        if node.op_type in QUANT_OPS and node.domain in _OLD_DOMAINS:
            node.domain = _DOMAIN
            if node.op_type == "Trunc" and len(node.input) >= 6:
                version = 2
    known = {o.domain: o.version for o in model.opset_import if o.domain not in _OLD_DOMAINS}
    del model.opset_import[:]
    known[""] = known.pop("ai.onnx", 0) or known[""]
    # the default domain first: qonnx's constant folding reads its version there
    for domain in sorted(known):
        model.opset_import.append(onnx.helper.make_opsetid(domain, known[domain]))
    model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, version))


def _name_nodes(model: onnx.ModelProto) -> None:
    """Every node gets a unique name, its own where it has one, else that of its first output."""
    taken: set[str] = set()
    for node in model.graph.node:
        base = node.name or node.output[0]
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}#{count}"
        taken.add(name)
        node.name = name


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [n for n in graph.node if n.op_type == "Constant" and n.domain == ""]:
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


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes that no graph output depends on."""
    wanted = {o.name for o in graph.output}
    keep = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            keep.append(node)
    keep.reverse()
    del graph.node[:]
    graph.node.extend(keep)


def prepare(
    source: str | Path | onnx.ModelProto, batch: int | None = 1
) -> tuple[ModelWrapper, Problem | None, int]:
    """The graph with a fixed batch (None: its own), named nodes, folded constants and inferred shapes.

    Tensor names stay as they are. Uses the qonnx package's InferShapes, RemoveStaticGraphInputs and
    FoldConstants passes.

    Raises:
        ModelError: what is no ONNX file, or one that breaks the rules of `examine`.

    Returns:
        The model; the problem if shapes could not be inferred (a later message may be better); and the batch with which
        the graph was exported.
    """
    model = load_model(source)
    _refuse(source, declared_problems(model))
    _unify_domains(model)
    _name_nodes(model)
    _constants_to_initializers(model.graph)
    _refuse(source, constant_problems(model.graph))
    _drop_unused(model.graph)
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
        return wrapper, problem, exported
    return wrapper, None, exported
