"""Which items of an index are still in an edited store: by hashes of ids and contents."""

from __future__ import annotations

import numpy as np

from pairstill.store import RepresentationStore
from pairstill.store.ids import as_ids, hash_ids


def item_keys(store: RepresentationStore) -> np.ndarray:
    """`(items, 2)` uint64: hashes of each item's id and of its content, 0 where the content's is not known."""
    hashes = store.content_hash
    content = (
        np.zeros(len(store), np.uint64) if hashes is None else np.ascontiguousarray(hashes[:, :8]).view("<u8")[:, 0]
    )
    return np.stack([hash_ids(as_ids(store.ids)), content], axis=1)


def kept_rows(then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Rows of an index whose items are still there, ascending: they are the first items that are there now.

    Edits keep the order of what they leave and put everything else behind it. An item whose content is not known may be
    another now.

    Args:
        then: `item_keys` when the index was built.
        now: Of the store now.
    """
    order = np.argsort(then[:, 0], kind="stable")
    place = order[np.minimum(np.searchsorted(then[order, 0], now[:, 0]), len(then) - 1)]
    same = (then[place] == now).all(axis=1) & (now[:, 1] != 0)
    follows = np.diff(place, prepend=-1) > 0
    first_other = np.flatnonzero(~(same & follows))
    return np.asarray(place[: first_other[0]] if len(first_other) else place)
