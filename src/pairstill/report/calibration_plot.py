"""Calibration plots: mean prediction against mean label, one small panel a system."""

from __future__ import annotations

from pairstill.evaluation.results import SystemResult
from pairstill.report.svg import line, text

SIDE = 170.0


def calibration_svg(system: SystemResult) -> str | None:
    """One panel; None where the system has no bins. The area of a mark grows with the rows of its bin."""
    if not system.reliability:
        return None
    left, top, bottom = 34.0, 26.0, 26.0 + SIDE
    most = max(one.rows for one in system.reliability)
    out = [
        f'<svg viewBox="0 0 {left + SIDE + 12:.0f} {bottom + 36:.0f}" role="img" class="panel" '
        'aria-label="calibration of a system">',
        text(left, 16, system.name, "name"),
    ]
    for tick in (0.0, 0.5, 1.0):
        x, y = left + SIDE * tick, bottom - SIDE * tick
        out += [line(left, y, left + SIDE, y, "grid"), line(x, top, x, bottom, "grid")]
        out += [text(left - 5, y + 4, f"{tick:g}", "tick", "end"), text(x, bottom + 14, f"{tick:g}", "tick", "middle")]
    out.append(line(left, bottom, left + SIDE, top, "floor"))
    spots = [(left + SIDE * one.predicted, bottom - SIDE * one.observed, one) for one in system.reliability]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in spots)
    out.append(f'<polyline points="{path}" class="frontier"/>')
    for x, y, one in spots:
        radius = 2.0 + 2.5 * (one.rows / most) ** 0.5
        tip = f"predicted {one.predicted:.3f}, observed {one.observed:.3f}, {one.rows:,} rows"
        out.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="mark student"><title>{tip}</title></circle>'
        )
    out.append(text(left + SIDE / 2, bottom + 30, "predicted", "tick", "middle"))
    return "\n".join([*out, "</svg>"])
