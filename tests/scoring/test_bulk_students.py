"""Margin-MSE's students and the poly-encoder in bulk jobs and in `bench head`: by a fast head, or by the student itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bulk_samples import make_sample
from pairstill.errors import InputError
from pairstill.evaluation import head_benchmark
from pairstill.evaluation.head_benchmark import HeadSetting, benchmark_head
from pairstill.scoring.bulk.scorer import FastScorer, ScorerSettings, StudentScorer, make_scorer
from pairstill.scoring.encode import EncodeSettings, encode_store
from pairstill.store import RepresentationStore


@pytest.mark.parametrize("name", ["bert-dot", "colbert", "poly-encoder", "prettr", "tk"])
def test_stored_items_score_as_texts_do(base: Path, tmp_path: Path, name: str) -> None:
    sample = make_sample(base, tmp_path, name, (5, 9))
    stores = [RepresentationStore.open(folder) for folder in sample.stores.values()]
    ragged = [sample.student.kept_vectors(field) is None for field in range(2)]
    assert [store.stride for store in stores] == ["ragged" if one else "fixed" for one in ragged]
    table = sample.run(tmp_path / "job")
    places = [[sample.ids[field].index(one) for one in table[field].to_pylist()] for field in ("query", "item")]
    texts = [(sample.texts["query"][left], sample.texts["item"][right]) for left, right in zip(*places, strict=True)]
    expected = np.asarray(sample.student.predict(texts, activation_fn=torch.nn.Identity()))
    assert len(expected) == 45
    np.testing.assert_allclose(table["score"].to_numpy(), expected, atol=2e-5, rtol=1e-5)
    scorer = make_scorer(sample.student, stores, ScorerSettings("", (), (), "float32"))
    assert isinstance(scorer, StudentScorer if name == "prettr" else FastScorer)


def test_a_ragged_store_has_no_prepared_part(base: Path, tmp_path: Path) -> None:
    sample = make_sample(base, tmp_path, "colbert", (3, 3))
    with pytest.raises(InputError, match="a ragged store keeps no prepared part"):
        encode_store(sample.student, 0, ["a"], ["w1"], tmp_path / "p", "query", EncodeSettings(prepared=True))


@pytest.mark.parametrize("name", ["prettr", "colbert"])
def test_heads_are_benchmarked_with_and_without_a_fast_form(
    base: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_benchmark, "matrix_peak", lambda precision: 1e9)
    sample = make_sample(base, tmp_path, name, (5, 9))
    student = sample.student
    blocks = tuple(student.encode(field, texts) for field, texts in enumerate(sample.texts.values()))
    head, skip = student.scoring_head() or (None, None)
    setting = HeadSetting(name, head, blocks, student.multiply_adds_per_pair([4, 4]), skip, student)
    result = benchmark_head(setting, pairs=1024, seconds=0.1, bert_base="none", precisions=["float32"])
    assert result["pairs_per_s"] > 0
    assert result["plain_head_pairs_per_s"] > 0
    assert result["precisions"]["float32"]["kendall_tau_vs_float32"] == 1
