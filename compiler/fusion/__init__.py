# SPDX-License-Identifier: Apache-2.0
"""Operators that run as one layer, with what passes between them inside: which could, which should, and why."""
