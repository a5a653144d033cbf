# SPDX-License-Identifier: Apache-2.0
"""J3DAI RTL: NCB, cluster, DMPA, L2, host and the SoC that joins them."""
