# SPDX-License-Identifier: Apache-2.0
"""Between a user's arrays in ONNX layout and the network's integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.frontend.quant import quantise_float32, quantise_linear_float32
from nncosim.compiler.ir.host import apply_steps, arrange, shapes_of, undo_steps
from nncosim.compiler.ir.network import Network, Tensor
from nncosim.platforms.rounding import Rounding

__all__ = ["dequantise_output", "in_onnx_layout", "quantise_input", "quantise_inputs", "raw_outputs", "user_array"]


def raw_outputs(network: Network) -> tuple[str, ...]:
    """Graph outputs that have no Quant: 32-bit tensors of raw accumulators.

    A platform that writes narrow data only refuses them ("add an output Quant after ..."), by their width.
    """
    raw = []
    for op in network.ops:
        function = op.function
        if op.output not in network.outputs or function is None or len(function.ratios) != 1:
            continue
        if network.tensors[op.output].type.bits == 32 and not any(function.offset) and set(function.ratios[0]) == {1}:
            raw.append(op.output)
    return tuple(raw)


def _fitted(network: Network, tensor: Tensor, array: np.ndarray) -> np.ndarray:
    wanted = network.onnx_shapes[tensor.name]
    allowed = {wanted, wanted[1:] if wanted[0] == 1 else wanted}
    if not tensor.onnx_axes and tensor.name not in network.input_steps:
        allowed.add(tensor.shape)
    if array.shape not in allowed:
        raise InputDataError(f"input {tensor.name!r}: expected shape {wanted}, got {array.shape}")
    return array.reshape(wanted)


def quantise_inputs(network: Network, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A user's arrays, one for each graph input, by `quantise_input`."""
    return {name: quantise_input(network, name, arrays[name]) for name in network.inputs}


def quantise_input(network: Network, name: str, array: np.ndarray) -> np.ndarray:
    """A user's array as the integers of graph input `name`.

    Args:
        array: float in ONNX layout (the batch of 1 may be left out), or already integer. Floats are quantised in
            float32, step for step as the qonnx package does, or ONNX's QuantizeLinear; integers are taken as they are.

    Returns:
        int64, of the tensor's shape.

    Raises:
        InputDataError: unknown name, wrong shape, type or range.
    """
    if name not in network.inputs:
        raise InputDataError(f"there is no graph input {name!r}; inputs are {', '.join(network.inputs)}")
    tensor = network.tensors[name]
    kind, steps = tensor.type, network.input_steps.get(name, ())
    values = _fitted(network, tensor, np.asarray(array))
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if low < kind.lo or high > kind.hi:
            raise InputDataError(f"input {name!r}: integers must be {kind.lo}..{kind.hi}, got {low}..{high}")
        if any(step.op == "Sign" for step in steps) and not values.all():
            raise InputDataError(f"input {name!r}: integers must be +1 or -1")
        return tensor.from_onnx(arrange(values, steps).astype(np.int64))
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise InputDataError(f"input {name!r}: expected finite floats or integers, got {values.dtype}")
    if steps:
        values = apply_steps(values, steps)
    values, scale = tensor.from_onnx(values), tensor.per_channel(kind.scale)
    if name in network.linear_inputs:
        return quantise_linear_float32(values, scale, kind.zero_point, kind.lo, kind.hi)
    rounding = network.input_rounding.get(name, Rounding.HALF_EVEN)
    return quantise_float32(values, scale, kind.zero_point, kind.lo, kind.hi, rounding)


def user_array(network: Network, name: str, data: np.ndarray) -> np.ndarray:
    """What a user's array has to be for the host to make `data`, in the tensor's ONNX layout, of input `name`."""
    steps, shape = network.input_steps.get(name, ()), network.onnx_shapes[name]
    return (undo_steps(data.reshape(shapes_of(shape, steps)[-1]), steps, shape) if steps else data).reshape(shape)


def dequantise_output(network: Network, name: str, values: np.ndarray) -> np.ndarray:
    """Integers of tensor `name` as float32 in ONNX layout: (q - zero_point) * scale + offset."""
    tensor = network.tensors[name]
    kind = tensor.type
    scales = tensor.per_channel(kind.scale)
    steps = values.reshape(tensor.shape).astype(np.float64) - kind.zero_point
    if not kind.offset:  # float32 as qonnx multiplies it
        return in_onnx_layout(network, name, steps.astype(np.float32) * scales.astype(np.float32))
    return in_onnx_layout(network, name, (steps * scales + tensor.per_channel(kind.offset)).astype(np.float32))


def in_onnx_layout(network: Network, name: str, values: np.ndarray) -> np.ndarray:
    """Values of tensor `name`, of any type, in the shape and order that the ONNX graph has them."""
    plain = network.tensors[name].to_onnx(values)
    return arrange(plain, network.output_steps.get(name, ())).reshape(network.onnx_shapes.get(name, (1, *plain.shape)))
