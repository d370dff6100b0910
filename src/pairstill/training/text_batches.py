"""Batches of plain texts: which texts a step presents, joined and padded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.students.encoders.pretrained import tokenize
from pairstill.students.heads.pair_template import PairTemplate
from pairstill.tokens.ragged import RaggedTokens, bucket_budget, length_batches


@dataclass(frozen=True)
class Sequences:
    """Sequences of similar length for one forward pass.

    Attributes:
        ids: `(batch, tokens)` int64, padded on the right.
        types: Token types of the same shape; None where the tokenizer has none.
        lengths: `(batch,)` valid tokens.
    """

    ids: Tensor
    types: Tensor | None
    lengths: Tensor

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.lengths)


class TextBatches:
    """The batches of a training on texts, each a function of its number alone.

    A sequence is one text, or several that happen to stand beside each other in a pass, joined as a cross-encoder joins the
    texts of a tuple, so that token types and later positions are learnt too. Every pass has another order; where texts do not
    come out even, a few are left over in each, other ones every time.

    Args:
        tokens: Without special ones.
        tokenizer: Says how texts are joined.
        max_length: Tokens of a sequence, special ones counted; the longest text is cut first.
        texts_per_sequence: How many texts are joined.
        seed: Of the order.
    """

    def __init__(
        self, tokens: RaggedTokens, tokenizer: Any, max_length: int, *, texts_per_sequence: int = 1, seed: int = 0
    ) -> None:
        self.tokens, self.max_length, self.joined, self.seed = tokens, max_length, texts_per_sequence, seed
        self.padding = int(tokenizer.pad_token_id or 0)
        self.template = PairTemplate.from_tokenizer(tokenizer, texts_per_sequence)
        least = self.template.special_count + texts_per_sequence
        if max_length < least:
            raise InputError(f"the maximum length is {max_length} tokens", expected=f"{least} or more")
        self.per_pass = len(tokens) // texts_per_sequence
        if not self.per_pass:
            raise InputError(
                f"there are {len(tokens)} texts to learn from, and a sequence is made of {texts_per_sequence}",
                fix="Give more texts",
            )
        self._order: tuple[int, np.ndarray] | None = None

    def batch(self, step: int, size: int, total: int) -> list[Sequences]:
        """The sequences of a step, similar lengths together so that little is padded.

        Args:
            step: Counted from 0.
            size: Sequences of a step; it may reach over the end of a pass into the next one.
            total: Sequences in all, at which the last step ends.
        """
        start, stop = step * size, min((step + 1) * size, total)
        rows = []
        while start < stop:
            epoch, offset = divmod(start, self.per_pass)
            reach = min(self.per_pass - offset, stop - start)
            rows.append(self._pass(epoch)[offset : offset + reach])
            start += reach
        return self.sequences(np.concatenate(rows))

    def all(self, size: int) -> list[Sequences]:
        """Every text once, in stored order; what does not fill a sequence is left out."""
        rows = np.arange(self.per_pass * self.joined).reshape(-1, self.joined)
        return [one for start in range(0, len(rows), size) for one in self.sequences(rows[start : start + size])]

    def sequences(self, rows: np.ndarray) -> list[Sequences]:
        """Join `rows (sequences, texts of each)` and sort them by length into a few forward passes."""
        lengths = np.minimum(self.tokens.lengths[rows].sum(axis=1) + self.template.special_count, self.max_length)
        return [self._joined(rows[part]) for part in length_batches(lengths, bucket_budget(lengths), max(len(rows), 1))]

    def _joined(self, rows: np.ndarray) -> Sequences:
        padded = [self.tokens.padded(rows[:, place], self.padding) for place in range(self.joined)]
        return Sequences(
            *self.template.join(
                [torch.from_numpy(ids) for ids, _ in padded], [torch.from_numpy(lengths) for _, lengths in padded],
                self.max_length, self.padding,
            )
        )  # fmt: skip

    def _pass(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.tokens))
            self._order = epoch, order[: self.per_pass * self.joined].reshape(-1, self.joined)
        return self._order[1]

    def cut(self) -> int:
        """How many texts are longer than a whole sequence."""
        return int((self.tokens.lengths > self.max_length - self.template.special_count).sum())

    def fingerprint(self) -> str:
        """Of the tokens and how they are joined."""
        digest = hashlib.sha256(np.ascontiguousarray(self.tokens.ids).tobytes())
        digest.update(np.ascontiguousarray(self.tokens.offsets).tobytes())
        digest.update(repr((self.max_length, self.joined, self.seed, self.template)).encode())
        return digest.hexdigest()


def held_out(texts: Sequence[str], share: float, seed: int, most: int = 5000) -> np.ndarray:
    """Which texts are kept from training: `(texts,)` bool.

    A text is chosen by its hash, so equal texts are on the same side and the order of the texts does not matter.

    Args:
        texts: All of them.
        share: About this share, and at most `most`.
        seed: Another one chooses other texts.
        most: Largest number.

    Raises:
        InputError: Nothing is left to hold out, or to learn from.
    """
    key = str(seed).encode()
    hashes = np.array(
        [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "big") for text in texts],
        dtype=np.uint64,
    )
    chosen: np.ndarray = (hashes >> np.uint64(11)) / 2.0**53 < min(share, most / len(texts))
    if chosen.all() or not chosen.any():
        raise InputError(
            f"of {len(texts):,} texts {int(chosen.sum()):,} would be held out (a share of {share:g})",
            expected="some to measure with, and some to learn from", fix="Give more texts, or another --held-out",
        )  # fmt: skip
    return chosen


def tokenized(tokenizer: Any, texts: Sequence[str]) -> RaggedTokens:
    """Token ids without special ones, nothing cut."""
    return tokenize(tokenizer, texts, None, special_tokens=False)


def split_batches(
    texts: Sequence[str], tokenizer: Any, max_length: int, share: float, *, texts_per_sequence: int = 1, seed: int = 0
) -> tuple[TextBatches, TextBatches]:
    """Batches to learn from, and those of the texts that are held out (see `held_out`)."""
    chosen = held_out(texts, share, seed)
    parts = []
    for wanted in (False, True):
        tokens = tokenized(tokenizer, [text for text, out in zip(texts, chosen, strict=True) if out == wanted])
        parts.append(TextBatches(tokens, tokenizer, max_length, texts_per_sequence=texts_per_sequence, seed=seed))
    return parts[0], parts[1]
