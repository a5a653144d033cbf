# SPDX-License-Identifier: Apache-2.0
"""Fault injection: single bits of memories and registers turned while a network runs, and what comes of it."""
