"""The analyses as CSV files, with unrounded numbers; an empty cell is a value that does not exist."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from pairstill.evaluation.analyses.cases import Cases
from pairstill.evaluation.analyses.magnitudes import QUANTILES, Distribution, Magnitude
from pairstill.evaluation.analyses.neighbours import Neighbours
from pairstill.evaluation.analyses.results import Analyses
from pairstill.evaluation.analyses.slot_attention import TARGETS
from pairstill.evaluation.analyses.slots import Slots
from pairstill.evaluation.analyses.wins import Wins

Rows = Iterable[Sequence[object]]


def analyses_to_csv(analyses: Analyses, fields: Sequence[str]) -> dict[str, str]:
    """Name of each analysis that there is -> its table.

    Args:
        analyses: As `analyse` gave them.
        fields: Names of the tuple set's fields.
    """
    out = {}
    if (margins := analyses.margins) is not None:
        bins = zip(margins.edges[:-1], margins.edges[1:], margins.counts, strict=True)
        out["margins"] = _csv(["from", "to", "pairs"], bins)
    if analyses.magnitudes is not None:
        out["magnitudes"] = _csv(*_magnitudes(analyses.magnitudes))
    if analyses.wins is not None:
        out["wins"] = _csv(*_wins(analyses.wins, fields))
    if analyses.slots is not None:
        out["slots"] = _csv(*_slots(analyses.slots))
    if analyses.neighbours is not None:
        out["neighbours"] = _csv(*_neighbours(analyses.neighbours))
    if analyses.cases is not None:
        out["cases"] = _csv(*_cases(analyses.cases, fields))
    return out


def _csv(columns: Sequence[str], rows: Rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return out.getvalue()


def _magnitudes(magnitudes: Sequence[Magnitude]) -> tuple[list[str], Rows]:
    columns = ["system", "role", "calibrated", "of", "count", "mean", "deviation", "least", "greatest"]
    rows = []
    for one in magnitudes:
        parts: list[tuple[str, Distribution | None]] = [
            ("scores", one.scores),
            ("deviation in a group", one.within_groups),
        ]
        for name, found in parts:
            if found is not None:
                numbers = [found.count, found.mean, found.deviation, found.minimum, found.maximum, *found.quantiles]
                rows.append([one.system, one.role, one.calibrated, name, *numbers])
    return [*columns, *(f"quantile {one:g}" for one in QUANTILES)], rows


def _wins(wins: Wins, fields: Sequence[str]) -> tuple[list[str], Rows]:
    columns = ["system", "against", "metric", "group", *fields, "rows", "value", "other value", "gain"]
    return columns, (
        [
            system.system, wins.against, wins.metric, one.group, *(one.texts.get(field) for field in fields), one.rows,
            one.value, one.other, one.gain,
        ]
        for system in wins.systems for one in system.groups
    )  # fmt: skip


def _slots(slots: Slots) -> tuple[list[str], Rows]:
    columns = ["system", "field", "slot", "items", f"{slots.metric} without it", "change", "probe"]
    columns += [*(f"attention {name}" for name in TARGETS), "cosine with base"]
    return columns, (
        [
            system.system, one.field, one.slot, one.items, one.removed, one.change, one.probe,
            *((one.attention or {}).get(name) for name in TARGETS), one.cosine,
        ]
        for system in slots.systems for one in system.slots
    )  # fmt: skip


def _neighbours(neighbours: Neighbours) -> tuple[list[str], Rows]:
    return ["system", "term", "place", "entry", "cosine"], (
        [system.system, term.term, place, one.entry, one.similarity]
        for system in neighbours.systems for term in system.terms for place, one in enumerate(term.neighbours, start=1)
    )  # fmt: skip


def _cases(cases: Cases, fields: Sequence[str]) -> tuple[list[str], Rows]:
    columns = ["group", *fields, "label"]
    columns += [f"{name} {what}" for name in cases.systems for what in ("probability", "rank")]
    return columns, (
        [
            case.group, *({**case.texts, **row.texts}.get(field) for field in fields), row.label,
            *(value for score in row.scores for value in (score.probability, score.rank)),
        ]
        for case in cases.cases for row in case.rows
    )  # fmt: skip
