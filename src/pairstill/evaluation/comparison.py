"""Compare systems on splits of a tuple set: quality, slices, significance, retention, agreement."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError, did_you_mean
from pairstill.evaluation.cost import CostReferences
from pairstill.evaluation.results import (
    Agreement,
    Comparison,
    Lead,
    MetricValue,
    SliceResult,
    SplitResult,
    SystemFacts,
    SystemResult,
)
from pairstill.evaluation.system import System
from pairstill.evaluation.trec import document_names
from pairstill.evaluation.verdict import best_floor, significantly_ahead, verdict
from pairstill.metrics.base import Measured, Metric, Predictions, Relevance, sigmoid
from pairstill.metrics.calibration import reliability
from pairstill.metrics.catalogue import default_metrics
from pairstill.metrics.graded import Pearson, kendall, pearson, spearman
from pairstill.metrics.significance import paired_bootstrap
from pairstill.tuples.tuple_set import Tuples, TupleSet

MOST_SLICE_VALUES = 30
SEEN = "seen"
"""The slice that every tuple set has: whether rows to learn from have a row's group ("seen") or not ("new")."""
Progress = Callable[[int, int], None]


def compare(
    tuple_set: TupleSet,
    tuples: Mapping[str, Tuples],
    systems: Sequence[System],
    *,
    metrics: Sequence[Metric] | None = None,
    slices: Sequence[str] = (),
    relevance: Relevance | None = None,
    resamples: int = 1000,
    seed: int = 0,
    references: CostReferences | None = None,
    machine: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    title: str = "Evaluation",
    progress: Progress | None = None,
) -> Comparison:
    """Compare systems by their scores.

    Args:
        tuple_set: Where the labels' kind, the groups and the slices come from.
        tuples: Split name -> its rows; the first is the one that the table is about.
        systems: With logits for each of these splits. At most one teacher.
        metrics: The headline first; None means those of the label kind.
        slices: Slice columns of the tuple set to report by, or `SEEN`.
        relevance: How ranking metrics read labels; None means `Relevance.of` the label kind.
        resamples: Of the paired bootstrap over groups.
        seed: Of the bootstrap.
        references: What speed-ups are against.
        machine: Facts of the machine for the report.
        warnings: Sentences to carry along.
        title: Heading of the report.
        progress: Called with (done, total) systems measured.

    Raises:
        InputError: A split has no labelled rows, a slice is unknown, names repeat, or there are two teachers.
    """
    chosen = tuple(default_metrics(tuple_set.labels.kind) if metrics is None else metrics)
    how = relevance or Relevance.of(tuple_set.labels)
    _check(tuple_set, systems, slices)
    done, total = 0, len(tuples) * len(systems)
    splits = []
    for split, rows in tuples.items():

        def tick(count: int, before: int = done) -> None:
            if progress is not None:
                progress(before + count, total)

        splits.append(_compare_split(tuple_set, split, rows, systems, chosen, slices, how, resamples, seed, tick))
        done += len(systems)
    return Comparison(
        title=title,
        data=_data_facts(tuple_set),
        headline=chosen[0].name,
        metrics={one.name: one.title for one in chosen},
        lower_is_better=tuple(one.name for one in chosen if not one.higher_is_better),
        systems=tuple(SystemFacts(s.name, s.role, s.seeds, s.calibrated, s.description, s.cost) for s in systems),
        splits=tuple(splits),
        references=references,
        settings={
            "resamples": resamples, "seed": seed, "gain_levels": how.levels, "relevant_from": how.threshold,
            "calibration_bins": "15 of equal mass",
        },
        machine=dict(machine or {}),
        warnings=tuple(warnings),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def check_labels(tuple_set: TupleSet, split: str, tuples: Tuples) -> None:
    """Raise `InputError` unless the split has a labelled row."""
    if tuples.labels is None or np.isnan(tuples.labels).all():
        raise InputError(
            f"the split '{split}' has no labels", column="label", expected="labelled rows to measure quality on",
            fix="Choose a labelled split with --split" if tuple_set.labels.kind != "none" else None,
        )  # fmt: skip


def _check(tuple_set: TupleSet, systems: Sequence[System], slices: Sequence[str]) -> None:
    if not systems:
        raise InputError("there is no system to compare", fix="Give a student, a teacher or scores")
    names = [one.name for one in systems]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"two systems are called '{repeated[0]}'", fix="Merge the seeds of one system or rename one")
    teachers = [one.name for one in systems if one.role == "teacher"]
    if len(teachers) > 1:
        raise InputError(f"there are {len(teachers)} teachers ({', '.join(teachers)})", expected="at most one")
    check_slices(tuple_set, slices)


def check_slices(tuple_set: TupleSet, names: Sequence[str]) -> None:
    """Refuse a slice that is not there, with the nearest name.

    Raises:
        InputError: A name is neither a slice column nor `SEEN`.
    """
    known = [*tuple_set.slices, SEEN]
    for name in names:
        if name not in known:
            raise InputError(
                f"the tuple set has no slice column '{name}'", expected=f"one of {', '.join(known)}",
                fix=did_you_mean(name, known, 0.4),
            )  # fmt: skip


def _data_facts(tuple_set: TupleSet) -> dict[str, Any]:
    labels = tuple_set.labels
    return {
        "fields": list(tuple_set.field_names),
        "label_kind": labels.kind,
        "label_range": None if labels.kind != "graded" else [labels.minimum, labels.maximum],
        "classes": list(labels.classes),
        "tuples": len(tuple_set),
        "texts": {name: len(one) for name, one in tuple_set.collections.items()},
        "fingerprint": tuple_set.fingerprint,
    }


def _mean(measured: Sequence[Measured]) -> MetricValue:
    """Mean and deviation over seeds; a seed without a value leaves the system without one."""
    values = [one.value for one in measured if one.value is not None]
    if len(values) < len(measured) or not values:
        return MetricValue(None, None, next((one.reason for one in measured if one.reason), "no scores"))
    return MetricValue(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _predictions(
    tuple_set: TupleSet, rows: Tuples, logits: np.ndarray, calibrated: bool, relevance: Relevance, names: np.ndarray
) -> Predictions:
    assert rows.labels is not None
    return Predictions.of(
        logits, rows.labels, rows.groups, tuple_set.labels.kind,
        calibrated=calibrated, relevance=relevance, documents=names,
    )  # fmt: skip


def _compare_split(
    tuple_set: TupleSet, split: str, rows: Tuples, systems: Sequence[System], metrics: Sequence[Metric],
    slices: Sequence[str], relevance: Relevance, resamples: int, seed: int, tick: Callable[[int], None],
) -> SplitResult:  # fmt: skip
    check_labels(tuple_set, split, rows)
    assert rows.labels is not None
    for one in systems:
        if one.logits[split].shape[1:] != (len(rows), tuple_set.labels.outputs):
            raise InputError(
                f"the system '{one.name}' gives {one.logits[split].shape[2]} outputs for {one.logits[split].shape[1]} rows",
                expected=f"{tuple_set.labels.outputs} outputs for the {len(rows)} rows of split '{split}'",
            )
    kept = np.flatnonzero(~np.isnan(rows.labels))
    labelled = rows.take(kept)
    names = document_names(tuple_set, labelled)
    runs = {
        one.name: [
            _predictions(tuple_set, labelled, logits[kept], one.calibrated, relevance, names)
            for logits in one.logits[split]
        ]
        for one in systems
    }
    teacher = next((one for one in systems if one.role == "teacher"), None)
    measured: dict[str, dict[str, MetricValue]] = {}
    readings: dict[str, Metric] = {}
    raw: dict[str, float | None] = {}
    for count, one in enumerate(systems, start=1):
        measured[one.name] = {metric.name: _mean([metric.measure(run) for run in runs[one.name]]) for metric in metrics}
        readings[one.name], raw[one.name] = _reading(metrics[0], one, runs[one.name])
        tick(count)
    leads = _leads(systems, readings, runs, resamples, seed)
    compared = {name: _mean([readings[name].measure(run) for run in runs[name]]).value for name in runs}
    sign = 1.0 if metrics[0].higher_is_better else -1.0
    ranked = sorted(systems, key=lambda one: _rank_key(compared[one.name], sign))
    results = [
        SystemResult(
            name=one.name,
            metrics=measured[one.name],
            compared=compared[one.name],
            raw_pearson=raw[one.name],
            agreement=None if teacher is None or one is teacher else _agreement(tuple_set, split, one, teacher),
            reliability=_reliability(one, runs[one.name][0]),
        )
        for one in ranked
    ]
    facts = [SystemFacts(one.name, one.role, one.seeds, one.calibrated) for one in systems]
    results = _relations(facts, results, leads, None if teacher is None else compared[teacher.name], sign)
    first = runs[systems[0].name][0]
    return SplitResult(
        split=split,
        rows=len(rows),
        labelled=len(labelled),
        groups=first.group_count,
        ranked_groups=_ranked_groups(first),
        systems=tuple(results),
        slices=_slices(tuple_set, rows.rows[kept], slices, systems, runs, metrics),
        leads=leads,
        verdict=verdict(
            facts, results, leads, metrics[0].title,
            lower_is_better=not metrics[0].higher_is_better, resampled_groups=first.group_count,
        ),
    )  # fmt: skip


def _rank_key(value: float | None, sign: float) -> tuple[bool, float]:
    return (value is None, 0.0 if value is None else -sign * value)


def _reading(headline: Metric, system: System, runs: Sequence[Predictions]) -> tuple[Metric, float | None]:
    """How the headline reads a system, and its Pearson without the sigmoid (similarities alone)."""
    if system.calibrated or "pearson" not in headline.name:
        return headline, None
    plain = Pearson(raw=True)
    without = _mean([plain.measure(run) for run in runs]).value
    with_sigmoid = _mean([headline.measure(run) for run in runs]).value
    favours = without is not None and (with_sigmoid is None or without > with_sigmoid)
    return (plain if favours else headline), without


def _leads(
    systems: Sequence[System], readings: Mapping[str, Metric], runs: Mapping[str, Sequence[Predictions]],
    resamples: int, seed: int,
) -> tuple[Lead, ...]:  # fmt: skip
    names = [one.name for one in systems]
    tests = paired_bootstrap(
        [readings[name] for name in names], [runs[name] for name in names], resamples=resamples, seed=seed
    )
    return tuple(Lead(names[one.better], names[one.other], one.difference, one.p_value) for one in tests)


def _relations(
    facts: Sequence[SystemFacts],
    results: Sequence[SystemResult],
    leads: Sequence[Lead],
    teacher: float | None,
    sign: float,
) -> list[SystemResult]:
    """Fill in retention, the margin kept and the star of each system."""
    from dataclasses import replace

    floor = best_floor(facts, results)
    roles = {one.name: one.role for one in facts}
    out = []
    for place, one in enumerate(results):
        retention = margin = None
        if one.compared is not None and teacher is not None and roles[one.name] != "teacher":
            if sign > 0 and teacher > 0:
                retention = one.compared / teacher
            if floor is not None and floor.compared is not None and sign * (teacher - floor.compared) > 0:
                margin = (one.compared - floor.compared) / (teacher - floor.compared)
        after = next((other for other in results[place + 1 :] if other.compared is not None), None)
        ahead = after.name if after is not None and significantly_ahead(leads, one.name, after.name) else None
        out.append(replace(one, retention=retention, margin_kept=margin, ahead_of=ahead))
    return out


def _agreement(tuple_set: TupleSet, split: str, system: System, teacher: System) -> Agreement:
    """Over all rows of the split, each seed against the mean of the teacher's seeds."""
    reference = teacher.logits[split].mean(axis=0).astype(np.float64)
    runs = [one.astype(np.float64) for one in system.logits[split]]
    if tuple_set.labels.kind == "classes":
        same = [float((one.argmax(axis=1) == reference.argmax(axis=1)).mean()) for one in runs]
        return Agreement(same_class=_mean([Measured(value) for value in same]))
    target = reference[:, 0]
    scores = [one[:, 0] for one in runs]
    return Agreement(
        pearson=_mean([pearson(sigmoid(one), sigmoid(target)) for one in scores]),
        spearman=_mean([spearman(one, target) for one in scores]),
        kendall=_mean([kendall(one, target) for one in scores]),
    )


def _reliability(system: System, run: Predictions) -> tuple[Any, ...]:
    return reliability(run) if system.calibrated and np.ptp(run.scores) > 0 else ()


def _ranked_groups(run: Predictions) -> int | None:
    if run.kind == "classes":
        return None
    return len(np.unique(run.groups[run.relevance.relevant(run.labels) > 0]))


def _slices(
    tuple_set: TupleSet, rows: np.ndarray, names: Sequence[str], systems: Sequence[System],
    runs: Mapping[str, Sequence[Predictions]], metrics: Sequence[Metric],
) -> tuple[SliceResult, ...]:  # fmt: skip
    out = []
    for name in names:
        values, codes, counts = np.unique(_slice_values(tuple_set, rows, name), return_inverse=True, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        kept = order[: MOST_SLICE_VALUES - 1] if len(order) > MOST_SLICE_VALUES else order
        parts = [(str(values[code]), np.flatnonzero(codes == code)) for code in kept]
        if len(kept) < len(order):
            parts.append(("(other)", np.flatnonzero(~np.isin(codes, kept))))
        for value, positions in parts:
            found = {
                one.name: {
                    metric.name: _mean([metric.measure(_part(run, positions)) for run in runs[one.name]])
                    for metric in metrics
                }
                for one in systems
            }
            groups = len(np.unique(runs[systems[0].name][0].groups[positions]))
            out.append(SliceResult(name, value, len(positions), groups, found))
    return tuple(out)


def _slice_values(tuple_set: TupleSet, rows: np.ndarray, name: str) -> np.ndarray:
    if name in tuple_set.slices:
        return tuple_set.slice_values(name, rows)
    tuples = tuple_set.tuples
    learnt = pc.is_in(tuples.column("split"), value_set=pa.array(["train", "transfer"]))
    groups = tuples.column("group")
    seen = pc.is_in(groups.take(rows), value_set=pc.unique(groups.filter(learnt)))
    return np.where(np.asarray(seen), "seen", "new")


def _part(run: Predictions, positions: np.ndarray) -> Predictions:
    return Predictions.of(
        run.logits[positions], run.labels[positions], run.groups[positions], run.kind, calibrated=run.calibrated,
        relevance=run.relevance, documents=None if run.documents is None else run.documents[positions],
    )  # fmt: skip
