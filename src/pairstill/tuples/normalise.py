"""From a source spec to a tuple set: read, check, collect, split. Rows stay as many as they are, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill import __version__
from pairstill.errors import InputError
from pairstill.files import fingerprint_file
from pairstill.tuples.checks import flat, keys
from pairstill.tuples.collection import Collection
from pairstill.tuples.content_source import NOUNS, ContentSource
from pairstill.tuples.contents import Contents, read_contents, restored
from pairstill.tuples.items import ItemRows, check_known, collect, narrow, text_ids
from pairstill.tuples.read_labels import judged_labels, read_labels, read_weights
from pairstill.tuples.read_source import read_source, source_columns
from pairstill.tuples.set_manifest import Field, Labels
from pairstill.tuples.source_spec import FieldSource, SourceSpec, SplitSource, TableSource
from pairstill.tuples.source_table import Part, SourceTable
from pairstill.tuples.splitting import DEFAULT_FRACTIONS, first_crossing, make_splits, read_splits, splits_of_parts
from pairstill.tuples.triples import two_rows_each
from pairstill.tuples.tuple_set import LIST_COLUMN, TupleSet
from pairstill.tuples.used_items import UsedItems


def read_tuple_set(spec: SourceSpec, *, allow_overlap: bool = False) -> TupleSet:
    """Read and check everything that a source spec names, and normalise it.

    Args:
        spec: From `SourceSpec.load` (a YAML file) or `SourceSpec.parse` (a mapping).
        allow_overlap: A group that is in two splits becomes a note in the provenance instead of an error.

    Raises:
        InputError: Anything in the sources is not what it should be; with file, row and column.
        MissingExtraError: A Hugging Face dataset is named and the package `datasets` is not installed.

    Example:
        >>> spec = SourceSpec.load("homedepot.yaml")                    # doctest: +SKIP
        >>> read_tuple_set(spec).save("runs/homedepot/tuples")          # doctest: +SKIP
    """
    return _Reader(spec, allow_overlap).read()


@dataclass
class _Reader:
    spec: SourceSpec
    allow_overlap: bool
    notes: list[str] = field(default_factory=list)
    tables: dict[str, SourceTable] = field(default_factory=dict)

    def read(self) -> TupleSet:
        split_column = self._split_column()
        source = self._read_tuples(split_column)
        labels, label = Labels(), pa.nulls(len(source), pa.float64())
        if self.spec.label is not None and self.spec.label.qrels is None:
            labels, label = read_labels(source, self.spec.label)
        elif self.spec.triples is not None:
            labels, label = Labels("binary"), pa.array(np.tile([1.0, 0.0], len(source) // 2))
        weight = pa.nulls(len(source), pa.float64())
        if self.spec.weight is not None:
            weight = read_weights(source, self.spec.weight)
        splits = self._given_splits(source, split_column)
        self._read_collection_tables(source)
        ids, collections = self._items(source)
        if self.spec.label is not None and self.spec.label.qrels is not None:
            labels, label = judged_labels(self.spec.label, list(ids.values())[:2])
        groups = self._groups(source, ids)
        how = "given" if split_column is None else f"given by the column '{split_column}'"
        if splits is None:
            wanted = self.spec.splits or SplitSource()
            fractions = wanted.fractions or DEFAULT_FRACTIONS
            splits = make_splits(groups, fractions, wanted.seed)
            how = f"made by group, seed {wanted.seed}, " + ", ".join(f"{n} {f:g}" for n, f in fractions.items())
        elif self.spec.group is not None:
            self._check_groups(source, groups, splits, collections)
        columns: dict[str, pa.Array] = {name: narrow(one) for name, one in ids.items()}
        columns |= {"label": label, "weight": weight, "group": narrow(groups), "split": splits}
        if self.spec.triples is not None:
            columns[LIST_COLUMN] = pa.array(np.repeat(np.arange(len(source) // 2), 2))
        columns |= {name: self._slice(source, column, ids) for name, column in self.spec.slices.items()}
        return TupleSet(
            fields=tuple(self._field(name, one) for name, one in self.spec.fields.items()),
            labels=labels,
            collections=collections,
            tuples=pa.table(columns),
            slices=tuple(self.spec.slices),
            provenance=self._provenance(how),
        )

    def _split_column(self) -> str | None:
        """The column of splits: the declared one, or one called `split` where nothing else is said."""
        splits = self.spec.splits
        if splits is not None and (splits.column or splits.files or splits.fractions or splits.all):
            return splits.column
        if self.spec.tuples is not None and "split" in source_columns(self.spec.tuples):
            return "split"
        return None

    def _read_tuples(self, split_column: str | None) -> SourceTable:
        spec = self.spec
        wanted = [split_column, spec.weight, spec.label.column if spec.label else None]
        for one in spec.fields.values():
            wanted += [*(one.content or ()), one.id]
        for reference in (spec.group, *spec.slices.values()):
            if reference is not None and reference not in spec.fields and self._in_collection(reference) is None:
                wanted.append(reference)
        columns = [name for name in wanted if name is not None]
        triples = spec.triples
        read = columns if triples is None else [one for one in columns if one != triples.column]
        read = read if triples is None else [*read, triples.positive, triples.negative]
        if spec.tuples is not None:
            source = read_source(spec.tuples, read)
        else:
            parts: list[Part] = []
            for split, one_split in ((spec.splits and spec.splits.files) or {}).items():
                for part in read_source(one_split, read).parts:
                    parts.append(Part(part.name, part.table, part.row_number, split, part.class_names))
            source = SourceTable(parts)
        if triples is None:
            return source
        return two_rows_each(
            source, {triples.column: (triples.positive, triples.negative)},
            [one for one in dict.fromkeys(columns) if one != triples.column],
        )  # fmt: skip

    def _given_splits(self, source: SourceTable, column: str | None) -> pa.Array | None:
        splits = self.spec.splits or SplitSource()
        if column is not None:
            return read_splits(source, column, splits.rename)
        if splits.all is not None:
            return pa.repeat(splits.all, len(source))
        if splits.fractions is None and all(part.split is not None for part in source.parts):
            if splits.files is None and len({part.split for part in source.parts}) == 1 and not splits.rename:
                return None  # a dataset that is one split in name, such as "train", still needs to be divided
            return splits_of_parts(source, splits.rename)
        return None

    def _in_collection(self, reference: str) -> tuple[str, str] | None:
        """Field and column where `FIELD.COLUMN` names a column of the field's collection."""
        name, dot, column = reference.partition(".")
        if dot and name in self.spec.fields and self.spec.fields[name].content is None:
            return name, column
        return None

    def _read_collection_tables(self, source: SourceTable) -> None:
        for name, one in self.spec.collections.items():
            extra = [
                found[1]
                for reference in (self.spec.group, *self.spec.slices.values())
                if reference is not None
                and (found := self._in_collection(reference)) is not None
                and self.spec.fields[found[0]].collection == name
            ]
            used = UsedItems(one.id, self._named_in(source, name)) if one.used_only else None
            self.tables[name] = read_source(TableSource(**_origin(one)), [one.id, *(one.content or ()), *extra], used)
            if used is not None:
                self.notes.append(f"{self.tables[name].name}: items that no tuple names are left out")

    def _named_in(self, source: SourceTable, collection: str) -> pa.Array:
        """Distinct ids of a collection that tuples name."""
        columns = [
            one.id or "" for one in self.spec.fields.values() if one.content is None and one.collection == collection
        ]
        return pc.unique(pa.concat_arrays([keys(source, column) for column in columns]))

    def _items(self, source: SourceTable) -> tuple[dict[str, pa.Array], dict[str, Collection]]:
        ids: dict[str, pa.Array] = {}
        collections: dict[str, Collection] = {}
        for name, one in self.spec.collections.items():
            table = self.tables[name]
            held = read_contents(table, one)
            rows = ItemRows(table, one.id, keys(table, one.id), held.keys, NOUNS[one.kind])
            collections[name] = self._collect([rows], [held], table.name)
        inline: dict[str, list[tuple[ItemRows, Contents]]] = {}
        for name, found in self.spec.fields.items():
            if found.content is None:
                column, collection = found.id or "", found.collection or name
                ids[name] = keys(source, column)
                check_known(
                    source, column, ids[name], collections[collection], collection, self.tables[collection].name
                )
                continue
            held = read_contents(source, found)
            made = text_ids(held.keys) if found.kind == "text" else held.keys
            ids[name] = made if found.id is None else keys(source, found.id)
            rows = ItemRows(source, found.id or " + ".join(found.content), ids[name], held.keys, NOUNS[found.kind])
            inline.setdefault(found.collection or name, []).append((rows, held))
        for name, several in inline.items():
            if len({held.features for _, held in several}) > 1:
                raise InputError(
                    f"fields that share the collection '{name}' have {' and '.join(str(held.features) for _, held in several)} numbers",
                    expected="as many in each", fix="Give the fields collections of their own",
                )  # fmt: skip
            collections[name] = self._collect([rows for rows, _ in several], [held for _, held in several], None)
        return ids, collections

    def _collect(self, rows: list[ItemRows], contents: list[Contents], file: str | None) -> Collection:
        collection, repeated = collect(rows)
        if repeated and file is not None:
            same = f"the same {rows[0].noun}"
            self.notes.append(f"{file}: {repeated} rows repeat an id with {same}; each item is kept once")
        return restored(collection, contents)

    def _groups(self, source: SourceTable, ids: Mapping[str, pa.Array]) -> pa.Array:
        reference = self.spec.group
        if reference is None:
            return next(iter(ids.values()))
        if reference in ids:
            return ids[reference]
        return self._referenced(source, reference, ids, "group")

    def _referenced(self, source: SourceTable, reference: str, ids: Mapping[str, pa.Array], what: str) -> pa.Array:
        found = self._in_collection(reference)
        if found is None:
            return keys(source, reference, what) if what == "group" else _as_words(source, reference)
        name, column = found
        collection = self.spec.fields[name].collection or name
        table = self.tables[collection]
        values = keys(table, column, what) if what == "group" else _as_words(table, column)
        return values.take(pc.index_in(ids[name], value_set=keys(table, self.spec.collections[collection].id)))

    def _slice(self, source: SourceTable, reference: str, ids: Mapping[str, pa.Array]) -> pa.Array:
        return narrow(self._referenced(source, reference, ids, "slice"))

    def _check_groups(
        self, source: SourceTable, groups: pa.Array, splits: pa.Array, collections: Mapping[str, Collection]
    ) -> None:
        crossing = first_crossing(groups, splits)
        if crossing is None:
            return
        row, first, count = crossing
        found = (
            f"the group '{self._group_name(groups[row].as_py(), collections)}' is in split '{splits[row].as_py()}' here and in split "
            f"'{splits[first].as_py()}' in {source.describe_place(first)} ({count} such groups)"
        )
        if self.allow_overlap:
            self.notes.append(f"overlap allowed: {source.describe_place(row)}: {found}")
            return
        raise source.error(
            row, self.spec.group or "", found, expected="each group in one split",
            fix="Make splits by group (--split train=0.8,valid=0.1,test=0.1), or say --allow-overlap, which is recorded",
        )  # fmt: skip

    def _group_name(self, group: str, collections: Mapping[str, Collection]) -> str:
        """The group as the source has it: its text where the id is a hash that Pairstill made."""
        one = self.spec.fields.get(self.spec.group or "")
        if one is None or one.id is not None or one.kind != "text":
            return group
        collection = collections[one.collection or self.spec.group or ""]
        text = str(collection.texts[pc.index(collection.ids, group).as_py()].as_py())
        return text if len(text) <= 80 else text[:77] + "..."

    def _field(self, name: str, one: FieldSource) -> Field:
        collection = one.collection or name
        made: ContentSource = one if one.content is not None else self.spec.collections[collection]
        return Field(name, collection, made.kind, tuple(made.content or ()))

    def _provenance(self, how: str) -> dict[str, Any]:
        tables = [self.spec.tuples, *self.spec.collections.values(), self.spec.label.qrels if self.spec.label else None]
        if self.spec.splits is not None and self.spec.splits.files is not None:
            tables += self.spec.splits.files.values()
        files = [path for one in tables if one is not None for path in one.files or ()]
        return {
            "pairstill": __version__,
            "source": self.spec.model_dump(mode="json", exclude_defaults=True),
            "sha256": {str(path): fingerprint_file(path) for path in files if path.is_file()},
            "splits": how,
            "group": {"of": self.spec.group or next(iter(self.spec.fields)), "declared": self.spec.group is not None},
            "notes": self.notes,
        }


def _origin(source: TableSource) -> dict[str, Any]:
    return {name: getattr(source, name) for name in TableSource.model_fields}


def _as_words(source: SourceTable, column: str) -> pa.Array:
    """A slice column as text; null stays null."""
    values = source.column(column)
    if pa.types.is_nested(values.type):
        raise InputError(f"the column holds {values.type}", file=source.name, column=column, expected="plain values")
    return flat(values.cast(pa.large_string()))
