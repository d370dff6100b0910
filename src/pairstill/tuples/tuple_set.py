"""The tuple set: which items there are, which tuples of them, and what people said about them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import ArtefactError, InputError, PairstillError, did_you_mean
from pairstill.files import (
    MANIFEST,
    fingerprint_file,
    fingerprint_json,
    write_parquet,
)
from pairstill.scratch import pieces, positions, scratch_array, take
from pairstill.tuples.collection import Collection, content_fingerprint, one_array
from pairstill.tuples.set_manifest import TUPLES, Field, Labels, SetManifest, file_of
from pairstill.tuples.stored_tables import read_collection, read_tuples

LIST_COLUMN = "list"
SPLITS = ("train", "valid", "test", "transfer")


@dataclass(frozen=True)
class Tuples:
    """Rows of a tuple set in stored order, as arrays that training and scoring need; large ones lie on disk (`scratch`).

    Attributes:
        index: `(rows, fields)` int64, rows into each field's collection.
        rows: `(rows,)` int64, row numbers in the set's `tuples.parquet`.
        labels: `(rows,)` float32 in [0, 1], or class numbers; NaN where a row has no label; None where the set has none.
        weights: `(rows,)` float32; None where every row weighs the same.
        groups: `(rows,)` int64 codes of the group (such as the query); rows of equal code belong together.
        lists: `(rows,)` int64 codes of what losses compare with one another, such as the two rows of a triple; None where they
            compare the rows of the first field's item.
    """

    index: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None
    weights: np.ndarray | None
    groups: np.ndarray
    lists: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def take(self, positions: np.ndarray) -> Tuples:
        """The rows at `positions`."""
        return Tuples(
            index=take(self.index, positions),
            rows=take(self.rows, positions),
            labels=None if self.labels is None else take(self.labels, positions),
            weights=None if self.weights is None else take(self.weights, positions),
            groups=take(self.groups, positions),
            lists=None if self.lists is None else take(self.lists, positions),
        )

    @property
    def compared(self) -> np.ndarray:
        """`(rows,)` codes: losses of groups compare rows of equal code."""
        return self.index[:, 0] if self.lists is None else self.lists


@dataclass(frozen=True)
class TupleSet:
    """Collections of texts (or numbers, or images) and tuples of their ids, with labels, weights, groups, splits and slices.

    `tuples` has one string column per field (an id), and the columns `label` (float64, nullable), `weight` (float64,
    nullable), `group` (string) and `split` (string; one of train, valid, test, transfer); each name in `slices` is one
    more string column, to report metrics by. A column `list` (int64, nullable) is there where losses compare other rows than
    those of the first field's item: rows of equal number, such as the two of a triple. Row order is the source's order and
    never changes.

    Example:
        >>> tuple_set = TupleSet.load("runs/homedepot/tuples")          # doctest: +SKIP
        >>> tuple_set.split("test").index.shape                         # doctest: +SKIP
        (7163, 2)
    """

    fields: tuple[Field, ...]
    labels: Labels
    collections: Mapping[str, Collection]
    tuples: pa.Table
    slices: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of tuples."""
        return int(self.tuples.num_rows)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields in tuple order."""
        return tuple(one.name for one in self.fields)

    def collection_of(self, position: int) -> Collection:
        """The collection of the field at `position`."""
        return self.collections[self.fields[position].collection]

    def values(self, position: int, items: np.ndarray | None = None) -> Sequence[Any]:
        """Contents of a field's collection: see `Collection.values`.

        Args:
            position: Of the field.
            items: `(items,)` rows of the collection, in the order that is wanted; None gives all, in row order.
        """
        collection = self.collection_of(position)
        return collection.values if items is None else collection.take(items)  # type: ignore[return-value]

    def texts(self, position: int, items: np.ndarray | None = None) -> list[str]:
        """As `values`, of a field of texts.

        Raises:
            InputError: The field holds numbers or images.
        """
        if self.fields[position].kind != "text":
            raise InputError(
                f"the field '{self.fields[position].name}' is of kind {self.fields[position].kind}",
                expected="text, which this works on",
            )
        return self.values(position, items)  # type: ignore[return-value]

    @cached_property
    def index(self) -> np.ndarray:
        """`(rows, fields)` int64: where each tuple's texts stand in their collections."""
        index = scratch_array((len(self), len(self.fields)), np.int64)
        for piece in pieces(len(self)):
            for position, one in enumerate(self.fields):
                ids = self.collections[one.collection].ids
                column = self._piece(piece, one.name).cast(ids.type)
                if column.equals(ids.slice(piece.start, len(column))):
                    # One item a row, as with texts that are no pairs: no table of all ids is needed.
                    index[piece, position] = np.arange(piece.start, piece.stop)
                    continue
                found = pc.index_in(column, value_set=ids)
                if found.null_count:
                    row = int(np.flatnonzero(np.asarray(found.is_null()))[0])
                    raise ArtefactError(
                        f"the id {column[row].as_py()!r} has no text in collection '{one.collection}'",
                        file="tuples.parquet", row=piece.start + row + 1, column=one.name,
                    )  # fmt: skip
                index[piece, position] = np.asarray(found)
        return index

    def _piece(self, piece: slice, column: str) -> pa.Array:
        """Rows of a column as one array."""
        return one_array(self.tuples.column(column).slice(piece.start, piece.stop - piece.start))

    def _gather(self, rows: np.ndarray, dtype: Any, values: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Values of rising rows, from those of whole pieces."""
        out = scratch_array((len(rows),), dtype)
        for piece in pieces(len(self)):
            low, high = np.searchsorted(rows, [piece.start, piece.stop])
            if low < high:
                out[low:high] = values(piece)[rows[low:high] - piece.start]
        return out

    @cached_property
    def _groups(self) -> np.ndarray:
        """`(rows,)` int64 codes of all groups, numbered as they appear."""
        out = scratch_array((len(self),), np.int64)
        for position, one in enumerate(self.fields):
            # Mostly a group is an item, which has a number already.
            if all(self._piece(piece, "group").equals(self._piece(piece, one.name)) for piece in pieces(len(self))):
                items_there = len(self.collection_of(position))
                first = scratch_array((items_there,), np.int64)
                first[:] = len(self)
                for piece in pieces(len(self)):
                    items, places = np.unique(self.index[piece, position], return_index=True)
                    first[items] = np.minimum(first[items], places + piece.start)
                blocks = (first[one.start : one.stop + 1] for one in pieces(items_there))
                number = None
                if not all((one[1:] >= one[:-1]).all() for one in blocks):
                    number = np.empty(items_there, np.int64)
                    number[np.argsort(first, kind="stable")] = np.arange(items_there)
                for piece in pieces(len(self)):
                    found = self.index[piece, position]
                    out[piece] = found if number is None else number[found]
                return out
        known = self._piece(slice(0, 0), "group")
        for piece in pieces(len(self)):
            column = self._piece(piece, "group")
            new = pc.unique(column.filter(pc.invert(pc.is_in(column, value_set=known))))
            known = pa.concat_arrays([known, new.cast(known.type)])
            out[piece] = np.asarray(pc.index_in(column, value_set=known))
        return out

    def slice_values(self, name: str, rows: np.ndarray) -> np.ndarray:
        """`(rows,)` strings: the values of a slice column in these rows; `(none)` where it has none.

        Raises:
            InputError: There is no such slice column.
        """
        if name not in self.slices:
            raise InputError(
                f"the tuple set has no slice column '{name}'", expected=f"one of {', '.join(self.slices) or 'none at all'}",
                fix=did_you_mean(name, self.slices, 0.4),
            )  # fmt: skip
        column = pc.fill_null(self.tuples.column(name).take(rows).cast("string"), "(none)")
        return np.array(column.to_pylist(), dtype=object).astype(str)

    def in_slices(self, tuples: Tuples, slices: Mapping[str, Sequence[str]], what: str) -> Tuples:
        """Those of the rows that have one of the named values in each named slice column.

        Args:
            tuples: Rows of this set.
            slices: Slice column -> values; none keeps all rows.
            what: What messages call a row.

        Raises:
            InputError: There is no such slice column, no row has a value, or none is left.
        """
        if not slices:
            return tuples
        kept = np.ones(len(tuples), dtype=bool)
        for name, values in slices.items():
            found = self.slice_values(name, tuples.rows)
            for value in values:
                if value not in found:
                    raise InputError(
                        f"no {what} has {name}={value}", expected=f"one of {', '.join(np.unique(found)[:20])}",
                        fix=did_you_mean(value, np.unique(found).tolist()),
                    )  # fmt: skip
            kept &= np.isin(found, list(values))
        if not kept.any():
            raise InputError(
                f"no {what} is in all of the slices {', '.join(slices)}", expected="rows in them", fix="Leave one out"
            )
        return tuples.take(np.flatnonzero(kept))

    def split(self, *names: str) -> Tuples:
        """The rows of one or several splits, in stored order; no names means all rows.

        Raises:
            InputError: A split of this name has no rows.
        """
        column = self.tuples.column("split")
        if names:
            present = set(pc.unique(column).to_pylist())
            for name in names:
                if name not in present:
                    raise InputError(
                        f"the tuple set has no split '{name}'", expected=f"one of {', '.join(sorted(present))}"
                    )
            wanted = pa.array(list(names))
            rows = positions(
                len(self), lambda piece: np.asarray(pc.is_in(self._piece(piece, "split"), value_set=wanted))
            )
        else:
            rows = positions(len(self), lambda piece: np.ones(piece.stop - piece.start, bool))
        labels = None
        if self.labels.kind != "none":
            labels = self._gather(rows, np.float32, lambda piece: self._numbers(piece, "label"))
        weights = None
        if self.tuples.column("weight").null_count < len(self):
            weights = self._gather(rows, np.float32, lambda piece: self._numbers(piece, "weight", 1.0))
        return Tuples(take(self.index, rows), rows, labels, weights, take(self._groups, rows), self._lists(rows))

    def _numbers(self, piece: slice, column: str, missing: float = np.nan) -> np.ndarray:
        numbers = pc.fill_null(self._piece(piece, column), missing).cast(pa.float32())
        return np.asarray(numbers.to_numpy(zero_copy_only=False))

    def _lists(self, rows: np.ndarray) -> np.ndarray | None:
        """Rows without a number (mined ones) are compared by the first field's item, apart from those that have one."""
        if LIST_COLUMN not in self.tuples.column_names or LIST_COLUMN in self.slices:
            return None
        beyond = int(pc.max(self.tuples.column(LIST_COLUMN)).as_py() or 0) + 1

        def codes(piece: slice) -> np.ndarray:
            numbers = pc.fill_null(self._piece(piece, LIST_COLUMN), -1).to_numpy(zero_copy_only=False)
            return np.asarray(np.where(numbers < 0, beyond + self.index[piece, 0], numbers))

        return self._gather(rows, np.int64, codes)

    def with_tuples(self, tuples: pa.Table, provenance: Mapping[str, Any]) -> TupleSet:
        """The same collections under other tuples."""
        return replace(self, tuples=tuples, provenance=provenance)

    def save(self, folder: str | Path) -> None:
        """Write the folder: one Parquet file a collection, `tuples.parquet`, and last the manifest."""
        folder, before = Path(folder), []
        with contextlib.suppress(PairstillError):
            before = [Path(name).name for name in SetManifest.load(folder).sha256]
        (folder / MANIFEST).unlink(missing_ok=True)
        for name, collection in self.collections.items():
            column = "text" if collection.kind == "text" else "content"
            write_parquet(folder / file_of(name), pa.table({"id": collection.ids, column: collection.contents}))
        write_parquet(folder / TUPLES, self.tuples)
        files = [TUPLES, *(file_of(name) for name in self.collections)]
        for name in before:
            if name not in files:
                (folder / name).unlink(missing_ok=True)
        SetManifest(
            fields=self.fields,
            labels=self.labels,
            collections={name: len(one) for name, one in self.collections.items()},
            rows=len(self),
            slices=self.slices,
            provenance=dict(self.provenance),
            sha256={name: fingerprint_file(folder / name) for name in files},
        ).save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> TupleSet:
        """Read a folder written by `save`.

        Raises:
            ArtefactError: The folder is no tuple set, is unfinished, newer, or damaged.
        """
        folder = Path(folder)
        manifest = SetManifest.load(folder)
        for name, expected in manifest.sha256.items():
            if not (folder / name).is_file() or fingerprint_file(folder / name) != expected:
                raise ArtefactError(
                    "the file is missing or does not have the checksum of the manifest", file=folder / name,
                    fix="Copy the folder again, or write it again with `pairstill describe SOURCE --out FOLDER`",
                )  # fmt: skip
        collections = {name: read_collection(folder / file_of(name)) for name in manifest.collections}
        tuples = read_tuples(folder / TUPLES)
        manifest.check_tables(folder, {name: (one.kind, len(one)) for name, one in collections.items()}, tuples)
        return cls(manifest.fields, manifest.labels, collections, tuples, manifest.slices, manifest.provenance)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over fields, labels, ids, contents and tuples: equal sets have equal fingerprints wherever they lie."""
        return fingerprint_json(
            {
                "fields": [asdict(one) for one in self.fields],
                "labels": asdict(self.labels),
                "tables": [content_fingerprint([one.ids, one.contents]) for _, one in sorted(self.collections.items())],
                "tuples": content_fingerprint([self.tuples.column(name) for name in sorted(self.tuples.column_names)]),
            }
        )
