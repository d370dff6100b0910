"""pretrain, distill-language-model and distill --layerwise through the command line, one after the other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from pairstill.cli.app import main
from pairstill.experiments.grid import trained_on
from pairstill.students import load_student, make_student
from pairstill.students.persistence import parse_config
from pairstill.tokens.tri_letter import TriLetterTokenizer
from pairstill.tuples import TupleSet

COMMON = ["--threads", "1", "--precision", "float32", "--max-length", "24"]


def pairstill(*arguments: object) -> None:
    """Run the command line in this process, which spares its start; it must end with code 0."""
    before, sys.argv = sys.argv, ["pairstill", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def folder(tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuple set, a base of its texts, a teacher on that base and the teacher's scores."""
    out = tmp_path_factory.mktemp("pretrain")
    tuple_set.save(out / "tuples")
    pairstill(
        "pretrain", out / "tuples", "--out", out / "base", "--vocabulary", 80, "--shape", "2x24x2", "--sequences", 320, "--held-out", 0.1,
        "--texts-per-sequence", 2, "--looks", 2, *COMMON,
    )  # fmt: skip
    pairstill(
        "teach", "--tuples", out / "tuples", "--base", out / "base", "--pairs", 128, "--out", out / "teacher", *COMMON
    )
    pairstill(
        "annotate", "--tuples", out / "tuples", "--teacher", out / "teacher", "--out", out / "scores", "--threads", 1
    )
    return out


def test_a_base_of_own_texts_carries_a_teacher(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    assert len(tokenizer) == 80
    assert AutoModel.from_pretrained(folder / "base").config.max_position_embeddings == 24
    assert load_student(folder / "teacher").tokenizer.get_vocab() == tokenizer.get_vocab()
    card = (folder / "base" / "README.md").read_text()
    assert "| perplexity |" in card
    looks = [json.loads(line) for line in (folder / "base" / "pretraining" / "log.jsonl").read_text().splitlines()]
    assert [one["sequences"] for one in looks] == [128, 256, 320]


def test_a_base_is_pretrained_further(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairstill(
        "pretrain", folder / "tuples", "--base", folder / "base", "--out", tmp_path, "--sequences", 64, "--held-out", 0.1, *COMMON
    )  # fmt: skip
    assert "held-out perplexity" in capsys.readouterr().out
    first, second = (load_file(one / "model.safetensors") for one in (folder / "base", tmp_path))
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_language_model_then_ranker(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines.txt").write_text(
        "\n".join(f"w{number} w{number + 1} w{number % 7}" for number in range(60)) + "\n\n"
    )
    arguments = [
        "distill-language-model", tmp_path / "lines.txt", folder / "tuples", "--base", folder / "base", "--shape", "1x12x2",
        "--out", tmp_path / "small", "--sequences", 160, "--held-out", 0.1, "--looks", 2, *COMMON,
    ]  # fmt: skip
    pairstill(*arguments)
    said = capsys.readouterr().out
    assert "1 blank ones left out" in said
    assert "1 layers, 12 wide; held-out loss" in said
    pairstill(*arguments)  # the finished training is loaded
    distill = [
        "distill", "--student", "cross-encoder", "--tuples", folder / "tuples", "--scores", folder / "scores", "--base", tmp_path / "small",
        "--out", tmp_path / "ranker", "--pairs", 64, "--loss", "prediction", *COMMON,
    ]  # fmt: skip
    pairstill(*distill, "--layerwise", folder / "teacher", "--layerwise-pairs", 256, "--layer-map", "2")
    said = capsys.readouterr().out
    assert "layers (2,) of" in said
    student = load_student(tmp_path / "ranker")
    assert student.model.config.hidden_size == 12
    assert (
        "attention, hidden, embeddings of layers (2,) first, 256 pairs"
        in (tmp_path / "ranker" / "README.md").read_text()
    )
    assert "a training of other steps (layers, stage-2; these are stage-2)" in refused(distill, capsys)
    stages = [
        json.loads((tmp_path / "ranker" / "training" / name / "result.json").read_text())
        for name in ("layers", "stage-2")
    ]
    assert trained_on(tmp_path / "ranker") == (256 + 64, pytest.approx(sum(one["seconds"] for one in stages)))

    plain = [*distill, "--out", tmp_path / "plain"]
    pairstill(*plain)
    assert trained_on(tmp_path / "plain")[0] == 64
    said = refused([*plain, "--layerwise", folder / "teacher", "--layer-map", "2"], capsys)
    assert (
        f"{tmp_path / 'plain'}: the folder holds a training of other steps (stage-2; these are layers, stage-2)" in said
    )


def test_a_start_from_the_bases_layers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill-language-model", folder / "tuples", "--base", folder / "base", "--sequences", 8, "--held-out", 0.1, "--learning-rate", 1e-9, *COMMON]  # fmt: skip
    pairstill(*arguments, "--out", tmp_path / "a", "--shape", "1x24x2", "--start", "layers", "--layer-map", "2")
    small, large = load_file(tmp_path / "a" / "model.safetensors"), load_file(folder / "base" / "model.safetensors")
    torch.testing.assert_close(
        small["encoder.layer.0.output.dense.weight"], large["bert.encoder.layer.1.output.dense.weight"]
    )
    said = refused([*arguments, "--out", tmp_path / "b", "--shape", "1x12x2", "--start", "layers"], capsys)
    assert "hidden_size 24 cannot start a model with hidden_size 12" in said


@pytest.mark.soak
def test_killed_it_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    def command(out: Path, sequences: int = 4000) -> list[str]:
        return [
            sys.executable, "-m", "pairstill", "pretrain", str(folder / "tuples"), "--out", str(out), "--vocabulary", "80", "--shape", "2x24x2",
            "--sequences", str(sequences), "--held-out", "0.1", "--batch-size", "8", "--dropout", "0.1", "--checkpoint-every-s", "0.3", *COMMON,
        ]  # fmt: skip

    began = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    latest = tmp_path / "killed" / "pretraining" / "checkpoint" / "latest.json"
    deadline = time.monotonic() + 60
    while began.poll() is None and not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    began.send_signal(signal.SIGKILL)
    began.wait()
    assert latest.exists()
    assert not (tmp_path / "killed" / "config.json").exists()
    for out in ("killed", "calm"):
        pairstill(*command(tmp_path / out)[3:])
    one, two = (load_file(tmp_path / out / "model.safetensors") for out in ("killed", "calm"))
    assert all(torch.equal(one[name], two[name]) for name in two)


MISTAKES = {
    "too few texts": (["pretrain", "--vocabulary", "8000"], "the texts give"),
    "no column": (["pretrain", "table.csv"], "--column NAME"),
    "a shape with a base": (["pretrain", "--base", "x", "--shape", "tiny"], "--shape has no effect here"),
    "an unknown shape": (["pretrain", "--shape", "huge"], "the shape 'huge' cannot be read"),
    "an unknown masking": (["pretrain", "--masking", "letters"], "words or tokens"),
    "no passes": (["pretrain", "--vocabulary", "80", "--epochs", "0"], "--epochs is 0"),
    "nothing held out": (["pretrain", "--vocabulary", "80", "--held-out", "0"], "would be held out"),
    "a share of all": (["pretrain", "--vocabulary", "80", "--mask-share", "1"], "share of masked tokens is 1"),
    "no room for a word": (["pretrain", "--vocabulary", "80", "--max-length", "2"], "the maximum length is 2 tokens"),
    "a student on top": (["pretrain", "--out", "teacher"], "the folder holds a config.json of format 'pairstill/student'"),
    "a model from elsewhere": (["pretrain", "--out", "elsewhere"], "the folder holds a config.json from elsewhere"),
    "no such base": (["distill-language-model", "--base", "/no/such", "--shape", "1x12x2"], "does not exist"),
    "too deep": (["distill-language-model", "--base", "base", "--shape", "3x12x2"], "no more layers than the teacher"),
    "an unknown start": (["distill-language-model", "--base", "base", "--shape", "1x12x2", "--start", "x"], "random or layers"),
    "other heads": (["distill-language-model", "--base", "base", "--shape", "1x12x3", "--held-out", "0.1"], "3 attention heads and the teacher 2"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(folder: Path, tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    (folder / "table.csv").write_text("title\na\n")
    (folder / "elsewhere").mkdir(exist_ok=True)
    (folder / "elsewhere" / "config.json").write_text("{}")
    (verb, *extra), message = MISTAKES[mistake]
    out = [] if "--out" in extra else ["--out", str(tmp_path / "out")]
    assert message in refused([verb, "tuples", *out, *([] if "--max-length" in extra else COMMON), *extra], capsys)


def test_mistakes_of_layerwise(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], base: Path) -> None:
    common = ["distill", "--tuples", folder / "tuples", "--scores", folder / "scores", "--out", tmp_path, *COMMON]
    layers = ["--layerwise", folder / "teacher"]
    assert "cross-encoder, which reads" in refused([*common, "--student", "de-cos", *layers], capsys)
    for flag, value in (("--layer-map", "last"), ("--layerwise-learning-rate", 1e-3)):
        arguments = [*common, "--student", "cross-encoder", flag, value]
        assert f"{flag} has no effect here: no --layerwise is given" in refused(arguments, capsys)
    assert "--layerwise-pairs has no effect here" in refused(
        [*common, "--student", "cross-encoder", "--layerwise-pairs", 8], capsys
    )
    said = refused(
        [*common, "--student", "cross-encoder", "--base", base, "--set", "encoder.layers=1", *layers], capsys
    )
    assert "another vocabulary than the teacher" in said
    values = {"encoder": {"base": str(folder / "base"), "max_lengths": [8]}, "keep": [2]}
    make_student("dipair-tsf", parse_config("dipair-tsf", values)).save_pretrained(tmp_path / "dipair")
    said = refused(
        [*common, "--student", "cross-encoder", "--base", folder / "base", "--layerwise", tmp_path / "dipair"], capsys
    )
    assert f"{tmp_path / 'dipair'}: the teacher is a dipair-tsf. Expected: a cross-encoder" in said


def refused(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says; it must end with code 2 and one line."""
    capsys.readouterr()
    before, sys.argv = sys.argv, ["pairstill", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    assert ended.value.code == 2
    said = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert len(said) == 1
    return said[0]


def test_a_tower_of_tri_letter_words(
    folder: Path, tuple_set: TupleSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], base: Path
) -> None:
    common = [
        "pretrain", folder / "tuples", "--words", "tri-letter", "--shape", "1x24x2", "--sequences", 640, "--held-out", 0.2, "--looks", 2,
        "--batch-size", 16, "--learning-rate", 3e-3, "--threads", 1, "--precision", "float32", "--max-length", 6,
    ]  # fmt: skip
    made = [*common, "--vocabulary", 50, "--out", tmp_path / "base"]
    pairstill(*made)
    said = capsys.readouterr().out
    assert "are longer than a sequence of 6 words and are cut" in said
    assert "held-out perplexity among 50 words" in said
    looks = [json.loads(line) for line in (tmp_path / "base" / "pretraining" / "log.jsonl").read_text().splitlines()]
    assert [one["sequences"] for one in looks] == [320, 640]
    pairstill(*made)  # the finished training is loaded
    assert "--texts-per-sequence has no effect here" in refused([*made, "--texts-per-sequence", 2], capsys)
    said = refused([*common, "--vocabulary", 6000, "--out", tmp_path / "other"], capsys)
    assert "6,000 words are to be told apart, and the texts have 60" in said
    settings = tmp_path / "settings"
    again = [*common, "--vocabulary", 50, "--sequences", 16, "--out", settings]
    pairstill(*again, "--tri-letter-set", "vocabulary_size=20", "--tri-letter-set", "unicode=true")
    tokenizer = TriLetterTokenizer.load(settings)
    assert (len(tokenizer.vocabulary), tokenizer.unicode) == (20, True)
    again[-1] = tmp_path / "none"
    for wrong, message in (
        ("unicod=true", "'tri-letters' has no setting 'unicod'. Expected: one of vocabulary_size"),
        ("unicode", "--tri-letter-set is given 'unicode'. Expected: key=value"),
        ("letters=0", "the setting 'letters' of 'tri-letters' is 0. Expected: 1 or more"),
        ("letters=many", "the setting 'letters' of 'tri-letters' is 'many'"),
    ):
        assert message in refused([*again, "--tri-letter-set", wrong], capsys)
    assert "--tri-letter-set has no effect here: --words is wordpiece" in refused(
        ["pretrain", folder / "tuples", "--out", tmp_path / "none", "--tri-letter-set", "letters=9"], capsys
    )
    released = [one if one != "1x24x2" else "twinbert" for one in again]
    pairstill(*released[:-1], tmp_path / "released", "--sequences", 16)
    assert load_file(tmp_path / "released" / "model.safetensors")["letters.weight"].shape[1] == 512

    distill = [
        "distill", "--tuples", folder / "tuples", "--scores", folder / "scores", "--student", "twinbert-cos", "--base", tmp_path / "base",
        "--set", "encoder.tokens=tri-letter", "--set", "pooling=weighted", "--pairs", 32, "--batch-size", 32, "--learning-rate", 1e-9,
        "--threads", 1, "--precision", "float32", "--average-decay", 0,
    ]  # fmt: skip
    pairstill(*distill, "--max-length", 6, "--out", tmp_path / "student")
    student, weights = load_student(tmp_path / "student"), load_file(tmp_path / "base" / "model.safetensors")
    own = student.encoders[0].state_dict()
    for name, tensor in weights.items():
        torch.testing.assert_close(own[name], tensor, atol=1e-6, rtol=0, msg=name)
    assert set(own) - set(weights) == {"pool"}
    more = [*distill, "--out", tmp_path / "none"]
    assert "the base has read 6. Expected: at most 6" in refused([*more, "--max-length", 7], capsys)
    assert "encoder.shape asks for random weights" in refused(
        [*more, "--max-length", 6, "--set", "encoder.shape=tiny"], capsys
    )
    assert "the base has tri-letters of its own. Leave out encoder.tri_letter" in refused(
        [*more, "--max-length", 6, "--set", "encoder.tri_letter.unicode=true"], capsys
    )
    plain = [
        "distill", "--tuples", folder / "tuples", "--scores", folder / "scores", "--student", "de-cos", "--base", tmp_path / "base",
        "--out", tmp_path / "none",
    ]  # fmt: skip
    assert "the base reads words of tri-letters" in refused(plain, capsys)
