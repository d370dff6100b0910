"""Scores from elsewhere: found by row, ids or texts, and every mistake with its place."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import InputError
from pairstill.files import fingerprint_file
from pairstill.teachers.import_scores import CLIP, import_scores
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import Collection, Field, Labels, TupleSet

TEXTS = {"query": ["red", "green", "blue"], "item": ["apple", "pear", "apple", "sky"]}
ROWS = [("q0", "i0"), ("q1", "i1"), ("q2", "i3"), ("q0", "i2"), ("q0", "i0"), ("q1", "i3")]
SPLITS = ["train", "train", "train", "train", "test", "test"]


def small(labels: Labels | None = None) -> TupleSet:
    """Six tuples: the fifth repeats the first, and two items have the same text."""
    count = len(ROWS)
    return TupleSet(
        fields=(Field("query", "query"), Field("item", "item")),
        labels=labels or Labels("binary"),
        collections={
            name: Collection(pa.array([f"{name[0]}{number}" for number in range(len(texts))]), pa.array(texts))
            for name, texts in TEXTS.items()
        },
        tuples=pa.table(
            {
                "query": [row[0] for row in ROWS], "item": [row[1] for row in ROWS],
                "label": pa.array([0.0] * count), "weight": pa.nulls(count, pa.float64()),
                "group": [row[0] for row in ROWS], "split": SPLITS,
            }
        ),
    )  # fmt: skip


BINARY = small()
CLASSES = small(Labels("classes", classes=("no", "maybe", "yes")))


def table(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def load(file: Path, tuple_set: TupleSet = BINARY, **options: Any) -> TeacherScores:
    return import_scores(file, tuple_set, file.parent / "scores", **{"kind": "logit", **options})


def found(scores: TeacherScores) -> dict[int, list[float]]:
    return dict(zip(scores.rows.tolist(), scores.logits.tolist(), strict=True))


def test_by_ids(tmp_path: Path) -> None:
    file = table(
        tmp_path / "a.csv", "query_id,item_id,score", "q1,i3,-2.5", "q0,i0,1", "q2,i3,3e-2", "q0,i2,4", "q1,i1,5"
    )
    scores = load(file)
    assert scores.rows.tolist() == [0, 1, 2, 3, 4, 5], "in the tuple set's order, and in all rows of a pair"
    np.testing.assert_allclose(scores.logits[:, 0], [1, 5, 0.03, 4, 1, -2.5], rtol=1e-6)
    scores.check_belongs_to(BINARY)
    body = scores.manifest
    assert (body.score_kind, body.outputs, body.classes, body.precision) == ("logit", 1, (), None)
    assert [(one.name, one.fingerprint) for one in body.teachers] == [("a.csv", fingerprint_file(file))]
    assert body.provenance == {
        "imported_from": "a.csv", "declared_kind": "logit", "rows_without_score": 0, "rows_of_the_file_skipped": 0,
    }  # fmt: skip


def test_by_texts_equal_texts_are_one(tmp_path: Path) -> None:
    file = table(tmp_path / "a.tsv", "query_text\titem\tscore", "red\tapple\t1", "blue\tsky\t2")
    scores = load(file)
    assert found(scores) == {0: [1], 2: [2], 3: [1], 4: [1]}
    assert scores.manifest.provenance["rows_without_score"] == 2


def test_the_first_column_that_fits_is_taken(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "query_id,query,item_id,item,score", "7,red,8,i0,1")
    assert found(load(file)) == {0: [1], 4: [1]}, "ids of another system are passed over"


def test_where_no_row_fits_another_column_is_asked_for(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "query_id,item_id,score", "7,8,1")
    with pytest.raises(InputError, match=r"the id '7' is not in .*: name another column with --column query=COLUMN"):
        load(file)


def test_by_row_and_in_shards(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"row": row, "score": row / 2}) + "\n" for row in (4, 0, 2)))
    seen: list[tuple[int, int]] = []
    scores = load(file, shard_rows=2, progress=lambda done, total: seen.append((done, total)), teacher="someone")
    assert found(scores) == {0: [0], 2: [1], 4: [2]}
    assert seen == [(0, 3), (2, 3), (3, 3)]
    assert len(list((tmp_path / "scores").glob("shard-*.parquet"))) == 2
    assert scores.manifest.teachers[0].name == "someone"


def test_other_columns_and_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"qid": ["q0", "q1"], "text": ["pear", "pear"], "grade": pa.array([3, 4], pa.int32())}), file
    )
    given = {"columns": {"query": "qid", "item": "text"}, "score_columns": ["grade"]}
    with pytest.raises(InputError, match="the tuple of this row is not in the tuple set"):
        load(file, **given)
    scores = load(file, **given, skip_unknown=True, kind="other")
    assert found(scores) == {1: [4]}
    assert scores.kind == "other"
    assert scores.manifest.provenance["rows_of_the_file_skipped"] == 1


def test_splits_are_looked_at_alone(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "query,item,score", "q0,i0,1", "q1,i3,2")
    assert found(load(file, splits=["test"])) == {4: [1], 5: [2]}
    with pytest.raises(InputError, match=r"a\.csv, row 3, column 'query': .*or not in the splits that were named"):
        load(file, splits=["train"])


def test_probabilities_become_logits_and_clipped_ones_are_counted(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "row,p", "0,0.25", "1,0", "2,1", "3,1e-9")
    scores = load(file, kind="probability", score_columns=["p"])
    limit = np.log(CLIP) - np.log1p(-CLIP)
    np.testing.assert_allclose(scores.logits[:, 0], [-np.log(3), limit, -limit, limit], rtol=1e-6)
    np.testing.assert_allclose(scores.soft_labels(), [0.25, 0, 1, 0], atol=2e-7)
    assert scores.kind == "logit"
    assert scores.manifest.provenance["declared_kind"] == "probability"
    assert (scores.manifest.provenance["clip"], scores.manifest.provenance["clipped_probabilities"]) == (CLIP, 3)


def test_probabilities_of_classes_come_back_as_soft_labels(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "row,no,maybe,yes", "0,0.2,0.3,0.5", "5,1,0,0")
    scores = load(file, CLASSES, kind="probability", score_columns=["no", "maybe", "yes"])
    np.testing.assert_allclose(scores.soft_labels(), [[0.2, 0.3, 0.5], [1, 0, 0]], atol=1e-6)
    assert scores.manifest.classes == ("no", "maybe", "yes")
    assert scores.manifest.provenance["clipped_probabilities"] == 1


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(len(ROWS))),
    given_values=st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=6, max_size=6),
)
def test_the_order_of_the_file_does_not_matter(
    order: Sequence[int], given_values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = [*given_values[:4], given_values[0], given_values[5]]  # two rows hold the same pair
    folder = tmp_path_factory.mktemp("order")
    with (folder / "a.csv").open("w", newline="") as file:
        lines = [(*ROWS[row], repr(values[row])) for row in order]
        csv.writer(file).writerows([("query", "item", "score"), *lines])
    np.testing.assert_array_equal(load(folder / "a.csv").logits[:, 0], np.array(values, np.float32))


def test_the_same_score_twice_is_no_contradiction(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "query,item,score", "q0,i0,1", "q1,i1,2", "q0,i0,1.0")
    assert found(load(file)) == {0: [1], 1: [2], 4: [1]}


def test_another_file_does_not_go_into_the_same_folder(tmp_path: Path) -> None:
    load(table(tmp_path / "a.csv", "row,score", "0,1"))
    with pytest.raises(InputError, match="the folder was started with other settings"):
        load(table(tmp_path / "a.csv", "row,score", "0,2"))


MISTAKES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "unknown kind": (["row,score", "0,1"], {"kind": "grade"}, "the score kind 'grade' is unknown. Expected: logit, prob"),
    "no score column": (["row,value", "0,1"], {}, r"a\.csv: there is no column 'score'. Expected: one of row, value"),
    "none named": (["row,score", "0,1"], {"score_columns": []}, "no score column is named"),
    "no field": (
        ["query,score", "q0,1"], {},
        r"a\.csv: there is no column for the field 'item'. Expected: 'item_id', 'item', 'item_text' or 'row'. "
        r"The columns are query; name one with --column item=COLUMN"),
    "unknown field": (
        ["row,score", "0,1"], {"columns": {"document": "d"}}, "no field 'document'. Expected: one of query, item"),
    "unknown column": (
        ["query,thing,score", "q0,i0,1"], {"columns": {"item": "things"}},
        r"a\.csv: there is no column 'things'. Expected: one of query, thing, score.*'thing'"),
    "not a number": (
        ["row,score", "0,1", "1,high"], {},
        r"a\.csv, row 3, column 'score': the score is 'high'. Expected: a finite number"),
    "empty": (["row,score", "0,"], {}, r"a\.csv, row 2, column 'score': the score is ''"),
    "nan": (["row,score", "0,1", "1,nan"], {}, r"a\.csv, row 3, column 'score': the score is nan"),
    "infinite": (["row,score", "0,-inf"], {}, r"a\.csv, row 2, column 'score': the score is -inf"),
    "beyond float32": (["row,score", "0,1e39"], {}, r"a\.csv, row 2, column 'score': the score is 1e\+39"),
    "no probability": (
        ["row,score", "0,0.5", "1,1.25"], {"kind": "probability"},
        r"a\.csv, row 3, column 'score': the score is 1.25. Expected: a probability from 0 to 1. Declare --kind logit"),
    "negative probability": (
        ["row,a,b", "0,1,0", "1,1,-0.1"], {"kind": "probability", "score_columns": ["a", "b"]},
        r"a\.csv, row 3, column 'b': the score is -0.1"),
    "no distribution": (
        ["row,a,b", "0,0.5,0.4"], {"kind": "probability", "score_columns": ["a", "b"]},
        r"a\.csv, row 2, column 'a': the probabilities sum to 0.9. Expected: a sum of 1"),
    "unknown id": (
        ["query_id,item_id,score", "q0,i0,1", "q0,i9,2"], {},
        r"a\.csv, row 3, column 'item_id': the id 'i9' is not in the collection of the field 'item'. .*--skip-unknown"),
    "unknown text": (
        ["query,item,score", "red,apple,1", "red,plum,2"], {},
        r"a\.csv, row 3, column 'item': the text 'plum' is not in the collection of the field 'item'"),
    "unknown pair": (
        ["query,item,score", "q0,i0,1", "q2,i0,2"], {},
        r"a\.csv, row 3, column 'query': the tuple of this row is not in the tuple set.*--skip-unknown"),
    "unknown row": (["row,score", "0,1", "6,2"], {}, r"a\.csv, row 3, column 'row': the tuple of this row is not in"),
    "broken row": (
        ["row,score", "1.5,1"], {}, r"a\.csv, row 2, column 'row': the row number is 1.5. Expected: a whole number"),
    "two scores": (
        ["query,item,score", "q0,i0,1", "q1,i1,1", "q0,i0,2"], {},
        r"a\.csv, row 4, column 'score': the tuple of this row has another score above. "
        r"Expected: one score a tuple; the other is in .*a\.csv, row 2"),
    "three logits": (
        ["row,a,b,c", "0,1,2,3"], {"score_columns": ["a", "b", "c"]},
        "3 score columns are named for binary labels. Expected: one, or two logits"),
    "nothing known": (
        ["query,item,score", "q2,i0,2"], {"skip_unknown": True},
        r"a\.csv: no row of the file is a tuple of the tuple set. Check the splits and the columns"),
    "no rows": (["row,score"], {}, r"a\.csv: there are no rows"),
    "unknown split": (["row,score", "0,1"], {"splits": ["dev"]}, "no split 'dev'. Expected: one of test, train"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, tmp_path: Path) -> None:
    lines, options, message = MISTAKES[case]
    with pytest.raises(InputError, match=message):
        load(table(tmp_path / "a.csv", *lines), **options)
    assert not (tmp_path / "scores").exists(), "a refused file left something behind"


def test_the_number_of_classes(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "row,score", "0,1")
    with pytest.raises(
        InputError, match=r"1 score columns? .*3 classes\. Expected: one --score-column for each of no, maybe, yes"
    ):
        load(file, CLASSES)


def test_booleans_and_nulls_are_no_scores(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"row": 0, "score": true}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, row 1, column 'score': the column holds bool. Expected: numbers"):
        load(file)
    file.write_text('{"row": 0, "score": 1}\n\n{"row": 1, "score": null}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, row 3, column 'score': the score is nan"):
        load(file)


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.csv: the file does not exist"):
        load(tmp_path / "b.csv")
    table(tmp_path / "a.csv", "row,score", "0,1")
    with pytest.raises(InputError, match=r"this is a folder. Expected: one CSV"):
        load(tmp_path)


def test_unknown_rows_are_skipped_where_that_is_said(tmp_path: Path) -> None:
    file = table(
        tmp_path / "a.csv", "query,item,score", "q0,i0,1", "q0,i9,2", "q9,i0,3", "q2,i0,4", "q9,i9,5", "q9,i9,6", "q1,i1,7"
    )  # fmt: skip
    scores = load(file, skip_unknown=True)
    assert found(scores) == {0: [1], 1: [7], 4: [1]}
    assert scores.manifest.provenance["rows_of_the_file_skipped"] == 5
    assert scores.manifest.provenance["rows_without_score"] == 3


def test_sets_without_labels_take_any_number_of_scores(tmp_path: Path) -> None:
    unlabelled = replace(BINARY, labels=Labels("none"))
    file = table(tmp_path / "a.csv", "row,a,b,c", "3,1,2,3")
    assert found(load(file, unlabelled, score_columns=["a", "b", "c"])) == {3: [1, 2, 3]}


def test_what_looks_like_probabilities_is_not_taken_for_logits(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "row,score", *["0,0.5", "1,0.25"] * 50)
    with pytest.raises(
        InputError, match=r"all 100 lie between 0 and 1\. Expected: raw logits.*Give --kind probability"
    ):
        load(file)
    assert found(load(file, kind="other")) == {0: [0.5], 1: [0.25]}
    shutil.rmtree(tmp_path / "scores")
    table(tmp_path / "a.csv", "row,score", *["0,0.5", "1,0.25"] * 49, "2,-1")
    assert found(load(file))[2] == [-1]
