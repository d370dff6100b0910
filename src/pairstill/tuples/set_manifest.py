"""The manifest of a tuple set: its fields, what its labels are, and which files hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import NonNegativeInt

from pairstill.errors import ArtefactError
from pairstill.files import MANIFEST, parse_body, read_manifest, write_manifest
from pairstill.tuples.collection import Kind

FORMAT = "tuple-set"
FORMAT_VERSION = 2
TEXT_VERSION = 1
"""Written for sets of texts alone, which older readers know."""
WRITE_AGAIN = "Write the folder again with `pairstill describe SOURCE --out FOLDER`"
TUPLES = "tuples.parquet"
LabelKind = Literal["binary", "graded", "classes", "none"]


def file_of(collection: str) -> str:
    """Name of a collection's file in the set's folder."""
    return f"collection-{collection}.parquet"


@dataclass(frozen=True)
class Field:
    """One place of the tuple.

    Attributes:
        name: Such as `query`; ids of this field are in the column of this name of `tuples.parquet`.
        collection: The collection that its ids point into; fields may share one.
        kind: Of its content: a text, a fixed number of numbers, or an encoded image.
        columns: Source columns that the content was made of, in order.
    """

    name: str
    collection: str
    kind: Kind = "text"
    columns: tuple[str, ...] = ()

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class Labels:
    """What the label column holds.

    Attributes:
        kind: `binary` (0 or 1), `graded` (rescaled to [0, 1] from the declared range), `classes` or `none`.
        minimum: Lower end of the declared range of graded labels, None for other kinds.
        maximum: Upper end of the same.
        classes: Names of the classes in the order of their numbers; empty for other kinds.
    """

    kind: LabelKind = "none"
    minimum: float | None = None
    maximum: float | None = None
    classes: tuple[str, ...] = ()

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @property
    def outputs(self) -> int:
        """How many logits a model for these labels gives."""
        return len(self.classes) if self.kind == "classes" else 1


@dataclass(frozen=True)
class SetManifest:
    """What `manifest.json` of a tuple set says.

    Attributes:
        fields: In tuple order.
        labels: Of the tuples.
        collections: Name of a collection -> its number of items.
        rows: Number of tuples.
        slices: Columns to report metrics by.
        provenance: Where the set is from.
        sha256: Name of a file of the folder -> its fingerprint.
    """

    fields: tuple[Field, ...]
    labels: Labels
    collections: Mapping[str, NonNegativeInt]
    rows: NonNegativeInt
    slices: tuple[str, ...]
    provenance: Mapping[str, Any]
    sha256: Mapping[str, str]

    def save(self, folder: Path) -> None:
        """Write it, last of the folder's files."""
        texts = all(one.kind == "text" for one in self.fields)
        write_manifest(folder, FORMAT, TEXT_VERSION if texts else FORMAT_VERSION, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> SetManifest:
        """Read and check it; no other file is looked at.

        Raises:
            ArtefactError: It is missing, unfinished, newer, of another artefact, or contradicts itself.
        """
        body = read_manifest(folder, FORMAT, FORMAT_VERSION)
        manifest = parse_body(cls, body, folder / MANIFEST, "the manifest", WRITE_AGAIN)
        _refuse(manifest._contradictions(), folder)
        return manifest

    def check_tables(self, folder: Path, collections: Mapping[str, tuple[Kind, int]], tuples: pa.Table) -> None:
        """Refuse a manifest that says other things than the files do.

        Args:
            folder: Of the set.
            collections: Name -> kind and number of items, as found.
            tuples: As found.

        Raises:
            ArtefactError: They differ.
        """
        found = []
        for one in self.fields:
            kind = collections[one.collection][0]
            if one.kind != kind:
                found.append(("fields", f"'{one.name}' is of kind {one.kind}", f"{kind}, as its collection is"))
        for name, expected in self.collections.items():
            if collections[name][1] != expected:
                found.append(
                    ("collections", f"'{name}' has {expected} items", f"{collections[name][1]}, as in the file")
                )
        if tuples.num_rows != self.rows:
            found.append(("rows", f"it says {self.rows}", f"{tuples.num_rows}, as in {TUPLES}"))
        columns = [*(one.name for one in self.fields), "label", "weight", "group", "split", *self.slices]
        lacking = [name for name in columns if name not in tuples.column_names]
        if lacking:
            found.append(
                (
                    "slices" if lacking[0] in self.slices else "fields",
                    f"no column '{lacking[0]}' is in tuples.parquet",
                    f"one of {', '.join(tuples.column_names)}",
                )
            )
        _refuse(found, folder)

    def _contradictions(self) -> list[tuple[str, str, str]]:
        """Place, what was found and what was expected, of what no single value shows."""
        found, labels = [], self.labels
        if not self.fields:
            found.append(("fields", "there are none", "one or more"))
        files = [TUPLES, *(file_of(name) for name in self.collections)]
        for lacking in (name for name in files if name not in self.sha256):
            found.append(("sha256", f"'{lacking}' has no checksum", ", ".join(files)))
        for one in self.fields:
            if one.collection not in self.collections:
                expected = f"one of {', '.join(self.collections)}"
                found.append(("fields", f"'{one.name}' points into the collection '{one.collection}'", expected))
        low, high = (math.nan if end is None else end for end in (labels.minimum, labels.maximum))
        if labels.kind == "graded" and not low < high:
            ends = f"{labels.minimum} to {labels.maximum}"
            found.append(("labels", f"graded labels range from {ends}", "a minimum below a maximum"))
        if labels.kind == "classes" and not labels.classes:
            found.append(("labels", "labels of classes name no class", "their names"))
        return found


def _refuse(contradictions: list[tuple[str, str, str]], folder: Path) -> None:
    """Of what was found the first is said."""
    for place, found, expected in contradictions:
        raise ArtefactError(
            f"the manifest is damaged: {found}",
            file=folder / MANIFEST,
            column=place,
            expected=expected,
            fix=WRITE_AGAIN,
        )
