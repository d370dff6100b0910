"""`pairstill scores` through the real command line: teachers combined, an assistant between teacher and student."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import command_line
from pairstill.cli.app import main
from pairstill.students import CrossEncoder, load_student
from pairstill.teachers.import_scores import import_scores
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import Labels, TupleSet


def works(folder: Path, *arguments: object) -> str:
    return command_line.works(*arguments, cwd=folder)


@pytest.fixture(scope="module")
def folder(base: Path, tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tuples` with the slices `source` and `half`, scores `one` and `two` of all rows, `some` of the training rows, `grades` of another kind, and a `teacher`;
    `classes`, the same tuples with classes, with scores `of-classes`."""
    out = tmp_path_factory.mktemp("scores")
    source = pa.array(["odd" if row % 2 else "even" for row in range(len(tuple_set))])
    half = pa.array([str(row % 2) for row in range(len(tuple_set))])
    tuple_set = replace(
        tuple_set,
        tuples=tuple_set.tuples.append_column("source", source).append_column("half", half),
        slices=("source", "half"),
    )
    tuple_set.save(out / "tuples")
    labels = tuple_set.tuples["label"].to_numpy()
    train = set(tuple_set.split("train").rows.tolist())
    for number, name in enumerate(("one", "two", "some", "grades")):
        values = 2 * labels - 1 + np.random.default_rng(number).normal(size=len(labels))
        lines = [f"{row},{value}" for row, value in enumerate(values) if name != "some" or row in train]
        (out / f"{name}.csv").write_text("\n".join(["row,score", *lines]) + "\n")
        import_scores(out / f"{name}.csv", tuple_set, out / name, kind="other" if name == "grades" else "logit")
    classes = replace(tuple_set, labels=Labels("classes", classes=("no", "yes")))
    classes.save(out / "classes")
    import_scores(out / "one.csv", classes, out / "of-classes", kind="logit", score_columns=["row", "score"])
    torch.manual_seed(0)
    CrossEncoder.from_sequence_classification(str(base), max_length=14, outputs=1).save_pretrained(out / "teacher")
    return out


def test_a_stack_through_the_command_line(folder: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    said = works(folder, "scores", "combine", "--how", "stack", "--tuples", "tuples", "--scores", "one", "--scores", "two",
                 "--out", tmp_path / "out")  # fmt: skip
    assert "400 rows, kind logit, stack of 2 teachers: one.csv, two.csv" in said
    assert f"stack: fitted on {len(tuple_set.split('valid'))} labelled rows of valid" in said
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [one["name"] for one in manifest["teachers"]] == ["one.csv", "two.csv"]
    assert len(manifest["provenance"]["stack"]["coefficients"][0]) == 2
    said = works(folder, "scores", "combine", "--how", "stack", "--fit-slice", "source=odd", "--tuples", "tuples", "--scores", "one",
                 "--scores", "two", "--out", tmp_path / "odd")  # fmt: skip
    odd = int((tuple_set.split("valid").rows % 2).sum())
    assert f"stack: fitted on {odd} labelled rows of valid, source=odd" in said
    fitted = json.loads((tmp_path / "odd" / "manifest.json").read_text())["provenance"]["stack"]["fitted_on"]
    assert (fitted["slices"], fitted["rows"]) == ({"source": ["odd"]}, odd)


def test_an_assistant_teaches_a_student(folder: Path, base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    """Teacher's scores -> assistant -> its scores -> student, and the assistant's scores in a mean with the teacher's."""
    common = ["--tuples", "tuples", "--base", base, "--max-length", 8, "--set", "encoder.layers=1", "--pairs", 128, "--threads", 1,
              "--stages", "one", "--precision", "float32"]  # fmt: skip
    works(folder, "distill", "--student", "de-ffnn", *common, "--scores", "one", "--out", tmp_path / "assistant")
    said = works(folder, "annotate", "--tuples", "tuples", "--teacher", tmp_path / "assistant", "--precision", "float32",
                 "--shard-rows", 150, "--threads", 1, "--out", tmp_path / "theirs")  # fmt: skip
    scores, assistant = TeacherScores.load(tmp_path / "theirs"), load_student(tmp_path / "assistant")
    np.testing.assert_allclose(scores.logits, assistant.score_tuples(tuple_set, tuple_set.split()), atol=1e-5)
    cut = sum(
        any(len(tuple_set.texts(field)[item].split()) + 2 > 8 for field, item in enumerate(row))
        for row in tuple_set.index.tolist()
    )
    assert 0 < cut < 400
    assert f"{cut} cut at 8 and 8 tokens" in said
    assert (scores.manifest.max_lengths, scores.manifest.truncated) == ((8, 8), cut)
    works(folder, "scores", "combine", "--tuples", "tuples", "--scores", "one", "--scores", tmp_path / "theirs", "--out",
          tmp_path / "mean")  # fmt: skip
    expected = (TeacherScores.load(folder / "one").logits + scores.logits) / 2
    np.testing.assert_allclose(TeacherScores.load(tmp_path / "mean").logits, expected, atol=1e-6)
    said = works(folder, "distill", "--student", "de-cos", *common, "--scores", tmp_path / "mean", "--out", tmp_path / "student")  # fmt: skip
    assert "valid auc-roc" in said
    said = works(folder, "evaluate", "--tuples", "tuples", "--teacher", tmp_path / "assistant", "--student", tmp_path / "student",
                 "--no-floors", "--no-cost", "--base", "none", "--threads", 1, "--out", tmp_path / "evaluation")  # fmt: skip
    assert "student" in said


COMBINE = ["scores", "combine", "--tuples", "tuples", "--out", "OUT"]
STACK = [*COMBINE, "--scores", "one", "--scores", "two", "--how", "stack"]
DISTILL = ["distill", "--student", "de-cos", "--tuples", "tuples", "--out", "OUT"]
MISTAKES: dict[str, tuple[Sequence[str], str]] = {
    "one teacher": ([*COMBINE, "--scores", "one"], "the scores are of 1 teacher ('one.csv')"),
    "twice the same": ([*COMBINE, "--scores", "one", "--scores", "one"], "the scores are of 1 teacher"),
    "mixed kinds": ([*COMBINE, "--scores", "one", "--scores", "grades"], "'grades.csv' of kind 'other'. Expected: one kind"),
    "rows missing": ([*COMBINE, "--scores", "one", "--scores", "some"], "is scored by 'one.csv' and not by 'some.csv'"),
    "another way": ([*COMBINE, "--scores", "one", "--scores", "two", "--how", "max"], "are to be combined by 'max'"),
    "fit split of a mean": ([*COMBINE, "--scores", "one", "--scores", "two", "--fit-split", "valid"], "--fit-split has no effect"),
    "no such split": ([*COMBINE, "--scores", "one", "--scores", "two", "--how", "stack", "--fit-split", "dev"], "no split 'dev'"),
    "fit slice of a mean": ([*COMBINE, "--scores", "one", "--scores", "two", "--fit-slice", "a=b"], "--fit-slice has no effect"),
    "no such slice": ([*STACK, "--fit-slice", "sauce=b"], "no slice column 'sauce'"),
    "no value of a slice": ([*STACK, "--fit-slice", "source"], "--fit-slice 'source' cannot be read"),
    "no such value": ([*STACK, "--fit-slice", "source=odd", "--fit-slice", "source=evens"],
                      "no scored row of 'valid' with a label has source=evens. Expected: one of even, odd. Did you mean 'even'?"),
    "slices without a common row": ([*STACK, "--fit-slice", "source=odd", "--fit-slice", "half=0"],
                                    "is in all of the slices source, half"),
    "no scores folder": ([*COMBINE, "--scores", "one", "--scores", "three"], "three: the folder does not exist"),
    "over the tuples": (["scores", "combine", "--tuples", "tuples", "--scores", "one", "--scores", "two", "--out", "tuples"],
                        "the folder holds a manifest.json of format"),
    "over one of them": (["scores", "combine", "--tuples", "tuples", "--scores", "one", "--scores", "two", "--out", "one"],
                         "--out is one of the --scores"),
    "an order of classes": (["scores", "export", "--tuples", "classes", "--scores", "of-classes", "--to", "OUT"],
                            "the labels are of kind 'classes'. Expected: binary or graded labels"),
    "one of another tuple set": ([*DISTILL, "--scores", "one", "--scores", "of-classes"],
                                 "error: of-classes: the teacher scores belong to another tuple set"),
    "exported, of another tuple set": (["scores", "export", "--tuples", "tuples", "--scores", "one", "--scores", "of-classes", "--to", "OUT"],
                                       "error: of-classes: the teacher scores belong to another tuple set"),
    "two teachers without a word": ([*DISTILL, "--scores", "one", "--scores", "two"], " in one and two.csv "),
    "scored twice": ([*DISTILL, "--scores", "one", "--scores", "one"],
                     "score the same row of the tuple set, row 0: one and one. Expected: one score a row. Leave one of the folders out."),
    "a length for a student": (["annotate", "--tuples", "tuples", "--teacher", "ASSISTANT", "--max-length", "9", "--out", "OUT"],
                               "reads each text by itself, and a maximum length of the whole tuple is given"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(
    mistake: str, folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    arguments, message = MISTAKES[mistake]
    if "ASSISTANT" in arguments:
        from pairstill.students import make_student
        from pairstill.students.persistence import parse_config

        values = {"encoder": {"base": str(base), "max_lengths": [16]}}
        make_student("de-cos", parse_config("de-cos", values)).save_pretrained(tmp_path / "assistant")
    places = {"OUT": str(tmp_path / "out"), "ASSISTANT": str(tmp_path / "assistant")}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["pairstill", *(places.get(one, one) for one in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not (tmp_path / "out").exists()
