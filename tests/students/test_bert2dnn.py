"""BERT2DNN against a plain transcription, its settings, and its training end to end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pairstill.cli.app import main
from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.scoring.fast_head import FastHead
from pairstill.students import BERT2DNN, load_student, make_student
from pairstill.students.fingerprints import representation_fingerprint, student_fingerprint
from pairstill.students.persistence import parse_config
from pairstill.tokens.ngram_text import ngrams
from pairstill.tuples import TupleSet
from tiny import tiny_tuple_set

TEXTS = [("w1 w2 W3", "w3", "w1"), ("", "w5 w6 w7 w8 unseen", ""), ("unseen", "w2 w2 w2 w2", "w4 w4")]
SMALL = {"widths": [12, 8]}
CASES: dict[str, dict[str, Any]] = {
    "published": {},
    "sum": {"combiner": "sum", "head": {"widths": [12], "activation": "gelu"}},
    "mean of the union": {"bag": "union", "combiner": "mean", "head": SMALL},
    "sqrtn of the union of own tables": {"bag": "union", "head": SMALL, "encoder": {"shared": False, "dim": 8}},
    "sum of the union": {"bag": "union", "combiner": "sum", "head": SMALL},
    "skip": {"head": SMALL, "similarity_skip": True},
    "skip over the union of three": {"field_count": 3, "bag": "union", "head": SMALL, "similarity_skip": True},
    "one text": {"field_count": 1, "head": SMALL},
    "three texts, four outputs": {"field_count": 3, "outputs": 4, "combiner": "mean", "head": SMALL, "encoder": {"shared": False}},
    "hashed words": {"head": SMALL, "encoder": {"hash_buckets": 11, "bigrams": False}},
    "two words": {"head": SMALL, "encoder": {"max_lengths": [2, 3]}},
}  # fmt: skip


def build(case: str) -> BERT2DNN:
    values = CASES[case]
    values = {**values, "encoder": {"minimum_count": 1, **values.get("encoder", {})}}
    torch.manual_seed(2)
    corpus = [[f"w{number} w{number + 1}" for number in range(8)]]
    student = make_student("bert2dnn", parse_config("bert2dnn", values), corpus)
    assert isinstance(student, BERT2DNN)
    # With a skip the network starts at zero.
    torch.nn.init.normal_(student.head.output.weight)
    return student.eval()


def transcription(student: BERT2DNN, texts: tuple[str, ...]) -> NDArray[np.float64]:
    """The formula, loop by loop, in double precision."""
    config, places = student.config, student.tokenizer.get_vocab()
    sums, counts = [], []
    for field, text in enumerate(texts):
        table = student.encoder(field).table.weight.detach().double().numpy()
        total, count = np.zeros(config.encoder.dim), 0
        for one in ngrams(text, student.tokenizer.settings, student.max_lengths[field]):
            if config.encoder.hash_buckets is None and one not in places:
                continue
            total = total + table[student.tokenizer.encode([text]).ids[count] if not places else places[one]]
            count += 1
        sums.append(total)
        counts.append(count)
    totals = sums
    if config.bag == "union":
        sums, counts = [np.sum(sums, axis=0)], [sum(counts)]
    parts = []
    for total, count in zip(sums, counts, strict=True):
        divisor = {"sum": 1.0, "mean": float(max(count, 1)), "sqrtn": max(count, 1) ** 0.5}[config.combiner]
        parts.append(total / divisor)
    head = student.head
    weights = np.concatenate([one.weight.detach().double().numpy() for one in head.first], axis=1)  # type: ignore[operator, union-attr]
    hidden = weights @ np.concatenate(parts) + head.first[0].bias.detach().double().numpy()  # type: ignore[operator, union-attr]
    with torch.no_grad():
        rest: NDArray[np.float64] = head.double().output(head.hidden(head.activation(torch.from_numpy(hidden)))).numpy()
    head.float()
    if student.skip is not None:
        for (left, right), scale in zip(student.skip.pairs, student.skip.scale.tolist(), strict=True):
            norms = np.linalg.norm(totals[left]) * np.linalg.norm(totals[right])
            rest = rest + scale[0] * (totals[left] @ totals[right] / norms if norms else 0.0)
    return rest


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_formula_in_both_executions(case: str) -> None:
    student = build(case)
    rows = [one[: student.field_count] for one in TEXTS]
    logits = student.score_texts(rows)
    expected = np.stack([transcription(student, one) for one in rows])
    np.testing.assert_allclose(logits, expected, atol=1e-5)

    encoded = [student.encode(field, [one[field] for one in rows]) for field in range(student.field_count)]
    index = np.random.default_rng(0).integers(0, 3, (50, student.field_count))
    head = FastHead.of(student, threads=1)
    prepared = [head.prepare(field, one) for field, one in enumerate(encoded)]
    wanted = student.score_representations(encoded, index)
    np.testing.assert_allclose(head.score(prepared, index), wanted, atol=1e-5)
    stored = [head.from_arrays(head.arrays(one), np.ones(3, np.int64)) for one in prepared]
    np.testing.assert_array_equal(head.score(stored, index), head.score(prepared, index))
    narrow = FastHead.of(student, "bfloat16", threads=1)
    found = narrow.score([narrow.prepare(field, one) for field, one in enumerate(encoded)], index)
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES)
def test_training_scores_as_the_finished_student_does(case: str) -> None:
    student = build(case)
    encoded = [student.encode(field, [one[field] for one in TEXTS]) for field in range(student.field_count)]
    index = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (20, student.field_count)))
    logits, gradients = [], []
    for training in (False, True):
        student.train(training)
        prepared = [student.prepare(field, one) for field, one in enumerate(encoded)]
        assert ("bag" in prepared[0]) == training
        found = student.score(prepared, index)
        student.zero_grad()
        found.square().sum().backward()
        logits.append(found.detach())
        gradients.append([one.grad.clone() for one in student.head.parameters() if one.grad is not None])
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(*gradients)


def test_sum_and_count_are_kept_apart() -> None:
    student = build("published")
    kept = student.encode(1, ["w1 w2", "unseen"])
    assert kept.vectors.shape == (2, 1, 64)
    assert kept.lengths.tolist() == [1, 1]
    assert kept.scalars is not None
    assert kept.scalars[:, 0].tolist() == [5, 0]
    assert not kept.vectors[1].any()
    with pytest.raises(InputError, match="no counts"):
        student.prepare(0, Representation(kept.vectors, kept.lengths))


def test_costs() -> None:
    student = build("published")
    assert student.multiply_adds_per_pair([3, 9]) == 128 * 1024 + 1024 * 512 + 512 * 128 + 128 * 64 + 64
    assert build("sum of the union").multiply_adds_per_pair([3, 9]) == 64 * 12 + 12 * 8 + 8
    assert student.multiply_adds_per_item(0, 10) == 640
    assert student.bytes_per_item(1, 10) == student.encode(1, ["w1"]).bytes_per_item() == 260
    assert [build("sum of the union").head.multiply_adds_prepared(field) for field in (0, 1)] == [768, 768]


def test_fingerprints_know_the_table_and_what_an_ngram_is() -> None:
    student = build("published")
    before = [representation_fingerprint(student, 0), student_fingerprint(student)]
    assert representation_fingerprint(student, 1) == before[0]
    with torch.no_grad():
        student.head.output.bias.add_(1)
    assert representation_fingerprint(student, 0) == before[0]
    assert student_fingerprint(student) != before[1]
    with torch.no_grad():
        student.encoder(0).table.weight[0, 0] += 1
    assert representation_fingerprint(student, 0) != before[0]
    student.tokenizer.settings = replace(student.tokenizer.settings, split_punctuation=True)
    assert representation_fingerprint(student, 0) != before[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": {"base": "bert"}}, "no setting 'encoder.base'"),
        ({"encoder": {"vocabulary": 0}}, "'encoder.vocabulary' of 'bert2dnn' is 0"),
        ({"encoder": {"hash_buckets": 0}}, "'encoder.hash_buckets' of 'bert2dnn' is 0"),
        ({"combiner": "max"}, "'combiner' of 'bert2dnn' is 'max'"),
        ({"similarity_skip": True, "encoder": {"shared": False}}, "tables of their own"),
        ({"encoder": {"minimum_count": 99}}, r"no n-gram occurs 99 times in 1 texts.*encoder\.minimum_count"),
        ({"encoder": {"max_lengths": [1, 2, 3]}}, "max_lengths has 3 values"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_student("bert2dnn", parse_config("bert2dnn", values), [["w1 w1"]])


def test_without_texts_there_is_no_vocabulary_but_there_are_buckets() -> None:
    with pytest.raises(InputError, match="learns its vocabulary from texts"):
        make_student("bert2dnn", parse_config("bert2dnn", {}))
    hashed = make_student("bert2dnn", parse_config("bert2dnn", {"encoder": {"hash_buckets": 7}}))
    assert len(hashed.tokenizer) == 7


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["pairstill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("fields", [1, 2])
def test_trained_encoded_and_evaluated_by_the_command_line(
    fields: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuple_set = tiny_tuple_set(fields=fields)
    if fields == 1:
        labels = [float(any(f"w{number}" in one.split() for number in range(9))) for one in tuple_set.texts(0)]
        tuple_set = _relabelled(tuple_set, np.array(labels)[tuple_set.index[:, 0]])
    tuple_set.save(tmp_path / "tuples")
    common = ["--tuples", str(tmp_path / "tuples"), "--threads", "1"]
    assert run(
        ["distill", "--student", "bert2dnn", *common, "--out", str(tmp_path / "student"), "--hard-weight", "1", "--pairs", "6400", "--batch-size", "32",
         "--learning-rate", "3e-3", "--average-decay", "0", "--looks", "2", "--precision", "float32", "--set", "encoder.minimum_count=1", "--set", "head.widths=16"],
        monkeypatch,
    ) == 0  # fmt: skip
    student = load_student(tmp_path / "student")
    assert isinstance(student, BERT2DNN)
    train = tuple_set.split("train")
    scores = student.score_tuples(tuple_set, train)[:, 0]
    assert train.labels is not None
    assert scores[train.labels == 1].mean() > scores[train.labels == 0].mean() + 0.5
    assert not (tmp_path / "student" / "training" / "stage-1").exists()


def test_a_base_is_refused_by_the_command_line(
    tuple_set: TupleSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuple_set.save(tmp_path / "tuples")
    arguments = ["distill", "--student", "bert2dnn", "--tuples", str(tmp_path / "tuples"), "--out", str(tmp_path / "out"), "--hard-weight", "1"]  # fmt: skip
    assert run([*arguments, "--base", "bert"], monkeypatch) == 2
    assert "no setting 'encoder.base'" in capsys.readouterr().err
    assert run([*arguments, "--stages", "first"], monkeypatch) == 2
    assert "no stage would train this bert2dnn" in capsys.readouterr().err


def _relabelled(tuple_set: TupleSet, labels: np.ndarray) -> TupleSet:
    import pyarrow as pa

    table = tuple_set.tuples
    return replace(tuple_set, tuples=table.set_column(table.column_names.index("label"), "label", pa.array(labels)))
