"""A comparison as tables of text: the same cells for the terminal and the HTML report."""

# ruff: noqa: RUF001
from __future__ import annotations

from dataclasses import dataclass

from pairstill.evaluation.cost import Timing, speed_ups
from pairstill.evaluation.results import Comparison, MetricValue, SliceResult, SplitResult, SystemResult

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """Cells of text under headings.

    Attributes:
        title: Of the table.
        columns: Headings; the first column holds names, all others numbers.
        rows: One tuple of cells a row.
        roles: Per row `teacher`, `student`, `floor` or `other`.
        notes: Sentences to print below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    roles: tuple[str, ...]
    notes: tuple[str, ...] = ()


def metric_text(value: MetricValue) -> str:
    """Three digits, and the deviation over seeds where there is one."""
    if value.value is None:
        return MISSING
    deviation = "" if value.deviation is None else f" ±{value.deviation:.3f}"
    return f"{value.value:.3f}{deviation}"


def percent(share: float | None, signed: bool = False) -> str:
    """A share as percent with one digit."""
    if share is None:
        return MISSING
    return f"{100 * share:+.1f}%" if signed else f"{100 * share:.1f}%"


def count_text(value: float | None) -> str:
    """A large number in three significant digits with k, M or G."""
    if value is None:
        return MISSING
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def times_text(value: float | None) -> str:
    """A speed-up such as `362x`."""
    if value is None:
        return MISSING
    if value < 0.095:
        return f"{value:.2g}×"
    return f"{value:,.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 2 else f"{value:.2f}×"


def headline_text(comparison: Comparison, result: SystemResult) -> str:
    """The headline with its star, and a dagger where the comparison reads a similarity without the sigmoid."""
    value = result.metrics[comparison.headline]
    text = metric_text(value)
    if result.compared is not None and value.value != result.compared and result.raw_pearson == result.compared:
        text += f" ({result.compared:.3f}†)"
    return text + ("*" if result.ahead_of else "")


def quality_table(comparison: Comparison, split: SplitResult) -> Table:
    """Metrics, loss against the teacher, margin over the floors, agreement; best first."""
    agreement = any(one.agreement is not None for one in split.systems)
    classes = comparison.data.get("label_kind") == "classes"
    columns = ["system", comparison.metrics[comparison.headline]]
    retained = any(one.retention is not None for one in split.systems)
    margins = any(one.margin_kept is not None for one in split.systems)
    columns += ["Δ teacher"] * retained + ["margin kept"] * margins
    others = [name for name in comparison.metrics if name != comparison.headline]
    columns += [comparison.metrics[name] for name in others]
    if agreement:
        columns += ["same class"] if classes else ["teacher r", "teacher ρ", "teacher τ"]
    rows, roles = [], []
    for one in split.systems:
        facts = comparison.facts(one.name)
        cells = [one.name + (f" ({facts.seeds} seeds)" if facts.seeds > 1 else ""), headline_text(comparison, one)]
        if retained:
            cells.append(MISSING if one.retention is None else percent(one.retention - 1, signed=True))
        if margins:
            cells.append(percent(one.margin_kept))
        cells += [metric_text(one.metrics[name]) for name in others]
        if agreement:
            found = one.agreement
            values = (
                []
                if found is None
                else [found.same_class]
                if classes
                else [found.pearson, found.spearman, found.kendall]
            )
            texts = [MISSING if value is None else metric_text(value) for value in values]
            cells += texts or [MISSING] * (1 if classes else 3)
        rows.append(tuple(cells))
        roles.append(facts.role)
    return Table(
        f"{split.split}: {split.labelled:,} labelled rows in {split.groups:,} groups",
        tuple(columns), tuple(rows), tuple(roles), _quality_notes(comparison, split),
    )  # fmt: skip


def _quality_notes(comparison: Comparison, split: SplitResult) -> tuple[str, ...]:
    notes = []
    resamples = comparison.settings.get("resamples")
    if any(one.ahead_of for one in split.systems):
        stars = "; ".join(f"{one.name} > {one.ahead_of}" for one in split.systems if one.ahead_of)
        notes.append(
            f"* ahead of the next best system, p < 0.05, paired bootstrap of {resamples:,} resamples of groups: {stars}."
        )
    if any("†" in headline_text(comparison, one) for one in split.systems):
        notes.append(
            "† Pearson without the sigmoid, which flattens a similarity; in the floor's favour, ranks and leads use it."
        )
    if split.rows > split.labelled:
        notes.append(f"{split.rows - split.labelled:,} rows without a label are left out of all metrics but agreement.")
    if any("@" in name or name == "MAP" for name in comparison.metrics) and split.ranked_groups is not None:
        levels = comparison.settings.get("gain_levels", 1)
        threshold = comparison.settings.get("relevant_from", 0.5)
        notes.append(
            f"Ranking metrics: {split.ranked_groups:,} groups with a relevant row; gains 0 to {levels}, relevant from a "
            f"label of {threshold:g} (labels in [0, 1])."
        )
    if "constant" in {one.name for one in split.systems}:
        notes.append("The constant's ranking metrics are those of an arbitrary order: anything near them says little.")
    reasons: dict[str, list[str]] = {}
    for one in split.systems:
        for name, value in one.metrics.items():
            if value.reason is not None:
                reasons.setdefault(value.reason, []).append(f"{one.name} {comparison.metrics[name]}")
    for reason, places in reasons.items():
        shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        notes.append(f"{MISSING} {shown}: {reason}.")
    return tuple(notes)


def cost_table(comparison: Comparison) -> Table | None:
    """Speed-ups and rates; None where no cost was measured."""
    measured = [one for one in comparison.systems if one.cost is not None]
    if not measured:
        return None
    columns = (
        "system", "× teacher", "× BERT-base float32", "× fastest BERT-base", "head pairs/s", "score alone pairs/s",
        "encode items/s", "end to end pairs/s", "multiply-adds/pair", "multiply-adds/item", "bytes/item",
    )  # fmt: skip
    rows, notes = [], []
    for one in measured:
        cost = one.cost
        assert cost is not None
        ups = speed_ups(cost, comparison.references)
        rows.append((
            one.name, times_text(ups.teacher), times_text(ups.bert_base_float32), times_text(ups.bert_base_fastest),
            count_text(cost.head.per_second), count_text(cost.score_alone.per_second),
            " / ".join(count_text(timing.per_second) for timing in cost.encoders),
            count_text(cost.end_to_end.per_second if cost.end_to_end else None),
            count_text(cost.multiply_adds_per_pair),
            " / ".join(count_text(value) for value in cost.multiply_adds_per_item),
            " / ".join(count_text(value) for value in cost.bytes_per_item),
        ))  # fmt: skip
    notes.append(
        "Speed-ups are of the head per pair (prepare and score, representations at hand), as in DiPair's tables; a "
        "cross-encoder has nothing but a head. Figures a / b are per field. Conditions stand below."
    )
    return Table("Cost on this machine", columns, tuple(rows), tuple(one.role for one in measured), tuple(notes))


def conditions(comparison: Comparison) -> list[tuple[str, str, str]]:
    """(what, rate with its range, conditions) of every timing."""
    out: list[tuple[str, str, str]] = []

    def add(what: str, timing: Timing, extra: str = "") -> None:
        spread = f"{count_text(timing.per_second)} {timing.unit}/s"
        if timing.repetitions > 1:
            spread += f" ({count_text(timing.slowest)}–{count_text(timing.fastest)}, {timing.repetitions} times)"
        out.append((what, spread, timing.conditions() + extra))

    fields = comparison.data.get("fields", [])
    for one in comparison.systems:
        if one.cost is None:
            continue
        tau = one.cost.rank_agreement
        add(f"{one.name}, head", one.cost.head, "" if tau is None else f", τ with float32 {tau:.4f}")
        add(f"{one.name}, score alone", one.cost.score_alone)
        for number, timing in enumerate(one.cost.encoders):
            name = fields[number] if number < len(fields) else f"field {number}"
            add(f"{one.name}, encode {name}", timing)
        if one.cost.end_to_end is not None:
            add(f"{one.name}, end to end", one.cost.end_to_end, ", each distinct text encoded once")
    if comparison.references is not None:
        for timing in comparison.references.bert_base:
            add("BERT-base (12 layers, 768 wide, random weights)", timing)
    return out


def slice_tables(comparison: Comparison, split: SplitResult) -> list[Table]:
    """The headline by slice value, one table a slice column; systems are columns."""
    names = [one.name for one in split.systems]
    tables = []
    for column in dict.fromkeys(one.slice for one in split.slices):
        found: list[SliceResult] = [one for one in split.slices if one.slice == column]
        rows = tuple(
            (
                one.value or "(empty)",
                f"{one.rows:,}",
                *(metric_text(one.metrics[name][comparison.headline]) for name in names),
            )
            for one in found
        )
        tables.append(
            Table(
                f"{split.split}: {comparison.metrics[comparison.headline]} by {column}", (column, "rows", *names), rows,
                ("other",) * len(rows),
            )
        )  # fmt: skip
    return tables
