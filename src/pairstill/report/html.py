"""One self-contained HTML file: it opens without a network, in the dark, and on a narrow screen."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from pairstill import __version__
from pairstill.evaluation.analyses.results import Analyses
from pairstill.evaluation.cost import speed_ups
from pairstill.evaluation.results import Comparison, SplitResult
from pairstill.evaluation.verdict import SIGNIFICANT, lead_between
from pairstill.report.analyses.section import analyses_section
from pairstill.report.calibration_plot import calibration_svg
from pairstill.report.style import STYLE
from pairstill.report.tables import (
    MISSING,
    Table,
    conditions,
    cost_table,
    percent,
    quality_table,
    slice_tables,
    times_text,
)
from pairstill.report.trade_off import trade_off_svg


def _escape(content: object) -> str:
    return html.escape(str(content))


def _table(table: Table, heading: str = "h3") -> str:
    head = "".join(f'<th scope="col">{_escape(one)}</th>' for one in table.columns)
    body = "\n".join(
        f'<tr class="{role}">' + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>"
        for row, role in zip(table.rows, table.roles, strict=True)
    )
    notes = "".join(f'<p class="note">{_escape(one)}</p>' for one in table.notes)
    return (
        f"<{heading}>{_escape(table.title)}</{heading}>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>{notes}'
    )


def _warnings(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    return '<div class="warn" role="note">' + "".join(f"<p>{_escape(one)}</p>" for one in sentences) + "</div>"


def _facts(comparison: Comparison) -> str:
    """The figures that a reader looks for first."""
    main, title = comparison.main, comparison.metrics[comparison.headline]
    cards: list[tuple[str, str]] = []
    teacher = next((one for one in main.systems if comparison.facts(one.name).role == "teacher"), None)
    if teacher is not None and teacher.compared is not None:
        cards.append((f"{teacher.compared:.3f}", f"{title} of the teacher, {teacher.name}"))
    student = next((one for one in main.systems if comparison.facts(one.name).role == "student"), None)
    if student is not None and student.compared is not None:
        cards.append((f"{student.compared:.3f}", f"{title} of the best student, {student.name}"))
        if student.retention is not None:
            cards.append((percent(student.retention), "of the teacher kept by it"))
        if student.margin_kept is not None:
            cards.append((percent(student.margin_kept), "of the teacher's margin over the best floor kept by it"))
        ups = speed_ups(comparison.facts(student.name).cost, comparison.references)
        if ups.teacher is not None:
            cards.append((times_text(ups.teacher), "its speed-up per pair against the teacher"))
    floor = next((one for one in main.systems if comparison.facts(one.name).role == "floor"), None)
    if floor is not None and floor.compared is not None:
        cards.append((f"{floor.compared:.3f}", f"{title} of the best floor, {floor.name}"))
    items = "".join(f"<li><b>{_escape(value)}</b><span>{_escape(label)}</span></li>" for value, label in cards)
    return f'<ul class="facts">{items}</ul>' if items else ""


def _significance(comparison: Comparison, split: SplitResult) -> str:
    names = [one.name for one in split.systems if one.compared is not None]
    if len(names) < 2:
        return ""
    head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in names)
    rows = []
    for row in names:
        cells = []
        for column in names:
            lead = None if row == column else lead_between(split.leads, row, column)
            if lead is None or lead.better != row or lead.p_value is None or lead.difference is None:
                cells.append("<td></td>")
                continue
            won = lead.p_value < SIGNIFICANT
            least = 1 / comparison.settings.get("resamples", 1000)
            p_text = f"&lt; {least:.3g}" if lead.p_value == 0 else f"{lead.p_value:.3f}"
            cells.append(f'<td class="{"win" if won else ""}" title="lead {lead.difference:.4f}">{p_text}</td>')
        rows.append(f"<tr><td>{_escape(row)}</td>{''.join(cells)}</tr>")
    return (
        f"<details open><summary>Significance on {_escape(split.split)}: p-value that the row's lead over the column is "
        f'luck</summary><div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
        '<p class="note">Paired bootstrap of Berg-Kirkpatrick et al. (2012): share of resamples of groups whose lead '
        "exceeds twice the observed one. Coloured: below 0.05; not corrected for the number of pairs.</p></details>"
    )


def _calibration(split: SplitResult) -> str:
    panels = [panel for one in split.systems if (panel := calibration_svg(one)) is not None]
    if not panels:
        return ""
    return (
        f"<h2>Calibration on {_escape(split.split)}</h2>"
        '<p class="note">Mean of the sigmoid (for classes the greatest probability) against mean label, in 15 bins of equal '
        f'mass; on the dashed line predictions come true.</p><div class="panels">{"".join(panels)}</div>'
    )


def _definitions(facts: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(_shown(value))}</dd>" for name, value in facts)
    return f"<dl>{rows}</dl>"


def _shown(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(one) for one in value) or MISSING
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _conditions(comparison: Comparison) -> str:
    found = conditions(comparison)
    if not found:
        return ""
    rows = "".join(
        f'<tr><td>{_escape(what)}</td><td>{_escape(rate)}</td><td class="text">{_escape(how)}</td></tr>'
        for what, rate, how in found
    )
    head = "<th>what</th><th>median (slowest–fastest)</th><th>conditions</th>"  # noqa: RUF001
    return (
        "<details><summary>Every timing with its conditions</summary>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _systems(comparison: Comparison) -> str:
    return _definitions((f"{one.name} ({one.role})", one.description or MISSING) for one in comparison.systems)


def _section(comparison: Comparison, analyses: Analyses | None) -> str:
    main = comparison.main
    parts = [
        f'<section class="comparison"><h1>{_escape(comparison.title)}</h1>',
        f'<p class="soft">{_escape(_subtitle(comparison))}</p>',
        _warnings((*main.verdict, *comparison.warnings)),
        _facts(comparison),
    ]
    wide, narrow = trade_off_svg(comparison, main), trade_off_svg(comparison, main, 390, 430)
    if wide is not None and narrow is not None:
        parts += [
            "<h2>Quality against speed</h2>", wide, narrow,
            '<p class="note">Filled marks joined by the line: the frontier, no other system is both faster and better. '
            "Dashed: floors, which need no training.</p>",
        ]  # fmt: skip
    parts.append("<h2>Quality</h2>")
    parts.append(_table(quality_table(comparison, main)))
    parts.append(_significance(comparison, main))
    parts += [_table(one) for one in slice_tables(comparison, main)]
    for split in comparison.splits[1:]:
        parts += [_table(quality_table(comparison, split)), _warnings(split.verdict), _significance(comparison, split)]
        parts += [_table(one) for one in slice_tables(comparison, split)]
    cost = cost_table(comparison)
    if cost is not None:
        parts += ["<h2>Cost</h2>", _table(cost)]
        notes = () if comparison.references is None else comparison.references.notes
        parts += [f'<p class="note">{_escape(one)}</p>' for one in notes]
        parts.append(_conditions(comparison))
    parts.append(_calibration(main))
    parts.append("" if analyses is None else analyses_section(analyses, comparison))
    parts += [
        "<h2>Facts</h2><h3>Systems</h3>", _systems(comparison),
        "<h3>Data</h3>", _definitions([(name.replace("_", " "), value) for name, value in comparison.data.items()]),
        "<h3>Machine</h3>",
        _definitions([(name.replace("_", " "), value) for name, value in comparison.machine.items()]),
        "<h3>Settings</h3>",
        _definitions([(name.replace("_", " "), value) for name, value in comparison.settings.items()]), "</section>",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _subtitle(comparison: Comparison) -> str:
    main = comparison.main
    fields = " × ".join(comparison.data.get("fields", []))  # noqa: RUF001
    return f"{fields}; split {main.split}: {main.rows:,} rows, {main.labelled:,} labelled, {main.groups:,} groups" + (
        f". {comparison.created}" if comparison.created else ""
    )


def to_html(comparisons: Sequence[Comparison], analyses: Sequence[Analyses | None] = ()) -> str:
    """A whole page with one section a comparison.

    Args:
        comparisons: At least one.
        analyses: One entry a comparison, None where there are none; empty where no comparison has any.
    """
    title = comparisons[0].title if len(comparisons) == 1 else "Evaluations"
    inside = analyses or [None] * len(comparisons)
    body = "\n".join(_section(one, more) for one, more in zip(comparisons, inside, strict=True))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f'<p class="note">Written by pairstill {_escape(__version__)}.</p>\n</main>\n</body>\n</html>\n'
    )
