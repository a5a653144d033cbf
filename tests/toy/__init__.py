# SPDX-License-Identifier: Apache-2.0
"""A machine as unlike J3DAI as 400 lines allow, to prove that the shared layers are shared: no host core, two engines
with command lists of their own (the matrix engine convolves; the stream engine, whose kernels are C code inside the
image, does the rest, at the same time), up to 4 bits packed two to a byte, requantization that rounds down."""

from toy.bench import install as install
from toy.machine import TOY as TOY
