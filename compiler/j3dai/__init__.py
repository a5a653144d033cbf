# SPDX-License-Identifier: Apache-2.0
"""J3DAI back end: tiling, programs, descriptors, host code."""
