# SPDX-License-Identifier: Apache-2.0
"""Files, processes, caches, terminal: what the machine that we run on gives."""
