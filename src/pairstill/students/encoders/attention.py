"""Attention that is fast on a CPU in bfloat16, for training as well as for scoring.

PyTorch's fused attention spends half of a training step in its backward pass on a CPU; three batched matrix products and
a softmax in the precision of the inputs are two to three times faster at the lengths of pair scoring.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.students.encoders.dropout import dropout as apply_dropout

ATTENTION = "pairstill"
RECORDED = "recorded_scores"


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with the signature that `transformers` calls.

    Args:
        module: The attention layer; its training flag is read, for dropout, and where `recorded_scores` put its list.
        query: `(batch, heads, queries, dim)`.
        key: `(batch, heads, keys, dim)`.
        value: `(batch, heads, keys, dim)`.
        attention_mask: `(batch, 1, queries or 1, keys)` additive mask; None where nothing is masked.
        scaling: Factor on the scores; None means 1 / sqrt(dim).
        dropout: Share of attention weights that is dropped in training.

    Returns:
        `(batch, queries, heads, dim)`, and None in place of the weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    recorded: list[Tensor] | None = getattr(module, RECORDED, None)
    if recorded is not None:
        recorded.append(scores)
    # Autocast would carry the softmax out in float32 and convert twice; its kernel accumulates in float32 anyway.
    with torch.autocast(query.device.type, enabled=False):
        if attention_mask is not None:
            scores = scores + attention_mask.to(scores.dtype)
        weights = torch.softmax(scores, dim=-1)
        if dropout and module.training:
            weights = apply_dropout(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


@contextmanager
def recorded_scores(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, collect the attention scores of every layer, before mask and softmax.

    Args:
        model: Loaded with the attention of `register`.

    Yields:
        A list that a forward pass extends: a tensor `(batch, heads, queries, keys)` a layer, in their order.
    """
    scores: list[Tensor] = []
    modules = list(model.modules())
    for module in modules:
        setattr(module, RECORDED, scores)
    try:
        yield scores
    finally:
        for module in modules:
            delattr(module, RECORDED)


def register() -> str:
    """Make the attention known to `transformers`; returns the name to load models with."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    return ATTENTION
