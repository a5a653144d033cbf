# SPDX-License-Identifier: Apache-2.0
"""The networks, layer by layer, after their papers.

MobileNetV1: Howard et al., 2017, table 1. MobileNetV2: Sandler et al., 2018, table 2. The segmentation network is a
MobileNetV1 of half width without classifier under a feature-pyramid decoder (Lin et al., 2017) of 96 channels.
Maps are given as height x width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
from nncosim.regress.zoo.builder import Activation, Layers

__all__ = ["NETWORKS", "Description"]

_V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""(output channels, stride) of each depthwise separable block."""
_V2_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, output channels, repetitions, stride of the first)."""
_PYRAMID = 96


@dataclass(frozen=True)
class Description:
    """`build(seed)` gives the model. `macs`: multiply-accumulates of one inference, as counted by hand from the papers.

    height, width: of the image. signed: of its Quant.
    """

    build: Callable[[int], onnx.ModelProto]
    text: str
    macs: int
    height: int
    width: int
    signed: bool
    seed: int


def _v1(layers: Layers, image: Activation, numerator: int = 2) -> list[Activation]:
    """MobileNetV1 with numerator / 2 of its channels: the map after the stem and after each block."""
    at = layers.conv("stem", image, 16 * numerator, 3, 2)
    maps = [at]
    for n, (channels, stride) in enumerate(_V1_BLOCKS, 1):
        at = layers.conv(f"dw{n}", at, at.channels, 3, stride, depthwise=True)
        at = layers.conv(f"pw{n}", at, channels * numerator // 2)
        maps.append(at)
    return maps


def _mobilenet_v1(seed: int) -> onnx.ModelProto:
    d = NETWORKS["mobilenet_v1"]
    layers = Layers(seed, 8, normalise=True)
    at = _v1(layers, layers.image(d.height, d.width, d.signed))[-1]
    logits = layers.classify("classifier", layers.mean("pool", at), 1000, "logits")
    return layers.model("mobilenet_v1", d.text, logits, flat=True)


def _mobilenet_v2(seed: int) -> onnx.ModelProto:
    d = NETWORKS["mobilenet_v2"]
    layers = Layers(seed, 8, normalise=False)
    at = layers.conv("stem", layers.image(d.height, d.width, d.signed), 32, 3, 2, act="relu6")
    number = 0
    for expansion, channels, repetitions, first in _V2_BLOCKS:
        for repetition in range(repetitions):
            number += 1
            before, stride = at, first if repetition == 0 else 1
            if expansion > 1:
                at = layers.conv(f"expand{number}", at, at.channels * expansion, act="relu6")
            at = layers.conv(f"dw{number}", at, at.channels, 3, stride, depthwise=True, act="relu6")
            at = layers.conv(f"project{number}", at, channels, act="none")
            if stride == 1 and before.channels == channels:
                at = layers.add(f"add{number}", before, at)
    at = layers.conv("head", at, 1280, act="relu6")
    logits = layers.classify("classifier", layers.mean("pool", at), 1000, "logits")
    return layers.model("mobilenet_v2", d.text, logits, flat=True)


def _segmentation(seed: int) -> onnx.ModelProto:
    d = NETWORKS["segmentation"]
    layers = Layers(seed, 4, normalise=True)
    maps = _v1(layers, layers.image(d.height, d.width, d.signed), 1)
    strides = {4: maps[3], 8: maps[5], 16: maps[11], 32: maps[13]}
    laterals = {s: layers.conv(f"lateral{s}", m, _PYRAMID, act="none") for s, m in strides.items()}
    at = laterals[32]
    for stride in (16, 8, 4):
        at = layers.add(f"merge{stride}", laterals[stride], layers.upsample(f"up{stride}", at))
    at = layers.conv("smooth_dw", at, _PYRAMID, 3, depthwise=True)
    at = layers.conv("smooth_pw", at, _PYRAMID)
    logits = layers.conv("classifier", at, 19, act="none", output="logits")
    return layers.model("segmentation", d.text, logits)


NETWORKS: Mapping[str, Description] = {
    "mobilenet_v1": Description(
        _mobilenet_v1, "MobileNetV1 1.0, 192x256, 1000 classes, random weights", 557_154_304, 192, 256, False, 11),
    "mobilenet_v2": Description(
        _mobilenet_v2, "MobileNetV2 1.0, 192x256, 1000 classes, random weights", 294_662_144, 192, 256, True, 12),
    "segmentation": Description(
        _segmentation, "MobileNetV1 0.5 with feature pyramid, 384x512, 19 classes, random weights", 871_612_416, 384,
        512, False, 13),
}  # fmt: skip
"""By name."""
