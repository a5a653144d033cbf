# SPDX-License-Identifier: Apache-2.0
"""What a machine is: sizes, widths, clocks, engines, published figures. One file a platform.

Data only, in the order of the path: a platform is imported by everything and imports nothing.
"""
