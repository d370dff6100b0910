"""Which tokens a language model has to guess, and what it sees in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pairstill.errors import InputError

CONTINUES = "##"
"""How a word piece begins that does not begin a word."""


@dataclass(frozen=True)
class Masking:
    """Masked language modelling's corruption, drawn anew every time (Devlin et al. 2019, section 3.1 and appendix A.1).

    Every word (or token) is chosen with the same probability; a sequence in which none was drawn gets one, so that every
    sequence teaches. Of the chosen tokens 80% become the mask, 10% another random token, 10% stay.

    Attributes:
        mask: Id of the mask token.
        special: `(vocabulary,)` bool, tokens that are never chosen nor drawn.
        continues: `(vocabulary,)` bool, tokens that go on with a word; None chooses tokens, not words.
        share: Probability of being chosen.
    """

    mask: int
    special: np.ndarray
    continues: np.ndarray | None
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"the share of masked tokens is {self.share:g}", expected="more than 0, below 1")

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, *, whole_words: bool = True, share: float = 0.15) -> Masking:
        """For a tokenizer.

        Raises:
            InputError: It has no mask token, or whole words are asked for and it is no WordPiece tokenizer.
        """
        if tokenizer.mask_token_id is None:
            raise InputError(
                "the tokenizer has no mask token", expected="one of a masked language model, such as BERT's"
            )
        size = len(tokenizer)
        special = np.zeros(size, dtype=bool)
        special[[one for one in tokenizer.all_special_ids if one != tokenizer.unk_token_id]] = True
        continues = None
        if whole_words:
            continues = np.zeros(size, dtype=bool)
            continues[[number for piece, number in tokenizer.get_vocab().items() if piece.startswith(CONTINUES)]] = True
            if not continues.any():
                raise InputError(
                    "the vocabulary does not say where words begin", expected=f"word pieces that go on with '{CONTINUES}'",
                    fix="Choose tokens: --masking tokens",
                )  # fmt: skip
        return cls(int(tokenizer.mask_token_id), special, continues, share)

    def apply(
        self, ids: np.ndarray, lengths: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corrupt sequences.

        Args:
            ids: `(batch, tokens)`.
            lengths: `(batch,)` valid tokens.
            generator: Whose numbers decide.

        Returns:
            The ids that the model sees, and where it has to guess, `(batch, tokens)` bool.
        """
        rows, width = ids.shape
        candidates = (np.arange(width) < lengths[:, None]) & ~self.special[ids]
        starts = candidates if self.continues is None else candidates & ~self.continues[ids]
        words = np.cumsum(starts, axis=1)
        draws = np.take_along_axis(generator.random((rows, width + 1)), words, axis=1)
        draws = np.where(candidates, draws, np.inf)
        limit = np.maximum(draws.min(axis=1, keepdims=True, initial=np.inf), self.share)
        chosen = candidates & (draws <= limit)
        action = generator.random((rows, width))
        ordinary = np.flatnonzero(~self.special)
        other = ordinary[generator.integers(0, len(ordinary), (rows, width))]
        seen = np.where(chosen & (action < 0.8), self.mask, ids)
        return np.where(chosen & (action >= 0.8) & (action < 0.9), other, seen), chosen
