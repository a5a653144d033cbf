# SPDX-License-Identifier: Apache-2.0
"""The network against TensorFlow Lite's own reference kernels, layer by layer, in the way of `qonnx_check`.

These compute in integers: what they give and `QuantFunction.integers` are equal, or the import is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.frontend import import_details, quantise_input
from nncosim.compiler.frontend.prepare import read_head, title_of
from nncosim.compiler.frontend.tflite_file import is_tflite, read_tflite
from nncosim.compiler.frontend.user_arrays import user_array
from nncosim.compiler.ir.network import Network
from nncosim.compiler.proof.qonnx_check import Arrays, ExecutorReport, compare_with_executor, random_images

__all__ = ["LitertExecutor", "compare_with_litert"]


class LitertExecutor:
    """All tensors of a TensorFlow Lite file, by the reference kernels of the package `ai-edge-litert`.

    Args:
        source: the file. network: imported from it.

    Raises:
        ModelError: another kind of file, or the package is not installed.
    """

    def __init__(self, source: Path, network: Network):
        self._network = network
        if not is_tflite(read_head(source)):
            raise _refused(source, "this is no TensorFlow Lite file", "compare with --against onnx or onnxruntime")
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError:
            text = "the package ai-edge-litert, which has the reference kernels, is not installed"
            raise _refused(source, text, "pip install ai-edge-litert") from None
        self._interpreter: Any = Interpreter(
            model_path=str(source), experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )  # fmt: skip
        self._interpreter.allocate_tensors()
        graph = read_tflite(source)
        self._names = {tensor.index: tensor.name for tensor in graph.tensors}
        self._flat = {
            f"{op.name}.flat": op.inputs[0].index for op in graph.operators
            if op.kind == "FULLY_CONNECTED" and op.inputs[0] is not None
        }  # fmt: skip
        self._ends = {tensor.index for tensor in (*graph.inputs, *graph.outputs)}

    def __call__(self, inputs: Mapping[str, np.ndarray], size: int) -> tuple[Arrays, Arrays]:
        """Every tensor by its ONNX value's name, of a batch of `size`; twice the same."""
        images = [self._run({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(size)]
        found = {name: np.concatenate([image[name] for image in images]) for name in images[0]}
        return found, found

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for detail in self._interpreter.get_input_details():
            name = self._names[detail["index"]]
            if name in inputs:
                ints = self._network.tensors[name].to_onnx(quantise_input(self._network, name, inputs[name]))
                given = user_array(self._network, name, ints).reshape(detail["shape"])
                self._interpreter.set_tensor(detail["index"], given.astype(detail["dtype"]))
        self._interpreter.invoke()
        found: dict[str, np.ndarray] = {}
        for detail in self._interpreter.get_tensor_details():
            if detail["index"] in self._names and len(detail["shape"]) > 1:
                self._note(found, detail["index"], self._interpreter.get_tensor(detail["index"]))
        for name, index in self._flat.items():
            array = self._interpreter.get_tensor(index)
            found[name] = array.reshape(1, -1)
        return found

    def _note(self, found: dict[str, np.ndarray], index: int, array: np.ndarray) -> None:
        """A map is (N, C, H, W) in the ONNX graph, but at its ends."""
        name = self._names[index]
        found[name] = array
        if array.ndim == 4:
            turned = array.transpose(0, 3, 1, 2)
            found[f"{name}.nchw" if index in self._ends else name] = turned
        for suffix in (".real", ".largest", ".whole"):  # the same integers, before what reads them as reals
            found[f"{name}{suffix}"] = found[f"{name}.nchw"] if f"{name}.nchw" in found else found[name]


def _refused(source: Path, text: str, remedy: str) -> ModelError:
    return ModelError(title_of(source), [Problem("", "", text, remedy)])


def compare_with_litert(
    source: Path, network: Network, images: int | list[dict[str, np.ndarray]] = 10, seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ExecutorReport:
    """Compare a proved network with the file it was imported from; see `compare_with_qonnx`.

    Raises:
        ModelError: as `LitertExecutor`.
    """
    details = import_details(source, name=network.name, keep_batch=network.keeps_batch)
    data = random_images(network, images, seed) if isinstance(images, int) else images
    report = ExecutorReport("litert", len(data), seed, integers=True)
    return compare_with_executor(details, network, data, report, LitertExecutor(source, network), progress)
