"""Every student keeps the contract of the three steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation
from pairstill.students import load_student, make_student
from pairstill.students.persistence import parse_config
from student_cases import CASES, FIELD_CASES, ITEMS, NUMBERS, build, inputs, tuples_for
from tiny import FAMILIES, WORDS, tiny_base


@pytest.mark.parametrize("case", [*CASES, *FIELD_CASES])
def test_three_steps(base: Path, case: str, tmp_path: Path) -> None:
    student = build(base, case)
    tuples = tuples_for(student)
    logits = np.asarray(student.predict(tuples, activation_fn=torch.nn.Identity()))
    alone = np.concatenate([np.atleast_1d(student.predict([one], activation_fn=torch.nn.Identity())) for one in tuples])
    np.testing.assert_allclose(
        logits, alone.reshape(logits.shape), atol=1e-5, err_msg="scores depend on the other rows"
    )

    encoded = [student.encode(field, [one[field] for one in tuples]) for field in range(student.field_count)]
    rows = np.array([[2] * student.field_count, [0] * student.field_count, [2] * student.field_count])
    by_index = student.score_representations(encoded, rows).reshape(3, -1)
    np.testing.assert_allclose(by_index, logits.reshape(len(tuples), -1)[[2, 0, 2]], atol=1e-5)

    crossed = np.stack([np.repeat(np.arange(4), 4), *[np.tile(np.arange(4), 4)] * (student.field_count - 1)], axis=1)
    direct = [tuple(tuples[place][field] for field, place in enumerate(row)) for row in crossed]
    expected = np.asarray(student.predict(direct, activation_fn=torch.nn.Identity())).reshape(16, -1)
    np.testing.assert_allclose(student.score_representations(encoded, crossed, block=5), expected, atol=1e-5)

    student.save_pretrained(tmp_path)
    again = load_student(tmp_path)
    assert type(again) is type(student)
    assert again.config == student.config
    np.testing.assert_array_equal(np.asarray(again.predict(tuples, activation_fn=torch.nn.Identity())), logits)


@pytest.mark.parametrize("case", ["dipair-ffnn", "dipair-tsf"])
def test_slots_that_no_item_fills_may_be_missing(base: Path, case: str) -> None:
    student = build(base, case)
    whole = student.encode(1, ["w1", "w2"])
    longest = int(whole.lengths.max())
    cut = Representation(whole.vectors[:, :longest], whole.lengths, whole.similarity)
    assert longest < whole.vectors.shape[1]
    with torch.inference_mode():
        for name, tensor in student.prepare(1, whole).items():
            torch.testing.assert_close(student.prepare(1, cut)[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("case", [*CASES, *FIELD_CASES])
def test_gradients_flow_through_the_steps(base: Path, case: str) -> None:
    student = build(base, case).train()
    prepared = []
    for field in range(student.field_count):
        tokens = student.tokenize(field, ITEMS.get(student.kinds[field], ["w1 w2 w3", "w4 w5"])[:2])
        ids, lengths = tokens.padded(np.arange(2))
        outputs = student.encoder_outputs(field, torch.from_numpy(ids), torch.from_numpy(lengths))
        prepared.append(student.prepare(field, student.project(field, outputs)))
    index = torch.tensor([[0] * student.field_count, [1] * student.field_count])
    student.score(prepared, index).square().sum().backward()
    missing = [name for name, one in student.named_parameters() if one.grad is None]
    assert missing == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, None])
def test_first_layers_of_every_family(family: str, layers: int | None, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", family)
    for name in ("de-cos", "cross-encoder"):
        values = {"encoder": {"base": str(base), "layers": layers, "max_lengths": [16]}}
        student = make_student(name, parse_config(name, values)).eval()
        scores = np.asarray(student.predict([("w1 w2", "w2 w3"), ("w1", "w9")]))
        assert np.isfinite(scores).all()
        student.save_pretrained(tmp_path / name)
        np.testing.assert_array_equal(
            np.asarray(load_student(tmp_path / name).predict([("w1 w2", "w2 w3"), ("w1", "w9")])), scores
        )


def test_a_student_with_skip_starts_at_the_floor_of_its_base(base: Path) -> None:
    texts = [("w1 w2 w3", "w3 w1"), ("w1 w2 w3", "w30 w31"), ("w4 w5", "w5"), ("w4 w5", "w50 w51 w52")]
    values = {"encoder": {"base": str(base)}}
    floor = make_student("de-cos", parse_config("de-cos", values)).predict(texts, activation_fn=torch.nn.Identity())
    for name in ("de-ffnn", "dipair-ffnn", "dipair-tsf"):
        student = make_student(name, parse_config(name, values))
        scores = np.asarray(student.predict(texts, activation_fn=torch.nn.Identity()))
        assert np.corrcoef(scores, np.asarray(floor))[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_rank_has_the_signature_of_cross_encoders(base: Path) -> None:
    student = build(base, "dipair-tsf")
    documents = ["w1", "w2 w3", "w4 w5 w6"]
    ranked = student.rank("w1 w2", documents, top_k=2, return_documents=True)
    scores = np.asarray(student.predict([("w1 w2", one) for one in documents]))
    assert [one["corpus_id"] for one in ranked] == list(np.argsort(-scores)[:2])
    assert ranked[0]["text"] == documents[ranked[0]["corpus_id"]]
    raw = student.rank("w1 w2", documents, top_k=1, show_progress_bar=False, activation_fn=torch.nn.Identity())
    assert 1 / (1 + np.exp(-raw[0]["score"])) == pytest.approx(scores.max(), abs=1e-6)
    assert isinstance(student.predict(("w1", "w2"), convert_to_numpy=False), torch.Tensor)
    with pytest.raises(InputError, match="use `predict`"):
        build(base, "dipair-tsf of three").rank("w1", documents)


def test_multiply_adds_are_those_of_the_paper(base: Path) -> None:
    for keep, dim, millions in (([4, 12], 128, 6.13), ([4, 8], 256, 11.75)):
        values = {"encoder": {"base": str(base)}, "keep": keep, "projection": dim, "similarity_skip": False}
        student = make_student("dipair-tsf", parse_config("dipair-tsf", values))
        assert student.multiply_adds_per_pair([5, 20]) / 1e6 == pytest.approx(millions, abs=0.01)
        assert student.bytes_per_item(1, 20) == 4 * keep[1] * dim


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("de-cos", {"outputs": 3}, "compares two vectors and gives one number"),
        ("de-cos", {"field_count": 3}, "compares two vectors and gives one number"),
        ("bert-dot", {"outputs": 2}, "a dot product compares two texts and gives one number; 2 fields and 2 outputs"),
        ("colbert", {"outputs": 3}, "MaxSim compares two texts and gives one number"),
        ("colbert", {"query_masks": -1}, "'query_masks' of 'colbert' is -1"),
        ("colbert", {"query_length": 200}, "filled up to 200 tokens and cut at 128"),
        ("colbert", {"markers": True}, r"no \[unused0\]\. Choose another base, or set markers=false"),
        ("colbert", {"encoder": {"max_lengths": [10]}}, "10 of which are special ones"),
        ("poly-encoder", {"outputs": 2}, "a poly-encoder compares two texts and gives one number"),
        ("poly-encoder", {"output_scaling": 0.0}, "'output_scaling' of 'poly-encoder' is 0.0"),
        (
            "poly-encoder",
            {"context_from": "first", "encoder": {"max_lengths": [32]}},
            "64 are to be kept. Expected: contexts of at most 32. Lower contexts, or raise the maximum length",
        ),
        ("prettr", {"split": 3}, "3 layers are to read the texts apart, of 3. Expected: a split of 1 to 2"),
        ("prettr", {"split": 1, "encoder": {"max_lengths": [60, 101]}}, "161 tokens together. Expected: at most 160"),
        ("tk", {"outputs": 2}, "kernel pooling compares two texts and gives one number"),
        ("tk", {"second_offset": -1}, "'second_offset' of 'tk' is -1"),
        (
            "tk",
            {"attention_heads": 5},
            "5 .* divide the dimension 32 .*Expected: a divisor of 32. Set attention_heads=8,",
        ),
        ("tk", {"encoder": {"word_vectors": "/no/such/file"}}, "word vectors does not exist"),
        (
            "dipair-tsf",
            inputs("text", "numeric") | {"similarity_skip": True},
            "the fields are text and numeric. Expected: fields of texts, or of images",
        ),
        (
            "dipair-tsf",
            {"inputs": {"kinds": ["text", "numeric"]}},
            r"'inputs.numeric.features' is \(\). Expected: 1, one a numeric field",
        ),
        ("dipair-tsf", inputs("text", "numeric", "text"), "inputs.kinds has 3 values. Expected: 1, or 2"),
        ("de-cos", {"inputs": {"kinds": ["text", "sound"]}}, "'inputs.kinds.1' of 'de-cos' is 'sound'"),
        ("de-cos", {"inputs": {"numeric": {"width": [8]}}}, "Did you mean 'inputs.numeric.widths'"),
        ("prettr", {"inputs": {"kinds": ["text"]}}, "'prettr' has no setting 'inputs'"),
        ("de-cos", {"inputs": {"kinds": ["text", "image"]}}, "no encoder of images is named. Set inputs.image.base"),
        ("de-cos", {"inputs": {"kinds": ["image"], "image": {"base": "/no/such/folder"}}}, "does not exist"),
        ("dipair-tsf", {"kep": [4]}, "Did you mean 'keep'"),
        ("dipair-tsf", {"head": {"layer": 2}}, "Did you mean 'head.layers'"),
        ("dipair-tsf", {"head": {"layers": "many"}}, "'head.layers' of 'dipair-tsf' is 'many'"),
        ("dipair-tsf", {"keep": [4, 4, 4]}, "keep has 3 values"),
        (
            "dipair-tsf",
            {"projection": 9, "head": {"attention_heads": 2}},
            "Expected: head.attention_heads that divide 9. Change",
        ),
        ("dipair-tfs", {}, "bert2dnn, colbert, cross-encoder, de-cos"),
        ("de-ffnn", {"encoder": {"layers": 9}}, "has 3 layers, 9 were asked for"),
        (
            "de-ffnn",
            {"encoder": {"layers": 3, "shape": "tiny"}},
            "the shape has 2 layers, 3 were asked for. Expected: 1 to 2",
        ),
        ("cross-encoder", {"encoder": {"layers": 3, "shape": "tiny"}}, "the shape has 2 layers, 3 were asked for"),
        (
            "twinbert-cos",
            {"encoder": {"tri_letter": {"unicode": True}}},
            "encoder.tri_letter has no effect on word pieces",
        ),
        ("de-ffnn", {"encoder": {"base": "/no/such/folder"}}, "does not exist"),
        ("de-cos", {"encoder": {"max_lengths": [200]}}, "maximum length is 200 tokens. Expected: 3 to 160"),
        ("de-cos", {"encoder": {"max_lengths": [2]}}, "maximum length is 2 tokens"),
        ("cross-encoder", {"encoder": {"max_lengths": [4]}}, "Expected: 5 to 160"),
        ("de-cos", {"encoder": {"max_lengths": [0]}}, "'encoder.max_lengths' of 'de-cos' is"),
        ("de-cos", {"encoder": {"dropout": 1.5}}, "0 or more, below 1"),
        ("dipair-tsf", {"keep": [0]}, "'keep' of 'dipair-tsf' is"),
        ("dipair-tsf", {"projection": 0}, "'projection' of 'dipair-tsf' is 0"),
        ("dipair-tsf", {"head": {"attention_heads": 0}}, "'head.attention_heads' of 'dipair-tsf' is 0"),
        ("de-ffnn", {"head": {"widths": []}}, "'head.widths' of 'de-ffnn' is"),
        ("de-ffnn", {"outputs": 0}, "'outputs' of 'de-ffnn' is 0"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(
    base: Path, name: str, values: dict[str, Any], message: str
) -> None:
    values = {**values, "encoder": {"base": str(base), **values.get("encoder", {})}}
    with pytest.raises(InputError, match=message):
        make_student(name, parse_config(name, values))


def test_wrong_tuples_are_refused(base: Path) -> None:
    student = build(base, "de-cos")
    with pytest.raises(InputError, match=r"row 2.*2 texts"):
        student.predict([("w1", "w2"), ("w1", "w2", "w3")])
    mixed = build(base, "de-ffnn of texts and numbers")
    for row, message in (
        (("w1", (1.0, 2.0)), r"field 2 of tuple 2 is \(1.0, 2.0\). Expected: 3 finite numbers"),
        (("w1", (1.0, 2.0, float("nan"))), "Expected: 3 finite numbers"),
        (("w1", "w2"), "field 2 of tuple 2 is 'w2'. Expected: 3 finite numbers"),
        (((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), "field 1 of tuple 2 is .*. Expected: a text"),
        (("w1",), "row 2"),
    ):
        with pytest.raises(InputError, match=message):
            mixed.predict([("w1", NUMBERS[0]), row])
    with pytest.raises(InputError, match=r"item 2 is .*. Expected: 3 finite numbers"):
        mixed.encode(1, [NUMBERS[0], [1.0]])


def test_numbers_are_taken_as_arrays_lists_and_tuples(base: Path) -> None:
    student = build(base, "de-ffnn of texts and numbers")
    expected = np.asarray(student.predict([("w1", NUMBERS[0])]))
    for kind in (list, np.array, torch.tensor):
        np.testing.assert_array_equal(np.asarray(student.predict([("w1", kind(NUMBERS[0]))])), expected)
    assert float(student.predict(("w1", NUMBERS[0]))) == pytest.approx(float(expected[0]))


def test_numbers_are_standardised_by_the_training_items(base: Path) -> None:
    student = build(base, "de-ffnn of texts and numbers")
    items = np.array(NUMBERS)
    outputs = student.encode(1, NUMBERS, before_projection=True)
    np.testing.assert_allclose(outputs.vectors[:, 0], (items - items.mean(0)) / items.std(0), rtol=1e-5, atol=1e-6)
    values = {**FIELD_CASES["de-ffnn of texts and numbers"][1], "encoder": {"base": str(base), "max_lengths": [16]}}
    constant = make_student("de-ffnn", parse_config("de-ffnn", values), [WORDS, [(1.0, 2.0, 3.0)] * 2])
    np.testing.assert_array_equal(constant.encode(1, [(2.0, 2.0, 3.0)], before_projection=True).vectors, [[[1, 0, 0]]])


def test_a_folder_that_does_not_say_what_its_fields_are_is_refused(base: Path, tmp_path: Path) -> None:
    build(base, "de-ffnn of texts and numbers").save_pretrained(tmp_path)
    (tmp_path / "inputs.json").write_text('{"format": "pairstill/inputs", "version": 9}')
    with pytest.raises(ArtefactError, match=r"inputs.json: .*which fields"):
        load_student(tmp_path)


def test_damaged_student_folders_are_refused(base: Path, tmp_path: Path) -> None:
    build(base, "de-cos").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds a 'de-cos'"):
        type(build(base, "dipair-tsf")).from_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtefactError, match="checksum"):
        load_student(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"version": 1', '"version": 2'))
    with pytest.raises(ArtefactError, match="Upgrade"):
        load_student(tmp_path)
    with pytest.raises(ArtefactError, match="no Pairstill student"):
        load_student(base)


def test_a_student_folder_is_no_base_until_it_is_exported(base: Path, tmp_path: Path) -> None:
    build(base, "de-cos").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"pairstill export --student {tmp_path}"):
        build(tmp_path, "de-cos")


def test_a_student_folder_without_its_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    build(base, "de-cos").save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ArtefactError, match="tokenizer cannot be loaded"):
        load_student(tmp_path)


def test_the_card_stays_with_a_student_up_to_the_hub(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: dict[str, str] = {}

    class Hub:
        def __init__(self, token: str | None) -> None:
            assert token == "secret"

        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            assert (repository, private, exist_ok) == ("me/student", True, True)

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
            assert load_student(folder_path).name == "de-cos"
            uploaded.update({one.name: "" for one in Path(folder_path).iterdir()})
            uploaded["README.md"] = (Path(folder_path) / "README.md").read_text(encoding="utf-8")
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    build(base, "de-cos").save_pretrained(tmp_path, "# A card\n\nWhat it was made of.\n")
    assert load_student(tmp_path).push_to_hub("me/student", token="secret") == "https://hub/me/student"
    assert uploaded["README.md"] == "# A card\n\nWhat it was made of.\n"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(uploaded)


@pytest.mark.parametrize(
    ("case", "pretrained"),
    [("cross-encoder", True), ("prettr", True), ("twinbert-cos", True), ("twinbert-cos of tri-letters", False), ("tk", False), ("bert2dnn", False)],
)  # fmt: skip
def test_students_without_layers_of_a_base_say_so(base: Path, case: str, pretrained: bool) -> None:
    assert build(base, case).pretrained is pretrained
