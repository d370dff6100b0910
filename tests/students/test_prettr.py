"""PreTTR: its scores are those of a joint transformer whose lower layers do not look across the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from pairstill.errors import InputError
from pairstill.students import PreTTR, make_student
from pairstill.students.persistence import parse_config
from tiny import tiny_base

PAIRS = [("w1 w2 w3", "w3 w4"), ("w4", "w5 w6 w7 w8 w9 w10"), ("w1 w2 w3 w4 w5", "")]


def student(base: Path, **values: Any) -> PreTTR:
    torch.manual_seed(3)
    values = {**values, "encoder": {"base": str(base), "max_lengths": [9, 12]}}
    made = make_student("prettr", parse_config("prettr", values)).eval()
    assert isinstance(made, PreTTR)
    return made


def joint_score(made: PreTTR, base: Path, split: int, query: str, passage: str, offset: int) -> float:
    """All layers over the joined sequence, with a mask that blocks the other text in the lower ones."""
    model = AutoModel.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    first = made.tokenizer(query)["input_ids"]
    second = made.tokenizer(passage)["input_ids"][1:]
    ids = torch.tensor([first + second])
    kind = model.config.model_type
    start = model.config.pad_token_id + 1 if kind == "roberta" else 0
    places = torch.tensor([[*range(len(first)), *range(offset, offset + len(second))]]) + start
    types = torch.tensor([[0] * len(first) + [int(getattr(model.config, "type_vocab_size", 0) > 1)] * len(second)])
    more = {} if kind == "distilbert" else {"token_type_ids": types}
    hidden = model.embeddings(input_ids=ids, position_ids=places, **more)
    if hasattr(model, "embeddings_project"):
        hidden = model.embeddings_project(hidden)
    sides = torch.tensor([0] * len(first) + [1] * len(second))
    blocked = torch.where(sides[:, None] == sides, 0.0, -1e9)[None, None]
    layers = (model.transformer if kind == "distilbert" else model.encoder).layer
    for number, layer in enumerate(layers):
        if number == split and made.compress is not None and made.decompress is not None:
            down, up, norm = made.compress[0], made.decompress[0], made.decompress[1]
            hidden = (
                torch.erf((narrow := hidden @ down.weight.T + down.bias) / 2**0.5).add(1).mul(narrow / 2) @ up.weight.T
                + up.bias
            )
            centred = hidden - hidden.mean(-1, keepdim=True)
            hidden = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
        outputs = layer(hidden, blocked if number < split else torch.zeros_like(blocked))
        hidden = outputs[0] if isinstance(outputs, tuple) else outputs
    return float(hidden[0, 0] @ made.output.weight[0])


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize(("split", "compression"), [(1, None), (2, None), (1, 8)])
def test_scores_are_those_of_the_joint_computation(
    family: str, split: int, compression: int | None, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path, family)
    made = student(base, split=split, compression=compression)
    found = np.asarray(made.predict(PAIRS, activation_fn=torch.nn.Identity()))
    with torch.no_grad():
        expected = [joint_score(made, base, split, *pair, offset=9) for pair in PAIRS]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_stored_serves_queries_of_any_length(base: Path) -> None:
    made = student(base, split=1)
    stored = made.encode(1, ["w5 w6"])
    queries = ["w1", "w1 w2 w3 w4 w5"]
    index = np.array([[0, 0], [1, 0]])
    scores = made.score_representations([made.encode(0, queries), stored], index)[:, 0]
    alone = np.asarray(made.predict([(one, "w5 w6") for one in queries], activation_fn=torch.nn.Identity()))
    np.testing.assert_allclose(scores, alone, atol=1e-6)


def test_later_texts_have_no_cls(base: Path) -> None:
    made = student(base, split=1)
    assert made.tokenize(0, ["w1 w2"]).ids.tolist() == [2, 6, 7, 3]
    tokens = made.tokenize(1, ["w1 w2", "", " ".join(["w3"] * 30)])
    assert tokens.lengths.tolist() == [3, 1, 12]
    assert tokens.ids[:4].tolist() == [6, 7, 3, 3]


def test_compression_makes_what_is_stored_smaller(base: Path) -> None:
    made = student(base, split=1, compression=4)
    assert made.encode(1, ["w1 w2"]).vectors.shape == (1, 3, 4)
    assert made.encode(1, ["w1 w2"], before_projection=True).vectors.shape == (1, 3, 32)
    assert made.bytes_per_item(1, 3) == 4 * 3 * 4
    assert student(base, split=1).bytes_per_item(1, 3) == 4 * 3 * 32


def test_only_what_the_cls_vector_needs_is_counted(base: Path) -> None:
    joined, hidden, wide = 10, 32, 48
    last = 2 * joined * hidden**2 + 2 * hidden**2 + 2 * joined * hidden + 2 * hidden * wide + hidden
    whole = joined * (4 * hidden**2 + 2 * hidden * wide + 2 * joined * hidden)
    assert student(base, split=2).multiply_adds_per_pair([4, 6]) == last
    assert student(base, split=1).multiply_adds_per_pair([4, 6]) == last + whole
    assert student(base, split=2).multiply_adds_per_item(0, joined) == 2 * whole


def test_layers_that_share_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'albert' cannot be cut between two layers"):
        student(tiny_base(tmp_path, "albert"), split=1)


def test_a_shape_of_its_own(base: Path) -> None:
    values = {"split": 1, "encoder": {"base": str(base), "max_lengths": [9, 12], "shape": "2x24x2"}}
    made = make_student("prettr", parse_config("prettr", values)).eval()
    assert isinstance(made, PreTTR)
    assert (made.hidden_size, len(made.upper)) == (24, 1)
    assert made.score_texts(PAIRS).shape == (3, 1)
    values["encoder"] = {**values["encoder"], "shape": "2x24x5"}  # type: ignore[dict-item]
    with pytest.raises(InputError, match="5 attention heads do not divide a width of 24"):
        make_student("prettr", parse_config("prettr", values))
