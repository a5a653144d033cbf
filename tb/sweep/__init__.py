# SPDX-License-Identifier: Apache-2.0
"""Many networks on many machines."""
