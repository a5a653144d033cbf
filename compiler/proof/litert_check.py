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
from nncosim.compiler.frontend.prepare import is_tflite, title_of
from nncosim.compiler.frontend.tflite_graph import Place
from nncosim.compiler.frontend.tflite_reader import translate
from nncosim.compiler.frontend.user_arrays import user_array
from nncosim.compiler.ir.network import Network
from nncosim.compiler.proof.qonnx_check import Arrays, ExecutorReport, compare_with_executor, random_images

__all__ = ["LitertExecutor", "compare_with_litert"]


class LitertExecutor:
    """All tensors of a TensorFlow Lite file, by the reference kernels of the package `ai-edge-litert`.

    Args:
        source: the file. network: imported from it.

    Raises:
        ModelError: another kind of file, one that the kernels refuse, or the package is not installed.
    """

    def __init__(self, source: Path, network: Network):
        self._source, self._network = source, network
        if not is_tflite(source):
            raise self._refused("this is no TensorFlow Lite file", "compare with --against onnx or onnxruntime")
        self._known = translate(source)
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError:
            text = "the package ai-edge-litert, which has the reference kernels, is not installed"
            raise self._refused(text, "pip install ai-edge-litert") from None
        try:
            self._interpreter: Any = Interpreter(
                model_path=str(source), experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )  # fmt: skip
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise self._refused(f"the reference kernels do not take it: {str(error).strip().splitlines()[0]}") from None
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}

    def _refused(self, text: str, remedy: str = "") -> ModelError:
        return ModelError(title_of(self._source), [Problem("", "", text, remedy)])

    def __call__(self, inputs: Mapping[str, np.ndarray], size: int) -> tuple[Arrays, Arrays]:
        """Every tensor by its ONNX value's name, of `size` inferences; twice the same."""
        first = self._known.inputs[self._network.inputs[0]]
        batch = int(self._details[first.index]["shape"][0])  # what the file does at once
        parts = []
        for begin in range(0, size, batch):
            rows = np.arange(begin, begin + batch) % size  # the last ones filled up
            found = self._run({name: array[rows] for name, array in inputs.items()})
            parts.append({name: array[: size - begin] for name, array in found.items()})
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return found, found

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in inputs.items():
            tensor, kind = self._known.inputs[name], self._network.tensors[name].type
            images = [quantise_input(self._network, name, array[i : i + 1]) for i in range(len(array))]
            plain = [user_array(self._network, name, self._network.tensors[name].to_onnx(q)) for q in images]
            ints = np.concatenate(plain).reshape(self._details[tensor.index]["shape"])
            if tensor.dtype == "int8":
                given = ints.astype(np.int8)
            elif tensor.dtype == "uint8":
                given = (ints + 128).astype(np.uint8)
            else:  # its QUANTIZE makes these integers of them again
                given = ((ints - kind.zero_point) * float(kind.scale[0])).astype(np.float32)
            self._interpreter.set_tensor(tensor.index, given)
        self._interpreter.invoke()
        return {value: self._placed(place) for value, place in self._known.places.items()}

    def _placed(self, place: Place) -> np.ndarray:
        array = self._interpreter.get_tensor(place.tensor)
        if place.flat:
            return array.reshape(len(array), -1)
        return array.transpose(0, 3, 1, 2) if place.maps else array


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
