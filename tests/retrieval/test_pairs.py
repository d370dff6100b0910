"""Search by scoring pairs gives the student's own logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pairstill.errors import InputError
from pairstill.retrieval import pairs
from pairstill.retrieval.pairs import PairScorer, score_candidates, search_all
from pairstill.scoring.encode import encode_store
from pairstill.students import Student
from retrieval_samples import tiny_student
from tiny import WORDS

ITEMS = [" ".join(WORDS[number : number + 1 + number % 5]) for number in range(20)]
QUERIES = ["w1 w2 w3", "w9", "w14 w15"]
IDS = [f"i{number}" for number in range(20)]
HEAD = {"layers": 2, "attention_heads": 1, "intermediate": 24}
CASES = {
    "de-cos": ("de-cos", {}),
    "bert-dot": ("bert-dot", {}),
    "colbert": ("colbert", {"query_masks": 0, "projection": 8}),
    "de-ffnn": ("de-ffnn", {}),
    "dipair-tsf": ("dipair-tsf", {"keep": [2, 4], "projection": 8, "head": HEAD}),
    "without a fast form": ("dipair-tsf", {"keep": [2, 4], "projection": 8, "head": {**HEAD, "layers": 3}}),
    "cross-encoder": ("cross-encoder", {}),
    "three fields": ("dipair-tsf", {"keep": [2, 3, 4], "field_count": 3}),
    "classes": ("cross-encoder", {"outputs": 3}),
}


def build(base: Path, case: str) -> Student:
    name, values = CASES[case]
    return tiny_student(base, name, **values)


def truth_of(student: Student) -> np.ndarray:
    crossed = [(query, item) for query in QUERIES for item in ITEMS]
    return np.asarray(student.predict(crossed, activation_fn=torch.nn.Identity())).reshape(len(QUERIES), len(ITEMS))


@pytest.mark.parametrize(
    "case", ["de-cos", "bert-dot", "colbert", "de-ffnn", "dipair-tsf", "without a fast form", "cross-encoder"]
)
def test_every_item_and_candidates(base: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BLOCK_ITEMS", 6), ("BLOCK_QUERIES", 2)):
        monkeypatch.setattr(pairs, name, value)
    student = build(base, case)
    store = encode_store(student, 1, IDS, ITEMS, tmp_path, "item").store
    by_id = np.array(sorted(range(20), key=lambda row: IDS[row]))
    queries, truth = student.encode(0, QUERIES), truth_of(student)
    scorer = PairScorer(student, 0)
    found = search_all(scorer, queries, store, by_id, 7)
    np.testing.assert_allclose(found.scores, -np.sort(-truth, axis=1)[:, :7], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(truth, found.rows, 1), found.scores, rtol=1e-5, atol=1e-5)
    candidates = [np.array([19, 3, 7, 8, 2, 0, 11]), np.array([], np.int64), np.array([4])]
    found = score_candidates(scorer, queries, store, by_id, candidates, 5)
    best = sorted(candidates[0], key=lambda row: -truth[0, row])[:5]
    assert found.rows[0].tolist() == best
    assert found.rows[1].tolist() == [-1] * 5
    assert found.rows[2].tolist() == [4, -1, -1, -1, -1]
    np.testing.assert_allclose(found.scores[2, 0], truth[2, 4], rtol=1e-5, atol=1e-5)


def test_the_second_field_may_ask(base: Path, tmp_path: Path) -> None:
    student = build(base, "dipair-tsf")
    store = encode_store(student, 0, IDS, ITEMS, tmp_path, "item").store
    found = search_all(PairScorer(student, 1), student.encode(1, QUERIES), store, np.arange(20), 20)
    crossed = [(item, query) for query in QUERIES for item in ITEMS]
    truth = np.asarray(student.predict(crossed, activation_fn=torch.nn.Identity())).reshape(3, 20)
    np.testing.assert_allclose(np.take_along_axis(truth, found.rows, 1), found.scores, rtol=1e-5, atol=1e-5)


def test_three_fields_and_classes_are_refused(base: Path) -> None:
    for case in ("three fields", "classes"):
        with pytest.raises(InputError, match="Expected: two fields and one output"):
            PairScorer(build(base, case), 0)
