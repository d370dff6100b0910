"""The histogram of the teacher's margins."""

from __future__ import annotations

from pairstill.evaluation.analyses.margins import Margins
from pairstill.report.svg import line, text, ticks

WIDTH, HEIGHT = 460.0, 270.0


def margins_svg(margins: Margins) -> str:
    """Shares of pairs by margin; those below 0, which the teacher orders against their labels, in its colour."""
    left, right, top, bottom = 44.0, WIDTH - 10.0, 34.0, HEIGHT - 42.0
    low, high = margins.edges[0], margins.edges[-1]
    shares = [100.0 * one / margins.measured for one in margins.counts]
    most = max(shares) * 1.06

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    def y(share: float) -> float:
        return bottom - (bottom - top) * share / most

    out = [
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" class="figure" aria-label="margins of the teacher">'
    ]
    for tick in ticks(0.0, most, 4):
        out += [line(left, y(tick), right, y(tick), "grid"), text(left - 6, y(tick) + 4, f"{tick:g}%", "tick", "end")]
    for place, share in enumerate(shares):
        start, end = margins.edges[place], margins.edges[place + 1]
        tip = f"{start:.3g} to {end:.3g}: {margins.counts[place]:,} pairs, {share:.1f}%"
        css = "bar against" if start < 0 else "bar"
        out.append(
            f'<rect x="{x(start) + 0.5:.1f}" y="{y(share):.1f}" width="{max(x(end) - x(start) - 1, 0.5):.1f}" '
            f'height="{bottom - y(share):.1f}" class="{css}"><title>{tip}</title></rect>'
        )
    out.append(line(left, bottom, right, bottom, "axis"))
    for tick in ticks(low, high, 7):
        out.append(text(x(tick), bottom + 16, f"{tick:g}", "tick", "middle"))
    out.append(
        text((left + right) / 2, bottom + 34, "logit of the better item less that of the worse", "label", "middle")
    )
    if low < 0 < high:
        out.append(line(x(0.0), top - 12, x(0.0), bottom, "zero"))
    out.append(text(left, 14, f"{100 * margins.below_zero:.1f}% below 0", "against"))
    out.append(text(right, 14, f"{100 * (1 - margins.below_zero - margins.at_zero):.1f}% above 0", "for", "end"))
    return "\n".join([*out, "</svg>"])
