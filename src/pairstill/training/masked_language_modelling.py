"""Pre-training: masked language modelling on plain texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pairstill.students.encoders.language_model import MaskedLanguageModel
from pairstill.students.inference import precision_context
from pairstill.students.persistence import state_fingerprint
from pairstill.training.masking import Masking
from pairstill.training.settings import TrainingSettings
from pairstill.training.text_batches import Sequences, TextBatches

HELD_OUT = 2**32 - 1
"""Stands for the step in the seed of the held-out texts' masks."""


class MaskedLanguageModelling:
    """Cross-entropy of masked tokens, the mean over those of a step (Devlin et al. 2019, section 3.1, without next sentences).

    Args:
        model: Trained.
        batches: To learn from.
        held_out: To measure with, under masks that are always the same.
        masking: What is guessed.
        settings: `pairs` counts sequences.
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        batches: TextBatches,
        held_out: TextBatches,
        masking: Masking,
        settings: TrainingSettings,
    ) -> None:
        self.model = model
        self.batches, self.held_out, self.masking, self.settings = batches, held_out, masking, settings

    def loss(self, step: int) -> Tensor:
        """Of one step."""
        generator = np.random.default_rng([self.settings.seed, step])
        parts = self.batches.batch(step, self.settings.batch_size, self.settings.pairs)
        sums, counts = zip(*(self._guess(part, generator)[:2] for part in parts), strict=True)
        return torch.stack(sums).sum() / max(sum(counts), 1)

    @torch.no_grad()
    def measure(self) -> Mapping[str, float]:
        """Mean cross-entropy in nats, perplexity and the share of right guesses on the held-out texts."""
        generator = np.random.default_rng([self.settings.seed, HELD_OUT])
        loss, count, right = 0.0, 0, 0
        for part in self.held_out.all(256):
            one, tokens, hits = self._guess(part, generator)
            loss, count, right = loss + float(one), count + tokens, right + hits
        mean = loss / max(count, 1)
        return {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "accuracy": right / max(count, 1)}

    def identity(self) -> dict[str, Any]:
        """Texts, masking, and the weights at the start."""
        masking = [self.masking.mask, self.masking.share, self.masking.continues is not None]
        return {
            "texts": [self.batches.fingerprint(), self.held_out.fingerprint()],
            "masking": masking,
            "model": state_fingerprint(dict(self.model.state_dict()), self.model.encoder.config.hidden_dropout_prob),
        }

    def _guess(self, part: Sequences, generator: np.random.Generator) -> tuple[Tensor, int, int]:
        """Summed cross-entropy, masked tokens, right guesses."""
        seen, chosen = self.masking.apply(part.ids.numpy(), part.lengths.numpy(), generator)
        places = torch.from_numpy(chosen)
        with precision_context(self.settings.precision):
            logits = self.model(torch.from_numpy(seen), part.types, part.lengths, places)
        wanted = part.ids[places]
        hits = int((logits.argmax(dim=1) == wanted).sum()) if not torch.is_grad_enabled() else 0
        return functional.cross_entropy(logits, wanted, reduction="sum"), len(wanted), hits
