"""ColBERT: MaxSim against loops and sentence-transformers, and what is put into texts and left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairstill.errors import InputError
from pairstill.students import ColBERT, make_student
from pairstill.students.heads.max_sim import MaxSimHead
from pairstill.students.persistence import parse_config
from tiny import tiny_base

QUERIES = ["w1 w2 w3", "w4", "w5 . w6"]
DOCUMENTS = ["w3 w1 . w2", "w9 w10 w11 w12 w13", "w4 . . w5"]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose vocabulary has ColBERT's markers and a full stop."""
    folder = tiny_base(tmp_path_factory.mktemp("marked"))
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    for old, new in (("w57", "[unused0]"), ("w58", "[unused1]"), ("w59", ".")):
        vocabulary[new] = vocabulary.pop(old)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def student(base: Path, **values: Any) -> ColBERT:
    torch.manual_seed(2)
    values = {**values, "encoder": {"base": str(base), "max_lengths": [16]}}
    made = make_student("colbert", parse_config("colbert", values)).eval()
    assert isinstance(made, ColBERT)
    return made


def maxsim(query: np.ndarray, document: np.ndarray) -> float:
    """Transcribed from ColBERT, section 3.3."""
    total = 0.0
    for one in query:
        best = -float("inf")
        for other in document:
            best = max(best, sum(float(a) * float(b) for a, b in zip(one, other, strict=True)))
        total += best
    return total


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("pairs", [3, 20])
def test_maxsim_is_the_formula(normalise: bool, pairs: int) -> None:
    random = np.random.default_rng(0)
    head = MaxSimHead((5, 7), 6, normalise=normalise, scaled=False)
    blocks, lengths = [], []
    for count, tokens in ((4, 5), (5, 7)):
        lengths.append(random.integers(1, tokens + 1, count))
        vectors = random.standard_normal((count, tokens, 6)).astype(np.float32)
        # Whatever stands past a length is not compared.
        blocks.append(vectors)
    prepared = [
        head.prepare(field, torch.from_numpy(vectors), torch.from_numpy(lengths[field]))
        for field, vectors in enumerate(blocks)
    ]
    index = np.stack([random.integers(0, 4, pairs), random.integers(0, 5, pairs)], axis=1)
    found = head.score(prepared, torch.from_numpy(index))[:, 0].numpy()
    expected = []
    for left, right in index:
        query, document = blocks[0][left, : lengths[0][left]], blocks[1][right, : lengths[1][right]]
        if normalise:
            query, document = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (query, document))
        expected.append(maxsim(query, document))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_are_those_of_sentence_transformers(marked: Path) -> None:
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    ours = student(
        marked, projection=8, projection_bias=False, normalise=True, query_length=12, attend_to_masks=False,
        skip_punctuation=True, scaled=False,
    )  # fmt: skip
    expansion = {"strategy": "fixed", "attend": False, "length": 12}
    dense = Dense(32, 8, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    dense.linear.weight.data.copy_(ours.projections[0].weight.data)
    theirs = MultiVectorEncoder(
        modules=[
            Transformer(str(marked), max_seq_length=16, query_expansion=expansion), dense,
            MultiVectorMask(skiplist_words=["."]), Normalize(module_input_name="token_embeddings"),
        ],
        device="cpu",
    )  # fmt: skip
    expected = theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)).numpy()
    pairs = [(query, document) for query in QUERIES for document in DOCUMENTS]
    found = np.asarray(ours.predict(pairs, activation_fn=torch.nn.Identity())).reshape(3, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_queries_end_in_masks(marked: Path) -> None:
    mask, separator = 4, 3
    plain = student(marked)
    ids, lengths = plain.tokenize(0, ["w1 w2", " ".join(["w3"] * 30)]).padded(np.arange(2))
    assert ids[0, : lengths[0]].tolist() == [2, 6, 7, separator, *[mask] * 8]
    assert lengths[1] == 16
    assert ids[1, 7:].tolist() == [separator, *[mask] * 8]
    assert plain.tokenize(1, ["w1 w2"]).lengths.tolist() == [4]
    filled = student(marked, query_length=10, markers=True)
    tokens = filled.tokenize(0, ["w1 w2", "w3"])
    vocabulary = filled.tokenizer.get_vocab()
    assert tokens.lengths.tolist() == [10, 10]
    assert tokens.ids[:5].tolist() == [2, vocabulary["[unused0]"], 6, 7, separator]
    assert filled.tokenize(1, ["w1"]).ids.tolist() == [2, vocabulary["[unused1]"], 6, separator]
    assert student(marked, query_masks=0).tokenize(0, ["w1"]).lengths.tolist() == [3]


def test_documents_may_leave_punctuation_out(marked: Path) -> None:
    whole, cut = student(marked, scaled=False), student(marked, scaled=False, skip_punctuation=True)
    every, kept = whole.encode(1, DOCUMENTS), cut.encode(1, DOCUMENTS)
    assert every.lengths.tolist() == [6, 7, 6]
    assert kept.lengths.tolist() == [5, 7, 4]
    np.testing.assert_allclose(kept.vectors[0, :5], every.vectors[0][[0, 1, 2, 4, 5]], atol=1e-6)
    assert (kept.vectors[2, 4:] == 0).all()
    np.testing.assert_array_equal(cut.encode(0, QUERIES).lengths, whole.encode(0, QUERIES).lengths)
    assert cut.encoding_settings(0) == whole.encoding_settings(0)
    assert cut.encoding_settings(1) != whole.encoding_settings(1)


def test_costs_follow_the_lengths(base: Path) -> None:
    made = student(base, projection=8)
    assert made.multiply_adds_per_pair([5, 10]) == 5 * 10 * 8
    assert made.bytes_per_item(1, 10) == 4 * 10 * 8
    assert made.kept_vectors(1) is None


def test_a_base_without_masks_is_refused(base: Path) -> None:
    config = parse_config("colbert", {"encoder": {"base": str(base), "max_lengths": [16]}})
    tokenizer = ColBERT.new_tokenizer(config, None)
    tokenizer.mask_token = None
    with pytest.raises(InputError, match=r"no mask token.*query_masks=0"):
        ColBERT(config, tokenizer)
