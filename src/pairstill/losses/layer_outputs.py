"""What a transformer did with a batch, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pairstill.errors import InputError


@dataclass(frozen=True)
class LayerOutputs:
    """Hidden states and attention scores of every layer, of a teacher or a student.

    Attributes:
        hidden: Layers + 1 tensors `(batch, tokens, width)`: the embedding layer's output first. Packed, `(1, tokens of all
            texts, width)`.
        attention: One tensor `(batch, heads, tokens, tokens)` a layer, scores before the softmax, without the mask added
            (see `attention_scores`); empty where they are not learnt from. They are padded, whatever the hidden states are.
        mask: `(batch, tokens)` bool, true where there is a token; None where nothing is padded.
        packed: Whether the hidden states of all texts stand one behind the other, without padding.
    """

    hidden: Sequence[Tensor]
    attention: Sequence[Tensor] = ()
    mask: Tensor | None = None
    packed: bool = False

    def __post_init__(self) -> None:
        if len(self.hidden) < 2:
            raise InputError(f"{len(self.hidden)} hidden states are given", expected="the embeddings' and one a layer")
        if self.attention and len(self.attention) != self.layers:
            raise InputError(
                f"{len(self.attention)} layers of attention and {self.layers} layers of hidden states are given",
                expected="one of each a layer",
            )

    @property
    def layers(self) -> int:
        """How many layers."""
        return len(self.hidden) - 1


def attention_scores(query: Tensor, key: Tensor) -> Tensor:
    """Scores before the softmax, Q K^T / sqrt(width of a head).

    Implementations return weights after the softmax, from which these cannot be had back.

    Args:
        query: `(batch, heads, tokens, width of a head)`.
        key: Of the same shape.

    Returns:
        `(batch, heads, tokens, tokens)`.
    """
    return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
