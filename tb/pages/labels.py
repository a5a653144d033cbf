"""Labels that do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["WIDTH", "chosen_labels"]

WIDTH = 1300
"""Width in pixels that a plot over the whole page is laid out for; on a narrower page some labels come close."""
_CHARACTER, _LINE = 6.5, 14


def chosen_labels(texts: Sequence[str], x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Which texts to show, if those with a lower index are more important.

    Args:
        x, y: left end and middle of each text, in pixels.
    """
    boxes: list[tuple[float, float, float]] = []
    chosen = []
    for i, text in enumerate(texts):
        left, middle, right = x[i], y[i], x[i] + _CHARACTER * len(text)
        if all(left >= r or right <= a or abs(middle - m) >= _LINE for a, m, r in boxes):
            boxes.append((left, middle, right))
            chosen.append(i)
    return chosen
