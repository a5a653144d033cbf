# SPDX-License-Identifier: Apache-2.0
"""What stays refused: all reasons at once, each with its node, what was expected and what helps."""

import numpy as np
import onnx
import pytest
from command_line import refused as refused_command
from command_line import runner
from corpus_check import refused
from models import Graph, conv_model


def chain(*ops):
    """Operators behind a Quant, each followed by one."""
    g = Graph((1, 4, 8, 8))
    x = g.quant("x", name="x_q")
    for op, inputs, attributes in ops:
        more = [g.constant(c) for c in inputs]
        x = g.quant(g.node(op, [x, *more], name=op.lower(), **attributes), name=f"{op.lower()}_q")
    return g.model(x)


@pytest.mark.parametrize("op, remedy", [
    ("GRU", "no recurrent layers"), ("LSTM", "no recurrent layers"), ("LayerNormalization", "use BatchNormalization"),
    ("ConvTranspose", "nearest Resize"), ("Pad", "a Conv has its padding itself"), ("Einsum", "products of two"),
    ("Softmax", "at the end it is left to the host"), ("TopK", "at the end"), ("Sin", "supported are Add"),
])  # fmt: skip
def test_operators_that_are_not_supported(op, remedy):
    refused(chain((op, [], {})), rf"{op} '{op.lower()}': {op} is not supported; .*{remedy}")


def test_float_quantisers():
    g = Graph((1, 4, 8, 8))
    y = g.node("FloatQuant", ["x", *(g.constant(n) for n in (1.0, 4.0, 3.0, 7.0, 480.0))], name="f", domain=g.domain)
    refused(g.model(y), r"FloatQuant 'f': FloatQuant is not supported; use integer quantisation \(Quant\)")


def test_all_reasons_come_at_once():
    """Also those of nodes behind a refused one: weights without a Quant, parameters that no Quant has."""
    g = Graph((1, 4, 8, 8))
    y = g.node("Sin", [g.quant("x", name="x_q")], name="one")
    y = g.conv(g.quant(y, name="fine"), 4, 4, weights=g.constant(np.ones((4, 4, 3, 3))), name="two")
    y = g.quant(y, scale=-1.0, name="three")
    y = g.quant(y, bits=50, name="four")
    y = g.node("Softsign", [y], name="five")
    y = g.quant(g.gemm(g.node("Flatten", [y]), 256, 3, name="good"), name="last")
    text = refused(g.model(y), r"model test: 5 problems")
    reasons = (
        "Sin 'one': ", "Conv 'two': the weights are not quantised; put a Quant",
        "Quant 'three': the scale must be positive", "Quant 'four': the bit width must be 1 to 32",
        "Softsign 'five': Softsign is not supported",
    )  # fmt: skip
    for n, node in enumerate(reasons, 1):
        assert f"\n  {n}. {node}" in text


@pytest.mark.parametrize("head, what", [
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"PK\x03\x04\x14\x00\x08\x08", "a zip archive"),
])
def test_files_of_other_formats(tmp_path, capfd, head, what):
    path, command = tmp_path / "model.onnx", runner(capfd)
    path.write_bytes(head + bytes(100))
    for words in (("check",), ("run",), ("compile", "--out", tmp_path / "o"), ("check", "--calibrate", path)):
        text = refused_command(command(words[0], path, *words[1:]))
        assert f"this is {what}" in text or "npz" in text
    assert "this is" in refused_command(command("check", path), "export_qonnx")


def test_a_damaged_file_is_said_to_be_one(tmp_path, capfd):
    path, data = tmp_path / "m.onnx", conv_model().SerializeToString()
    path.write_bytes(data[: len(data) // 2])
    refused_command(runner(capfd)("check", path), "this is not an ONNX file, or a damaged one")
    onnx.save(conv_model(), path)
    assert runner(capfd)("check", path).status == 0
