"""The source spec: where tuples, texts, labels and splits come from, as a YAML file or as flags say it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pairstill.errors import InputError, did_you_mean
from pairstill.tuples.content_source import NOUNS, Columns, ContentSource, as_list
from pairstill.tuples.tuple_set import SPLITS
from pairstill.yaml_files import read_yaml

Format = Literal["parquet", "csv", "tsv", "jsonl", "qrels", "run"]
RESERVED = ("label", "weight", "group", "split", "list")
SYNONYMS = {"dev": "valid", "development": "valid", "val": "valid", "validation": "valid"}


def _known_split(name: str) -> str:
    if name not in SPLITS:
        raise ValueError(f"'{name}' is no split; splits are {', '.join(SPLITS)}")
    return name


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
        raise ValueError(f"'{name}' is no name: use letters, digits, '_' and '-', and start with a letter")
    return name


def _as_class_names(value: object) -> object:
    if isinstance(value, list):
        if any(isinstance(one, bool) for one in value):
            raise ValueError("put quotes around class names such as yes, no, true and false")
        return [str(one) if isinstance(one, int) else one for one in value]
    return value


SplitName = Annotated[str, AfterValidator(_known_split)]
PlainName = Annotated[str, AfterValidator(_plain_name)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableSource(_Strict):
    """Files, or a Hugging Face dataset, that hold one table.

    Attributes:
        files: A file, a list of files, or a folder (all its files of one format, in the order of their names).
        format: None means by the files' ending. `qrels` and `run` are TREC's judgements and rankings (see `TREC_COLUMNS`).
        quotes: Whether `"` quotes fields of CSV and TSV; False where quotes are ordinary characters.
        columns: Names of the columns of CSV and TSV files without a header line; None where they have one.
        dataset: Name on the Hugging Face hub, or a folder written by `save_to_disk`.
        config: Configuration of a hub dataset.
        revision: Revision of a hub dataset.
        dataset_splits: Which of the dataset's own splits to read, in order; None means all.
    """

    files: Annotated[list[Path], BeforeValidator(as_list)] | None = None
    format: Format | None = None
    quotes: bool = True
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    dataset_splits: Columns | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.files is None) == (self.dataset is None):
            raise ValueError("give either 'files' or 'dataset'")
        if self.files is not None and not self.files:
            raise ValueError("'files' is an empty list")
        if self.columns is not None and (
            self.dataset is not None or self.format in ("parquet", "jsonl", "qrels", "run")
        ):
            raise ValueError(
                "'columns' names those of CSV and TSV files without a header; this source has names of its own"
            )
        return self

    def below(self, folder: Path) -> Self:
        """The same with relative paths taken from `folder`."""
        if self.files is not None:
            return self.model_copy(update={"files": [folder / one for one in self.files]})
        if self.dataset is not None and (folder / self.dataset).is_dir():
            return self.model_copy(update={"dataset": str(folder / self.dataset)})
        return self


def _as_table_source(value: object) -> object:
    return {"files": value} if isinstance(value, str | list | Path) else value


Table = Annotated[TableSource, BeforeValidator(_as_table_source)]


class CollectionSource(TableSource, ContentSource):
    """A table of items: `id` names the column of ids, `text`, `numeric` or `image` the columns of the content.

    Attributes:
        used_only: Keep the items that tuples name and leave out the others, which is said in the provenance. CSV, TSV and Parquet
            files alone, which are then read piece by piece.
    """

    id: str
    used_only: bool = False

    @model_validator(mode="after")
    def _some_content(self) -> Self:
        if self.content is None:
            raise ValueError("give 'text', 'numeric' or 'image': the columns that hold the items' content")
        return self


class FieldSource(ContentSource):
    """One field of the tuples; `text`, `numeric` and `image` name columns of the tuples' table, none where content comes by id.

    Attributes:
        id: Column of the tuples' table that holds the id; None means a hash of the content.
        collection: Collection of the content; None means one named like the field. Fields may share one.
    """

    id: str | None = None
    collection: PlainName | None = None

    @model_validator(mode="after")
    def _content_or_id(self) -> Self:
        if self.content is None and self.id is None:
            raise ValueError(
                "give 'text', 'numeric' or 'image' (columns that hold the content), or 'id' and 'collection'"
            )
        return self


def _as_field(value: object) -> object:
    return {"text": value} if isinstance(value, str | list) else value


class TripleSource(_Strict):
    """Where the tuples' table has one row a triple, which becomes two tuples, labelled 1 and 0.

    Attributes:
        column: What the two tuples differ in; a field names it as its `id` or `text`.
        positive: Column of what is relevant.
        negative: Column of what is not, or less so.
    """

    column: str
    positive: str
    negative: str

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.positive == self.negative:
            raise ValueError(f"the positive and the negative are both the column '{self.positive}'")
        return self


class LabelSource(_Strict):
    """What the labels are: binary where neither `range` nor `classes` is given.

    Attributes:
        column: Column of the tuples' table; None where `qrels` has them.
        qrels: Judgements by the ids of the first two fields, looked up for every tuple.
        unjudged: Label of tuples that `qrels` does not have, in its range; None leaves them without one.
        range: Lowest and highest grade; labels are rescaled from it to [0, 1].
        classes: Names of the classes in the order of their numbers, or how many classes there are.
    """

    column: str | None = None
    qrels: Annotated[TableSource, BeforeValidator(lambda value: _as_qrels(value))] | None = None
    unjudged: float | None = None
    range: tuple[float, float] | None = None
    classes: Annotated[list[str] | int | None, BeforeValidator(_as_class_names)] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.column is None) == (self.qrels is None):
            raise ValueError("give either 'column' or 'qrels'")
        if self.unjudged is not None and self.qrels is None:
            raise ValueError("'unjudged' is about tuples that 'qrels' does not have")
        if self.range is not None and self.classes is not None:
            raise ValueError("a label has a 'range' or 'classes', not both")
        if self.range is not None and not -1e300 < self.range[0] < self.range[1] < 1e300:
            raise ValueError("'range' must be two finite numbers, the lower one first")
        if isinstance(self.classes, int) and self.classes < 2:
            raise ValueError("there must be at least two 'classes'; leave them out for labels 0 and 1")
        if isinstance(self.classes, list) and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise ValueError("'classes' must name at least two different classes")
        return self


def _as_qrels(value: object) -> object:
    value = _as_table_source(value)
    return {"format": "qrels", **value} if isinstance(value, dict) else value


def _as_label(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class SplitSource(_Strict):
    """Where the splits come from; exactly one of `column`, `files`, `fractions` and `all`.

    Attributes:
        column: Column of the tuples' table that holds the split.
        rename: What values of that column (or names of a dataset's own splits) mean, such as `dev: valid`.
        files: A table for each split instead of `tuples`.
        fractions: Share of each split where splits are made by group.
        seed: Seed of made splits.
        all: The split that every row belongs to.
    """

    column: str | None = None
    rename: dict[str, SplitName] = {}
    files: dict[SplitName, Table] | None = None
    fractions: dict[SplitName, Annotated[float, Field(gt=0, le=1)]] | None = None
    seed: int = 0
    all: SplitName | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("column", "files", "fractions", "all") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"'{given[0]}' and '{given[1]}' exclude each other")
        if self.fractions is not None and abs(sum(self.fractions.values()) - 1) > 1e-6:
            raise ValueError(f"the fractions add up to {sum(self.fractions.values()):g}, not to 1")
        return self


def _as_slices(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        return {str(one).rpartition(".")[2]: one for one in value}
    return value


class SourceSpec(_Strict):
    """All that is needed to make a tuple set.

    Attributes:
        tuples: Table with one row a tuple; None where `splits.files` gives one table a split.
        fields: Fields in tuple order.
        collections: Tables of texts by id, for fields that have no text in the tuples' table.
        triples: None where the tuples' table has one row a tuple.
        label: None means no labels, or those of triples.
        weight: Column of row weights; None means equal weights.
        group: Field, column of the tuples' table, or `FIELD.COLUMN` for a column of that field's collection, whose
            equal values belong together and must not cross splits. None means the first field, unchecked.
        slices: Name of each slice and its column (or `FIELD.COLUMN`).
        splits: None means the column `split` or the dataset's own splits where there are any, else made by group
            (80% train, 10% valid, 10% test).
    """

    tuples: Table | None = None
    fields: Annotated[dict[PlainName, Annotated[FieldSource, BeforeValidator(_as_field)]], Field(min_length=1)]
    collections: dict[PlainName, CollectionSource] = {}
    triples: TripleSource | None = None
    label: Annotated[LabelSource, BeforeValidator(_as_label)] | None = None
    weight: str | None = None
    group: str | None = None
    slices: Annotated[dict[PlainName, str], BeforeValidator(_as_slices)] = {}
    splits: SplitSource | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        by_split = self.splits is not None and self.splits.files is not None
        if by_split == (self.tuples is not None):
            raise ValueError("give either 'tuples' or 'splits.files'")
        kinds: dict[str, str] = {name: one.kind for name, one in self.collections.items()}
        for name, one in self.fields.items():
            if name in RESERVED:
                raise ValueError(f"a field cannot be named '{name}': the tuples have a column of that name")
            if one.content is None and one.collection not in self.collections:
                hint = did_you_mean(one.collection or "", self.collections) or "Declare it under 'collections'"
                raise ValueError(f"field '{name}' has no text, and there is no collection '{one.collection}'. {hint}")
            if one.content is not None and one.collection in self.collections:
                raise ValueError(
                    f"field '{name}' has {NOUNS[one.kind]} of its own and names the collection '{one.collection}', "
                    f"which has a table; leave out '{one.kind}' to take the {NOUNS[one.kind]} from there"
                )
            other = kinds.setdefault(one.collection or name, one.kind)
            if one.content is not None and one.kind != other:
                raise ValueError(f"field '{name}' is of kind {one.kind} and shares a collection of kind {other}")
        for name in self.slices:
            if name in RESERVED or name in self.fields:
                raise ValueError(f"a slice cannot be named '{name}': the tuples have a column of that name")
        if self.triples is not None:
            if self.label is not None:
                raise ValueError("triples have labels of their own, 1 and 0; leave out 'label'")
            named = [name for one in self.fields.values() for name in (*(one.content or ()), one.id)]
            if self.triples.column not in named:
                raise ValueError(f"no field takes its id or text from the triples' column '{self.triples.column}'")
        if self.label is not None and self.label.qrels is not None and len(self.fields) < 2:
            raise ValueError("'qrels' judge a query and a document, and there is one field")
        unused = set(self.collections) - {one.collection for one in self.fields.values()}
        if unused:
            raise ValueError(f"no field uses the collection '{min(unused)}'")
        return self

    @classmethod
    def parse(cls, content: object, file: Path | None = None) -> Self:
        """Check parsed YAML (or a mapping made from flags).

        Raises:
            InputError: An unknown key (with the nearest known one), or a value that cannot be.
        """
        if not isinstance(content, dict):
            raise InputError("the source spec is no mapping", file=file, expected="keys such as 'tuples' and 'fields'")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = error.errors()
            first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
            path = [str(one) for one in first["loc"] if "[" not in str(one)]
            if first["type"] == "extra_forbidden":
                known = _known_keys(cls, path[:-1])
                raise InputError(
                    f"unknown key '{'.'.join(path)}'", file=file, expected=f"one of {', '.join(known)}",
                    fix=did_you_mean(path[-1], known),
                ) from None  # fmt: skip
            message = first["msg"].removeprefix("Value error, ")
            raise InputError(f"'{'.'.join(path)}': {message}" if path else message, file=file) from None

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read a YAML file; its relative paths start at the file's folder.

        Raises:
            InputError: The file is missing, is not YAML, or does not hold a source spec.
        """
        file = Path(file)
        return cls.parse(read_yaml(file, "source spec"), file).below(file.parent)

    def below(self, folder: Path) -> Self:
        """The same with relative paths taken from `folder`."""
        splits = self.splits
        if splits is not None and splits.files is not None:
            splits = splits.model_copy(
                update={"files": {name: one.below(folder) for name, one in splits.files.items()}}
            )
        label = self.label
        if label is not None and label.qrels is not None:
            label = label.model_copy(update={"qrels": label.qrels.below(folder)})
        return self.model_copy(
            update={
                "label": label,
                "tuples": None if self.tuples is None else self.tuples.below(folder),
                "collections": {name: one.below(folder) for name, one in self.collections.items()},
                "splits": splits,
            }
        )


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Keys allowed at `path`: models nest in plain fields and in mappings from names to models."""
    places: dict[str, tuple[type[BaseModel], bool]] = {
        "tuples": (TableSource, False), "fields": (FieldSource, True), "collections": (CollectionSource, True),
        "label": (LabelSource, False), "triples": (TripleSource, False), "qrels": (TableSource, False), "splits": (SplitSource, False), "files": (TableSource, True),
    }  # fmt: skip
    steps: list[Any] = list(path)
    while steps:
        nested, by_name = places.get(steps.pop(0), (model, False))
        model = nested
        if by_name and steps:
            steps.pop(0)
    return list(model.model_fields)
