# SPDX-License-Identifier: Apache-2.0
"""RTL regressions: `pytest regress/`."""
