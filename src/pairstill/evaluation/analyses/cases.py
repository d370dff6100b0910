"""Single groups laid open: what each system says about every item (BERT2DNN's case study, arXiv 2010.10442)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairstill.errors import InputError, did_you_mean
from pairstill.evaluation.analyses.inputs import Inputs
from pairstill.metrics.base import Floats, sigmoid
from pairstill.tuples.set_manifest import Labels

DRAWN = 5
MOST_ROWS = 20


@dataclass(frozen=True)
class CaseScore:
    """What one system says about one item.

    Attributes:
        probability: Sigmoid of its logit; None for a similarity.
        rank: Within the group, from 1; equal scores share the best rank.
    """

    probability: float | None
    rank: int


@dataclass(frozen=True)
class CaseRow:
    """One item of a group.

    Attributes:
        texts: Field -> text, of the fields that differ within the group; all where it is alone.
        label: In the label's own range.
        scores: One a system, in the order of `Cases.systems`.
    """

    texts: dict[str, str]
    label: float
    scores: tuple[CaseScore, ...]


@dataclass(frozen=True)
class Case:
    """One group.

    Attributes:
        group: Its name.
        texts: Field -> text, of the fields that all its items share.
        rows: Best first in the order of the first system; at most `MOST_ROWS`.
        left_out: Labelled items beyond these.
    """

    group: str
    texts: dict[str, str]
    rows: tuple[CaseRow, ...]
    left_out: int


@dataclass(frozen=True)
class Cases:
    """A few groups.

    Attributes:
        systems: The teacher first, then students and others.
        cases: In the order asked for, or drawn.
    """

    systems: tuple[str, ...]
    cases: tuple[Case, ...]


def cases(inputs: Inputs, wanted: Sequence[str] = (), *, seed: int = 0, drawn: int = DRAWN) -> Cases:
    """Lay groups open.

    Args:
        inputs: Rows and scores.
        wanted: Names of groups; none draws some, of those with different labels where there are any.
        seed: Of the draw.
        drawn: How many are drawn.

    Raises:
        InputError: A group is not among the labelled rows.
    """
    ordered = sorted(inputs.trained, key=lambda one: one.role != "teacher")
    return Cases(
        tuple(one.name for one in ordered),
        tuple(_case(inputs, number, [one.name for one in ordered]) for number in _chosen(inputs, wanted, seed, drawn)),
    )


def check_cases(names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise `InputError` where a wanted group is not among `names`, with the nearest one."""
    known = set(names)
    for one in wanted:
        if one not in known:
            raise InputError(
                f"the split has no labelled group '{one}'",
                expected=f"the name of a group, such as '{names[0]}'" if names else "a split with labelled groups",
                fix=did_you_mean(one, names, 0.4),
            )


def _chosen(inputs: Inputs, wanted: Sequence[str], seed: int, drawn: int) -> list[int]:
    names = inputs.group_names
    if wanted:
        check_cases(names, wanted)
        return [names.index(one) for one in dict.fromkeys(wanted)]
    lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(lows, inputs.groups, inputs.labels)
    np.maximum.at(highs, inputs.groups, inputs.labels)
    telling = np.flatnonzero(highs > lows)
    pool = telling if len(telling) else np.arange(len(names))
    return [int(one) for one in np.random.default_rng(seed).permutation(pool)[:drawn]]


def _case(inputs: Inputs, group: int, systems: Sequence[str]) -> Case:
    rows = np.flatnonzero(inputs.groups == group)
    shared = inputs.shared_texts(rows) if len(rows) > 1 else {}
    fields = [(place, name) for place, name in enumerate(inputs.tuple_set.field_names) if name not in shared]
    scores = {name: inputs.logits[name][rows, 0] for name in systems}
    probabilities = {name: sigmoid(scores[name]) if inputs.system(name).calibrated else None for name in systems}
    labels = _own_range(inputs.labels[rows], inputs.tuple_set.labels)
    order = np.argsort(-scores[systems[0]], kind="stable")
    found = tuple(
        CaseRow(
            {name: inputs.text(rows[one], place) for place, name in fields},
            float(labels[one]),
            tuple(_score(scores[name], probabilities[name], one) for name in systems),
        )
        for one in order[:MOST_ROWS]
    )
    return Case(inputs.group_names[group], shared, found, max(len(rows) - MOST_ROWS, 0))


def _score(scores: np.ndarray, probabilities: Floats | None, row: int) -> CaseScore:
    return CaseScore(
        None if probabilities is None else float(probabilities[row]), 1 + int((scores > scores[row]).sum())
    )


def _own_range(values: Floats, labels: Labels) -> Floats:
    """Labels in [0, 1] as they were given."""
    if labels.minimum is None or labels.maximum is None:
        return values
    return np.asarray(np.round(labels.minimum + values * (labels.maximum - labels.minimum), 4))
