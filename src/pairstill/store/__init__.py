"""Representations on disk, mapped into memory."""

from pairstill.store.store import RepresentationStore
from pairstill.store.writer import StoreWriter, write_store

__all__ = ["RepresentationStore", "StoreWriter", "write_store"]
