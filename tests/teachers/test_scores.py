"""The teacher-score artefact: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.files import fingerprint_file, write_parquet
from pairstill.jobs import Job, split_rows
from pairstill.teachers.scores import (
    ScoreKind,
    ScoresManifest,
    TeacherInfo,
    TeacherScores,
    finish_scores,
    scores_table,
)
from pairstill.tuples import TupleSet
from tiny import tiny_tuple_set

TEACHER = TeacherInfo("some/teacher", "f" * 64, "0a1b2c")


def manifest(outputs: int = 1, kind: ScoreKind = "logit", **values: Any) -> ScoresManifest:
    body: dict[str, Any] = {
        "teachers": (TEACHER,), "score_kind": kind, "outputs": outputs, "fields": ("query", "item"), "splits": ("train",),
        "tuple_set": "t" * 64, "max_lengths": (24,), "truncated": 3, "precision": "float32", "provenance": {"note": "ä"},
    }  # fmt: skip
    return ScoresManifest(**{**body, **values})


def in_memory(logits: Any, rows: Any = None, **values: Any) -> TeacherScores:
    array = np.asarray(logits, np.float32)
    array = array[:, None] if array.ndim == 1 else array
    numbers = np.arange(len(array)) if rows is None else np.asarray(rows, np.int64)
    return TeacherScores(manifest(array.shape[1], **values), numbers, array)


def write(
    folder: Path, tuple_set: TupleSet, rows: np.ndarray, logits: np.ndarray, shard_rows: int = 7
) -> TeacherScores:
    """As `annotate` writes scores."""

    def shard_function(shard: Any, target: Path) -> dict[str, Any]:
        part = slice(shard.start, shard.stop)
        write_parquet(target, scores_table(tuple_set, rows[part], logits[part], "logit"))
        return {}

    receipts = Job(folder, "test", {}, ".parquet").run(split_rows(len(rows), shard_rows), shard_function)
    return finish_scores(folder, manifest(logits.shape[1], tuple_set=tuple_set.fingerprint), receipts)


@pytest.fixture
def folder(tuple_set: TupleSet, tmp_path: Path) -> Path:
    """20 scores in three shards, rows out of order."""
    generator = np.random.default_rng(0)
    write(tmp_path, tuple_set, generator.permutation(400)[:20], generator.normal(size=(20, 1)).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("outputs", [1, 3])
def test_written_scores_are_read(outputs: int, tuple_set: TupleSet, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = generator.permutation(400)[:20]
    logits = generator.normal(0, 50, (20, outputs)).astype(np.float32)
    written = write(tmp_path, tuple_set, rows, logits)
    read = TeacherScores.load(str(tmp_path))
    for scores in (written, read):
        np.testing.assert_array_equal(scores.rows, rows)
        np.testing.assert_array_equal(scores.logits, logits)
        assert (scores.logits.dtype, scores.rows.dtype) == (np.float32, np.int64)
        assert scores.manifest == manifest(outputs, tuple_set=tuple_set.fingerprint)
        assert (len(scores), scores.outputs, scores.kind) == (20, outputs, "logit")
    read.check_belongs_to(tuple_set)


def test_the_files_say_what_docs_formats_says(folder: Path, tuple_set: TupleSet) -> None:
    body = json.loads((folder / "manifest.json").read_text())
    assert list(body) == [
        "format", "version", "teachers", "score_kind", "outputs", "fields", "splits", "tuple_set", "classes",
        "max_lengths", "truncated", "precision", "provenance", "rows", "shards",
    ]  # fmt: skip
    assert (body["format"], body["version"], body["rows"]) == ("pairstill/teacher-scores", 1, 20)
    assert list(body["teachers"][0]) == ["name", "fingerprint", "revision"]
    assert [list(one) for one in body["shards"]] == [["file", "rows", "bytes", "sha256"]] * 3
    table = pq.read_table(folder / "shard-00000.parquet")
    assert table.column_names == ["row", "query", "item", "logit_0"]
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "string", "float"]
    assert table.schema.metadata[b"score_kind"] == b"logit"
    for name in ("query", "item"):
        expected = tuple_set.tuples.column(name).take(table.column("row"))
        assert table.column(name).to_pylist() == expected.to_pylist()


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0.1, 10))
def test_soft_labels_of_one_output_are_the_sigmoid(logits: list[float], temperature: float) -> None:
    found = in_memory(logits).soft_labels(temperature)
    assert found.shape == (len(logits),)
    assert found.dtype == np.float32
    scaled = np.float32(logits).astype(np.float64) / temperature
    np.testing.assert_allclose(found, 0.5 * (1 + np.tanh(scaled / 2)), atol=1e-7)
    opposite = in_memory([-one for one in logits]).soft_labels(temperature)
    np.testing.assert_allclose(found + opposite, 1, atol=1e-6)


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20), st.floats(0.1, 10))
def test_soft_labels_of_classes_are_the_softmax(logits: list[tuple[float, ...]], temperature: float) -> None:
    scores = in_memory(logits)
    found = scores.soft_labels(temperature)
    assert found.shape == scores.logits.shape
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    for one, two in ((0, 1), (1, 2), (0, 2)):
        pair = scores.logits[:, one].astype(np.float64) - scores.logits[:, two]
        expected = (found[:, one] + found[:, two]) * 0.5 * (1 + np.tanh(pair / temperature / 2))
        np.testing.assert_allclose(found[:, one], expected, atol=1e-6)


def test_soft_labels_of_extreme_logits() -> None:
    assert in_memory([3e38, -3e38, 0.0]).soft_labels(0.5).tolist() == [1, 0, 0.5]
    assert in_memory([[3e38, -3e38], [0, 0]]).soft_labels().tolist() == [[1, 0], [0.5, 0.5]]
    np.testing.assert_allclose(in_memory([2.0]).soft_labels(2), 1 / (1 + np.exp(-1)), rtol=1e-6)


@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan])
def test_temperatures_that_are_none(temperature: float) -> None:
    with pytest.raises(InputError, match=r"the temperature is .*Expected: a finite number above 0"):
        in_memory([1.0]).soft_labels(temperature)


def test_scores_that_are_no_logits_have_no_soft_labels() -> None:
    with pytest.raises(InputError, match=r"soft labels need raw logits.*of kind 'other'.*--kind probability"):
        in_memory([1.0], kind="other").soft_labels()


def test_one_score_of_two_logits_is_their_difference() -> None:
    two = in_memory([[1.0, 3.5], [2.0, -1.0]])
    assert two.single().tolist() == [2.5, -3.0]
    np.testing.assert_allclose(in_memory(two.single()).soft_labels(3), two.soft_labels(3)[:, 1], rtol=1e-6)
    assert in_memory([4.0, 5.0]).single().tolist() == [4, 5]
    for scores in (in_memory([[1.0, 2.0, 3.0]]), in_memory([[1.0, 2.0]], kind="other")):
        with pytest.raises(InputError, match=r"the teacher gives [23] scores a tuple"):
            scores.single()


@given(st.lists(st.integers(0, 50), unique=True, max_size=20), st.lists(st.integers(0, 50), max_size=20))
def test_scores_for_rows_are_nan_where_absent(have: list[int], wanted: list[int]) -> None:
    scores = TeacherScores(
        manifest(2), np.array(have, np.int64), np.array([[one, -one] for one in have], np.float32).reshape(-1, 2)
    )
    found = scores.for_rows(np.array(wanted, np.int64))
    expected = [[one, -one] if one in have else [np.nan, np.nan] for one in wanted]
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(-1, 2))


def test_another_tuple_set_is_refused(folder: Path) -> None:
    with pytest.raises(
        ArtefactError, match=f"^{folder}: .*belong to another tuple set.*Run `pairstill annotate` on this tuple set"
    ):
        TeacherScores.load(folder).check_belongs_to(tiny_tuple_set(seed=1))


def test_parts_become_one() -> None:
    one = in_memory([1.0, 2.0], rows=[5, 3], truncated=2)
    two = in_memory([3.0], rows=[4], splits=("transfer", "train"), truncated=1)
    whole = TeacherScores.concatenate([one, two])
    assert whole.rows.tolist() == [5, 3, 4]
    assert whole.logits.tolist() == [[1], [2], [3]]
    assert whole.manifest == replace(one.manifest, splits=("train", "transfer"), truncated=3)
    assert TeacherScores.concatenate([one]).manifest == one.manifest


def test_parts_that_differ_are_not_given_one_description() -> None:
    parts = [in_memory([1.0], rows=[1]), in_memory([2.0], rows=[2], splits=(), precision="bfloat16")]
    whole = TeacherScores.concatenate(parts).manifest
    assert whole.splits == (), "one part is of all splits"
    assert whole.precision is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (in_memory([1.0], kind="other"), "of different kinds: 'logit' and 'other'"),
        (in_memory([[1.0, 2.0]]), "of different numbers of outputs: 1 and 2"),
        (in_memory([1.0], classes=("a",)), "of different classes: .* Leave one of them out.$"),
        (
            in_memory([1.0], teachers=(TeacherInfo("another", "0" * 64),)),
            "of different teachers: some/teacher f{12} 0a1b2c and another 0{12}. .* or .*by `pairstill scores combine`",
        ),
        (in_memory([1.0], tuple_set="u"), "of different tuple sets: 't{12}' and 'u'. Expected: .* one tuple set"),
        (in_memory([1.0, 2.0], rows=[3, 7]), "score the same row of the tuple set, row 7. Expected: one score a row"),
    ],
)
def test_parts_that_do_not_fit(other: TeacherScores, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TeacherScores.concatenate([in_memory([1.0], rows=[7]), other])


def test_parts_that_do_not_fit_are_named(folder: Path, tuple_set: TupleSet) -> None:
    part = TeacherScores.load(folder)
    with pytest.raises(
        InputError, match=rf"row {part.rows[0]}: {folder} and {folder}\. .*Leave one of the folders out"
    ):
        TeacherScores.load_joined([folder, folder], tuple_set)
    other = replace(part, manifest=replace(part.manifest, tuple_set="u" * 64), folder=Path("elsewhere"))
    message = f"tuple sets: '{tuple_set.fingerprint[:12]}' in {folder} and '{'u' * 12}' in elsewhere"
    with pytest.raises(InputError, match=message):
        TeacherScores.concatenate([part, other])


def test_no_parts() -> None:
    with pytest.raises(InputError, match="no teacher scores are given"):
        TeacherScores.concatenate([])


def edit_manifest(**values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        body = json.loads((folder / "manifest.json").read_text())
        body.update(values)
        kept = {name: value for name, value in body.items() if value is not None}
        (folder / "manifest.json").write_text(json.dumps(kept))

    return edit


def edit_shards(**values: Any) -> Callable[[Path], None]:
    """Say other things of the first shard."""

    def edit(folder: Path) -> None:
        body = json.loads((folder / "manifest.json").read_text())
        body["shards"][0].update(values)
        (folder / "manifest.json").write_text(json.dumps(body))

    return edit


def edit_shard(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Rewrite a shard with a right checksum, as only another program would."""

    def edit(folder: Path) -> None:
        path = folder / "shard-00001.parquet"
        pq.write_table(change(pq.read_table(path)), path)
        body = json.loads((folder / "manifest.json").read_text())
        body["shards"][1].update(bytes=path.stat().st_size, sha256=fingerprint_file(path))
        (folder / "manifest.json").write_text(json.dumps(body))

    return edit


def flip_byte(folder: Path) -> None:
    path = folder / "shard-00001.parquet"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)


def cut(folder: Path) -> None:
    path = folder / "shard-00001.parquet"
    path.write_bytes(path.read_bytes()[:-10])


def with_value(name: str, value: Any) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        values = [value, *table.column(name).to_pylist()[1:]]
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(values, table.schema.field(name).type))

    return change


def first_row_twice(table: Any) -> Any:
    return with_value("row", table.column("row")[1].as_py())(table)


DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json.*run that command again"),
    "newer": (edit_manifest(version=2), "the format version is 2. Expected: at most 1. Upgrade pairstill"),
    "another format": (edit_manifest(format="pairstill/tuple-set"), "the manifest says format 'pairstill/tuple-set'"),
    "lacks a key": (edit_manifest(score_kind=None), "column 'score_kind': the manifest is damaged: Field required"),
    "unknown kind": (edit_manifest(score_kind="grade"), "'score_kind': the manifest is damaged: Input should be 'logit'"),
    "no outputs": (edit_manifest(outputs=0), "'outputs': the manifest is damaged: Input should be greater than 0 [(]0[)]"),
    "no list of shards": (edit_manifest(shards=7), "'shards': the manifest is damaged: Input should be a valid tuple"),
    "less than no rows": (edit_shards(rows=-1), "'shards.0.rows': the manifest is damaged: Input should be greater than or"),
    "missing shard": (lambda folder: (folder / "shard-00001.parquet").unlink(), "shard-00001.parquet: the shard is missing"),
    "truncated shard": (cut, "shard-00001.parquet: the shard has [0-9]+ bytes. Expected: [0-9]+ bytes"),
    "flipped byte": (flip_byte, "shard-00001.parquet: the shard is damaged"),
    "mixed kinds": (
        edit_shard(lambda table: table.replace_schema_metadata({"score_kind": "other"})),
        "shard-00001.parquet: the shard holds scores of kind 'other'. Expected: 'logit'",
    ),
    "other columns": (edit_shard(lambda table: table.drop_columns(["item"])), "the shard has 7 rows of row, query, logit_0"),
    "fewer rows": (edit_shard(lambda table: table.slice(1)), "the shard has 6 rows.*Expected: 7 rows"),
    "infinite": (edit_shard(with_value("logit_0", float("inf"))), "the score of row [0-9]+ of the tuple set is not finite"),
    "a row twice": (edit_shard(first_row_twice), "two scores are of the same row"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_seen(case: str, folder: Path) -> None:
    damage, message = DAMAGED[case]
    damage(folder)
    with pytest.raises(ArtefactError, match=message):
        TeacherScores.load(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="the folder does not exist"):
        TeacherScores.load(tmp_path / "nothing")
