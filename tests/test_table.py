# SPDX-License-Identifier: Apache-2.0
"""The table operator on J3DAI: kernel, image and instruction-set simulator against the exact executor."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from models import Graph
from nncosim.compiler.compile import compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.image.image import Image
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network, QuantFunction, Tensor, TensorType
from nncosim.compiler.ir.operators import Requantize, Table
from nncosim.compiler.proof.caps import RequantCaps
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.hdl.j3dai.isa import MacOp
from nncosim.kernels.base import KernelError, candidate_kernels
from nncosim.kernels.j3dai import KERNELS
from nncosim.platforms.j3dai import PLATFORM
from nncosim.platforms.rounding import Rounding
from nncosim.regress.builder import INT8, UINT8, NetworkBuilder
from nncosim.regress.cases import case, table
from nncosim.regress.harness import run_compiled


def by_loops(values, x):
    """The definition, element by element."""
    out = np.zeros(x.shape, dtype=np.int64)
    for index in np.ndindex(*x.shape):
        out[index] = values[int(x[index]) if x[index] >= 0 else int(x[index]) + 256]
    return out


@pytest.mark.parametrize("source", [INT8, UINT8], ids=["signed", "unsigned"])
@pytest.mark.parametrize("out", [INT8, UINT8], ids=["signed_out", "unsigned_out"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (16, 8, 8), (17, 1, 9), (40, 11, 13), (96, 33, 31)], ids=str)
def test_on_the_simulator(shape, source, out):
    network = table(5, *shape, out=out, source=source)
    run = run_compiled(compile_network(network, PLATFORM), "iss", seed=7, frames=2)
    assert run.problems() == []
    for frame, inputs in zip(run.result.frames, run.inputs, strict=True):
        assert np.array_equal(frame.tensors["y"], by_loops(network.ops[0].values, inputs["x"]))


@pytest.mark.parametrize(
    "settings", [{"clusters": 1}, {"l1_bytes": 8192, "wmem_bytes": 4096}, {"dmpa_bits": 128}], ids=str
)
def test_on_other_machines(settings):
    """With 8 KiB of L1 the table takes a quarter of it, and the map comes in tiles."""
    platform = PLATFORM.with_parameters(**settings)
    run = run_compiled(compile_network(table(2, 40, 21, 23), platform), "iss", seed=3)
    assert run.problems() == []


def test_tables_among_other_layers():
    """Each layer's table takes the place of the one before; L1 is shared with convolutions' tiles."""
    b = NetworkBuilder(9)
    x = b.conv(b.input(3, 19, 17), 24, 3)
    rng = np.random.default_rng(1)
    names = []
    for number, kind in enumerate((INT8, UINT8)):
        values = tuple(rng.integers(kind.lo, kind.hi + 1, 256).tolist())
        name = b._append(Table(f"table{number}", (x,), f"curve{number}", values=values), kind, plain=True)
        names.append(b.depthwise(name, 3))
    network = b.build("tables", b.add(*names), "curve0", "curve1")
    run = run_compiled(compile_network(network, PLATFORM), "iss", seed=4, frames=2)
    assert run.problems() == []


def test_every_byte_of_the_table_matters():
    """A wrong byte in any of its eight copies is seen."""
    compiled = compile_network(table(5, 16, 32, 32), PLATFORM)
    values = np.arange(256).reshape(1, 16, 16) - 128
    x = np.tile(values, (16, 2, 2))
    x = np.where(np.arange(16)[:, None, None] < 8, x, np.roll(x, 3, axis=2))
    at = compiled.placement.address["table.parameters"] + 16 * 16
    for bank, entry in ((0, 0), (3, 77), (7, 255)):
        address = at + entry // 16 * 128 + bank * 16 + entry % 16
        shifted = [{"x": np.roll(x, k, axis=2)} for k in range(8)]  # every integer in every column of a group
        run = run_compiled(compiled, "iss", inputs=shifted, spoil=lambda image, a=address: flip(image, a))
        (problem,) = run.problems()
        assert problem.startswith("first wrong element: y[")
        good = evaluate(compiled.network, shifted[0])["y"]
        wrong = np.argwhere(run.result.frames[0].tensors["y"] != good)
        assert {int(shifted[0]["x"][tuple(i)]) & 255 for i in wrong} <= {entry}
        assert {int(i[1] * 32 + i[2]) % 8 for i in wrong} <= {bank}


def flip(image, address):
    whole = Image.from_bytes(image)
    segments = []
    for segment in whole.segments:
        data = bytearray(segment.data)
        offset = 0x8000_0000 + address - segment.address
        if segment.memory == "l2" and 0 <= offset < len(data):
            data[offset] ^= 1
        segments.append(replace(segment, data=bytes(data)))
    return replace(whole, segments=tuple(segments)).to_bytes()


def test_kernel_code():
    network = case("table_few_channels").build(1)
    (op,) = network.ops
    (kernel,), _ = candidate_kernels(KERNELS, op, network, PLATFORM)
    nest = kernel.code(op, network, PLATFORM)
    assert (nest.op, nest.lanes, nest.table_words) == (MacOp.TABLE, 3, 128)
    words = np.frombuffer(nest.parameter_bytes(), np.uint8)[16 * 16 :].reshape(16, 8, 16)
    for bank in range(8):
        assert words[:, bank].ravel().tolist() == list(op.values)
    with pytest.raises(KernelError, match="op TABLE, and no other, needs a table of 256 bytes"):
        replace(nest, table=b"")


@pytest.mark.parametrize(("change", "pattern"), [
    ({"values": (0,) * 255}, "has a table of 255 values, not 256"),
    ({"values": (0,) * 255 + (128,)}, r"gives 0\.\.128, but its output holds -128\.\.127"),
], ids=["size", "range"])  # fmt: skip
def test_refusals(change, pattern):
    network = table(1, 16, 4, 4)
    wrong = network.with_ops((replace(network.ops[0], **change),))
    fitting, (reason,) = candidate_kernels(KERNELS, wrong.ops[0], wrong, PLATFORM)
    assert not fitting
    assert re.search(pattern, str(reason))


def tenth(channels=20, other=0):
    """q / 10, half to even: its ties go down at 5, up at 15, which no (m, c, s) does."""
    ratios = tuple(Fraction(1, 10) + Fraction(other * c, 1000) for c in range(channels))
    function = QuantFunction((ratios,), (Fraction(0),) * channels, Rounding.HALF_EVEN, -128, 127)
    kind = TensorType(8, True, INT8.scale, 0, -13, 13)
    x, y = Tensor("x", (channels, 6, 9), INT8), Tensor("y", (channels, 6, 9), kind)
    op = Requantize("rq", ("x",), "y", function=function)
    return Network("tenth", {"x": x, "y": y}, (op,), ("x",), ("y",), {"x": (1, *x.shape), "y": (1, *y.shape)})


def test_ties_that_no_requantization_meets_become_a_table():
    network = tenth()
    (plain,) = prove(network).ops
    assert isinstance(plain, Requantize) and not plain.proof.exact
    compiled = compile_network(network, PLATFORM)
    (op,) = compiled.network.ops
    assert isinstance(op, Table) and op.proof.exact and op.proof.checked_values == 256
    assert [op.values[q] for q in (5, 15, 25, 251, 241)] == [0, 2, 2, 0, -2]
    assert op.values == tuple(round(Fraction(q - 256 * (q > 127), 10)) for q in range(256))
    run = run_compiled(compiled, "iss", seed=1, frames=2)
    assert run.problems() == []
    assert prove(compiled.network, RequantCaps(tables=True)).ops == (op,)
    exact = evaluate(compiled.network, run.inputs[0], exact=True)
    assert np.array_equal(exact["y"], run.result.frames[0].tensors["y"])


def test_a_requantize_that_differs_per_channel_stays():
    (op,) = prove(tenth(other=1), RequantCaps(tables=True)).ops
    assert isinstance(op, Requantize) and op.proof.exact_channels < op.proof.channels


def test_ties_against_qonnx():
    g = Graph((1, 4, 16, 16))
    model = g.model(g.quant(g.quant("x", 1.0), 10.0, name="y"))
    network = prove(import_model(model), RequantCaps(tables=True))
    (op,) = network.ops
    assert isinstance(op, Table)
    assert compare_with_qonnx(model, network, 4, seed=1).ok
    values = (op.values[0] + 1, *op.values[1:])
    report = compare_with_qonnx(model, network.with_ops((replace(op, values=values),)), 4, seed=1)
    assert report.layers[0].wrong > 0 and not report.ok


def test_a_model_with_sigmoid_runs():
    g = Graph((1, 3, 9, 11), seed=8, opset=14)
    a = g.quant(g.conv(g.quant("x", 0.05), 3, 20, dilations=[2, 3], pads=[2, 3, 2, 3]), 0.08, name="a")
    s = g.quant(g.node("Sigmoid", [a], name="s"), 1 / 255, signed=0, name="gate")
    h = g.quant(g.node("HardSwish", [a], name="h"), 0.06, name="swish")
    g.quant(g.node("Add", [s, h], name="sum"), 0.07, name="y")
    model = g.model("y")
    network = import_model(model)
    assert [op.kind for op in network.ops] == ["conv", "table", "table", "add"]
    compiled = compile_network(network, PLATFORM)
    assert all(op.proof.exact for op in compiled.network.ops)
    run = run_compiled(compiled, "iss", seed=2, frames=2)
    assert run.problems() == []
    assert compare_with_qonnx(model, compiled.network, 3).ok
