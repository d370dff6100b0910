"""A small transformer over the kept vectors of all fields (DiPair-TSF)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.heads.base import Head, gather
from pairstill.students.heads.feed_forward import activation_module, mask_positions


@dataclass(frozen=True)
class TransformerHeadConfig:
    """Shape of the head; the defaults are DiPair's but for the activation.

    Attributes:
        layers: Transformer layers.
        attention_heads: Attention heads; must divide the dimension.
        intermediate: Width of the feed-forward part.
        activation: Of the feed-forward part; the paper's BERT has `gelu`. `relu` is faster (docs/decisions.md).
        position_embeddings: Add a learned vector per slot.
        segment_embeddings: Add a learned vector per field.
    """

    layers: int = 2
    attention_heads: int = 1
    intermediate: int = 1024
    activation: Literal["relu", "gelu", "gelu_tanh"] = "relu"
    position_embeddings: bool = True
    segment_embeddings: bool = True


class HeadLayer(nn.Module):
    """One post-norm transformer layer as in BERT, its attention split so that queries may be fewer than keys."""

    def __init__(self, dim: int, config: TransformerHeadConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.query, self.key, self.value, self.out = (_linear(dim, dim) for _ in range(4))
        self.attention_norm = nn.LayerNorm(dim, eps=1e-12)
        self.up, self.down = _linear(dim, config.intermediate), _linear(config.intermediate, dim)
        self.activation = activation_module(config.activation)
        self.output_norm = nn.LayerNorm(dim, eps=1e-12)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attention of `(tuples, queries, dim)` over `(tuples, keys, dim)`; `bias (tuples, 1, keys)` masks."""
        if self.heads == 1:
            # A softmax in the precision of the inputs: its kernel accumulates in float32 anyway.
            scores = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
            with torch.autocast(query.device.type, enabled=False):
                weights = torch.softmax(scores + bias.to(scores.dtype), dim=-1)
            return torch.bmm(weights, value)
        batch, queries, dim = query.shape
        query, key, value = (
            one.view(batch, -1, self.heads, dim // self.heads).transpose(1, 2) for one in (query, key, value)
        )
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3))
        with torch.autocast(query.device.type, enabled=False):
            weights = torch.softmax(scores + bias[:, None].to(scores.dtype), dim=-1)
        return torch.matmul(weights, value).transpose(1, 2).reshape(batch, queries, dim)

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        """Everything after the attention."""
        middle: Tensor = self.attention_norm(self.out(attended) + residual)
        finished: Tensor = self.output_norm(self.down(self.activation(self.up(middle))) + middle)
        return finished


class TransformerHead(Head):
    """Position and segment embeddings, LayerNorm, L layers; the first output vector gives the logits.

    Slots are fixed: field 0 has slots 0..N-1, field 1 has N..N+M-1; a shorter text is masked, never shifted. So the
    embeddings, the LayerNorm and the first layer's Q, K and V depend on one item alone, and only position 0 of the last
    layer is read.

    Args:
        config: Shape of the head.
        slots: Kept vectors per field.
        dim: Their dimension.
        outputs: Number of logits.

    Raises:
        InputError: The attention heads do not divide the dimension.
    """

    def __init__(self, config: TransformerHeadConfig, slots: Sequence[int], dim: int, outputs: int) -> None:
        super().__init__()
        if dim % config.attention_heads:
            raise InputError(
                f"{config.attention_heads} attention heads do not divide the head's dimension {dim}",
                expected=f"head.attention_heads that divide {dim}", fix="Change head.attention_heads or projection",
            )  # fmt: skip
        self.config, self.slots, self.dim = config, tuple(slots), dim
        self.positions = nn.Parameter(torch.randn(sum(slots), dim) * 0.02) if config.position_embeddings else None
        self.segments = nn.Parameter(torch.randn(len(slots), dim) * 0.02) if config.segment_embeddings else None
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.layers = nn.ModuleList(HeadLayer(dim, config) for _ in range(config.layers))
        self.output = _linear(dim, outputs)

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Embedded slots and the first layer's Q, K, V: each `(items, slots, dim)`."""
        start = sum(self.slots[:field])
        if self.positions is not None:
            vectors = vectors + self.positions[start : start + self.slots[field]]
        if self.segments is not None:
            vectors = vectors + self.segments[field]
        hidden = self.norm(vectors)
        first: HeadLayer = self.layers[0]  # type: ignore[assignment]
        wanted = hidden if self.config.layers > 1 else hidden[:, :1]
        return {
            "hidden": hidden, "lengths": lengths,
            "query": first.query(wanted), "key": first.key(hidden), "value": first.value(hidden),
        }  # fmt: skip

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Gather by index, attend across fields, read position 0."""

        def joined(name: str) -> Tensor:
            return torch.cat(gather(prepared, name, index), dim=1)

        lengths = gather(prepared, "lengths", index)
        hidden = joined("hidden")
        bias = torch.zeros(len(index), 1, hidden.shape[1], device=hidden.device)
        bias.masked_fill_(~mask_positions(self.slots, lengths)[:, None], -1e4)
        layer: HeadLayer
        for number, layer in enumerate(self.layers):  # type: ignore[assignment]
            last = number == self.config.layers - 1
            if number == 0:
                query, key, value = (
                    gather(prepared[:1], "query", index)[0] if last else joined("query"),
                    joined("key"),
                    joined("value"),
                )
            else:
                query, key, value = (
                    layer.query(hidden[:, :1] if last else hidden),
                    layer.key(hidden),
                    layer.value(hidden),
                )
            residual = hidden[:, :1] if last else hidden
            hidden = layer.finish(layer.attend(query, key, value, bias), residual)
        logits: Tensor = self.output(hidden[:, 0])
        return logits.float()

    def start_at_zero(self) -> None:
        """Zero the output layer."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def multiply_adds_per_pair(self) -> float:
        """6.13 M at N=4, M=12, D=128 with the paper's head: every layer but the last in full, of the last position 0."""
        slots, dim, wide = sum(self.slots), self.dim, self.config.intermediate
        full = slots * (4 * dim * dim + 2 * slots * dim + 2 * dim * wide)
        last = slots * 2 * dim * dim + 2 * dim * dim + 2 * slots * dim + 2 * dim * wide
        return float((self.config.layers - 1) * full + last + dim * self.output.out_features)

    def multiply_adds_prepared(self, field: int) -> float:
        """The first layer's Q, K and V of this field's slots."""
        products = 3 * self.slots[field] if self.config.layers > 1 else 2 * self.slots[field] + (field == 0)
        return float(products * self.dim * self.dim)


def _linear(inside: int, outside: int) -> nn.Linear:
    """Variance-preserving start: BERT's 0.02 is made for 768 dimensions and leaves a 128-wide head nearly linear."""
    layer = nn.Linear(inside, outside)
    nn.init.normal_(layer.weight, std=inside**-0.5)
    nn.init.zeros_(layer.bias)
    return layer
