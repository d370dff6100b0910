"""Encoding items of a field into a store: once each, and again only what changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.files import MANIFEST, write_json
from pairstill.machine import describe
from pairstill.representation import Representation
from pairstill.scoring.bulk.scorer import prepared_fingerprint
from pairstill.scoring.fast_head import FastHead, runs_fast
from pairstill.store import RepresentationStore, StoreChanges, compact, content_hashes, update_store, write_store
from pairstill.store.ids import Ids, as_ids, hash_ids
from pairstill.store.writer import SHARD_ROWS
from pairstill.students import Student
from pairstill.students.fingerprints import representation_fingerprint

ENCODING_FILE = "encoding.json"
BLOCK_ITEMS = 4096


@dataclass(frozen=True)
class EncodeSettings:
    """How items are encoded.

    Attributes:
        dtype: Of the store: float32, float16, bfloat16, int8, uint8; None means uint8 where the student was trained for its
            levels and no head's part is stored, else bfloat16 or float32, as the precision is.
        precision: Of the encoder: float32 or bfloat16.
        prepared: Whether the head's part per item is stored, too.
        delete_missing: Whether items of the store that are not given are deleted.
        shard_rows: Of the store; an interruption loses at most so many items.
    """

    dtype: str | None = None
    precision: str = "float32"
    prepared: bool = False
    delete_missing: bool = False
    shard_rows: int = SHARD_ROWS


@dataclass(frozen=True)
class Encoded:
    """What an encoding did.

    Attributes:
        store: Opened.
        changes: Items added, replaced, unchanged, deleted.
        seconds: That it took.
        items_per_s: Encoded; None where there was nothing to encode.
    """

    store: RepresentationStore
    changes: StoreChanges
    seconds: float
    items_per_s: float | None


def encode_store(
    student: Student,
    field: int,
    ids: Ids,
    texts: Sequence[str],
    folder: str | Path,
    name: str,
    settings: EncodeSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Bring a store up to date with items; a new one is written, an interrupted one is resumed.

    Args:
        student: Whose encoder runs.
        field: Position of the field.
        ids: Of the items, distinct strings or integers.
        texts: Of the items.
        folder: The store's.
        name: Of the field, noted in the store.
        settings: None means the defaults.
        progress: Called with (items done, items to do).

    Raises:
        InputError: Ids repeat, there are no items, or settings do not fit the student or the store.
        ArtefactError: The store is of another student or field, damaged, or being written by another process.
    """
    settings, folder = settings or EncodeSettings(), Path(folder)
    if not 0 <= field < student.field_count:
        raise InputError(f"the field {field + 1} is asked for", expected=f"1 to {student.field_count}")
    dtype = settings.dtype or (
        "uint8" if student.eight_bit(field) and not settings.prepared
        else "bfloat16" if settings.precision == "bfloat16" else "float32"
    )  # fmt: skip
    head, mark = _prepared_head(student, dtype) if settings.prepared else (None, None)
    array = as_ids(ids)
    began, encoded = time.perf_counter(), 0
    fingerprint, hashes = representation_fingerprint(student, field), content_hashes(texts)

    def encode(rows: np.ndarray) -> Representation[Any]:
        nonlocal encoded
        block = student.encode(field, [texts[row] for row in rows], precision=settings.precision)
        encoded += len(rows)
        # However short the texts of a block are: a store with a fixed stride has one width.
        return block.padded(student.kept_vectors(field) or 0)

    def prepare(block: Representation[Any]) -> Mapping[str, Any]:
        assert head is not None
        arrays = head.arrays(head.prepare(field, block))
        return {key: _floats(one) for key, one in arrays.items()}

    if (folder / MANIFEST).exists():
        before = RepresentationStore.open(folder, checksums=False)
        _check_same(before, settings, dtype, mark, field)
        changes = update_store(
            folder, array, hashes, encode, encoder_fingerprint=fingerprint, delete_missing=settings.delete_missing,
            block_rows=min(BLOCK_ITEMS, before.manifest.shard_rows), commit_rows=before.manifest.shard_rows,
            prepare=prepare if head else None, progress=progress,
        )  # fmt: skip
        store = RepresentationStore.open(folder, fingerprint, checksums=False)
    else:
        ragged, similarity = student.kept_vectors(field) is None, student.similarity()
        store = write_store(
            folder, lambda start, stop: encode(np.arange(start, stop)), len(array), encoder_fingerprint=fingerprint,
            field=name, dtype=dtype, stride="ragged" if ragged else "fixed", shard_rows=settings.shard_rows,
            block_rows=BLOCK_ITEMS, ids=array, content_hash=hashes,
            provenance={
                "student": student.name, "field": field, "precision": settings.precision, "similarity": similarity and similarity.metric,
                "items": hashlib.sha256(hash_ids(array).tobytes() + hashes.tobytes()).hexdigest(),
            },
            prepare=prepare if head else None, prepared_fingerprint=mark, progress=progress,
        )  # fmt: skip
        changes = StoreChanges(len(array), 0, 0, 0)
    seconds = time.perf_counter() - began
    rate = encoded / seconds if encoded else None
    if encoded or changes.deleted:
        _note(folder, store, changes, encoded, seconds, settings)
    return Encoded(store, changes, seconds, rate)


def compact_store(folder: str | Path, progress: Callable[[int, int], None] | None = None) -> RepresentationStore:
    """Write a store anew without what was deleted or replaced."""
    return compact(folder, progress=progress)


def _prepared_head(student: Student, dtype: str) -> tuple[FastHead, str]:
    if not runs_fast(student):
        raise InputError(f"a {student.name} has no part that is prepared once per item", fix="Leave out --prepared")
    if dtype not in ("float32", "bfloat16"):
        raise InputError(
            f"the prepared part is asked for in {dtype}", expected="--dtype float32 or bfloat16, as the head computes"
        )
    return FastHead.of(student, dtype, 1), prepared_fingerprint(student, dtype)


def _check_same(store: RepresentationStore, settings: EncodeSettings, dtype: str, mark: str | None, field: int) -> None:
    if store.position is not None and store.position != field:
        raise ArtefactError(
            f"the store holds items of field {store.position + 1}", file=store.folder, expected=f"items of field {field + 1}",
            fix="Choose another folder",
        )  # fmt: skip
    if settings.dtype is not None and store.dtype != dtype:
        raise InputError(
            f"the store is in {store.dtype}",
            file=store.folder,
            expected=dtype,
            fix="Choose another folder, or its --dtype",
        )
    if store.prepared_fingerprint != mark:
        raise InputError(
            "the store has no prepared part" if store.prepared_fingerprint is None
            else "the store has a prepared part" if mark is None else "the store's prepared part is of another head",
            file=store.folder, fix="Give --prepared as when it was written, or choose another folder",
        )  # fmt: skip


def _floats(array: np.ndarray) -> Any:
    """Bits of bfloat16 as a tensor, for the store knows no bits."""
    return torch.from_numpy(array).view(torch.bfloat16) if array.dtype == np.uint16 else array


def _note(
    folder: Path,
    store: RepresentationStore,
    changes: StoreChanges,
    encoded: int,
    seconds: float,
    settings: EncodeSettings,
) -> None:
    write_json(
        folder / ENCODING_FILE,
        {
            "format": "pairstill/encoding",
            "version": 1,
            "items": len(store),
            "changes": asdict(changes),
            "encoded_in_the_last_run": encoded,
            "seconds": round(seconds, 3),
            "items_per_s": round(encoded / seconds, 3) if encoded else None,
            "bytes_per_item": store.bytes_per_item(),
            "precision": settings.precision,
            "dtype": store.dtype,
            "threads": torch.get_num_threads(),
            "machine": describe(),
        },
    )
