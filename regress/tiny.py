# SPDX-License-Identifier: Apache-2.0
"""The four networks of MLPerf Tiny as int8 TensorFlow Lite files: their layers, with random weights.

Topologies are those of the benchmark's reference models (Banbury et al., MLPerf Tiny Benchmark, NeurIPS 2021; its
repository's `benchmark/training`), with BatchNormalization folded as the converter does. The trained weights are not
here: what holds for these files holds for those in all but the numbers. `MACS` are the published ones.
"""

from nncosim.regress.tflite_models import TfliteModel

__all__ = ["MACS", "NETWORKS"]


def _ends(m: TfliteModel, name: str, x: int, classes: int) -> bytes:
    """Mean over the map, classifier, Softmax."""
    _, height, width, channels = m.shape(x)
    pool = m.pool(f"{name}/pool", x, (height, width), kind="AVERAGE", stride=1)
    flat = m.reshape(f"{name}/flat", pool, (1, channels))
    return m.finish(m.softmax(f"{name}/softmax", m.dense(f"{name}/dense", flat, classes)))


def resnet8(seed: int = 0) -> bytes:
    """Image classification: ResNet-8 for CIFAR-10."""
    m = TfliteModel(seed)
    x = m.conv("conv", m.input("image", (1, 32, 32, 3), 1 / 255, -128), 16, activation="RELU")
    for stack, channels in enumerate((16, 32, 64), 1):
        stride = 1 if stack == 1 else 2
        y = m.conv(f"stack{stack}/conv1", x, channels, stride=stride, activation="RELU")
        y = m.conv(f"stack{stack}/conv2", y, channels)
        if stack > 1:
            x = m.conv(f"stack{stack}/skip", x, channels, 1, stride=stride)
        x = m.add(f"stack{stack}/add", x, y, activation="RELU")
    return _ends(m, "resnet", x, 10)


def ds_cnn(seed: int = 0) -> bytes:
    """Keyword spotting: a depthwise separable network on 49 frames of 10 coefficients."""
    m = TfliteModel(seed)
    x = m.conv("conv", m.input("features", (1, 49, 10, 1), 0.58, 83), 64, (10, 4), stride=2, activation="RELU")
    for block in range(1, 5):
        x = m.conv(f"block{block}/depthwise", x, 64, depthwise=True, activation="RELU")
        x = m.conv(f"block{block}/pointwise", x, 64, 1, activation="RELU")
    return _ends(m, "kws", x, 12)


def mobilenet(seed: int = 0) -> bytes:
    """Visual wake words: MobileNetV1 of width 0.25, 96 x 96."""
    m = TfliteModel(seed)
    x = m.conv("conv", m.input("image", (1, 96, 96, 3), 1 / 255, -128), 8, stride=2, activation="RELU")
    layers = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for block, (channels, stride) in enumerate(layers, 1):
        x = m.conv(f"block{block}/depthwise", x, 0, depthwise=True, stride=stride, activation="RELU")
        x = m.conv(f"block{block}/pointwise", x, channels, 1, activation="RELU")
    return _ends(m, "vww", x, 2)


def autoencoder(seed: int = 0) -> bytes:
    """Anomaly detection: a dense autoencoder on five frames of a spectrogram."""
    m = TfliteModel(seed)
    x = m.input("frames", (1, 640), 0.39, 89)
    for layer, outputs in enumerate((128, 128, 128, 128, 8, 128, 128, 128, 128), 1):
        x = m.dense(f"dense{layer}", x, outputs, activation="RELU")
    return m.finish(m.dense("reconstruction", x, 640))


NETWORKS = {"resnet8": resnet8, "ds_cnn": ds_cnn, "mobilenet": mobilenet, "autoencoder": autoencoder}
MACS = {"resnet8": 12_501_632, "ds_cnn": 2_656_768, "mobilenet": 7_489_664, "autoencoder": 264_192}
