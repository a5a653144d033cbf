# SPDX-License-Identifier: Apache-2.0
"""From a failing run back to its cause."""
