# SPDX-License-Identifier: Apache-2.0
"""What every shipped and published network is held against on the RTL, held itself against its ONNX graph.

The expected values of all other regressions come from the importer and the requantization proof, as the programs do.
Here a second evaluation of the graph, which shares no code with either (`nncosim.tb.reference.onnx_reference`), judges
each layer on inputs of its own. `tests/test_onnx_reference.py` shows which errors of an importer it finds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nncosim.compiler.backends import backend_for
from nncosim.compiler.compile import PASSES
from nncosim.compiler.frontend import import_details
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Conv
from nncosim.compiler.pipeline import State, run_passes
from nncosim.compiler.proof.qonnx_check import random_images
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress import zoo
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import Decided, OnnxReference, Value

SHIPPED = sorted(path for path in (Path(__file__).parent / "networks").glob("*.onnx")
                 if not path.stem.startswith("float_")  # those are to be quantised first
                 and path.stem != "dense")  # AIE-ML's
NAMES = [*(path.stem for path in SHIPPED), *zoo.NETWORKS]
SEEDS = (1, 2)


def network(name: str) -> tuple[Path, Network, dict[str, tuple[str, int]]]:
    """The file, the network as the compiler's passes leave it for J3DAI, and what its tensors stand for."""
    path = next((p for p in SHIPPED if p.stem == name), None) or zoo.model_path(name)
    details = import_details(path)
    proved = [step.name for step in PASSES].index("prove") + 1
    state = run_passes(PASSES[:proved], State(details.network, PLATFORM, backend_for(PLATFORM)))
    return path, state.network, dict(details.onnx_names)


def images(name: str, path: Path, net: Network) -> list[dict[str, np.ndarray]]:
    """Real images where there are some, else at least two seeds' of others."""
    data = path.with_name(f"{name}_test.npz")
    if data.is_file():
        with np.load(data) as arrays:
            return [{i: arrays[i][n : n + 1] for i in net.inputs} for n in range(0, len(arrays["labels"]), 9)]
    if name in zoo.NETWORKS:
        return [zoo.sample_inputs(name, seed) for seed in SEEDS]
    return [image for seed in SEEDS for image in random_images(net, 2, seed)]


class First(OnnxReference):
    """A reference that remembers the first image it is given, and answers with that for ever when told to."""

    first: tuple[dict[str, Value], dict[str, Decided]] | None = None
    again = False

    def run(self, inputs):
        if self.again and self.first:
            values, self.decided = self.first
            return values
        values = super().run(inputs)
        self.first = self.first or (values, self.decided)
        return values


def disorder(net: Network) -> tuple[str, Network]:
    """A depthwise layer in the middle with its channels in another order, as an importer could leave it."""
    found = [op for op in net.ops if isinstance(op, Conv) and op.groups > 1]
    middle = found[len(found) // 2]
    wrong = replace(middle, weights=middle.weights[::-1].copy())
    return middle.name, net.with_ops(tuple(wrong if op is middle else op for op in net.ops))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_what_the_graph_says(name):
    """And one wrong layer is named."""
    path, net, names = network(name)
    data, reference = images(name, path, net), First(path)
    report = compare_with_reference(reference, net, names, data)
    print(
        f"{name}: {report.total('wrong')} of {report.total('values'):,} values differ, {report.total('rational')} "
        f"decided by rationals, {report.total('tipped')} of them against float64; {report.total('inexact')} by inexact "
        f"requantization; from the image to the end {report.output_differences} of {report.outputs:,}"
    )
    assert report.ok and report.faulty == []
    assert report.total("undecided") == 0
    whole = sum(net.tensors[op.output].elements for op in net.ops)
    assert report.total("values") == len(data) * whole, "a tensor was not compared"
    assert report.outputs == len(data) * sum(net.tensors[o].elements for o in net.outputs)
    if all(op.proof.exact for op in net.ops if op.proof):
        assert report.total("inexact") == report.output_differences == 0

    reference.again = True
    layer, wrong = disorder(net)
    report = compare_with_reference(reference, wrong, names, data[:1])
    assert report.faulty == [layer] and not report.ok and report.output_differences > 0
