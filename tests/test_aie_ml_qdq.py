# SPDX-License-Identifier: Apache-2.0
"""QDQ graphs of dense layers on the AIE-ML array: bit for bit what onnxruntime computes, or refused by name.

onnxruntime runs the file's nodes as they stand, in float32: sums are far below 2**24, so each is exact, and results are
rounded half to even. Programs run on the cycle-exact simulator.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import refused
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model, linear, quantise_input
from nncosim.platforms.aie_ml import AieMl
from nncosim.platforms.rounding import Rounding
from nncosim.regress.dense_qdq import QdqForm, QdqNetwork, qdq_network
from nncosim.tb.aie_ml.bench import BENCH
from onnx import numpy_helper

ARRAY = AieMl(columns=6, rows=4)
SIZES = (24, 40, 16)
FORM = QdqForm()
FORMS = {
    "Gemm, int32 bias": FORM,
    "opset 13": replace(FORM, opset=13),
    "opset 17, weights (inputs, outputs)": replace(FORM, opset=17, transposed=False),
    "opset 19, no zero points": replace(FORM, opset=19, unsigned=True, zeros=False),
    "MatMul and Add": replace(FORM, product="MatMul"),
    "MatMul, Transpose, Add": replace(FORM, product="Transpose", unsigned=True),
    "MatMul alone": replace(FORM, product="MatMul", bias="none"),
    "float bias": replace(FORM, bias="float"),
    "MatMul and float bias": replace(FORM, product="MatMul", bias="float"),
    "no bias": replace(FORM, bias="none"),
    "a scale for each channel": replace(FORM, per_channel=True),
    "a scale for each channel, MatMul": replace(FORM, per_channel=True, product="MatMul"),
    "no ReLU": replace(FORM, relu=False),
    "uint8 behind ReLU": replace(FORM, unsigned=True),
    "Brevitas: Clip of integers": replace(FORM, narrow="behind", unsigned=True, opset=13),
    "Brevitas: weights quantised in the graph": replace(FORM, narrow="behind", stored=False, opset=13),
    "Clip of floats": replace(FORM, narrow="before", relu=False),
    "integers in and out": replace(FORM, integers=True),
    "tokens": replace(FORM, product="Transpose", tokens=True),
    "int16": replace(FORM, bits=16, opset=21),
}


def spoilt(model: onnx.ModelProto, *names: str, change: Callable[[np.ndarray], object]) -> onnx.ModelProto:
    """A copy with other values in some initializers."""
    given, model = model, onnx.ModelProto()
    model.CopyFrom(given)
    tensors = {each.name: each for each in model.graph.initializer}
    for name in names:
        old = numpy_helper.to_array(tensors[name])
        new = np.asarray(change(old)).astype(old.dtype).reshape(old.shape)
        assert (new != old).any()
        tensors[name].CopyFrom(numpy_helper.from_array(new, name))
    return model


def given(network: QdqNetwork, seed: int = 3) -> np.ndarray:
    """An array for the graph's input."""
    ints = network.inputs(seed)
    if network.model.graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return ints.astype(f"int{network.bits}")
    return (ints * network.scales[0]).astype(np.float32)


def by_onnxruntime(
    model: onnx.ModelProto, results: Sequence[str], x: np.ndarray, optimized: bool = False
) -> list[np.ndarray]:
    """The integers, or numbers, that are called so."""
    known, options = onnx.ModelProto(), onnxruntime.SessionOptions()
    known.CopyFrom(model)
    del known.graph.output[:]
    known.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(known.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(results, {session.get_inputs()[0].name: x})


def on_array(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """The same by the array, of the model's input as a user has it; every layer is proved exact."""
    made = compile_network(import_model(model, name="dense", keep_batch=True), ARRAY)
    assert all(op.proof is not None and op.proof.exact for op in made.network.ops)
    (name,) = made.network.inputs
    ints = quantise_input(made.network, name, x)
    run = BENCH.run(ARRAY, made.image.to_bytes(), [{name: ints}], backend="iss")
    assert not run.diagnosis and run.frames[0].cycles == made.iss_cycles
    found = run.frames[0].tensors
    return [made.network.tensors[op.output].to_onnx(found[op.output]) for op in made.network.ops]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return len(ours) == len(theirs) and all(np.array_equal(a.reshape(b.shape), b)
                                            for a, b in zip(ours, theirs, strict=True))  # fmt: skip


def check(network: QdqNetwork, seed: int = 3) -> None:
    """Layer by layer; results use their range, and few saturate."""
    onnx.checker.check_model(network.model)
    x = given(network, seed)
    want = by_onnxruntime(network.model, network.results, x)
    for each in want:
        top = np.iinfo(each.dtype).max
        assert each.std() > top / 12 and (np.abs(each) >= top).mean() < 0.01
    assert same(on_array(network.model, x), want)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_graph(name):
    check(qdq_network(SIZES, FORMS[name], seed=1))


@pytest.mark.parametrize(
    ("sizes", "batch"), [((24, 16), 1), ((130, 70, 33), 8), ((64, 64, 64, 64), 20), ((9, 12, 10), 5)],
)  # fmt: skip
def test_sizes(sizes, batch):
    check(qdq_network(sizes, replace(FORM, unsigned=True), batch=batch, seed=2), seed=4)


@pytest.mark.parametrize("form", [FORM, replace(FORM, product="MatMul"), replace(FORM, integers=True)], ids=str)
def test_onnxruntime_computes_the_same_when_it_optimizes(form):
    """With a QGemm in place of five nodes; of int8 data, whose products no processor adds in 16 bits."""
    network = qdq_network(SIZES, form, seed=1)
    plain, fast = (by_onnxruntime(network.model, ["y"], given(network), each) for each in (False, True))
    assert same(plain, fast)


def test_zero_points():
    """That of the input, whatever it is, and even ones of results are part of the bias."""
    network = qdq_network(SIZES, replace(FORM, relu=False), seed=1)
    model = network.model
    for name, zero in {"x.real": 7, "dense0.y": -4, "dense1.y": 6}.items():
        model = spoilt(model, f"{name}.q.zero", f"{name}.zero", change=lambda old, zero=zero: zero)
    x = given(network)
    want = by_onnxruntime(model, network.results, x)
    assert same(on_array(model, x), want) and not same(want, by_onnxruntime(network.model, network.results, x))


def test_a_network_of_brevitas(tmp_path):
    """Exported by Brevitas itself: fixed-point quantisers, symmetric ranges, uint8 behind a ReLU."""
    torch, layers = pytest.importorskip("torch"), pytest.importorskip("brevitas.nn")
    quantizers, export = pytest.importorskip("brevitas.quant"), pytest.importorskip("brevitas.export")
    act = {"act_quant": quantizers.Int8ActPerTensorFixedPoint}
    dense = {"bias": True, "weight_quant": quantizers.Int8WeightPerTensorFixedPoint, "return_quant_tensor": True,
             "bias_quant": quantizers.Int32Bias}  # fmt: skip
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        layers.QuantIdentity(**act, narrow_range=True, return_quant_tensor=True), layers.QuantLinear(24, 40, **dense),
        layers.QuantReLU(act_quant=quantizers.Uint8ActPerTensorFixedPoint, return_quant_tensor=True),
        layers.QuantLinear(40, 16, **dense), layers.QuantIdentity(**act),
    )  # fmt: skip
    for _ in range(30):
        network(torch.randn(64, 24))
    path, x = tmp_path / "b.onnx", torch.randn(8, 24)
    for more in ({}, {"export_weight_q_node": True}):
        export.export_onnx_qcdq(network.eval(), args=x, export_path=path, opset_version=13, dynamo=False, **more)
        model = onnx.load(path)
        results = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"
                   and not node.input[0].endswith("weight")][1:]  # fmt: skip
        assert "Clip" in [node.op_type for node in model.graph.node] and len(results) == 2
        want = by_onnxruntime(model, results, x.numpy())
        assert same(on_array(model, x.numpy()), want) and want[-1].std() > 10


# --- from end to end -------------------------------------------------------------------------------------------------


def test_the_commands(tmp_path, command):
    onnx.save(qdq_network(SIZES, replace(FORM, unsigned=True), seed=1).model, tmp_path / "q.onnx")
    options = (tmp_path / "q.onnx", "--platform", "aie_ml")
    status, text, _ = command("run", *options, "--backend", "iss", "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 0 and report["bit_exact"] and report["requantization"]["exact_layers"] == 2, text
    status, text, _ = command("evaluate", *options, "--against", "onnxruntime", "--images", 20, "--json",
                              tmp_path / "e.json")  # fmt: skip
    found = json.loads((tmp_path / "e.json").read_text())["onnxruntime"]
    assert status == 0 and found["ok"] and found["float_differences"] == 0 and found["values"] == 20 * 8 * 56, text


# --- what is refused -------------------------------------------------------------------------------------------------


def _times(factor: float) -> Callable[[np.ndarray], object]:
    return lambda old: old * factor


def _is(value: int) -> Callable[[np.ndarray], object]:
    return lambda old: np.full_like(old, value)


REFUSED = {
    "weights' scale": (FORM, ["dense1.w.scale"], _times(0.87), ["Gemm 'dense1': sums are multiplied by",
                       "has no multiplier (scales that are no powers of two: weights 0.00169922);", "--nearest"]),
    "input's scale": (FORM, ["x.real.q.scale", "x.real.scale"], _times(1.25),
                      ["Gemm 'dense0'", "no powers of two: input 0.00976562)"]),
    "scale of results": (FORM, ["dense0.y.q.scale", "dense0.y.scale"], _times(1.25), [
        "2 problems", "Gemm 'dense0'", "Gemm 'dense1'", "powers of two: output 0.00", "powers of two: input 0.00"]),
    "results of finer steps than sums": (FORM, ["dense1.y.q.scale", "dense1.y.scale"], _times(2**-12), [
        "sums are multiplied by 16; the core shifts them to the right", "use a scale of the results that is not"]),
    "channels' scales": (replace(FORM, per_channel=True, finer=2), [], _times(1), [
        "2 problems", "one shift for a layer", "use one scale for all weights"]),
    "odd zero point": (replace(FORM, relu=False), ["dense1.y.q.zero", "dense1.y.zero"], _is(5), [
        "Gemm 'dense1': the zero point 5 of its results is odd", "use an even zero point"]),
    "zero point behind ReLU": (FORM, ["dense0.y.q.zero", "dense0.y.zero"], _is(-100), [
        "Gemm 'dense0': results are clipped to -100..127; the core clips to", "use 8 bits, with zero point 0"]),
    "zero point of weights": (FORM, ["dense0.w.zero"], _is(9), [
        "Gemm 'dense0': weights of 16 bits", "weights are -136..118", "8 without a zero point"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, command, name):
    form, names, change, texts = REFUSED[name]
    model = qdq_network(SIZES, form, seed=1).model
    onnx.save(spoilt(model, *names, change=change) if names else model, tmp_path / "q.onnx")
    for verb in ("check", "run"):
        refused(command(verb, tmp_path / "q.onnx", "--platform", "aie_ml"), *texts)


def test_the_nearest_shift_is_taken_if_it_is_asked_for(tmp_path, command):
    model = qdq_network(SIZES, FORM, seed=1).model
    onnx.save(spoilt(model, "dense1.w.scale", change=_times(0.87)), tmp_path / "q.onnx")
    status, text, _ = command("run", tmp_path / "q.onnx", "--platform", "aie_ml", "--backend", "iss", "--nearest")
    assert status == 0 and "requantization: exact in 1 of 2 layers" in text


def test_operators_that_the_array_does_not_have(tmp_path, command):
    model = qdq_network(SIZES, FORM, seed=1).model
    node = next(each for each in model.graph.node if each.op_type == "Relu")
    node.op_type = "Sigmoid"
    onnx.save(model, tmp_path / "q.onnx")
    refused(command("check", tmp_path / "q.onnx", "--platform", "aie_ml"), "Sigmoid 'dense0.relu'")


# --- planted errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "change"), [
    (["dense0.w.scale", "dense0.b.scale"], _times(2)),
    (["dense1.y.q.scale", "dense1.y.scale"], _times(0.5)),
    (["dense1.w.scale", "dense1.b.scale"], _times(0.5)),
    (["dense0.b.ints"], lambda old: old + 64),
    (["dense1.w.ints"], lambda old: old[::-1]),
], ids=["scale of weights", "scale of results", "finer weights", "bias", "order of weights"])  # fmt: skip
def test_a_planted_error_is_seen(names, change):
    """A graph that says something else than the one which onnxruntime runs."""
    network = qdq_network(SIZES, FORM, seed=1)
    want = by_onnxruntime(network.model, network.results, given(network))
    assert same(on_array(network.model, given(network)), want)
    assert not same(on_array(spoilt(network.model, *names, change=change), given(network)), want)


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.FLOOR])
def test_another_rounding_is_seen(monkeypatch, rounding):
    """Where few bits are dropped there are ties enough."""
    network = qdq_network((8, 16), FORM, batch=64, seed=1)
    check(network)
    real = linear.linear_parameters
    monkeypatch.setattr(linear, "linear_parameters", lambda *args: replace(real(*args), rounding=rounding))
    x = given(network)
    found, want = on_array(network.model, x), by_onnxruntime(network.model, network.results, x)
    off = found[0].reshape(want[0].shape) - want[0]
    assert (off != 0).any() and np.abs(off).max() == 1
