# SPDX-License-Identifier: Apache-2.0
"""MobileNetV1, MobileNetV2 and a segmentation network as QONNX, with random weights and nothing dead.

    model = zoo.build("mobilenet_v1")                       # onnx.ModelProto, from the cache if it was built before
    inputs = zoo.sample_inputs("mobilenet_v1", seed=1, count=2)   # {"image": float32 (2, 3, 192, 256)}

No training data is to be had for them here, so that the weights are drawn from a seed and each layer is calibrated on
random images that are smooth with edges (`images`). What depends on the numbers (bits, saturation, requantization) is
as lively as in a trained network; what depends on shapes (cycles, memory) is the same. A file of the same topology
with trained weights takes the place of one of these, and nothing else changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from nncosim.regress.zoo.images import images
from nncosim.regress.zoo.networks import NETWORKS
from nncosim.tb.system.cache import content_key, obtain

__all__ = ["NETWORKS", "build", "model_path", "sample_inputs"]

_FIRST_SAMPLE = 1000
"""Sample images have numbers from here on in their series, calibration images lower ones: the two never meet."""


def model_path(name: str) -> Path:
    """The QONNX file of network `name` in the cache, built if it is not there.

    Raises:
        KeyError: no such network; the names are those of `NETWORKS`.
    """
    description = NETWORKS[name]

    def fill(folder: Path) -> None:
        (folder / f"{name}.onnx").write_bytes(description.build(description.seed).SerializeToString(deterministic=True))

    sources = sorted(Path(__file__).parent.glob("*.py"))
    key = content_key([name, np.__version__, onnx.__version__, *(source.read_bytes() for source in sources)])
    return obtain(key, fill, "networks") / f"{name}.onnx"


def build(name: str) -> onnx.ModelProto:
    """Network `name` of `NETWORKS`: input `image` (1, 3, H, W), output `logits`."""
    return onnx.load(model_path(name))


def sample_inputs(name: str, seed: int, count: int = 1) -> dict[str, np.ndarray]:
    """Images that took no part in the calibration, by graph input: float32 (count, 3, H, W).

    Their range is that of the input Quant. Saved with `numpy.savez` they are what `nncosim run --input` reads.
    """
    description = NETWORKS[name]
    size = description.height, description.width
    pixels = images(seed, count, *size, first=_FIRST_SAMPLE).astype(np.float32)
    return {"image": (pixels - 128) / np.float32(64) if description.signed else pixels / np.float32(255)}
