"""Heat maps of kept vectors: a column a slot, a row a question."""

# ruff: noqa: RUF001
from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pairstill.evaluation.analyses.slot_attention import TARGETS
from pairstill.evaluation.analyses.slots import Slot, StudentSlots
from pairstill.report.svg import text

LABEL, CELL, ROW, ACROSS = 150.0, 50.0, 23.0, 16
STRONGEST = 55.0
"""Percent of colour in the strongest cell, so that its number stays readable in dark and light."""


@dataclass(frozen=True)
class _Row:
    title: str
    values: tuple[float | None, ...]
    strength: Callable[[float], float]
    shown: Callable[[float], str]
    against: Callable[[float], bool] = lambda _: False


def slot_maps(student: StudentSlots, metric_title: str, lower_is_better: bool = False) -> list[tuple[str, str]]:
    """(field and slots, `<svg>`) of each field of a student, at most `ACROSS` slots side by side.

    Args:
        student: Its slots.
        metric_title: Of the headline.
        lower_is_better: Whether the headline is a loss.
    """
    sign = 1.0 if lower_is_better else -1.0
    # Colours are of one scale over all fields.
    most = {
        "change": _most(one.change for one in student.slots), "probe": _most(one.probe for one in student.slots),
        "turned": _most(None if one.cosine is None else 1 - one.cosine for one in student.slots),
        "attention": _most(value for one in student.slots for value in (one.attention or {}).values()),
    }  # fmt: skip
    out = []
    for field in dict.fromkeys(one.field for one in student.slots):
        mine = [one for one in student.slots if one.field == field]
        for start in range(0, len(mine), ACROSS):
            part = mine[start : start + ACROSS]
            title = (
                f"{field}, slots {part[0].slot} to {part[-1].slot}"
                if len(part) > 1
                else f"{field}, slot {part[0].slot}"
            )
            out.append((title, _map(part, _rows(part, metric_title, sign, most), title)))
    return out


def _most(values: Iterable[float | None]) -> float:
    return max((abs(one) for one in values if one is not None), default=0.0) or 1.0


def _short(number: str) -> str:
    """Without the zero before the point, and with a true minus."""
    return re.sub(r"^([+-]?)0\.", r"\1.", number).replace("-", "−")


def _rows(slots: Sequence[Slot], metric: str, sign: float, most: dict[str, float]) -> list[_Row]:
    rows = [
        _Row(
            f"{metric} without it", tuple(one.change for one in slots), lambda value: abs(value) / most["change"],
            lambda value: _short(f"{value:+.4f}"), lambda value: sign * value < 0,
        ),
        _Row(
            "probe, Pearson", tuple(one.probe for one in slots), lambda value: max(value, 0.0) / most["probe"],
            lambda value: _short(f"{value:.2f}"),
        ),
        _Row(
            "cosine with base", tuple(one.cosine for one in slots), lambda value: (1 - value) / most["turned"],
            lambda value: _short(f"{value:.3f}"),
        ),
        *(
            _Row(
                f"attention, {name}", tuple((one.attention or {}).get(name) for one in slots),
                lambda value: value / most["attention"], lambda value: f"{100 * value:.0f}%",
            )
            for name in TARGETS
        ),
        _Row("texts that fill it", tuple(float(one.items) for one in slots), lambda _: 0.0, lambda value: f"{value:,.0f}"),
    ]  # fmt: skip
    return [one for one in rows if any(value is not None for value in one.values)]


def _map(slots: Sequence[Slot], rows: Sequence[_Row], title: str) -> str:
    width, height = LABEL + CELL * len(slots) + 2, ROW * (len(rows) + 1) + 4
    out = [
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" class="map" style="width:{width:.0f}px" '
        f'aria-label="{html.escape(title)}">',
        text(LABEL - 8, ROW - 8, "slot", "tick", "end"),
    ]
    out += [
        text(LABEL + CELL * (place + 0.5), ROW - 8, str(one.slot), "tick", "middle") for place, one in enumerate(slots)
    ]
    for number, row in enumerate(rows, start=1):
        top = ROW * number
        out.append(text(LABEL - 8, top + 15, row.title, "", "end"))
        for place, value in enumerate(row.values):
            left = LABEL + CELL * place
            if value is None:
                out.append(text(left + CELL / 2, top + 15, "–", "tick", "middle"))
                continue
            colour = "teacher" if row.against(value) else "student"
            part = STRONGEST * min(max(row.strength(value), 0.0), 1.0)
            out += [
                f'<rect x="{left + 1:.0f}" y="{top + 1:.0f}" width="{CELL - 2:.0f}" height="{ROW - 2:.0f}" rx="3" '
                f'style="fill:color-mix(in srgb, var(--{colour}) {part:.0f}%, var(--card))">'
                f"<title>slot {slots[place].slot}, {html.escape(row.title)}: {value:.4f}</title></rect>",
                text(left + CELL / 2, top + 15, row.shown(value), "", "middle"),
            ]
    return "\n".join([*out, "</svg>"])
