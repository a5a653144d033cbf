# SPDX-License-Identifier: Apache-2.0
"""Labels that cover neither each other nor what they name, and names that leave room for what they name."""

from __future__ import annotations

from collections.abc import Sequence

from nncosim.tb.report.schema import LayerJson

__all__ = ["LINE", "NARROW", "WIDTH", "chosen_labels", "layer_labels", "shortened"]

WIDTH = 1300
"""Width in pixels that the labels of a plot over the whole page are chosen for."""
NARROW = 640
"""The same on a narrow page, whose labels are others; theme.js shows one or the other."""
LINE = 14
"""Height of a label in pixels."""
_CHARACTER = 6.5

NAME = 28
"""Characters of a layer's name that a plot by layer has room for beside its bars."""


def layer_labels(layers: Sequence[LayerJson]) -> list[str]:
    """The layers' names as unique labels."""
    return [f"{number}  {shortened(layer['name'])}" for number, layer in enumerate(layers)]


Box = tuple[float, float, float, float]


def _apart(a: Box, b: Box) -> bool:
    return a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]


def shortened(text: str, limit: int = NAME) -> str:
    """`text`, its middle left out where it is longer than `limit`: the ends tell names apart."""
    head = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:head]}\u2026{text[len(text) - (limit - 1 - head):]}"


def chosen_labels(
    texts: Sequence[str], x: Sequence[float], y: Sequence[float], shifts: Sequence[float] = (0.0,),
    obstacles: Sequence[Box] = (),
) -> dict[int, float]:
    """Which texts to show, if those with a lower index are more important, and how far each is moved in y.

    Args:
        x, y: left end and middle of each text, in pixels.
        shifts: what may be added to y, the first that is free is taken.
        obstacles: (left, right, bottom, top) of what must not be covered either.
    """
    boxes, chosen = list(obstacles), {}
    for i, text in enumerate(texts):
        for shift in shifts:
            middle = y[i] + shift
            box = (x[i], x[i] + _CHARACTER * len(text), middle - LINE / 2, middle + LINE / 2)
            if all(_apart(box, other) for other in boxes):
                boxes.append(box)
                chosen[i] = shift
                break
    return chosen
