# SPDX-License-Identifier: Apache-2.0
"""Model files that break the rules of ONNX, or claim what nothing holds: told in words, and before memory is taken."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import toy
from command_line import refused
from models import Graph, conv_model
from nncosim.compiler.errors import ModelError
from nncosim.compiler.frontend import import_model
from nncosim.compiler.frontend.examine import MAX_ELEMENTS, MIN_OPSET
from onnx import TensorProto, helper, numpy_helper
from toy_models import branching_model, save

toy.install()

NEWEST = onnx.defs.onnx_opset_version()


def opset(*versions: int, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        kept = [entry for entry in model.opset_import if entry.domain]
        del model.opset_import[:]
        model.opset_import.extend([*kept, *(helper.make_opsetid(domain, version) for version in versions)])

    return change


def input_dim(index: int, size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[index].dim_value = size

    return change


def giant(model: onnx.ModelProto) -> None:
    for index, size in ((2, 100_000), (3, 100_000)):
        input_dim(index, size)(model)


def input_type(number: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = number

    return change


def sequence_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(model.graph.input[0].type))


def again(field: str) -> Callable[[onnx.ModelProto], None]:
    """The first entry of a list of the graph once more."""
    def change(model: onnx.ModelProto) -> None:
        entries = getattr(model.graph, field)
        entries.append(entries[0])

    return change


def output_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def rename_io(field: str, name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        old = getattr(model.graph, field)[0].name
        getattr(model.graph, field)[0].name = name
        for node in model.graph.node:
            for names in (node.input, node.output):
                for index, value in enumerate(names):
                    names[index] = name if value == old else value

    return change


def constant(**changes: object) -> Callable[[onnx.ModelProto], None]:
    """Fields of the largest initializer."""
    def change(model: onnx.ModelProto) -> None:
        tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        for field, value in changes.items():
            if field == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)  # type: ignore[arg-type]
            else:
                setattr(tensor, field, value)

    return change


def text_constant(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(np.array(["a"], object), tensor.name))


BROKEN = {
    "opset 1": (opset(1), rf"uses version 1 of the ONNX operators \(opset\); {MIN_OPSET} to {NEWEST} are supported"),
    "opset 999": (opset(999), r"uses version 999 of the ONNX operators"),
    "an opset just too old": (opset(MIN_OPSET - 1), r"uses version 6 .*onnx.version_converter"),
    "an opset just too new": (opset(NEWEST + 1), rf"uses version {NEWEST + 1} of"),
    "no opset": (opset(), r"does not say which version of the ONNX operators"),
    "two opsets": (opset(13, 17), r"several versions of the ONNX operators: 13, 17"),
    "text in": (input_type(TensorProto.STRING), r"'x': the graph input holds STRING; expected FLOAT"),
    "integers in": (input_type(TensorProto.INT64), r"'x': the graph input holds INT64"),
    "a type of no one's": (input_type(99), r"'x': the graph input holds type 99"),
    "a sequence in": (sequence_input, r"'x': the graph input is a sequence; expected a tensor"),
    "text out": (output_type, r"'y': the graph output holds STRING; expected FLOAT"),
    "batch 0": (input_dim(0, 0), r"'x': the graph input has a batch of 0"),
    "height 0": (input_dim(2, 0), r"the graph input has no fixed shape"),
    "a giant input": (giant, rf"'x': the graph input has 1 x 3 x 100000 x 100000 elements; at most {MAX_ELEMENTS:,}"),
    "an input beyond 64 bits": (input_dim(3, 2**62), r"the graph input has 1 x 3 x 8 x 4611686018427387904 elements"),
    "as many channels as nothing has": (input_dim(1, 10**6), r"the tensor has 1,000,000 channels; at most 262,144"),
    "an output twice": (again("output"), r"'y': there are two of this graph output"),
    "an input twice": (again("input"), r"'x': there are two of this graph input"),
    "an initializer twice": (again("initializer"), r"there are two of this initializer"),
    "a node twice": (again("node"), r"there are two of this value"),
    "an output without a name": (rename_io("output", ""), r"an output has no name"),
    "an output with a zero byte": (rename_io("output", "y\0z"), r"this output's name has a zero byte"),
    "data too short": (constant(raw_data=b"\0" * 6), r"the constant's data do not fit its shape \(8, 3, 3, 3\)"),
    "no data": (constant(raw_data=b""), r"the constant's data do not fit its shape"),
    "a shape without data": (constant(dims=[2**20, 2**20]), r"the constant has 1048576 x 1048576 elements; at most"),
    "a negative shape": (constant(dims=[-3, 3]), r"the constant's data do not fit its shape \(-3, 3\)"),
    "a type without a name": (constant(data_type=99), r"the constant's data do not fit its shape"),
    "a constant of text": (text_constant, r"the constant holds text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_break_the_rules(case):
    model = conv_model()
    change, pattern = BROKEN[case]
    change(model)
    with pytest.raises(ModelError) as caught:
        import_model(model)
    assert re.search(pattern, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("change", [
    opset(MIN_OPSET), opset(NEWEST), opset(13, domain="ai.onnx"), opset(13, 13), input_dim(0, 7), input_dim(0, -1),
], ids=["oldest", "newest", "the long domain", "the same twice", "a batch", "an unknown batch"])  # fmt: skip
def test_what_is_just_inside(change):
    model = conv_model()
    change(model)
    assert import_model(model).outputs == ("y",)


def test_results_that_are_too_large():
    """Inferred by ONNX before constants are folded, and by the importer."""
    g = Graph((1, 4, 8, 8))
    x = g.quant("x", 0.05)
    big = g.node("Resize", [x, "", g.constant([1, 1, 4096, 4096])], mode="nearest", nearest_mode="floor", name="big",
                 coordinate_transformation_mode="asymmetric")  # fmt: skip
    with pytest.raises(ModelError, match="1 x 4 x 32768 x 32768 elements; at most"):
        import_model(g.model(g.quant(big, 0.05)))
    g = Graph((1, 4, 8, 8))
    shape = g.constant([1, 4, 50_000, 50_000], dtype=np.int64)
    folded = g.node("ConstantOfShape", [shape], name="folded")
    y = g.node("Add", [g.quant("x", 0.05), folded])
    with pytest.raises(ModelError, match="'folded': the tensor has 1 x 4 x 50000 x 50000 elements"):
        import_model(g.model(g.quant(y, 0.05)))


def test_a_refusal_of_every_command(command, tmp_path):
    model = branching_model()
    model.graph.output.append(model.graph.output[0])
    file = save(model, tmp_path / "m.onnx")
    for arguments in (("run",), ("compile", "--out", tmp_path / "o"), ("check",), ("evaluate", "--against", "qonnx"),
                      ("evaluate", "--against", "qonnx", "--reference"), ("sweep", "--grid", "lanes=16")):  # fmt: skip
        platform = () if "--reference" in arguments else ("--platform", "toy")
        refused(command(arguments[0], file, *arguments[1:], *platform), "there are two of this graph output")


@pytest.mark.parametrize("text", [b"conv", b"x_q", b"Quant", b"rounding_mode", b"ROUND", b"qonnx.custom_op.general"])
def test_names_and_texts_that_are_none(tmp_path, text):
    """A byte that no UTF-8 has, in a name of every kind and in an attribute's text."""
    data = conv_model().SerializeToString()
    assert text in data
    (tmp_path / "m.onnx").write_bytes(data.replace(text, b"\xff" + text[1:]))
    with pytest.raises(ModelError, match=r"a name or a text in it is no text \(UTF-8\)"):
        import_model(tmp_path / "m.onnx")


# ---- what lies beside the model, and what is no file

@pytest.fixture
def in_parts(tmp_path):
    """A model whose weights are in weights.bin."""
    onnx.save(conv_model(channels_out=32), tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=64)  # fmt: skip
    return tmp_path


def test_weights_beside_the_model_are_read(in_parts):
    network, whole = import_model(in_parts / "m.onnx"), import_model(conv_model(channels_out=32))
    assert np.array_equal(network.ops[0].weights, whole.ops[0].weights)


def test_weights_that_are_missing_are_named(in_parts, command):
    (in_parts / "weights.bin").rename(in_parts / "elsewhere.bin")
    refused(command("check", in_parts / "m.onnx"), "its values are in the file 'weights.bin', which is not in",
            "copy that file there too")  # fmt: skip
    refused(command("run", in_parts / "m.onnx"), "its values are in the file 'weights.bin'")


def test_weights_that_are_cut_off_are_told(in_parts, command):
    data = (in_parts / "weights.bin").read_bytes()
    (in_parts / "weights.bin").write_bytes(data[: len(data) // 2])
    message = refused(command("check", in_parts / "m.onnx"))
    assert "cannot be read" in message or "do not fit" in message


def test_devices_pipes_and_giants_are_not_read(command, tmp_path):
    """/dev/zero has no end, a pipe no begin the second time, and nothing takes a file of a terabyte."""
    (tmp_path / "big.onnx").touch()
    (tmp_path / "link.onnx").symlink_to("/dev/zero")
    (tmp_path / "x.npz").symlink_to("/dev/zero")
    os.truncate(tmp_path / "big.onnx", 1 << 40)
    os.mkfifo(tmp_path / "pipe.onnx")
    file = save(branching_model(), tmp_path / "m.onnx")
    for name in ("run", "check", "evaluate"):
        more = ("--against", "qonnx") if name == "evaluate" else ()
        for source, reason in (("/dev/zero", "is a device"), (tmp_path / "link.onnx", "is a device"),
                               (tmp_path / "pipe.onnx", "is a pipe"), (tmp_path / "big.onnx", "at most 2,147,483,647")):
            refused(command(name, source, "--platform", "toy", *more), reason)
    refused(command("run", file, "--platform", "toy", "--input", tmp_path / "x.npz"), "is a device")
    refused(command("evaluate", file, "--platform", "toy", "--data", tmp_path / "pipe.onnx"), "is a pipe")
    for name in ("report.json", "image.elf", "timeline.npz"):
        assert command("run", file, "--platform", "toy", "--out", tmp_path / "o").status == 0
        (tmp_path / "o" / name).unlink()
        (tmp_path / "o" / name).symlink_to("/dev/zero")
        refused(command("report", tmp_path / "o"), name, "is a device")
        (tmp_path / "o" / name).unlink()
