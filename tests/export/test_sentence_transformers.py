"""Students and sentence-transformers folders give the same scores, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.export import export_sentence_transformers, import_sentence_transformers
from pairstill.students import Student, load_student
from retrieval_samples import tiny_student
from tiny import WORDS, tiny_base

library = pytest.importorskip("sentence_transformers")

QUERIES = ["w1 w2 w3", "w9", " ".join(WORDS)]
TEXTS = ["w3", "w14 w15 w1", "w20 w21 w22", " ".join(WORDS[10:50])]
PAIRS = [(query, text) for query in QUERIES for text in TEXTS]


def logits_of(student: Student) -> np.ndarray:
    return np.asarray(student.predict(PAIRS, activation_fn=torch.nn.Identity()))


def similarities(folder: Path) -> np.ndarray:
    model = library.SentenceTransformer(str(folder), device="cpu")
    return model.similarity(model.encode_query(QUERIES), model.encode_document(TEXTS)).numpy().ravel()


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert isinstance(done.exception, PairstillError), (done.exception, done.output)
    return str(done.exception)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("lengths", [[16], [8, 16]])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_cosine_student_goes_there_and_back(pooling: str, lengths: list[int], family: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", family)
    student = tiny_student(base, "de-cos", pooling=pooling, encoder={"max_lengths": lengths, "layers": 2})
    score = export_sentence_transformers(student, tmp_path / "out")
    expected = student.head.similarity()
    assert (score.kind, score.gives, score.scale, score.bias) == (
        "SentenceTransformer",
        "cosine",
        expected.scale,
        expected.bias,
    )
    np.testing.assert_allclose(score.scale * similarities(tmp_path / "out") + score.bias, logits_of(student), atol=1e-5)
    again = import_sentence_transformers(tmp_path / "out")
    assert (again.name, again.config) == ("de-cos", student.config)
    np.testing.assert_array_equal(logits_of(again), logits_of(student))
    # Without Pairstill's note the folder is any folder: the logit is the cosine itself.
    (tmp_path / "out" / "pairstill.json").unlink()
    plain = import_sentence_transformers(tmp_path / "out")
    assert plain.max_lengths == student.max_lengths
    np.testing.assert_allclose(logits_of(plain), similarities(tmp_path / "out"), atol=1e-5)


@pytest.mark.parametrize("values", [{}, {"pooling": "cls"}, {"downscale": 8}])
def test_a_twinbert_of_word_pieces_goes_there_and_back(base: Path, values: dict[str, Any], tmp_path: Path) -> None:
    student = tiny_student(base, "twinbert-cos", **values)
    score = export_sentence_transformers(student, tmp_path / "out")
    assert (score.kind, score.gives) == ("SentenceTransformer", "cosine")
    np.testing.assert_allclose(score.scale * similarities(tmp_path / "out") + score.bias, logits_of(student), atol=1e-5)
    again = import_sentence_transformers(tmp_path / "out")
    assert (again.name, again.config) == ("twinbert-cos", student.config)
    np.testing.assert_array_equal(logits_of(again), logits_of(student))
    (tmp_path / "out" / "pairstill.json").unlink()
    plain = import_sentence_transformers(tmp_path / "out")
    assert plain.name == ("twinbert-cos" if "downscale" in values else "de-cos")
    np.testing.assert_allclose(logits_of(plain), similarities(tmp_path / "out"), atol=1e-5)


def test_a_dense_layer_with_tanh_that_the_library_saved_becomes_a_twinbert(base: Path, tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(str(base), max_seq_length=12), Pooling(32, "mean"), Dense(32, 8)]
    library.SentenceTransformer(modules=modules).save(str(tmp_path / "saved"))
    student = import_sentence_transformers(tmp_path / "saved")
    assert (student.name, student.config.downscale) == ("twinbert-cos", 8)
    np.testing.assert_allclose(logits_of(student), similarities(tmp_path / "saved"), atol=1e-5)
    config = tmp_path / "saved" / "2_Dense" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bias": False}))
    assert "the Dense module has no bias" in refused(
        "--format", "pairstill", "--student", tmp_path / "saved", "--out", tmp_path / "out"
    )


@pytest.mark.parametrize("values", [{}, {"pooling": "cls", "projection": 8, "scaled": False}])
def test_a_dot_product_goes_there_and_back(base: Path, values: dict[str, Any], tmp_path: Path) -> None:
    student = tiny_student(base, "bert-dot", **values)
    score = export_sentence_transformers(student, tmp_path / "out")
    assert score.gives == "dot"
    expected = score.scale * similarities(tmp_path / "out") + score.bias
    np.testing.assert_allclose(expected, logits_of(student), rtol=1e-6, atol=1e-5)
    again = import_sentence_transformers(tmp_path / "out")
    assert again.config == student.config
    np.testing.assert_array_equal(logits_of(again), logits_of(student))
    (tmp_path / "out" / "pairstill.json").unlink()
    plain = import_sentence_transformers(tmp_path / "out")
    assert plain.name == "bert-dot"
    np.testing.assert_allclose(logits_of(plain), similarities(tmp_path / "out"), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("de-cos", {}),
        ("de-cos", {"pooling": "cls"}),
        ("bert-dot", {"projection": 8}),
        ("twinbert-cos", {"downscale": 8}),
    ],
)
def test_separate_encoders_become_routes(base: Path, name: str, values: dict[str, Any], tmp_path: Path) -> None:
    student = tiny_student(base, name, **values, encoder={"shared": False, "max_lengths": [8, 16]})
    with torch.no_grad():
        for part in (*student.encoders, *student.projections):
            for weights in part.parameters():
                weights.add_(torch.randn_like(weights) * 0.1)
    score = export_sentence_transformers(student, tmp_path / "out")
    expected = score.scale * similarities(tmp_path / "out") + score.bias
    np.testing.assert_allclose(expected, logits_of(student), rtol=1e-6, atol=1e-5)
    again = import_sentence_transformers(tmp_path / "out")
    assert (again.name, again.config) == (name, student.config)
    np.testing.assert_array_equal(logits_of(again), logits_of(student))
    model = library.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    with pytest.raises(ValueError, match=r"[Cc]ould not determine route"):
        model.encode(["neither a query nor a document"])
    (tmp_path / "out" / "pairstill.json").unlink()
    with pytest.raises(PairstillError, match="modules of their own"):
        import_sentence_transformers(tmp_path / "out")


def test_what_the_library_saved_becomes_a_student(base: Path, tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    for name, modules, metric in (
        ("cosine", [Pooling(32, "mean")], "cosine"),
        ("normalised", [Pooling(32, "cls"), Normalize()], "dot"),
    ):
        transformer = Transformer(str(base), max_seq_length=12)
        library.SentenceTransformer(modules=[transformer, *modules], similarity_fn_name=metric).save(
            str(tmp_path / name)
        )
        done = CliRunner().invoke(
            app,
            [
                "export",
                "--format",
                "pairstill",
                "--student",
                str(tmp_path / name),
                "--out",
                str(tmp_path / f"{name}-student"),
            ],
        )
        assert done.exit_code == 0, done.exception
        assert "de-cos" in done.stdout
        assert "the logit is 1 * cosine +0" in done.stdout
        student = load_student(tmp_path / f"{name}-student")
        assert student.max_lengths == (12, 12)
        np.testing.assert_allclose(logits_of(student), similarities(tmp_path / name), atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_cross_encoder_goes_there_and_back(base: Path, outputs: int, tmp_path: Path) -> None:
    student = tiny_student(base, "cross-encoder", outputs=outputs)
    student.save_pretrained(tmp_path / "student")
    done = CliRunner().invoke(app, ["export", "--student", str(tmp_path / "student"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.exception
    assert "for sentence_transformers.CrossEncoder" in done.stdout
    assert "what the folder's classifier gives" in done.stdout
    model = library.CrossEncoder(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(model.predict(PAIRS, activation_fn=torch.nn.Identity()), logits_of(student), atol=1e-5)
    np.testing.assert_allclose(model.predict(PAIRS), student.predict(PAIRS), atol=1e-5)
    again = import_sentence_transformers(tmp_path / "out")
    assert again.config == student.config
    np.testing.assert_array_equal(logits_of(again), logits_of(student))
    (tmp_path / "out" / "pairstill.json").unlink()
    np.testing.assert_array_equal(logits_of(import_sentence_transformers(tmp_path / "out")), logits_of(student))


def test_the_verb_says_what_the_score_is(base: Path, tmp_path: Path) -> None:
    student = tiny_student(base, "de-cos")
    student.head.load_state_dict({"scale": torch.tensor(7.5), "bias": torch.tensor(-2.25)})
    student.save_pretrained(tmp_path / "student")
    done = CliRunner().invoke(app, ["export", "--student", str(tmp_path / "student"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.exception
    said = "the student's logit is 7.5 * cosine -2.25; `SentenceTransformer.similarity` gives the cosine"
    assert said in done.stdout
    assert said in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "pairstill.json").read_text())["score"] == {
        "kind": "SentenceTransformer", "gives": "cosine", "scale": 7.5, "bias": -2.25,
    }  # fmt: skip
    done = CliRunner().invoke(
        app, ["export", "--format", "pairstill", "--student", str(tmp_path / "out"), "--out", str(tmp_path / "back")]
    )
    assert done.exit_code == 0, done.exception
    assert "the logit is 7.5 * cosine -2.25" in done.stdout
    np.testing.assert_array_equal(logits_of(load_student(tmp_path / "back")), logits_of(student))


def test_students_that_the_library_has_no_architecture_for(base: Path, tmp_path: Path) -> None:
    for name, values, message in (
        ("de-ffnn", {}, "no architecture like a de-ffnn"),
        ("dipair-tsf", {"keep": [2]}, "no architecture like a dipair-tsf"),
        ("cross-encoder", {"field_count": 3}, "the cross-encoder joins 3 texts"),
        ("cross-encoder", {"classifier": "linear", "outputs": 1}, "one linear layer on the first token's vector"),
        ("twinbert-cos", {"pooling": "weighted"}, "trained with pooling=weighted"),
        ("twinbert-cos", {"downscale": 8, "eight_bit": "others"}, "trained with eight_bit=others"),
    ):
        folder = tmp_path / f"{name}{len(values)}"
        tiny_student(base, name, **values).save_pretrained(folder)
        assert message in refused("--student", folder, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert "the output exists" in refused("--student", folder, "--out", folder)


def test_folders_that_compute_something_else(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    export_sentence_transformers(tiny_student(base, "de-cos"), folder)
    (folder / "pairstill.json").unlink()

    def with_change(file: str, change: dict[str, Any]) -> str:
        path = folder / file
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), **change}))
        message = refused("--format", "pairstill", "--student", folder, "--out", tmp_path / "out")
        path.write_text(before)
        return message

    assert "the pooling is max_tokens" in with_change(
        "1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    )
    assert "compares by 'manhattan'" in with_change(
        "config_sentence_transformers.json", {"similarity_fn_name": "manhattan"}
    )
    assert "prompts before texts (query: 'ask: ')" in with_change(
        "config_sentence_transformers.json", {"prompts": {"query": "ask: "}}
    )
    assert "the setting 'do_lower_case' is True" in with_change("sentence_bert_config.json", {"do_lower_case": True})
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {**modules[1], "type": "x.WeightedLayerPooling"}]))
    assert "the folder's modules are Transformer, Pooling, Normalize, WeightedLayerPooling" in refused(
        "--format", "pairstill", "--student", folder, "--out", tmp_path / "out"
    )
    (folder / "modules.json").write_text("3")
    assert "the file lists no modules" in refused(
        "--format", "pairstill", "--student", folder, "--out", tmp_path / "out"
    )
    (folder / "pairstill.json").write_text('{"format": "pairstill/exported-student", "version": 2}')
    assert "version 2" in refused("--format", "pairstill", "--student", folder, "--out", tmp_path / "out")
    (folder / "pairstill.json").write_text('{"format": "pairstill/exported-student", "version": 1}')
    assert "the export is damaged" in refused("--format", "pairstill", "--student", folder, "--out", tmp_path / "out")
    assert "the folder does not exist" in refused(
        "--format", "pairstill", "--student", tmp_path / "none", "--out", tmp_path / "out"
    )


MULTI_VECTOR: dict[str, dict[str, Any]] = {
    "as it is": {"query_masks": 0},
    "as in ColBERT v1": {
        "query_length": 10, "attend_to_masks": False, "projection": 8, "projection_bias": False, "normalise": True,
        "markers": True, "skip_punctuation": True,
    },
    "attending to masks": {"query_length": 6, "scaled": False},
    "of two lengths": {"query_masks": 0, "encoder": {"max_lengths": [8, 16]}},
    "of separate encoders": {"query_length": 8, "encoder": {"shared": False}},
    "with masks": {"query_masks": 4, "encoder": {"max_lengths": [12, 16]}},
    "with masks and markers": {"query_masks": 3, "markers": True, "skip_punctuation": True, "projection": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def marked_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows ColBERT's markers and a full stop, with BERT's own tokenizer, which frames texts by itself."""
    folder = tiny_base(tmp_path_factory.mktemp("marked"))
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    for old, new in (("w57", "[unused0]"), ("w58", "[unused1]"), ("w59", ".")):
        vocabulary[new] = vocabulary.pop(old)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.mark.parametrize("case", MULTI_VECTOR)
def test_late_interaction_goes_there_and_back(marked_base: Path, case: str, tmp_path: Path) -> None:
    student = tiny_student(marked_base, "colbert", **MULTI_VECTOR[case])
    texts = [*TEXTS, "w3 . w1 . w2"]
    score = export_sentence_transformers(student, tmp_path / "out")
    assert (score.kind, score.gives) == ("MultiVectorEncoder", "maxsim")

    def ours(one: Student) -> np.ndarray:
        pairs = [(query, text) for query in QUERIES for text in texts]
        return np.asarray(one.predict(pairs, activation_fn=torch.nn.Identity()))

    def given() -> np.ndarray:
        model = library.MultiVectorEncoder(str(tmp_path / "out"), device="cpu")
        return model.similarity(model.encode_query(QUERIES), model.encode_document(texts)).numpy().ravel()

    np.testing.assert_allclose(score.scale * given() + score.bias, ours(student), rtol=1e-6, atol=1e-5)
    again = import_sentence_transformers(tmp_path / "out")
    assert again.config == student.config
    np.testing.assert_array_equal(ours(again), ours(student))
    (tmp_path / "out" / "pairstill.json").unlink()
    if (tmp_path / "out" / "router_config.json").exists():
        with pytest.raises(PairstillError, match="modules of their own"):
            import_sentence_transformers(tmp_path / "out")
    else:
        np.testing.assert_allclose(ours(import_sentence_transformers(tmp_path / "out")), given(), rtol=1e-6, atol=1e-5)


def test_fixed_masks_that_nobody_attends_to_have_no_counterpart(base: Path, tmp_path: Path) -> None:
    tiny_student(base, "colbert", query_masks=4, attend_to_masks=False).save_pretrained(tmp_path / "student")
    assert "puts 4 [MASK] tokens that no other attends to" in refused(
        "--student", tmp_path / "student", "--out", tmp_path / "out"
    )
