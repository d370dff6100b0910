"""The table as CSV, for machines, and as LaTeX, for a paper."""

from __future__ import annotations

import csv
import io
import re

from pairstill.evaluation.cost import speed_ups
from pairstill.evaluation.results import Comparison, SystemFacts, SystemResult
from pairstill.report.tables import percent

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def to_csv(comparison: Comparison) -> str:
    """One line per split and system with unrounded numbers; an empty cell is a value that does not exist."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = list(comparison.metrics)
    writer.writerow([
        "split", "system", "role", "seeds", "rows", "groups", *metrics, *(f"{name} deviation" for name in metrics),
        "compared", "raw_pearson", "retention", "margin_kept", "ahead_of", "teacher_pearson", "teacher_spearman",
        "teacher_kendall", "teacher_same_class", "speed_up_teacher", "speed_up_bert_base_float32",
        "speed_up_bert_base_fastest", "head_pairs_per_second", "head_precision", "head_batch", "threads",
        "end_to_end_pairs_per_second", "multiply_adds_per_pair",
    ])  # fmt: skip
    for split in comparison.splits:
        for one in split.systems:
            facts = comparison.facts(one.name)
            ups, cost = speed_ups(facts.cost, comparison.references), facts.cost
            agreement = one.agreement
            values = (
                [None] * 4
                if agreement is None
                else [
                    None if value is None else value.value
                    for value in (agreement.pearson, agreement.spearman, agreement.kendall, agreement.same_class)
                ]
            )
            row: list[object] = [
                split.split, one.name, facts.role, facts.seeds, split.labelled, split.groups,
                *(one.metrics[name].value for name in metrics), *(one.metrics[name].deviation for name in metrics),
                one.compared, one.raw_pearson, one.retention, one.margin_kept, one.ahead_of, *values,
                ups.teacher, ups.bert_base_float32, ups.bert_base_fastest,
            ]  # fmt: skip
            if cost is None:
                row += [None] * 6
            else:
                head, whole = cost.head, cost.end_to_end
                row += [
                    head.per_second, head.precision, head.batch, head.threads, whole.per_second if whole else None,
                    cost.multiply_adds_per_pair,
                ]  # fmt: skip
            writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)


def to_latex(comparison: Comparison) -> str:
    """A `table` environment in the form of DiPair's table 2a; needs no package.

    Columns: the headline on each split (valid before test) with the loss against the teacher, then the speed-up against
    the teacher where it was measured. The best student is bold, a dagger marks a lead over the next best system.
    """
    order = sorted(comparison.splits, key=lambda one: one.split != "valid")
    facts = {one.name: one for one in comparison.systems}
    main = comparison.main
    names = [one.name for one in main.systems]
    ranking = {"teacher": 0, "other": 1, "student": 1, "floor": 2}
    names.sort(key=lambda name: ranking[facts[name].role])
    best = next((one.name for one in main.systems if facts[one.name].role == "student"), None)
    has_cost = comparison.references is not None and any(one.cost is not None for one in comparison.systems)
    headings = ["Model", *(f"{comparison.metrics[comparison.headline]} {one.split}" for one in order)]
    headings += ["Speed-up"] if has_cost else []
    lines = [
        r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}", r"\hline",
        " & ".join(escape_latex(one) for one in headings) + r" \\", r"\hline",
    ]  # fmt: skip
    previous = None
    for name in names:
        group = ranking[facts[name].role]
        if previous is not None and group != previous:
            lines.append(r"\hline")
        previous = group
        cells = [escape_latex(name)]
        cells += [_latex_value(one.system(name), comparison.headline, bold=name == best) for one in order]
        if has_cost:
            cells.append(_latex_speed(facts[name], comparison))
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\hline", r"\end{tabular}", rf"\caption{{{_caption(comparison)}}}", r"\end{table}", ""]
    return "\n".join(lines)


def _latex_value(result: SystemResult, headline: str, bold: bool) -> str:
    value = result.compared
    if value is None:
        return "--"
    text = re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")
    deviation = result.metrics[headline].deviation
    number = rf"\mathbf{{{text}}}" if bold else text
    number += "" if deviation is None else rf" \pm {re.sub(r'^0', '', f'{deviation:.3f}')}"
    dagger = r"^{\dagger}" if result.ahead_of else ""
    cell = f"${number}{dagger}$"
    if result.retention is not None:
        change = percent(result.retention - 1, signed=True).replace("%", r"\%")
        cell += f" (${change}$)"
    return cell


def _latex_speed(facts: SystemFacts, comparison: Comparison) -> str:
    value = speed_ups(facts.cost, comparison.references).teacher
    if value is None:
        return "--"
    if value >= 10:
        return rf"${value:,.0f}\times$".replace(",", "{,}")
    return rf"${value:.1f}\times$" if value >= 0.95 else rf"${value:.2g}\times$"


def _caption(comparison: Comparison) -> str:
    split = comparison.main
    text = (
        f"{comparison.title}. {split.labelled:,} pairs of split {split.split}; dagger: ahead of the next best system, "
        f"p < 0.05 (paired bootstrap over {split.groups:,} groups). "
    )
    teacher = comparison.references.teacher if comparison.references else None
    if teacher is not None:
        text += f"Speed-up of the head per pair against the teacher ({teacher.conditions()}). "
    processor = comparison.machine.get("processor")
    return escape_latex(text + (f"{processor}." if processor else "")).strip()
