"""A pretrained transformer cut in two: lower layers that read one text, upper layers that read the joined tuple (PreTTR)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.encoders.attention import attend
from pairstill.students.encoders.pretrained import attention_mask, position_limit

MASKED = -1e4


class LowerLayers(nn.Module):
    """Embeddings and the first layers, over one text at a fixed place of the joined sequence.

    Args:
        model: A BERT-like or DistilBERT model without its pooler.
        layers: How many of its layers.
    """

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        config: Any = model.config
        self.embeddings: Any = model.embeddings
        self.project: Any = getattr(model, "embeddings_project", nn.Identity())
        self.layers = nn.ModuleList(layers_of(model)[:layers])
        self.types = int(getattr(config, "type_vocab_size", 0) or 0)
        limit = position_limit(config)
        self.first_position = 0 if limit is None else config.max_position_embeddings - limit

    def forward(self, ids: Tensor, lengths: Tensor, offset: int | Tensor, later: bool | Tensor) -> Tensor:
        """Hidden vectors `(items, tokens, hidden)`, zero past each length.

        Args:
            ids: `(items, tokens)`, padded on the right.
            lengths: `(items,)` valid tokens.
            offset: Position of the first token in the joined sequence.
            later: Whether this is a text after the first, which token types tell apart.
        """
        valid = attention_mask(lengths, ids.shape[1])
        positions = torch.arange(ids.shape[1], device=ids.device) + offset + self.first_position
        more = {"token_type_ids": torch.zeros_like(ids) + later * int(self.types > 1)} if self.types else {}
        hidden = self.project(self.embeddings(input_ids=ids, position_ids=positions[None].expand_as(ids), **more))
        mask = ((1 - valid) * MASKED)[:, None, None].to(hidden.dtype)
        for layer in self.layers:
            outputs = layer(hidden, mask)
            hidden = outputs[0] if isinstance(outputs, tuple) else outputs
        masked: Tensor = hidden * valid[:, :, None].to(hidden.dtype)
        return masked.float()


@dataclass(frozen=True)
class LayerParts:
    """The parts of one post-norm layer, whatever a family calls them, so that queries may be fewer than keys.

    Attributes:
        query: Of the attention; so `key` and `value`.
        key: See `query`.
        value: See `query`.
        out: After the attention.
        attention_norm: After `out` and the residual.
        up: Of the feed-forward part.
        activation: Between `up` and `down`.
        down: Of the feed-forward part.
        output_norm: After `down` and the residual.
        attention_dropout: Of attention weights.
        dropout: Of what `out` and `down` give.
        heads: Attention heads.
    """

    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    attention_norm: nn.Module
    up: nn.Module
    activation: Callable[[Tensor], Tensor]
    down: nn.Module
    output_norm: nn.Module
    attention_dropout: nn.Module
    dropout: nn.Module
    heads: int

    @classmethod
    def of(cls, layer: Any) -> LayerParts:
        """Of a layer of BERT, RoBERTa, ELECTRA or DistilBERT."""
        if hasattr(layer, "ffn"):
            own = layer.attention
            return cls(
                own.q_lin, own.k_lin, own.v_lin, own.out_lin, layer.sa_layer_norm, layer.ffn.lin1, layer.ffn.activation,
                layer.ffn.lin2, layer.output_layer_norm, own.dropout, layer.ffn.dropout, own.n_heads,
            )  # fmt: skip
        own, out = layer.attention.self, layer.attention.output
        return cls(
            own.query, own.key, own.value, out.dense, out.LayerNorm, layer.intermediate.dense,
            layer.intermediate.intermediate_act_fn, layer.output.dense, layer.output.LayerNorm, own.dropout, layer.output.dropout,
            own.num_attention_heads,
        )  # fmt: skip

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attention of `(tuples, queries, hidden)` over `(tuples, keys, hidden)`; `bias (tuples, 1, 1, keys)` masks."""
        split = [one.view(*one.shape[:2], self.heads, -1).transpose(1, 2) for one in (query, key, value)]
        rate: float = self.attention_dropout.p  # type: ignore[assignment]
        attended, _ = attend(self.attention_dropout, split[0], split[1], split[2], bias, dropout=rate)
        return attended.flatten(2)

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        """Everything after the attention."""
        middle = self.attention_norm(self.dropout(self.out(attended)) + residual)
        finished: Tensor = self.output_norm(self.dropout(self.down(self.activation(self.up(middle)))) + middle)
        return finished


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a transformer, from the bottom.

    Raises:
        InputError: It has no layers of its own weights one after another.
    """
    stack: Any = getattr(model, "encoder", None) or getattr(model, "transformer", None)
    found = getattr(stack, "layer", None)
    if found is None:
        raise InputError(
            f"a base of the type '{model.config.model_type}' cannot be cut between two layers",  # type: ignore[union-attr]
            expected="a base whose layers have weights of their own: BERT, RoBERTa, ELECTRA, DistilBERT",
        )
    return list(found)
