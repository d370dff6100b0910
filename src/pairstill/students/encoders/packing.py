"""Texts of several lengths without padding between them: a training step pays for tokens, not for the longest text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pairstill.students.encoders.attention import ATTENTION, RECORDED
from pairstill.students.encoders.pretrained import attention_mask

ROUND = 256
"""Packed batches have a multiple of so many tokens: the libraries below compile products for every new size, which costs more than
computing them."""

PACKED_SHARE = 0.9
"""Where fewer of the places of a padded batch hold tokens, they are packed."""


@dataclass(frozen=True)
class Packing:
    """Where the tokens of texts are, one behind the other and padded.

    Attributes:
        rows: Texts.
        width: Tokens of the longest.
        count: Tokens, without those that fill the last multiple of `ROUND`.
        slots: `(tokens,)` int64, place of each token among the `rows * width` padded ones; 0 for tokens that fill.
        tokens: `(rows * width,)` int64, the token in each padded place; 0 where there is none.
        filled: `(rows * width, 1)` bool, whether there is one.
        mask: `(rows, 1, 1, width)` float32, added to attention scores: 0 for tokens that are attended to.
    """

    rows: int
    width: int
    count: int
    slots: Tensor
    tokens: Tensor
    filled: Tensor
    mask: Tensor

    @classmethod
    def of(cls, lengths: Tensor, width: int, attended: Tensor) -> Packing:
        """Pack texts of `lengths (texts,)` tokens, of which the first `attended (texts,)` are attended to."""
        filled = attention_mask(lengths, width).reshape(-1).bool()
        slots = filled.nonzero()[:, 0]
        count = len(slots)
        slots = torch.cat([slots, slots.new_zeros(-count % ROUND)])
        tokens = (filled.cumsum(0) - 1).clamp(min=0).where(filled, 0)
        unseen = attention_mask(attended, width)[:, None, None, :] == 0
        mask = torch.zeros(unseen.shape, device=lengths.device).masked_fill(unseen, torch.finfo(torch.float32).min)
        return cls(len(lengths), width, count, slots, tokens, filled[:, None], mask)

    def spread(self, packed: Tensor) -> Tensor:
        """`(tokens, dim)` to `(rows, width, dim)`; what stands in places without a token means nothing, and gets no gradient."""
        spread: Tensor = _Spread.apply(packed, self.slots, self.tokens, self.count)  # type: ignore[no-untyped-call]
        return spread.view(self.rows, self.width, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """`(rows, width, dim)` to `(tokens, dim)`."""
        flat = padded.reshape(self.rows * self.width, -1)
        packed: Tensor = _Pack.apply(flat, self.slots, self.tokens, self.filled)  # type: ignore[no-untyped-call]
        return packed


def can_pack(transformer: nn.Module) -> bool:
    """Whether a transformer without head takes packed texts, and they would save time: in training, on a CPU."""
    config: Any = transformer.config
    known = config.model_type == "bert" and config._attn_implementation == ATTENTION
    on_cpu = next(transformer.parameters()).device.type == "cpu"
    return known and on_cpu and torch.is_grad_enabled() and not hasattr(transformer, RECORDED)


def packs(transformer: nn.Module, ids: Tensor, lengths: Tensor) -> bool:
    """Whether padded ids `(rows, width)`, of which `lengths (rows,)` are tokens, are better packed."""
    return can_pack(transformer) and int(lengths.sum()) < PACKED_SHARE * ids.numel()


def run_packed(transformer: nn.Module, packing: Packing, ids: Tensor, types: Tensor | None = None) -> Tensor:
    """Last hidden states `(tokens, dim)` of padded ids and token types `(rows, width)`; see `Packing.spread`."""
    positions = packing.slots % packing.width
    # A mask of four dimensions is taken as it is; the packing has the one that counts.
    unmasked = torch.zeros(1, 1, 1, 1)
    extra = {} if types is None else {"token_type_ids": types.reshape(-1)[packing.slots][None]}
    hidden: Tensor = transformer(
        input_ids=ids.reshape(-1)[packing.slots][None], position_ids=positions[None], attention_mask=unmasked, packing=packing,
        **extra,
    ).last_hidden_state  # fmt: skip
    return hidden[0]


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
