# SPDX-License-Identifier: Apache-2.0
"""A run is judged by what the chosen kernels say they compute; the proof says whether that is the graph.

The toy with another matrix engine: an analog array that clips the sum after each position of the kernel.
"""

import io
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx
import pytest
import toy
from command_line import refused, runner
from models import Graph
from nncosim.compiler.backends import register_backend
from nncosim.compiler.image.image import Image, ImageError
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.platforms.registry import register
from nncosim.tb.backend import register_bench
from nncosim.tb.report.table import print_report
from nncosim.tb.run.flow import RunOptions, run_program
from nncosim.tb.run.inputs import random_frames
from nncosim.tb.run.program import compile_model, load_image, seal
from rich.console import Console
from toy.compiler import MatrixKernel, StreamKernel, ToyBackend
from toy.machine import Record


@dataclass(frozen=True)
class Analog(toy.machine.Toy):
    """clip: the largest sum."""

    name: ClassVar[str] = "analog"
    title: ClassVar[str] = "An array that clips"
    clip: int = 200


class AnalogConv(MatrixKernel):
    name = "analog_conv"

    def reference(self, op, network, platform, inputs):
        total = np.int64(0)
        for tap in np.ndindex(op.weights.shape[2:]):
            one = np.zeros_like(op.weights)
            one[:, :, *tap] = op.weights[:, :, *tap]
            total = np.clip(total + replace(op, weights=one).accumulate(inputs)[0], -platform.clip, platform.clip)
        return op.requant.apply(total, axis=network.tensors[op.output].channel_axis)

    def deviation(self, op, network, platform):
        low, high = op.partial_bounds(network.op_inputs(op))
        reach = max(-int(low.min()), int(high.max()))
        return f"sums of up to {reach} are clipped to {platform.clip}" if reach > platform.clip else ""


class AnalogBackend(ToyBackend):
    kernels = (AnalogConv(), StreamKernel())


def array(memory: np.ndarray, k: toy.machine.Command, clip: int) -> None:
    """The analog engine: 8-bit data, no groups, no padding, element by element."""
    x = memory[k.a :][: k.channels * k.height * k.width].view(np.int8).reshape(k.channels, k.height, k.width)
    shape = (k.out_channels, k.channels, k.kernel_h, k.kernel_w)
    weights = memory[k.weights :][: int(np.prod(shape))].view(np.int8).reshape(shape)
    for place, (c, row, column) in enumerate(np.ndindex(k.out_channels, k.out_height, k.out_width)):
        total = 0
        for i, j in np.ndindex(k.kernel_h, k.kernel_w):
            pixel = x[:, row * k.stride_h + i, column * k.stride_w + j]
            total += sum(int(w) * int(q) for w, q in zip(weights[c, :, i, j], pixel, strict=True))
            total = max(-clip, min(clip, total))
        r = Record.from_buffer_copy(memory[k.records :], c * 48)
        memory[k.out + place] = max(r.lo, min(r.hi, (total * r.m0 + r.c) >> r.s)) & 255


class AnalogBench(toy.bench.ToyBench):
    def run(self, platform, *arguments, **more):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(toy.bench, "convolve", lambda memory, command: array(memory, command, platform.clip))
            return super().run(platform, *arguments, **more)


register(Analog())
register_backend("analog", AnalogBackend())
register_bench("analog", AnalogBench())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """x (1, 2, 6, 6) -> convolution with small sums -> one with large sums -> y."""
    g = Graph((1, 2, 6, 6), seed=8)
    narrow, wide = g.weights((2, 2, 3, 3), bits=2), g.weights((3, 2, 3, 3), bits=4)
    small = g.conv(g.quant("x", 0.25, bits=5), 2, 2, pads=[0] * 4, name="small", weights=narrow)
    large = g.conv(g.quant(small, 0.5, bits=5), 2, 3, pads=[0] * 4, name="large", weights=wide)
    path = tmp_path_factory.mktemp("analog") / "two.onnx"
    onnx.save(g.model(g.quant(large, 1.0, name="y")), path)
    return path


def compiled(model, **settings):
    platform = Analog().with_parameters(**settings)
    return compile_model(model, model.read_bytes(), platform, settings), platform


def test_what_the_array_computes_is_right_though_it_is_not_the_graph(model):
    program, platform = compiled(model)
    for seed in range(5):
        report = run_program(program, platform, {}, RunOptions(seed=seed)).report
        assert report.verdict == "pass", report.comparison.first
        assert report.comparison.from_memory >= 1
    frame = random_frames(program.network, 0)[0]
    graph, array_ = evaluate(program.network, frame), evaluate(program.network, frame, reference=program.reference)
    wrong = [op.name for op in program.network.ops if not np.array_equal(graph[op.output], array_[op.output])]
    assert wrong == ["large"]  # and the test would see if the array did not clip


def test_the_proof_says_which_layer_is_not_the_graph(model):
    program, platform = compiled(model)
    small, large = program.network.ops
    assert small.proof.equals_graph and large.proof.exact and not large.proof.equals_graph
    assert large.proof.deviation.endswith("are clipped to 200")
    report = run_program(program, platform, {}, RunOptions()).report
    assert report.requantization.inexact == ("large",)
    assert [layer.requantization for layer in report.layers] == ["exact", large.proof.deviation]
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=200))
    assert "exact in 1 of 2 layers" in stream.getvalue()


def test_an_array_wide_enough_is_the_graph(model):
    """The bounds decide, not a run: with room for every partial sum there is nothing to say."""
    reach = int(compiled(model)[0].network.ops[1].proof.deviation.split()[4])
    for clip, same in ((reach, True), (reach - 1, False)):
        program, platform = compiled(model, clip=clip)
        assert all(op.proof.equals_graph for op in program.network.ops) == same
        assert run_program(program, platform, {}, RunOptions()).report.verdict == "pass"


def test_an_array_that_does_not_clip_is_a_mismatch(model, monkeypatch):
    """What equals the graph is wrong here: the kernel promised something else."""
    program, platform = compiled(model)
    monkeypatch.setattr(AnalogBench, "run", toy.bench.ToyBench.run)
    report = run_program(program, platform, {}, RunOptions()).report
    assert report.verdict == "mismatch" and report.comparison.first.tensor == "y"


def test_an_image_is_judged_by_its_kernels(model, tmp_path):
    program, platform = compiled(model)
    loaded, again, _ = load_image(tmp_path / "i.elf", program.image)
    assert again == platform and run_program(loaded, again, {}, RunOptions()).report.verdict == "pass"
    notes = Image.from_bytes(program.image).notes
    assert notes.origin.kernels == {"small": "analog_conv", "large": "analog_conv"}

    def with_kernels(kernels):
        origin = replace(notes.origin, kernels=kernels)
        return seal(replace(Image.from_bytes(program.image), notes=replace(notes, origin=origin))).to_bytes()

    graph = load_image(tmp_path / "i.elf", with_kernels({}))[0]  # by the operators
    assert run_program(graph, platform, {}, RunOptions()).report.verdict == "mismatch"
    with pytest.raises(ImageError, match="has no kernel 'gone' of operator 'small'; it has analog_conv, stream_loop"):
        load_image(tmp_path / "i.elf", with_kernels({"small": "gone"}))


def test_a_reference_without_a_word_on_it_is_no_proof(model, monkeypatch):
    """A kernel that computes something of its own, and does not say how it differs, is not taken for the graph."""
    monkeypatch.delattr(AnalogConv, "deviation")
    program, _ = compiled(model)
    assert {op.proof.deviation for op in program.network.ops} == {"kernel analog_conv has a reference of its own"}


def test_the_command_line_takes_it(model, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = runner(capfd)
    status, text, _ = command("run", model, "--platform", "analog")
    assert status == 0 and "large" in text
    assert "no parameter 'clap'" in refused(command("run", model, "--platform", "analog", "--set", "clap=1"))
