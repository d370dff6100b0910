"""Representations on disk, mapped into memory."""

from pairstill.store.edit import StoreEditor, compact
from pairstill.store.ids import content_hashes
from pairstill.store.store import RepresentationStore
from pairstill.store.update import StoreChanges, update_store
from pairstill.store.writer import StoreWriter, write_store

__all__ = [
    "RepresentationStore", "StoreChanges", "StoreEditor", "StoreWriter", "compact", "content_hashes", "update_store",
    "write_store",
]  # fmt: skip
