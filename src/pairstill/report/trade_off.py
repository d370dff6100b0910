"""The quality-speed plot: what each step of speed cost."""

# ruff: noqa: RUF001
from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pairstill.evaluation.cost import speed_ups
from pairstill.evaluation.results import Comparison, SplitResult
from pairstill.evaluation.verdict import best_floor
from pairstill.report.svg import Box, line, place_labels, text, text_width, ticks


@dataclass(frozen=True)
class Point:
    """A system that can be drawn.

    Attributes:
        name: Its label.
        role: `teacher`, `student` or `other`.
        speed: Position on the logarithmic axis.
        quality: Value of the headline.
        deviation: Over seeds; None for one seed.
        best: Whether no other system is both faster and better.
    """

    name: str
    role: str
    speed: float
    quality: float
    deviation: float | None
    best: bool


def frontier(points: Sequence[tuple[float, float]], lower_is_better: bool = False) -> list[bool]:
    """Which (speed, quality) points no other point beats in one without losing in the other."""
    sign = -1.0 if lower_is_better else 1.0

    def beaten(one: tuple[float, float]) -> bool:
        return any(
            (other[0] >= one[0] and sign * other[1] >= sign * one[1])
            and (other[0] > one[0] or sign * other[1] > sign * one[1])
            for other in points
        )

    return [not beaten(one) for one in points]


def points_of(comparison: Comparison, split: SplitResult) -> tuple[list[Point], str]:
    """The systems with a measured head and a headline value, and the title of the speed axis."""
    against_teacher = comparison.references is not None and comparison.references.teacher is not None
    found = []
    for one in split.systems:
        facts = comparison.facts(one.name)
        if facts.cost is None or one.compared is None:
            continue
        ratio = speed_ups(facts.cost, comparison.references).teacher
        speed = ratio if against_teacher and ratio is not None else facts.cost.head.per_second
        found.append((one.name, facts.role, speed, one.compared, one.metrics[comparison.headline].deviation))
    best = frontier([(one[2], one[3]) for one in found], comparison.headline in comparison.lower_is_better)
    title = (
        "speed-up of the head per pair against the teacher (×, log)" if against_teacher else "pairs per second (log)"
    )
    return [Point(*one, best=flag) for one, flag in zip(found, best, strict=True)], title


def _powers(low: float, high: float) -> list[float]:
    """1, 10, 100... or with 2 and 5 between where the span is short."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0,) if math.log10(high / low) > 2.2 else (1.0, 2.0, 5.0)
    return [step * 10.0**k for k in decades for step in steps if low <= step * 10.0**k <= high]


def trade_off_svg(comparison: Comparison, split: SplitResult, width: int = 860, height: int = 470) -> str | None:
    """The plot as an `<svg>` element; None where no cost was measured.

    Students are marks, the teacher stands at 1, floors are dashed lines (those far below are named under the axis), the
    frontier joins the systems that no other beats in both.
    """
    points, title = points_of(comparison, split)
    if not points:
        return None
    narrow = width < 600
    floors = [
        (one.name, one.compared)
        for one in split.systems
        if comparison.facts(one.name).role == "floor" and one.compared is not None
    ]
    values = [one.quality + sign * (one.deviation or 0.0) for one in points for sign in (-1, 1)]
    floor = best_floor(comparison.systems, split.systems)
    if floor is not None and floor.compared is not None:
        values.append(floor.compared)
    low, high = min(values), max(values)
    reach = max(high - low, 0.02)
    shown = [one for one in floors if low - 0.5 * reach <= one[1] <= high + 0.5 * reach]
    low, high = min([low, *(one[1] for one in shown)]), max([high, *(one[1] for one in shown)])
    pad = 0.08 * max(high - low, 0.02)
    low, high = low - pad, high + pad
    left, right, top, bottom = 54.0, width - 16.0, 30.0, height - (62.0 if len(shown) < len(floors) else 46.0)
    slow, fast = min(one.speed for one in points), max(one.speed for one in points)
    slow, fast = slow / 1.6, max(fast, slow * 4) * (2.6 if narrow else 1.9)

    def x(speed: float) -> float:
        return left + (right - left) * math.log(speed / slow) / math.log(fast / slow)

    def y(quality: float) -> float:
        return bottom - (bottom - top) * (quality - low) / (high - low)

    name = comparison.metrics[comparison.headline]
    out = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name} against speed" class="plot '
        f'{"narrow" if narrow else "wide"}">'
    ]
    for tick in ticks(low, high):
        out += [line(left, y(tick), right, y(tick), "grid"), text(left - 7, y(tick) + 4, f"{tick:.3g}", "tick", "end")]
    for tick in _powers(slow, fast):
        out += [
            line(x(tick), top, x(tick), bottom, "grid"),
            text(x(tick), bottom + 17, f"{tick:,.10g}", "tick", "middle"),
        ]
    out += [line(left, bottom, right, bottom, "axis"), line(left, top, left, bottom, "axis")]
    short = title.replace("speed-up of the head per pair against the teacher", "speed-up against the teacher")
    out.append(text((left + right) / 2, bottom + 36, short if narrow else title, "label", "middle"))
    out.append(text(left - 40, 15, f"{name}, {split.split}", "label"))
    away = [one for one in floors if one not in shown]
    if away:
        listed = ", ".join(f"{label} {value:.3f}" for label, value in away)
        out.append(text((left + right) / 2, bottom + 55, f"off the plot: {listed}", "tick", "middle"))
    best = sorted((one for one in points if one.best), key=lambda one: one.speed)
    corners = [(x(one.speed), y(one.quality)) for one in best]
    spots = [(x(one.speed), y(one.quality), one.name) for one in points]
    path = _along(corners)
    taken = _floors(
        out, shown, (left, right), y, [*path, *(Box(px - 9, py - 9, px + 9, py + 9) for px, py, _ in spots)]
    )
    if len(best) > 1:
        joined = " ".join(f"{px:.1f},{py:.1f}" for px, py in corners)
        out.append(f'<polyline points="{joined}" class="frontier"/>')
    for one, (px, py, _) in zip(points, spots, strict=True):
        if one.deviation:
            out.append(line(px, y(one.quality - one.deviation), px, y(one.quality + one.deviation), "error"))
        tip = html.escape(f"{one.name}: {name} {one.quality:.3f} at {one.speed:,.3g}")
        kind = f"mark {one.role}{' best' if one.best else ''}"
        shape = (
            f'<rect x="{px - 6:.1f}" y="{py - 6:.1f}" width="12" height="12" class="{kind}"><title>{tip}</title></rect>'
            if one.role == "teacher"
            else f'<circle cx="{px:.1f}" cy="{py:.1f}" r="6" class="{kind}"><title>{tip}</title></circle>'
        )
        out.append(shape)
    taken += path
    places = place_labels(spots, Box(left + 2, top - 8, right, bottom - 2), taken)
    for (tx, ty, anchor), one in zip(places, points, strict=True):
        out.append(text(tx, ty, one.name, "name", anchor))
    return "\n".join([*out, "</svg>"])


def _along(corners: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes along the joined corners, so that labels keep off the line."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(corners):
        steps = max(1, int(math.hypot(x2 - x1, y2 - y1) / 8))
        for k in range(steps + 1):
            px, py = x1 + (x2 - x1) * k / steps, y1 + (y2 - y1) * k / steps
            boxes.append(Box(px - 3, py - 3, px + 3, py + 3))
    return boxes


def _floors(
    out: list[str],
    floors: Sequence[tuple[str, float]],
    span: tuple[float, float],
    y: Callable[[float], float],
    obstacles: Sequence[Box],
) -> list[Box]:
    """Draw dashed lines and write each name where it covers least, rather right than left; the boxes of the names."""
    left, right = span
    taken: list[Box] = []
    lines = {label: Box(left, y(value) - 2, right, y(value) + 2) for label, value in floors}
    for label, value in sorted(floors, key=lambda one: one[1]):
        height = y(value)
        others = [box for name, box in lines.items() if name != label]
        out.append(line(left, height, right, height, "floor"))
        content = f"{label} {value:.3f}"
        width = text_width(content, 11)
        choices = []
        start = right - width - 4
        while start > left + 4:
            for top in (height - 14, height + 3):
                box = Box(start, top, start + width, top + 12)
                covered = sum(box.overlap(other) for other in (*taken, *obstacles, *others))
                choices.append((covered + 0.01 * (right - start) + (4 if top > height else 0), box))
            start -= 12
        box = min(choices, key=lambda one: one[0])[1] if choices else Box(left + 4, height - 14, right, height - 2)
        taken.append(box)
        out.append(text(box.left, box.bottom - 2, content, "floor-name"))
    return taken
