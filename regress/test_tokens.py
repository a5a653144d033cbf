# SPDX-License-Identifier: Apache-2.0
"""Tokens whole: the channel mixing of an MLP-Mixer, on both backends and a small machine, against its ONNX graph."""

from __future__ import annotations

import numpy as np
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import dequantise_output, import_model, quantise_input
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import run_compiled
from nncosim.regress.tokens import mixer_model, token_inputs
from nncosim.tb.reference.onnx_reference import OnnxReference

SMALL = PLATFORM.with_parameters(clusters=2, l2_bytes=1 << 20, ncbs_per_cluster=8, pes_per_ncb=4,
                                 ncbs_per_requantizer=2, l1_ports=1)  # fmt: skip
"""One of the machines of `test_machines`, whose simulation is built already."""


def test_a_mixer_block(backend: str, seed: int) -> None:
    """Two inferences: all tensors and cycles, and the outputs are those of an evaluator that knows no map."""
    model, x = mixer_model(seed), token_inputs(seed, 2)
    compiled = compile_network(import_model(model), SMALL)
    frames = [{"x": quantise_input(compiled.network, "x", image)} for image in x]
    run = run_compiled(compiled, backend, seed=seed, inputs=frames)
    assert run.problems() == []
    assert [want for _, want, _ in run.layers()] == [got for _, _, got in run.layers()]
    reference = OnnxReference(model)
    for image, frame in zip(x, run.result.frames, strict=True):
        value = reference.run({"x": image[None]})["y"]
        assert value.ints is not None and len(np.unique(value.ints)) > 50
        assert np.mean(abs(value.ints) >= 127) < 0.01
        got = dequantise_output(compiled.network, "y", frame.memory["y"])
        assert got.shape == (1, 37, 20) and np.array_equal(got, value.ints * 0.5)


def test_a_swapped_token_is_seen(seed: int) -> None:
    """Two tokens that change places in memory are no longer what the graph has there."""
    compiled = compile_network(import_model(mixer_model(seed)), SMALL)
    right = quantise_input(compiled.network, "x", token_inputs(seed)[0])
    swapped = right.copy()
    swapped[..., [4, 5]] = right[..., [5, 4]]
    run = run_compiled(compiled, "iss", seed=seed, inputs=[{"x": swapped}])
    assert run.problems() == []
    (frame,) = run.result.frames
    value = OnnxReference(mixer_model(seed)).run({"x": token_inputs(seed)})["y"]
    wrong = dequantise_output(compiled.network, "y", frame.memory["y"]) != value.real
    assert wrong.any(axis=(0, 2)).nonzero()[0].tolist() == [4, 5]
