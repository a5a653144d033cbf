# SPDX-License-Identifier: Apache-2.0
"""Categories of an engine's cycles, in words. Which there are is the bench's to say: "busy" is work, "wait_..." names
what is waited for, and any other name stands for itself."""

from __future__ import annotations

__all__ = ["category_name", "short_name"]


def short_name(category: str) -> str:
    """For a column where all is waiting: "data", "memory port", "idle"."""
    return category.removeprefix("wait_").replace("_", " ")


def category_name(category: str) -> str:
    """In words: "busy", "waits for data"."""
    return ("waits for " if category.startswith("wait_") else "") + short_name(category)
