"""Pre-training of towers over tri-letter words: whole words are masked, and guessed out of the most frequent ones."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pairstill.errors import InputError
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.students.inference import precision_context
from pairstill.students.persistence import state_fingerprint
from pairstill.tokens.ragged import RaggedTokens, bucket_budget, length_batches
from pairstill.tokens.tri_letter import TriLetterTokenizer
from pairstill.training.masked_language_modelling import HELD_OUT
from pairstill.training.settings import TrainingSettings

UNKNOWN = -1
"""Stands for a word that is not among those to guess."""


def frequent_words(tokenizer: TriLetterTokenizer, texts: Sequence[str], size: int) -> list[str]:
    """The `size` most frequent words of texts, of equally frequent ones the first by alphabet; the empty word is none.

    Raises:
        InputError: The texts have fewer.
    """
    counts = Counter(word for text in texts for word in tokenizer.words(text) if word)
    if len(counts) < size:
        raise InputError(
            f"{size:,} words are to be told apart, and the texts have {len(counts):,}",
            fix=f"--vocabulary {len(counts)}",
        )
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]


class WordTexts:
    """Texts as words of tri-letters, with the number of each word among those to guess.

    Args:
        texts: One a sequence.
        tokenizer: Tri-letters.
        words: Those to guess.
        max_length: Words read of a text.
        seed: Of the order of the texts, another one every pass.

    Raises:
        InputError: There are no texts.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: TriLetterTokenizer, words: Sequence[str], max_length: int, seed: int = 0
    ) -> None:
        if not texts:
            raise InputError("there are no texts to learn from", fix="Give more texts")
        self.max_length, self.seed, self.per_pass = max_length, seed, len(texts)
        self.tokens = tokenizer.tokenize(texts, max_length)
        number = {word: place for place, word in enumerate(words)}
        lists = [[number.get(word, UNKNOWN) for word in tokenizer.words(text)] for text in texts]
        self._cut = sum(len(one) > max_length for one in lists)
        self.wanted = RaggedTokens.from_lists([one[:max_length] for one in lists])

    def rows(self, step: int, size: int, total: int) -> np.ndarray:
        """Texts of a step, which may reach over the end of a pass into the next one."""
        start, stop = step * size, min((step + 1) * size, total)
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.per_pass)
            reach = min(self.per_pass - offset, stop - start)
            order = np.random.default_rng([self.seed, epoch]).permutation(self.per_pass)
            parts.append(order[offset : offset + reach])
            start += reach
        return np.concatenate(parts)

    def batches(self, rows: np.ndarray) -> list[np.ndarray]:
        """Texts of similar length together."""
        lengths = self.tokens.lengths[rows]
        return [rows[part] for part in length_batches(lengths, bucket_budget(lengths), max(len(rows), 1))]

    def cut(self) -> int:
        """How many texts are longer than what is read of them."""
        return self._cut

    def fingerprint(self) -> str:
        """Of words, targets and order."""
        digest = hashlib.sha256(repr((self.max_length, self.seed)).encode())
        for array in (self.tokens.ids, self.tokens.offsets, self.tokens.table, self.wanted.ids):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class MaskedWordModel(nn.Module):
    """A tower, what stands in the place of a masked word's summed embeddings, and a softmax over the words to guess.

    Args:
        encoder: Kept; the rest is thrown away afterwards.
        words: How many there are to guess.
    """

    def __init__(self, encoder: TriLetterEncoder, words: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask = nn.Parameter(0.02 * torch.randn(encoder.hidden_size))
        self.output = nn.Linear(encoder.hidden_size, words)

    def forward(self, ids: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """Logits `(places that are true, words)` of `ids (texts, words, letters)` where `places (texts, words)` are masked."""
        vectors = self.encoder.word_vectors(ids)
        hidden = self.encoder.words_in_context(torch.where(places[:, :, None], self.mask, vectors), lengths)
        logits: Tensor = self.output(hidden[places])
        return logits.float()


class MaskedWordModelling:
    """Cross-entropy of masked words, the mean over those of a step. A word that is not among those to guess is never masked.

    Args:
        model: Trained.
        texts: To learn from.
        held_out: To measure with, under masks that are always the same.
        share: Of the words to guess that is masked; a text in which none was drawn masks one.
        settings: `pairs` counts texts.

    Raises:
        InputError: The share is not between 0 and 1.
    """

    def __init__(
        self, model: MaskedWordModel, texts: WordTexts, held_out: WordTexts, share: float, settings: TrainingSettings
    ) -> None:
        if not 0 < share < 1:
            raise InputError(f"the share of masked words is {share:g}", expected="more than 0, below 1")
        self.model, self.texts, self.held_out, self.share, self.settings = model, texts, held_out, share, settings

    def loss(self, step: int) -> Tensor:
        """Of one step."""
        generator = np.random.default_rng([self.settings.seed, step])
        rows = self.texts.rows(step, self.settings.batch_size, self.settings.pairs)
        parts = [self._guess(self.texts, part, generator) for part in self.texts.batches(rows)]
        return torch.stack([one for one, _, _ in parts]).sum() / max(sum(count for _, count, _ in parts), 1)

    @torch.no_grad()
    def measure(self) -> Mapping[str, float]:
        """Mean cross-entropy in nats, perplexity and the share of right guesses on the held-out texts."""
        generator = np.random.default_rng([self.settings.seed, HELD_OUT])
        loss, count, right = 0.0, 0, 0
        for start in range(0, self.held_out.per_pass, 256):
            rows = np.arange(start, min(start + 256, self.held_out.per_pass))
            for part in self.held_out.batches(rows):
                one, words, hits = self._guess(self.held_out, part, generator)
                loss, count, right = loss + float(one), count + words, right + hits
        mean = loss / max(count, 1)
        return {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "accuracy": right / max(count, 1)}

    def identity(self) -> dict[str, Any]:
        """Texts, masking, and the weights at the start."""
        config: Any = self.model.encoder.model.config
        return {
            "texts": [self.texts.fingerprint(), self.held_out.fingerprint()], "masking": ["tri-letter words", self.share],
            "model": state_fingerprint(dict(self.model.state_dict()), config.hidden_dropout_prob),
        }  # fmt: skip

    def _guess(self, texts: WordTexts, rows: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, int, int]:
        """Summed cross-entropy, masked words, right guesses."""
        ids, lengths = texts.tokens.padded(rows)
        wanted, _ = texts.wanted.padded(rows, UNKNOWN)
        draws = np.where(wanted != UNKNOWN, generator.random(wanted.shape), np.inf)
        places = np.isfinite(draws) & (draws <= np.maximum(draws.min(axis=1, keepdims=True), self.share))
        targets = torch.from_numpy(wanted[places].astype(np.int64))
        with precision_context(self.settings.precision):
            logits = self.model(torch.from_numpy(ids), torch.from_numpy(lengths), torch.from_numpy(places))
        hits = int((logits.argmax(dim=1) == targets).sum()) if not torch.is_grad_enabled() else 0
        return functional.cross_entropy(logits, targets, reduction="sum"), len(targets), hits
