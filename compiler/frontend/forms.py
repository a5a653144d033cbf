# SPDX-License-Identifier: Apache-2.0
"""The integers of float graph inputs that the graph itself does not quantise: as annotated, as given, or calibrated.

What is assumed is written into the graph as a Quant behind the input, so that everything that reads the graph (the
importer, and the evaluators it is compared with) sees the same, and is told in a remark.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from nncosim.compiler.errors import InputDataError, ModelError, Problem
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from qonnx.core.datatype import DataType

__all__ = ["DOMAIN", "InputForm", "calibrated", "data_types", "integer_weights", "parse_form", "write_forms"]

DOMAIN = "qonnx.custom_op.general"
USAGE = "[NAME=]BITS[,signed|unsigned][,SCALE[,ZERO]]"
_QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "FloatQuant", "QuantizeLinear")
_INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT16, onnx.TensorProto.UINT16)
_ON_HOST = (
    "Add", "Clip", "Div", "Dropout", "Flatten", "Identity", "Mul", "Relu", "Reshape", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""What the host can do with a float input before it is quantised."""


@dataclass(frozen=True)
class InputForm:
    """Integers of `bits` bits that stand for real = (integer - zero) * scale. `narrow`: without the most negative one.

    `bipolar`: +1 and -1 only. `source`: who says so, for the remark.
    """

    bits: int
    signed: bool = True
    scale: float = 1.0
    zero: int = 0
    narrow: bool = False
    bipolar: bool = False
    source: str = "--input-quant"

    @property
    def text(self) -> str:
        """As the option takes it."""
        zero = [str(self.zero)] if self.zero else []
        return ",".join([str(self.bits), "signed" if self.signed else "unsigned", self._scale, *zero])

    @property
    def _scale(self) -> str:
        """The shortest text that float32 reads the same."""
        return str(np.float32(self.scale)).removesuffix(".0")

    def remark(self, name: str) -> str:
        kind = "+1 and -1" if self.bipolar else f"{self.bits}-bit {'' if self.signed else 'un'}signed integers"
        real = f"(integer - {self.zero})" if self.zero else "integer"
        return f"{name!r} is taken as {kind}, real = {real} * {self._scale} ({self.source})"


def parse_form(text: str) -> tuple[str, InputForm]:
    """A user's "x=8,unsigned,0.0039,0" as the input's name ("" where none is given) and its form.

    Raises:
        InputDataError: what is wrong with it.
    """
    name, _, numbers = text.rpartition("=")
    words = [word.strip() for word in numbers.split(",")]
    try:
        bits = int(words.pop(0))
        sign = words.pop(0) if words and words[0] in ("signed", "unsigned") else "signed"
        scale = float(words.pop(0)) if words else 1.0
        zero = int(words.pop(0)) if words else 0
    except ValueError as error:
        raise InputDataError(f"--input-quant {text}: {error}; expected {USAGE}") from error
    if words:
        raise InputDataError(f"--input-quant {text}: nothing belongs behind {zero}; expected {USAGE}")
    if not 2 - (sign == "unsigned") <= bits <= 16:
        raise InputDataError(f"--input-quant {text}: expected 2 to 16 bits (1 to 16 unsigned), not {bits}")
    if not (scale > 0 and 0 < np.float32(scale) < np.inf):
        raise InputDataError(f"--input-quant {text}: the scale must be a positive number, not {scale}")
    lo, hi = (-(1 << bits - 1), (1 << bits - 1) - 1) if sign == "signed" else (0, (1 << bits) - 1)
    if not lo <= zero <= hi:
        raise InputDataError(f"--input-quant {text}: the zero point must be {lo} to {hi}, not {zero}")
    return name, InputForm(bits, sign == "signed", float(np.float32(scale)), zero)


def data_types(graph: onnx.GraphProto) -> dict[str, Any]:
    """qonnx's data types by the tensors' names, of those that are integers or fixed-point numbers."""
    found = {}
    for entry in graph.quantization_annotation:
        kinds = [pair.value for pair in entry.quant_parameter_tensor_names if pair.key == "finn_datatype"]
        with contextlib.suppress(KeyError, ValueError):  # a name that qonnx does not know says nothing
            kind = DataType[kinds[0]] if kinds else None
            if kind is not None and (kind.is_integer() or kind.is_fixed_point()):
                found[entry.tensor_name] = kind
    return found


def integer_weights(graph: onnx.GraphProto) -> dict[str, int]:
    """Width by name of constants that are kernels of Conv, Gemm or MatMul and annotated as the integers they are."""
    kinds = data_types(graph)
    read = {node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1}
    found = {}
    for tensor in graph.initializer:
        kind = kinds.get(tensor.name)
        if tensor.name in read and kind is not None and kind.is_integer():
            array = numpy_helper.to_array(tensor)
            if np.array_equal(array, np.rint(array)) and kind.min() <= array.min() and array.max() <= kind.max():
                found[tensor.name] = 2 if kind.name == "BIPOLAR" else int(kind.bitwidth())
    return found


def _annotated(kind: Any) -> InputForm | None:
    """A data type as a form; None where it does not fix the scale."""
    name = str(kind.name)
    if name.startswith("SCALEDINT"):
        return None
    source = f"its annotation {name}"
    if name == "BIPOLAR":
        return InputForm(2, scale=1.0, narrow=True, bipolar=True, source=source)
    scale = float(kind.scale_factor()) if kind.is_fixed_point() else 1.0
    return InputForm(int(kind.bitwidth()), bool(kind.signed()), scale, narrow=name == "TERNARY", source=source)


def _free_inputs(graph: onnx.GraphProto) -> list[str]:
    """The graph's inputs that are no integers."""
    constants = {t.name for t in graph.initializer}
    return [
        value.name for value in graph.input
        if value.name not in constants and value.type.tensor_type.elem_type not in _INTEGERS
    ]  # fmt: skip


def _chain(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that the host can compute from input `name` on, as long as there is one reader; a Quant ends it."""
    known = {t.name for t in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    known |= {o for node in graph.node if node.op_type == "Constant" for o in node.output}
    while True:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type not in _ON_HOST:
            return nodes
        if any(i and i != name and i not in known for i in readers[0].input):
            return nodes
        nodes.append(readers[0])
        name = readers[0].output[0]


def _is_quantised(graph: onnx.GraphProto, name: str) -> bool:
    readers = [node for node in graph.node if name in node.input]
    return bool(readers) and all(node.op_type in _QUANTISERS for node in readers)


def write_forms(model: onnx.ModelProto, forms: Mapping[str, InputForm]) -> tuple[str, ...]:
    """Put a Quant behind each input that has a form: a given one, or that of its annotation.

    Args:
        model: changed. forms: by the name of a graph input, or of a value that is computed from one by constants alone
            (a normalisation, which the host then does); "" is the only graph input.

    Returns:
        Remarks.

    Raises:
        ModelError: names that stand for no such value.
    """
    graph = model.graph
    inputs, remarks, wrong = _free_inputs(graph), [], []
    chains = {name: [name, *(node.output[0] for node in _chain(graph, name))] for name in inputs}
    chosen: dict[str, InputForm] = {}
    for name, form in forms.items():
        place = inputs[0] if not name and len(inputs) == 1 else name
        if not any(place in values for values in chains.values()):
            what = f"there is no graph input {place!r} for --input-quant" if name else "--input-quant needs a NAME="
            wrong.append(Problem("graph", "", what, f"graph inputs are {', '.join(inputs)}"))
        chosen[place] = form
    if wrong:
        raise ModelError(graph.name, wrong)
    known = data_types(graph)
    for name, values in chains.items():
        found = _annotated(known[name]) if name in known else None
        if found is not None and not set(values) & set(chosen):
            chosen[name] = found
    for name, form in chosen.items():
        if _insert(graph, name, form):
            remarks.append(f"input {form.remark(name)}")
    return tuple(remarks)


def _insert(graph: onnx.GraphProto, name: str, form: InputForm) -> bool:
    """Whether a node was put behind value `name`; not where there is one of ours."""
    stem = f"{name}.input_quant"
    if any(node.name == stem for node in graph.node):
        return False
    numbers = {"scale": form.scale, "zero": form.zero, "bits": form.bits}
    if form.bipolar:
        numbers = {"scale": form.scale}
    for what, number in numbers.items():
        graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), f"{stem}.{what}"))
    node = helper.make_node("BipolarQuant" if form.bipolar else "Quant", [name, *(f"{stem}.{w}" for w in numbers)],
                            [stem], name=stem, domain=DOMAIN)  # fmt: skip
    if not form.bipolar:
        node.attribute.extend(helper.make_attribute(key, value) for key, value in (
            ("signed", int(form.signed)), ("narrow", int(form.narrow)), ("rounding_mode", "ROUND")))  # fmt: skip
    first = next((n for n, each in enumerate(graph.node) if name in each.input), len(graph.node))
    for each in graph.node:
        each.input[:] = [stem if i == name else i for i in each.input]
    graph.node.insert(first, node)
    return True


def calibrated(
    model: onnx.ModelProto, arrays: Mapping[str, np.ndarray], forms: Mapping[str, InputForm], source: str
) -> dict[str, InputForm]:
    """Forms for the inputs that have none: 8 bits, whose largest number is the largest magnitude in `arrays`.

    Where arithmetic by constants comes first, it is what comes out of it that is quantised. `source`: of the arrays.

    Raises:
        InputDataError: no array for an input that needs one, or one that does not go through that arithmetic.
    """
    graph, found = model.graph, dict(forms)
    known = data_types(graph)
    for name in _free_inputs(graph):
        nodes = _chain(graph, name)
        end = nodes[-1].output[0] if nodes else name
        given = {name, *(node.output[0] for node in nodes), *([""] if len(_free_inputs(graph)) == 1 else [])}
        if given & set(forms) or name in known or _is_quantised(graph, end):
            continue
        if name not in arrays:
            raise InputDataError(f"--calibrate {source}: no array {name!r}; found {', '.join(arrays) or 'nothing'}")
        data = _through(model, nodes, name, np.asarray(arrays[name]), source)
        if not data.size or not np.isfinite(data).all() or not np.any(data):
            raise InputDataError(f"--calibrate {source}: {name!r} must hold finite numbers other than 0")
        signed = bool((data < 0).any())
        largest = np.abs(data).max() / (127 if signed else 255)
        found[end] = InputForm(8, signed, float(np.float32(largest)), source=f"calibrated on {source}")
    return found


def _through(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], name: str, array: np.ndarray, source: str
) -> np.ndarray:
    data = array.astype(np.float32)
    if not nodes:
        return data
    shape = next(v for v in model.graph.input if v.name == name).type.tensor_type.shape.dim
    if data.ndim == len(shape) - 1:
        data = data[None]
    made = [n for n in model.graph.node if n.op_type == "Constant"] + nodes
    graph = helper.make_graph(
        made, "input", [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)], model.graph.initializer,
    )  # fmt: skip
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[
        o for o in model.opset_import if o.domain in ("", "ai.onnx")]))  # fmt: skip
    try:  # one image after the other: a Reshape may have the batch in it
        runs = [evaluator.run(None, {name: data[i:i + 1]}) for i in range(len(data))]
        return np.concatenate([np.asarray(next(iter(made))) for made in runs])
    except Exception as error:  # the library's own errors have no common base
        raise InputDataError(f"--calibrate {source}: {name!r} does not go through the model ({error})") from error
