"""Run the analyses of a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from pairstill.evaluation.analyses.cases import cases
from pairstill.evaluation.analyses.inputs import Inputs
from pairstill.evaluation.analyses.magnitudes import magnitude_of
from pairstill.evaluation.analyses.margins import margins_of
from pairstill.evaluation.analyses.neighbours import frequent_terms, neighbours
from pairstill.evaluation.analyses.request import Plan
from pairstill.evaluation.analyses.results import Analyses
from pairstill.evaluation.analyses.slots import slots
from pairstill.evaluation.analyses.wins import wins
from pairstill.evaluation.evaluate import Evaluation
from pairstill.metrics.catalogue import parse_metric
from pairstill.tuples.tuple_set import TupleSet

Progress = Callable[[int, int], None]
ProgressOf = Callable[[str, str], contextlib.AbstractContextManager[Progress]]


def analyse(plan: Plan, evaluation: Evaluation, tuple_set: TupleSet, progress_of: ProgressOf | None = None) -> Analyses:
    """Analyse the first split of an evaluation; the scores at hand are used, students run for their slots alone.

    Args:
        plan: From `pairstill.evaluation.analyses.request.plan`.
        evaluation: With the systems that the plan was made for.
        tuple_set: Of the evaluation.
        progress_of: Gives a progress callable for a named step and unit; None is silent.

    Raises:
        InputError: The system to count wins against gave no scores, or no probabilities where these are compared.
    """
    request, split = plan.request, evaluation.comparison.main.split
    inputs = Inputs.of(tuple_set, split, evaluation.tuples[split], evaluation.systems, evaluation.relevance)
    metric = parse_metric(evaluation.comparison.headline, tuple_set.labels.kind)
    teacher = inputs.teacher
    found = Analyses(split, len(inputs.tuples), request.seed, plan.notes)
    parts: dict[str, object] = {}
    for name in plan.names:
        if name == "margins" and teacher is not None:
            logits = inputs.logits[teacher.name][:, 0]
            parts[name] = margins_of(teacher.name, logits, inputs.labels, inputs.groups, seed=request.seed)
        elif name == "magnitudes":
            parts[name] = tuple(
                magnitude_of(one.name, one.role, one.calibrated, inputs.logits[one.name][:, 0], inputs.groups)
                for one in inputs.systems
            )
        elif name == "wins" and plan.against is not None:
            parts[name] = wins(inputs, metric, plan.against)
        elif name == "slots":
            with (progress_of or _silent)("Looking into kept vectors", "slots") as progress:
                parts[name] = slots(
                    inputs, plan.kept, metric, pairs=request.pairs, seed=request.seed, progress=progress
                )
        elif name == "neighbours":
            terms = request.terms or frequent_terms(_texts(inputs), list(plan.tables.values()))
            parts[name] = neighbours(terms, plan.tables)
        elif name == "cases":
            parts[name] = cases(inputs, request.cases, seed=request.seed)
    return Analyses(**{**vars(found), **parts})


def _texts(inputs: Inputs) -> Iterator[str]:
    """The distinct texts of the labelled rows, a field after another."""
    for place, field in enumerate(inputs.tuple_set.fields):
        if field.kind == "text":
            yield from inputs.tuple_set.texts(place, np.unique(inputs.tuples.index[:, place]))


@contextlib.contextmanager
def _silent(what: str, unit: str) -> Iterator[Progress]:
    del what, unit
    yield lambda done, total: None
