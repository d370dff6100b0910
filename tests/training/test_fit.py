"""Training resumes at the exact row, freezes what it should, and keeps the best."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.losses import DistillationLoss
from pairstill.students import Student, make_student
from pairstill.students.persistence import parse_config
from pairstill.training import procedures
from pairstill.training.loop import TrainingData, fit
from pairstill.training.procedures import DistillationPlan, distil, stored_sources, teach
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import TupleScorer, token_sources
from pairstill.training.validation import Validation
from pairstill.tuples import TupleSet

SETTINGS = TrainingSettings(
    pairs=480, batch_size=16, encoder_learning_rate=1e-3, evaluate_every=96, checkpoint_every_s=0.0, cluster_rows=8,
    average_decay=0.9,
)  # fmt: skip


def student(base: Path, name: str = "dipair-tsf", dropout: float = 0.0) -> Student:
    torch.manual_seed(3)
    encoder = {"base": str(base), "max_lengths": [16], "dropout": dropout}
    values = {"encoder": encoder} | (
        {"keep": [2, 4], "projection": 8, "head": {"intermediate": 16}} if name == "dipair-tsf" else {}
    )
    return make_student(name, parse_config(name, values))


def data(tuple_set: TupleSet) -> TrainingData:
    tuples = tuple_set.split("train")
    return TrainingData(tuples, (tuples.labels * 4 - 2).astype(np.float32)[:, None])


class Interruption(Exception):
    pass


@pytest.mark.parametrize(("name", "dropout"), [("dipair-tsf", 0.1), ("cross-encoder", 0.1)])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    base: Path, tuple_set: TupleSet, tmp_path: Path, name: str, dropout: float
) -> None:
    validation = Validation.on_labels(tuple_set, "valid")
    calm = student(base, name, dropout)
    expected = fit(
        calm,
        token_sources(calm, tuple_set),
        data(tuple_set),
        DistillationLoss(),
        SETTINGS,
        tmp_path / "calm",
        validation=validation,
    )
    for stop in (96, 208, 464):
        broken = student(base, name, dropout)

        def progress(done: int, total: int, stop: int = stop) -> None:
            if done == stop:
                raise Interruption

        with pytest.raises(Interruption):
            fit(broken, token_sources(broken, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path / f"at-{stop}",
                validation=validation, progress=progress)  # fmt: skip
        again = student(base, name, dropout)
        torch.manual_seed(99)
        result = fit(again, token_sources(again, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path / f"at-{stop}",
                     validation=validation)  # fmt: skip
        assert result.best == expected.best
        assert [one["pairs"] for one in result.history] == [one["pairs"] for one in expected.history]
        for key, value in calm.state_dict().items():
            torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0)
    finished = student(base, name, dropout)
    assert fit(finished, token_sources(finished, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path / "calm",
               validation=validation).best == expected.best  # fmt: skip


def test_what_a_step_kept_is_let_go_before_the_next(
    base: Path, tuple_set: TupleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []
    forward = TupleScorer.forward

    def watched(scorer: TupleScorer, index: np.ndarray) -> torch.Tensor:
        logits = forward(scorer, index)
        seen.append(weakref.ref(logits))
        return logits

    monkeypatch.setattr(TupleScorer, "forward", watched)
    trained, alive = student(base), []
    fit(trained, token_sources(trained, tuple_set), data(tuple_set), DistillationLoss(), replace(SETTINGS, pairs=48),
        tmp_path / "watched", progress=lambda *_: alive.append(seen[-1]() is not None))  # fmt: skip
    assert alive == [False] * 3


def test_another_training_in_the_same_folder_is_refused(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base)
    fit(model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path)
    with pytest.raises(ArtefactError, match="other loss, settings"):
        fit(
            model,
            token_sources(model, tuple_set),
            data(tuple_set),
            DistillationLoss(2.0),
            replace(SETTINGS, seed=1),
            tmp_path,
        )


def test_a_damaged_checkpoint_is_refused(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base)

    def progress(done: int, total: int) -> None:
        if done == 96:
            raise Interruption

    with pytest.raises(Interruption):
        fit(
            model,
            token_sources(model, tuple_set),
            data(tuple_set),
            DistillationLoss(),
            SETTINGS,
            tmp_path,
            progress=progress,
        )
    (state,) = (tmp_path / "checkpoint").glob("step-*/state.safetensors")
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match="missing or damaged"):
        fit(model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path)


def test_stage_1_freezes_the_encoder_and_its_stored_outputs_are_the_live_ones(
    base: Path, tuple_set: TupleSet, tmp_path: Path
) -> None:
    model = student(base)
    before = {name: value.clone() for name, value in model.encoders.state_dict().items()}
    sources = stored_sources(tuple_set, model, data(tuple_set), None, tmp_path / "stored", "float32")
    items = np.array([3, 0, 3])
    stored, live = (one[1].outputs(model, 1, items) for one in (sources, token_sources(model, tuple_set)))
    for name, array in stored.arrays().items():
        torch.testing.assert_close(array, live.arrays()[name].detach(), atol=1e-5, rtol=1e-5)
    frozen = replace(SETTINGS, encoder_learning_rate=None, learning_rate=1e-2)
    head = {name: value.clone() for name, value in model.head.state_dict().items()}
    fit(model, sources, data(tuple_set), DistillationLoss(), frozen, tmp_path / "run")
    for name, value in model.encoders.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    assert any(not torch.equal(value, head[name]) for name, value in model.head.state_dict().items())


def test_students_of_one_encoder_share_its_outputs(
    base: Path, tuple_set: TupleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = DistillationPlan(replace(SETTINGS, pairs=64, encoder_learning_rate=None), None)
    validation = Validation.on_labels(tuple_set, "valid")

    def train(folder: str, values: TupleSet, shared: str | None, length: int = 16) -> Student:
        config = {"encoder": {"base": str(base), "max_lengths": [length]}, "head": {"widths": [4]}}
        torch.manual_seed(3)
        model = make_student("de-ffnn", parse_config("de-ffnn", config))
        distil(
            values, model, data(values), DistillationLoss(), plan, tmp_path / folder, validation=validation,
            encoder_outputs=None if shared is None else tmp_path / shared,
        )  # fmt: skip
        return model

    alone, first = train("alone", tuple_set, None), train("first", tuple_set, "shared")
    places = len(list((tmp_path / "shared").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(procedures, "write_store", lambda *_, **__: pytest.fail("what is stored was encoded again"))
        second = train("second", tuple_set, "shared")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], value, atol=0, rtol=0)
        torch.testing.assert_close(second.state_dict()[name], value, atol=0, rtol=0)
    item = tuple_set.collections["item"]
    changed = replace(
        tuple_set, collections={**tuple_set.collections, "item": replace(item, contents=pa.array(["w1"] * len(item)))}
    )
    train("changed", changed, "shared")
    train("longer", tuple_set, "shared", length=12)
    assert len(list((tmp_path / "shared").iterdir())) == 3 * places


def test_distil_keeps_stage_1_where_stage_2_is_worse(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base)
    validation = Validation.on_labels(tuple_set, "valid")
    ruinous = replace(SETTINGS, encoder_learning_rate=5.0, learning_rate=5.0, clip=None)
    result = distil(tuple_set, model, data(tuple_set), DistillationLoss(), DistillationPlan(replace(SETTINGS, learning_rate=3e-3), ruinous),
                    tmp_path, validation=validation)  # fmt: skip
    assert result.stage1 is not None
    assert result.stage2 is not None
    measured = validation.measure(TupleScorer(model, token_sources(model, tuple_set)), "float32")
    assert measured == pytest.approx(max(result.stage1.best, result.stage2.best), abs=1e-4)


def test_a_student_that_no_step_makes_better_remains_as_it_began(
    base: Path, tuple_set: TupleSet, tmp_path: Path
) -> None:
    model = student(base, "de-cos")
    validation = Validation.on_labels(tuple_set, "train")
    before = validation.measure(TupleScorer(model, token_sources(model, tuple_set)), "float32")
    tuples = tuple_set.split("train")
    upside_down = TrainingData(tuples, (2 - tuples.labels * 4).astype(np.float32)[:, None])
    settings = replace(SETTINGS, pairs=960, encoder_learning_rate=2e-3, evaluate_every=240)
    result = distil(
        tuple_set,
        model,
        upside_down,
        DistillationLoss(),
        DistillationPlan(None, settings),
        tmp_path,
        validation=validation,
    )
    assert result.stage2 is not None
    assert [one["pairs"] for one in result.stage2.history] == [0, 240, 480, 720, 960]
    assert result.before == result.best == pytest.approx(before, abs=1e-6)
    assert result.stage2.best_pairs == 0
    assert validation.measure(TupleScorer(model, token_sources(model, tuple_set)), "float32") == pytest.approx(
        before, abs=1e-6
    )


def test_teaching_learns_the_labels(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base, "cross-encoder")
    validation = Validation.on_labels(tuple_set, "train")
    settings = replace(SETTINGS, pairs=4800, encoder_learning_rate=2e-3, learning_rate=2e-3)
    before = validation.measure(TupleScorer(model, token_sources(model, tuple_set)), "float32")
    result = teach(tuple_set, model, settings, tmp_path, validation=validation)
    assert result.best > max(before, 0.7)


def test_early_stopping_and_splits_without_labels(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(base)
    validation = Validation.on_labels(tuple_set, "valid")
    still = replace(SETTINGS, pairs=4800, encoder_learning_rate=0.0, learning_rate=0.0, patience=2)
    result = fit(
        model,
        token_sources(model, tuple_set),
        data(tuple_set),
        DistillationLoss(),
        still,
        tmp_path,
        validation=validation,
    )
    assert result.pairs < 4800
    with pytest.raises(InputError, match="no split 'transfer'"):
        Validation.on_labels(tuple_set, "transfer")
