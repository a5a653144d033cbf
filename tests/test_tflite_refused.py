# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite files that are refused, each with its reason; damaged ones; and the commands."""

from importlib.resources import as_file, files

import numpy as np
import pytest
from command_line import refused as refused_command
from command_line import runner
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_model
from nncosim.regress.tflite_models import TfliteModel
from tflite_check import SHAPE, network_of, one, written


def _unsigned(m: TfliteModel) -> bytes:
    x = m.tensor("x", (1, 8, 8, 3), np.uint8, 0.05, 128)
    m.graph.inputs = [x]
    w = m.tensor("w", (4, 1, 1, 3), np.int8, 0.01, 0, np.ones((4, 1, 1, 3)))
    b = m.tensor("b", (4,), np.int32, 0.0005, 0, np.ones(4))
    y = m.tensor("y", (1, 8, 8, 4), np.int8, 0.1, 0)
    return m.finish(m.op("CONV_2D", [x, w, b], y, "Conv2DOptions", strideH=1, strideW=1, dilationHFactor=1,
                         dilationWFactor=1))  # fmt: skip


def _float(m: TfliteModel) -> bytes:
    x = m.input("x", (1, 4, 4, 2), dtype=np.float32)
    w = m.tensor("w", (3, 1, 1, 2), np.float32, values=np.ones((3, 1, 1, 2)))
    b = m.tensor("b", (3,), np.float32, values=np.ones(3))
    y = m.tensor("y", (1, 4, 4, 3), np.float32)
    return m.finish(m.op("CONV_2D", [x, w, b], y, "Conv2DOptions", strideH=1, strideW=1, dilationHFactor=1,
                         dilationWFactor=1))  # fmt: skip


def _two_reasons(m: TfliteModel) -> bytes:
    """Neither what is computed from a refused tensor nor what does not depend on it hides another reason."""
    x = m.input("x", (1, 8, 8, 4))
    tanh = m.op("TANH", [x], m.tensor("tanh", (1, 8, 8, 4), np.int8, 1 / 128, 0))
    after = m.op("RELU", [tanh], m.alike("after", tanh, (1, 8, 8, 4)))
    mean = m.pool("mean", x, 3, kind="AVERAGE", stride=1, same=True)
    return m.finish(after, mean)


def _broadcast(m: TfliteModel) -> bytes:
    x = m.input("x", (1, 8, 8, 4))
    return m.finish(m.op("ADD", [x, m.pool("p", x, 8)], m.alike("y", x, (1, 8, 8, 4)), "AddOptions"))


def _zero_point(m: TfliteModel) -> bytes:
    m.conv("y", m.input("x", SHAPE), 4)
    m.graph.tensors[1].quantization.zeroPoint = [1, 0, 0, 0]
    return m.finish(2)


def _padded(m: TfliteModel) -> bytes:
    x = m.input("x", SHAPE)
    p = m.pad("p", x, 1, 1, 1, 1)
    m.graph.tensors[p].quantization.scale = [0.11]
    return m.finish(m.conv("y", p, 4, same=False))


def _wraps(m: TfliteModel) -> bytes:
    y = m.conv("y", m.input("x", SHAPE), 4)
    m.graph.tensors[y].quantization.scale = [1e-9]
    return m.finish(y)


def _ends_meet(m: TfliteModel) -> bytes:
    x = m.input("x", SHAPE)
    return m.finish(m.conv("y", x, 4), x)


def _fused_pool(m: TfliteModel) -> bytes:
    y = m.pool("y", m.conv("c", m.input("x", SHAPE), 4))
    m.graph.operators[-1].builtinOptions.fusedActivationFunction = 1
    return m.finish(y)


def _both_layouts(m: TfliteModel) -> bytes:
    x = m.input("x", SHAPE)
    return m.finish(m.conv("y", x, 4), m.dense("z", x, 5))


def _kept_axes(m: TfliteModel) -> bytes:
    x = m.input("x", (1, 5, 20))
    w = m.tensor("w", (6, 20), np.int8, 0.01, 0, np.ones((6, 20)))
    b = m.tensor("b", (6,), np.int32, 0.0005, 0, np.ones(6))
    y = m.tensor("y", (1, 5, 6), np.int8, 0.1, 0)
    return m.finish(m.op("FULLY_CONNECTED", [x, w, b], y, "FullyConnectedOptions", keepNumDims=True))


def _rows(m: TfliteModel) -> bytes:
    x = m.input("x", SHAPE)
    return m.finish(m.concat("y", [x, m.conv("c", x, 4)], axis=1))


def _wrong_shape(m: TfliteModel) -> bytes:
    y = m.conv("y", m.input("x", SHAPE), 4)
    m.graph.tensors[y].shape = [1, 11, 10, 4]
    return m.finish(y)


def _twice(m: TfliteModel) -> bytes:
    x = m.input("x", SHAPE)
    return m.finish(m.op("ADD", [x, x], m.alike("y", x, SHAPE), "AddOptions"))


REFUSED = {
    "pad of another scale": (_padded, r"PAD 'p': 'x' and 'p' have other scales or zero points"),
    "32 bits": (_wraps, r"'y': numbers of up to [\d.e+]+ leave the 32 bits of the file's kernel"),
    "input is output": (_ends_meet, r"'x': the graph's input is its output; leave it out"),
    "fused into a pool": (_fused_pool, r"MAX_POOL_2D 'y': a function is fused into it; fuse it into the layer before"),
    "two layouts": (_both_layouts, r"FULLY_CONNECTED 'z': the graph's input 'x' is read as a map, and as a vector"),
    "kept axes": (_kept_axes, r"FULLY_CONNECTED 'y': expected vectors of 20, found 'x' of shape \(1, 5, 20\); reshape"),
    "rows": (_rows, r"CONCATENATION 'y': expected a concatenation of channels, the last axis, found axis 1"),
    "wrong shape": (_wrong_shape, r"CONV_2D 'y': its result has shape \(1, 11, 10, 4\), which is not what it makes"),
    "a tensor with itself": (_twice, r"ADD 'y': it adds a tensor to itself"),
    "uint8": (_unsigned, r"CONV_2D 'y': expected 'x' as quantised int8, found uint8; convert with full-integer"),
    "float": (_float, r"CONV_2D 'y': expected the weights 'w' as quantised int8, found float32; convert with"),
    "two": (_two_reasons, r"(?s)TANH 'tanh': TANH is not supported; supported are ADD, .*"
            r"AVERAGE_POOL_2D 'mean': an average of windows that reach over the border"),
    "broadcast": (_broadcast, r"ADD 'y': expected two activations of one shape, got \(1, 8, 8, 4\) and \(1, 1, 1, 4\)"),
    "zero point": (_zero_point, r"the weights 'y/weights' have a zero point"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    make, text = REFUSED[name]
    path = written(tmp_path, make(TfliteModel(0)))
    with pytest.raises(ModelError, match=text) as error:
        import_model(path)
    assert len(error.value.problems) == (2 if name == "two" else 1)


@pytest.mark.parametrize("length", [9, 40, 400, 900])
def test_damaged(tmp_path, length):
    content = one(lambda m, x: m.conv("y", x, 6))
    path = written(tmp_path, content[:length])
    with pytest.raises(ModelError, match="this TensorFlow Lite file is damaged"):
        import_model(path)


def test_flipped_bytes(tmp_path):
    """Any damage ends in a message, or in a model."""
    content, rng = network_of(TfliteModel(1)), np.random.default_rng(8)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(8, len(content), rng.integers(1, 4)):
            damaged[at] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        try:
            import_model(written(tmp_path, bytes(damaged)))
        except ModelError:
            refused += 1
    assert 5 < refused < 55


def test_an_empty_file_is_damaged(tmp_path):
    path = tmp_path / "model.onnx"  # told by what is in it, whatever its name
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    with pytest.raises(ModelError, match="this TensorFlow Lite file is damaged"):
        import_model(path)


def test_several_subgraphs(tmp_path):
    m = TfliteModel(0)
    y = m.conv("y", m.input("x", SHAPE), 4)
    m.model.subgraphs = [m.graph, m.graph]
    with pytest.raises(ModelError, match="expected one subgraph, found 2"):
        import_model(written(tmp_path, m.finish(y)))


def test_commands(tmp_path, capfd):
    path, run = written(tmp_path, network_of(TfliteModel(1))), runner(capfd)
    refused_command(run("check", path), "1 problem", "--nearest", "Conv 1x1 'c': the machine does not round as the")
    refused_command(run("run", path, "--backend", "iss"), "--nearest")
    status, out, _ = run("run", path, "--backend", "iss", "--nearest", "--out", tmp_path / "out")
    assert status == 0 and "within 1 LSB of the model in c" in out
    refused_command(run("run", tmp_path / "out" / "image.elf", "--nearest"), "the image has that in it")
    status, out, _ = run("evaluate", path, "--reference", "--against", "litert", "--images", 3)
    assert status == 0 and "what the kernels compute: 0 of" in out
    status, out, _ = run("evaluate", path, "--nearest", "--against", "litert", "--images", 3)
    assert status == 0 and "from the image to the end" in out
    refused_command(run("evaluate", path, "--reference", "--nearest", "--against", "litert"), "leave out", "--nearest")
    for other in ("onnx", "onnxruntime"):
        refused_command(run("evaluate", path, "--reference", "--against", other), "compare with --against litert")


def test_litert_takes_its_own_files_only(capfd):
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        result = runner(capfd)("evaluate", model, "--reference", "--against", "litert", "--images", 1)
    refused_command(result, "this is no TensorFlow Lite file; compare with --against")
