"""TwinBERT's formulas against plain transcriptions, and what its settings change."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairstill.cli.app import main
from pairstill.errors import ArtefactError, InputError
from pairstill.evaluation.head_benchmark import _plain as plain_form
from pairstill.evaluation.head_benchmark import named_setting
from pairstill.losses import DistillationLoss
from pairstill.scoring.encode import EncodeSettings, encode_store
from pairstill.scoring.fast_head import FastHead
from pairstill.store import RepresentationStore, write_store
from pairstill.students import Student, load_student, make_student
from pairstill.students.encoders.transformer import weighted_pool
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.students.fingerprints import representation_fingerprint, student_fingerprint
from pairstill.students.heads.residual import ResidualHead, ResidualHeadConfig
from pairstill.students.persistence import parse_config
from pairstill.students.twinbert import eight_bit_levels
from pairstill.training.data import TrainingData
from pairstill.training.procedures import DistillationPlan, distil, initialise_similarity
from pairstill.training.settings import TrainingSettings
from pairstill.tuples import TupleSet
from tiny import WORDS, tiny_base

TEXTS = ["w1 w2 w3", "w4", "W10,w11 " * 9, "", "unseen w9"]
CORPUS = [WORDS, WORDS]


def make(name: str, corpus: Any = CORPUS, **values: Any) -> Student:
    torch.manual_seed(3)
    return make_student(name, parse_config(name, values), corpus).eval()


def tri_letter(base: Path | None = None, **values: Any) -> dict[str, Any]:
    where = {"shape": "tiny"} if base is None else {"base": str(base)}
    return {"tokens": "tri-letter", "max_lengths": [8], **where, **values}


def test_weighted_pooling() -> None:
    torch.manual_seed(0)
    hidden, lengths, weights = torch.randn(3, 5, 4), torch.tensor([5, 1, 3]), torch.randn(4)
    got = weighted_pool(hidden, lengths, weights)
    for row, length in enumerate(lengths.tolist()):
        scores = [float(hidden[row, place] @ weights) + 0.7 for place in range(length)]
        total = sum(np.exp(one) for one in scores)
        expected = sum(np.exp(one) / total * hidden[row, place].numpy() for place, one in enumerate(scores))
        np.testing.assert_allclose(got[row].numpy(), expected, atol=1e-6)
    means = weighted_pool(hidden, lengths, torch.zeros(4))
    np.testing.assert_allclose(means[2].numpy(), hidden[2, :3].mean(dim=0).numpy(), atol=1e-6)


@pytest.mark.parametrize("from_base", [True, False])
def test_words_are_sums_of_tri_letters_and_positions(base: Path, from_base: bool) -> None:
    student = make("twinbert-cos", encoder=tri_letter(base if from_base else None))
    encoder = student.encoders[0]
    assert isinstance(encoder, TriLetterEncoder)
    letters, positions = encoder.letters.weight.detach(), encoder.positions.weight.detach()
    vocabulary = student.tokenizer.get_vocab()
    assert not letters[0].any()
    assert not positions[0].any()
    encoded = student.encode(0, TEXTS)
    for row, text in enumerate(TEXTS):
        words = student.tokenizer.words(text)[:8]
        vectors = []
        for place, word in enumerate(words, start=1):
            vector = positions[place].clone()
            marked = f"#{word or '#'}#"
            for start in range(len(marked) - 2):
                number = vocabulary.get(marked[start : start + 3])
                if number is not None:
                    vector += letters[number]
            vectors.append(vector)
        hidden = torch.stack(vectors)[None]
        with torch.inference_mode():
            for layer in encoder.model.encoder.layer:
                hidden = layer(hidden)
        np.testing.assert_allclose(encoded.vectors[row, 0], hidden[0].mean(dim=0).numpy(), atol=2e-5)


def test_the_released_shape() -> None:
    student = make("twinbert-cos", encoder=tri_letter(shape="twinbert", max_lengths=[32]))
    config = student.encoder_model_config()
    assert config is not None
    assert (config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]) == (6, 512, 512)
    assert config["num_attention_heads"] == 8
    assert config["max_position_embeddings"] == 33
    per_layer = 4 * 512 * 512 + 2 * 512 * 512
    assert student.multiply_adds_per_item(0, 10) == 6 * 10 * (per_layer + 2 * 10 * 512)
    assert student.bytes_per_item(0, 10) == 4 * 512


@pytest.mark.parametrize("combine", ["max", "concat"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_residual_head(combine: Any, depth: int, relu: bool, batch_norm: bool) -> None:
    torch.manual_seed(0)
    head = ResidualHead(ResidualHeadConfig(combine, depth, 7, batch_norm, relu), 4, 2, 2).eval()
    for norm in head.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    vectors = [torch.randn(3, 1, 4), torch.randn(2, 1, 4)]
    index = torch.tensor([[0, 1], [2, 0], [0, 0]])
    got = head.score([head.prepare(field, one, torch.ones(len(one))) for field, one in enumerate(vectors)], index)
    assert head.multiply_adds_per_pair() == sum(
        one.weight.numel() for one in head.modules() if isinstance(one, torch.nn.Linear)
    )
    weights = [torch.cat([one.weight for one in head.first], dim=1), *[one.weight for one in head.hidden]]
    biases = [head.first[0].bias, *[one.bias for one in head.hidden]]
    for row, (left, right) in enumerate(index.tolist()):
        a, b = vectors[0][left, 0], vectors[1][right, 0]
        x = (
            torch.tensor([max(float(p), float(q)) for p, q in zip(a, b, strict=True)])
            if combine == "max"
            else torch.cat([a, b])
        )
        h = x
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            h = weight @ (h if number == 0 else torch.clamp(h, min=0)) + bias
            if batch_norm:
                norm = head.norms[number]
                h = (h - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight + norm.bias
        y = torch.clamp(h + x, min=0) if relu else h + x
        torch.testing.assert_close(got[row], head.output.weight @ y + head.output.bias, atol=1e-5, rtol=1e-5)


def test_batch_normalisation_learns_from_steps_and_takes_a_step_of_one_pair() -> None:
    torch.manual_seed(0)
    head = ResidualHead(ResidualHeadConfig(batch_norm=True, width=8), 4, 2, 1).train()
    items = [head.prepare(field, torch.randn(6, 1, 4), torch.ones(6)) for field in range(2)]
    index = torch.arange(6)[:, None].expand(-1, 2)
    head.score(items, index)
    moved = [norm.running_mean.clone() for norm in head.norms]
    assert all(one.any() for one in moved)
    assert torch.isfinite(head.score(items, index[:1])).all()
    for norm, before in zip(head.norms, moved, strict=True):
        torch.testing.assert_close(norm.running_mean, before)


def test_the_plain_form_that_a_benchmark_compares_with_is_the_head() -> None:
    setting = named_setting("twinbert-res", items=30)
    index = np.stack(np.meshgrid(np.arange(30), np.arange(30)), axis=-1).reshape(-1, 2)
    fast = FastHead(setting.head, None, "float32")  # type: ignore[arg-type]
    logits = fast.score([fast.prepare(field, one) for field, one in enumerate(setting.items)], index)
    with torch.inference_mode():
        plain = plain_form(setting)(torch.from_numpy(index))
    np.testing.assert_allclose(logits, plain.numpy(), atol=1e-5)


def test_eight_bit_levels() -> None:
    values = torch.tensor([-1.0, -0.999, -0.3, 0.01, 0.004, 0.5, 1.0])
    got = eight_bit_levels(values)
    for value, level in zip(values.tolist(), got.tolist(), strict=True):
        q = round((value + 1) / (2 / 255))
        assert level == pytest.approx(q * (2 / 255) - 1, abs=1e-6)
    values.requires_grad_(True)
    eight_bit_levels(values).sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.ones(7))


def test_down_scaling_is_a_projection_and_tanh_and_only_the_stored_side_is_rounded(base: Path) -> None:
    student = make("twinbert-cos", encoder={"base": str(base), "shared": False}, downscale=6, eight_bit="others")
    plain = student.encode(0, TEXTS, before_projection=True).vectors[:, 0]
    weight, bias = (one.detach().numpy() for one in (student.projections[0].weight, student.projections[0].bias))
    expected = np.tanh(plain @ weight.T + bias)
    np.testing.assert_allclose(student.encode(0, TEXTS).vectors[:, 0], expected, atol=1e-5)
    rounded = student.encode(1, TEXTS).vectors[:, 0]
    levels = (rounded + 1) * 255 / 2
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    # Separate towers start from the same base and the same projection.
    np.testing.assert_allclose(rounded, expected, atol=1 / 255 + 1e-5)


def test_bfloat16_towers_agree() -> None:
    student = make("twinbert-cos", encoder=tri_letter())
    wide, narrow = (student.encode(0, TEXTS, precision=one).vectors for one in ("float32", "bfloat16"))
    assert not np.array_equal(wide, narrow)
    np.testing.assert_allclose(narrow, wide, atol=0.1)


def test_stored_and_scored_fast_in_every_precision_of_the_store(tmp_path: Path) -> None:
    student = make(
        "twinbert-res", encoder=tri_letter(), head={"width": 16}, downscale=8, eight_bit="all", similarity_skip=False
    )
    blocks = [student.encode(field, TEXTS) for field in range(2)]
    index = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    expected = student.score_representations(blocks, index)
    head = FastHead.of(student)  # type: ignore[arg-type]
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3), ("int8", 0.03)):
        prepared = []
        for field, block in enumerate(blocks):
            folder = tmp_path / f"{dtype}-{field}"
            write_store(
                folder, lambda start, stop, block=block: block.take(slice(start, stop)), 5,
                encoder_fingerprint=representation_fingerprint(student, field), field=f"field {field}", dtype=dtype,
            )  # fmt: skip
            store = RepresentationStore.open(folder, representation_fingerprint(student, field))
            prepared.append(head.prepare(field, store.gather_tensors(np.arange(5), torch.float32)))
        np.testing.assert_allclose(head.score(prepared, index), expected, atol=tolerance)


def test_vectors_of_eight_bits_are_stored_a_byte_a_number_without_loss(tmp_path: Path) -> None:
    student = make("twinbert-cos", encoder=tri_letter(), downscale=8, eight_bit="others")
    stores = [
        encode_store(student, field, list("abcde"), TEXTS, tmp_path / str(field), "field", EncodeSettings()).store
        for field in range(2)
    ]
    assert [one.dtype for one in stores] == ["float32", "uint8"]
    assert [student.bytes_per_item(field, 3) for field in range(2)] == [32, 8]
    assert [one.bytes_per_item() for one in stores] == [32, 8]
    blocks = [student.encode(field, TEXTS) for field in range(2)]
    np.testing.assert_array_equal(stores[1].gather(np.arange(5), widen=True).vectors, blocks[1].vectors)
    index = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    head = FastHead.of(student)
    prepared = [head.prepare(field, one.gather_tensors(np.arange(5))) for field, one in enumerate(stores)]
    np.testing.assert_allclose(head.score(prepared, index), student.score_representations(blocks, index), atol=1e-5)
    again = encode_store(
        student, 1, list("abcde"), TEXTS, tmp_path / "prepared", "field", EncodeSettings(prepared=True)
    )
    assert again.store.dtype == "float32"


def test_fingerprints_tell_what_an_encoding_depends_on() -> None:
    values = {"encoder": tri_letter(), "downscale": 8}
    one, same = make("twinbert-cos", **values), make("twinbert-cos", **values)
    other = make("twinbert-cos", [["w1 w1"], ["w2 w2"]], **values)
    rounded = make("twinbert-cos", **values, eight_bit="others")
    assert (
        representation_fingerprint(one, 0)
        == representation_fingerprint(same, 0)
        == representation_fingerprint(rounded, 0)
    )
    assert representation_fingerprint(one, 1) != representation_fingerprint(rounded, 1)
    assert representation_fingerprint(one, 0) != representation_fingerprint(other, 0)
    assert student_fingerprint(one) != student_fingerprint(other)


@pytest.mark.parametrize(
    ("values", "corpus", "message"),
    [
        ({"eight_bit": "all"}, CORPUS, "Set downscale"),
        ({"encoder": {"shape": "twinbert"}}, CORPUS, "tokens=tri-letter"),
        ({"encoder": {"tokens": "tri-letter"}}, None, "no texts to learn tri-letters from"),
        ({"encoder": {"tokens": "tri-letter"}}, [["", ""]] * 2, "none of 4 texts has a word"),
        ({"encoder": {"tokens": "tri-letter"}}, [["ab"], []], "no tri-letter occurs 2 times in 1 texts"),
        (
            {"encoder": {"tokens": "tri-letter", "tri_letter": {"letters": 0}}},
            CORPUS,
            "'encoder.tri_letter.letters' of",
        ),
        ({"encoder": {"tokens": "tri-letter", "layers": 9}}, CORPUS, "9 were asked for"),
        ({"outputs": 3}, CORPUS, "compares two vectors and gives one number"),
    ],
)
def test_wrong_settings(base: Path, values: dict[str, Any], corpus: Any, message: str) -> None:
    values = {**values, "encoder": {"base": str(base), **values.get("encoder", {})}}
    with pytest.raises(InputError, match=message):
        make("twinbert-cos", corpus, **values)


def test_layers_of_another_family_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the base is a distilbert"):
        make("twinbert-cos", encoder=tri_letter(tiny_base(tmp_path, "distilbert")))


def test_a_folder_without_its_vocabulary_is_refused(tmp_path: Path) -> None:
    make("twinbert-cos", encoder=tri_letter()).save_pretrained(tmp_path)
    (tmp_path / "tri-letters.json").unlink()
    with pytest.raises(ArtefactError, match="tokenizer cannot be loaded"):
        load_student(tmp_path)


def test_a_fit_does_not_turn_the_cosine_around(base: Path, tuple_set: TupleSet) -> None:
    rows = tuple_set.split("train")
    assert rows.labels is not None
    scales = []
    for labels in (rows.labels, 1 - rows.labels):
        student = make("twinbert-cos", encoder={"base": str(base)})
        data = TrainingData(replace(rows, labels=labels), tuple_set=tuple_set.fingerprint)
        initialise_similarity(student, tuple_set, data, DistillationLoss(hard_weight=1.0))  # type: ignore[arg-type]
        scales.append(float(student.head.scale.detach()))  # type: ignore[union-attr, operator, arg-type]
    assert min(scales) > 0
    assert scales.count(10.0) == 1, "one is fitted, the other keeps its start"


def test_weights_of_the_average_are_new_and_learn_at_the_rate_of_what_is_new(
    base: Path, tuple_set: TupleSet, tmp_path: Path
) -> None:
    student = make("twinbert-cos", encoder={"base": str(base)}, pooling="weighted")
    pools = [tower.pool for tower in student.encoders]  # type: ignore[union-attr]
    assert {id(one) for one in pools} <= {id(one) for one in student.new_parameters()}
    data = TrainingData(tuple_set.split("train"), tuple_set=tuple_set.fingerprint)
    settings = TrainingSettings(pairs=64, batch_size=16, learning_rate=1e-2, encoder_learning_rate=1e-9)
    distil(
        tuple_set, student, data, DistillationLoss(hard_weight=1.0), DistillationPlan(None, settings), tmp_path
    )  # fmt: skip
    assert all(float(one.detach().abs().mean()) > 1e-3 for one in pools)
    settings = replace(settings, encoder_learning_rate=None)
    before = [one.detach().clone() for one in pools]
    distil(
        tuple_set, student, data, DistillationLoss(hard_weight=1.0), DistillationPlan(settings, None), tmp_path / "one"
    )  # fmt: skip
    assert all(map(torch.equal, before, pools)), "stage 1 reads averages that are stored"


def test_texts_of_unknown_tri_letters_alone_have_a_vector() -> None:
    student = make("twinbert-cos", encoder=tri_letter())
    vectors = student.encode(0, ["ooo", "iii eee"]).vectors[:, 0]
    assert np.isfinite(vectors).all()
    assert np.abs(vectors).min(axis=1).all()


def test_trained_through_the_command_line(tuple_set: TupleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuple_set.save(tmp_path / "tuples")
    residual = ["--set", "head.batch_norm=true", "--set", "head.width=16", "--set", "head.combine=concat"]
    for name, extra in (("twinbert-cos", []), ("twinbert-res", residual)):
        out = tmp_path / name
        command = [
            "pairstill", "distill", "--student", name, "--out", str(out), "--tuples", str(tmp_path / "tuples"), "--hard-weight", "1",
            "--precision", "float32", "--threads", "1", "--looks", "2", "--pairs", "256", "--batch-size", "32", "--learning-rate", "1e-3",
            "--max-length", "9", "--set", "encoder.tokens=tri-letter", "--set", "encoder.shape=tiny", "--set", "encoder.layers=1", *extra,
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        student = load_student(out)
        assert not (out / "training" / "stage-1").exists(), "tri-letter towers have nothing to freeze"
        assert "#w1" in student.tokenizer.get_vocab()
        tuples = tuple_set.split("valid")
        scores = student.score_tuples(tuple_set, tuples)
        blocks = [student.encode(field, list(tuple_set.texts(field))) for field in range(2)]
        head = FastHead.of(student)
        fast = head.score([head.prepare(field, one) for field, one in enumerate(blocks)], tuples.index)
        np.testing.assert_allclose(fast, scores, atol=1e-5)
    assert float(load_student(tmp_path / "twinbert-cos").head.scale.detach()) > 0
