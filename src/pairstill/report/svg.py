"""Small pieces of SVG whose colours are the page's CSS variables, so that one drawing serves dark and light."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

LABEL_ROUNDS = 4
"""How often each label of a plot chooses its place again."""


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


def text_width(text: str, size: float = 12.0, bold: bool = False) -> float:
    """About how wide text is in a sans-serif face."""
    return (0.65 if bold else 0.58) * size * len(text)


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
        size: Of the letters, which are bold.

    Returns:
        Per point (x, y, anchor) of the text's baseline. The candidate that overlaps least is taken, nearest first.
    """
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y, _ in points]
    candidates = []
    for place, (x, y, label) in enumerate(points):
        obstacles = [*taken, *(mark for k, mark in enumerate(marks) if k != place)]
        candidates.append(_label_places(x, y, text_width(label, size, bold=True), size, bounds, obstacles))
    chosen: dict[int, _LabelPlace] = {}
    # Later labels may stand better where an earlier one gives way: a few rounds let each choose again.
    for _ in range(LABEL_ROUNDS):
        for place, choices in enumerate(candidates):
            others = [one.box for k, one in chosen.items() if k != place]
            chosen[place] = min(choices, key=lambda one: one.cost + sum(one.box.overlap(other) for other in others))
    return [chosen[place].where for place in range(len(points))]


@dataclass(frozen=True)
class _LabelPlace:
    box: Box
    where: tuple[float, float, str]
    cost: float


def _label_places(
    x: float, y: float, width: float, size: float, bounds: Box, obstacles: Sequence[Box]
) -> list[_LabelPlace]:
    """Around a point, at four distances, what each place would cover of the obstacles."""
    found = []
    for distance in (11.0, 20.0, 32.0, 46.0):
        for dx, dy, anchor in (
            (1, 0, "start"), (0, -1, "middle"), (0, 1, "middle"), (-1, 0, "end"),
            (0.8, -0.8, "start"), (0.8, 0.8, "start"), (-0.8, -0.8, "end"), (-0.8, 0.8, "end"),
        ):  # fmt: skip
            tx, ty = x + dx * distance, y + dy * distance + (0.35 * size if dy == 0 else 0.7 * size if dy > 0 else 0)
            left = tx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = Box(left, ty - 0.85 * size, left + width, ty + 0.3 * size)
            outside = (
                max(bounds.left - box.left, 0) + max(box.right - bounds.right, 0)
                + max(bounds.top - box.top, 0) + max(box.bottom - bounds.bottom, 0)
            )  # fmt: skip
            covered = sum(box.overlap(other) for other in obstacles)
            found.append(_LabelPlace(box, (tx, ty, anchor), covered + 40 * outside + 4 * distance))
    return found
