# SPDX-License-Identifier: Apache-2.0
"""Icarus Verilog, which simulates gates with unknown values and with delays."""

import shutil

from nncosim.tb.errors import ToolError

__all__ = ["icarus_command"]


def icarus_command() -> str:
    """Its compiler.

    Raises:
        ToolError: it is not on the path.
    """
    command = shutil.which("iverilog")
    if command is None:
        raise ToolError("Icarus Verilog is not installed; Debian: apt-get install iverilog")
    return command
