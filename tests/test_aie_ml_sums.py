# SPDX-License-Identifier: Apache-2.0
"""Sums of two tensors on the AIE-ML array: what onnxruntime gives for every pair of inputs, or refused by name.

onnxruntime runs the QDQ graph's nodes as they stand, in float32; sums of two 8-bit values with such scales are exact.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import refused
from nncosim.compiler.compile import check_network, compile_network
from nncosim.compiler.frontend import import_model, quantise_input
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.token_models import mixer_block, residual_mlp
from nncosim.tb.aie_ml.bench import BENCH
from onnx import TensorProto, helper
from qdq_models import LinearGraph

ARRAY = AieMl(columns=4, rows=2, memory_rows=1)
SHAPE = (64, 64)
Scales = tuple[float, float, float]


def sum_of(scales: Scales, zeros: tuple[int, int, int] = (0, 0, 0), kind: str = "int8") -> onnx.ModelProto:
    """y = x + z, each with its scale and zero point."""
    g = LinearGraph(SHAPE, opset=21)
    operands = [g.qdq(name, scale, zero, kind, f"{name}.real") for name, scale, zero in
                zip(("x", g.input("z", SHAPE)), scales, zeros, strict=False)]  # fmt: skip
    made = g.q(g.node("Add", operands, name="sum"), scales[2], zeros[2], kind, "y")
    return g.model(made, kinds=[helper.np_dtype_to_tensor_dtype(np.dtype(kind))])


def every_pair(scales: Scales, zeros: tuple[int, int, int]) -> list[dict[str, np.ndarray]]:
    """Real inputs that give all pairs of int8."""
    ints = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")).reshape(2, -1, *SHAPE)
    real = [((ints[k] - zeros[k]) * scales[k]).astype(np.float32) for k in range(2)]
    return [{"x": a, "z": b} for a, b in zip(*real, strict=True)]


def by_onnxruntime(model: onnx.ModelProto, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.stack([session.run(["y"], each)[0] for each in inputs])


def on_array(model: onnx.ModelProto, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    made = compile_network(import_model(model, name="sum", keep_batch=True), ARRAY)
    assert all(op.proof is not None and op.proof.exact for op in made.network.ops)
    ints = [{n: quantise_input(made.network, n, x) for n, x in each.items()} for each in inputs]
    run = BENCH.run(ARRAY, made.image.to_bytes(), ints, backend="iss")
    assert not run.diagnosis
    return np.stack([made.network.tensors["y"].to_onnx(frame.tensors["y"]).reshape(SHAPE) for frame in run.frames])


EXACT: dict[str, tuple[Scales, tuple[int, int, int]]] = {
    "one scale": ((2**-7, 2**-7, 2**-6), (0, 0, 0)),
    "64 times apart": ((2**-13, 2**-7, 2**-6), (0, 0, 0)),
    "results of 64 times finer steps": ((2**-7, 2**-8, 2**-13), (0, 0, 0)),
    "quarters": ((3 * 2**-8, 2**-7, 2**-6), (0, 0, 0)),
    "even zero point of results": ((2**-7, 2**-6, 2**-5), (5, -3, 6)),
}


@pytest.mark.parametrize("name", EXACT)
def test_every_pair_of_inputs_is_as_onnxruntime_has_it(name):
    scales, zeros = EXACT[name]
    model, inputs = sum_of(scales, zeros), every_pair(scales, zeros)
    want = by_onnxruntime(model, inputs)
    assert np.array_equal(on_array(model, inputs), want) and len(np.unique(want)) > 8


REFUSED: dict[str, tuple[Scales, tuple[int, int, int], str, list[str]]] = {
    "no powers of two": ((0.05, 0.031, 0.06), (0, 0, 0), "int8", [
        "Add 'sum': operands are multiplied by 0.833333 and 0.516667; the core multiplies by up to 127",
        "results may differ by 1;", "use scales that are powers of two"]),
    "scale of results": ((2**-7, 2**-7, 0.011), (0, 0, 0), "int8", ["0.710227", "use scales that are powers of two"]),
    "128 times apart": ((2**-14, 2**-7, 2**-6), (0, 0, 0), "int8", [
        "multiplied by 0.00390625 and 0.5", "powers of two and at most 64 times apart"]),
    "odd zero point": ((2**-7, 2**-7, 2**-6), (0, 0, 3), "int8", [
        "Add 'sum': the zero point 3 of its results is odd", "use an even zero point, 0 at best"]),
    "results of 128 times finer steps": ((2**-7, 2**-7, 2**-14), (0, 0, 0), "int8", [
        "multiplied by 128 and 128", "differ by 64; use a scale of the results that is not so much finer"]),
    "16 bits": ((0.0005, 0.00031, 0.0006), (0, 0, 0), "int16", ["multiplied by 0.833333", "powers of two"]),
}  # fmt: skip
FAR = ("results of 128 times finer steps", "16 bits")
"""Of these: 8-bit multipliers do not even come near to them."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_multipliers_cannot_do_is_refused(tmp_path, command, name):
    scales, zeros, kind, texts = REFUSED[name]
    onnx.save(sum_of(scales, zeros, kind), tmp_path / "s.onnx")
    options = (tmp_path / "s.onnx", "--platform", "aie_ml", "--set", "columns=4", "--set", "rows=2")
    for verb in ("check", "run"):
        text = refused(command(verb, *options), *texts)
        assert ("or --nearest" in text) == (name not in FAR)
    if name in FAR:
        assert "--nearest" not in refused(command("check", *options, "--nearest"), *texts)
        return
    status, text, _ = command("run", *options, "--backend", "iss", "--nearest")
    assert status == 0 and "requantization: exact in 0 of 1 layers; within 1 LSB of the model in sum" in text


@pytest.mark.parametrize("model", [residual_mlp(32, 2), mixer_block(16, 24, (32, 32))], ids=["residual", "mixer"])
def test_networks_with_sums_are_taken(model):
    found = check_network(import_model(model, name="sums", keep_batch=True), AieMl(columns=12, rows=4, memory_rows=2))
    assert not found.problems


def test_all_sums_are_named_at_once_and_other_layers_with_them():
    g = LinearGraph((8, 32), opset=21)
    x = g.qdq("x", 2**-7)
    weights = g.dq(g.integers((32, 32)), 0.0021)
    dense = g.qdq(g.node("Gemm", [x, weights], name="fc"), 2**-2)
    first = g.qdq(g.node("Add", [dense, x], name="one"), 0.3)
    last = g.q(g.node("Add", [first, x], name="two"), 0.4, name="y")
    network = import_model(g.model(last, kinds=[TensorProto.INT8]), name="sums", keep_batch=True)
    assert [each.node for each in check_network(network, ARRAY).problems] == ["fc", "one", "two"]
