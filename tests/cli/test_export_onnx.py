"""`pairstill export --format onnx`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

from eager_graphs import EagerGraphs, eager_graphs  # noqa: F401
from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.runtime import RuntimeStudent
from pairstill.tuples import TupleSet
from student_cases import build
from tiny import SIZES, tiny_tokenizer


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["export", "--format", "onnx", *map(str, arguments)])
    assert done.exit_code == 0, (done.exception, done.output)
    return done.output


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert isinstance(done.exception, PairstillError), (done.exception, done.output)
    return str(done.exception)


def test_a_student_is_exported(base: Path, tuple_set: TupleSet, tmp_path: Path, eager_graphs: EagerGraphs) -> None:  # noqa: F811
    build(base, "dipair-ffnn").save_pretrained(tmp_path / "student")
    tuple_set.save(tmp_path / "tuples")
    said = run("--student", tmp_path / "student", "--out", tmp_path / "out", "--tuples", tmp_path / "tuples")
    assert "dipair-ffnn" in said
    assert "123 given tuples; logits differ from PyTorch by at most" in said
    assert RuntimeStudent.open(tmp_path / "out").name == "dipair-ffnn"


def test_a_classifier_of_another_library_is_exported(tmp_path: Path, eager_graphs: EagerGraphs) -> None:  # noqa: F811
    torch.manual_seed(0)
    config = BertConfig(vocab_size=65, max_position_embeddings=60, num_labels=1, **SIZES)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    tiny_tokenizer().save_pretrained(tmp_path / "classifier")
    assert "cross-encoder" in run("--student", tmp_path / "classifier", "--out", tmp_path / "out")
    assert RuntimeStudent.open(tmp_path / "out").score_texts([("w1 w2", "w3")]).shape == (1, 1)


def test_what_cannot_be_is_refused(base: Path, tmp_path: Path) -> None:
    build(base, "de-cos").save_pretrained(tmp_path / "student")
    student = ["--student", tmp_path / "student", "--out", tmp_path / "out"]
    assert "Give --tuples" in refused(*student, "--format", "onnx", "--precision", "int8")
    assert "--precision has no effect here" in refused(*student, "--precision", "int8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    assert "the output exists" in refused(*student, "--format", "onnx")


@pytest.mark.parametrize(
    ("case", "flag", "message"),
    [
        ("de-cos", "--precision", "the head of a de-cos has no 8-bit form"),
        ("cross-encoder", "--encoder-precision", "a cross-encoder has no encoder of its own"),
    ],
)
def test_int8_that_does_not_exist(
    base: Path, tuple_set: TupleSet, tmp_path: Path, eager_graphs: EagerGraphs, case: str, flag: str, message: str  # noqa: F811
) -> None:  # fmt: skip
    build(base, case).save_pretrained(tmp_path / "student")
    tuple_set.save(tmp_path / "tuples")
    flags = [
        "--format",
        "onnx",
        "--student",
        tmp_path / "student",
        "--out",
        tmp_path / "out",
        "--tuples",
        tmp_path / "tuples",
    ]
    assert message in refused(*flags, flag, "int8")
    assert not (tmp_path / "out").exists()
