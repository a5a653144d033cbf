# SPDX-License-Identifier: Apache-2.0
"""What goes into a run: arrays from an .npz file, or seeded random integers; and what comes out of it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.frontend import dequantise_output, in_onnx_layout, quantise_input
from nncosim.compiler.ir.network import Network
from nncosim.platforms.errors import NncosimError
from nncosim.tb.system.npz import NpzError, npz_bytes, read_arrays

__all__ = ["InputError", "batch_size", "frames", "images_of", "outputs_npz", "random_frames", "read_npz"]


class InputError(NncosimError):
    """Input data that does not fit the model, or is no data at all."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    Raises:
        InputError: no such file, no .npz file, arrays of Python objects, or arrays too large to read.
    """
    try:
        return read_arrays(path)
    except NpzError as error:
        reason = str(error)
        if str(path) in reason:
            raise InputError(reason) from error
        raise InputError(
            f"{path} is not an .npz file that can be read ({reason}); write it with numpy.savez(path, NAME=array of "
            "numbers)"
        ) from error


def _named(network: Network, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    missing = [name for name in network.inputs if name not in arrays]
    if missing:
        near = difflib.get_close_matches(missing[0], arrays, n=1)
        hint = f"; rename {near[0]!r}?" if near else ""
        raise InputError(
            f"{source}: no array {missing[0]!r}; expected one per graph input "
            f"({', '.join(network.inputs)}), found {', '.join(arrays) or 'nothing'}{hint}"
        )
    return {name: np.asarray(arrays[name]) for name in network.inputs}


def batch_size(network: Network, arrays: Mapping[str, np.ndarray], source: str) -> int:
    """How many inferences the arrays are for.

    An array has the graph input's shape with any number in place of the batch, or that shape without its batch
    (one inference). Where the network keeps the graph's batch, each inference takes so many images.

    Raises:
        InputError: an array is missing, has another shape, or is no array of numbers; or the batches differ.
    """
    sizes = {}
    for name, array in _named(network, arrays, source).items():
        shape = tuple(network.onnx_shapes[name])
        if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
            raise InputError(f"{source}: array {name!r} holds {array.dtype}; expected floats or integers")
        images = len(array) if array.ndim == len(shape) and array.shape[1:] == shape[1:] else 0
        if array.shape == shape[1:] and shape[0] == 1:
            sizes[name] = 1
        elif images and images % shape[0] == 0:
            sizes[name] = images // shape[0]
        else:
            more = "N" if shape[0] == 1 else f"a multiple of {shape[0]}"
            raise InputError(
                f"{source}: array {name!r} has shape {array.shape}; expected {shape} "
                f"(or {more} in place of {shape[0]} for {'N' if shape[0] == 1 else 'more'} images)"
            )
    if len(set(sizes.values())) > 1:
        raise InputError(f"{source}: arrays for different numbers of images: {sizes}")
    return next(iter(sizes.values()))


def frames(
    network: Network, arrays: Mapping[str, np.ndarray], indices: Sequence[int], source: str
) -> list[dict[str, np.ndarray]]:
    """One inference per index: each graph input by name as int64, of its tensor's shape.

    Float arrays go through the graph's own first Quant; integer arrays are taken as quantised already.

    Raises:
        InputError: as `batch_size`; or no image of that index.
        NncosimError: values that no input integer stands for.
    """
    count = batch_size(network, arrays, source)
    named = _named(network, arrays, source)
    out = []
    for index in indices:
        if not 0 <= index < count:
            raise InputError(f"{source}: there is no image {index}; it has {count}, numbered from 0")
        frame = {}
        for name, array in named.items():
            one = images_of(network, name, array, index)
            if np.issubdtype(one.dtype, np.floating) and not np.isfinite(one).all():
                raise InputError(f"{source}: array {name!r} has values that are not finite (image {index})")
            try:
                frame[name] = quantise_input(network, name, one)
            except InputDataError as error:
                raise InputError(f"{source}: {error} (image {index})") from error
        out.append(frame)
    return out


def images_of(network: Network, name: str, array: np.ndarray, index: int) -> np.ndarray:
    """What inference `index` takes of graph input `name`'s array, in the shape of the graph input."""
    shape = network.onnx_shapes[name]
    return (array if array.shape == shape[1:] else array[index * shape[0] : (index + 1) * shape[0]]).reshape(shape)


def random_frames(network: Network, seed: int, count: int = 1) -> list[dict[str, np.ndarray]]:
    """`count` inferences of integers drawn evenly from the range of each graph input, int64."""
    generator = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        frame = {}
        for name in network.inputs:
            tensor = network.tensors[name]
            drawn = generator.integers(tensor.type.lo, tensor.type.hi, tensor.elements, np.int64, endpoint=True)
            signs = any(step.op == "Sign" for step in network.input_steps.get(name, ()))
            drawn = np.where(drawn >= 0, 1, -1) if signs else drawn
            frame[name] = tensor.from_onnx(drawn)  # the same of a seed on every platform
        out.append(frame)
    return out


def outputs_npz(network: Network, results: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """The contents of outputs.npz: each graph output in ONNX layout, `NAME` integers and `NAME__float`.

    Several inferences are stacked on the batch axis. An output that some inference did not write is left out. Where an
    output is itself called `NAME__float`, the floats of NAME are in `NAME__float_`.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in network.outputs:
        if not results or any(name not in result for result in results):
            continue
        whole = [np.asarray(result[name]).astype(np.int64) for result in results]
        arrays[name] = np.concatenate([in_onnx_layout(network, name, ints) for ints in whole])
        floats = [dequantise_output(network, name, ints) for ints in whole]
        arrays[_floats_of(name, network.outputs)] = np.concatenate(floats)
    return npz_bytes(arrays)


def _floats_of(name: str, outputs: Sequence[str]) -> str:
    """What the floats of an output are called."""
    floats = f"{name}__float"
    while floats in outputs:
        floats += "_"
    return floats
