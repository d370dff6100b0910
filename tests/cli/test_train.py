"""teach, annotate, distill and their mistakes, through the real command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import works
from pairstill.cli.app import main
from pairstill.students import load_student
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import TupleSet

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def folder(base: Path, tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuple set, a teacher and its scores."""
    out = tmp_path_factory.mktemp("train")
    tuple_set.save(out / "tuples")
    said = works(
        "teach", "--tuples", out / "tuples", "--base", base, "--max-length", 24, "--pairs", 960, "--out", out / "teacher",
        "--threads", 1, "--learning-rate", "1e-3", "--tracker", "tensorboard",
    )  # fmt: skip
    assert "valid auc-roc" in said
    assert list((out / "teacher" / "pairstill").rglob("events.*")), "the tracker wrote nothing"
    said = works(
        "annotate",
        "--tuples",
        out / "tuples",
        "--teacher",
        out / "teacher",
        "--out",
        out / "scores",
        "--precision",
        "float32",
    )
    assert "400 rows" in said
    return out


def test_scores_are_the_teachers_in_stored_order(folder: Path) -> None:
    tuple_set, scores = TupleSet.load(folder / "tuples"), TeacherScores.load(folder / "scores")
    np.testing.assert_array_equal(scores.rows, np.arange(400))
    expected = load_student(folder / "teacher").score_tuples(tuple_set, tuple_set.split())
    np.testing.assert_allclose(scores.logits, expected, atol=1e-5)


def test_distill_in_two_stages(folder: Path, base: Path, tmp_path: Path) -> None:
    said = works(
        "distill", "--student", "dipair-tsf", "--tuples", folder / "tuples", "--scores", folder / "scores", "--base", base, "--out", tmp_path,
        "--max-length", 16, "--set", "keep=2,4", "--set", "projection=8", "--set", "head.intermediate=16", "--pairs", 256,
        "--stage1-pairs", 512, "--precision", "float32", "--temperature", 2,
    )  # fmt: skip
    assert "dipair-tsf, valid auc-roc" in said
    student = load_student(tmp_path)
    assert student.config.keep == (2, 4)
    assert student.config.head.intermediate == 16
    card = (tmp_path / "README.md").read_text()
    assert "| stage 1 | 512 |" in card
    assert "| stage 2 | 256 |" in card
    assert not (tmp_path / "training" / "encoder-outputs").exists()
    assert json.loads((tmp_path / "training" / "distillation.json").read_text())["stage2"]["pairs"] == 256


def test_two_processes_train_as_one(folder: Path, base: Path, tmp_path: Path) -> None:
    def arguments(out: Path) -> list[object]:
        return ["distill", "--student", "dipair-tsf", "--tuples", folder / "tuples", "--scores", folder / "scores", "--base", base, "--out", out,
                "--max-length", 16, "--set", "keep=2,4", "--set", "projection=8", "--set", "head.intermediate=16", "--pairs", 256, "--batch-size", 32,
                "--stage1-pairs", 256, "--stage1-batch-size", 32, "--precision", "float32", "--threads", 1]  # fmt: skip

    works(*arguments(tmp_path / "one"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, "-m", "pairstill",
         *map(str, arguments(tmp_path / "two"))],
        env=ENVIRONMENT, capture_output=True, check=True,
    )  # fmt: skip
    one, two = load_student(tmp_path / "one").state_dict(), load_student(tmp_path / "two").state_dict()
    for name in one:
        np.testing.assert_allclose(one[name].numpy(), two[name].numpy(), atol=2e-4, err_msg=name)


MISTAKES = {
    "no scores": (["--student", "de-cos"], "no teacher scores are given"),
    "unknown student": (["--student", "de-cosine", "--hard-weight", "1"], "there is no student 'de-cosine'"),
    "unknown setting": (["--student", "de-cos", "--hard-weight", "1", "--set", "poolin=cls"], "Did you mean 'pooling'"),
    "no equals sign": (["--student", "de-cos", "--hard-weight", "1", "--set", "pooling"], "key=value"),
    "unknown stages": (["--student", "de-cos", "--stages", "three"], "two, one or first"),
    "unknown split": (["--student", "de-cos", "--hard-weight", "1", "--split", "dev"], "no split 'dev'"),
    "no such scores": (["--student", "de-cos", "--scores", "/no/such"], "does not exist"),
    "unknown metric": (["--student", "de-cos", "--hard-weight", "1", "--metric", "aucroc"], "Did you mean 'auc-roc'"),
    "unknown precision": (
        ["--student", "de-cos", "--hard-weight", "1", "--precision", "float8"],
        "auto, float32 or bfloat16",
    ),
    "unknown tracker": (["--student", "de-cos", "--hard-weight", "1", "--tracker", "paper"], "tensorboard or wandb"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_of_distill(
    folder: Path, tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extra, message = MISTAKES[mistake]
    said = run_in_process(
        ["distill", "--tuples", str(folder / "tuples"), "--out", str(tmp_path), *extra], capsys, monkeypatch
    )
    assert message in said


def test_scores_of_another_set_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny import tiny_tuple_set

    tiny_tuple_set(seed=1).save(tmp_path / "other")
    said = run_in_process(
        ["distill", "--student", "de-cos", "--tuples", str(tmp_path / "other"), "--scores", str(folder / "scores"), "--out", str(tmp_path / "x")],
        capsys, monkeypatch,
    )  # fmt: skip
    assert "tuple set" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["annotate", "--out", "x"], "give one of --teacher and --import"),
        (["annotate", "--out", "x", "--import", "scores.csv"], "--import is given without --kind"),
        (["annotate", "--out", "x", "--teacher", "/no/such/folder"], "does not exist"),
        (["annotate", "--out", "x", "--teacher", "t", "--split", "dev"], "no split 'dev'"),
        (["teach", "--out", "x", "--base", "/no/such/folder"], "does not exist"),
        (["teach", "--out", "x", "--epochs", "0"], "--epochs is 0. Expected: more than 0"),
        (["teach", "--out", "x", "--metric", "bleu"], "there is no metric 'bleu'"),
    ],
)
def test_mistakes_of_teach_and_annotate(
    folder: Path,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_in_process([*arguments, "--tuples", str(folder / "tuples")], capsys, monkeypatch)
    assert message in said


def run_in_process(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the command line; it must end with code 2 and one line."""
    monkeypatch.setattr(sys, "argv", ["pairstill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_importing_pairstill_and_starting_the_command_cost_no_torch() -> None:
    code = "import sys, pairstill.cli.app; print([one for one in ('torch', 'transformers', 'sklearn', 'pyarrow') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_steps_of_one_folder_do_not_mix(
    folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = [
        "--tuples",
        folder / "tuples",
        "--base",
        base,
        "--max-length",
        16,
        "--pairs",
        32,
        "--batch-size",
        32,
        "--threads",
        1,
    ]
    distill = ["distill", "--student", "de-cos", "--scores", folder / "scores", "--stage1-pairs", 32, *shared]
    works(*distill, "--out", tmp_path / "first", "--stages", "first")
    works(*distill, "--out", tmp_path / "two")
    one = ["distill", "--student", "de-cos", "--scores", folder / "scores", "--stages", "one", *shared]
    works(*one, "--out", tmp_path / "one")
    kept = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "two", "one")}
    teach = ["teach", *shared]
    for arguments, message in (
        ([*one, "--out", tmp_path / "two"], "other steps (stage-1, stage-2; these are stage-2)"),
        ([*distill, "--out", tmp_path / "one"], "other steps (stage-2; these are stage-1, stage-2)"),
        (
            [*distill, "--out", tmp_path / "two", "--stages", "first"],
            "other steps (stage-1, stage-2; these are stage-1)",
        ),
        ([*teach, "--out", tmp_path / "two"], "other steps (stage-1, stage-2; these are teach)"),
        ([*distill, "--out", folder / "teacher"], "other steps (teach; these are stage-1, stage-2)"),
    ):
        assert message in run_in_process(list(map(str, arguments)), capsys, monkeypatch)
    works(*distill, "--out", tmp_path / "first")
    assert (tmp_path / "first" / "model.safetensors").read_bytes() != kept.pop("first"), "stage 2 went on from stage 1"
    for name, content in kept.items():
        assert (tmp_path / name / "model.safetensors").read_bytes() == content
    shutil.rmtree(tmp_path / "one" / "training")
    said = run_in_process(list(map(str, [*one, "--out", tmp_path / "one"])), capsys, monkeypatch)
    assert "holds a finished model, and no training to resume" in said


def test_auto_is_float32_where_bfloat16_would_lose_the_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairstill.machine.best_precision", lambda: "bfloat16")
    for tau, asked, precision, note in (
        (0.5, "auto", "float32", "below 0.99: scores are closer together than it resolves, so these are in float32"),
        (0.5, "bfloat16", "bfloat16", "annotate with --precision float32"),
        (0.995, "auto", "bfloat16", "Kendall's tau with float32 0.9950 on a sample"),
    ):
        monkeypatch.setattr("pairstill.teachers.annotate.agreement_with_float32", lambda *_, tau=tau: tau)
        out = tmp_path / f"{asked}-{tau}"
        arguments = [
            "annotate",
            "--tuples",
            folder / "tuples",
            "--teacher",
            folder / "teacher",
            "--out",
            out,
            "--precision",
            asked,
        ]
        monkeypatch.setattr(sys, "argv", ["pairstill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        assert TeacherScores.load(out).manifest.precision == precision
        assert note in capsys.readouterr().out


def test_a_damaged_base_is_said(
    folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    arguments = ["teach", "--tuples", folder / "tuples", "--base", tmp_path / "base", "--out", tmp_path / "out"]
    said = run_in_process(list(map(str, arguments)), capsys, monkeypatch)
    assert f"the model '{tmp_path / 'base'}' cannot be loaded" in said
    assert "Copy or download the folder again" in said
