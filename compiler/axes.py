# SPDX-License-Identifier: Apache-2.0
"""A network in the axes that its platform takes: on one of maps alone, tokens are the pixels of a map of one row.

A tensor of tokens (..., T, C) becomes a map (..., C, 1, T), and each operator what it is there: the product of each
token's channels with weights is a 1 x 1 convolution, a concatenation goes along the map's channels, what is computed
element by element stays as it is. Such a tensor still says in which order the ONNX graph has it (`Tensor.onnx_axes`):
a user's arrays, and all that names an element to the user, keep that order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nncosim.compiler.errors import ModelError, Problem
from nncosim.compiler.ir.network import MAP, Network, Op, Tensor
from nncosim.platforms.base import Platform

__all__ = ["in_axes_of"]


def in_axes_of(platform: Platform, network: Network) -> Network:
    """The network with every tensor in axes that the platform takes; as it is where it has no others.

    Raises:
        ModelError: operators that have no form over pixels, or tensors that cannot be brought into such axes.
    """
    pixels = dict(_pixels(platform, network))
    ops, found = [], []
    for op in network.ops:
        tokens = next((name for name in (*op.inputs, op.output) if name in pixels), None)
        moved = op if tokens is None else op.on_pixels()
        if moved is None:
            found.append(_no_form(op, network.tensors[str(tokens)], platform))
        else:
            ops.append(moved)
    out = replace(network, tensors={**network.tensors, **pixels}, ops=tuple(ops)) if pixels else network
    found.extend(_problems(out, platform))
    if found:
        raise ModelError(network.name, found)
    return out


def _pixels(platform: Platform, network: Network) -> Iterator[tuple[str, Tensor]]:
    """The tensors of tokens that the platform does not take as they are, but as maps."""
    for name, tensor in network.tensors.items():
        if tensor.axes in platform.tensor_axes or "T" not in tensor.axes:
            continue
        sizes = tensor.extents
        batch = tuple(axis for axis in tensor.axes if axis == "N")
        axes = (*batch, *MAP)
        if axes in platform.tensor_axes:
            extents: Mapping[str, int] = {**sizes, "H": 1, "W": sizes["T"]}
            order = tuple("W" if axis == "T" else axis for axis in tensor.axes)
            shape = tuple(extents[axis] for axis in axes)
            yield name, replace(tensor, shape=shape, axes=axes, onnx_axes=order)


def _taken(platform: Platform) -> str:
    return " or ".join(f"({', '.join(axes)})" for axes in platform.tensor_axes)


def _no_form(op: Op, tensor: Tensor, platform: Platform) -> Problem:
    text = f"works on tokens, {tensor}, which platform {platform.name} takes as pixels of maps {_taken(platform)} only"
    return Problem(op.name, op.title, f"{text}, and the operator has no form over pixels",
                   "leave it out, or compute it on the host")


def _problems(network: Network, platform: Platform) -> Iterator[Problem]:
    """Tensors of other axes than the platform takes, each at the first operator that has to do with it."""
    seen: set[str] = set()
    for op in network.ops:
        for tensor in (*network.op_inputs(op), network.tensors[op.output]):
            if tensor.axes not in platform.tensor_axes and tensor.name not in seen:
                text = f"tensor {tensor} has axes that platform {platform.name} does not take; it takes"
                yield Problem(op.name, op.title, f"{text} {_taken(platform)}",
                              "reshape the activations to maps, with a height of 1")
            seen.add(tensor.name)
