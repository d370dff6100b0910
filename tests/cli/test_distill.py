"""Mistakes of teach and distill beyond those of names, and steps smaller than the number of processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from command_line import works, works_in_two_processes
from pairstill.cli.app import main
from pairstill.students import load_student
from pairstill.tuples import TupleSet


@pytest.fixture(scope="module")
def folder(tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled tuple set, and one whose validation rows have no labels."""
    out = tmp_path_factory.mktemp("distill")
    tuple_set.save(out / "tuples")
    table = tuple_set.tuples
    labels = pc.if_else(pc.equal(table["split"], "valid"), pa.scalar(None, pa.float64()), table["label"])
    column = table.column_names.index("label")
    replace(tuple_set, tuples=table.set_column(column, "label", labels)).save(out / "unlabelled")
    (out / "list.yaml").write_text("- keep\n")
    (out / "encoder.yaml").write_text("encoder: 3\n")
    (out / "numbers.yaml").write_text("1: 2\n")
    return out


MISTAKES = {
    "cross-encoder without stage 2": (["--student", "cross-encoder", "--stages", "first"], "no stage would train"),
    "no room in the base": (["--student", "de-cos", "--max-length", "161"], "Expected: 3 to 160"),
    "more kept than read": (["--student", "dipair-tsf", "--max-length", "12"], "field 2, cut at 12 tokens, 16 are to be kept. Expected: keep of at most 12. Lower keep,"),
    "a number that is true": (["--student", "dipair-tsf", "--set", "keep=true"], "'keep' of 'dipair-tsf' is [True]"),
    "two lengths of a joined tuple": (["--student", "cross-encoder", "--max-length", "12", "--max-length", "16"], "is given 2 maximum lengths"),
    "an endless temperature": (["--student", "de-cos", "--hard-weight", "0.5", "--temperature", "inf"], "the temperature is inf"),
    "a temperature of 0": (["--student", "de-cos", "--hard-weight", "0.5", "--temperature", "0"], "the temperature is 0.0"),
    "a rate that is no number": (["--student", "de-cos", "--learning-rate", "nan"], "encoder_learning_rate is nan"),
    "a rate that unlearns": (["--student", "de-cos", "--new-learning-rate", "-1"], "learning_rate is -1.0"),
    "a seed below 0": (["--student", "de-cos", "--seed", "-1"], "seed is -1"),
    "an absent tracker": (["--student", "de-cos", "--tracker", "aim"], "the package 'aim' is not installed"),
    "batches of nothing": (["--student", "de-cos", "--batch-size", "0"], "batch_size is 0"),
    "a setting inside a number": (["--student", "dipair-tsf", "--set", "keep=2", "--set", "keep.a=1"], "has a value of its own"),
    "a broken list": (["--student", "dipair-tsf", "--set", "keep=[2,"], "--set is given 'keep=[2,'"),
    "three outputs for binary labels": (["--student", "de-ffnn", "--set", "outputs=3"], "gives 3 outputs, the labels have 1. Expected: as many. Set outputs=1."),
    "agreement with nobody": (["--student", "de-cos", "--hard-weight", "1", "--metric", "agreement"], "--metric agreement compares with a teacher's scores"),
    "a slice of nothing": (["--student", "de-cos", "--hard-weight", "1", "--validation-slice", "a=b"], "no slice column 'a'"),
    "a slice without a value": (["--student", "de-cos", "--hard-weight", "1", "--validation-slice", "a"], "--validation-slice 'a' cannot be read"),
    "no such settings": (["--student", "de-cos", "--config", "missing.yaml"], "cannot be read"),
    "settings in a list": (["--student", "de-cos", "--config", "list.yaml"], "does not hold settings"),
    "an encoder that is a number": (["--student", "de-cos", "--config", "encoder.yaml"], "'encoder' has no settings inside"),
    "a setting that is a number": (["--student", "de-cos", "--config", "numbers.yaml"], "has no setting '1'"),
}  # fmt: skip


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command line says; it must end with code 2."""
    monkeypatch.setattr(sys, "argv", ["pairstill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(
    folder: Path, base: Path, tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    extra, message = MISTAKES[mistake]
    arguments = ["distill", "--tuples", "tuples", "--base", str(base), "--hard-weight", "1", "--threads", "1", "--precision", "float32"]  # fmt: skip
    said = refused([*arguments, "--out", str(tmp_path), *extra], capsys, monkeypatch)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said


def test_validation_without_labels_and_looks_of_none_are_refused(
    folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--base", str(base), "--out", str(tmp_path), "--threads", "1"]
    said = refused(["teach", "--tuples", str(folder / "unlabelled"), *common], capsys, monkeypatch)
    assert "the split 'valid' has no labels" in said
    assert "Traceback" not in said
    said = refused(["teach", "--tuples", str(folder / "tuples"), "--looks", "0", *common], capsys, monkeypatch)
    assert "looks" in said


def test_texts_that_changed_are_not_taken_for_those_that_were_learnt(
    folder: Path, base: Path, tuple_set: TupleSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    item = tuple_set.collections["item"]
    changed = {**tuple_set.collections, "item": replace(item, contents=pa.array(["w1"] * len(item)))}
    replace(tuple_set, collections=changed).save(tmp_path / "tuples")
    arguments = ["distill", "--student", "de-cos", "--base", str(base), "--hard-weight", "1", "--stages", "first", "--pairs", "64", "--looks", "1",
                 "--precision", "float32", "--threads", "1", "--out", str(tmp_path / "student"), "--tuples"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["pairstill", *arguments, str(folder / "tuples")])
    with pytest.raises(SystemExit):
        main()
    assert "Learnt from" in load_student(tmp_path / "student").card
    assert "other texts" in refused([*arguments, str(tmp_path / "tuples")], capsys, monkeypatch)


def test_training_in_vain_is_said(folder: Path, base: Path, tmp_path: Path) -> None:
    said = works(
        "distill", "--student", "de-cos", "--stages", "one", "--tuples", folder / "tuples", "--base", base, "--hard-weight", "1", "--pairs", "64",
        "--learning-rate", "0", "--new-learning-rate", "0", "--precision", "float32", "--threads", "1", "--out", tmp_path,
    )  # fmt: skip
    assert " before training), " in said
    assert "note: training made it no better" in said


def test_a_last_step_of_one_row_is_shared_by_two_processes(folder: Path, base: Path, tmp_path: Path) -> None:
    def arguments(out: Path) -> list[str]:
        return [
            "teach", "--tuples", str(folder / "tuples"), "--base", str(base), "--max-length", "24",
            "--layers", "1", "--pairs", "65", "--batch-size", "32", "--precision", "float32", "--threads", "1", "--looks", "1", "--out", str(out),
        ]  # fmt: skip

    works(*arguments(tmp_path / "one"))
    works_in_two_processes(arguments(tmp_path / "two"))
    one, two = load_student(tmp_path / "one").state_dict(), load_student(tmp_path / "two").state_dict()
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name].numpy(), tensor.numpy(), atol=2e-4, err_msg=name)
