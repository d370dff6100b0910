"""Texts of several lengths without padding between them: a training step pays for tokens, not for the longest text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from pairstill.students.encoders.pretrained import attention_mask

ROUND = 256
"""Packed batches have a multiple of so many tokens: the libraries below compile products for every new size, which costs more than
computing them."""
BLOCK_PLACES = 2**16
"""Pairs of places in an attention block, at the most if it has several texts: its weights then stay in a core's cache."""


@dataclass(frozen=True)
class AttentionBlock:
    """Some texts of about one length, whose attention is computed at once.

    Attributes:
        texts: `(texts,)` int64 positions in the batch.
        width: Tokens that they are padded to.
        starts: `(texts,)` int64, first packed token of each.
        lengths: `(texts,)` int64.
        attended: `(texts,)` int64.
    """

    texts: np.ndarray
    width: int
    starts: np.ndarray
    lengths: np.ndarray
    attended: np.ndarray


@dataclass(frozen=True)
class Packing:
    """Where the tokens of texts are, one behind the other and padded.

    Attributes:
        width: Tokens of the longest.
        slots: `(tokens,)` int64, place of each token among the `texts * width` padded ones; 0 for tokens that fill the last
            multiple of `ROUND`.
        tokens: `(texts * width,)` int64, the token in each padded place; 0 where there is none.
        starts: `(texts,)` int64, first token of each.
        lengths: `(texts,)` int64.
        attended: `(texts,)` int64, how many of each text's tokens are attended to.
        blocks: All texts, longest first.
    """

    width: int
    slots: Tensor
    tokens: Tensor
    starts: np.ndarray
    lengths: np.ndarray
    attended: np.ndarray
    blocks: tuple[AttentionBlock, ...]

    @property
    def count(self) -> int:
        """Tokens, without those that fill."""
        return int(self.lengths.sum())

    @classmethod
    def of(cls, lengths: Tensor, width: int, attended: Tensor) -> Packing:
        """Pack texts of `lengths (texts,)` tokens, of which the first `attended (texts,)` are attended to."""
        filled = attention_mask(lengths, width).reshape(-1).bool()
        slots = filled.nonzero()[:, 0]
        slots = torch.cat([slots, slots.new_zeros(-len(slots) % ROUND)])
        tokens = (filled.cumsum(0) - 1).clamp(min=0).where(filled, 0)
        starts = (lengths.cumsum(0) - lengths).numpy()
        places = (starts, lengths.numpy(), attended.numpy())
        return cls(width, slots, tokens, *places, _blocks(*places))

    def spread(self, packed: Tensor) -> Tensor:
        """`(tokens, dim)` to `(texts, width, dim)`; what stands in places without a token means nothing, and gets no gradient."""
        spread: Tensor = _Spread.apply(packed, self.slots, self.tokens, self.count)  # type: ignore[no-untyped-call]
        return spread.view(len(self.lengths), self.width, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """`(texts, width, dim)` to `(tokens, dim)`; tokens that fill are copies of the first one and give it no gradient."""
        filled = attention_mask(torch.from_numpy(self.lengths), self.width).view(-1, 1).bool()
        packed: Tensor = _Pack.apply(padded.flatten(0, 1), self.slots, self.tokens, filled)  # type: ignore[no-untyped-call]
        return packed.view(len(self.slots), -1)


def _blocks(starts: np.ndarray, lengths: np.ndarray, attended: np.ndarray) -> tuple[AttentionBlock, ...]:
    """Blocks of few sizes, met again and again: a power of two of texts, a multiple of a quarter to half of one of tokens."""
    order, blocks, done = np.argsort(-lengths, kind="stable"), [], 0
    while done < len(order):
        longest = max(1, int(lengths[order[done]]))
        step = max(8, (1 << (longest - 1).bit_length()) // 4)
        width = -(-longest // step) * step
        most = min(max(1, BLOCK_PLACES // width**2), len(order) - done)
        texts = order[done : done + (1 << (most.bit_length() - 1))]
        blocks.append(AttentionBlock(texts, width, starts[texts], lengths[texts], attended[texts]))
        done += len(texts)
    return tuple(blocks)


class _Spread(Function):
    """Gathers both ways: PyTorch's own gradient of a gather adds row after row, on one core."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, tokens: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.count = count
        return packed.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slots,) = ctx.saved_tensors
        gradient = gradients[0].index_select(0, slots)
        gradient[ctx.count :] = 0
        return gradient, None, None, None


class _Pack(Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, slots: Tensor, tokens: Tensor, filled: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, filled)
        return padded.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        tokens, filled = ctx.saved_tensors
        return gradients[0].index_select(0, tokens).mul_(filled), None, None, None
