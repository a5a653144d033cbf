# SPDX-License-Identifier: Apache-2.0
"""What the AIE-ML tile refuses: by name, all at once, with what would help."""

from pathlib import Path

import nncosim.regress.networks
import pytest
from nncosim.compiler.compile import check_network, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.platforms.aie_ml import PLATFORM, AieMl
from nncosim.platforms.errors import PlatformError
from nncosim.regress.dense_models import DenseSpec, dense_network
from onnx import TensorProto
from qdq_models import LinearGraph

DIGITS = Path(nncosim.regress.networks.__path__[0]) / "digits.onnx"


def problems(spec: DenseSpec, platform: AieMl = PLATFORM) -> list[str]:
    network = import_model(dense_network(spec), name="dense", keep_batch=True)
    return [str(each) for each in check_network(network, platform).problems]


@pytest.mark.parametrize(("spec", "platform", "text"), [
    (DenseSpec((256, 128), bits=8), AieMl(columns=1, rows=1), "does not fit 1 x 1 tiles with 16384 bytes each"),
    (DenseSpec((16, 16, 16)), AieMl(columns=1, rows=1), "the network does not fit 1 tiles in 1 columns"),
    (DenseSpec((64, 64), batch=64, bits=16), PLATFORM, "use a batch of 32 at most"),
    (DenseSpec((64, 64), bits=4), PLATFORM, "results are clipped to -8..7; the core clips to -128..127"),
    (DenseSpec((16, 16), weight_bits=16), PLATFORM, "weights of 16 bits"),
    (DenseSpec((64, 64, 64)), AieMl(program_bytes=1024), "the program memory holds 64"),
])  # fmt: skip
def test_a_dense_network_that_does_not_fit(spec, platform, text):
    (found,) = problems(spec, platform)
    assert text in found


def test_a_network_of_maps_is_refused_operator_by_operator():
    found = check_network(import_model(DIGITS, keep_batch=True), PLATFORM).problems
    texts = [str(each) for each in found]
    assert any("Conv 3x3 'Conv_0'" in text and "has rows along two axes" in text for text in texts)
    assert any("has a kernel of 3 x 3" in text for text in texts)
    assert any("Add 'Add_0'" in text and "has rows along two axes" in text for text in texts)
    assert any("has no kernel on platform aie_ml" in text for text in texts)


def _alone(what: str) -> tuple[str, ...]:
    """Outputs of a graph in which one result has no layer of its own; all problems of it as texts."""
    g = LinearGraph((1, 24, 16), opset=21)
    x = g.qdq("x", 2**-7)
    dense = g.qdq(g.node("MatMul", [x, g.dq(g.integers((16, 16)), 2**-9)], name="fc"), 2**-4, name="y")
    made = {
        "transpose": lambda: g.node("Transpose", [x], perm=[0, 2, 1], name="z"),
        "input": lambda: g.node("Identity", [x], name="z"),
        "identity": lambda: g.node("Identity", [dense], name="z"),
        "relu": lambda: g.qdq(g.node("Relu", [x], name="r"), 2**-7, name="z"),
        "scale": lambda: g.qdq(x, 2**-5, name="z"),
    }[what]()
    model = g.model(dense, made, kinds=[TensorProto.FLOAT] * 2)
    return tuple(map(str, check_network(import_model(model, name="alone", keep_batch=True), PLATFORM).problems))


@pytest.mark.parametrize(("what", "does", "help_"), [
    ("transpose", "would only copy 'x'", "; leave it out of the graph, and take those values for it"),
    ("input", "would only copy 'x'", "; leave it out of the graph, and take those values for it"),
    ("identity", "would only copy 'y'", "; leave it out of the graph, and take those values for it"),
    ("relu", "would only rescale or clip 'x'", "; put it behind a Gemm, MatMul or Add, or leave it to the host"),
    ("scale", "would only rescale or clip 'x'", "; put it behind a Gemm, MatMul or Add, or leave it to the host"),
])  # fmt: skip
def test_a_result_that_no_layer_computes_is_told_so(what, does, help_):
    (text,) = _alone(what)
    assert does in text and "results that do no more than that are not computed on this platform" in text
    assert text.endswith(help_) and "Requantize" not in text


@pytest.mark.parametrize("change", [
    {"program_bytes": 3000}, {"program_bytes": 32768}, {"clock_hz": 0}, {"columns": 39}, {"rows": 0},
])  # fmt: skip
def test_a_machine_that_cannot_be_is_refused(change):
    with pytest.raises(PlatformError, match="must be"):
        AieMl(**change)


def test_any_name_will_do():
    """Names that the back end uses itself, of a tensor and of a layer, change nothing."""
    model = dense_network(DenseSpec((16, 24, 8), bits=16))
    plain = compile_network(import_model(model, name="dense", keep_batch=True), PLATFORM)
    for node in model.graph.node:
        node.name = "result" if node.name == "dense0" else node.name
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = "rows" if name == "y" else name
    model.graph.output[0].name = "rows"
    named = compile_network(import_model(model, name="dense", keep_batch=True), PLATFORM)
    assert named.image.segments == plain.image.segments and "rows" in named.network.outputs
    writes = [name for each in named.lowered.schedule.tasks if each.layer == "result" for name in each.writes]
    assert writes and all(name.rsplit(" ", 2)[1] == "result" for name in writes)
