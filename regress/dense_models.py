# SPDX-License-Identifier: Apache-2.0
"""Dense networks of random weights as QONNX, with scales that are powers of two, fitted to use the outputs' range.

python -m nncosim.regress.dense_models --sizes 16,64,32,32,8 --out FILE.onnx [--batch N --bits N --seed N]

Values are calibrated on random inputs layer by layer: the scale of a Quant is the least power of two under which the
largest of them is not clipped much, and bias is of the size of the sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.frontend import import_model
from nncosim.compiler.ir.network import Network
from nncosim.platforms.aie_ml import PLATFORM, AieMl
from nncosim.regress.zoo.writer import Writer
from nncosim.tb.cli.main import invoke
from nncosim.tb.system.files import prepare_file, write_file

__all__ = ["DenseSpec", "compiled", "dense_network", "fitted_scale", "frames_of", "main", "random_inputs"]

_SAMPLES = 64
_SHARE = 0.997
_MOST_FEATURES = 1 << 14


@dataclass(frozen=True)
class DenseSpec:
    """A chain of Gemm layers. sizes: of the input and of each layer. bits: of all activations; weight_bits.

    relu: behind each layer but the last. unsigned: what a Relu gives is quantised without a sign. bias: whether there
    is one. last_relu: behind the last layer, too.
    """

    sizes: tuple[int, ...]
    batch: int = 8
    bits: int = 8
    weight_bits: int = 8
    relu: bool = True
    unsigned: bool = False
    bias: bool = True
    last_relu: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} b{self.batch} a{self.bits}w{self.weight_bits}"


def random_inputs(spec: DenseSpec, count: int, seed: int) -> np.ndarray:
    """Integers of the input's type: (count * batch, features)."""
    rng = np.random.default_rng([seed, 7])
    most = (1 << spec.bits - 1) - 1
    values = rng.normal(0, most / 3, (count * spec.batch, spec.sizes[0]))
    return np.clip(np.rint(values), -most - 1, most).astype(np.int64)


def fitted_scale(real: np.ndarray, top: int, share: float = _SHARE) -> float:
    """The least power of two under which so large a share of the values, as integers, is not beyond `top`."""
    return float(2.0 ** math.ceil(math.log2(float(np.quantile(np.abs(real), share)) / top)))


def dense_network(spec: DenseSpec) -> onnx.ModelProto:
    """The graph: input `x` (batch, sizes[0]), output `y`."""
    rng, w = np.random.default_rng([spec.seed, 3]), Writer()
    values = random_inputs(DenseSpec(spec.sizes, _SAMPLES, spec.bits), 1, spec.seed).astype(np.float64)
    scale = 2.0 ** (1 - spec.bits)
    at = w.quant("x.quant", "x", scale, signed=True, bits=spec.bits)
    most = (1 << spec.weight_bits - 1) - 1
    for k, (inputs, outputs) in enumerate(zip(spec.sizes, spec.sizes[1:], strict=False)):
        last, name = k == len(spec.sizes) - 2, f"dense{k}"
        ints = np.clip(np.rint(rng.normal(0, most / 3, (outputs, inputs))), -most, most)
        unit = 2.0 ** -(spec.weight_bits + 2)
        sums = values @ ints.T
        bias = np.rint(rng.normal(0, sums.std() / 2, outputs)) if spec.bias else np.zeros(outputs)
        inputs_ = [at, w.quant(f"{name}.w.quant", w.constant(f"{name}.w", ints * unit), unit, signed=True,
                               bits=spec.weight_bits)]  # fmt: skip
        if spec.bias:
            inputs_.append(w.quant(f"{name}.b.quant", w.constant(f"{name}.b", bias * unit * scale), unit * scale,
                                   signed=True, bits=32))  # fmt: skip
        at = w.node("Gemm", name, inputs_, transB=1)
        real = (sums + bias) * unit * scale
        relu = spec.last_relu if last else spec.relu
        if relu:
            at, real = w.node("Relu", f"{name}.relu", [at]), np.maximum(real, 0)
        signed = not (relu and spec.unsigned)
        top = (1 << spec.bits - signed) - 1
        scale = fitted_scale(real, top)
        at = w.quant(f"{name}.quant", at, scale, signed=signed, bits=spec.bits, output="y" if last else "")
        values = np.clip(np.rint(real / scale), -top - 1 if signed else 0, top)
    return w.model(spec.name, "Dense layers of random weights.", ("x", (spec.batch, spec.sizes[0])),
                   ("y", (spec.batch, spec.sizes[-1])))  # fmt: skip


def compiled(spec: DenseSpec, platform: AieMl = PLATFORM, **options: Any) -> Compiled:
    """`options`: of `nncosim.compiler.aie_ml.backend.AieMlBackend`."""
    network = import_model(dense_network(spec), name="dense", keep_batch=True)
    return compile_network(network, platform, backend=AieMlBackend(**options))


def frames_of(spec: DenseSpec, network: Network, count: int) -> list[dict[str, np.ndarray]]:
    """Random inputs of so many inferences."""
    (name,) = network.inputs
    values = random_inputs(spec, count, 11).reshape(count, *network.tensors[name].shape)
    return [{name: each} for each in values]


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    found = [part.strip() for part in text.split(",")]
    if len(found) < 2 or not all(part.isdecimal() and 0 < int(part) <= _MOST_FEATURES for part in found):
        raise click.BadParameter(f"takes the features of the input and of each layer, 1 to {_MOST_FEATURES:,}, such as "
                                 f"16,64,32,32,8, not {text!r}")  # fmt: skip
    return tuple(map(int, found))


@click.command()
@click.option("--sizes", callback=_sizes, required=True, metavar="N,N,...", help="Features: the input's, each layer's.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="QONNX file to write.")
@click.option("--batch", type=click.IntRange(1, 1024), default=8, show_default=True, help="Rows of an inference.")
@click.option("--bits", type=click.IntRange(4, 16), default=8, show_default=True, help="Of all activations.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the weights.")
def main(sizes: tuple[int, ...], out: Path, batch: int, bits: int, seed: int) -> None:
    """Write dense layers with Relu between them, of random weights, as QONNX."""
    prepare_file(out, "--out")
    spec = DenseSpec(sizes, batch=batch, bits=bits, seed=seed)
    write_file(out, dense_network(spec).SerializeToString())
    macs = batch * sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    click.echo(f"{out}: {spec.name}, {macs:,} MAC")


if __name__ == "__main__":
    raise SystemExit(invoke(command=main, name="python -m nncosim.regress.dense_models"))
