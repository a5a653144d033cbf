# SPDX-License-Identifier: Apache-2.0
"""Single-shift quantisation beside Aidge's (PyPI, extra `aidge`): same float networks, same calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from float_models import FloatModel
from nncosim.compiler.frontend import dequantise_output, import_model
from nncosim.compiler.frontend.user_arrays import quantise_inputs
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.quantize import QuantizeOptions, quantize

aidge_core = pytest.importorskip("aidge_core")
aidge_backend_cpu = pytest.importorskip("aidge_backend_cpu")
aidge_onnx = pytest.importorskip("aidge_onnx")
aidge_quantization = pytest.importorskip("aidge_quantization")


def chain() -> tuple[onnx.ModelProto, np.ndarray]:
    m = FloatModel(seed=8)
    x = m.conv(m.conv("x", 3, 16, 3, "one", normalise=False), 16, 24, 1, "two", normalise=False)
    x = m.conv(x, 24, 24, 3, "three", groups=24, stride=2, normalise=False)
    x = m.node("Flatten", [m.conv(x, 24, 8, 1, "four", normalise=False)], "flat")
    return gemm(m, x, 8 * 64), m.images(64)


def residual() -> tuple[onnx.ModelProto, np.ndarray]:
    m = FloatModel(seed=7)
    x = m.conv("x", 3, 16, 3, "one", normalise=False)
    y = m.conv(x, 16, 16, 3, "two", groups=16, normalise=False)
    y = m.conv(y, 16, 16, 1, "three", act="none", normalise=False)
    x = m.node("Relu", [m.node("Add", [x, y], "sum")], "sum_relu")
    x = m.node("GlobalAveragePool", [m.conv(x, 16, 24, 3, "four", stride=2, normalise=False)], "average")
    return gemm(m, m.node("Flatten", [x], "flat"), 24), m.images(64)


def gemm(m: FloatModel, x: str, inputs: int) -> onnx.ModelProto:
    weights = m.constant(m.rng.standard_normal((10, inputs)) / np.sqrt(inputs), "fc.w")
    m.node("Gemm", [x, weights, m.constant(m.rng.normal(0, 0.1, 10), "fc.b")], "logits", transB=1)
    return m.model("logits", (1, 10))


def by_aidge(path: Path, images: np.ndarray, calibration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of the float network, and of Aidge's integers (held in floats), whose scale it does not tell."""
    graph = aidge_onnx.load_onnx(str(path))
    aidge_core.remove_flatten(graph)
    graph.compile("cpu", aidge_core.dtype.float32, dims=[list(images[:1].shape)])

    def tensors(arrays: np.ndarray) -> list:
        return [aidge_core.Tensor(np.ascontiguousarray(array[None])) for array in arrays]

    def outputs() -> np.ndarray:
        scheduler = aidge_core.SequentialScheduler(graph)
        scheduler.generate_scheduling()
        found = []
        for tensor in tensors(images):
            scheduler.forward(True, [tensor])
            (node,) = graph.get_output_nodes()
            found.append(np.array(node.get_operator().get_output(0)).astype(np.float64))
        return np.concatenate(found)

    plain = outputs()
    int8, int32 = aidge_core.dtype.int8, aidge_core.dtype.int32
    aidge_quantization.auto_assign_node_precision(graph, int8, int8, int32)
    aidge_quantization.quantize_network(
        network=graph, calibration_set=tensors(calibration), single_shift=True, equalize=True, fake_quantize=True,
        rescale_inputs=True,
    )  # fmt: skip
    return plain, outputs()


def snr(want: np.ndarray, got: np.ndarray) -> float:
    """In dB, at the scale that suits `got` best: Aidge's outputs are integers without one."""
    got = got * ((want * got).sum() / np.square(got).sum())
    return float(10 * np.log10(np.square(want).sum() / np.square(want - got).sum()))


@pytest.mark.parametrize("network", [chain, residual])
def test_outputs_are_no_further_from_float_than_aidges(network, tmp_path):
    """As Aidge's own export does it: int8, per tensor, maximum, single shift."""
    model, images = network()
    onnx.save(model, tmp_path / "net.onnx")
    seen, calibration = images[32:], images[:32]
    plain, theirs = by_aidge(tmp_path / "net.onnx", seen, calibration)
    result = quantize(model, {"x": calibration}, QuantizeOptions(scales="shift", per_channel=False))
    imported = import_model(result.model)
    ours = np.concatenate([
        dequantise_output(imported, "logits", evaluate(
            imported, quantise_inputs(imported, {"x": image[None]}), exact=True)["logits"]) for image in seen
    ])  # fmt: skip
    print(f"{network.__name__}: {snr(plain, ours):.1f} dB, Aidge {snr(plain, theirs):.1f} dB")
    assert snr(plain, theirs) > 20 and snr(plain, ours) >= snr(plain, theirs)
