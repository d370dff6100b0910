"""Small stores for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreWriter


def make(
    rows: int, tokens: int = 3, dim: int = 4, seed: int = 0, extra: bool = False, ids: bool = False
) -> Representation[np.ndarray]:
    """Random items; `ids` makes token ids instead of vectors."""
    random = np.random.default_rng(seed)
    return Representation(
        vectors=random.integers(0, 1000, (rows, tokens)).astype(np.int32)
        if ids
        else random.normal(size=(rows, tokens, dim)).astype(np.float32),
        lengths=random.integers(0, tokens + 1, rows),
        similarity=random.normal(size=(rows, dim)).astype(np.float32) if extra else None,
        scalars=random.normal(size=(rows, 2)).astype(np.float32) if extra else None,
    )


def write(
    folder: Path,
    block: Representation[np.ndarray],
    *,
    shard_rows: int = 4,
    dtype: str = "float32",
    stride: str = "fixed",
    ids: Any = None,
    content_hash: np.ndarray | None = None,
    prepared: dict[str, np.ndarray] | None = None,
) -> RepresentationStore:
    with StoreWriter(
        folder, encoder_fingerprint="abc", field="query", dtype=dtype, stride=stride, shard_rows=shard_rows
    ) as writer:
        writer.append(block, prepared=prepared)
        return writer.finish(ids, content_hash=content_hash)
