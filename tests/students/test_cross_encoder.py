"""Logits of sentence-transformers, and its way of cutting long pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder as Reference
from transformers import AutoModel, AutoTokenizer

from pairstill.students import load_student, make_student
from pairstill.students.cross_encoder import CrossEncoder
from pairstill.students.heads.pair_template import PairTemplate
from pairstill.students.persistence import parse_config
from tiny import FAMILIES, WORDS, tiny_base, tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_logits_of_sentence_transformers(family: str, outputs: int, tmp_path: Path) -> None:
    ours = CrossEncoder.from_sequence_classification(
        str(tiny_base(tmp_path / "base", family)), outputs=outputs, max_length=16
    ).eval()
    ours.model.save_pretrained(tmp_path / "classifier")
    ours.tokenizer.save_pretrained(tmp_path / "classifier")
    theirs = Reference(str(tmp_path / "classifier"), max_length=16, num_labels=outputs, device="cpu")
    generator = np.random.default_rng(0)
    pairs = [
        (" ".join(generator.choice(WORDS, one)), " ".join(generator.choice(WORDS, two)))
        for one, two in [(1, 1), (3, 5), (5, 8), (7, 6), (20, 2), (2, 20), (20, 20), (6, 7)]
    ]
    expected = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(np.asarray(ours.predict(pairs, activation_fn=torch.nn.Identity())), expected, atol=1e-5)
    if outputs == 1:
        assert [one["corpus_id"] for one in ours.rank("w1 w2", [two for _, two in pairs])] == [
            one["corpus_id"] for one in theirs.rank("w1 w2", [two for _, two in pairs])
        ]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_linear_layer_on_the_first_token(family: str, tmp_path: Path) -> None:
    base = str(tiny_base(tmp_path / "base", family))
    config = parse_config("cross-encoder", {"encoder": {"base": base, "max_lengths": [16]}, "classifier": "linear", "outputs": 3})  # fmt: skip
    student = make_student("cross-encoder", config).eval()
    assert isinstance(student, CrossEncoder)
    torch.nn.init.normal_(student.model.classifier.bias)
    student.save_pretrained(tmp_path / "student")
    tokenizer, encoder = AutoTokenizer.from_pretrained(base), AutoModel.from_pretrained(base).eval()
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6 w7 w8"), ("w2 w3 w4", "w40 w41 w42 w43 w44 w45 w46 w47 w48 w49 w50 w51")]
    for pair, logits in zip(pairs, load_student(tmp_path / "student").score_texts(pairs), strict=True):
        read = tokenizer(*pair, truncation="longest_first", max_length=16, return_tensors="pt")
        with torch.no_grad():
            first = encoder(**read).last_hidden_state[0, 0]
        layer = student.model.classifier
        np.testing.assert_allclose(logits, (layer.weight @ first + layer.bias).detach().numpy(), atol=1e-5)


TOKENIZER = tiny_tokenizer()
TEMPLATE = PairTemplate.from_tokenizer(TOKENIZER, 2)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(5, 40))
def test_pairs_are_cut_as_the_tokenizer_cuts_them(left: int, right: int, max_length: int) -> None:
    one, two = WORDS[:left], WORDS[30 : 30 + right]
    expected = TOKENIZER(" ".join(one), " ".join(two), truncation="longest_first", max_length=max_length)
    ids = [torch.tensor([TOKENIZER.convert_tokens_to_ids(words)]) for words in (one, two)]
    joined, types, lengths = TEMPLATE.join(ids, [torch.tensor([left]), torch.tensor([right])], max_length, 0)
    assert joined[0].tolist() == expected["input_ids"]
    assert types is not None
    assert types[0].tolist() == expected["token_type_ids"]
    assert int(lengths[0]) == len(expected["input_ids"])


@given(st.lists(st.integers(0, 20), min_size=3, max_size=3), st.integers(6, 30))
def test_three_texts_lose_their_longest_tokens_first(lengths: list[int], max_length: int) -> None:
    template = PairTemplate.from_tokenizer(TOKENIZER, 3)
    kept = template.kept_lengths(torch.tensor([lengths]), max_length)[0].tolist()
    budget = max_length - template.special_count
    assert sum(kept) == min(sum(lengths), budget)
    cut = [one for one, whole in zip(kept, lengths, strict=True) if one < whole]
    assert not cut or max(kept) - min(cut) <= 1
