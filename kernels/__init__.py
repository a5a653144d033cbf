# SPDX-License-Identifier: Apache-2.0
"""How one operator tile runs on one engine: legality, code, exact reference, cycles."""
