# SPDX-License-Identifier: Apache-2.0
"""Errors of the RTL layer."""

from nncosim.platforms.errors import NncosimError

__all__ = ["HdlError"]


class HdlError(NncosimError):
    """A hardware block asked for with parameters it cannot have, or a design that cannot be emitted."""
