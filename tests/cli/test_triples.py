"""Margin-MSE's three passes through the real command line, from MS MARCO's files to a student."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import command_line
from pairstill.cli.app import main
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import TupleSet
from tiny import tiny_tuple_set

SPEC = """
splits: {files: {train: {files: train.tsv, columns: [query, positive, negative], quotes: false},
                 valid: {files: valid.tsv, columns: [query, positive, negative], quotes: false}}}
triples: {column: passage, positive: positive, negative: negative}
fields:
  query: {id: query, collection: query}
  passage: {id: passage, collection: passage}
collections:
  query: {files: queries.tsv, columns: [id, text], quotes: false, id: id, text: text}
  passage: {files: collection.tsv, columns: [id, text], quotes: false, id: id, text: text, used_only: true}
group: query
"""


def works(folder: Path, *arguments: object) -> str:
    return command_line.works(*arguments, cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Triples of a labelled set, as MS MARCO publishes them, in a tuple set `tuples`."""
    out, tiny = tmp_path_factory.mktemp("triples"), tiny_tuple_set()
    for field, name in enumerate(("queries", "collection")):
        lines = zip(tiny.collection_of(field).ids.to_pylist(), tiny.texts(field), strict=True)
        (out / f"{name}.tsv").write_text("".join(f"{number}\t{text}\n" for number, text in lines))
    for split in ("train", "valid"):
        rows, lines = tiny.split(split), []
        for query in np.unique(rows.index[:, 0]):
            mine = np.flatnonzero(rows.index[:, 0] == query)
            good, bad = (rows.index[mine[rows.labels[mine] == label], 1] for label in (1, 0))  # type: ignore[index]
            lines += [f"query{query}\titem{a}\titem{b}\n" for a in good for b in bad][:6]
        (out / f"{split}.tsv").write_text("".join(lines))
    (out / "spec.yaml").write_text(SPEC)
    works(out, "describe", "spec.yaml", "--out", "tuples")
    return out


def test_three_passes(folder: Path, base: Path, tmp_path: Path) -> None:
    tuple_set = TupleSet.load(folder / "tuples")
    count = len((folder / "train.tsv").read_text().splitlines()) + len((folder / "valid.tsv").read_text().splitlines())
    assert len(tuple_set) == 2 * count
    common = ["--tuples", "tuples", "--base", base, "--pairs", 128, "--batch-size", 32, "--threads", 1, "--precision", "float32",
              "--looks", 2]  # fmt: skip
    said = works(folder, "teach", *common, "--loss", "ranknet", "--max-length", 24, "--out", tmp_path / "teacher")
    assert "valid auc-roc" in said
    assert "Loss: name ranknet, order labels" in (tmp_path / "teacher" / "README.md").read_text()
    works(folder, "annotate", "--tuples", "tuples", "--teacher", tmp_path / "teacher", "--precision", "float32", "--threads", 1,
          "--shard-rows", 50, "--out", tmp_path / "scores")  # fmt: skip
    scores = TeacherScores.load(tmp_path / "scores")
    pairs = {tuple(pair): value for pair, value in zip(tuple_set.index.tolist(), scores.logits[:, 0], strict=True)}
    assert len(pairs) < len(scores), "relevant pairs are in several triples"
    found = [pairs[tuple(pair)] for pair in tuple_set.index.tolist()]
    np.testing.assert_allclose(scores.logits[:, 0], found, atol=1e-5)
    said = works(
        folder, "scores", "export", "--tuples", "tuples", "--scores", tmp_path / "scores", "--to", tmp_path / "five.tsv"
    )
    assert said == f"written: {tmp_path / 'five.tsv'} ({count:,} triples)\n"
    lines = [line.split("\t") for line in (tmp_path / "five.tsv").read_text().splitlines()]
    given = (folder / "train.tsv").read_text().splitlines() + (folder / "valid.tsv").read_text().splitlines()
    assert ["\t".join(line[2:]) for line in lines] == given
    said = works(folder, "annotate", "--tuples", "tuples", "--import", tmp_path / "five.tsv", "--triples", "--kind", "logit",
                 "--repeated", "mean", "--out", tmp_path / "imported")  # fmt: skip
    np.testing.assert_allclose(TeacherScores.load(tmp_path / "imported").logits, scores.logits, atol=1e-5)
    said = works(folder, "distill", *common, "--student", "de-ffnn", "--loss", "margin-mse", "--scores", tmp_path / "imported",
                 "--stages", "one", "--max-length", 16, "--out", tmp_path / "student")  # fmt: skip
    assert "valid auc-roc" in said


IMPORT = ["annotate", "--tuples", "tuples", "--import", "five.tsv", "--kind", "logit", "--out", "OUT"]
MISTAKES = {
    "named columns": ([*IMPORT, "--triples", "--score-column", "x"], "--score-column has no effect here: a file of triples"),
    "triples of a teacher": (["annotate", "--tuples", "tuples", "--teacher", "x", "--triples", "--out", "OUT"], "--triples has no effect"),
    "no triples": ([*IMPORT, "--triples"], "five.tsv, row 1: the line has 2 cells between tabs"),
    "another way": ([*IMPORT, "--triples", "--repeated", "first"], "are to be treated as 'first'"),
    "another loss": (["teach", "--tuples", "tuples", "--loss", "margin-mse", "--out", "OUT"], "cannot learn labels by the loss 'margin-mse'"),
    "to a folder": (["scores", "export", "--tuples", "tuples", "--scores", "x", "--to", "tuples"], "--to is a folder"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(
    mistake: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = MISTAKES[mistake]
    (folder / "five.tsv").write_text("1\t2\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        sys, "argv", ["pairstill", *(str(tmp_path / "out") if one == "OUT" else one for one in arguments)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err.count("\n") == 1
    assert message in said.err
