"""How a tokenizer joins several texts into one sequence, and the same done on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pairstill.errors import InputError


@dataclass(frozen=True)
class PairTemplate:
    """Special tokens around and between the texts of a tuple.

    For two texts the template is read off the tokenizer itself; more texts repeat the middle part, with token type 1
    after the first text.

    Attributes:
        before: Ids before the first text.
        between: Ids between two texts.
        after: Ids after the last text.
        field_count: Texts of a tuple.
        token_types: Whether the tokenizer gives token types.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    field_count: int
    token_types: bool

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, field_count: int) -> PairTemplate:
        """Read the template off how the tokenizer joins two short texts.

        Raises:
            InputError: The tokenizer joins texts in a way that is no template.
        """
        text = "a"
        inner = tokenizer(text, add_special_tokens=False)["input_ids"]
        pair = tokenizer(text, text)["input_ids"]
        single = tokenizer(text)["input_ids"]
        starts = [place for place in range(len(pair)) if pair[place : place + len(inner)] == inner]
        if not inner or len(starts) < 2:
            raise InputError(
                "the tokenizer does not join two texts around special tokens", expected="a BERT-like tokenizer"
            )
        first, last = starts[0], starts[-1]
        before, after = tuple(pair[:first]), tuple(pair[last + len(inner) :])
        between = tuple(pair[first + len(inner) : last])
        if field_count == 1:
            place = next(place for place in range(len(single)) if single[place : place + len(inner)] == inner)
            before, between, after = tuple(single[:place]), (), tuple(single[place + len(inner) :])
        types = "token_type_ids" in tokenizer(text, text) and max(tokenizer(text, text)["token_type_ids"]) > 0
        return cls(before, between, after, field_count, types)

    @property
    def special_count(self) -> int:
        """Special tokens of a joined tuple."""
        return len(self.before) + len(self.between) * (self.field_count - 1) + len(self.after)

    def kept_lengths(self, lengths: Tensor, max_length: int) -> Tensor:
        """How much of each text is kept: `(tuples, fields)` -> the same, cut longest-first as `tokenizers` does.

        One token at a time comes off the longest text; for two texts the closed form of that library is used, which gives
        the odd token to the longer text.
        """
        budget = max(max_length - self.special_count, 0)
        if self.field_count == 1:
            return lengths.clamp(max=budget)
        if self.field_count == 2:
            short, long = lengths.min(dim=1).values, lengths.max(dim=1).values
            kept_long = torch.where(short > budget, short, torch.maximum(short, budget - short))
            over = short + kept_long > budget
            short = torch.where(over, torch.full_like(short, budget // 2), short)
            kept_long = torch.where(over, torch.full_like(short, budget // 2 + budget % 2), kept_long)
            kept_long = torch.minimum(kept_long, long)
            first_is_longer = (lengths[:, 0] > lengths[:, 1])[:, None]
            return torch.where(
                first_is_longer, torch.stack([kept_long, short], dim=1), torch.stack([short, kept_long], dim=1)
            )
        # The largest common ceiling that fits, then the tokens left over, first fields first.
        low, high = torch.zeros(len(lengths), dtype=torch.long), torch.full((len(lengths),), budget, dtype=torch.long)
        low, high = low.to(lengths.device), high.to(lengths.device)
        while bool((low < high).any()):
            middle = (low + high + 1) // 2
            fits = torch.minimum(lengths, middle[:, None]).sum(dim=1) <= budget
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle - 1)
        kept = torch.minimum(lengths, low[:, None])
        for field in range(self.field_count):
            spare = budget - kept.sum(dim=1)
            kept[:, field] += ((spare > 0) & (kept[:, field] < lengths[:, field])).long()
        return kept

    def join(
        self, ids: Sequence[Tensor], lengths: Sequence[Tensor], max_length: int, padding: int
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Join texts into sequences.

        Args:
            ids: Per field, `(tuples, tokens)` ids without special ones.
            lengths: Per field, `(tuples,)`.
            max_length: Most tokens of the joined sequence.
            padding: Id of the padding token.

        Returns:
            Ids `(tuples, width)`, token types of the same shape (None where the tokenizer has none), lengths `(tuples,)`.
        """
        kept = self.kept_lengths(torch.stack(list(lengths), dim=1), max_length)
        total = kept.sum(dim=1) + self.special_count
        width = int(total.max())
        device = kept.device
        out = torch.full((len(kept), width), padding, dtype=torch.long, device=device)
        types = torch.zeros_like(out) if self.token_types else None
        columns = torch.arange(width, device=device)
        place = torch.zeros(len(kept), dtype=torch.long, device=device)
        rows = torch.arange(len(kept), device=device)

        def special(tokens: tuple[int, ...]) -> None:
            nonlocal place
            for token in tokens:
                out[rows, place] = token
                place = place + 1

        special(self.before)
        for field, one in enumerate(ids):
            size = kept[:, field]
            target = (columns >= place[:, None]) & (columns < (place + size)[:, None])
            source = torch.arange(one.shape[1], device=device) < size[:, None]
            out[target] = one[source]
            place = place + size
            if field < self.field_count - 1:
                special(self.between)
                if types is not None and field == 0:
                    types[(columns >= place[:, None]) & (columns < total[:, None])] = 1
        special(self.after)
        return out, types, total
