# SPDX-License-Identifier: Apache-2.0
"""What quantisation costs: ranges, what is clipped, and signal-to-noise ratios, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from nncosim.compiler.quantize.graph import FloatGraph
from nncosim.compiler.quantize.points import Plan
from nncosim.compiler.quantize.scales import Scales
from nncosim.compiler.quantize.simulate import ALONE, isolated, simulated
from nncosim.compiler.quantize.statistics import Runner, Statistics

__all__ = ["LayerCost", "Sensitivity", "layer_costs", "sensitivities", "snr_db"]

Arrays = Mapping[str, npt.NDArray[np.float32]]
Images = Callable[[], Iterable[Arrays]]


def snr_db(signal: float, noise: float) -> float:
    """In dB, of a sum of squares and that of the differences; infinite where nothing differs."""
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else np.inf if noise == 0 else -np.inf


@dataclass(frozen=True)
class LayerCost:
    """Of one point.

    Attributes:
        layer: the node's name, or the graph input's. op: its ONNX operator, "input".
        weight_bits: 0 where there are no weights.
        low, high: what the integers cover, in the network's own numbers; where equalisation changed them, in those.
        seen: least and greatest value in calibration, likewise.
        clipped: share of the calibration's values outside of low..high.
        alone_db: signal to noise, if only this layer were quantised (weights and result). network_db: with all before.
        equalized: the largest factor by which a channel was changed, 1 for none.
    """

    layer: str
    op: str
    weight_bits: int
    low: float
    high: float
    seen: tuple[float, float]
    clipped: float
    alone_db: float
    network_db: float
    equalized: float = 1.0


@dataclass
class _Noise:
    signal: float = 0.0
    noise: float = 0.0

    def see(self, want: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> None:
        self.signal += float(np.square(want, dtype=np.float64).sum())
        self.noise += float(np.square(want.astype(np.float64) - got).sum())

    @property
    def db(self) -> float:
        return snr_db(self.signal, self.noise)


def layer_costs(
    graph: FloatGraph, plan: Plan, scales: Scales, seen: Mapping[str, Statistics], images: Images,
    changed: tuple[Mapping[str, float], Mapping[str, float]], say: Callable[[str], None],
) -> list[LayerCost]:
    """A row a point, in the graph's order.

    Args:
        changed: what the values in `graph` are more than the network's own: by layer, the largest factor of a channel
            that equalisation brought; by point, the factor of its scaling.
    """
    equalized, factors = changed
    names = list(plan.points)
    inner = [name for name in names if plan.points[name].node]
    both = Runner(isolated(graph, plan, scales), [*names, *(ALONE + name for name in names)])
    whole = Runner(simulated(graph, plan, scales), inner)
    alone, network = {name: _Noise() for name in names}, {name: _Noise() for name in names}
    for number, image in enumerate(images(), 1):
        say(f"measuring: image {number}")
        values, rounded = both(image), whole(image)
        for name in names:
            alone[name].see(values[name], values[ALONE + name])
            network[name].see(values[name], rounded[name] if name in rounded else values[ALONE + name])
    rows = []
    ops = {node.name: node.op_type for node in graph.nodes}
    for name, point in plan.points.items():
        factor = factors.get(name, 1.0)
        low, high = (end / factor for end in scales.points[name].range)
        layer = plan.layer_of(point)
        rows.append(LayerCost(
            point.node or name, ops.get(point.node, "input"), scales.layers[layer.name].bits if layer else 0,
            low, high, (seen[name].low / factor, seen[name].high / factor),
            seen[name].outside(low * factor, high * factor), alone[name].db,
            network[name].db, equalized.get(point.node, 1.0),
        ))  # fmt: skip
    return rows


@dataclass(frozen=True)
class Sensitivity:
    """What the graph's outputs lose if one layer alone is quantised. `outputs`: per image, the first output."""

    layer: str
    output_db: float
    right: int | None


def _outputs(model: onnx.ModelProto, names: Sequence[str], images: Images) -> list[dict[str, npt.NDArray[np.float32]]]:
    runner = Runner(model, names)
    return [runner(image) for image in images()]


def sensitivities(
    graph: FloatGraph, plan: Plan, scales: Scales, images: Images, labels: npt.NDArray[np.int64] | None,
    say: Callable[[str], None],
) -> list[Sensitivity]:
    """Each layer by itself, the one that costs most first."""
    names = graph.outputs
    want = _outputs(graph.proto(), names, images)
    found = []
    for point in plan.points.values():
        say(f"sensitivity of {point.node or point.value}")
        model = simulated(graph, plan, scales, {point.value}, {point.node})
        got = _outputs(model, names, images)
        noise = _Noise()
        for a, b in zip(want, got, strict=True):
            for name in names:
                noise.see(a[name], b[name])
        right = None
        if labels is not None:
            right = sum(int(np.argmax(b[names[0]]) == label) for b, label in zip(got, labels, strict=True))
        found.append(Sensitivity(point.node or point.value, noise.db, right))
    return sorted(found, key=lambda row: row.output_db)
