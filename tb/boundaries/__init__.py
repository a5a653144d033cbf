# SPDX-License-Identifier: Apache-2.0
"""What passes the boundaries between a machine's blocks, recorded alike by its RTL and by its simulator."""
