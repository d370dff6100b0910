"""The layers of a pretrained transformer, and the parts of one, whatever its family calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.encoders.attention import attend


@dataclass(frozen=True)
class Affine:
    """A dense layer whose parameters are parts of others'.

    Attributes:
        weight: `(out, in)`.
        bias: `(out,)`.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)`."""
        return nn.functional.linear(values, self.weight, self.bias)


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

    query: nn.Module | Affine
    key: nn.Module | Affine
    value: nn.Module | Affine
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
        """Of a layer of BERT, RoBERTa, ELECTRA or DistilBERT, or of PyTorch's own post-norm one."""
        if isinstance(layer, nn.TransformerEncoderLayer):
            own = layer.self_attn
            rows = zip(own.in_proj_weight.chunk(3), own.in_proj_bias.chunk(3), strict=True)
            query, key, value = (Affine(weight, bias) for weight, bias in rows)
            return cls(
                query, key, value, own.out_proj, layer.norm1, layer.linear1, layer.activation,
                layer.linear2, layer.norm2, nn.Dropout(own.dropout), layer.dropout1, own.num_heads,
            )  # fmt: skip
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
