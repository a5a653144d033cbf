# SPDX-License-Identifier: Apache-2.0
"""The image: what a run needs in one ELF file."""
