# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation: a trained float ONNX network and calibration data to QONNX that the compiler takes.

The way of a network: `graph` reads and simplifies it, `points` says where integers are needed, `statistics` looks at
what calibration data give there, `equalize` and `scales` choose what an integer stands for, `emit` writes QONNX, and
`measure` says what that costs. `quantize` is all of it.
"""

from nncosim.compiler.quantize.options import QuantizeOptions
from nncosim.compiler.quantize.quantize import Quantized, quantize

__all__ = ["QuantizeOptions", "Quantized", "quantize"]
