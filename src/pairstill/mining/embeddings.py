"""Vectors of a list of texts on disk, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pairstill.files import fingerprint_json, write_atomic
from pairstill.jobs import Job, Shard, check_output, split_rows
from pairstill.mining.neighbours import Blocks

SHARD_ROWS = 4_096


class TextEncoder(Protocol):
    """What encodes texts: `(texts, dim)` float32, each of length 1."""

    def encode(
        self, texts: Sequence[str], *, precision: str = "float32", progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Encode texts."""
        ...


def write_embeddings(
    folder: Path,
    texts: Sequence[str],
    encoder: TextEncoder,
    settings: Mapping[str, Any],
    *,
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Blocks:
    """Encode texts into float16 shards, map them into memory, and return them as one matrix.

    Args:
        folder: Of this list of texts under these settings; an interrupted or finished one is taken up again.
        texts: The texts.
        encoder: See `TextEncoder`.
        settings: What changes the vectors besides the texts: base, maximum length.
        precision: Of the encoder.
        progress: Called with (texts done, in all).

    Raises:
        ArtefactError: A shard is damaged, or another process works in the folder.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    everything = {**settings, "precision": precision, "texts": len(texts), "texts_sha256": digest.hexdigest()}

    def work(shard: Shard, path: Path) -> dict[str, Any]:
        def report(done: int, _: int) -> None:
            if progress is not None:
                progress(shard.start + done, len(texts))

        vectors = encoder.encode(texts[shard.start : shard.stop], precision=precision, progress=report)
        with write_atomic(path) as file:
            np.save(file, vectors.astype(np.float16), allow_pickle=False)
        return {}

    place = folder / fingerprint_json(everything)[:16]
    job = Job(place, "embeddings", everything, ".npy", precision=precision)
    receipts = job.run(split_rows(len(texts), SHARD_ROWS), work, progress)
    for one in receipts:
        check_output(place / one.file, one.bytes, one.sha256)
    return Blocks([np.load(place / one.file, mmap_mode="r", allow_pickle=False) for one in receipts])
