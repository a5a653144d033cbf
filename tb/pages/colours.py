# SPDX-License-Identifier: Apache-2.0
"""Colours of kinds of activity, of memory contents and of operators; from the palette of Okabe and Ito, and greys."""

from __future__ import annotations

from nncosim.tb.report_table import CATEGORIES

__all__ = [
    "BUFFER_COLOURS", "CATEGORY_COLOURS", "OPERATOR_COLOURS", "OTHER_COLOUR", "category_name", "kind_colour",
    "kind_order",
]  # fmt: skip

_KINDS = {
    "compute": "#0072b2", "run": "#00456b", "step": "#0072b2",
    "load input": "#009e73", "load weights": "#e69f00", "load program": "#cc79a7", "load list": "#8c6bb1",
    "load table": "#8c6bb1", "store": "#56b4e9", "sync": "#444444", "transfer": "#009e73",
    "control": "#8a8a8a", "wait: input": "#d55e00", "wait: weights": "#f0a35e", "wait: results": "#f6d5c9",
    "wait: program": "#dfc3b3", "wait: room for results": "#8c2d04", "wait: room for input": "#e7c3d8",
    "wait: room for weights": "#d5cbe6", "wait: host": "#f0e442", "sleep": "#e4e4e4", "idle": "#f1f1f1",
}  # fmt: skip
_MORE = ("#117733", "#882255", "#44aa99", "#999933", "#661100", "#6699cc")
CATEGORY_COLOURS = {
    "busy": "#0072b2", "wait_data": "#d55e00", "wait_port": "#cc79a7", "wait_host": "#f0e442", "control": "#8a8a8a",
    "idle": "#e4e4e4",
}  # fmt: skip
BUFFER_COLOURS = {
    "tensor": "#009e73", "parameters": "#e69f00", "weights": "#e69f00", "program": "#cc79a7", "list": "#8c6bb1",
}
OTHER_COLOUR = "#6699cc"
OPERATOR_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#8c6bb1", "#882255")


def category_name(category: str) -> str:
    """A category of cycles in words: "busy", "waits for data"."""
    known = CATEGORIES.get(category, category)
    return known if known == category else f"waits for {known}"


def kind_colour(kind: str) -> str:
    """The colour of a kind; one of a few more where it has none of its own, the same each time."""
    return _KINDS.get(kind, _MORE[sum(kind.encode()) % len(_MORE)])


def kind_order(kind: str) -> tuple[int, str]:
    """Work first, waiting behind it, idling last: the order of legends, and of shares in a column."""
    known = list(_KINDS)
    return (known.index(kind) if kind in known else known.index("control"), kind)
