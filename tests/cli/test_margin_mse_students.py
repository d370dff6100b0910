"""Margin-MSE's students and the poly-encoder, trained end to end through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pairstill.cli.app import main
from pairstill.students import load_student
from pairstill.teachers.import_scores import import_scores
from pairstill.tuples import TupleSet

STUDENTS = {
    "bert-dot": [],
    "colbert": ["projection=8", "query_masks=2"],
    "poly-encoder": ["contexts=3"],
    "prettr": ["split=1", "compression=8"],
    "tk": ["intermediate=12"],
}


@pytest.fixture(scope="module")
def folder(tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuple set and a teacher's scores of it."""
    out = tmp_path_factory.mktemp("margin-mse")
    tuple_set.save(out / "tuples")
    labels = tuple_set.tuples["label"].to_pylist()
    (out / "scores.tsv").write_text(
        "row\tscore\n" + "".join(f"{row}\t{4 * label - 2}\n" for row, label in enumerate(labels))
    )
    import_scores(out / "scores.tsv", TupleSet.load(out / "tuples"), out / "scores", kind="logit")
    return out


def distill(
    folder: Path, base: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, str]:
    given = [
        "pairstill", "distill", "--tuples", folder / "tuples", "--scores", folder / "scores", "--out", out, "--max-length", 12,
        "--loss", "margin-mse", "--split", "train", "--pairs", 96, "--batch-size", 32,
        *(() if "tk" in more else ("--stage1-pairs", 96, "--stage1-batch-size", 32)), "--precision", "float32", "--threads", 1, "--looks", 2, *more,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(one) for one in [*given, "--set", f"encoder.base={base}"]])
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    else:
        code = 0
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("student", STUDENTS)
def test_training_on_margins(
    folder: Path, base: Path, tmp_path: Path, student: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    settings = [part for one in STUDENTS[student] for part in ("--set", one)]
    code, said = distill(folder, base, tmp_path / "out", monkeypatch, capsys, "--student", student, *settings)
    assert (code, "valid auc-roc" in said) == (0, True), said
    result = json.loads((tmp_path / "out" / "training" / "distillation.json").read_text())
    assert result["stage2"]["pairs"] == 96
    assert (result["stage1"] is None) == (student == "tk")
    trained = load_student(tmp_path / "out")
    tuple_set = TupleSet.load(folder / "tuples")
    scores = trained.score_tuples(tuple_set, tuple_set.split("test"))
    assert np.isfinite(scores).all()
    assert float(np.ptp(scores)) > 0


@pytest.mark.parametrize(
    ("student", "reason"),
    [
        ("bert-dot", "a dot product compares two texts and gives one number"),
        ("colbert", "MaxSim compares two texts and gives one number"),
        ("poly-encoder", "a poly-encoder compares two texts and gives one number"),
        ("tk", "kernel pooling compares two texts and gives one number"),
    ],
)
def test_classes_are_refused(
    folder: Path, base: Path, tmp_path: Path, student: str, reason: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, said = distill(folder, base, tmp_path, monkeypatch, capsys, "--student", student, "--set", "outputs=3")
    assert code == 2
    assert said.count("\n") == 1
    assert f"{reason}; 2 fields and 3 outputs were asked for" in said


def test_a_stage_that_there_is_not_takes_no_flags(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = distill(folder, base, tmp_path, monkeypatch, capsys, "--student", "tk", "--stage1-pairs", "96")
    assert code == 2
    assert "--stage1-pairs has no effect here: a tk has no encoder of its own to freeze" in said
    assert "Leave out --stage1-pairs" in said
    code, said = distill(folder, base, tmp_path, monkeypatch, capsys, "--student", "tk", "--table-rate", "3")
    assert code == 2
    assert "--table-rate has no effect here: a tk has no table that is updated row by row" in said
    adagrad = ("--optimizer", "adagrad", "--weight-decay", "0.1")
    code, said = distill(folder, base, tmp_path, monkeypatch, capsys, "--student", "tk", *adagrad)
    assert code == 2
    assert "--weight-decay has no effect here: Adagrad has none" in said


def test_adagrad_at_a_constant_rate_trains_and_stands_in_the_card(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = ("--optimizer", "adagrad", "--schedule", "constant", "--warmup", "0", "--learning-rate", "0.01")
    code, said = distill(folder, base, tmp_path, monkeypatch, capsys, "--student", "tk", *published)
    assert code == 0, said
    card = (tmp_path / "README.md").read_text()
    assert "optimizer adagrad, warmup 0.0, schedule constant, weight_decay 0.0" in card


def test_a_bad_line_of_word_vectors_is_one_error(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("w1 1 2 3 4\nw2 1 2 three 4\n")
    code, said = distill(
        folder, base, tmp_path, monkeypatch, capsys, "--student", "tk", "--set", f"encoder.word_vectors={path}"
    )
    assert code == 2
    assert said == f"error: {path}, row 2: 'three' is no number. Expected: a word and 4 numbers.\n"
