"""Annotation: the teacher's own logits in stored order, whatever interrupts it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from pairstill.errors import ArtefactError, InputError
from pairstill.files import fingerprint_json
from pairstill.students import CrossEncoder
from pairstill.teachers.annotate import agreement_with_float32, annotate, rows_to_score
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import Labels, TupleSet
from student_cases import build
from tiny import tiny_tuple_set

IDENTITY = torch.nn.Identity()


def teacher_of(base: Path, *, seed: int = 0, max_length: int = 14, **options: Any) -> CrossEncoder:
    """A random teacher whose logits differ visibly."""
    torch.manual_seed(seed)
    teacher = CrossEncoder.from_sequence_classification(str(base), max_length=max_length, outputs=1, **options).eval()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return teacher


@pytest.fixture
def teacher(base: Path) -> CrossEncoder:
    return teacher_of(base)


def texts_of(tuple_set: TupleSet, rows: np.ndarray) -> list[tuple[str, ...]]:
    columns = [tuple_set.texts(field) for field in range(len(tuple_set.fields))]
    return [
        tuple(column[item] for column, item in zip(columns, row, strict=True)) for row in tuple_set.index[rows].tolist()
    ]


def expected_logits(teacher: CrossEncoder, tuple_set: TupleSet, rows: np.ndarray) -> np.ndarray:
    """One tuple at a time, so that nothing is batched or padded."""
    return np.array([teacher.predict([one], activation_fn=IDENTITY)[0] for one in texts_of(tuple_set, rows)])


def count_scored(teacher: CrossEncoder) -> list[int]:
    """Sizes of the batches that the teacher scores from now on."""
    counts: list[int] = []
    score = teacher.score

    def counted(prepared: Any, index: torch.Tensor) -> torch.Tensor:
        counts.append(len(index))
        return score(prepared, index)

    teacher.score = counted  # type: ignore[method-assign]
    return counts


def artefact(folder: Path) -> dict[str, bytes]:
    names = [*folder.glob("shard-*.parquet"), folder / "manifest.json"]
    return {path.name: path.read_bytes() for path in names}


@pytest.mark.parametrize("shard_rows", [16_384, 37])
def test_the_teachers_logits_in_stored_order(
    shard_rows: int, teacher: CrossEncoder, tuple_set: TupleSet, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    scores = annotate(
        teacher, tuple_set, tmp_path, name="tiny", splits=["train", "test"], shard_rows=shard_rows,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    wanted = tuple_set.split("train", "test").rows
    np.testing.assert_array_equal(scores.rows, wanted)
    expected = expected_logits(teacher, tuple_set, wanted)
    assert expected.std() > 0.1
    np.testing.assert_allclose(scores.logits[:, 0], expected, atol=1e-5)
    assert len(list(tmp_path.glob("shard-*.parquet"))) == -(-len(wanted) // shard_rows)
    assert {total for _, total in seen} == {len(wanted)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(wanted), len(wanted))
    body = scores.manifest
    assert (body.teachers[0].name, body.splits, body.score_kind) == ("tiny", ("train", "test"), "logit")
    assert (body.max_lengths, body.precision, body.tuple_set) == ((14,), "float32", tuple_set.fingerprint)
    lengths = [sum(len(text.split()) for text in texts) + 3 for texts in texts_of(tuple_set, wanted)]
    cut = sum(length > 14 for length in lengths)
    assert 0 < cut < len(wanted)
    assert body.truncated == cut


@pytest.mark.parametrize("fields", [1, 3])
def test_other_numbers_of_fields(fields: int, base: Path, tmp_path: Path) -> None:
    tuple_set = tiny_tuple_set(30, fields=fields)
    teacher = teacher_of(base, field_count=fields)
    scores = annotate(teacher, tuple_set, tmp_path, name="tiny")
    np.testing.assert_allclose(scores.logits[:, 0], expected_logits(teacher, tuple_set, scores.rows), atol=1e-5)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 90, 399])
def test_an_interrupted_job_resumes_to_the_same_bytes(
    stop_at: int, teacher: CrossEncoder, tuple_set: TupleSet, tmp_path: Path
) -> None:
    whole = annotate(teacher, tuple_set, tmp_path / "whole", name="tiny", shard_rows=64)

    def stop(done: int, total: int) -> None:
        if done >= stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        annotate(teacher, tuple_set, tmp_path / "stopped", name="tiny", shard_rows=64, progress=stop)
    with pytest.raises(ArtefactError, match=r"no manifest\.json.*run that command again"):
        TeacherScores.load(tmp_path / "stopped")
    finished = len(list((tmp_path / "stopped" / "receipts").glob("shard-*.json")))
    counts = count_scored(teacher)
    resumed = annotate(teacher, tuple_set, tmp_path / "stopped", name="tiny", shard_rows=64)
    missing = [tuple_set.index[start : start + 64] for start in range(64 * finished, 400, 64)]
    assert sum(counts) == sum(len(np.unique(index, axis=0)) for index in missing), "a tuple is scored once a shard"
    np.testing.assert_array_equal(resumed.logits, whole.logits)
    assert artefact(tmp_path / "stopped") == artefact(tmp_path / "whole")


def test_what_is_done_is_not_scored_again(teacher: CrossEncoder, tuple_set: TupleSet, tmp_path: Path) -> None:
    annotate(teacher, tuple_set, tmp_path, name="tiny", limit=50)
    before, counts = artefact(tmp_path), count_scored(teacher)
    annotate(teacher, tuple_set, tmp_path, name="tiny", limit=50)
    assert counts == []
    assert artefact(tmp_path) == before


def test_another_job_does_not_go_into_the_same_folder(
    teacher: CrossEncoder, base: Path, tuple_set: TupleSet, tmp_path: Path
) -> None:
    annotate(teacher, tuple_set, tmp_path, name="tiny", limit=50)
    before = artefact(tmp_path)
    started = "the folder was started with other settings: "
    with pytest.raises(ArtefactError, match=started + "teacher was"):
        annotate(teacher_of(base, seed=1), tuple_set, tmp_path, name="tiny", limit=50)
    with pytest.raises(ArtefactError, match=started + "teacher was .*; max_length was 14 and is 16"):
        annotate(teacher_of(base, max_length=16), tuple_set, tmp_path, name="tiny", limit=50)
    with pytest.raises(ArtefactError, match=started + "tuple_set was"):
        annotate(teacher, tiny_tuple_set(seed=1), tmp_path, name="tiny", limit=50)
    with pytest.raises(ArtefactError, match=started + "precision was 'float32' and is 'bfloat16'"):
        annotate(teacher, tuple_set, tmp_path, name="tiny", limit=50, precision="bfloat16")
    with pytest.raises(ArtefactError, match=started + "rows was 50 and is 51"):
        annotate(teacher, tuple_set, tmp_path, name="tiny", limit=51)
    assert artefact(tmp_path) == before


def test_a_limit_draws_rows(teacher: CrossEncoder, tuple_set: TupleSet, tmp_path: Path) -> None:
    wanted = tuple_set.split("train").rows
    scores = annotate(teacher, tuple_set, tmp_path / "a", name="tiny", splits=["train"], limit=40)
    rows = np.asarray(scores.rows)
    assert np.isin(rows, wanted).all()
    assert (np.diff(rows) > 0).all(), "in stored order"
    assert np.abs(np.searchsorted(wanted, rows).mean() / len(wanted) - 0.5) < 0.15, "from all over the split"
    assert np.isin(rows, rows_to_score(tuple_set, ["train"], 60).rows).all(), "a larger limit's have them"
    whole = annotate(teacher, tuple_set, tmp_path / "b", name="tiny", splits=["train"], limit=9999)
    np.testing.assert_array_equal(whole.rows, wanted)


def test_rows_of_a_limit_do_not_go_where_as_many_others_were_begun(
    teacher: CrossEncoder, tuple_set: TupleSet, tmp_path: Path
) -> None:
    """Once a limit took the first rows; a folder begun then has as many rows, and others."""
    annotate(teacher, tuple_set, tmp_path, name="tiny", limit=50)
    path = tmp_path / "job.json"
    begun = json.loads(path.read_text())
    assert begun["settings"].pop("limit_seed") == 0
    begun["fingerprint"] = fingerprint_json({"name": "annotate", "settings": begun["settings"]})
    path.write_text(json.dumps(begun))
    with pytest.raises(ArtefactError, match="other settings: limit_seed"):
        annotate(teacher, tuple_set, tmp_path, name="tiny", limit=50)


def test_bfloat16_ranks_as_float32_does(teacher: CrossEncoder, tuple_set: TupleSet, tmp_path: Path) -> None:
    rough = annotate(teacher, tuple_set, tmp_path / "rough", name="tiny", precision="bfloat16")
    exact = annotate(teacher, tuple_set, tmp_path / "exact", name="tiny")
    assert rough.manifest.precision == "bfloat16"
    assert not np.array_equal(rough.logits, exact.logits)
    expected = kendalltau(rough.logits.ravel(), exact.logits.ravel()).statistic
    assert 0.9 < expected < 1
    assert agreement_with_float32(teacher, tuple_set, exact.rows, sample=10**6) == pytest.approx(expected)
    assert agreement_with_float32(teacher, tuple_set, exact.rows[:1]) == 1


def test_what_cannot_be_annotated(teacher: CrossEncoder, base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    classes = replace(tuple_set, labels=Labels("classes", classes=("no", "maybe", "yes")))
    three = CrossEncoder.from_sequence_classification(str(base), max_length=14, outputs=3)
    for model, data, options, message in [
        (teacher, tuple_set, {"splits": ["dev"]}, "no split 'dev'"),
        (teacher, tuple_set, {"limit": 0}, "there is no row to score"),
        (teacher, tuple_set, {"precision": "float8"}, "the precision 'float8' is unknown"),
        (teacher, tuple_set, {"shard_rows": 0}, "the number of rows per shard is 0"),
        (teacher, tiny_tuple_set(30, fields=3), {}, "3 fields|takes 2"),
        (teacher, classes, {}, "gives 1 logits a tuple and the tuple set has 3 classes. Expected: .* no, maybe, yes"),
        (three, tuple_set, {}, "gives 3 logits a tuple and the labels are binary"),
    ]:
        with pytest.raises(InputError, match=message):
            annotate(model, data, tmp_path, name="tiny", **options)
        assert not list(tmp_path.iterdir()), message


def test_classes_and_two_logits(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    classes = replace(tuple_set, labels=Labels("classes", classes=("no", "maybe", "yes")))
    three = CrossEncoder.from_sequence_classification(str(base), max_length=14, outputs=3).eval()
    scores = annotate(three, classes, tmp_path / "three", name="tiny", limit=9)
    assert scores.manifest.classes == ("no", "maybe", "yes")
    np.testing.assert_allclose(
        scores.logits, three.predict(texts_of(classes, scores.rows), activation_fn=IDENTITY), atol=1e-5
    )
    two = CrossEncoder.from_sequence_classification(str(base), max_length=14, outputs=2).eval()
    scores = annotate(two, tuple_set, tmp_path / "two", name="tiny", limit=9)
    assert scores.single().shape == (9,)


@pytest.mark.parametrize("case", ["bert2dnn", "bert2dnn on one bag", "tk", "colbert, short", "prettr"])
def test_an_assistants_cuts_are_counted_in_what_its_lengths_count(
    base: Path, tuple_set: TupleSet, tmp_path: Path, case: str
) -> None:
    student = build(base, case)
    limit = 4 if student.length_unit == "words" else 16
    student.max_lengths = (limit,) * 2
    split = [[len(text.split()) for text in tuple_set.texts(field)] for field in (0, 1)]
    markers = {"tk": 0, "bert2dnn": 0, "colbert": 2, "prettr": 2}[student.name]
    for field, words in enumerate(split):
        room = limit - markers + (student.name == "prettr" and field > 0)
        texts = [*tuple_set.texts(field), "w1 " * room, "w1 " * (room + 1)]
        assert student.cut(field, texts).tolist() == [one > room for one in [*words, room, room + 1]]


def test_shards_are_larger_where_texts_are_encoded_apart(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    def shard_rows(case: str, length: int) -> int:
        student = build(base, case)
        student.max_lengths = (length,) * 2
        annotate(student, tuple_set, tmp_path / f"{case}{length}", name="assistant", limit=4)
        return int(json.loads((tmp_path / f"{case}{length}" / "job.json").read_text())["settings"]["shard_rows"])

    assert shard_rows("bert-dot", 16) == 262_144
    assert 16_384 < shard_rows("colbert", 64) < 262_144
    assert shard_rows("colbert", 4096) == 16_384
