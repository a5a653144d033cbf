# SPDX-License-Identifier: Apache-2.0
"""What runs are compared with: the oracles, and how."""
