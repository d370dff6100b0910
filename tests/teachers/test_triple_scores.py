"""Margin-MSE's files: read into the artefact, written from it, and every mistake with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pairstill.errors import InputError
from pairstill.teachers.import_scores import import_scores
from pairstill.teachers.scores import TeacherScores
from pairstill.teachers.triple_scores import write_triple_scores
from pairstill.tuples import Collection, Field, Labels, TupleSet
from tiny import tiny_tuple_set

TRIPLES = [("q0", "p0", "p1"), ("q1", "p2", "p0"), ("q0", "p0", "p2")]


def triple_set() -> TupleSet:
    """Three triples; the first and the last share a relevant pair."""
    pairs = [(query, passage) for query, *passages in TRIPLES for passage in passages]
    count = len(pairs)
    return TupleSet(
        fields=(Field("query", "query"), Field("passage", "passage")),
        labels=Labels("binary"),
        collections={
            "query": Collection(pa.array(["q0", "q1"]), pa.array(["red fruit", "blue what"])),
            "passage": Collection(pa.array(["p0", "p1", "p2"]), pa.array(["apple", "stone", "sky"])),
        },
        tuples=pa.table({
            "query": pa.array([one[0] for one in pairs]), "passage": pa.array([one[1] for one in pairs]),
            "label": pa.array([1.0, 0.0] * 3), "weight": pa.nulls(count, pa.float64()), "group": pa.array([one[0] for one in pairs]),
            "split": pa.array(["train"] * count), "list": pa.array(np.repeat(np.arange(3), 2)),
        }),
    )  # fmt: skip


IDS = "4.5\t-1\tq0\tp0\tp1\n2\t3.25\tq1\tp2\tp0\n4.5\t0.5\tq0\tp0\tp2\n"
TEXTS = "4.5\t-1\tred fruit\tapple\tstone\n2\t3.25\tblue what\tsky\tapple\n4.5\t0.5\tred fruit\tapple\tsky\n"
CHUNKS = "4.5\t4.5 1\t-1\t-1\tq0\tp0\tp1\n2\t2\t3.25\t3.25 3\tq1\tp2\tp0\n4.5\t4.5\t0.5\t.5 .1\tq0\tp0\tp2\n"


def read(tmp_path: Path, content: str, tuple_set: TupleSet | None = None, **options: Any) -> TeacherScores:
    (tmp_path / "scores.tsv").write_text(content)
    return import_scores(
        tmp_path / "scores.tsv", tuple_set or triple_set(), tmp_path / "scores", kind="logit", triples=True, **options
    )


@pytest.mark.parametrize("content", [IDS, TEXTS, CHUNKS])
def test_scores_of_triples(content: str, tmp_path: Path) -> None:
    scores = read(tmp_path, content)
    assert scores.logits[:, 0].tolist() == [4.5, -1, 2, 3.25, 4.5, 0.5]
    assert scores.rows.tolist() == list(range(6))


@pytest.mark.parametrize("texts", [False, True])
def test_what_is_written_is_read(texts: bool, tmp_path: Path) -> None:
    scores = read(tmp_path, IDS)
    assert write_triple_scores(tmp_path / "out.tsv", triple_set(), scores, texts=texts) == 3
    assert (tmp_path / "out.tsv").read_text() == (TEXTS if texts else IDS)


def test_every_float_survives(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 9, (3, 2)).astype(np.float32)
    values[2, 0] = values[0, 0]
    lines = [f"{one[0]!r}\t{one[1]!r}\t" + "\t".join(ids) for one, ids in zip(values.tolist(), TRIPLES, strict=True)]
    scores = read(tmp_path, "\n".join(lines) + "\n")
    np.testing.assert_array_equal(scores.logits[:, 0], values.reshape(-1))
    write_triple_scores(tmp_path / "scores.tsv", triple_set(), scores)
    again = import_scores(tmp_path / "scores.tsv", triple_set(), tmp_path / "again", kind="logit", triples=True)
    np.testing.assert_array_equal(again.logits, scores.logits)


@pytest.mark.parametrize(("repeated", "expected"), [("mean", 5.0), ("last", 5.5)])
def test_a_pair_with_several_scores(repeated: Any, expected: float, tmp_path: Path) -> None:
    content = IDS.replace("4.5\t0.5", "5.5\t0.5")
    with pytest.raises(
        InputError,
        match=r"row 3, column 'score': the tuple of this row has another score above.*scores.tsv, row 1.*--repeated",
    ):
        read(tmp_path, content)
    scores = read(tmp_path, content, repeated=repeated)
    assert scores.logits[:, 0].tolist() == [expected, -1, 2, 3.25, expected, 0.5]
    assert scores.manifest.provenance["tuples_with_several_scores"] == 1


def test_without_lists_the_tuples_of_a_query_are_compared(tmp_path: Path) -> None:
    """Every pair of a query of which one has the higher label, queries in order of appearance."""
    tuple_set = tiny_tuple_set(60)
    (tmp_path / "all.csv").write_text("row,score\n" + "".join(f"{row},{row}\n" for row in range(60)))
    scores = import_scores(tmp_path / "all.csv", tuple_set, tmp_path / "all", kind="logit")
    count = write_triple_scores(tmp_path / "out.tsv", tuple_set, scores, splits=["train", "valid"])
    rows = tuple_set.split("train", "valid")
    expected = []
    queries = list(dict.fromkeys(rows.index[:, 0].tolist()))
    labels = rows.labels.tolist()  # type: ignore[union-attr]
    for query in queries:
        mine = [place for place in range(len(rows)) if rows.index[place, 0] == query]
        expected += [(a, b) for a in mine for b in mine if labels[a] > labels[b]]
    found = [tuple(map(float, line.split("\t")[:2])) for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert found == [(rows.rows[a], rows.rows[b]) for a, b in expected]
    assert count == len(expected) > 5


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for content, options, message in [
        ("1\t2\tq0\tp0\n", {}, r"scores.tsv, row 1: the line has 4 cells between tabs. Expected: 5"),
        ("1\t2\tq0\tp0\tp1\n1\t2\tq0\tp0\n", {}, r"scores.tsv, row 2: the record has 4 cells. Expected: 5: positive_score"),
        ("1\t2\tq0\tp0\tp1\n1\tx\tq0\tp0\tp2\n", {}, r"scores.tsv, row 2, column 'score': the score is 'x'"),
        ("1\t2\tq0\tp0\tp1\n1\t2\tq0\tp0\tp9\n", {}, r"scores.tsv, row 2, column 'passage': the id 'p9' is not in the collection"),
        ("1\t2\tq1\tp1\tp1\n", {}, r"scores.tsv, row 1.*the tuple of this row is not in the tuple set"),
        (IDS, {"tuple_set": tiny_tuple_set(30, fields=3)}, "triples are about two fields, and the tuple set has 3"),
        (IDS, {"repeated": "first"}, "are to be treated as 'first'. Expected: refuse, mean, last"),
        ("", {}, "the file is empty|the line has 0 cells"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            read(tmp_path, content, **options)
    with pytest.raises(InputError, match=r"nothing.tsv: the file does not exist"):
        import_scores(tmp_path / "nothing.tsv", triple_set(), tmp_path / "x", kind="logit", triples=True)
    assert (
        read(tmp_path, IDS + "9\t9\tq1\tp1\tp1\n", skip_unknown=True).manifest.provenance["rows_of_the_file_skipped"]
        == 2
    )


def test_what_cannot_be_written(tmp_path: Path) -> None:
    tuple_set = triple_set()
    scores = read(tmp_path, IDS)
    equal = tuple_set.with_tuples(tuple_set.tuples.set_column(2, "label", pa.array([1.0] * 6)), {})
    tabbed = replace(
        tuple_set, collections={**tuple_set.collections, "query": Collection(pa.array(["q0", "q1"]), pa.array(["a\tb", "c"]))}
    )  # fmt: skip

    def of(other: TupleSet) -> TeacherScores:
        return TeacherScores(replace(scores.manifest, tuple_set=other.fingerprint), scores.rows, scores.logits)

    for given, texts, message in [
        (equal, False, "no two tuples of a query have different labels"),
        (tabbed, True, "the text of query 'q0' holds a tab or a line break.*Leave out --texts"),
        (replace(tuple_set, labels=Labels("none")), False, "the labels are of kind 'none'"),
        (tiny_tuple_set(30, fields=3), False, "triples are about two fields"),
    ]:
        with pytest.raises(InputError, match=message):
            write_triple_scores(tmp_path / "out.tsv", given, of(given), texts=texts)
        assert not (tmp_path / "out.tsv").exists()
    with pytest.raises(InputError, match="belong to another tuple set"):
        write_triple_scores(tmp_path / "out.tsv", equal, scores)
