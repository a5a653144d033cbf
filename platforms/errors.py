# SPDX-License-Identifier: Apache-2.0
"""The base of every error that nncosim raises for a user to read."""

__all__ = ["NncosimError", "PlatformError"]


class NncosimError(Exception):
    """A mistake of the user's or a limit of the tool, with a message meant to be read.

    The command line prints the message without a traceback and ends with exit status 2.
    Each layer derives its own class.
    """


class PlatformError(NncosimError):
    """A platform description that contradicts itself, or an unknown platform or parameter."""
