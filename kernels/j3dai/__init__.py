# SPDX-License-Identifier: Apache-2.0
"""Kernels of the J3DAI clusters. A new operator is a kernel class in this folder and an entry in `KERNELS`."""

from nncosim.kernels.base import AnyKernel
from nncosim.kernels.j3dai.conv import DenseConv, DepthwiseConv
from nncosim.kernels.j3dai.copies import ConcatKernel, ResizeKernel
from nncosim.kernels.j3dai.elementwise import AddKernel, PoolKernel, RequantizeKernel
from nncosim.kernels.j3dai.table import TableKernel

__all__ = ["KERNELS"]

KERNELS: tuple[AnyKernel, ...] = (
    DenseConv(), DepthwiseConv(), PoolKernel(), AddKernel(), RequantizeKernel(), ConcatKernel(), ResizeKernel(),
    TableKernel(),
)  # fmt: skip
