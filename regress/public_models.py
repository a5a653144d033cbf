# SPDX-License-Identifier: Apache-2.0
"""Quantised networks that others publish, as their own package exports them: which of them compile, and run right.

    python -m nncosim.regress.public_models --out DIR [NAME ...]

The networks are those of Brevitas' examples (package `brevitas_examples`): FINN's TFC, SFC, LFC and CNV, a ResNet-18,
MobileNetV1, ProxylessNAS, and ESPCN for super-resolution. Their trained weights have to be downloaded and are not used:
weights are those that a model begins with, and the statistics of a few random images. Each is exported to
DIR/NAME.onnx, imported, compiled for J3DAI, and one random image is run on its instruction-set simulator; another goes
through the qonnx package's executor. Where the memory L2 is too small, 16 MiB are tried. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from functools import partial
from pathlib import Path

import brevitas_examples.imagenet_classification.models as imagenet
import torch
from brevitas.export import export_qonnx
from brevitas_examples.bnn_pynq.models import model_with_cfg
from brevitas_examples.super_resolution.models import get_model_by_name, model_impl
from nncosim.compiler.compile import CheckResult, check_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.frontend.forms import InputForm, parse_form
from nncosim.compiler.frontend.prepare import load_model, with_forms
from nncosim.compiler.proof.qonnx_check import compare_with_qonnx
from nncosim.compiler.proof.requantization import prove
from nncosim.platforms.base import Platform
from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.harness import run_compiled
from torch import nn

__all__ = ["MODELS", "export"]

Shape = tuple[int, ...]
LARGE = PLATFORM.with_parameters(l2_bytes=16 << 20)
CAMERA = "x=8,unsigned,0.00390625"
"""What a float image is where the network does not say it: bytes."""


def _imagenet(name: str, architecture: str) -> nn.Module:
    settings = ConfigParser()
    settings.read(os.path.join(os.path.dirname(imagenet.__file__), "cfg", f"{name}.ini"))
    module = {"mobilenet": "mobilenetv1", "proxylessnas": "proxylessnas"}[architecture]
    make = {"mobilenet": "quant_mobilenet_v1", "proxylessnas": "quant_proxylessnas_mobile14"}[architecture]
    return getattr(getattr(imagenet, module), make)(settings)  # type: ignore[no-any-return]


def _bnn(name: str) -> nn.Module:
    return model_with_cfg(name.lower(), False)[0]  # type: ignore[no-any-return]


def _models() -> Iterator[tuple[str, Callable[[], nn.Module], Shape]]:
    for name in ("TFC_1W1A", "TFC_1W2A", "TFC_2W2A", "SFC_1W1A", "SFC_1W2A", "SFC_2W2A", "LFC_1W1A", "LFC_1W2A"):
        yield name, partial(_bnn, name), (1, 28, 28)
    for name in ("CNV_1W1A", "CNV_1W2A", "CNV_2W2A", "resnet18_4w4a"):
        yield name, partial(_bnn, name), (3, 32, 32)
    for name in model_impl:
        if name.startswith("quant"):
            yield name, partial(get_model_by_name, name), (3, 32, 32)
    for kind, names in {
        "mobilenet": ("quant_mobilenet_v1_4b", "quant_mobilenet_v1_4b_round_avgpool"),
        "proxylessnas": ("quant_proxylessnas_mobile14_4b", "quant_proxylessnas_mobile14_4b5b"),
    }.items():
        for name in names:
            yield name, partial(_imagenet, name, kind), (3, 224, 224)


MODELS = {name: (make, shape) for name, make, shape in _models()}
"""By name: what makes the network, and its input (C, H, W)."""


def export(name: str, path: Path) -> None:
    """Write a network as QONNX, after a few random images have given its scales."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        network = make().train()
        for _ in range(2):
            network(torch.rand((2, *shape)))
        export_qonnx(network.eval(), args=torch.rand((1, *shape)), export_path=str(path), input_names=["x"],
                     opset_version=13, dynamo=False)  # fmt: skip


def _form(path: Path) -> dict[str, InputForm]:
    """That of a camera, unless the network begins with a Quant or with arithmetic before one."""
    graph = load_model(path).graph
    first = next(node for node in graph.node if "x" in node.input)
    return dict([parse_form(CAMERA)]) if first.op_type == "Conv" else {}


def _run(result: CheckResult, path: Path) -> str:
    """On the simulator; and layer by layer beside the qonnx package's executor, on one image each."""
    assert result.compiled is not None
    run = run_compiled(result.compiled, "iss", None, seed=0)
    problems = run.problems()
    proofs = [op.proof for op in result.compiled.network.ops if op.proof is not None]
    exact = sum(proof.exact for proof in proofs)
    wrong = f"WRONG: {problems[0]}" if problems else "bit-exact"
    report = compare_with_qonnx(with_forms(path, _form(path)), prove(result.compiled.network, keep=True), 1)
    unlike = sum(layer.outside for layer in report.layers)
    return (f"{run.cycles:>10,} cycles, {exact} of {len(proofs)} requantizations exact, {wrong}; "
            f"{unlike} of {report.values:,} values unlike qonnx's")  # fmt: skip


def main(out: Path, names: list[str]) -> None:
    """Export, compile, run; a line each."""
    for name in names or MODELS:
        path = out / f"{name}.onnx"
        if not path.is_file():
            export(name, path)
        network, said = import_model(path, forms=_form(path)), ""
        machines: list[tuple[str, Platform]] = [("", PLATFORM), (" with 16 MiB of L2", LARGE)]
        for where, platform in machines:
            result = check_network(network, platform)
            if result.compiled is not None:
                print(f"{name:36} runs{where}: {said}{_run(result, path)}", flush=True)
                break
            said = "L2 is too small; " if "memory 'l2'" in str(result.problems[0]) else f"{result.problems[0]}; "
        else:
            print(f"{name:36} refused: {said}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    main(**vars(parser.parse_args()))
