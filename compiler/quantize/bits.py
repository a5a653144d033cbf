# SPDX-License-Identifier: Apache-2.0
"""Which layers can do with fewer bits: the budget is spent where it saves the outputs the most noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.quantize.graph import FloatGraph
from nncosim.compiler.quantize.options import QuantizeOptions
from nncosim.compiler.quantize.points import Plan
from nncosim.compiler.quantize.scales import choose_scales, weight_scale
from nncosim.compiler.quantize.simulate import simulated
from nncosim.compiler.quantize.statistics import Runner, Statistics

__all__ = ["WIDTHS", "spend"]

WIDTHS = (8, 4, 2)
"""Of weights, on the machines that mix them."""

Arrays = Mapping[str, npt.NDArray[np.float32]]


def spend(
    graph: FloatGraph, plan: Plan, seen: Mapping[str, Statistics], images: Callable[[], Iterable[Arrays]],
    options: QuantizeOptions, average: float, say: Callable[[str], None],
) -> dict[str, int]:
    """Bits of each layer's weights, `average` over all weights at most.

    Noise is that of the graph's outputs with one layer's weights quantised, as if layers added up. Steps to the next
    width are taken in the order of noise added per bit saved.

    Raises:
        InputDataError: less than the narrowest width.
    """
    if average < WIDTHS[-1]:
        fewest = WIDTHS[-1]
        raise InputDataError(f"an average of {average:g} bits is asked for; the fewest bits of a weight are {fewest}")
    noise = _noise(graph, plan, seen, images, options, say)
    sizes = {name: graph.constants[layer.weights].size for name, layer in plan.layers.items()}
    bits = dict.fromkeys(plan.layers, WIDTHS[0])
    budget = average * sum(sizes.values())
    while _spent(bits, sizes) > budget:
        steps = []
        for name, width in bits.items():
            for narrower in WIDTHS[WIDTHS.index(width) + 1 :]:
                saved = (width - narrower) * sizes[name]
                steps.append(((noise[name, narrower] - noise[name, width]) / saved, name, narrower))
        _, name, narrower = min(steps)
        bits[name] = narrower
    # The last step may have saved more than it had to.
    for _, name, wider in sorted((-noise[name, bits[name]], name, wider) for name in bits for wider in WIDTHS):
        if wider > bits[name] and _spent({**bits, name: wider}, sizes) <= budget:
            bits[name] = wider
    return bits


def _spent(bits: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    return sum(bits[name] * size for name, size in sizes.items())


def _noise(
    graph: FloatGraph, plan: Plan, seen: Mapping[str, Statistics], images: Callable[[], Iterable[Arrays]],
    options: QuantizeOptions, say: Callable[[str], None],
) -> dict[tuple[str, int], float]:
    """(layer, bits) to the mean squared error of the outputs."""
    scales, names = choose_scales(graph, plan, seen, options), graph.outputs
    plain = Runner(graph.proto(), names)
    want = [plain(image) for image in images()]
    found = {}
    for name, layer in plan.layers.items():
        result = scales.points[plan.result_of(layer).value]
        for width in WIDTHS:
            say(f"bits: {name} at {width}")
            narrow = replace(options, layer_bits={name: width})
            changed = scales.with_layer(name, weight_scale(graph, layer, narrow, result))
            runner = Runner(simulated(graph, plan, changed, (), {name}), names)
            found[name, width] = float(np.mean([
                np.square(runner(image)[out].astype(np.float64) - values[out]).mean()
                for image, values in zip(images(), want, strict=True) for out in names
            ]))  # fmt: skip
    return found
