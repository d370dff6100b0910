"""Passes over more rows than are ordered in memory: every row once, resumed at any step, small sets as before."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill import scratch
from pairstill.cli.app import main
from pairstill.losses import DistillationLoss, Loss, MarginMSE
from pairstill.students import load_student
from pairstill.teachers.import_scores import import_scores
from pairstill.training import batches as batches_module
from pairstill.training import order as order_module
from pairstill.training.batches import Batches
from pairstill.training.data import TrainingData
from pairstill.training.order import epoch_order
from pairstill.training.settings import TrainingSettings
from pairstill.tuples import Tuples, TupleSet, stored_tables


def data_of(count: int, queries: int, lists: bool = False) -> TrainingData:
    generator = np.random.default_rng(count)
    index = np.stack([np.sort(generator.integers(0, queries, count)), generator.integers(0, 50, count)], axis=1)
    numbers = np.arange(count) // 2 if lists else None
    return TrainingData(
        Tuples(index, np.arange(count), None, None, index[:, 0], numbers), np.zeros((count, 1), np.float32)
    )


def passes(data: TrainingData, loss: Loss, batch_size: int, cluster: int, steps: int) -> list[np.ndarray]:
    made = TrainingSettings(pairs=10**6, batch_size=batch_size, cluster_rows=cluster, seed=3)
    batches = Batches(data, loss, made)
    return [batches.rows(step)[0] for step in range(steps)]


@pytest.fixture(autouse=True)
def short_chapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "CHAPTER_ROWS", 100)
    monkeypatch.setattr(order_module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(scratch, "PIECE_ROWS", 64)


@settings(deadline=None, max_examples=25)
@given(st.integers(101, 600), st.sampled_from([1, 8]), st.integers(1, 40), st.booleans())
def test_every_row_once_a_pass_and_a_step_alone_is_the_same(count: int, cluster: int, size: int, grouped: bool) -> None:
    loss: Loss = MarginMSE() if grouped else DistillationLoss()
    size = max(size, 2)
    data = data_of(count, count // 5 + 1)
    steps = -(-3 * count // size)
    rows = passes(data, loss, size, cluster, steps)
    both = np.concatenate(rows)
    if not grouped:
        for epoch in range(3):
            assert sorted(both[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))
        assert both[:count].tolist() != both[count : 2 * count].tolist()
    assert np.bincount(both, minlength=count).min() >= 2
    settings_of = TrainingSettings(pairs=10**6, batch_size=size, cluster_rows=cluster, seed=3)
    for step in (steps - 1, steps // 2, 1, 0):
        if step < steps:
            np.testing.assert_array_equal(Batches(data, loss, settings_of).rows(step)[0], rows[step])


@pytest.mark.parametrize("lists", [False, True])
def test_what_is_compared_stays_in_one_step(lists: bool) -> None:
    data = data_of(500, 100, lists)
    made = TrainingSettings(pairs=10**6, batch_size=20, seed=1)
    batches, seen = Batches(data, MarginMSE(), made), []
    for step in range(25):
        rows, pieces = batches.rows(step)
        for piece in np.unique(pieces):
            mine = rows[pieces == piece]
            assert len(np.unique(data.tuples.compared[mine])) == 1
            if lists:
                assert sorted(mine.tolist()) == [mine.min(), mine.min() + 1]
        seen.append(rows)
    assert len(np.unique(np.concatenate(seen))) == 500


def test_few_rows_are_ordered_as_without_chapters(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(100, 20)
    expected = epoch_order(data.tuples.index, data.tuples.groups, 3, 0, 8)
    np.testing.assert_array_equal(np.concatenate(passes(data, DistillationLoss(), 10, 8, 10)), expected)


def test_neighbouring_blocks_are_mixed() -> None:
    """A chapter has rows from all over the set, and fewer distinct blocks than rows."""
    data = data_of(600, 100)
    first = np.concatenate(passes(data, DistillationLoss(), 10, 1, 8))
    assert first.min() < 150
    assert first.max() > 450
    assert len(np.unique(first // 8)) < len(first) / 2


def test_training_from_disk_is_the_same_training(
    base: Path, tuple_set: TupleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`distill` with every array in a file and 64 rows at a time ends with the same weights, bit for bit."""
    monkeypatch.setattr(batches_module, "CHAPTER_ROWS", 1 << 22)
    monkeypatch.setattr(scratch, "PIECE_ROWS", 1 << 20)
    tuple_set.save(tmp_path / "tuples")
    values = np.random.default_rng(0).normal(size=400)
    (tmp_path / "scores.csv").write_text("row,score\n" + "".join(f"{row},{one}\n" for row, one in enumerate(values)))
    import_scores(tmp_path / "scores.csv", tuple_set, tmp_path / "scores", kind="logit")
    for place in ("memory", "disk"):
        if place == "disk":
            monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
            monkeypatch.setattr(scratch, "PIECE_ROWS", 64)
            monkeypatch.setattr(stored_tables, "IN_MEMORY_BYTES", 0)
            monkeypatch.setattr(stored_tables, "PIECE_ROWS", 64)
        given = ["distill", "--student", "de-ffnn", "--tuples", tmp_path / "tuples", "--scores", tmp_path / "scores", "--base", base,
                 "--max-length", 16, "--set", "encoder.layers=1", "--pairs", 128, "--batch-size", 32, "--stage1-pairs", 256,
                 "--precision", "float32", "--threads", 1, "--looks", 2, "--loss", "margin-mse", "--out", tmp_path / place]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["pairstill", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None), capsys.readouterr().err
    one, two = (load_student(tmp_path / place).state_dict() for place in ("memory", "disk"))
    for name in one:
        np.testing.assert_array_equal(one[name].numpy(), two[name].numpy(), err_msg=name)
