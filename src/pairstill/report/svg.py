"""Small pieces of SVG whose colours are the page's CSS variables, so that one drawing serves dark and light."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle that text or a mark occupies."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )  # fmt: skip

    def overlap(self, other: Box) -> float:
        """The area that the two share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


def text_width(text: str, size: float = 12.0) -> float:
    """About how wide text is in a sans-serif face."""
    return 0.58 * size * len(text)


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{html.escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """At most so many round numbers, and one more, from `low` to `high`."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9) / count))
    step = next(step * k for k in (1, 2, 5, 10, 20) if (high - low) / (step * k) <= count)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def place_labels(
    points: Sequence[tuple[float, float, str]], bounds: Box, taken: Sequence[Box] = (), size: float = 12.0
) -> list[tuple[float, float, str]]:
    """Where to write a label at each point so that labels miss each other, the points and `taken`.

    Args:
        points: (x, y, label).
        bounds: Labels stay within.
        taken: Boxes that are occupied already.
        size: Of the letters.

    Returns:
        Per point (x, y, anchor) of the text's baseline. The candidate that overlaps least is taken, nearest first.
    """
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y, _ in points]
    placed: list[Box] = []
    out = []
    for place, (x, y, label) in enumerate(points):
        width = text_width(label, size)
        candidates: list[tuple[float, Box, tuple[float, float, str]]] = []
        for distance in (11.0, 20.0, 32.0, 46.0):
            for dx, dy, anchor in (
                (1, 0, "start"), (0, -1, "middle"), (0, 1, "middle"), (-1, 0, "end"),
                (0.8, -0.8, "start"), (0.8, 0.8, "start"), (-0.8, -0.8, "end"), (-0.8, 0.8, "end"),
            ):  # fmt: skip
                tx, ty = (
                    x + dx * distance,
                    y + dy * distance + (0.35 * size if dy == 0 else 0.7 * size if dy > 0 else 0),
                )
                left = tx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
                box = Box(left, ty - 0.85 * size, left + width, ty + 0.3 * size)
                outside = (
                    max(bounds.left - box.left, 0) + max(box.right - bounds.right, 0)
                    + max(bounds.top - box.top, 0) + max(box.bottom - bounds.bottom, 0)
                )  # fmt: skip
                bad = sum(box.overlap(other) for other in (*placed, *taken))
                bad += sum(box.overlap(mark) for k, mark in enumerate(marks) if k != place)
                candidates.append((bad + 40 * outside + 0.2 * distance, box, (tx, ty, anchor)))
        _, box, where = min(candidates, key=lambda one: one[0])
        placed.append(box)
        out.append(where)
    return out
