"""Existing models as teachers: the logits of sentence-transformers, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder as Reference
from transformers import AutoConfig, AutoModelForSequenceClassification

from pairstill.errors import ArtefactError, InputError
from pairstill.students import CrossEncoder, Student, make_student
from pairstill.students.persistence import parse_config
from pairstill.teachers.load import load_teacher
from tiny import FAMILIES, SIZES, WORDS, tiny_base, tiny_tokenizer

IDENTITY = torch.nn.Identity()
LENGTHS = [(1, 1), (3, 5), (9, 8), (9, 9), (30, 2), (2, 30), (30, 30), (1, 18), (8, 9), (16, 17), (700, 650)]


def pairs() -> list[tuple[str, str]]:
    generator = np.random.default_rng(0)
    return [
        (" ".join(generator.choice(WORDS, one)), " ".join(generator.choice(WORDS, two))) for one, two in LENGTHS
    ] + [("w3 unheard", "w4 W5")]


def shake(model: torch.nn.Module) -> None:
    """New weights are so small that all logits are nearly the same."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def reference(folder: Path, family: str = "bert", outputs: int = 1, max_length: int | None = 20) -> Path:
    """A folder that sentence-transformers saved, with a classifier whose logits differ visibly."""
    torch.manual_seed(3)
    model = Reference(
        str(tiny_base(folder.parent / f"{folder.name}-base", family)), num_labels=outputs, max_length=max_length, device="cpu"
    )  # fmt: skip
    shake(model.model)
    model.save_pretrained(str(folder))
    return folder


def logits(teacher: Student) -> np.ndarray:
    return np.asarray(teacher.predict(pairs(), activation_fn=IDENTITY))


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    body = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**body, **values}))


def assert_same_as_the_library(folder: Path, max_length: int) -> np.ndarray:
    theirs, ours = Reference(str(folder), device="cpu"), load_teacher(folder)
    expected = np.asarray(theirs.predict(pairs(), activation_fn=IDENTITY))
    assert expected.std() > 0.1, "the comparison would show nothing"
    np.testing.assert_allclose(logits(ours), expected, atol=1e-5)
    assert ours.max_length == theirs.max_seq_length == max_length
    assert not ours.training
    return expected


@pytest.mark.parametrize(("family", "outputs"), [("bert", 1), ("bert", 3), ("roberta", 1), ("electra", 2)])
def test_folders_of_sentence_transformers(family: str, outputs: int, tmp_path: Path) -> None:
    expected = assert_same_as_the_library(reference(tmp_path / "saved", family, outputs), 20)
    assert expected.shape == ((len(pairs()),) if outputs == 1 else (len(pairs()), outputs))


def test_the_stored_activation_is_not_applied(tmp_path: Path) -> None:
    folder = reference(tmp_path / "saved")
    stored = json.loads((folder / "config_sentence_transformers.json").read_text())["activation_fn"]
    assert stored.endswith("Sigmoid")
    probabilities = np.asarray(Reference(str(folder), device="cpu").predict(pairs()))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits(load_teacher(folder)))), probabilities, atol=1e-5)


def test_a_stored_maximum_length_wins_over_the_tokenizers(tmp_path: Path) -> None:
    folder = reference(tmp_path / "saved")
    before = logits(load_teacher(folder))
    change(folder / "sentence_bert_config.json", max_seq_length=13)
    assert not np.allclose(assert_same_as_the_library(folder, 13), before, atol=1e-3)
    assert load_teacher(folder, max_length=9).max_length == 9


def classifier(folder: Path, model_max_length: int, **sizes: int) -> Path:
    """A plain sequence-classification folder."""
    torch.manual_seed(5)
    config = AutoConfig.for_model("bert", vocab_size=65, **{**SIZES, "max_position_embeddings": 160, **sizes})
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    shake(model)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = model_max_length
    tokenizer.save_pretrained(folder)
    return folder


def test_plain_classifiers(tmp_path: Path) -> None:
    assert_same_as_the_library(classifier(tmp_path / "plain", 40), 40)


def test_without_a_maximum_length_the_models_positions_count(tmp_path: Path) -> None:
    assert_same_as_the_library(classifier(tmp_path / "plain", 10**30), 160)


def test_models_of_long_texts_read_as_much_as_in_the_library(tmp_path: Path) -> None:
    assert_same_as_the_library(classifier(tmp_path / "long", 1000, max_position_embeddings=1100), 1000)


@pytest.fixture
def taught(base: Path, tmp_path: Path) -> Path:
    """What `pairstill teach` leaves: a student folder with a cross-encoder."""
    CrossEncoder.from_sequence_classification(str(base), outputs=1, max_length=24).save_pretrained(tmp_path / "taught")
    return tmp_path / "taught"


def test_taught_folders(taught: Path) -> None:
    teacher = load_teacher(taught)
    expected = CrossEncoder.from_pretrained(taught)
    assert teacher.max_length == 24
    np.testing.assert_array_equal(logits(teacher), np.asarray(expected.predict(pairs(), activation_fn=IDENTITY)))


def test_a_maximum_length_is_no_less_heeded_for_taught_folders(taught: Path) -> None:
    shorter = load_teacher(taught, max_length=12)
    assert shorter.max_length == 12
    assert not np.allclose(logits(shorter), logits(load_teacher(taught)), atol=1e-5)
    with pytest.raises(InputError, match="the maximum length is 1000 tokens"):
        load_teacher(taught, max_length=1000)


def test_other_students_are_assistants(base: Path, tmp_path: Path) -> None:
    values = {"encoder": {"base": str(base), "max_lengths": [16]}}
    made = make_student("de-cos", parse_config("de-cos", values))
    made.save_pretrained(tmp_path)
    np.testing.assert_array_equal(logits(load_teacher(tmp_path)), logits(made))
    with pytest.raises(InputError, match=r"the folder holds a 'de-cos', which reads each text by itself"):
        load_teacher(tmp_path, max_length=12)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference(tmp_path_factory.mktemp("saved") / "saved")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def other_sizes(folder: Path) -> None:
    change(folder / "config.json", intermediate_size=40)


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_object(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def module(kind: str, **config: object) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        path = folder / "modules.json"
        modules = json.loads(path.read_text())
        path.write_text(json.dumps([*modules, {"idx": 1, "name": "1", "path": "1_Last", "type": f"library.{kind}"}]))
        if config:
            (folder / "1_Last").mkdir()
            change(folder / "1_Last" / "config.json", **config)

    return add


def odd_modules(folder: Path) -> None:
    (folder / "modules.json").write_text('{"0": "Transformer"}')


def setting(file: str, **values: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / file, **values)


PROBABILITIES = r"modules.json: .*can only give probabilities. Expected: raw logits. Score elsewhere and import: .*--kind probability"
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "configuration alone": (without_weights, "a configuration and no weights. Expected: model.safetensors"),
    "truncated weights": (truncated, "the weights cannot be loaded|cannot be loaded"),
    "weights of other sizes": (other_sizes, "the weights cannot be loaded"),
    "no JSON": (no_json, "config.json, row 1: the file is not JSON"),
    "no object": (no_object, "config.json: the file holds no JSON object"),
    "sigmoid": (module("Sigmoid"), PROBABILITIES),
    "softmax": (module("Softmax"), PROBABILITIES),
    "dense layer with a sigmoid": (
        module("Dense", activation_function="torch.nn.modules.activation.Sigmoid"), PROBABILITIES),
    "pooling": (module("Pooling"), "the module 'Pooling', which is no classification layer.*--kind logit"),
    "language model": (module("LogitScore"), "the module 'LogitScore'"),
    "dense layer": (module("Dense", activation_function="torch.nn.Identity"), "the module 'Dense'"),
    "odd modules": (odd_modules, "modules.json: the file lists no modules"),
    "another task": (
        setting("sentence_bert_config.json", transformer_task="feature-extraction"), "the task 'feature-extraction'"),
    "lower-cased texts": (setting("sentence_bert_config.json", do_lower_case=True), "'do_lower_case' is True"),
    "other processing": (
        setting("sentence_bert_config.json", processing_kwargs={"text": {"max_length": 8}}), "'processing_kwargs' is"),
    "prompt": (
        setting("config_sentence_transformers.json", default_prompt_name="query", prompts={"query": "q: "}),
        "puts the prompt 'query' before texts"),
    "room for no text": (setting("sentence_bert_config.json", max_seq_length=3), "the maximum length is 3 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, saved: Path, tmp_path: Path) -> None:
    spoil, message = REFUSED[case]
    folder = tmp_path / "folder"
    shutil.copytree(saved, folder)
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load_teacher(folder)


@pytest.fixture
def hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of `team/reranker` in a cache of the hub, and no network."""
    cache = tmp_path / "cache"
    snapshot = cache / "models--team--reranker" / "snapshots" / ("0" * 40)
    shutil.copytree(saved, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    for constant, value in (("HF_HUB_CACHE", str(cache)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(f"huggingface_hub.constants.{constant}", value)
    return snapshot


def test_models_of_the_hub_are_read_as_folders_are(hub: Path) -> None:
    teacher = load_teacher("team/reranker")
    assert isinstance(teacher, CrossEncoder)
    assert teacher.max_length == 20
    module("Sigmoid")(hub)
    with pytest.raises(InputError, match=PROBABILITIES):
        load_teacher("team/reranker")


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_base_has_no_trained_classifier(family: str, tmp_path: Path) -> None:
    assert family in FAMILIES
    with pytest.raises(InputError, match=r"Model, which has no classification layer.*pairstill teach"):
        load_teacher(tiny_base(tmp_path / "base", family))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist"):
        load_teacher(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no config\.json"):
        load_teacher(tmp_path)


def test_a_damaged_taught_folder(taught: Path) -> None:
    truncated(taught)
    with pytest.raises(ArtefactError, match=r"model\.safetensors.*checksum"):
        load_teacher(taught)
