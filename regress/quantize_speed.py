# SPDX-License-Identifier: Apache-2.0
"""What quantising a whole network costs: CPU seconds of this process, and the most memory that it held.

    python -m nncosim.regress.quantize_speed [NETWORK] [--images 32]

NETWORK: one of `nncosim.regress.zoo` [default: mobilenet_v1, at 256 x 192], whose weights are taken as floats: its
Quant nodes are left out. Images are the zoo's own.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import onnx
from nncosim.compiler.quantize import QuantizeOptions, quantize
from nncosim.regress.zoo import build, sample_inputs

__all__ = ["float_network", "main"]


def float_network(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QONNX model without its Quants: what stood before each goes where its result went."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph = plain.graph
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Quant"}

    def before(name: str) -> str:
        while name in source:
            name = source[name]
        return name

    kept = [node for node in graph.node if node.op_type != "Quant"]
    names = {before(value.name): value.name for value in graph.output}
    for node in kept:
        node.input[:] = [before(name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
    return plain


def main(network: str = "mobilenet_v1", images: int = 32) -> None:
    """Quantise and print."""
    model = float_network(build(network))
    arrays = [sample_inputs(network, seed) for seed in range(images)]
    data = {name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]}
    begin = time.process_time()
    result = quantize(model, data, QuantizeOptions())
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = f"{len(result.plan.layers)} layers, {images} images"
    print(f"{network}, {size}: {seconds:.1f} s of CPU, {peak:,.0f} MB at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("network", nargs="?", default="mobilenet_v1")
    parser.add_argument("--images", type=int, default=32)
    main(**vars(parser.parse_args()))
