# SPDX-License-Identifier: Apache-2.0
"""The `nncosim` command: one module a subcommand."""
