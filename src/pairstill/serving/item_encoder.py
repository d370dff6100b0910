"""What changing and searching items needs of a student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pairstill.representation import Representation, Similarity


class ItemEncoder(Protocol):
    """An exported student (`RuntimeStudent`), as far as items are concerned."""

    @property
    def encoder_fingerprints(self) -> tuple[str, ...]:
        """Of each field's encoder, as stores carry it."""

    @property
    def similarity(self) -> Similarity | None:
        """How two single vectors are compared; None where they are not."""

    def encode(self, field: int, texts: Sequence[str], /) -> Representation[np.ndarray]:
        """What is kept of texts, in their order."""
