# SPDX-License-Identifier: Apache-2.0
"""Static timing and area of mapped blocks."""
