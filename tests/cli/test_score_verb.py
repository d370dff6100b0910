"""`encode`, `score` and `plan` through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_samples import Sample, make_sample, read_result, write_pairs
from command_line import pairstill
from pairstill.tuples import TupleSet


@pytest.fixture(scope="module")
def sample(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(base, tmp_path_factory.mktemp("verbs"))


def stores(sample: Sample) -> list[str]:
    return [one for name, folder in sample.stores.items() for one in ("--store", f"{name}={folder}")]


def test_encode_score_and_plan(sample: Sample, tuple_set: TupleSet, tmp_path: Path) -> None:
    student = sample.folder / "student"
    tuple_set.save(tmp_path / "tuples")
    done = pairstill(
        "encode",
        "--student",
        student,
        "--tuples",
        tmp_path / "tuples",
        "--field",
        "query",
        "--out",
        tmp_path / "query",
        "--threads",
        1,
    )
    assert done.returncode == 0, done.stderr
    assert "40 items (40 added)" in done.stdout
    done = pairstill(
        "encode", "--student", student, "--tuples", tmp_path / "tuples", "--field", "item", "--out", tmp_path / "query", "--threads", 1
    )  # fmt: skip
    assert done.returncode == 2
    assert "query: the store holds items of field 1. Expected: items of field 2." in done.stderr
    items = tmp_path / "items.csv"
    items.write_text("id,title,more\n" + "".join(f"{number},w{number},w1\n" for number in range(30)))
    encode_items = (
        "encode", "--student", student, "--texts", items, "--id", "id", "--text", "title", "--text", "more", "--position", 2,
        "--field", "item", "--out", tmp_path / "item", "--dtype", "int8", "--threads", 1,
    )  # fmt: skip
    assert pairstill(*encode_items).returncode == 0
    items.write_text("id,title,more\n" + "".join(f"{number},w{number},w2\n" for number in range(28, 32)))
    done = pairstill(*encode_items, "--delete-missing", "--compact")
    assert done.returncode == 0, done.stderr
    assert "4 items (2 added, 2 replaced, 28 deleted), int8" in done.stdout
    for one in ("query", "item"):
        done = pairstill("score", "--student", student, "--store", f"item={tmp_path}/{one}", "--store", f"query={tmp_path}/query", "--top", 3, "--out", tmp_path / "swapped")  # fmt: skip
        assert done.returncode == 2
        assert f"was made for this student's field {1 if one == 'query' else 2}" in done.stderr
    score = (
        "score", "--student", student, "--store", f"query={tmp_path}/query", "--store", f"item={tmp_path}/item", "--top", 3, "--out",
        tmp_path / "job", "--workers", 1,
    )  # fmt: skip
    done = pairstill(*score)
    assert done.returncode == 0, done.stderr
    assert "memory: at most" in done.stderr
    assert "precision:" in done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"scores: {tmp_path}/job   160 pairs, 120 rows kept")
    assert read_result(tmp_path / "job").num_rows == 120
    done = pairstill(
        "plan",
        "--job",
        tmp_path / "job",
        "--items",
        "1e6",
        "--items",
        "1e6",
        "--top",
        100,
        "--machines",
        10,
        "--cores",
        16,
        "--price",
        2,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)["forecast"]
    assert body["pairs"] == 10**12
    assert body["hours"] > 0
    assert body["money"] == pytest.approx(20 * body["hours"])
    for one in ("--tuples", "--precision"):
        assert one in pairstill("encode", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "--field", "query"), "give one of --tuples and --texts"),
        (
            ("encode", "--field", "item", "--texts", "ITEMS", "--id", "id"),
            "--texts is given without --id, --text or --position",
        ),
        (
            ("encode", "--field", "item", "--texts", "ITEMS", "--id", "id", "--text", "title", "--position", 2),
            "items.csv, row 4, column 'id': the id '1' comes twice, first in",
        ),
        (
            ("encode", "--field", "item", "--texts", "BLANK", "--id", "id", "--text", "title", "--position", 2),
            "blank.csv, row 3, column 'title': the text is empty",
        ),
        (
            ("encode", "--field", "item", "--texts", "NAMELESS", "--id", "id", "--text", "title", "--position", 2),
            "nameless.csv, row 3, column 'id': the id is ",
        ),
        (("score", "--store", "query=x", "--workers", 0), "the number of workers is 0"),
        (("score", "--store", "query"), "--store 'query' cannot be read"),
        (("score", "--store", "query=x", "--ray-address", "auto"), "--ray-address is given without --engine ray"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    sample: Sample, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    (tmp_path / "items.csv").write_text("id,title\n1,w1\n2,w2\n1,w3\n")
    (tmp_path / "blank.csv").write_text("id,title\n1,w1\n2, \n")
    (tmp_path / "nameless.csv").write_text('id,title\na,w1\n"",w2\n')
    files = {one.upper(): tmp_path / f"{one}.csv" for one in ("items", "blank", "nameless")}
    verb, *rest = (files.get(one, one) for one in arguments)
    done = pairstill(verb, "--student", sample.folder / "student", "--out", tmp_path / "out", *rest)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_plan_says_what_it_lacks(tmp_path: Path) -> None:
    for arguments, message in (
        (("--items", "many"), "--items is 'many'"),
        (("--items", "5"), "give one of --student and --job"),
        (("--items", "5", "--student", "x"), "--student needs one of --tuples and --length"),
        (("--items", "5", "--job", tmp_path), "the file does not exist"),
    ):
        done = pairstill("plan", *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_bad_rows_and_a_full_disk(sample: Sample, tmp_path: Path) -> None:
    write_pairs(sample, tmp_path / "pairs" / "0.parquet", 3000)
    pq.write_table(pa.table({"query": ["nobody"], "item": [sample.ids["item"][0]]}), tmp_path / "pairs" / "1.parquet")
    score = (
        "score", "--student", sample.folder / "student", *stores(sample), "--pairs", tmp_path / "pairs", "--precision", "float32",
        "--workers", 1, "--shard-pairs", 2000, "--out", tmp_path / "job",
    )  # fmt: skip
    done = pairstill(*score)
    assert done.returncode == 2
    assert "1.parquet, row 1: the store of 'query' has no item 'nobody'" in done.stderr
    done = pairstill(*score[:-1], tmp_path / "full", "--on-bad-row", "skip", limit_bytes=4000)
    assert done.returncode == 2, done.stderr
    assert "the file cannot be written: File too large. Make room and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    done = pairstill(*score[:-1], tmp_path / "full", "--on-bad-row", "skip")
    assert done.returncode == 0, done.stderr
    assert "3,000 rows kept, 1 rows skipped" in done.stdout
    assert list((tmp_path / "full").glob(".*.tmp")) == []
