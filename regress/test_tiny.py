# SPDX-License-Identifier: Apache-2.0
"""MLPerf Tiny's four networks, int8 TensorFlow Lite files, whole on J3DAI's RTL, beside the runtime's own kernels."""

import numpy as np
import pytest
from nncosim.compiler.compile import compile_network
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_model
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.tflite_models import Kernels
from nncosim.regress.tiny import MACS, NETWORKS
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.program import compile_model, read_model
from nncosim.tb.system.npz import npz_bytes

NEAREST = {"resnet8": 5}
"""Layers that no single rounding computes: convolutions without RELU before an ADD."""


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_on_rtl(name, tmp_path):
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(NETWORKS[name]())
    data = path.read_bytes()
    assert sum(map(import_model(path).macs, import_model(path).ops)) == MACS[name]
    network = read_model(path, data, PLATFORM, nearest=name in NEAREST)
    program = compile_model(path, data, PLATFORM, {}, network=network)
    given = np.random.default_rng(4).integers(-128, 128, network.onnx_shapes[network.inputs[0]]).astype(np.int8)
    (tmp_path / "input.npz").write_bytes(npz_bytes({network.inputs[0]: given}))
    outcome = run_program(program, PLATFORM, {}, RunOptions(backend="rtl", input=tmp_path / "input.npz"))
    assert outcome.report.passed, outcome.report
    inexact = [op.name for op in program.network.ops if op.proof is not None and not op.proof.exact]
    assert len(inexact) == NEAREST.get(name, 0)
    (output,) = network.outputs
    theirs = Kernels(data).run(given)[output.removesuffix(".real")]
    ours, theirs = outcome.outputs[0][output].ravel().astype(int), theirs.ravel().astype(int)
    if inexact:  # each of its results is within one step of what its own inputs give
        assert ours.argmax() == theirs.argmax() and np.abs(ours - theirs).max() < 5
    else:
        assert (ours == theirs).all()


def test_what_no_rounding_computes_is_named(tmp_path):
    path = tmp_path / "resnet8.tflite"
    path.write_bytes(NETWORKS["resnet8"]())
    with pytest.raises(ModelError, match=r"5 problems\n  1. Conv 3x3 'stack1/conv2': .*: [\d,]+ of [\d,]+ acc"):
        compile_network(import_model(path), PLATFORM)
