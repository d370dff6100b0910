"""The analyses as a part of the HTML report."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from pairstill.evaluation.analyses.cases import Case, Cases
from pairstill.evaluation.analyses.magnitudes import Magnitude
from pairstill.evaluation.analyses.margins import Margins
from pairstill.evaluation.analyses.neighbours import Neighbours, TermNeighbours
from pairstill.evaluation.analyses.results import Analyses
from pairstill.evaluation.analyses.slots import Slots, StudentSlots
from pairstill.evaluation.analyses.wins import GroupOutcome, SystemWins, Wins
from pairstill.evaluation.results import Comparison
from pairstill.report.analyses.boxes import boxes_svg
from pairstill.report.analyses.histogram import margins_svg
from pairstill.report.analyses.slot_maps import slot_maps
from pairstill.report.analyses.wins_plot import wins_svg
from pairstill.report.tables import MISSING


def analyses_section(analyses: Analyses, comparison: Comparison) -> str:
    """Everything that was analysed, one heading each; nothing is drawn for what was not."""
    title = comparison.metrics.get(comparison.headline, comparison.headline)
    parts = [f"<h2>Seeing inside, {_escape(analyses.split)}</h2>"]
    if analyses.margins is not None:
        parts.append(_margins(analyses.margins))
    if analyses.magnitudes is not None:
        parts.append(_magnitudes(analyses.magnitudes))
    if analyses.wins is not None:
        parts.append(_wins(analyses.wins))
    if analyses.slots is not None:
        parts.append(_slots(analyses.slots, title, comparison.headline in comparison.lower_is_better))
    if analyses.neighbours is not None:
        parts.append(_neighbours(analyses.neighbours))
    if analyses.cases is not None:
        parts.append(_cases(analyses.cases, comparison))
    return "\n".join([*parts, *(_note(one) for one in analyses.notes)])


def _escape(content: object) -> str:
    return html.escape(str(content))


def _note(sentence: str) -> str:
    return f'<p class="note">{_escape(sentence)}</p>'


def _table(columns: Sequence[str], rows: Iterable[tuple[str, str]]) -> str:
    """Headings, and rows as (class, cells in HTML)."""
    head = "".join(f'<th scope="col">{_escape(one)}</th>' for one in columns)
    body = "\n".join(f'<tr class="{role}">{cells}</tr>' for role, cells in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{_escape(one)}</td>" for one in values)


def _text_cell(texts: Mapping[str, str], fallback: str = "") -> str:
    return f'<td class="text wide">{" <small>|</small> ".join(_escape(one) for one in texts.values()) or _escape(fallback)}</td>'


def _margins(margins: Margins) -> str:
    sampled = f", {margins.measured:,} of them drawn at random" if margins.measured < margins.pairs else ""
    rows = [(f"{100 * float(name):g}%", value) for name, value in margins.quantiles.items()]
    table = _table(
        ["quantile", "margin"],
        [("other", _cells([name, f"{value:.3f}"])) for name, value in rows]
        + [
            ("other", _cells(["mean", f"{margins.mean:.3f}"])),
            ("other", _cells(["deviation", f"{margins.deviation:.3f}"])),
        ],
    )
    return (
        f'<h3>Margins of {_escape(margins.system)}</h3><div class="figures"><div>{margins_svg(margins)}</div><div>{table}</div></div>'
        + _note(
            f"{margins.pairs:,} pairs of items of one group with different labels, in {margins.groups:,} groups{sampled}. "
            f"In {100 * margins.below_zero:.1f}% the teacher contradicts the labels"
            + (f", in {100 * margins.at_zero:.1f}% it sees no difference." if margins.at_zero else ".")
        )
    )


def _magnitudes(magnitudes: Sequence[Magnitude]) -> str:
    drawn = [one for one in magnitudes if one.calibrated and one.role != "floor"]
    panels = []
    if drawn:
        panels.append(boxes_svg("logit", [(one.system, one.role, one.scores) for one in drawn]))
    spread = [(one.system, one.role, one.within_groups) for one in drawn if one.within_groups is not None]
    if spread:
        panels.append(boxes_svg("deviation of the logits within a group", spread))
    alone = (
        "Floors and similarities are no logits, and are in the table alone. " if len(drawn) < len(magnitudes) else ""
    )
    columns = ["system", "mean", "deviation", "5%", "median", "95%", "least", "greatest", "in a group, mean", "groups"]
    rows = []
    for one in magnitudes:
        scores, within = one.scores, one.within_groups
        numbers = [scores.mean, scores.deviation, scores.quantiles[0], scores.quantiles[2], scores.quantiles[-1]]
        numbers += [scores.minimum, scores.maximum]
        cells = [one.system, *(f"{value:.3g}" for value in numbers)]
        cells += [MISSING, "0"] if within is None else [f"{within.mean:.3g}", f"{within.count:,}"]
        rows.append((one.role, _cells(cells)))
    return (
        "<h3>How large the scores are</h3>"
        + (f'<div class="figures">{"".join(f"<div>{one}</div>" for one in panels)}</div>' if panels else "")
        + _note("Boxes from the 25% to the 75% quantile, whiskers to 5% and 95%, a dot at the mean.")
        + _table(columns, rows)
        + _note(alone + "Of several seeds the mean is taken.")
    )


def _wins(wins: Wins) -> str:
    what = "rows" if wins.metric == "absolute error" else "groups"
    pictures = [found for one in wins.systems if (found := wins_svg(one, wins.against, wins.metric)) is not None]
    out = [
        f"<h3>Wins and losses against {_escape(wins.against)}</h3>",
        f'<div class="figures">{"".join(f"<div>{one}</div>" for one in pictures)}</div>',
        _note(f"All {what} sorted by gain in {wins.metric}; above 0 the system is better than {wins.against}."),
        *(_greatest(one, wins) for one in wins.systems),
    ]
    if wins.left_out:
        out.append(_note(f"Without probabilities, and so left out: {', '.join(wins.left_out)}."))
    return "\n".join(out)


def _greatest(system: SystemWins, wins: Wins) -> str:
    tables = []
    for title, outcomes in (("Greatest wins", system.greatest_wins), ("Greatest losses", system.greatest_losses)):
        rows = [("other", _outcome(one)) for one in outcomes]
        if rows:
            columns = [title, "rows", system.system, wins.against, "gain"]
            tables.append(_table(columns, rows))
    if not tables:
        return ""
    return (
        f"<details><summary>{_escape(system.system)}: its greatest wins and losses against {_escape(wins.against)}</summary>"
        f"{''.join(tables)}</details>"
    )


def _outcome(one: GroupOutcome) -> str:
    numbers = [one.rows, f"{one.value:.3f}", f"{one.other:.3f}", f"{one.gain:+.3f}"]
    return _text_cell(one.texts, one.group) + _cells(numbers)


def _slots(slots: Slots, title: str, lower_is_better: bool) -> str:
    return "<h3>What kept vectors hold</h3>" + "\n".join(
        _student_slots(one, title, lower_is_better) for one in slots.systems
    )


def _student_slots(student: StudentSlots, title: str, lower_is_better: bool) -> str:
    maps = "".join(
        f'<p class="soft">{_escape(name)}</p><div class="scroll">{picture}</div>'
        for name, picture in slot_maps(student, title, lower_is_better)
    )
    fields = ", ".join(f"{_number(value)} (of {field})" for field, value in student.fields.items())
    facts = f"{title} {_number(student.full)} on {student.rows:,} rows; with slots at their means {fields}, {_number(student.none)} (of all)"
    if student.teacher is not None:
        facts += f". Its own Pearson with the teacher, to hold the probes against: {student.teacher:.2f}"
    return (
        f"<h4>{_escape(student.system)}</h4><p>{_escape(facts)}.</p>{maps}"
        + _note(
            f"First row: how much {title} changes where the slot is replaced by its mean; orange where it gets better without it. "
            "Colours of a row have one scale over all fields."
        )
        + "".join(_note(one) for one in student.notes)
    )


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _neighbours(neighbours: Neighbours) -> str:
    out = ["<h3>Nearest input embeddings</h3>"]
    if not neighbours.terms:
        out.append(_note("No frequent word of the texts is in a vocabulary."))
    for one in neighbours.systems:
        rows = [("other", f'<td>{_escape(term.term)}</td><td class="text">{_chips(term)}</td>') for term in one.terms]
        if rows:
            columns = ["term", f"{one.system}: nearest of {one.candidates:,} entries, with their cosine"]
            out.append(f'<div class="neighbours">{_table(columns, rows)}</div>')
    return "\n".join(out)


def _chips(term: TermNeighbours) -> str:
    if not term.neighbours:
        return "<small>not in its vocabulary</small>"
    return " ".join(
        f'<span class="chip" style="--part:{60 * max(one.similarity, 0.0):.0f}%">{_escape(one.entry)} '
        f"<small>{one.similarity:.2f}</small></span>"
        for one in term.neighbours
    )


def _cases(cases: Cases, comparison: Comparison) -> str:
    roles = {one.name: one.role for one in comparison.systems}
    return (
        "<h3>Cases</h3>"
        + _note(f"Items in the order of {cases.systems[0]}; each cell a probability and the rank within the group.")
        + "\n".join(
            _case(one, cases.systems, [roles.get(name, "other") for name in cases.systems]) for one in cases.cases
        )
    )


def _case(case: Case, systems: Sequence[str], roles: Sequence[str]) -> str:
    heading = " | ".join(case.texts.values()) or case.group
    rows = []
    for row in case.rows:
        cells = _text_cell(row.texts, "(the same texts)") + _cells([f"{row.label:g}"])
        for score, role in zip(row.scores, roles, strict=True):
            rank = f"<small>#{score.rank}</small>"
            if score.probability is None:
                cells += f"<td>{rank}</td>"
            else:
                part = f"{100 * score.probability:.0f}%"
                cells += f'<td class="bar-cell {role}" style="--part:{part}">{score.probability:.2f} {rank}</td>'
        rows.append(("other", cells))
    left = _note(f"{case.left_out:,} more items are not shown.") if case.left_out else ""
    return f"<h4>{_escape(heading)}</h4>{_table(['item', 'label', *systems], rows)}{left}"
