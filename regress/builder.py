# SPDX-License-Identifier: Apache-2.0
"""Building integer networks for tests: random weights, requantization fitted so that every tensor uses its range."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from nncosim.compiler.ir.arithmetic import MultiplyShift
from nncosim.compiler.ir.evaluate import execute
from nncosim.compiler.ir.network import Network, Op, QuantFunction, Tensor, TensorType
from nncosim.compiler.ir.operators import Add, Concat, Conv, Pool, Requantize, Resize
from nncosim.platforms.rounding import Rounding

__all__ = [
    "INT8", "RELU6", "UINT8", "NetworkBuilder", "fit", "inverted_residuals", "mobilenet_like", "random_network",
    "separable",
]  # fmt: skip

INT8 = TensorType(8, True, (Fraction(1, 64),), 0, -128, 127)
UINT8 = TensorType(8, False, (Fraction(1, 64),), 0, 0, 255)
RELU6 = TensorType(8, False, (Fraction(6, 200),), 0, 0, 200)
"""An activation that ends before its byte does."""


def fit(
    rng: np.random.Generator, op: Op, sample: list[np.ndarray], out: TensorType, rounding: Rounding | None, bits: int
) -> Op:
    """`op` with a requantization fitted to its accumulators on a sample, and the rational function equal to it.

    Args:
        sample: the operator's inputs, int (C, H, W). rounding: None for another one in each channel (no function then).
        bits: of the multipliers.
    """
    accumulators = op.accumulate(sample)
    channels = accumulators[0].shape[0]
    spread = [max(1.0, float(a.std())) for a in accumulators]
    target = (out.hi - out.lo) / 7.0 / math.sqrt(len(spread))  # 3.5 sigma to each side
    gains: list[np.ndarray] = [np.asarray(target / s * rng.uniform(0.8, 1.0, channels)) for s in spread]
    shift = np.array([bits - 1 - math.frexp(max(float(g[c]) for g in gains))[1] for c in range(channels)]).clip(0, 62)
    m = tuple(np.rint(g * 2.0**shift).astype(np.int64) for g in gains)
    middle = (out.hi + out.lo + 1) / 2 * 2.0**shift
    c = np.rint(middle).astype(np.int64) + rng.integers(-1000, 1000, channels)
    for a, k in zip(accumulators, m, strict=True):
        c = c - np.rint(float(a.mean()) * k).astype(np.int64)
    modes = np.full(channels, int(rounding) if rounding is not None else 0)
    if rounding is None:
        modes = np.asarray(rng.integers(0, 8, channels))
    full = np.full(channels, 0, dtype=np.int64)
    requant = MultiplyShift(m, c, shift.astype(np.int64), full + out.lo, full + out.hi, modes)
    function = None
    if rounding is not None:
        function = QuantFunction(
            tuple(tuple(Fraction(int(x), 1 << int(s)) for x, s in zip(k, shift, strict=True)) for k in m),
            tuple(Fraction(int(x), 1 << int(s)) for x, s in zip(c, shift, strict=True)), rounding, out.lo, out.hi,
        )  # fmt: skip
    return replace(op, requant=requant, function=function)


class NetworkBuilder:
    """Adds operators one by one, each fitted to what the ones before it give for a random sample.

    Methods take and give tensor names. Attributes: `shapes` by name.
    """

    def __init__(self, seed: int, rounding: Rounding | None = Rounding.HALF_EVEN):
        self.rng = np.random.default_rng(seed)
        self.rounding = rounding
        self.inputs: list[str] = []
        self.ops: list[Op] = []
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, np.ndarray] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        return {name: tensor.chw for name, tensor in self.tensors.items()}

    def input(self, c: int, h: int, w: int, kind: TensorType = UINT8) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(name)
        self.tensors[name] = Tensor(name, (c, h, w), kind)
        self.values[name] = self.rng.integers(kind.lo, kind.hi + 1, (c, h, w))
        return name

    def _append(self, op: Op, kind: TensorType, plain: bool = False) -> str:
        sample = [self.values[name] for name in op.inputs]
        fitted = op if plain or op.requant is not None else fit(self.rng, op, sample, kind, self.rounding, 20)
        value = execute(fitted, sample, 0)
        self.ops.append(fitted)
        self.values[op.output] = value
        c, h, w = value.shape
        self.tensors[op.output] = Tensor(op.output, (c, h, w), kind)
        return op.output

    def _name(self, kind: str) -> tuple[str, str]:
        return f"{kind}{len(self.ops)}", f"t{len(self.ops)}"

    def conv(
        self, source: str, oc: int, k: int, stride: int = 1, groups: int = 1, kind: TensorType = INT8
    ) -> str:
        name, out = self._name("conv")
        ic = self.tensors[source].shape[0]
        weights = self.rng.integers(-128, 128, (oc, ic // groups, k, k))
        op = Conv(name, (source,), out, weights=weights, stride=(stride, stride), pads=(k // 2,) * 4, groups=groups)
        return self._append(op, kind)

    def depthwise(self, source: str, k: int = 3, stride: int = 1, kind: TensorType = INT8) -> str:
        c = self.tensors[source].shape[0]
        return self.conv(source, c, k, stride, c, kind)

    def add(self, a: str, b: str, kind: TensorType = INT8) -> str:
        name, out = self._name("add")
        return self._append(Add(name, (a, b), out), kind)

    def requantize(self, source: str, kind: TensorType) -> str:
        name, out = self._name("requantize")
        return self._append(Requantize(name, (source,), out), kind)

    def max_pool(self, source: str, k: int, stride: int) -> str:
        name, out = self._name("max_pool")
        tensor = self.tensors[source]
        low, high = (-128, 127) if tensor.type.signed else (0, 255)
        requant = MultiplyShift.uniform(tensor.shape[0], lo=low, hi=high)
        op = Pool(name, (source,), out, mode="max", kernel=(k, k), stride=(stride, stride), requant=requant)
        return self._append(op, tensor.type)

    def mean(self, source: str) -> str:
        """Global average."""
        name, out = self._name("mean")
        tensor = self.tensors[source]
        return self._append(Pool(name, (source,), out, mode="sum", kernel=tensor.chw[1:]), tensor.type)

    def concat(self, *sources: str) -> str:
        name, out = self._name("concat")
        return self._append(Concat(name, sources, out), self.tensors[sources[0]].type, plain=True)

    def resize(self, source: str, fy: int, fx: int) -> str:
        name, out = self._name("resize")
        return self._append(Resize(name, (source,), out, factors=(fy, fx)), self.tensors[source].type, plain=True)

    def build(self, name: str, *outputs: str) -> Network:
        shapes = {n: (1, *self.tensors[n].shape) for n in (*self.inputs, *outputs)}
        return Network(name, self.tensors, tuple(self.ops), tuple(self.inputs), outputs, shapes)


def mobilenet_like(seed: int, h: int, w: int, classes: int = 100) -> Network:
    """Inverted residual blocks with strides and sums, in the manner of MobileNetV2 at a quarter of its width."""
    b = NetworkBuilder(seed)
    at = b.conv(b.input(3, h, w), 8, 3, 2)
    for widen, channels, count, stride in ((1, 4, 1, 1), (6, 8, 2, 2), (6, 16, 2, 2), (6, 24, 2, 1), (6, 40, 2, 2)):
        for i in range(count):
            before = at
            wide = b.conv(at, b.shapes[at][0] * widen, 1, kind=UINT8) if widen > 1 else at
            at = b.conv(b.depthwise(wide, 3, stride if i == 0 else 1, UINT8), channels, 1)
            if b.shapes[at] == b.shapes[before]:
                at = b.add(before, at)
    at = b.conv(at, 160, 1, kind=UINT8)
    return b.build("mobilenet_like", b.conv(b.mean(at), classes, 1))


def inverted_residuals(seed: int, channels: int = 24, size: tuple[int, int] = (24, 32), count: int = 2) -> Network:
    """Blocks as MobileNetV2 has them: widen by 6, depthwise 3x3, back, sum."""
    b = NetworkBuilder(seed)
    at = b.conv(b.input(16, *size), channels, 1)
    for _ in range(count):
        wide = b.depthwise(b.conv(at, 6 * channels, 1, kind=RELU6), 3, 1, RELU6)
        at = b.add(b.conv(wide, channels, 1), at)
    return b.build("inverted_residuals", at)


def separable(seed: int, channels: int, size: tuple[int, int], out: int, stride: int) -> Network:
    """A block as MobileNetV1 has them: depthwise 3x3, pointwise."""
    b = NetworkBuilder(seed)
    at = b.depthwise(b.input(channels, *size), 3, stride, RELU6)
    return b.build("separable", b.conv(at, out, 1, kind=RELU6))


def random_network(seed: int, steps: int = 14) -> Network:
    """A random graph of all operators: branches, sums, concatenations, two inputs, up to three outputs."""
    b = NetworkBuilder(seed, rounding=None)
    rng = np.random.default_rng([seed, 1])
    h, w = int(rng.integers(4, 20)), int(rng.integers(4, 20))
    names = [b.input(int(rng.integers(1, 20)), h, w), b.input(int(rng.integers(1, 50)), h, w, INT8)]
    for _ in range(steps):
        names.append(_random_step(b, rng, names))
    unread = [n for n in names if n not in b.inputs and not any(n in op.inputs for op in b.ops)]
    extra = [n for n in names[2:] if n not in unread][:1]
    return b.build(f"random{seed}", *dict.fromkeys([*unread, *extra]))


def _random_step(b: NetworkBuilder, rng: np.random.Generator, names: list[str]) -> str:
    source = names[int(rng.integers(max(0, len(names) - 5), len(names)))]
    kind = INT8 if rng.random() < 0.6 else UINT8
    c, h, w = b.shapes[source]
    same = [n for n in names if b.shapes[n] == b.shapes[source] and n != source]
    joinable = [n for n in names if b.shapes[n][1:] == (h, w) and n != source
                and b.tensors[n].type.signed == b.tensors[source].type.signed]  # fmt: skip
    choice = rng.integers(9)
    if choice == 0 and same:
        return b.add(source, same[int(rng.integers(len(same)))], kind)
    if choice == 1 and joinable and c < 100:
        return b.concat(source, joinable[int(rng.integers(len(joinable)))])
    if choice == 2 and h * w < 200:
        return b.resize(source, int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    if choice == 3 and min(h, w) >= 4:
        return b.max_pool(source, 2, 2)
    if choice == 4:
        return b.depthwise(source, int(rng.choice([3, 5])), int(rng.integers(1, 3)), kind)
    if choice == 5:
        return b.requantize(source, kind)
    if choice == 6 and h * w > 1 and rng.random() < 0.4:
        return b.mean(source)
    return b.conv(source, int(rng.integers(1, 70)), int(rng.choice([1, 3])), int(rng.integers(1, 3)), 1, kind)
