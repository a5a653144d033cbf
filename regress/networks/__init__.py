# SPDX-License-Identifier: Apache-2.0
"""Networks shipped with the test bench: the trained digits classifier, its test split, its training."""
