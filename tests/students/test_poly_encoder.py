"""The poly-encoder's two attentions against a plain transcription."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pairstill.students import PolyEncoder, make_student
from pairstill.students.persistence import parse_config

PAIRS = [("w1 w2 w3", "w3 w4"), ("w4", "w5 w6 w7"), ("", "w9")]


def attended(query: np.ndarray, keys: np.ndarray, values: np.ndarray, scale: float) -> np.ndarray:
    """Softmax attention of one query, in loops."""
    products = [scale * sum(float(a) * float(b) for a, b in zip(query, key, strict=True)) for key in keys]
    weights = [math.exp(one - max(products)) for one in products]
    return np.sum([weight / sum(weights) * value for weight, value in zip(weights, values, strict=True)], axis=0)


@pytest.mark.parametrize("attention", ["basic", "scaled"])
@pytest.mark.parametrize("context_from", ["codes", "first"])
def test_scores_are_the_formula(base: Path, context_from: str, attention: str) -> None:
    torch.manual_seed(4)
    values = {
        "encoder": {"base": str(base), "max_lengths": [12]}, "contexts": 5, "context_from": context_from, "attention": attention,
        "output_scaling": 0.5, "scaled": False,
    }  # fmt: skip
    student = make_student("poly-encoder", parse_config("poly-encoder", values)).eval()
    assert isinstance(student, PolyEncoder)
    root = 32**-0.5 if attention == "scaled" else 1.0
    tokens = student.encode(0, [one for one, _ in PAIRS], before_projection=True)
    candidates = student.encode(1, [one for _, one in PAIRS]).vectors[:, 0] * 0.5
    expected = []
    for row, length in enumerate(tokens.lengths):
        contexts = tokens.vectors[row, :length] * 0.5
        if student.codes is not None:
            codes = student.codes.weight.detach().numpy()
            contexts = np.stack([attended(code, contexts, contexts, root) for code in codes])
        context = attended(candidates[row], contexts, contexts, root)
        expected.append(float(context @ candidates[row]))
    found = np.asarray(student.predict(PAIRS, activation_fn=torch.nn.Identity()))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_kept_and_what_stage_1_stores(base: Path) -> None:
    for context_from, stored in (("codes", None), ("first", 5)):
        values = {"encoder": {"base": str(base), "max_lengths": [12]}, "contexts": 5, "context_from": context_from}
        student = make_student("poly-encoder", parse_config("poly-encoder", values)).eval()
        assert (student.kept_vectors(0), student.kept_vectors(1)) == (5, 1)
        assert (student.encoder_vectors(0), student.encoder_vectors(1)) == (stored, 1)
        assert student.encode(0, ["w1", "w1 w2 w3"]).vectors.shape == (2, 5, 32)
        assert student.bytes_per_item(0, 3) == 4 * 5 * 32
        assert student.multiply_adds_per_pair([3, 3]) == 5 * 33
