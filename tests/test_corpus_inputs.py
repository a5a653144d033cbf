# SPDX-License-Identifier: Apache-2.0
"""Models whose graph input is a float: what its integers are, and arithmetic before the first Quant."""

import json

import numpy as np
import onnx
import pytest
from command_line import refused as refused_command
from command_line import runner
from corpus_check import annotate, bytes_image, executor, imported, outputs, refused, same
from models import Graph
from nncosim.compiler.errors import InputDataError
from nncosim.compiler.frontend import import_details, quantise_input
from nncosim.compiler.frontend.forms import InputForm, calibrated, parse_form, write_forms
from nncosim.compiler.ir.host import HostStep, apply_steps, arrange, rearrange, undo_steps
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx, random_images
from nncosim.tb.reference.check import compare_with_reference
from nncosim.tb.reference.onnx_reference import OnnxReference
from nncosim.tb.run.network_json import network_from_json, network_to_json

BYTES = InputForm(8, signed=False)


def first_layer(*steps, layer="Conv", scale=None, opset=13, pads=None, relu=False, input_quant=None):
    """x, then arithmetic (op, constant) in order, then Quant if given, then the layer and its Quant."""
    g = Graph((1, 3, 6, 6) if layer == "Conv" else (1, 24), seed=3, opset=opset)
    x = "x"
    for n, (op, constant) in enumerate(steps):
        c = g.constant(constant)
        x = g.node(op.strip("-"), [c, x] if op.startswith("-") else [x, c], name=f"{op.strip('-').lower()}{n}")
    if relu:
        x = g.relu(x)
    if input_quant is not None:
        x = g.quant(x, input_quant, name="x_q")
    if layer == "Conv":
        y = g.conv(x, 3, 8, 3, name="first", pads=pads)
    else:
        y = g.node("MatMul", [x, g.weights((24, 10), axis=1)], name="first")
    return g.model(g.quant(y, scale or 0.02, name="y"))


MEAN, STD = np.array([124.0, 116, 104]).reshape(1, 3, 1, 1), np.array([58.0, 57, 57.5]).reshape(1, 3, 1, 1)
NORMALISED = (("Sub", MEAN), ("Div", STD))


@pytest.mark.parametrize("form", ["option", "annotation"])
@pytest.mark.parametrize("layer, scale, steps", [
    ("Conv", 5.0, ()), ("MatMul", 5.0, ()), ("Conv", 0.02, (("Div", 255.0),)),
    ("Conv", 0.05, (("Sub", 128.0), ("Mul", 1 / 128))),
    ("MatMul", 0.05, (("Mul", 2 / 255), ("Add", -1.0))), ("MatMul", 0.05, (("-Sub", 100.0), ("Mul", -1 / 64))),
])  # fmt: skip
def test_bytes_straight_into_the_first_layer(form, layer, scale, steps):
    """The graph as it was written, without any Quant on its input, is the oracle."""
    model = first_layer(*steps, layer=layer, scale=scale)
    image = {"x": bytes_image((1, 3, 6, 6) if layer == "Conv" else (1, 24))}
    network = imported(model, {"x": BYTES}) if form == "option" else imported(annotate(model, x="UINT8"))
    assert (network.tensors["x"].type.bits, network.tensors["x"].type.signed) == (8, False)
    assert network.remarks[0].startswith("input 'x' is taken as 8-bit unsigned integers, real = integer * 1 (")
    assert ("UINT8" in network.remarks[0]) == (form == "annotation") and len(network.ops) == 1
    same(model, network, image)
    same(model, network_from_json(json.loads(json.dumps(network_to_json(network)))), image)


def test_what_a_byte_stands_for_matters():
    """The oracle sees a wrong scale, zero point or sign."""
    model, image = first_layer(("Sub", 128.0), scale=4.0, pads=[0, 0, 0, 0]), {"x": bytes_image((1, 3, 6, 6))}
    same(model, imported(model, {"x": BYTES}), image)
    for wrong in (InputForm(8, False, 1.05), InputForm(8, False, 1.0, 9), InputForm(8)):
        with pytest.raises(AssertionError):
            same(model, imported(model, {"x": wrong}), image)


@pytest.mark.parametrize("pads", [None, [0, 0, 0, 0]])
def test_arithmetic_by_channel_needs_a_quant_after_it(pads):
    """Its affine function folds into no sum; what comes out of it can be quantised, by the host."""
    model = first_layer(*NORMALISED, pads=pads)
    refused(model, r"Conv 'first': the graph input 'x' is a float.*--input-quant x=.*--input-quant div1=.*--calibrate")
    refused(model, r"Conv 'first'", forms={"x": BYTES})
    network = imported(model, {"div1": InputForm(8, True, 0.02)})
    assert [step.op for step in network.input_steps["x"]] == ["Sub", "Div"]
    steps = np.random.default_rng(1).integers(-110, 110, (1, 3, 6, 6))
    same(model, network, {"x": (steps * np.float32(0.02) * STD + MEAN).astype(np.float32)})


def test_padding_needs_a_zero_that_is_an_integer():
    model = first_layer(("Mul", 2 / 255), ("Sub", 1.0))
    refused(model, r"Conv 'first': padding writes a real zero, which is the integer 127\.5.*--input-quant VALUE",
            forms={"x": BYTES})  # fmt: skip
    whole = first_layer(("Mul", 2 / 255), ("Sub", 1.0), pads=[0, 0, 0, 0])
    same(whole, imported(whole, {"x": BYTES}), {"x": bytes_image((1, 3, 6, 6))})


@pytest.mark.parametrize("steps, relu", [
    (NORMALISED, False), ((("Mul", 2.0), ("Sub", 255.0), ("Div", 100.0)), False),
    ((("-Sub", 128.0), ("Mul", 0.01)), True),
    ((("-Mul", STD / 3000), ("-Add", MEAN / -99)), False),
])  # fmt: skip
def test_arithmetic_before_a_quant_is_the_hosts(steps, relu):
    """No layer comes of it, and the inputs' integers are those of float32 arithmetic node by node."""
    model = first_layer(*steps, relu=relu, input_quant=0.02, scale=0.05)
    details = import_details(model)
    network = imported(model)
    assert len(network.ops) == 1 and not network.remarks
    image = {"x": bytes_image((1, 3, 6, 6), 5)}
    same(model, network, image)
    images = random_images(network, 2, 0)
    assert compare_with_qonnx(model, network, images).ok
    assert compare_with_reference(OnnxReference(model), network, details.onnx_names, images).ok
    integers = quantise_input(network, "x", image["x"])
    assert (quantise_input(network, "x", integers) == integers).all()  # integers are quantised already
    with pytest.raises(AssertionError):
        same(first_layer(*steps[:-1], relu=relu, input_quant=0.02, scale=0.05), network, image)


def test_an_annotated_input_is_what_the_machine_takes_also_before_a_quant():
    """A camera's bytes: the normalisation and its Quant are a layer."""
    model = annotate(first_layer(*NORMALISED, input_quant=0.02, scale=0.05), x="UINT8")
    network = imported(model)
    assert [op.title for op in network.ops][1:] == ["Conv 3x3"] and len(network.ops) == 2
    same(model, network, {"x": bytes_image((1, 3, 6, 6), 2)})
    assert compare_with_reference(OnnxReference(first := _written(model)), network, import_details(first).onnx_names,
                                  [{"x": bytes_image((1, 3, 6, 6), 2)}]).ok  # fmt: skip


def _written(model):
    write_forms(model, {})
    return model


@pytest.mark.parametrize("kind, bits, signed, ends", [
    ("INT8", 8, True, (-128, 127)), ("UINT4", 4, False, (0, 15)), ("BIPOLAR", 2, True, (-1, 1)),
    ("TERNARY", 2, True, (-1, 1)), ("FIXED<8,4>", 8, True, (-128, 127)), ("INT2", 2, True, (-2, 1)),
])  # fmt: skip
def test_annotations(kind, bits, signed, ends):
    model = annotate(first_layer(layer="MatMul"), x=kind)
    network = imported(model)
    found = network.tensors["x"].type
    assert (found.bits, found.signed, found.lo, found.hi) == (bits, signed, *ends)
    assert float(found.scale[0]) == (1 / 16 if kind.startswith("FIXED") else 1)


def test_annotations_that_fix_no_integers_leave_the_input_open():
    for kind in ("FLOAT32", "SCALEDINT<8>", "NOTHING", ""):
        refused(annotate(first_layer(), x=kind), "nothing says which integers stand for it")


def test_a_float_input_into_relu_and_names_that_are_none():
    model = first_layer(relu=True, scale=0.5)
    refused(model, r"Conv 'first': the graph input 'x' is a float")
    refused(model, r"no graph input 'z' for --input-quant; graph inputs are x", forms={"z": BYTES})
    refused(model, r"no graph input 'first' for --input-quant", forms={"first": BYTES})
    refused(first_layer(input_quant=0.05), r"no graph input 'x_q'", forms={"x_q": BYTES})


def test_two_inputs():
    g = Graph((1, 4, 5, 5), seed=2)
    g.input("z", (1, 4, 5, 5))
    both = [g.node("Mul", [name, g.constant(0.5)], name=f"{name}_half") for name in ("x", "z")]
    y = g.quant(g.node("Add", [g.quant(n, 0.5, bits=6, name=f"{n}_q") for n in both]), 0.7, name="y")
    model, image = g.model(y), {n: np.random.default_rng(i).normal(0, 20, (1, 4, 5, 5)).astype(np.float32)
                                for i, n in enumerate("xz")}  # fmt: skip
    same(model, imported(model), image)
    refused(first_layer_of_two(), "--input-quant needs a NAME=; graph inputs are x, z", forms={"": BYTES})


def first_layer_of_two():
    g = Graph((1, 4), seed=2)
    g.input("z", (1, 4))
    return g.model(g.quant(g.node("Add", ["x", "z"]), 0.7, name="y"))


def test_calibration_takes_the_largest_magnitude_of_what_is_quantised():
    data = {"x": np.stack([bytes_image((3, 6, 6), seed) for seed in range(3)])}
    (name, form), = calibrated(first_layer(), data, {}, "d.npz").items()
    assert (name, form.bits, form.signed, form.scale) == ("x", 8, False, 1.0) and "d.npz" in form.source
    (name, form), = calibrated(first_layer(*NORMALISED), data, {}, "d.npz").items()
    largest = np.abs((data["x"] - MEAN) / STD).max()
    assert name == "div1" and form.signed and form.scale == pytest.approx(largest / 127, rel=1e-6)
    for given in ({"div1": form}, {"x": BYTES}, {"": BYTES}):
        assert calibrated(first_layer(*NORMALISED), data, given, "") == given
    assert calibrated(first_layer(input_quant=0.1), {}, {}, "") == {}
    for wrong in ({}, {"x": np.zeros((1, 3, 6, 6))}, {"x": np.full((1, 3, 6, 6), np.nan)}):
        with pytest.raises(InputDataError, match=r"--calibrate d\.npz"):
            calibrated(first_layer(), wrong, {}, "d.npz")


@pytest.mark.parametrize("text, form", [
    ("8", ("", InputForm(8))), ("x=4,unsigned", ("x", InputForm(4, False))),
    ("a=b=8,signed,0.5", ("a=b", InputForm(8, True, 0.5))),
    ("x=8,0.25,3", ("x", InputForm(8, True, 0.25, 3))),
])  # fmt: skip
def test_the_options_text(text, form):
    assert parse_form(text) == form
    assert parse_form(f"{form[0]}={form[1].text}") == form


@pytest.mark.parametrize("text", ["", "x=", "x=8,maybe", "x=8,signed,0", "x=8,signed,nan", "x=0", "x=1,signed", "x=99",
                                  "x=8,unsigned,1,256", "x=8,signed,1,0,5", "x=8,signed,1e-60"])  # fmt: skip
def test_texts_that_are_no_form(text):
    with pytest.raises(InputDataError, match="--input-quant"):
        parse_form(text)


def test_host_steps_and_their_inverse():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 4, 5, 6)).astype(np.float32)
    steps = (
        HostStep.by("Mul", rng.uniform(1, 2, 6)), HostStep("Transpose", (0, 3, 1, 2)), HostStep.by("Sub", np.array(3)),
        HostStep("Reshape", (1, 6, 20)), HostStep.by("Div", rng.uniform(1, 2, (6, 1))), HostStep.by("Add", np.array(1)),
    )  # fmt: skip
    assert np.allclose(undo_steps(apply_steps(x, steps), steps, x.shape), x, atol=1e-5)
    assert (rearrange(arrange(x, steps), steps, x.shape) == x).all() and arrange(x, steps).shape == (1, 6, 20)
    assert (apply_steps(x, (HostStep("Sign"),)) == np.where(x >= 0, 1, -1)).all()


def test_check_compile_run_and_evaluate_say_what_was_assumed(tmp_path, capfd):
    """And an image that runs without its model feeds the same."""
    command = runner(capfd)
    model, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    onnx.save(first_layer(*NORMALISED, scale=0.05), model)
    np.savez(data, x=bytes_image((1, 3, 6, 6), 3))
    refused_command(command("check", model), "nothing says which integers", "--input-quant x=")
    said = "input 'div1' is taken as 8-bit signed integers, real = integer * 0.02 (--input-quant)"
    option = "--input-quant=div1=8,signed,0.02"
    done = command("check", model, option, "--json", "-")
    assert json.loads(done.out)["remarks"] == [said] and said in done.err
    assert said in command("compile", model, option, "--out", tmp_path / "c").out
    run = ("--backend", "iss", "--input", data, "--json", "-")
    first = command("run", model, option, *run)
    again = command("run", tmp_path / "c" / "image.elf", *run, "--out", tmp_path / "r")
    for each in (first, again):
        report = json.loads(each.out)
        assert report["verdict"] == "pass" and report["remarks"] == [said] and said in each.err
    assert option in json.loads(first.out)["command"]
    found = np.load(tmp_path / "r" / "outputs.npz")["y__float"]
    network = imported(onnx.load(model), {"div1": InputForm(8, True, 0.02)})
    assert (found == outputs(network, dict(np.load(data)))["y"]).all()
    assert np.abs(found - executor(onnx.load(model), dict(np.load(data)))["y"]).mean() < 0.1  # its input is no integer
    refused_command(command("run", tmp_path / "c" / "image.elf", option), "the image has that in it")
    against = ("--reference", "--against", "onnx", "--images", 1, "--json", "-")
    done = command("evaluate", model, "--calibrate", data, *against)
    assert done.status == 0 and "calibrated on" in json.loads(done.out)["remarks"][0], done.err
