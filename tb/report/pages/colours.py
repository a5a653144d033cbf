# SPDX-License-Identifier: Apache-2.0
"""Colours of kinds of activity, of memory contents and of operators; from the palette of Okabe and Ito, and greys."""

from __future__ import annotations

from nncosim.tb.report.categories import short_name

__all__ = [
    "BUFFER_COLOURS",
    "GROUP_COLOURS",
    "OPERATOR_COLOURS",
    "OTHER_COLOUR",
    "category_colour",
    "category_order",
    "cause_colour",
    "cause_of",
    "dark_colour",
    "kind_colour",
    "kind_order",
]  # fmt: skip

_KINDS = {
    "compute": "#0072b2", "run": "#00456b", "step": "#0072b2",
    "load input": "#009e73", "load weights": "#e69f00", "load program": "#cc79a7", "load list": "#8c6bb1",
    "load table": "#8c6bb1", "store": "#56b4e9", "sync": "#444444", "transfer": "#009e73",
    "control": "#8a8a8a", "wait: input": "#d55e00", "wait: weights": "#7b3294", "wait: results": "#9c7a00",
    "wait: program": "#f781bf", "wait: room for results": "#7f0000", "wait: room for input": "#5f8d1e",
    "wait: room for weights": "#00c4c4", "wait: host": "#f0e442", "wait: memory port": "#6a5aff",
    "wait: data": "#d0a070", "sleep": "#dedede", "idle": "#ececec",
    "busy below the peak": "#86c5f4", "busy without MACs": "#00456b",
}  # fmt: skip
_DARK = {"idle": "#303236", "sleep": "#3a3d42", "run": "#2a7bb5", "sync": "#b0b0b0"}
"""What would shine, or be lost, on a dark page."""
_MORE = ("#117733", "#882255", "#44aa99", "#999933", "#661100", "#6699cc")
_CATEGORIES = {
    "busy": "#0072b2", "wait_data": "#d55e00", "wait_port": "#6a5aff", "wait_host": "#f0e442", "control": "#8a8a8a",
    "idle": "#e4e4e4",
}  # fmt: skip
BUFFER_COLOURS = {
    "tensor": "#009e73", "parameters": "#e69f00", "weights": "#e69f00", "program": "#cc79a7", "list": "#8c6bb1",
}
OTHER_COLOUR = "#6699cc"
OPERATOR_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#8c6bb1", "#882255")
GROUP_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#999933", "#882255", "#44aa99",
    "#a0522d", "#6699cc",
)
"""Of a floor plan, in turn; letters tell those behind apart."""


_CAUSES = {"wait_port": "wait: memory port"}


def category_colour(category: str) -> str:
    """The colour of a category of cycles, of one that no page has seen before too."""
    return _CATEGORIES.get(category, kind_colour(cause_of(category)))


def category_order(category: str) -> int:
    """Work first, then waiting, then what is not known here, idling last: of shares in a column."""
    known = list(_CATEGORIES)
    return known.index(category) if category in known else known.index("control")


def cause_of(category: str) -> str:
    """What cycles of a category are lost to, as kinds of the timeline are called: "wait: data", "idle"."""
    waits = category.startswith("wait_")
    return _CAUSES.get(category, ("wait: " if waits else "") + short_name(category))


def kind_colour(kind: str) -> str:
    """The colour of a kind; one of a few more where it has none of its own, the same each time."""
    return _KINDS.get(kind, _MORE[sum(kind.encode()) % len(_MORE)])


def dark_colour(kind: str) -> str:
    """The same on a dark page."""
    return _DARK.get(kind, kind_colour(kind))


def cause_colour(cause: str) -> str:
    """The colour of a cause of lost cycles; a kind of the timeline has the same there."""
    return "#d2d2d2" if cause == "idle" else kind_colour(cause)


def kind_order(kind: str) -> tuple[int, str]:
    """Work first, waiting behind it, idling last: the order of legends, and of shares in a column."""
    known = list(_KINDS)
    return (known.index(kind) if kind in known else known.index("control"), kind)
