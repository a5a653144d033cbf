# SPDX-License-Identifier: Apache-2.0
"""A border of zeros before convolutions, as a node of its own: it becomes their padding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["fold_pads"]


def fold_pads(graph: onnx.GraphProto) -> None:
    """Give the rows and columns of zeros that a Pad adds to the Convs that read it, where it is read by these alone.

    Constants are initializers. What does not fit stays, and is refused by whoever meets it.
    """
    constants = {t.name: t for t in graph.initializer}
    outputs = {value.name for value in graph.output}
    for node in [n for n in graph.node if n.op_type == "Pad" and n.domain in ("", "ai.onnx")]:
        border = _border(node, constants)
        readers = [other for other in graph.node if node.output[0] in other.input]
        if border is None or not readers or node.output[0] in outputs:
            continue
        if not all(_takes(reader, node.output[0]) for reader in readers):
            continue
        for reader in readers:
            own = next((a for a in reader.attribute if a.name == "pads"), None)
            if own is None:
                own = reader.attribute.add()
                own.CopyFrom(onnx.helper.make_attribute("pads", [0, 0, 0, 0]))
            own.ints[:] = [int(a + b) for a, b in zip(own.ints, border, strict=True)]
            reader.input[0] = node.input[0]
        graph.node.remove(node)


def _takes(reader: onnx.NodeProto, value: str) -> bool:
    """A 2-D Conv of it, with padding of its own that is said in numbers."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in reader.attribute}
    return (
        reader.op_type == "Conv" and reader.domain in ("", "ai.onnx") and list(reader.input).count(value) == 1
        and reader.input[0] == value and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        and len(attributes.get("pads", [0] * 4)) == 4
    )  # fmt: skip


def _border(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> list[int] | None:
    """(top, left, bottom, right) of a Pad of maps with zeros; None: it is something else."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("mode", b"constant") != b"constant" or (len(node.input) > 3 and node.input[3]):
        return None
    amounts, value = attributes.get("pads"), attributes.get("value", 0.0)  # up to opset 10
    if len(node.input) > 1:
        if node.input[1] not in constants:
            return None
        amounts = numpy_helper.to_array(constants[node.input[1]]).tolist()
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] not in constants:
            return None
        value = np.asarray(numpy_helper.to_array(constants[node.input[2]])).item()
    if amounts is None or len(amounts) != 8 or value != 0 or min(amounts) < 0 or any(amounts[i] for i in (0, 1, 4, 5)):
        return None
    return [int(amounts[i]) for i in (2, 3, 6, 7)]
