# SPDX-License-Identifier: Apache-2.0
"""Questions to a waveform: signals by pattern, values at clock edges, transactions, and protocol rules."""
