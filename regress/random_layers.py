# SPDX-License-Identifier: Apache-2.0
"""Random layers of all kinds, by seed and number.

Their generator has a seed of its own, used nowhere else: the cycle model and the kernels were not fitted to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from nncosim.compiler.ir.network import Network, TensorType
from nncosim.platforms.rounding import Rounding
from nncosim.regress.builder import INT8, UINT8
from nncosim.regress.cases import add, conv, pool, requantize, resize, table

__all__ = ["KINDS", "LAYERS", "random_layer"]

GENERATOR = 0x3DA1_CA5E
LAYERS = 200
"""How many are run in every regression."""
MOST_MACS = 6_000_000  # about 10,000 cycles of J3DAI
KINDS: Mapping[str, int] = {
    "dense": 8, "pointwise": 5, "depthwise": 5, "grouped": 3, "multiplier": 1, "gemm": 2, "max": 2, "sum": 2, "add": 2,
    "requantize": 1, "resize": 1, "table": 1,
}  # fmt: skip
"""Kinds of layers and how often each comes."""


def random_layer(
    seed: int, index: int, kinds: Mapping[str, int] = KINDS, most_macs: int = MOST_MACS
) -> tuple[str, Network]:
    """Layer `index` of a seed: (what it is, its network).

    kinds: those that the machine has, of `KINDS`. most_macs: so that a simulation takes no longer than one likes.
    """
    rng = np.random.default_rng([GENERATOR, seed, index])
    weights = np.array(list(kinds.values())) / sum(kinds.values())
    kind = str(rng.choice(list(kinds), p=weights))
    while True:
        text, make, macs = _MAKERS[kind](rng) if kind in _MAKERS else _convolution(rng, kind)
        if macs <= most_macs:
            return f"{kind} {text}", make(int(rng.integers(1 << 30)))


Made = tuple[str, "partial[Network]", int]


def _type(rng: np.random.Generator) -> TensorType:
    return INT8 if rng.random() < 0.6 else UINT8


def _map(rng: np.random.Generator, least: int, most: int) -> tuple[int, int]:
    """A map, often square, now and then one pixel high or wide where that is enough."""
    h, w = (int(x) for x in rng.integers(least, most, 2))
    shape = rng.random()
    return (h, h) if shape < 0.3 else (least, w) if shape < 0.4 else (h, w)


def _channels(rng: np.random.Generator, most: int) -> int:
    """Half of them multiples of 16; small ones more often than large ones."""
    count = int(np.exp(rng.uniform(0, np.log(most))))
    return max(16, count // 16 * 16) if rng.random() < 0.5 else max(1, count)


def _convolution(rng: np.random.Generator, kind: str) -> Made:
    kernel: tuple[int, ...] = (1, 1)
    if kind != "pointwise":
        kernel = tuple(int(k) for k in rng.choice([1, 2, 3, 3, 3, 4, 5, 7], 2))
    if rng.random() < 0.7:
        kernel = (kernel[0], kernel[0])
    ic = _channels(rng, 400)
    oc, groups = _channels(rng, 400), 1
    if kind in ("depthwise", "multiplier"):
        groups = ic
        oc = ic if kind == "depthwise" else ic * int(rng.integers(2, 4))
    elif kind == "grouped":
        groups = int(rng.integers(2, 9))
        ic, oc = groups * int(rng.integers(1, 33)), groups * int(rng.integers(1, 33))
    h, w = _map(rng, max(kernel), 40)
    stride = int(rng.choice([1, 1, 1, 2, 2, 3]))
    dilation = 2 if kind == "dense" and rng.random() < 0.15 else 1
    pad: int | None = None if rng.random() < 0.6 or dilation > 1 else int(rng.integers(0, min(kernel)))
    source, out = _type(rng), _type(rng)
    options: dict[str, Any] = {
        "stride": stride, "pad": pad, "groups": groups, "dilation": dilation, "source": source, "out": out,
        "rounding": None if rng.random() < 0.5 else Rounding(int(rng.integers(8))),
        "pad_value": int(rng.integers(source.lo, source.hi + 1)) if rng.random() < 0.2 else 0,
        "bits": int(rng.integers(12, 31)),
    }  # fmt: skip
    text = f"{ic}x{h}x{w} -> {oc}, kernel {kernel}, stride {stride}, pad {pad}, {groups} groups, {options['rounding']}"
    text += f", dilation {dilation}" if dilation > 1 else ""
    macs = oc * (ic // groups) * kernel[0] * kernel[1] * (h // stride + 1) * (w // stride + 1)
    return text, partial(conv, ic=ic, h=h, w=w, oc=oc, k=(kernel[0], kernel[1]), **options), macs


def _gemm(rng: np.random.Generator) -> Made:
    ic, oc = _channels(rng, 3000), _channels(rng, 300)
    return f"{ic} -> {oc}", partial(conv, ic=ic, h=1, w=1, oc=oc, k=1, source=_type(rng), rounding=None), ic * oc


def _pool(rng: np.random.Generator, mode: str) -> Made:
    k = int(rng.integers(2, 8))
    h, w = _map(rng, k, 30)
    c, stride, pad = _channels(rng, 200), int(rng.integers(1, k + 1)), int(rng.integers(0, (k + 1) // 2))
    text = f"{c}x{h}x{w}, kernel {k}, stride {stride}, pad {pad}"
    return text, partial(pool, mode=mode, c=c, h=h, w=w, k=k, stride=stride, pad=pad, source=_type(rng)), c * h * w


def _add(rng: np.random.Generator) -> Made:
    (h, w), c = _map(rng, 1, 40), _channels(rng, 200)
    return f"{c}x{h}x{w}", partial(add, c=c, h=h, w=w, a=_type(rng), b=_type(rng)), c * h * w


def _requantize(rng: np.random.Generator) -> Made:
    (h, w), c = _map(rng, 1, 40), _channels(rng, 200)
    return f"{c}x{h}x{w}", partial(requantize, c=c, h=h, w=w, source=_type(rng), out=_type(rng)), c * h * w


def _resize(rng: np.random.Generator) -> Made:
    (h, w), c, (fy, fx) = _map(rng, 1, 12), _channels(rng, 64), (int(f) for f in rng.integers(1, 5, 2))
    text = f"{c}x{h}x{w} by {fy}x{fx}"
    return text, partial(resize, c=c, h=h, w=w, fy=fy, fx=fx, source=_type(rng)), c * h * w


def _table(rng: np.random.Generator) -> Made:
    (h, w), c = _map(rng, 1, 30), _channels(rng, 100)
    return f"{c}x{h}x{w}", partial(table, c=c, h=h, w=w, out=_type(rng), source=_type(rng)), c * h * w


_MAKERS: dict[str, Callable[[np.random.Generator], Made]] = {
    "gemm": _gemm, "max": partial(_pool, mode="max"), "sum": partial(_pool, mode="sum"), "add": _add,
    "requantize": _requantize, "resize": _resize, "table": _table,
}  # fmt: skip
