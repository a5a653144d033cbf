# SPDX-License-Identifier: Apache-2.0
"""Train the float networks that quantisation is measured on, and export them as ONNX.

    python -m nncosim.regress.networks.train_float --out DIR

writes, of each of `TASKS`, NAME.onnx; NAME_calibration.npz, `image` (64, ...) of the training part; and NAME_test.npz,
`image` and `labels` of a part that took no part in training. Needs the optional extra `train` (torch,
scikit-learn). The data are scikit-learn's copies of UCI's digits and of the diabetes study (Efron et al., 2004).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from nncosim.tb.system.files import write_files
from nncosim.tb.system.npz import npz_bytes
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

__all__ = ["TASKS", "Data", "Task", "train"]

SEED, OPSET, CALIBRATION = 2027, 17, 64
SIDE = 16
"""Rows and columns of a scene."""


@dataclass(frozen=True)
class Data:
    images: np.ndarray
    labels: np.ndarray


def digits() -> tuple[Data, Data]:
    """Images (N, 1, 8, 8) with values 0..1, classes 0..9: training and test."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    a, b, c, d = train_test_split(images, data.target.astype(np.int64), test_size=0.25, random_state=SEED,
                                  stratify=data.target)  # fmt: skip
    return Data(a, c), Data(b, d)


def scenes() -> tuple[Data, Data]:
    """Two digits on a canvas of SIDE x SIDE, with noise; of each pixel its digit's class, or 10 for the ground."""
    rng = np.random.default_rng(SEED)
    out = []
    for part, count in zip(digits(), (3000, 200), strict=True):
        images = rng.uniform(0, 0.15, (count, 1, SIDE, SIDE)).astype(np.float32)
        labels = np.full((count, SIDE, SIDE), 10, np.int64)
        for k in range(count):
            for left in (0, 8):
                pick, row = rng.integers(len(part.labels)), rng.integers(0, 9)
                digit, at = part.images[pick, 0], (slice(row, row + 8), slice(left, left + 8))
                images[k, 0][at] = np.maximum(images[k, 0][at], digit)
                labels[k][at][digit > 0.3] = part.labels[pick]
        out.append(Data(images, labels))
    return out[0], out[1]


def diabetes() -> tuple[Data, Data]:
    """Ten figures of a patient, scaled; how far the disease went a year later, in standard deviations."""
    data = load_diabetes()
    images = (data.data / data.data.std(axis=0)).astype(np.float32)
    labels = ((data.target - data.target.mean()) / data.target.std()).astype(np.float32)[:, None]
    a, b, c, d = train_test_split(images, labels, test_size=0.25, random_state=SEED)
    return Data(a, c), Data(b, d)


def _conv(inputs: int, outputs: int, kernel: int, groups: int = 1, act: type[nn.Module] = nn.ReLU6) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]  # fmt: skip
    return nn.Sequential(*layers, act())


class DigitsNet(nn.Module):
    """A small MobileNetV2: ReLU6, a depthwise block with a residual Add, global average."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.expand = _conv(1, 16, 3), _conv(16, 48, 1)
        self.depthwise = _conv(48, 48, 3, groups=48)
        self.project = nn.Sequential(nn.Conv2d(48, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.last, self.classify = _conv(16, 48, 3), nn.Linear(48, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.first(image), 2)
        x = x + self.project(self.depthwise(self.expand(x)))
        return self.classify(self.last(x).mean(dim=(2, 3)))


class SceneNet(nn.Module):
    """An encoder, a decoder of nearest resizing and concatenation, a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = _conv(1, 16, 3), _conv(16, 32, 3), _conv(32, 48, 3)
        self.four, self.five = _conv(48 + 32, 32, 3, act=nn.ReLU), _conv(32 + 16, 24, 3, act=nn.ReLU)
        self.classify = nn.Conv2d(24, 11, 1)

    def forward(self, image: Tensor) -> Tensor:
        def up(x: Tensor) -> Tensor:
            return nn.functional.interpolate(x, scale_factor=2, mode="nearest")

        one = self.one(image)
        two = self.two(nn.functional.max_pool2d(one, 2))
        three = self.three(nn.functional.max_pool2d(two, 2))
        x = self.four(torch.cat([up(three), two], dim=1))
        return self.classify(self.five(torch.cat([up(x), one], dim=1)))


class DiabetesNet(nn.Module):
    """Three layers, one number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


@dataclass(frozen=True)
class Task:
    data: Callable[[], tuple[Data, Data]]
    network: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    decay: float = 1e-4


TASKS = {
    "float_digits": Task(digits, DigitsNet, nn.functional.cross_entropy, 60),
    "float_scenes": Task(scenes, SceneNet, nn.functional.cross_entropy, 12),
    "float_diabetes": Task(diabetes, DiabetesNet, nn.functional.mse_loss, 60, 1e-1),
}


def train(task: Task, data: Data) -> nn.Module:
    """From scratch; the network of the last epoch, in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the order of float sums, and so the result, depends on the thread count
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = task.network().train()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=task.decay)
    steps = -(-len(labels) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=task.epochs * steps)
    for _ in range(task.epochs):
        for picks in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            task.loss(network(images[picks]), labels[picks]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _exported(network: nn.Module, data: Data) -> bytes:
    file = io.BytesIO()
    torch.onnx.export(network, torch.from_numpy(data.images[:1]), file, dynamo=False, opset_version=OPSET,
                      input_names=["image"], output_names=["result"],
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)  # fmt: skip
    return file.getvalue()


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
def main(out: Path) -> None:
    """Train the float networks and write them with their data."""
    for name, task in TASKS.items():
        training, test = task.data()
        network = train(task, training)
        with torch.no_grad():
            found = network(torch.from_numpy(test.images)).numpy()
        wrong = float(np.square(found - test.labels).mean()) if test.labels.dtype.kind == "f" else float(
            (found.argmax(axis=1) != test.labels).mean())  # fmt: skip
        click.echo(f"{name}: error on the test part {wrong:.4f}")
        write_files(out, {
            f"{name}.onnx": _exported(network, training),
            f"{name}_calibration.npz": npz_bytes({"image": training.images[:CALIBRATION]}, compress=True),
            f"{name}_test.npz": npz_bytes({"image": test.images, "labels": test.labels}, compress=True),
        })  # fmt: skip


if __name__ == "__main__":
    main()
