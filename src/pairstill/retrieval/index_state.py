"""What indexes have in common: settings, manifests, and whether one belongs to a store as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from pairstill.errors import InputError
from pairstill.files import MANIFEST, fingerprint_file, parse_body, read_manifest
from pairstill.store import RepresentationStore

Manifest = TypeVar("Manifest")


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


def check_settings(settings: Any, counts: tuple[str, ...]) -> None:
    """Check an index's `recall`, and that these settings are 1 or more where they are given.

    Raises:
        InputError: One is out of its range.
    """
    for name in counts:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"'{name}' of the index is {value}", expected="1 or more")
    if not 0 < settings.recall <= 1:
        raise InputError(f"the recall asked for is {settings.recall:g}", expected="above 0 and at most 1")


def checked_manifest(folder: Path, kind: str, version: int, manifest: type[Manifest]) -> Manifest:
    """The manifest of an index.

    Raises:
        ArtefactError: It is no such index, unfinished, newer or damaged.
    """
    return parse_body(manifest, read_manifest(folder, kind, version), folder / MANIFEST, "the manifest")


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
