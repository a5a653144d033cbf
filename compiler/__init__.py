# SPDX-License-Identifier: Apache-2.0
"""The compiler: QONNX to an integer network, to tiles, to one image."""
