"""Keeping a store up to date: only what changed is encoded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.store.edit import StoreEditor
from pairstill.store.ids import Ids, as_content_hash, as_ids, check_distinct, is_in


@dataclass(frozen=True)
class StoreChanges:
    """What an update did.

    Attributes:
        added: Items that the store lacked.
        replaced: Items whose content had changed.
        unchanged: Items that were left as they are.
        deleted: Items that are no longer among the ids and were removed.
    """

    added: int
    replaced: int
    unchanged: int
    deleted: int


def update_store(
    folder: str | Path,
    ids: Ids,
    content_hash: np.ndarray,
    encode: Callable[[np.ndarray], Representation[Any]],
    *,
    encoder_fingerprint: str,
    delete_missing: bool = False,
    block_rows: int = 4096,
    commit_rows: int = 1_000_000,
    prepare: Callable[[Representation[Any]], Mapping[str, Any]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StoreChanges:
    """Encode the items that a store lacks or has with another content, and put them into it.

    Args:
        folder: Of a store with ids.
        ids: Of all items as they are now.
        content_hash: `(ids, 16)` uint8 of their contents, from `content_hashes`.
        encode: Called with positions in `ids` `(items,)` int64 and returns the representation of these items.
        encoder_fingerprint: Of the encoder; a store of another one is refused.
        delete_missing: Whether items whose ids are not given are deleted.
        block_rows: Most items that `encode` is asked for at once.
        commit_rows: Items after which the store's state is replaced, so that an interrupted update goes on from there.
        prepare: Makes the prepared part of a block; None where the store has none.
        progress: Called with (items encoded, items to encode).

    Raises:
        ArtefactError: It is no store, is of another encoder, or another process writes to it.
        InputError: An id occurs twice, or `encode` returned another number of items than it was asked for.
    """
    with StoreEditor(folder, encoder_fingerprint=encoder_fingerprint) as editor:
        store = editor.store
        array = as_ids(ids, store.manifest.id_type)
        as_content_hash(content_hash, len(array))
        check_distinct(array)
        rows = store.lookup(array)
        todo = np.flatnonzero(store.changed(array, content_hash))
        gone = np.empty(0, np.int64)
        if delete_missing:
            gone = np.flatnonzero(~is_in(np.arange(len(store)), np.sort(rows[rows >= 0])))
            if gone.size:
                editor.delete(store.ids_at(gone))
        since = 0
        for start in range(0, len(todo), block_rows):
            if progress:
                progress(start, len(todo))
            chosen = todo[start : start + block_rows]
            block = encode(chosen)
            if len(block) != len(chosen):
                raise InputError(f"the encoder returned {len(block)} items for {len(chosen)}")
            editor.put(
                block, array.take(chosen), prepared=None if prepare is None else prepare(block),
                content_hash=content_hash[chosen],
            )  # fmt: skip
            since += len(chosen)
            if since >= commit_rows:
                editor.commit()
                since = 0
        editor.commit()
        if progress:
            progress(len(todo), len(todo))
    added = int((rows[todo] < 0).sum())
    return StoreChanges(added, len(todo) - added, len(array) - len(todo), len(gone))
