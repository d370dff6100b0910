"""Batches of whole groups: every row once a pass, groups never cut, resumed at the row, dealt out to processes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import InputError
from pairstill.losses import LOSSES, DistillationLoss, InBatchMarginMSE, Loss, MarginMSE, make_loss
from pairstill.students import Student, make_student
from pairstill.students.persistence import parse_config
from pairstill.training.batches import Batches
from pairstill.training.data import TrainingData
from pairstill.training.loop import fit
from pairstill.training.order import group_order
from pairstill.training.procedures import DistillationPlan, distil, initialise_similarity
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import token_sources
from pairstill.training.validation import Validation
from pairstill.tuples import Tuples, TupleSet

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(
    pairs=320, batch_size=24, learning_rate=1e-3, encoder_learning_rate=1e-3, evaluate_every=96, checkpoint_every_s=0.0,
    cluster_rows=8,
)  # fmt: skip


def rows_of(count: int, queries: int, items: int, weighted: bool = False, seed: int = 0) -> TrainingData:
    """Random pairs with teacher scores."""
    generator = np.random.default_rng(seed)
    index = np.stack([generator.integers(0, queries, count), generator.integers(0, items, count)], axis=1)
    labels = generator.integers(0, 2, count).astype(np.float32)
    labels[generator.random(count) < 0.3] = np.nan
    weights = (generator.random(count) + 0.1).astype(np.float32) if weighted else None
    tuples = Tuples(index, np.arange(count), labels, weights, index[:, 0])
    return TrainingData(tuples, generator.standard_normal((count, 1)).astype(np.float32))


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 20), st.integers(2, 30), st.integers(0, 3), st.sampled_from([1, 4, 50]))
def test_a_pass_has_every_row_once_and_keeps_groups_together(
    count: int, queries: int, longest: int, epoch: int, cluster: int
) -> None:
    index = rows_of(count, queries, 30).tuples.index
    order, starts = group_order(index, index[:, 0], 0, epoch, longest, cluster)
    assert sorted(order.tolist()) == list(range(count))
    pieces = np.split(order, starts[1:])
    assert starts[0] == 0
    assert all(len(set(index[one, 0])) == 1 for one in pieces)
    sizes = np.bincount(index[:, 0])
    for query in np.unique(index[:, 0]):
        mine = [len(one) for one in pieces if index[one[0], 0] == query]
        assert len(mine) == -(-sizes[query] // longest), "a group is cut only where it is longer than a batch"
        assert max(mine) - min(mine) <= 1
    again = group_order(index, index[:, 0], 0, epoch, longest, cluster)
    np.testing.assert_array_equal(order, again[0])
    np.testing.assert_array_equal(starts, again[1])


def test_neighbours_share_texts() -> None:
    generator = np.random.default_rng(0)
    topic = np.repeat(generator.integers(0, 30, 400), 5)
    index = np.stack([np.repeat(np.arange(400), 5), topic * 12 + generator.integers(0, 12, 2000)], axis=1)

    def texts(cluster: int) -> float:
        order, _ = group_order(index, index[:, 0], 0, 0, 64, cluster)
        return float(np.mean([len(np.unique(index[one, 1])) for one in order[:1984].reshape(-1, 64)]))

    assert texts(32) < 0.8 * texts(1)


@settings(deadline=None)
@given(st.integers(2, 120), st.integers(1, 20), st.integers(2, 40), st.integers(1, 400))
def test_steps_cover_the_passes_in_turn(count: int, queries: int, size: int, pairs: int) -> None:
    data = rows_of(count, queries, 30)
    batches = Batches(data, MarginMSE(), TrainingSettings(pairs=pairs, batch_size=size))
    steps = [batches.rows(step) for step in range(batches.settings.steps)]
    assert all(len(rows) for rows, _ in steps)
    assert max(len(rows) for rows, _ in steps) < 2 * size
    presented = np.concatenate([rows for rows, _ in steps])
    assert len(steps) * size <= len(presented) < (len(steps) + 1) * size
    whole, rest = divmod(len(presented), count)
    seen = np.bincount(presented, minlength=count)
    assert set(np.unique(seen)) <= {whole, whole + 1}
    assert (seen == whole + 1).sum() == rest
    for rows, pieces in steps:
        assert (np.diff(pieces) >= 0).all()
        assert all(len(set(data.tuples.index[rows[pieces == one], 0])) == 1 for one in np.unique(pieces))
    # A step is a function of its number.
    fresh = Batches(data, MarginMSE(), batches.settings)
    np.testing.assert_array_equal(fresh.rows(len(steps) - 1)[0], steps[-1][0])


@pytest.mark.parametrize("kind", LOSSES, ids=lambda one: one.name)
@settings(max_examples=10, deadline=None)
@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 4), st.booleans())
def test_processes_make_up_the_step(kind: type[Loss], count: int, queries: int, processes: int, weighted: bool) -> None:
    data, loss = rows_of(count, queries, 12, weighted), kind()
    settings = TrainingSettings(pairs=count, batch_size=max(2, count // 2))
    table = torch.randn(20, 12, dtype=torch.float64)

    def value(batch: Any) -> float:
        logits = table[torch.from_numpy(batch.index[:, 0]), torch.from_numpy(batch.index[:, 1])][:, None]
        return float(loss(logits, batch.targets, batch.whole)) * batch.share

    for step in range(settings.steps):
        expected = value(Batches(data, loss, settings).batch(step, CPU))
        parts = [value(Batches(data, loss, settings, processes, one).batch(step, CPU)) for one in range(processes)]
        assert sum(parts) / processes == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_every_query_meets_every_passage() -> None:
    data = rows_of(40, 6, 9, weighted=True)
    batches = Batches(data, InBatchMarginMSE(), TrainingSettings(pairs=20, batch_size=20))
    rows, pieces = batches.rows(0)
    batch, index = batches.batch(0, CPU), data.tuples.index
    passages = np.unique(index[rows, 1])
    assert len(batch.index) == len(np.unique(pieces)) * len(passages)
    known = {tuple(pair): row for row, pair in enumerate(index.tolist())}
    pairs = {tuple(pair) for pair in index.tolist()}
    own = {(int(piece), int(index[row, 1])) for row, piece in zip(rows, pieces, strict=True)}
    for cell, pair in enumerate(batch.index.tolist()):
        score = float(batch.targets.teacher_logits[cell])
        assert (tuple(pair) in pairs) == (not np.isnan(score))
        if (index == pair).all(axis=1).sum() == 1:
            assert score == data.teacher_logits[known[tuple(pair)], 0]
            assert float(batch.targets.weights[cell]) == data.tuples.weights[known[tuple(pair)]]
        assert bool(batch.targets.own[cell]) == ((int(batch.targets.groups[cell]), pair[1]) in own)


def test_rows_that_a_loss_cannot_learn_from() -> None:
    index = np.array([[0, 1], [1, 2], [0, 3], [2, 4]])
    tuples = Tuples(index, np.arange(4), None, None, index[:, 0])
    data = TrainingData(tuples, np.arange(4, dtype=np.float32)[:, None])
    kept = data.for_loss(MarginMSE())
    np.testing.assert_array_equal(kept.tuples.rows, [0, 2])
    np.testing.assert_array_equal(kept.teacher_logits[:, 0], [0, 2])
    assert data.for_loss(DistillationLoss()) is data
    alone = TrainingData(tuples.take(np.array([0, 1, 3])), data.teacher_logits[[0, 1, 3]])
    with pytest.raises(InputError, match="share the first field's item, and no two rows do"):
        alone.for_loss(MarginMSE())
    with pytest.raises(InputError, match="each is scored with one"):
        data.for_loss(InBatchMarginMSE())
    with pytest.raises(InputError, match="there is one field"):
        TrainingData(Tuples(index[:, :1], tuples.rows, None, None, tuples.groups), data.teacher_logits).for_loss(
            MarginMSE()
        )
    with pytest.raises(InputError, match="kind 'probability'"):
        TrainingData(tuples, data.teacher_logits, "probability").for_loss(MarginMSE())
    with pytest.raises(InputError, match="a batch has 1 row"):
        Batches(data, MarginMSE(), TrainingSettings(batch_size=1))


def student(base: Path, name: str = "de-ffnn", **values: Any) -> Student:
    torch.manual_seed(3)
    encoder = {"base": str(base), "max_lengths": [16], "layers": 1, "dropout": 0.1}
    return make_student(name, parse_config(name, {**values, "encoder": encoder}))


def scored(tuple_set: TupleSet) -> TrainingData:
    tuples = tuple_set.split("train")
    return TrainingData(tuples, (tuples.labels * 4 - 2).astype(np.float32)[:, None])


class Interruption(Exception):
    pass


@pytest.mark.parametrize("name", ["margin-mse", "in-batch-margin-mse"])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    base: Path, tuple_set: TupleSet, tmp_path: Path, name: str
) -> None:
    loss, data = make_loss(name), scored(tuple_set)

    def run(folder: Path, stop: int | None) -> Student:
        model = student(base)

        def progress(done: int, total: int) -> None:
            if done == stop:
                raise Interruption

        fit(model, token_sources(model, tuple_set), data, loss, SETTINGS, folder, progress=progress)
        return model

    calm = run(tmp_path / "calm", None)
    with pytest.raises(Interruption):
        run(tmp_path / "broken", 168)
    again = run(tmp_path / "broken", None)
    for key, value in calm.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0)


@pytest.mark.parametrize("name", [one.name for one in LOSSES])
def test_every_loss_trains_in_both_stages(base: Path, tuple_set: TupleSet, tmp_path: Path, name: str) -> None:
    model, data = student(base), scored(tuple_set)
    validation = Validation.on_labels(tuple_set, "train")
    stage = TrainingSettings(
        pairs=960, batch_size=32, learning_rate=5e-3, encoder_learning_rate=1e-3, evaluate_every=480
    )
    result = distil(
        tuple_set, model, data, make_loss(name), DistillationPlan(stage, stage), tmp_path, validation=validation
    )
    assert result.best is not None
    assert result.best > 0.6


def test_a_similarity_is_fitted_to_margins(base: Path, tuple_set: TupleSet) -> None:
    model, data = student(base, "de-cos"), scored(tuple_set)
    for name in ("margin-mse", "in-batch-cross-entropy"):
        before = [one.detach().clone() for one in model.head.parameters()]
        initialise_similarity(model, tuple_set, data, make_loss(name))
        assert any(not torch.equal(one, old) for one, old in zip(model.head.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["de-cos", "de-ffnn"])
def test_a_similarity_that_fits_upside_down_keeps_its_start(base: Path, tuple_set: TupleSet, name: str) -> None:
    model = student(base, name)
    data = scored(tuple_set)
    with torch.no_grad():
        cosines = student(base, "de-cos").eval().score_texts([
            tuple(str(tuple_set.values(field, np.array([item]))[0]) for field, item in enumerate(row))
            for row in data.tuples.index
        ])  # fmt: skip
    term = model.head if name == "de-cos" else model.skip
    before = [one.detach().clone() for one in term.parameters()]
    for sign, kept in ((-1, True), (1, False)):
        contrary = replace(data, teacher_logits=np.float32(sign) * 4 * (cosines - cosines.mean()))
        initialise_similarity(model, tuple_set, contrary, DistillationLoss())
        assert all(map(torch.equal, term.parameters(), before)) == kept
    assert float(term.scale.detach().flatten()[0]) > 0


def test_students_that_a_loss_does_not_suit(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    data, plan = scored(tuple_set), DistillationPlan(None, SETTINGS)
    with pytest.raises(InputError, match="a cross-encoder pays a whole transformer for each"):
        distil(tuple_set, student(base, "cross-encoder"), data, make_loss("in-batch-cross-entropy"), plan, tmp_path)
    with pytest.raises(InputError, match="compares tuples by one score, and 3 outputs"):
        distil(tuple_set, student(base, outputs=3), data, MarginMSE(), plan, tmp_path)
