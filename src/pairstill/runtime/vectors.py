"""Arithmetic on vectors."""

from __future__ import annotations

import numpy as np

LEAST = np.float32(1e-12)
"""Shorter vectors are not made longer."""


def normalised(vectors: np.ndarray) -> np.ndarray:
    """`(..., dim)` float32 of length 1; a vector of zeros stays one."""
    lengths = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return np.asarray(vectors / np.maximum(lengths, LEAST), np.float32)
