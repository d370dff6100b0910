"""A transformer with one linear layer on its first token's vector."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

INITIAL = 0.02
"""Deviation of the matrix's first weights, as of BERT's classifiers."""


class FirstTokenClassifier(nn.Module):
    """BERT_CAT of bases without a pooler: the first token's vector times a matrix, and a bias (Margin-MSE, section 3).

    Stands in for a sequence classifier of `transformers`, whose families differ in what they put before that matrix.

    Args:
        encoder: A transformer without a head.
        outputs: Logits.
    """

    def __init__(self, encoder: Any, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.classifier = nn.Linear(self.config.hidden_size, outputs)
        nn.init.normal_(self.classifier.weight, std=INITIAL)
        nn.init.zeros_(self.classifier.bias)

    @property
    def base_model(self) -> Any:
        """Named as in `transformers`."""
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's; named as in `transformers`."""
        found: nn.Module = self.encoder.get_input_embeddings()
        return found

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """`logits (tuples, outputs)`; inputs as the transformer takes them."""
        return SimpleNamespace(logits=self.classify(self.encoder(**inputs).last_hidden_state))

    def classify(self, hidden: Tensor) -> Tensor:
        """Logits of `(tuples, tokens, hidden)`."""
        logits: Tensor = self.classifier(hidden[:, 0])
        return logits
