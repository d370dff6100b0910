"""The manifest of a store: which files make up its present state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError
from pairstill.files import MANIFEST, fingerprint_file, read_manifest, write_manifest
from pairstill.store.blocks import STRIDES, Spec
from pairstill.store.quantise import DTYPES

FORMAT = "representation-store"
FORMAT_VERSION = 2
LEGACY_IDS = "ids.parquet"


@dataclass(frozen=True)
class FileEntry:
    """A file of a store.

    Attributes:
        file: Its name.
        start: First row that it holds.
        rows: Number of rows.
        bytes: Size.
        sha256: Checksum.
        entries: Vectors or token ids of all rows of a ragged shard; None elsewhere.
    """

    file: str
    start: int
    rows: int
    bytes: int
    sha256: str
    entries: int | None = None

    @classmethod
    def of(cls, path: Path, start: int, rows: int, entries: int | None = None) -> FileEntry:
        """Describe a file that was just written."""
        return cls(path.name, start, rows, path.stat().st_size, fingerprint_file(path), entries)

    def body(self) -> dict[str, Any]:
        """As JSON."""
        body: dict[str, Any] = {"file": self.file, "start": self.start, "rows": self.rows}
        if self.entries is not None:
            body["entries"] = self.entries
        return {**body, "bytes": self.bytes, "sha256": self.sha256}

    @classmethod
    def parse(cls, body: Mapping[str, Any], start: int | None = None) -> FileEntry:
        """From JSON; `start` stands in where the format had none."""
        entries = body.get("entries")
        entry = cls(
            str(body["file"]), int(body["start"] if start is None else start), int(body["rows"]), int(body["bytes"]),
            str(body["sha256"]), None if entries is None else int(entries),
        )  # fmt: skip
        if Path(entry.file).name != entry.file or min(entry.start, entry.rows, entry.bytes, entry.entries or 0) < 0:
            raise ValueError(f"the entry of {entry.file!r} is no file of this folder")
        return entry


@dataclass(frozen=True)
class StoreManifest:
    """One state (generation) of a store.

    Attributes:
        generation: Counts states from 1; every edit makes the next one.
        encoder_fingerprint: Of the encoder that made the rows.
        field: Name of the field.
        dtype: Precision of float vectors.
        stride: `fixed` or `ragged`.
        shard_rows: Rows per shard.
        provenance: What the writer noted.
        prepared_fingerprint: Of what made the prepared part; None where there is none.
        longest: Entries per item, or of the longest item where the stride is ragged.
        arrays: Type and shape of one row of every array.
        shards: In row order.
        id_type: `string`, `integer`, or None where there are no ids.
        id_files: In row order.
        deletions: Holds the rows that are deleted; None where there are none.
    """

    generation: int
    encoder_fingerprint: str
    field: str
    dtype: str
    stride: str
    shard_rows: int
    provenance: Mapping[str, Any]
    prepared_fingerprint: str | None
    longest: int
    arrays: Spec
    shards: tuple[FileEntry, ...]
    id_type: str | None
    id_files: tuple[FileEntry, ...]
    deletions: FileEntry | None

    @property
    def rows(self) -> int:
        """Rows in all shards, deleted ones included."""
        return sum(shard.rows for shard in self.shards)

    @property
    def files(self) -> list[FileEntry]:
        """All files."""
        return [*self.shards, *self.id_files, *([self.deletions] if self.deletions else [])]

    def next(self, **changes: Any) -> StoreManifest:
        """The next generation."""
        return replace(self, generation=self.generation + 1, **changes)

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest: from now on readers see this state."""
        vectors = self.arrays["vectors"][1]
        width = vectors if self.stride == "ragged" else vectors[1:]
        write_manifest(
            folder, FORMAT, FORMAT_VERSION,
            {
                "generation": self.generation,
                "encoder_fingerprint": self.encoder_fingerprint,
                "field": self.field,
                "dtype": self.dtype,
                "stride": self.stride,
                "shard_rows": self.shard_rows,
                "provenance": dict(self.provenance),
                "prepared_fingerprint": self.prepared_fingerprint,
                "rows": self.rows,
                "tokens": self.longest,
                "dim": width[0] if width else None,
                "arrays": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in sorted(self.arrays.items())},
                "shards": [shard.body() for shard in self.shards],
                "ids": {"type": self.id_type, "files": [one.body() for one in self.id_files]} if self.id_type else None,
                "deletions": self.deletions.body() if self.deletions else None,
            },
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> StoreManifest:
        """Read and check the manifest; no other file is looked at.

        Raises:
            ArtefactError: It is missing, unfinished, newer, of another format, or contradicts itself.
        """
        body = read_manifest(folder, FORMAT, FORMAT_VERSION)
        try:
            manifest = _parse(_upgraded(body, folder) if body["version"] == 1 else body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ArtefactError(
                f"the manifest is damaged: {said}", file=folder / MANIFEST, fix="Write the store again"
            ) from None
        _check_rows("shards", manifest.shards, manifest.rows, folder)
        if manifest.id_type:
            _check_rows("id files", manifest.id_files, manifest.rows, folder)
        return manifest


def _parse(body: Mapping[str, Any]) -> StoreManifest:
    ids, deletions = body["ids"], body["deletions"]
    manifest = StoreManifest(
        generation=int(body["generation"]),
        encoder_fingerprint=str(body["encoder_fingerprint"]),
        field=str(body["field"]),
        dtype=str(body["dtype"]),
        stride=str(body["stride"]),
        shard_rows=int(body["shard_rows"]),
        provenance=dict(body["provenance"]),
        prepared_fingerprint=body["prepared_fingerprint"],
        longest=int(body["tokens"]),
        arrays={name: (one["dtype"], tuple(map(int, one["shape"]))) for name, one in body["arrays"].items()},
        shards=tuple(FileEntry.parse(one) for one in body["shards"]),
        id_type=None if ids is None else str(ids["type"]),
        id_files=() if ids is None else tuple(FileEntry.parse(one) for one in ids["files"]),
        deletions=None if deletions is None else FileEntry.parse(deletions),
    )
    if manifest.dtype not in DTYPES or manifest.stride not in STRIDES:
        raise ValueError(f"a {manifest.stride} stride of {manifest.dtype} is unknown")
    if manifest.id_type not in (None, "string", "integer"):
        raise ValueError(f"ids of type {manifest.id_type!r} are unknown")
    if not {"vectors", "lengths"} <= set(manifest.arrays):
        raise ValueError("it has no vectors or no lengths")
    names = [one.file for one in manifest.files]
    if len(set(names)) < len(names):
        raise ValueError("a file is listed twice")
    return manifest


def _upgraded(body: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A manifest of version 1 (fixed stride, ids in a Parquet file, never edited) as one of version 2."""
    shards, start = [], 0
    for one in body["shards"]:
        shards.append(FileEntry.parse(one, start).body())
        start += one["rows"]
    ids = None
    if body["ids"] is not None:
        path = folder / LEGACY_IDS
        size = path.stat().st_size if path.is_file() else 0
        file = {"file": LEGACY_IDS, "start": 0, "rows": start, "bytes": size, "sha256": ""}
        ids = {"type": "string", "files": [file]}
    return {
        **body, "generation": 1, "stride": "fixed", "prepared_fingerprint": None, "shards": shards, "ids": ids,
        "deletions": None,
    }  # fmt: skip


def _check_rows(what: str, files: Sequence[FileEntry], rows: int, folder: Path) -> None:
    end, before = 0, ""
    for one in files:
        if one.start < end:
            raise ArtefactError(
                f"the {what} '{before}' and '{one.file}' overlap: the one ends at row {end}, the other begins at row "
                f"{one.start}", file=folder / MANIFEST, fix="Write the store again",
            )  # fmt: skip
        if one.start > end:
            raise ArtefactError(
                f"no {what} hold the rows {end} to {one.start - 1}", file=folder / MANIFEST, fix="Write the store again"
            )
        end, before = one.start + one.rows, one.file
    if end != rows:
        raise ArtefactError(
            f"the {what} hold {end} rows", file=folder / MANIFEST, expected=f"{rows}, the rows of the shards",
            fix="Write the store again",
        )  # fmt: skip
