# SPDX-License-Identifier: Apache-2.0
"""Kernels of the AIE-ML-like tile."""

from nncosim.kernels.aie_ml.dense import DenseKernel

__all__ = ["KERNELS"]

KERNELS = (DenseKernel(),)
