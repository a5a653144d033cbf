# SPDX-License-Identifier: Apache-2.0
"""Train, export and measure the shipped digits network.

    python -m nncosim.regress.networks.train_digits --out DIR

writes `digits.onnx` (QONNX, batch 1) and `digits_test.npz` (the test split) to DIR, and prints the
accuracies. Needs the optional extra `train` (torch, brevitas, onnxoptimizer, scikit-learn).

The data is scikit-learn's copy of the UCI handwritten digits: 1797 images of 8 x 8 pixels, values
0..16, split 75/25 by class with a fixed seed. The test quarter takes no part in training, in the
calibration of scales or in the choice of settings: `--holdout` reports on a fifth of the training
part instead, and writes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from brevitas import nn as qnn
from brevitas.export import export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.scaled_int import RoundTo8bit
from nncosim.tb.system.files import write_files
from nncosim.tb.system.npz import npz_bytes
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

__all__ = ["INPUT", "OUTPUT", "SEED", "DigitsNet", "Split", "digits_split", "export", "qonnx_accuracy", "train"]

SEED = 2026
INPUT, OUTPUT = "image", "logits"
OPSET = 17
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 80, 32, 3e-3, 1e-4


@dataclass(frozen=True)
class Split:
    """Images float32 (N, 1, 8, 8) with values 0..16, labels int64 (N,) with values 0..9."""

    images: np.ndarray
    labels: np.ndarray


def digits_split(seed: int = SEED) -> tuple[Split, Split]:
    """The stratified 75/25 split of the 1797 images: (training 1347, test 450)."""
    data = load_digits()
    images = data.images.astype(np.float32)[:, np.newaxis]
    return _part(images, data.target.astype(np.int64), 0.25, seed)


def _part(images: np.ndarray, labels: np.ndarray, share: float, seed: int) -> tuple[Split, Split]:
    parts = train_test_split(images, labels, test_size=share, random_state=seed, stratify=labels)
    return Split(parts[0], parts[2]), Split(parts[1], parts[3])


class PixelQuant(Uint8ActPerTensorFloat):
    """The input's quantiser: a constant scale of 17 / 255 = 1/15, so that pixels 0..16 become the
    integers 0, 15, .. 240: nothing is lost, and no pixel lies near a rounding tie."""

    scaling_impl_type = "const"
    scaling_init = 17.0


class SignedQuant(Int8ActPerTensorFloat):
    """Signed activations. The scale follows the running maximum of what passes: a scale learned by
    gradient shrinks until most logits are clipped, and a clipped output hides an error before it."""

    scaling_impl_type = "stats"
    scaling_stats_op = "max"


class UnsignedQuant(Uint8ActPerTensorFloat):
    """Activations after a ReLU; the scale as in `SignedQuant`."""

    scaling_impl_type = "stats"
    scaling_stats_op = "max"


class DigitsNet(nn.Module):
    """8-bit weights (narrow, as Brevitas does) and activations; (N, 1, 8, 8) to logits (N, 10).

    A convolution and a max pool; a residual block of depthwise and pointwise convolution whose two
    branches have scales of their own; a convolution of 24 to 40 channels; an average pool that truncates
    back to 8 bits; a fully connected layer over a 2 x 2 map. Between them the layers have per-channel
    and per-tensor weights, BatchNorm, float biases, Int32 biases, signed and unsigned activations.
    """

    def __init__(self, width: int = 24, wide: int = 40) -> None:
        super().__init__()
        per_channel, per_tensor = Int8WeightPerChannelFloat, Int8WeightPerTensorFloat
        self.quant_in = _identity(PixelQuant)
        self.conv = qnn.QuantConv2d(1, width, 3, padding=1, bias=False, weight_quant=per_channel)
        self.conv_norm = nn.BatchNorm2d(width)
        self.conv_relu = _relu()
        self.max_pool = nn.MaxPool2d(2)
        self.depthwise = qnn.QuantConv2d(
            width, width, 3, padding=1, groups=width, bias=False, weight_quant=per_channel
        )
        self.depthwise_norm = nn.BatchNorm2d(width)
        self.depthwise_relu = _relu()
        self.pointwise = qnn.QuantConv2d(width, width, 1, bias=True, weight_quant=per_tensor)
        self.pointwise_quant = _identity(SignedQuant)
        self.add_quant = _identity(SignedQuant, with_scale=True)
        self.expand = qnn.QuantConv2d(
            width, wide, 3, padding=1, bias=True, bias_quant=Int32Bias, weight_quant=per_channel
        )
        self.expand_relu = _relu(with_scale=True)
        self.average_pool = qnn.TruncAvgPool2d(2, trunc_quant=RoundTo8bit)
        self.classify = qnn.QuantLinear(wide * 4, 10, bias=True, weight_quant=per_tensor)
        self.quant_out = _identity(SignedQuant)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_relu(self.conv_norm(self.conv(self.quant_in(image))))
        shortcut = self.max_pool(x)
        x = self.depthwise_relu(self.depthwise_norm(self.depthwise(shortcut)))
        x = self.pointwise_quant(self.pointwise(x))
        x = self.add_quant(shortcut + x)
        x = self.average_pool(self.expand_relu(self.expand(x)))
        return self.quant_out(self.classify(torch.flatten(x, 1)))


def _identity(quantizer: type, with_scale: bool = False) -> nn.Module:
    """`with_scale`: the next layer needs the scale (an Int32 bias, a truncation). Elsewhere plain
    tensors flow, since Brevitas refuses to add two tensors of unequal scales."""
    return qnn.QuantIdentity(act_quant=quantizer, return_quant_tensor=with_scale)


def _relu(with_scale: bool = False) -> nn.Module:
    return qnn.QuantReLU(act_quant=UnsignedQuant, return_quant_tensor=with_scale)


def train(data: Split, epochs: int = EPOCHS, seed: int = SEED) -> DigitsNet:
    """Quantisation-aware training from scratch; the scales are learned from `data` alone.

    The network of the last epoch is returned, in evaluation mode: no epoch is picked by its score.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the order of float sums, and so the result, depends on the thread count
    torch.use_deterministic_algorithms(True)
    network = DigitsNet().train()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    steps = -(-len(labels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        total = 0.0
        for picks in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            loss = loss_function(network(_shifted(images[picks])), labels[picks])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(picks)
        if epoch % 10 == 9:
            click.echo(f"epoch {epoch + 1}: loss {total / len(labels):.4f}")
    return network.eval()


def _shifted(images: Tensor) -> Tensor:
    """Each image moved by -1, 0 or 1 pixel in both directions, zeros coming in (augmentation)."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(images), 2)).tolist()
    return torch.stack([p[:, y : y + 8, x : x + 8] for p, (y, x) in zip(padded, offsets, strict=True)])


def torch_accuracy(network: nn.Module, data: Split) -> float:
    """Share of `data` that the Brevitas network classifies rightly."""
    with torch.no_grad():
        logits = network(torch.from_numpy(data.images))
    return float((logits.numpy().argmax(axis=1) == data.labels).mean())


def export(network: nn.Module) -> onnx.ModelProto:
    """The network as cleaned-up QONNX with input `image` (1, 1, 8, 8) and output `logits` (1, 10).

    BatchNormalization nodes stay. What depends on the machine (the exporter's stack traces) is removed.
    """
    raw = export_qonnx(
        network, args=torch.zeros(1, 1, 8, 8), dynamo=False, opset_version=OPSET,
        input_names=[INPUT], output_names=[OUTPUT],
    )  # fmt: skip
    model = cleanup_model(ModelWrapper(raw))
    model.rename_tensor(model.graph.input[0].name, INPUT)
    model.rename_tensor(model.graph.output[0].name, OUTPUT)
    proto = model.model
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    proto.graph.name = "digits"
    proto.doc_string = "Handwritten digits, 8-bit quantised; made by nncosim.regress.networks.train_digits"
    return proto


def qonnx_accuracy(proto: onnx.ModelProto, data: Split) -> float:
    """Share of `data` classified rightly by the exported model, run by the qonnx executor one by one."""
    model = ModelWrapper(proto)
    right = 0
    for image, label in zip(data.images, data.labels, strict=True):
        logits = execute_onnx(model, {INPUT: image[np.newaxis]})[OUTPUT]
        right += int(logits.argmax() == label)
    return right / len(data.labels)


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--holdout", is_flag=True, help="Report on a fifth of the training part; write nothing.")
@click.option("--epochs", default=EPOCHS, show_default=True)
def main(out: Path, holdout: bool, epochs: int) -> None:
    """Train the digits network and write digits.onnx and digits_test.npz."""
    training, test = digits_split()
    if holdout:
        training, test = _part(training.images, training.labels, 0.2, SEED)
    network = train(training, epochs)
    click.echo(f"train accuracy (Brevitas): {torch_accuracy(network, training):.2%}")
    click.echo(f"{'held-out' if holdout else 'test'} accuracy (Brevitas): {torch_accuracy(network, test):.2%}")
    if holdout:
        return
    proto = export(network)
    click.echo(f"test accuracy (exported, qonnx executor): {qonnx_accuracy(proto, test):.2%}")
    arrays = {"image": test.images, "labels": test.labels}
    written = {"digits.onnx": proto.SerializeToString(), "digits_test.npz": npz_bytes(arrays, compress=True)}
    write_files(out, written)
    for name, content in written.items():
        click.echo(f"{name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
