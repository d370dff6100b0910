"""Triples, judgements, runs and tables without headers: as tuples, and every mistake with its line."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairstill.errors import InputError
from pairstill.tuples import SourceSpec, TupleSet, read_tuple_set

FILES = {
    "collection.tsv": 'p1\tred "apple\np2\tgreen pear\np3\tblue sky\np4\tgrey stone\n',
    "queries.tsv": "q1\tred fruit\nq2\twhat is blue\n",
    "triples.tsv": "q1\tp1\tp3\nq2\tp3\tp2\nq1\tp1\tp2\n",
    "texts.tsv": "red fruit\tan apple\ta stone\n",
    "qrels.txt": "q1 0 p1 2\nq1 0 p2 1\n\nq2\t0\tp3\t3\nq2 0 p1 0\n",
    "run.txt": "q1 Q0 p1 1 9.5 bm25\nq1 Q0 p4 2 9.0 bm25\nq2 Q0 p3 1 7 bm25\n",
}
COLLECTIONS = """
    collections:
      query: {files: queries.tsv, columns: [id, text], quotes: false, id: id, text: text}
      passage: {files: collection.tsv, columns: [id, text], quotes: false, id: id, text: text}
"""
TRIPLES = """
    tuples: {files: triples.tsv, columns: [query, positive, negative], quotes: false}
    triples: {column: passage, positive: positive, negative: negative}
    fields:
      query: {id: query, collection: query}
      passage: {id: passage, collection: passage}
    splits: {all: train}
"""
RUN = """
    tuples: {files: run.txt, format: run}
    fields:
      query: {id: query, collection: query}
      passage: {id: document, collection: passage}
    splits: {all: test}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def read(folder: Path, *pieces: str) -> TupleSet:
    (folder / "spec.yaml").write_text("".join(textwrap.dedent(one) for one in pieces))
    return read_tuple_set(SourceSpec.load(folder / "spec.yaml"))


def rows(tuple_set: TupleSet, *names: str) -> list[tuple[object, ...]]:
    return list(zip(*(tuple_set.tuples[name].to_pylist() for name in names), strict=True))


def test_triples_are_two_tuples_each_and_stay_together(folder: Path) -> None:
    tuple_set = read(folder, TRIPLES, COLLECTIONS)
    assert rows(tuple_set, "query", "passage", "label", "list") == [
        ("q1", "p1", 1, 0), ("q1", "p3", 0, 0), ("q2", "p3", 1, 1), ("q2", "p2", 0, 1), ("q1", "p1", 1, 2), ("q1", "p2", 0, 2),
    ]  # fmt: skip
    assert tuple_set.labels.kind == "binary"
    assert tuple_set.collections["passage"].texts.to_pylist()[0] == 'red "apple'
    tuple_set.save(folder / "set")
    read_back = TupleSet.load(folder / "set")
    assert read_back.fingerprint == tuple_set.fingerprint
    tuples = read_back.split("train")
    np.testing.assert_array_equal(tuples.compared, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(tuples.take(np.array([4, 1])).compared, [2, 0])
    other = replace(
        tuple_set, tuples=tuple_set.tuples.set_column(6, "list", pa.array([0, 1, 1, 1, 2, 2]))
    )  # fmt: skip
    assert other.tuples.column_names == tuple_set.tuples.column_names
    assert other.fingerprint != tuple_set.fingerprint


def test_rows_without_a_list_are_compared_by_the_first_item(folder: Path) -> None:
    tuple_set = read(folder, TRIPLES, COLLECTIONS)
    lists = pa.array([0, 0, None, None, None, 2], pa.int64())
    compared = replace(tuple_set, tuples=tuple_set.tuples.set_column(6, "list", lists)).split().compared
    assert compared[2] == compared[3]
    assert len(set(compared.tolist())) == 4
    assert compared[4] not in (compared[0], compared[5])


def test_triples_of_texts(folder: Path) -> None:
    spec = TRIPLES.replace("triples.tsv", "texts.tsv").replace("{id: query, collection: query}", "query")
    tuple_set = read(folder, spec.replace("{id: passage, collection: passage}", "passage"))
    assert tuple_set.texts(0) == ["red fruit"]
    assert tuple_set.texts(1) == ["an apple", "a stone"]
    assert rows(tuple_set, "label", "list") == [(1, 0), (0, 0)]


def test_a_run_judged_by_qrels(folder: Path) -> None:
    judged = "label: {qrels: qrels.txt, range: [0, 3], unjudged: 0}\n"
    tuple_set = read(folder, RUN, COLLECTIONS, judged)
    assert rows(tuple_set, "query", "passage", "label") == [
        ("q1", "p1", pytest.approx(2 / 3)), ("q1", "p4", 0), ("q2", "p3", 1),
    ]  # fmt: skip
    assert (tuple_set.labels.kind, tuple_set.labels.maximum) == ("graded", 3)
    assert any("qrels.txt" in name for name in tuple_set.provenance["sha256"])
    open_ended = read(folder, RUN, COLLECTIONS, judged.replace(", unjudged: 0", ""))
    assert open_ended.tuples["label"].to_pylist()[1] is None
    assert read(folder, RUN, COLLECTIONS).labels.kind == "none"


def test_qrels_are_tuples_too(folder: Path) -> None:
    spec = RUN.replace("{files: run.txt, format: run}", "{files: qrels.txt, format: qrels}")
    tuple_set = read(folder, spec, COLLECTIONS, "label: {column: relevance, range: [0, 3]}\n")
    assert rows(tuple_set, "query", "passage") == [("q1", "p1"), ("q1", "p2"), ("q2", "p3"), ("q2", "p1")]


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_only_items_that_tuples_name_are_kept(kind: str, folder: Path) -> None:
    spec = COLLECTIONS.replace("id: id, text: text}\n\n", "id: id, text: text}")
    if kind == "parquet":
        texts = [line.split("\t") for line in FILES["collection.tsv"].splitlines()]
        table = pa.table({"id": [one[0] for one in texts], "text": [one[1] for one in texts]})
        pq.write_table(table, folder / "collection.parquet")
        spec = spec.replace("collection.tsv, columns: [id, text], quotes: false", "collection.parquet")
    spec = spec.replace("passage: {files", "passage: {used_only: true, files")
    tuple_set = read(folder, TRIPLES, spec)
    assert tuple_set.collections["passage"].ids.to_pylist() == ["p1", "p2", "p3"]
    assert any("items that no tuple names are left out" in one for one in tuple_set.provenance["notes"])
    (folder / "triples.tsv").write_text("q1\tp8\tp9\n")
    with pytest.raises(InputError, match=r"collection.*: no item of the file is named by a tuple"):
        read(folder, TRIPLES, spec)
    (folder / "triples.tsv").write_text("q1\tp1\tp9\n")
    with pytest.raises(InputError, match=r"triples.tsv, row 1, column 'passage': the id 'p9' has no text"):
        read(folder, TRIPLES, spec)


def test_a_bad_row_among_the_kept_ones_has_its_line(folder: Path) -> None:
    (folder / "collection.tsv").write_text("p0\tx\np1\tred\np2\tgreen\np9\tx\np3\t\n")
    spec = COLLECTIONS.replace("passage: {files", "passage: {used_only: true, files")
    with pytest.raises(InputError, match=r"collection.tsv, row 5, column 'text': the text is empty"):
        read(folder, TRIPLES, spec)


def test_json_lines_are_not_read_in_pieces(folder: Path) -> None:
    (folder / "collection.jsonl").write_text('{"id": "p1", "text": "x"}\n')
    spec = COLLECTIONS.replace(
        "{files: collection.tsv, columns: [id, text], quotes: false", "{used_only: true, files: collection.jsonl"
    )
    with pytest.raises(InputError, match=r"collection.jsonl: 'used_only' is given for a file of format jsonl"):
        read(folder, TRIPLES, spec)


JUDGED = "label: {qrels: qrels.txt}\n"
MISTAKES: dict[str, tuple[dict[str, str], str, str]] = {
    "a line of two cells": ({"triples.tsv": "q1\tp1\tp2\nq2\tp3\n"}, TRIPLES, "triples.tsv, row 2: the record has 2 cells. Expected: 3: query, positive, negative"),
    "an unknown negative": ({"triples.tsv": "q1\tp1\tp2\nq2\tp3\tp7\n"}, TRIPLES, "triples.tsv, row 2, column 'passage': the id 'p7' has no text"),
    "an empty positive": ({"triples.tsv": "q1\tp1\tp2\nq2\t\tp1\n"}, TRIPLES, "triples.tsv, row 2, column 'passage': the id is empty"),
    "no such column": ({}, TRIPLES.replace("positive: positive", "positive: relevant"), "there is no column 'relevant'"),
    "labels of triples": ({}, TRIPLES + "    label: x\n", "triples have labels of their own"),
    "a column nobody takes": ({}, TRIPLES.replace("column: passage", "column: other"), "no field takes its id or text from the triples' column 'other'"),
    "one column for both": ({}, TRIPLES.replace("negative: negative", "negative: positive"), "the positive and the negative are both the column 'positive'"),
    "an unknown key": ({}, TRIPLES.replace("positive: positive", "positiv: positive"), "unknown key 'triples.positiv'"),
    "a run's line of five": ({"run.txt": "q1 Q0 p1 1 9.5 bm25\n\nq1 Q0 p4 2 9.0\n"}, RUN, "run.txt, row 3: the line has 5 parts. Expected: 6: query q0 document rank score system"),
    "a run's unknown document": ({"run.txt": "q1 Q0 p1 1 9.5 bm25\n\n\nq1 Q0 p8 2 9.0 x\n"}, RUN, "run.txt, row 4, column 'document': the id 'p8' has no text"),
    "no such column of a run": ({}, RUN.replace("id: document", "id: passage"), "there is no column 'passage'"),
    "names for a run": ({}, RUN.replace("format: run", "format: run, columns: [a]"), "this source has names of its own"),
    "names for parquet": ({"x.parquet": ""}, RUN.replace("run.txt, format: run", "x.parquet, columns: [a]"), "'columns' is given for a file of format parquet"),
    "a judgement that is no number": ({"qrels.txt": "q1 0 p1 x\n"}, RUN + JUDGED, "qrels.txt, row 1, column 'relevance'"),
    "a judgement out of range": ({}, RUN + JUDGED, "qrels.txt, row 1, column 'relevance': the label is 2. Expected: 0 or 1"),
    "two judgements": ({"qrels.txt": "q1 0 p1 1\nq2 0 p1 0\nq1 0 p1 0\n"}, RUN + JUDGED, "qrels.txt, row 3, column 'relevance': the pair of this line has another judgement above"),
    "no judgement": ({"qrels.txt": "x 0 p1 1\n"}, RUN + JUDGED, "no tuple has a judgement"),
    "unjudged out of range": ({"qrels.txt": "q1 0 p1 1\n"}, RUN + JUDGED.replace("}", ", unjudged: 2}"), "the label of unjudged tuples is 2"),
    "unjudged without qrels": ({}, RUN + "label: {column: rank, unjudged: 0}\n", "'unjudged' is about tuples that 'qrels' does not have"),
    "both": ({}, RUN + "label: {column: rank, qrels: qrels.txt}\n", "give either 'column' or 'qrels'"),
    "no such qrels": ({}, RUN + JUDGED.replace("qrels.txt", "qrel.txt"), "qrel.txt: the file does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, folder: Path) -> None:
    files, spec, message = MISTAKES[mistake]
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(InputError) as raised:
        read(folder, *spec.partition("label: {")[:1], COLLECTIONS, "".join(spec.partition("label: {")[1:]))
    assert message in str(raised.value)
