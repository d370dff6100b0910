"""`pairstill annotate` through the real command line: a teacher, a file of scores, and mistakes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import command_line
from pairstill.cli.app import main
from pairstill.students import CrossEncoder
from pairstill.teachers.annotate import rows_to_score
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import TupleSet

FILE = ["--import", "scores.csv"]


def pairstill(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return command_line.pairstill("annotate", *arguments, cwd=folder)


def works(folder: Path, *arguments: object) -> str:
    done = pairstill(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(base: Path, tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tuples`, a `teacher`, and `scores.csv` under other names, with one pair too many."""
    out = tmp_path_factory.mktemp("annotate")
    tuple_set.save(out / "tuples")
    torch.manual_seed(0)
    teacher = CrossEncoder.from_sequence_classification(str(base), max_length=14, outputs=1)
    torch.nn.init.normal_(teacher.model.classifier.weight)
    teacher.model.save_pretrained(out / "teacher")
    teacher.tokenizer.save_pretrained(str(out / "teacher"))
    first = tuple_set.tuples.select(["query", "item"]).slice(0, 3).to_pylist()
    lines = [f"{row['query']},{row['item']},0.{number + 1}" for number, row in enumerate(first)]
    (out / "scores.csv").write_text("\n".join(["question,item_id,p", *lines, "query0,nothing,0.5"]) + "\n")
    return out


@pytest.fixture
def work(folder: Path, tmp_path: Path) -> Path:
    for name in ("tuples", "teacher", "scores.csv"):
        (tmp_path / name).symlink_to(folder / name)
    return tmp_path


def test_a_teacher(work: Path, tuple_set: TupleSet) -> None:
    arguments = ["--tuples", "tuples", "--teacher", "teacher", "--split", "valid", "--limit", 20, "--max-length", 12,
                 "--precision", "float32", "--threads", 1, "--out", "scores"]  # fmt: skip
    said = works(work, *arguments)
    scores = TeacherScores.load(work / "scores")
    assert said.startswith("teacher scores: scores   20 rows, float32, ")
    assert f", {scores.manifest.truncated:,} cut at 12 tokens" in said
    assert scores.manifest.teachers[0].name == "teacher"
    wanted = rows_to_score(tuple_set, ["valid"], 20)
    np.testing.assert_array_equal(scores.rows, wanted.rows)
    teacher = CrossEncoder.from_sequence_classification(str(work / "teacher"), max_length=12)
    np.testing.assert_allclose(scores.logits, teacher.score_tuples(tuple_set, wanted), atol=1e-5)


def test_a_file(work: Path, tuple_set: TupleSet) -> None:
    arguments = ["--tuples", "tuples", *FILE, "--kind", "probability", "--score-column", "p", "--column",
                 "query=question", "--split", "train", "--split", "valid", "--split", "test"]  # fmt: skip
    refused = pairstill(work, *arguments, "--out", "scores")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1, "one line, no traceback"
    assert "scores.csv, row 5, column 'item_id': the id 'nothing' is not in the collection" in refused.stderr
    assert "--skip-unknown" in refused.stderr
    said = works(work, *arguments, "--skip-unknown", "--out", "scores")
    scores = TeacherScores.load(work / "scores")
    assert said == (
        f"teacher scores: scores   {len(scores)} rows, kind logit, 1 rows of the file skipped, "
        f"{len(tuple_set) - len(scores)} rows of the tuple set without a score\n"
    )
    assert set(scores.rows.tolist()) >= {0, 1, 2}
    np.testing.assert_allclose(scores.soft_labels()[:3], [0.1, 0.2, 0.3], rtol=1e-5)


MISTAKES: dict[str, tuple[Sequence[str], str]] = {
    "neither": ([], "give one of --teacher and --import"),
    "both": (["--teacher", "teacher", *FILE, "--kind", "logit"], "give one of --teacher and --import"),
    "no kind": (FILE, "--import is given without --kind. Expected: logit, probability or other"),
    "unknown kind": ([*FILE, "--kind", "grade"], "the score kind 'grade' is unknown"),
    "unknown split of a teacher": (["--teacher", "teacher", "--split", "dev"], "no split 'dev'. Expected: one of test"),
    "unknown split of a file": (
        [*FILE, "--kind", "logit", "--score-column", "p", "--column", "query=question", "--split", "dev", "--skip-unknown"],
        "no split 'dev'"),
    "no such file": (["--import", "score.csv", "--kind", "logit"], "score.csv: the file does not exist"),
    "no such column": (
        [*FILE, "--kind", "logit", "--score-column", "p"], "scores.csv: there is no column for the field 'query'"),
    "column that is not read": ([*FILE, "--kind", "logit", "--column", "query"], "--column 'query' cannot be read"),
    "limit of a file": ([*FILE, "--kind", "logit", "--limit", "5"], "--limit has no effect here"),
    "kind of a teacher": (["--teacher", "teacher", "--kind", "logit"], "--kind has no effect here"),
    "tuples that are a file": (["--teacher", "teacher", "--tuples", "scores.csv"], "scores.csv: this is a file"),
    "no score column": (
        [*FILE, "--kind", "logit", "--column", "query=question"], "scores.csv: there is no column 'score'. Expected: one of"),
    "over the tuples": ([*FILE, "--kind", "logit", "--out", "tuples"], "the folder holds a manifest.json of format"),
    "over a model": ([*FILE, "--kind", "logit", "--out", "teacher"], "the folder holds a config.json from elsewhere"),
    "over a file": ([*FILE, "--kind", "logit", "--out", "scores.csv"], "scores.csv: the output is a file"),
    "no such tuples": (["--teacher", "teacher", "--tuples", "tuple"], "tuple: the folder does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(
    mistake: str, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = MISTAKES[mistake]
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "argv", ["pairstill", "annotate", "--tuples", "tuples", "--out", "scores", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not (work / "scores").exists()
