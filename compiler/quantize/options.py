# SPDX-License-Identifier: Apache-2.0
"""What a user may choose of a quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["JOINS", "METHODS", "SCALES", "QuantizeOptions"]

METHODS = ("max", "percentile", "mse", "kl", "sigma")
"""How the range of an activation follows from what calibration saw of it."""

SCALES = ("float", "dyadic", "shift")
"""What requantisation multiplies by: any float32 number; an integer of 8 bits and a power of two; a power of two."""

JOINS = ("own", "one")
"""The operands of an Add or Concat keep their own scales, or share one."""


@dataclass(frozen=True)
class QuantizeOptions:
    """
    Attributes:
        method: of `METHODS`. percentile: the share of absolute values within the range, in %, of "percentile".
        sigmas: standard deviations from the mean to the range's end, of "sigma".
        activation_bits: of all activations. unsigned: activations that are never negative have no sign.
        weight_bits: of all weights; layer_bits: of single layers, by name.
        per_channel: a weight scale per output channel, instead of one per layer.
        equalize: cross-layer equalisation (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
            Correction", 2019).
        scales: of `SCALES`. joins: of `JOINS`.
    """

    method: str = "max"
    percentile: float = 99.99
    sigmas: float = 5.0
    activation_bits: int = 8
    unsigned: bool = False
    weight_bits: int = 8
    layer_bits: Mapping[str, int] = field(default_factory=dict)
    per_channel: bool = True
    equalize: bool = True
    scales: str = "float"
    joins: str = "own"

    def bits_of(self, layer: str) -> int:
        """Of a layer's weights."""
        return self.layer_bits.get(layer, self.weight_bits)
