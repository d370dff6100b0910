"""Boxes of how scores are distributed, one row a system."""

from __future__ import annotations

import html
from collections.abc import Sequence

from pairstill.evaluation.analyses.magnitudes import Distribution
from pairstill.report.svg import line, text, text_width, ticks

WIDTH, ROW = 460.0, 27.0


def boxes_svg(title: str, rows: Sequence[tuple[str, str, Distribution]]) -> str:
    """From the 25% to the 75% quantile, the median in it, whiskers to 5% and 95%, a dot at the mean.

    Args:
        title: Of the axis.
        rows: Name, role and numbers of each system; at least one.
    """
    left = min(max(text_width(name) for name, _, _ in rows) + 12, 170.0)
    right, top, bottom = WIDTH - 14.0, 8.0, 8.0 + ROW * len(rows)
    low = min(min(one.quantiles[0], one.mean) for _, _, one in rows)
    high = max(max(one.quantiles[-1], one.mean) for _, _, one in rows)
    pad = 0.04 * max(high - low, 1e-3)
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    out = [
        f'<svg viewBox="0 0 {WIDTH:.0f} {bottom + 40:.0f}" role="img" class="figure" aria-label="distribution by system">'
    ]
    for tick in ticks(low, high, 6):
        out += [line(x(tick), top, x(tick), bottom, "grid"), text(x(tick), bottom + 15, f"{tick:g}", "tick", "middle")]
    if low < 0 < high:
        out.append(line(x(0.0), top, x(0.0), bottom, "axis"))
    for place, (name, role, one) in enumerate(rows):
        middle = top + ROW * (place + 0.5)
        least, lower, median, upper, most = (x(value) for value in one.quantiles)
        tip = f"{name}: mean {one.mean:.3g}, deviation {one.deviation:.3g}, median {one.quantiles[2]:.3g}"
        out += [
            f'<g class="{role}">', text(left - 8, middle + 4, _fitting(name, left - 12), "", "end"),
            line(least, middle, most, middle, "whisker"),
            *(line(end, middle - 4, end, middle + 4, "whisker") for end in (least, most)),
            f'<rect x="{lower:.1f}" y="{middle - 8:.1f}" width="{max(upper - lower, 1):.1f}" height="16" class="box">'
            f"<title>{html.escape(tip)}</title></rect>",
            line(median, middle - 8, median, middle + 8, "median"),
            f'<circle cx="{x(one.mean):.1f}" cy="{middle:.1f}" r="2.6" class="mean"/></g>',
        ]  # fmt: skip
    out.append(text((left + right) / 2, bottom + 33, title, "label", "middle"))
    return "\n".join([*out, "</svg>"])


def _fitting(name: str, width: float) -> str:
    """The name, cut where it is too wide."""
    most = int(width / text_width("x"))
    return name if len(name) <= most else name[: most - 1] + "…"
