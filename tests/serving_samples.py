"""A student made of arithmetic, and stores of its items."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairstill.representation import Representation, Similarity
from pairstill.serving.items import ItemStore
from pairstill.serving.texts import TextStore
from pairstill.store import RepresentationStore, content_hashes, write_store

FINGERPRINT = "f" * 64
DIM = 12


class HashStudent:
    """Encodes a text as numbers that depend on it alone; a text `# 3 1` as the vector that begins with 3 and 1."""

    name = "hash"
    encoder_fingerprints = (FINGERPRINT, FINGERPRINT)
    field_count, outputs = 2, 1

    def __init__(self, tokens: int = 1, scale: float = 1.0, metric: str = "cosine") -> None:
        self.tokens = tokens
        self.similarity = Similarity(metric, scale) if tokens == 1 else None  # type: ignore[arg-type]
        self.encoded = 0

    def encode(self, field: int, texts: Sequence[str]) -> Representation[np.ndarray]:
        del field
        self.encoded += len(texts)
        kept = [min(self.tokens, 1 + len(text) % self.tokens) for text in texts]
        vectors = np.zeros((len(texts), max(kept, default=1), DIM), np.float32)
        for row, text in enumerate(texts):
            for place in range(kept[row]):
                vectors[row, place] = vector_of(text, place)
        return Representation(vectors, np.array(kept, np.int64))


def vector_of(text: str, place: int = 0) -> np.ndarray:
    if text.startswith("# "):
        numbers = [float(one) for one in text[2:].split()]
        return np.array(numbers + [0.0] * (DIM - len(numbers)), np.float32)
    seed = int.from_bytes(hashlib.sha256(f"{place} {text}".encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def item_store(
    folder: Path, items: dict[str, str], student: HashStudent | None = None, *, dtype: str = "float32", ids: object = None,
    hashes: bool = True, ragged: bool = False,
) -> RepresentationStore:  # fmt: skip
    """A store of items as `pairstill encode` would write it."""
    student, texts = student or HashStudent(), list(items.values())

    def encode(start: int, stop: int) -> Representation[np.ndarray]:
        block = student.encode(1, texts[start:stop])
        return block if ragged else block.padded(student.tokens)

    return write_store(
        folder, encode, len(texts), encoder_fingerprint=FINGERPRINT, field="item", dtype=dtype, shard_rows=50, block_rows=25,
        stride="ragged" if ragged else "fixed", ids=list(items) if ids is None else ids,
        content_hash=content_hashes(texts) if hashes else None,
    )  # fmt: skip


def contents(items: ItemStore) -> dict[str, tuple[list[float], str | None]]:
    """First vector and text of every item, by id."""
    snapshot = items.snapshot()
    rows = np.arange(len(snapshot))
    vectors = snapshot.gather(rows).vectors[:, 0]
    named = zip(snapshot.ids_at(rows), vectors.tolist(), snapshot.texts(rows), strict=True)
    return {name: (vector, text) for name, vector, text in named}


def check_whole(items: ItemStore, expected: dict[str, str]) -> None:
    """These items are there, no others, each with the vector of its text."""
    found = contents(items)
    assert {name: text for name, (_, text) in found.items()} == expected
    for name, (vector, text) in found.items():
        np.testing.assert_allclose(vector, vector_of(str(text)), atol=1e-6, err_msg=name)


def texts_of(path: Path) -> TextStore:
    return TextStore.open(path / "texts.sqlite")
