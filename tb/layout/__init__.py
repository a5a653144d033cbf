# SPDX-License-Identifier: Apache-2.0
"""Place and route of mapped blocks, and what the wires do to their timing."""
