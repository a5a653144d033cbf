# SPDX-License-Identifier: Apache-2.0
"""What AIE4ML (package `aie4ml`, extra of this name) says of a dense network in our splits, at our places.

It reads the same QDQ file, and is told the splits and the places as directives; its compiler, without AMD's tools,
refuses what does not tile a layer, overlaps, leaves the array, or needs banks, descriptors, DMA channels or switch
ports that there are not. Its inputs lie in the memory of the tile to the west: a layer needs a column to its left that
no other layer has, and the array's first column holds no layer. Places that leave such columns are made by
`nncosim.compiler.aie_ml.placer.placed` with a margin of 1.

What it would run is in the project that it writes: packed weights and bias of each tile, shift, rounding. `outputs`
computes these in numpy, in the order of its kernel's published layout: tiles of k x n weights, row-major, those of the
same k behind each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from nncosim.compiler.aie_ml.mapping import Box
from nncosim.compiler.ir.network import Network

__all__ = ["PART", "Project", "directives", "microtile", "outputs", "planned"]

PART = "xilinx_vek280_base"
"""The board with a VE2802: 38 columns of 8 cores."""
_M, _K = 4, 8
_ARRAY = re.compile(r"\bint\d+_t (\w+)\[\d+\] = \{([^}]*)\}")
_MOST = 127


@dataclass(frozen=True)
class Project:
    """What AIE4ML made: its `plan` (aie_pipeline.json), and constants of each tile by their names in its sources."""

    plan: Mapping[str, Any]
    constants: Mapping[str, np.ndarray]

    @property
    def places(self) -> dict[str, tuple[int, int, int, int]]:
        """Column, row from 0, columns, rows of each layer."""
        return {name.removesuffix("_aie"): (at["col"], at["row"], at["width"], at["height"])
                for name, at in self.plan["physical"]["placements"].items()}  # fmt: skip


def microtile(outputs: int, rows: int) -> int:
    """Columns of its kernel's tile: 8, or 4 where parts of 16 results would leave a chain without any."""
    part = -(-outputs // (16 * rows)) * 16
    return 8 if (rows - 1) * part < outputs else 4


def directives(network: Network, boxes: Sequence[Box], first_row: int = 0) -> dict[str, dict[str, object]]:
    """LayerDirectives of a network of dense layers: ours, with core rows counted from 0."""
    found: dict[str, dict[str, object]] = {}
    for op, box in zip(network.ops, boxes, strict=True):
        wide = microtile(network.tensors[op.output].channels, box.split.rows)
        found[op.name] = {
            "parallelism": {"cas_num": box.split.rows, "cas_length": box.split.cascade, "contract": "inner"},
            "microtiling": {"microtile_m": _M, "microtile_k": _K, "microtile_n": wide},
            "placement": {"col": box.column, "row": box.row - first_row},
        }
    return found


def planned(model: onnx.ModelProto, given: Mapping[str, Mapping[str, object]], folder: Path) -> Project:
    """Run AIE4ML's passes and let it write its project into `folder`.

    Raises:
        aie4ml.errors.ConfigRefused: it cannot be built so, and why.
    """
    from aie4ml import from_onnx

    config = {"Part": PART, "AIEConfig": {"Iterations": 1}, "LayerDirectives": dict(given)}
    from_onnx(model, config, output_dir=folder).write()
    constants = {}
    for path in sorted((folder / "src" / "weights").glob("*.h")):
        for name, values in _ARRAY.findall(path.read_text()):
            constants[name] = np.array([int(each) for each in values.split(",")])
    return Project(json.loads((folder / "aie_pipeline.json").read_text()), constants)


def outputs(project: Project, x: np.ndarray) -> list[np.ndarray]:
    """What its kernels give, layer by layer, int64 (rows, channels). x: integers (rows, features).

    Raises:
        ValueError: another rounding than half to even.
    """
    found, values = [], x.astype(np.int64)
    sizes = {each["name"]: each["metadata"] for each in project.plan["logical"]}
    for layer in project.plan["execution"]:
        name, config = layer["node"], layer["config"]
        if config["rounding_mode"] != "conv_even":
            raise ValueError(f"layer {name!r} rounds {config['rounding_mode']}, not half to even")
        sums = _sums(project, name, config, values)[:, : sizes[name]["n_out"]]
        # float64 holds a sum exactly, and a power of two divides it exactly
        values = np.clip(np.rint(sums / 2.0 ** config["shift"]), -_MOST - 1, _MOST).astype(np.int64)
        values = np.maximum(values, 0) if config["flags"]["use_relu"] else values
        found.append(values)
    return found


def _sums(project: Project, name: str, config: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Of all chains of a layer, side by side."""
    chains, length = config["parallelism"]["cas_num"], config["parallelism"]["cas_length"]
    k, n = config["microtiling"]["microtile_k"], config["microtiling"]["microtile_n"]
    parts = []
    for chain in range(chains):
        bias = project.constants[f"bias_{name}_{chain}"]
        tiles = [project.constants[f"weights_{name}_{chain}_{cas}"] for cas in range(length)]
        weights = np.concatenate([_unpacked(each, k, n, len(bias)) for each in tiles])
        padded = np.zeros((len(x), len(weights)), np.int64)
        padded[:, : x.shape[1]] = x
        parts.append(padded @ weights + bias)
    return np.concatenate(parts, axis=1)


def _unpacked(flat: np.ndarray, k: int, n: int, columns: int) -> np.ndarray:
    """(rows, columns) of a tile's weights."""
    tiles = flat.reshape(-1, columns // n, k, n)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, columns)
