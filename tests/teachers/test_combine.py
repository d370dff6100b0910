"""Several teachers as one: the formulas one number at a time, what the manifest says, and what does not fit together."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.teachers.combine import combine_scores
from pairstill.teachers.ensemble import mean_of_logits, mean_of_probabilities
from pairstill.teachers.scores import ScoresManifest, TeacherInfo, TeacherScores
from pairstill.teachers.stack import Stack
from pairstill.tuples import Labels, TupleSet
from tiny import tiny_tuple_set

moderate = st.floats(-20, 20)
triples = st.lists(st.tuples(moderate, moderate, moderate), min_size=1, max_size=8)


def scores(tuple_set: TupleSet, name: str, logits: np.ndarray, rows: np.ndarray | None = None, **values: Any) -> Any:
    logits = np.asarray(logits, np.float32)
    logits = logits[:, None] if logits.ndim == 1 else logits
    body: dict[str, Any] = {
        "teachers": (TeacherInfo(name, name * 8),), "score_kind": "logit", "outputs": logits.shape[1],
        "fields": tuple_set.field_names, "splits": (), "tuple_set": tuple_set.fingerprint, "max_lengths": (24,), "truncated": 3,
    }  # fmt: skip
    rows = np.arange(len(logits)) if rows is None else rows
    return TeacherScores(ScoresManifest(**{**body, **values}), rows.astype(np.int64), logits)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@given(triples)
def test_means_one_number_at_a_time(rows: list[tuple[float, float, float]]) -> None:
    teachers = [np.array([[row[place]] for row in rows]) for place in range(3)]
    means, votes = mean_of_logits(teachers), mean_of_probabilities(teachers)
    for number, row in enumerate(rows):
        assert means[number, 0] == pytest.approx(sum(row) / 3, abs=1e-9)
        yes = sum(sigmoid(one) for one in row) / 3
        no = sum(sigmoid(-one) for one in row) / 3
        assert votes[number, 0] == pytest.approx(math.log(yes / no), abs=1e-9)


@given(triples, triples)
def test_mean_of_softmaxes(one: list[tuple[float, float, float]], two: list[tuple[float, float, float]]) -> None:
    count = min(len(one), len(two))
    found = mean_of_probabilities([np.array(one[:count]), np.array(two[:count])])
    for number in range(count):
        expected = [0.0, 0.0, 0.0]
        for row in (one[number], two[number]):
            total = sum(math.exp(value) for value in row)
            for place, value in enumerate(row):
                expected[place] += math.exp(value) / total / 2
        np.testing.assert_allclose(np.exp(found[number]), expected, rtol=1e-8)


def test_extreme_logits_stay_finite_and_ordered() -> None:
    found = mean_of_probabilities([np.array([[3e4], [3e5], [-3e38]]), np.array([[3e4], [3e5], [3e38]])])[:, 0]
    np.testing.assert_allclose(found, [3e4, 3e5, 0])


@pytest.fixture
def three(tuple_set: TupleSet) -> list[TeacherScores]:
    """Three teachers that know the labels more or less well; the last one is a classifier with two logits."""
    labels = tuple_set.tuples["label"].to_numpy()
    generator = np.random.default_rng(1)
    noisy = [(2 * labels - 1) * know + generator.normal(size=len(labels)) for know in (0.3, 1.5, 0.8)]
    return [
        scores(tuple_set, "a", noisy[0]),
        scores(tuple_set, "b", noisy[1], precision="bfloat16"),
        scores(tuple_set, "c", np.stack([-noisy[2], np.zeros_like(noisy[2])], axis=1)),
    ]


@pytest.mark.parametrize("how", ["mean", "mean-probability", "stack"])
def test_rows_order_and_manifest(how: Any, three: list[TeacherScores], tuple_set: TupleSet, tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(len(tuple_set))
    first = TeacherScores(three[0].manifest, order, three[0].logits[order])
    seen: list[tuple[int, int]] = []
    made = combine_scores(
        [first, *three[1:]], tuple_set, tmp_path, how=how, shard_rows=70, progress=lambda *one: seen.append(one)
    )
    np.testing.assert_array_equal(made.rows, order)
    assert (made.kind, made.outputs, seen[-1]) == ("logit", 1, (400, 400))
    assert [one.name for one in made.manifest.teachers] == ["a", "b", "c"]
    assert (made.manifest.max_lengths, made.manifest.precision) == ((24, 24, 24), None)
    assert made.manifest.provenance["combined"] == how
    singles = [one.single()[order] for one in three]
    if how == "mean":
        np.testing.assert_allclose(made.logits[:, 0], np.mean(singles, axis=0), atol=1e-6)
    again = combine_scores([first, *three[1:]], tuple_set, tmp_path, how=how, shard_rows=70)
    np.testing.assert_array_equal(again.logits, made.logits)
    with pytest.raises(ArtefactError, match="the folder was started with other settings: sources was"):
        combine_scores([first, three[1]], tuple_set, tmp_path, how=how, shard_rows=70)


def test_a_stack_minimises_the_cross_entropy_of_its_rows(
    three: list[TeacherScores], tuple_set: TupleSet, tmp_path: Path
) -> None:
    made = combine_scores(three, tuple_set, tmp_path, how="stack", fit_splits=["valid", "test"])
    described = made.manifest.provenance["stack"]
    rows = tuple_set.split("valid", "test")
    assert (described["fitted_on"]["splits"], described["fitted_on"]["rows"]) == (["valid", "test"], len(rows))
    coefficients, intercept = np.array(described["coefficients"][0]), described["intercepts"][0]
    assert coefficients[1] > coefficients[0], "the teacher that knows more counts for more"

    spreads = [float(one.single()[rows.rows].std()) for one in three]

    def objective(weights: np.ndarray) -> float:
        """Sum of the cross-entropy and half the squared norm on teachers of deviation 1, tuple by tuple."""
        total = 0.5 * sum((one * spread) ** 2 for one, spread in zip(weights, spreads, strict=False))
        for row, label in zip(rows.rows, rows.labels, strict=True):  # type: ignore[arg-type]
            z = sum(weight * one.single()[row] for weight, one in zip(weights, three, strict=False)) + weights[3]
            total += math.log1p(math.exp(-z if label else z))
        return total

    best = np.append(coefficients, intercept)
    least = objective(best)
    for place in range(4):
        for step in (-0.02, 0.02):
            assert objective(best + step * np.eye(4)[place]) > least
    expected = sum(weight * one.single() for weight, one in zip(coefficients, three, strict=True)) + intercept
    np.testing.assert_allclose(made.logits[:, 0], expected, atol=1e-5)


def test_it_does_not_matter_on_what_scale_a_teacher_scores() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 60).astype(float)
    teacher = labels[:, None] + generator.normal(size=(60, 1))
    for kind, answers in ((Labels("binary"), labels), (Labels("classes", classes=("a", "b")), labels)):
        found = [Stack.fit([teacher * scale], answers, kind).logits([teacher * scale]) for scale in (1, 1e-4, 1e3)]
        for one in found[1:]:
            np.testing.assert_allclose(one, found[0], atol=1e-3)
    assert Stack.fit([teacher, np.zeros_like(teacher)], labels, Labels("binary")).coefficients[0, 1] == 0


def test_graded_labels_and_weights_are_shares_of_two_answers() -> None:
    generator = np.random.default_rng(0)
    teacher, grades = generator.normal(size=(200, 1)), generator.integers(0, 5, 200) / 4
    found = Stack.fit([teacher], grades, Labels("graded", 0, 4), np.full(200, 4.0))
    times = np.round(grades * 4).astype(int)
    repeated = np.concatenate([np.repeat(teacher, times, axis=0), np.repeat(teacher, 4 - times, axis=0)])
    answers = np.repeat([1.0, 0.0], [times.sum(), (4 - times).sum()])
    expected = Stack.fit([repeated], answers, Labels("binary"))
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-3)
    np.testing.assert_allclose(found.intercepts, expected.intercepts, atol=1e-3)


@pytest.mark.parametrize("names", [("no", "yes"), ("no", "maybe", "yes")])
def test_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tuple_set = tiny_tuple_set()
    labels = generator.integers(0, len(names), len(tuple_set))
    import pyarrow as pa

    place = tuple_set.tuples.column_names.index("label")
    table = tuple_set.tuples.set_column(place, "label", pa.array(labels.astype(float)))
    tuple_set = replace(tuple_set, labels=Labels("classes", classes=names), tuples=table)
    teachers = [
        scores(tuple_set, name, 1.5 * np.eye(len(names))[labels] + generator.normal(size=(400, len(names))), classes=names)
        for name in "ab"
    ]  # fmt: skip
    made = {
        how: combine_scores(teachers, tuple_set, tmp_path / how, how=how)  # type: ignore[arg-type]
        for how in ("mean", "mean-probability", "stack")
    }
    wrong = {how: float((one.logits.argmax(axis=1) != labels).mean()) for how, one in made.items()}
    alone = min(float((one.logits.argmax(axis=1) != labels).mean()) for one in teachers)
    assert all(one < alone for one in wrong.values()), wrong
    assert made["mean"].manifest.classes == names
    other = replace(teachers[1], manifest=replace(teachers[1].manifest, classes=names[::-1]))
    with pytest.raises(InputError, match="'a' gives the classes"):
        combine_scores([teachers[0], other], tuple_set, tmp_path / "x", how="mean")


def test_parts_of_one_teacher_are_joined(
    three: list[TeacherScores], tuple_set: TupleSet, tmp_path: Path
) -> None:  # fmt: skip
    first = three[0]
    halves = [TeacherScores(first.manifest, first.rows[part], first.logits[part]) for part in (slice(150), slice(150, None))]  # fmt: skip
    parts = combine_scores([halves[0], three[1], halves[1]], tuple_set, tmp_path / "parts", how="mean")
    whole = combine_scores(three[:2], tuple_set, tmp_path / "whole", how="mean")
    np.testing.assert_array_equal(parts.logits, whole.logits)


def test_what_does_not_fit(three: list[TeacherScores], tuple_set: TupleSet, tmp_path: Path) -> None:
    one, two, _ = three
    other = scores(tuple_set, "other", two.logits, score_kind="other")
    fewer = TeacherScores(replace(two.manifest), two.rows[:-3], two.logits[:-3])
    three_logits = scores(tuple_set, "d", np.zeros((400, 3)))
    train = tuple_set.split("train").rows
    parts = [TeacherScores(each.manifest, train, each.logits[train]) for each in (one, two)]
    strange = tiny_tuple_set(seed=1)
    for given_parts, options, message in [
        ([one], {}, "the scores are of 1 teacher \\('a'\\)"),
        ([], {}, "the scores are of 0 teachers"),
        ([one, other], {}, "'a' are of kind 'logit' and those of 'other' of kind 'other'"),
        ([other, scores(tuple_set, "e", one.logits, score_kind="other")], {"how": "mean-probability"}, "need raw logits"),
        ([one, fewer], {}, r"row 397 of the tuple set is scored by 'a' and not by 'b' \(3 such rows\)"),
        ([fewer, one], {}, "row 397 of the tuple set is scored by 'a' and not by 'b'"),
        ([one, three_logits], {}, "'a' gives the scores a tuple 1 and 'd' 3"),
        ([one, two], {"how": "median"}, "combined by 'median'. Expected: mean, mean-probability, stack"),
        ([one, scores(strange, "s", two.logits)], {}, "belong to another tuple set"),
        ([one, one], {}, "the scores are of 1 teacher"),
        (parts, {"how": "stack"}, "no labelled row of 'valid' is scored"),
        (parts, {"how": "stack", "fit_splits": ["dev"]}, "no split 'dev'"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            combine_scores(given_parts, tuple_set, tmp_path, **{"how": "mean", **options})  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir()), message


def test_labels_that_a_stack_cannot_be_fitted_on(
    three: list[TeacherScores], tuple_set: TupleSet, tmp_path: Path
) -> None:
    import pyarrow as pa

    place = tuple_set.tuples.column_names.index("label")
    for values, kind, message in [
        (pa.array([1.0] * 400), Labels("binary"), "all have the same label"),
        (pa.nulls(400, pa.float64()), Labels("binary"), "'valid' has none"),
        (pa.array([0.0, 2.0] * 200), Labels("classes", classes=("x", "y", "z")), "has the class 'y'"),
    ]:
        changed = replace(tuple_set, tuples=tuple_set.tuples.set_column(place, "label", values), labels=kind)
        outputs = max(1, len(kind.classes))
        parts = [scores(changed, name, np.random.default_rng(0).normal(size=(400, outputs))) for name in "ab"]
        with pytest.raises(InputError, match=message):
            combine_scores(parts, changed, tmp_path, how="stack")
