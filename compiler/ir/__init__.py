# SPDX-License-Identifier: Apache-2.0
"""The integer network and its exact arithmetic."""
