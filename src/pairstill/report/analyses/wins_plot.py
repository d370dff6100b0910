"""Gains of all groups, sorted: how many are won and lost, and by how much."""

from __future__ import annotations

from pairstill.evaluation.analyses.wins import SystemWins
from pairstill.report.svg import line, text, ticks

WIDTH, HEIGHT = 460.0, 230.0


def wins_svg(wins: SystemWins, against: str, metric: str) -> str | None:
    """Bars from the greatest gain to the greatest loss, joined to an area; None where there is no group."""
    if not wins.curve:
        return None
    left, right, top, bottom = 48.0, WIDTH - 8.0, 40.0, HEIGHT - 26.0
    reach_up, reach_down = max(wins.curve[0], 0.0), min(wins.curve[-1], 0.0)
    pad = 0.05 * max(reach_up - reach_down, 1e-3)
    high, low = reach_up + pad, reach_down - pad
    step = (right - left) / len(wins.curve)

    def y(gain: float) -> float:
        return bottom - (bottom - top) * (gain - low) / (high - low)

    out = [
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" class="figure" aria-label="wins and losses by group">',
        text(left - 40, 14, wins.system, "name"),
        text(left - 40, 30, f"{metric} less that of {against}" if metric != "absolute error" else f"error spared against {against}", "tick"),
    ]  # fmt: skip
    for tick in ticks(low, high, 5):
        out += [
            line(left, y(tick), right, y(tick), "grid"),
            text(left - 6, y(tick) + 4, f"{tick:+g}" if tick else "0", "tick", "end"),
        ]
    for gains, css in (
        ([max(one, 0.0) for one in wins.curve], "bar"),
        ([min(one, 0.0) for one in wins.curve], "bar against"),
    ):
        if any(gains):
            corners = [
                f"{left + (place + side) * step:.1f},{y(gain):.1f}"
                for place, gain in enumerate(gains)
                for side in (0, 1)
            ]
            out.append(
                f'<polygon points="{left:.1f},{y(0.0):.1f} {" ".join(corners)} {right:.1f},{y(0.0):.1f}" class="{css}"/>'
            )
    out.append(line(left, y(0.0), right, y(0.0), "zero"))
    total = max(wins.won + wins.tied + wins.lost, 1)
    for place, count, word, css, anchor in (
        (left, wins.won, "won", "for", "start"), ((left + right) / 2, wins.tied, "tied", "tick", "middle"),
        (right, wins.lost, "lost", "against", "end"),
    ):  # fmt: skip
        out.append(text(place, HEIGHT - 8, f"{count:,} {word} ({100 * count / total:.0f}%)", css, anchor))
    return "\n".join([*out, "</svg>"])
