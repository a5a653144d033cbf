# SPDX-License-Identifier: Apache-2.0
"""Coverage: which lines and bits of RTL the benches reach, and which cases of an instruction set."""
