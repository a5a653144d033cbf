# SPDX-License-Identifier: Apache-2.0
"""The RTL, built from a platform description."""
