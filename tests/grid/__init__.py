# SPDX-License-Identifier: Apache-2.0
"""A machine as unlike J3DAI as 600 lines allow, to prove that the shared layers are shared: nine tiles, each with a
memory and an engine; neighbours share memories, streams reach the others; no host; a batch axis; all layers at once,
on successive inputs; 16-bit activations, 48-bit sums, one shift a layer; tensors split over tiles; an engine that clips
its sums."""

from grid.bench import install as install
from grid.machine import GRID as GRID
