"""Heads against plain transcriptions of the paper."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from pairstill.students.heads.base import Similarity
from pairstill.students.heads.cosine import CosineHead
from pairstill.students.heads.dot import DotHead
from pairstill.students.heads.feed_forward import FeedForwardHead, FeedForwardHeadConfig
from pairstill.students.heads.transformer import TransformerHead, TransformerHeadConfig


def test_transformer_head_is_bert_layers_over_the_merged_slots() -> None:
    torch.manual_seed(0)
    for layers, heads in ((1, 1), (2, 1), (3, 4)):
        slots, dim = (3, 5), 16
        head = TransformerHead(
            TransformerHeadConfig(layers=layers, attention_heads=heads, intermediate=24, activation="gelu"),
            slots,
            dim,
            2,
        )
        config = BertConfig(hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=24,
                            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager")  # fmt: skip
        encoder = BertEncoder(config).eval()
        with torch.no_grad():
            for theirs, ours in zip(encoder.layer, head.layers, strict=True):
                attention = theirs.attention
                for a, b in (
                    (attention.self.query, ours.query), (attention.self.key, ours.key), (attention.self.value, ours.value),
                    (attention.output.dense, ours.out), (attention.output.LayerNorm, ours.attention_norm),
                    (theirs.intermediate.dense, ours.up), (theirs.output.dense, ours.down), (theirs.output.LayerNorm, ours.output_norm),
                ):  # fmt: skip
                    a.weight.copy_(b.weight)
                    a.bias.copy_(b.bias)
        vectors = [torch.randn(4, count, dim) for count in slots]
        lengths = [torch.tensor([3, 1, 2, 3]), torch.tensor([5, 5, 1, 2])]
        for one, length in zip(vectors, lengths, strict=True):
            one[torch.arange(one.shape[1]) >= length[:, None]] = 0
        index = torch.tensor([[0, 0], [1, 3], [3, 1], [2, 2]])
        prepared = [head.prepare(field, vectors[field], lengths[field]) for field in range(2)]
        got = head.score(prepared, index)

        merged = torch.cat([vectors[0][index[:, 0]], vectors[1][index[:, 1]]], dim=1)
        segment = torch.tensor([0] * 3 + [1] * 5)
        hidden = head.norm(merged + head.positions + head.segments[segment])
        mask = torch.cat(
            [torch.arange(count) < lengths[field][index[:, field]][:, None] for field, count in enumerate(slots)], dim=1
        )
        bias = torch.zeros(4, 1, 1, 8).masked_fill(~mask[:, None, None], torch.finfo(torch.float32).min)
        expected = head.output(encoder(hidden, attention_mask=bias).last_hidden_state[:, 0])
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_feed_forward_head_is_a_network_over_the_concatenation() -> None:
    torch.manual_seed(0)
    head = FeedForwardHead(FeedForwardHeadConfig(widths=(7, 6)), [(2, 4), (3, 4)], 2)
    vectors = [torch.randn(3, 2, 4), torch.randn(5, 3, 4)]
    index = torch.tensor([[0, 4], [2, 1]])
    got = head.score([head.prepare(field, one, torch.ones(len(one))) for field, one in enumerate(vectors)], index)
    whole = nn.Linear(20, 7)
    with torch.no_grad():
        whole.weight.copy_(torch.cat([part.weight for part in head.first], dim=1))
        whole.bias.copy_(head.first[0].bias)
    joined = torch.cat([vectors[0][index[:, 0]].flatten(1), vectors[1][index[:, 1]].flatten(1)], dim=1)
    hidden = torch.relu(head.hidden[0](torch.relu(whole(joined))))
    torch.testing.assert_close(got, head.output(hidden))
    assert head.multiply_adds_per_pair() == 20 * 7 + 7 * 6 + 6 * 2
    assert sum(head.multiply_adds_prepared(field) for field in range(2)) == 20 * 7


def test_cosine_head() -> None:
    head = CosineHead(6)
    left, right = torch.randn(3, 1, 6), torch.randn(3, 1, 6)
    index = torch.tensor([[0, 1], [2, 2]])
    got = head.score([head.prepare(0, left, torch.ones(3)), head.prepare(1, right, torch.ones(3))], index)
    a, b = left[index[:, 0], 0].numpy(), right[index[:, 1], 0].numpy()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(got[:, 0].detach().numpy(), 10 * cosine - 5, atol=1e-5)


def test_a_dot_product_tells_search_how_it_compares() -> None:
    assert DotHead(4, scaled=False).similarity() == Similarity("dot", 1.0, 0.0)
    head = DotHead(4)
    with torch.no_grad():
        head.calibration.scale.fill_(0.5)
        head.calibration.bias.fill_(-2.0)
    assert head.similarity() == Similarity("dot", 0.5, -2.0)
