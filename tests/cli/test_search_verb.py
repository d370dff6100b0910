"""`index`, `search` and `evaluate --run` through the real command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.scoring.encode import EncodeSettings, encode_store
from pairstill.students import load_student
from pairstill.tuples import TupleSet
from retrieval_samples import tiny_student


@pytest.fixture(scope="module")
def work(base: Path, tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Students, the tuple set, and stores of its items."""
    folder = tmp_path_factory.mktemp("search")
    tuple_set.save(folder / "tuples")
    colbert = {"query_masks": 2, "projection": 8}
    for name, values in (
        ("de-cos", {}), ("bert-dot", {}), ("de-ffnn", {}), ("colbert", colbert), ("other", {"pooling": "cls"}),
    ):  # fmt: skip
        student = tiny_student(base, "de-cos" if name == "other" else name, **values)
        student.save_pretrained(folder / name)
        items = tuple_set.collection_of(1)
        encode_store(
            student, 1, items.ids, items.text_list, folder / f"{name}-store", "item", EncodeSettings(shard_rows=16)
        )
    return folder


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pairstill", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def said(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, (done.exception, done.output)
    return done.stdout


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(done.exception, PairstillError), (done.exception, done.output)
    return str(done.exception)


def searching(work: Path, out: Path, student: str | None = "de-cos", **changes: object) -> list[object]:
    options = {
        "--student": student and work / student, "--store": work / f"{student}-store", "--tuples": work / "tuples", "--split": "test",
        "--out": out, "--threads": 1, **{f"--{name}": value for name, value in changes.items()},
    }  # fmt: skip
    return ["search", *(part for name, value in options.items() if value is not None for part in (name, value))]


def truth_of(work: Path, tuple_set: TupleSet, student: str = "de-cos") -> dict[str, dict[str, float]]:
    """Logits of every query with every item, by the student's own graph."""
    queries, items = tuple_set.collection_of(0), tuple_set.collection_of(1)
    crossed = [(query, item) for query in queries.text_list for item in items.text_list]
    logits = np.asarray(load_student(work / student).predict(crossed, activation_fn=torch.nn.Identity())).reshape(
        40, 40
    )
    return {
        query: dict(zip(items.ids.to_pylist(), row.tolist(), strict=True))
        for query, row in zip(queries.ids.to_pylist(), logits, strict=True)
    }


def table_of(folder: Path) -> list[tuple[str, str, int, float]]:
    return [tuple(row.values()) for row in pq.read_table(folder / "run.parquet").to_pylist()]  # type: ignore[misc]


def test_exact_search_from_the_command_line(work: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    done = call(*searching(work, tmp_path / "run", top=15))
    assert done.returncode == 0, done.stderr
    assert "queries, 40 items" in done.stdout
    assert "queries/s (exact)" in done.stdout
    assert all(name in done.stdout for name in ("nDCG@10", "MRR@10", "MAP@1000", "Recall@1000", "judged@10"))
    assert "items a query, and MAP@1000, Recall@1000 see no more of it" in done.stdout
    rows, truth = table_of(tmp_path / "run"), truth_of(work, tuple_set)
    asked = sorted(
        set(np.array(tuple_set.tuples.column("query"))[np.array(tuple_set.tuples.column("split")) == "test"])
    )
    assert sorted({row[0] for row in rows}) == asked
    for query in asked:
        mine = [row for row in rows if row[0] == query]
        best = sorted(truth[query].values(), reverse=True)[:15]
        np.testing.assert_allclose([row[3] for row in mine], best, atol=1e-5)
        np.testing.assert_allclose([truth[query][row[1]] for row in mine], best, atol=1e-5)
        assert [row[2] for row in mine] == list(range(1, 16))
    lines = [line.split() for line in (tmp_path / "run" / "run.trec").read_text().splitlines()]
    assert [(one[0], one[2], int(one[3]), np.float32(one[4])) for one in lines] == [
        (query, item, rank, np.float32(score)) for query, item, rank, score in rows
    ]
    assert {(one[1], one[5]) for one in lines} == {("Q0", "de-cos")}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["way"], manifest["fields"], manifest["rows"]) == ("exact", ["query", "item"], len(rows))
    assert manifest["speed"]["searched_per_s"] > 0


def test_words_are_searched_without_a_student(work: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    words = ["search", "--bm25", "--tuples", work / "tuples", "--split", "test", "--out", tmp_path / "run"]
    stdout = said(*words, "--top", 5)
    assert "40 items" in stdout
    assert "queries/s (bm25)" in stdout
    assert "nDCG@10" in stdout
    queries, items = tuple_set.collection_of(0), tuple_set.collection_of(1)
    text_of = {one.ids[row].as_py(): one.text_list[row] for one in (queries, items) for row in range(len(one))}
    rows = table_of(tmp_path / "run")
    assert rows
    for query, item, rank, score in rows:
        assert score > 0
        assert rank <= 5
        assert set(text_of[query].split()) & set(text_of[item].split())
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["way"], manifest["items"], manifest["rows"]) == ("bm25", 40, len(rows))
    # It is a first stage like any other.
    said(*searching(work, tmp_path / "reranked", "de-ffnn", candidates=tmp_path / "run", top=5))
    assert {row[:2] for row in table_of(tmp_path / "reranked")} == {row[:2] for row in rows}
    assert "--student has no effect here" in refused(*words, "--student", work / "de-cos")
    assert "the tuple set has no field 'title'" in refused(*words, "--passage-field", "title")
    assert "the fields are 'query' and 'query'" in refused(*words, "--passage-field", "query")
    queries_file = _written(tmp_path / "q.csv", "id,text\n1,w1\n")
    from_file = [
        "search",
        "--bm25",
        "--queries",
        queries_file,
        "--id",
        "id",
        "--text",
        "text",
        "--out",
        tmp_path / "other",
    ]
    assert "--bm25 is given without what is searched" in refused(*from_file)
    items_file = _written(tmp_path / "i.csv", "id,title,brand\na,w1 w2,w9\nb,w3,w1\nc,w4,w5\n")
    assert "--items is given without --items-id or --items-text" in refused(*from_file, "--items", items_file)
    assert "--items-id has no effect here" in refused(*words, "--items-id", "id")
    assert "--items has no effect here" in refused(*searching(work, tmp_path / "other", items=items_file))
    columns = ["--items", items_file, "--items-id", "id", "--items-text", "title", "--items-text", "brand"]
    assert "1 queries, 3 items, 2 results" in said(*from_file, *columns)
    assert "--precision has no effect here" in refused(*from_file, *columns, "--precision", "bfloat16")
    assert "--check has no effect here" in refused(*from_file, *columns, "--check", 0)
    twice = _written(tmp_path / "twice.csv", "id,title\na,w1\na,w3\n")
    message = refused(*from_file, "--items", twice, "--items-id", "id", "--items-text", "title")
    assert "comes twice" in message
    assert "--on-bad-row" not in message
    # A run without a result is measured: nothing was found.
    nothing = _written(tmp_path / "nothing.csv", "id,text\n1,zzz\n")
    judged = _written(tmp_path / "judged", "1 0 a 1\n")
    stdout = said(
        "search",
        "--bm25",
        "--queries",
        nothing,
        "--id",
        "id",
        "--text",
        "text",
        *columns,
        "--out",
        tmp_path / "none",
        "--qrels",
        judged,
    )
    assert "1 queries share no word with any item" in stdout
    assert "0.0000" in stdout
    assert "(1 not in the run)" in stdout
    assert {row[1] for row in table_of(tmp_path / "other")} == {"a", "b"}


def test_an_index_is_built_checked_and_searched(work: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = ["index", "--store", work / "de-cos-store", "--out", tmp_path / "index", "--threads", 1]
    built = said(*index)
    assert "40 items, hnsw, cosine" in built
    assert re.search(r"recall@10: (1\.0000|0\.9[5-9]\d\d) against exact search on 40 items as queries", built)
    assert "is up to date" in said(*index)
    found = said(*searching(work, tmp_path / "run", index=tmp_path / "index", top=40, check=3))
    assert "queries/s (approximate)" in found
    assert re.search(r"recall@10: [01]\.\d{4} against exact search on 3 of these queries at effort", found)
    said(*searching(work, tmp_path / "exact", top=40))
    assert [row[:3] for row in table_of(tmp_path / "run")] == [row[:3] for row in table_of(tmp_path / "exact")]
    with_queries = [
        *index,
        "--student",
        work / "de-cos",
        "--tuples",
        work / "tuples",
        "--split",
        "test",
        "--structure",
        "ivf",
    ]
    assert "on 6 queries" in said(*with_queries)
    assert "(approximate)" in said(*searching(work, tmp_path / "ivf", index=tmp_path / "index"))
    # The store changes: the index is refused, and built again by the same command.
    shutil.copytree(work / "de-cos-store", tmp_path / "store")
    moved = ["index", "--store", tmp_path / "store", "--out", tmp_path / "moved", "--threads", 1]
    said(*moved)
    said("store", "delete", tmp_path / "store", "--id", "item5")
    search = searching(work, tmp_path / "again", index=tmp_path / "moved", store=tmp_path / "store")
    assert "the index is stale" in refused(*search)
    assert "39 items" in said(*moved)
    said(*search)
    assert "item5" not in {row[1] for row in table_of(tmp_path / "again")}


def test_dot_products_are_searched(work: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = ["index", "--store", work / "bert-dot-store", "--out", tmp_path / "index", "--threads", 1]
    assert "40 items, hnsw, dot" in said(*index)
    truth = truth_of(work, tuple_set, "bert-dot")
    for way, found in (("exact", None), ("approximate", tmp_path / "index")):
        assert f"({way})" in said(*searching(work, tmp_path / way, "bert-dot", index=found, top=5))
        for query, item, rank, score in table_of(tmp_path / way):
            assert score == pytest.approx(truth[query][item], rel=1e-5, abs=1e-5)
            if way == "exact":
                assert score == pytest.approx(sorted(truth[query].values(), reverse=True)[rank - 1], rel=1e-5, abs=1e-5)


def test_late_interaction_is_searched_by_an_index_of_tokens(work: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = ["index", "--store", work / "colbert-store", "--out", tmp_path / "index", "--threads", 1]
    asking = ["--student", work / "colbert", "--tuples", work / "tuples"]
    built = said(*index, *asking, "--split", "test", "--lists", 20)
    assert re.search(r"40 items, \d+ tokens, 20 centroids, 0 MB, built in", built)
    assert re.search(r"recall@10: 1\.0000 against exact search on 6 queries at effort 1;", built)
    found = said(*searching(work, tmp_path / "run", "colbert", index=tmp_path / "index", top=5, check=3))
    assert "queries/s (approximate)" in found
    assert re.search(r"recall@10: [01]\.\d{4} against exact search on 3 of these queries at effort", found)
    assert "on 6 of these queries" in said(*searching(work, tmp_path / "again", "colbert", index=tmp_path / "index"))
    truth = truth_of(work, tuple_set, "colbert")
    for query, item, _, score in table_of(tmp_path / "run"):
        assert score == pytest.approx(truth[query][item], rel=1e-5, abs=1e-5)
    assert "up to 10 vectors an item. Give --student, if it is one of late interaction" in refused(*index)
    assert "--structure has no effect here: a colbert compares no single vectors" in refused(
        *index, *asking, "--structure", "ivf"
    )
    assert "the manifest says format 'pairstill/token-index'" in refused(
        "index", "--store", work / "de-cos-store", "--out", tmp_path / "index"
    )
    texts, ids = tuple_set.collection_of(0).text_list, tuple_set.collection_of(0).ids
    encode_store(load_student(work / "colbert"), 0, ids, texts, tmp_path / "queries", "query")
    other_way = [
        "--student",
        work / "colbert",
        "--tuples",
        work / "tuples",
        "--position",
        2,
        "--store",
        tmp_path / "queries",
    ]
    assert "an index of tokens serves its first" in refused("index", *other_way, "--out", tmp_path / "other")
    assert "an index of tokens serves its first" in refused(
        "search", *other_way, "--index", tmp_path / "index", "--out", tmp_path / "other"
    )
    assert "is neither a similarity of two vectors nor a MaxSim" in refused(
        "index",
        "--store",
        work / "de-ffnn-store",
        "--out",
        tmp_path / "other",
        "--student",
        work / "de-ffnn",
        *asking[2:],
    )


def test_queries_from_a_file_and_qrels(work: Path, tmp_path: Path) -> None:
    queries = tmp_path / "queries.csv"
    queries.write_text("number,words,more\n7,w1 w2,w3\n3,w9,w4\n")
    run = tmp_path / "run"
    from_file = {"tuples": None, "split": None, "queries": queries, "id": "number", "text": "words", "top": 4}
    qrels = tmp_path / "qrels.txt"
    best = {}
    said(*searching(work, run, **from_file))
    rows = table_of(run)
    assert [(int(row[0]), row[2]) for row in rows] == [(number, rank) for number in (7, 3) for rank in (1, 2, 3, 4)]
    for query, item, rank, _ in rows:
        best[int(query), rank] = item
    # Topic 7 has its one relevant item first, topic 3 third; topic 8 is not in the run, topic 9 has nothing relevant.
    qrels.write_text(
        f"7 0 {best[7, 1]} 2\n7 0 {best[7, 2]} 1\n3 0 {best[3, 3]} 3\n8 0 item1 2\n9 0 item1 1\n", encoding="utf-8"
    )
    out = said(*searching(work, run, **from_file, qrels=qrels, **{"relevant-from": 2}))
    assert "4 (1 not in the run)" in out or "(2 not in the run)" in out
    said("evaluate", "--run", f"mine={run}", "--run", f"trec={run / 'run.trec'}", "--qrels", qrels, "--relevant-from", 2,
         "--metric", "MRR@2", "--out", tmp_path / "quality")  # fmt: skip
    body = json.loads((tmp_path / "quality" / "retrieval.json").read_text())
    mine, trec = body["runs"]
    assert mine["metrics"] == trec["metrics"]
    assert mine["metrics"]["MRR@10"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert mine["metrics"]["MRR@2"] == pytest.approx(1 / 3)
    assert mine["metrics"]["Recall@1000"] == pytest.approx(2 / 3)
    ideal, third = (2 + 1 / np.log2(3)) / (2 + 1 / np.log2(3)), (3 / np.log2(4)) / 3
    assert mine["metrics"]["nDCG@10"] == pytest.approx((ideal + third + 0 + 0) / 4)
    assert mine["queries"] == {"MRR@2": 3, "nDCG@10": 4, "MRR@10": 3, "MAP@1000": 3, "Recall@1000": 3}
    table = pq.read_table(tmp_path / "quality" / "by-query.parquet")
    assert table.column_names == ["run", "query", "MRR@2", "nDCG@10", "MRR@10", "MAP@1000", "Recall@1000"]
    assert table.column("MRR@10").to_pylist() == [pytest.approx(1 / 3), 1.0, 0.0, None] * 2


def test_candidates_of_a_run_are_scored_by_any_student(work: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    said(*searching(work, tmp_path / "first", top=6))
    out = said(*searching(work, tmp_path / "second", "de-ffnn", candidates=tmp_path / "first", top=3))
    assert "queries/s (candidates)" in out
    truth = truth_of(work, tuple_set, "de-ffnn")
    first = [row[:2] for row in table_of(tmp_path / "first")]
    for query in {row[0] for row in first}:
        named = [item for asked, item in first if asked == query]
        expected = sorted(named, key=lambda item: -truth[query][item])[:3]
        assert [row[1] for row in table_of(tmp_path / "second") if row[0] == query] == expected
    every = said(*searching(work, tmp_path / "every", "de-ffnn", top=3))
    assert "queries/s (every pair)" in every
    again = said(*searching(work, tmp_path / "third", "de-ffnn", candidates=tmp_path / "first" / "run.trec", top=3))
    assert "candidates" in again
    assert table_of(tmp_path / "third") == table_of(tmp_path / "second")


def test_candidates_that_do_not_fit(work: Path, tmp_path: Path) -> None:
    def of(text: str) -> str:
        (tmp_path / "run.trec").write_text(text)
        return refused(*searching(work, tmp_path / "out", candidates=tmp_path / "run.trec"))

    assert "the run names the query 'nobody', which is not asked (1 rows are so)" in of("nobody Q0 item1 1 2.0 x\n")
    assert "the store has no item 'thing'" in of("query34 Q0 thing 1 2.0 x\n")
    assert "the item 'item1' of query 'query34' comes twice" in of("query34 Q0 item1 1 2.0 x\n" * 2)
    assert "the line has 3 parts" in of("query34 Q0 item1\n")
    out = said(
        *searching(work, tmp_path / "out", candidates=_written(tmp_path / "run.trec", "query34 Q0 item1 1 2.0 x\n"))
    )
    assert "5 queries have no candidate" in out
    pq.write_table(pa.table({"query": ["query34"], "score": [1.0]}), tmp_path / "run.parquet")
    assert "the columns are query, score" in refused(
        *searching(work, tmp_path / "out", candidates=tmp_path / "run.parquet")
    )


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_mistakes_are_told(work: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "the store was made by another encoder" in refused(*searching(work, out, store=work / "other-store"))
    assert "so no index finds its best items" in refused(*searching(work, out, "de-ffnn", index=tmp_path))
    assert "--student is missing" in refused(*searching(work, out, student=None, store=work / "de-cos-store"))
    assert "--store is missing" in refused(*searching(work, out, store=None))
    assert "--passage-field has no effect here" in refused(*searching(work, out, **{"passage-field": "item"}))
    assert "an index and candidates are given" in refused(*searching(work, out, index=tmp_path, candidates=tmp_path))
    assert "the run does not exist" in refused(*searching(work, out, candidates=tmp_path / "none"))
    assert "give one of --tuples and --queries" in refused(*searching(work, out, tuples=None))
    assert "the tuple set has no field 'title'" in refused(*searching(work, out, field="title"))
    assert "the tuple set has no split 'tset'" in refused(*searching(work, out, split="tset"))
    assert "the field 3 asks" in refused(*searching(work, out, position=3))
    assert "--relevant-from is 3" in refused(*searching(work, out, **{"relevant-from": 3}))
    queries = _written(tmp_path / "q.csv", "id,text\n1,w1\n")
    from_file = {"tuples": None, "split": None, "queries": queries}
    assert "--queries is given without --id or --text" in refused(*searching(work, out, **from_file))
    from_file |= {"id": "id", "text": "text"}
    assert "the field 3 asks" in refused(*searching(work, out, **from_file, position=3))
    assert "--relevant-from is given and there are no judgements" in refused(
        *searching(work, out, **from_file, **{"relevant-from": 1})
    )
    assert "no query of the run has judgements" in refused(
        *searching(work, out, **from_file, qrels=_written(tmp_path / "qrels", "q 0 d 1\n"))
    )
    for text, message in (("q 0 d\n", "the line has 3 parts"), ("q 0 d x\n", "the grade is 'x'"), ("", "holds no judgements"),
                          ("q 0 d 1\nq 0 d 1\n", "the document 'd' of topic 'q' comes twice")):  # fmt: skip
        assert message in refused(*searching(work, out, **from_file, qrels=_written(tmp_path / "qrels", text)))
    assert "the judgements cannot be read" in refused(*searching(work, out, **from_file, qrels=tmp_path / "none"))
    assert "the fields are 'item' and 'item'" in refused(*searching(work, out, **from_file, field="item"))
    assert "of format 'pairstill/tuple-set'" in refused(*searching(work, work / "tuples"))
    tiny_student(base, "cross-encoder", outputs=3).save_pretrained(tmp_path / "classes")
    assert "Expected: two fields and one output" in refused(*searching(work, out, student=tmp_path / "classes"))


def test_mistakes_with_an_index_are_told(work: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = ["index", "--store", work / "de-cos-store", "--out", tmp_path / "index"]
    asking = ["--student", work / "de-cos", "--tuples", work / "tuples"]
    assert "without --student no query can be encoded" in refused(*index, "--tuples", work / "tuples")
    assert "--student is given without queries" in refused(*index, *asking[:2])
    assert "--metric is dot. Expected: cosine" in refused(*index, *asking, "--metric", "dot")
    assert "the store does not say how its vectors are compared" in refused(
        "index", "--store", work / "de-ffnn-store", "--out", tmp_path / "index"
    )
    said(*index, "--metric", "dot")
    assert "the index compares by dot" in refused(*searching(work, tmp_path / "out", index=tmp_path / "index"))
    other = ["index", "--store", work / "other-store", "--out", tmp_path / "other"]
    said(*other)
    assert "a store of another encoder" in refused(*searching(work, tmp_path / "out", index=tmp_path / "other"))
    assert "the folder does not exist" in refused(*searching(work, tmp_path / "out", index=tmp_path / "none"))


def test_a_missing_extra_is_told(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    for verb in (
        ["index", "--store", work / "de-cos-store", "--out", tmp_path],
        searching(work, tmp_path / "x", index=tmp_path),
    ):
        assert "pip install 'pairstill[retrieval]'" in refused(*verb)


def test_mistakes_with_runs_are_told(work: Path, tmp_path: Path) -> None:
    run = ["evaluate", "--run", f"a={work}/none", "--out", tmp_path / "out"]
    assert "give one of --qrels and --tuples with --run" in refused(*run)
    assert "the run does not exist" in refused(*run, "--tuples", work / "tuples")
    assert "there is no metric 'AUC'" in refused(*run, "--tuples", work / "tuples", "--metric", "AUC")
    assert "--student has no effect here" in refused(*run, "--tuples", work / "tuples", "--student", "x")
    assert "two runs have one name" in refused(*run, "--run", "a=b", "--tuples", work / "tuples")
    assert "--qrels is given without --run" in refused("evaluate", "--qrels", "x", "--out", tmp_path)
    assert "--tuples is missing" in refused("evaluate", "--out", tmp_path)
