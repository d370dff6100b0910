"""Whether an index belongs to a store as it is now."""

from __future__ import annotations

from typing import Protocol

from pairstill.files import MANIFEST, fingerprint_file
from pairstill.store import RepresentationStore


class BuiltFrom(Protocol):
    """What every index says of the store that it was built from."""

    @property
    def encoder_fingerprint(self) -> str:
        """Of the encoder."""

    @property
    def store_state(self) -> str:
        """`state_of` the store."""

    @property
    def generation(self) -> int:
        """Of the store."""

    @property
    def items(self) -> int:
        """In the store."""


def state_of(store: RepresentationStore) -> str:
    """SHA-256 of the store's manifest: equal for equal states of one store."""
    return fingerprint_file(store.folder / MANIFEST)


def staleness(manifest: BuiltFrom, store: RepresentationStore) -> str | None:
    """Why an index does not belong to a store as it is now; None where it does."""
    if manifest.encoder_fingerprint != store.encoder_fingerprint:
        return f"the index was built of a store of another encoder ({manifest.encoder_fingerprint[:12]})"
    if manifest.store_state != state_of(store):
        return (
            f"the index is stale: it was built of another store or another state of it (generation {manifest.generation}, "
            f"{manifest.items:,} items; the store has generation {store.generation}, {len(store):,} items)"
        )
    return None
