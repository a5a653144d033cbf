# SPDX-License-Identifier: Apache-2.0
"""What the corpus tests hold an import against: the model as it was written, run by qonnx's executor."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import dequantise_output, import_model, quantise_inputs
from nncosim.compiler.frontend.forms import InputForm
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.proof.requantization import prove
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes


def refused(model: onnx.ModelProto, *patterns: str, **arguments: object) -> str:
    """The message of an import that must fail, in which each pattern must be found."""
    with pytest.raises(ModelError) as caught:
        import_model(model, **arguments)
    text = str(caught.value)
    for pattern in patterns:
        assert re.search(pattern, text), (pattern, text)
    return text


def imported(model: onnx.ModelProto, forms: Mapping[str, InputForm] | None = None) -> Network:
    """Imported, and proved exact in every layer."""
    network = prove(import_model(model, forms=forms), RequantCaps(tables=True))
    assert all(op.proof is None or op.proof.exact for op in network.ops)
    return network


def executor(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Graph outputs of the model, untouched but for inferred shapes, by qonnx's executor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return execute_onnx(ModelWrapper(model).transform(InferShapes()), dict(inputs))


def outputs(network: Network, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Graph outputs of the network as a user gets them, from arrays as a user gives them."""
    values = evaluate(network, quantise_inputs(network, inputs))
    return {name: dequantise_output(network, name, values[name]) for name in network.outputs}


def same(model: onnx.ModelProto, network: Network, inputs: Mapping[str, np.ndarray], least: int = 9) -> None:
    """The network's outputs are the executor's, which take `least` values, or a third of all elements, at least.

    A value that lies on a rounding threshold within float32's error may be a step off: at most 1 in 200.
    """
    right, found = executor(model, inputs), outputs(network, inputs)
    for name, ours in found.items():
        theirs, step = right[name], float(max(network.tensors[name].type.scale))
        assert ours.shape == theirs.shape
        assert len(np.unique(theirs)) >= min(least, 1 + theirs.size // 3)
        off = np.abs(ours - theirs)
        assert (off > step * 1.01).sum() == 0 and (off > step * 0.01).mean() <= 1 / 200, (name, off.max())


def bytes_image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Whole numbers of 0..255 as float32: what a camera gives."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def annotate(model: onnx.ModelProto, **kinds: str) -> onnx.ModelProto:
    """The model with qonnx's data types on tensors."""
    for name, kind in kinds.items():
        entry = onnx.StringStringEntryProto(key="finn_datatype", value=kind)
        model.graph.quantization_annotation.append(
            onnx.TensorAnnotation(tensor_name=name, quant_parameter_tensor_names=[entry])
        )
    return model
