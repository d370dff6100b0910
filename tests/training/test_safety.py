"""What training refuses, and what it must not get wrong when interrupted, diverging, or spread over processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.cli.training import validation_of
from pairstill.errors import InputError
from pairstill.losses import DistillationLoss
from pairstill.metrics.catalogue import parse_metric
from pairstill.students import Student, make_student
from pairstill.students.persistence import parse_config
from pairstill.teachers.scores import ScoresManifest, TeacherScores
from pairstill.training.batches import Batches
from pairstill.training.data import TrainingData
from pairstill.training.loop import fit
from pairstill.training.procedures import DistillationPlan, DistillationResult, distil
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import TupleScorer, token_sources
from pairstill.training.validation import Validation
from pairstill.tuples import Labels, Tuples, TupleSet

SETTINGS = TrainingSettings(
    pairs=160, batch_size=16, learning_rate=1e-3, encoder_learning_rate=1e-3, evaluate_every=32, checkpoint_every_s=0.0
)


def student(base: Path, name: str = "de-ffnn", **values: Any) -> Student:
    torch.manual_seed(3)
    encoder = {"base": str(base), "max_lengths": [16], "layers": 1, "dropout": 0.1}
    return make_student(name, parse_config(name, {**values, "encoder": encoder}))


def data(tuple_set: TupleSet) -> TrainingData:
    tuples = tuple_set.split("train")
    return TrainingData(tuples, (tuples.labels * 4 - 2).astype(np.float32)[:, None])


class Interruption(Exception):
    pass


def test_early_stopping_and_the_log_survive_interruptions(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    # Rates of almost zero: the metric does not move, so patience runs out, whatever was interrupted.
    settings = replace(SETTINGS, pairs=1600, patience=2, learning_rate=1e-12, encoder_learning_rate=1e-12)
    validation = Validation.on_labels(tuple_set, "valid")

    def run(folder: Path, stop: int | None) -> Any:
        model = student(base)

        def progress(done: int, total: int) -> None:
            if done == stop:
                raise Interruption

        return fit(
            model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), settings, folder,
            validation=validation, progress=progress,
        )  # fmt: skip

    calm = run(tmp_path / "calm", None)
    assert calm.pairs < 1600
    for stop in (48, 80):
        with pytest.raises(Interruption):
            run(tmp_path / "broken", stop)
    again = run(tmp_path / "broken", None)
    assert (again.best, again.best_pairs, again.pairs) == (calm.best, calm.best_pairs, calm.pairs)
    logs = [[json.loads(line) for line in (tmp_path / one / "log.jsonl").read_text().splitlines()] for one in ("calm", "broken")]  # fmt: skip
    for one in logs:
        for entry in one:
            entry.pop("seconds")
    assert logs[0] == logs[1]


def test_a_diverging_training_is_stopped_with_advice(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base)
    wild = replace(SETTINGS, learning_rate=1e30, encoder_learning_rate=1e30, clip=None)
    with pytest.raises(InputError, match=r"diverges.*Lower the learning rate"):
        fit(model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), wild, tmp_path)


def test_a_student_says_the_value_of_the_stage_that_remained(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base)
    first = fit(model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path,
                validation=Validation.on_labels(tuple_set, "valid"))  # fmt: skip
    assert first.best is not None
    worse, better = replace(first, best=first.best - 0.1), replace(first, best=first.best + 0.1)
    assert DistillationResult(first, worse).best == first.best
    assert DistillationResult(first, better).best == better.best
    assert DistillationResult(None, None).best is None


def test_plans_that_cannot_be_are_refused(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    rows = data(tuple_set)
    labels = TrainingData(rows.tuples)
    with pytest.raises(InputError, match="no stage would train this cross-encoder"):
        distil(tuple_set, student(base, "cross-encoder"), rows, DistillationLoss(), DistillationPlan(SETTINGS, None), tmp_path)  # fmt: skip
    with pytest.raises(
        InputError, match=r"3 outputs, the teacher gives 1\. .* Set outputs=1, or give scores of 3 outputs"
    ):
        distil(tuple_set, student(base, outputs=3), rows, DistillationLoss(), DistillationPlan(None, SETTINGS), tmp_path)  # fmt: skip
    with pytest.raises(InputError, match="gives 3 outputs, the labels have 1"):
        distil(tuple_set, student(base, outputs=3), labels, DistillationLoss(hard_weight=1.0), DistillationPlan(None, SETTINGS), tmp_path)  # fmt: skip
    classes = replace(tuple_set, labels=Labels("classes", classes=("a", "b", "c")))
    with pytest.raises(InputError, match=r"gives 1 output, the labels have 3\. Expected: as many\. Set outputs=3\.$"):
        distil(classes, student(base), labels, DistillationLoss(hard_weight=1.0), DistillationPlan(None, SETTINGS), tmp_path)  # fmt: skip
    with pytest.raises(InputError, match=r"2 fields.*3, as this de-ffnn"):
        distil(tuple_set, student(base, field_count=3), rows, DistillationLoss(), DistillationPlan(None, SETTINGS), tmp_path)  # fmt: skip


@pytest.mark.parametrize("name", ["pairs", "batch_size", "cluster_rows", "evaluate_every", "patience"])
def test_settings_count_from_one(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0"):
        replace(SETTINGS, **{name: 0})


def test_a_metric_that_the_labels_leave_undefined_is_refused(tuple_set: TupleSet) -> None:
    column = tuple_set.tuples.column_names.index("label")
    ones = replace(
        tuple_set, tuples=tuple_set.tuples.set_column(column, "label", pa.array(np.ones(len(tuple_set.tuples))))
    )
    with pytest.raises(InputError, match="auc-roc is not defined on the split 'valid'"):
        Validation.on_labels(ones, "valid", parse_metric("auc-roc", "binary"))


def scores_of(tuple_set: TupleSet, split: str) -> TeacherScores:
    rows = tuple_set.split(split).rows
    manifest = ScoresManifest((), "logit", 1, tuple_set.field_names, (split,), tuple_set.fingerprint)
    return TeacherScores(manifest, rows, np.linspace(-2, 2, len(rows), dtype=np.float32)[:, None])


def test_without_labels_the_agreement_with_the_teacher_is_looked_at(base: Path, tuple_set: TupleSet) -> None:
    table = tuple_set.tuples
    nulls = table.set_column(table.column_names.index("label"), "label", pa.nulls(len(table), pa.float64()))
    bare = replace(tuple_set, labels=Labels("none"), tuples=nulls)
    found = validation_of(bare, None, 40, scores_of(bare, "valid"))
    assert found.metric is None
    assert found.teacher_logits is not None
    assert len(found.tuples) == len(found.teacher_logits) < len(bare.split("valid"))
    model = student(base)
    assert found.measure(TupleScorer(model, token_sources(model, bare)), "float32") < 0
    assert found.name == "minus loss against the teacher"
    with pytest.raises(InputError, match="no teacher scores to agree with"):
        validation_of(bare, None, 40, scores_of(bare, "train"))
    assert validation_of(tuple_set, "log-loss", 40, scores_of(tuple_set, "valid")).name == "minus log-loss"


def test_agreement_and_slices_are_looked_at_where_asked(tuple_set: TupleSet) -> None:
    scores = scores_of(tuple_set, "valid")
    found = validation_of(tuple_set, "agreement", 4000, scores)
    assert found.metric is None
    rows = tuple_set.split("valid").rows
    parity = pa.array(["odd" if row % 2 else "even" for row in range(len(tuple_set))])
    sliced = replace(tuple_set, tuples=tuple_set.tuples.append_column("parity", parity), slices=("parity",))
    for metric in ("agreement", None):
        some = validation_of(sliced, metric, 4000, scores, slices={"parity": ["odd"]})
        assert sorted(some.tuples.rows) == [row for row in rows if row % 2]
    with pytest.raises(InputError, match=r"no row of the split 'valid' has parity=od\..*Did you mean 'odd'"):
        validation_of(sliced, None, 4000, scores, slices={"parity": ["od"]})
    with pytest.raises(InputError, match="--metric agreement compares with a teacher's scores, and there are none"):
        validation_of(tuple_set, "agreement", 4000)


def test_trackers_are_told_the_loss_and_the_looks_of_each_stage(
    base: Path, tuple_set: TupleSet, tmp_path: Path
) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    accelerator = SimpleNamespace(
        is_main_process=True, device=torch.device("cpu"), num_processes=1, trackers=["one"],
        log=lambda values, step: told.append((step, values)), wait_for_everyone=lambda: None,
    )  # fmt: skip
    model = student(base)
    settings = TrainingSettings(pairs=160, batch_size=32, evaluate_every=80, log_every=2)
    fit(
        model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), settings, tmp_path / "stage-2",
        validation=Validation.on_labels(tuple_set, "valid"), accelerator=accelerator,
    )  # fmt: skip
    assert [step for step, values in told if "stage-2/loss" in values] == [64, 128]
    assert [step for step, values in told if "stage-2/auc-roc" in values] == [64, 128, 160]


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_shares_of_processes_make_up_the_step(rows: int, processes: int, weighted: bool) -> None:
    generator = np.random.default_rng(rows * processes)
    weights = (generator.random(20) + 0.1).astype(np.float32) if weighted else None
    tuples = Tuples(np.zeros((20, 2), dtype=np.int64), np.arange(20), None, weights, np.zeros(20, dtype=np.int64))
    rows_of = TrainingData(tuples, generator.standard_normal((20, 1)).astype(np.float32))
    stage, loss = TrainingSettings(pairs=rows, batch_size=rows), DistillationLoss()
    logits = torch.from_numpy(generator.standard_normal((20, 1)))
    (step,) = (Batches(rows_of, loss, stage).rows(0)[0],)
    total = 0.0
    for process in range(processes):
        one = Batches(rows_of, loss, stage, processes, process)
        mine, _ = one.part(np.arange(len(step)))
        assert len(mine), "a process without rows would leave the others waiting"
        batch = one.batch(0, torch.device("cpu"))
        total += float(loss(logits[step[mine]], batch.targets, batch.whole)) * batch.share
    whole = Batches(rows_of, loss, stage).batch(0, torch.device("cpu"))
    assert total / processes == pytest.approx(float(loss(logits[step], whole.targets)))
