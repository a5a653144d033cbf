# SPDX-License-Identifier: Apache-2.0
"""Kernels of the AIE-ML-like tile."""

from nncosim.kernels.aie_ml.dense import DenseKernel
from nncosim.kernels.aie_ml.elementwise import AddKernel, TransposeKernel

__all__ = ["KERNELS"]

KERNELS = (DenseKernel(), AddKernel(), TransposeKernel())
