# SPDX-License-Identifier: Apache-2.0
"""Requantization: the search for integers, and the proof that they are right."""
