# SPDX-License-Identifier: Apache-2.0
"""Cutting layers to fit a machine: grids of engines, tiles, pieces of weights, buffers in turn, the search of plans."""
