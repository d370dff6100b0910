"""Small stores and students to search with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairstill.representation import Representation
from pairstill.store import RepresentationStore, write_store
from pairstill.students import Student, make_student
from pairstill.students.persistence import parse_config


def store_of(folder: Path, vectors: np.ndarray, ids: Any, dtype: str = "float32") -> RepresentationStore:
    """A store of `(items, dim)` or `(items, tokens, dim)` vectors in several shards."""
    kept = vectors[:, None] if vectors.ndim == 2 else vectors
    lengths = np.full(len(kept), kept.shape[1])
    return write_store(
        folder, lambda start, stop: Representation(kept[start:stop], lengths[start:stop]), len(kept),
        encoder_fingerprint="e" * 64, field="item", dtype=dtype, shard_rows=150, block_rows=50, ids=ids,
    )  # fmt: skip


def tiny_student(base: Path, name: str, **values: Any) -> Student:
    """A student of that architecture whose new weights are random."""
    torch.manual_seed(1)
    encoder = {"max_lengths": [16], **values.pop("encoder", {}), "base": str(base)}
    student = make_student(name, parse_config(name, {**values, "encoder": encoder}))
    with torch.no_grad():
        for parameter in student.new_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return student.eval()
