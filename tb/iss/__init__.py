# SPDX-License-Identifier: Apache-2.0
"""What instruction-set simulators share: a RISC-V hart, the loading of images, libraries in C++."""
