"""Statistics of a tuple set: those of table 1 of DiPair (arXiv 2010.03099), and what is needed to choose lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.tuples.collection import Collection
from pairstill.tuples.images import image_size
from pairstill.tuples.lengths import token_counts, word_counts
from pairstill.tuples.overlaps import Overlap, find_overlaps
from pairstill.tuples.tuple_set import SPLITS, TupleSet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_ITEMS = 100_000
GRADE_BINS = 4
FEW_GRADES = 10


@dataclass(frozen=True)
class Range:
    """Least, mean and greatest of some numbers."""

    minimum: float
    mean: float
    maximum: float

    @classmethod
    def of(cls, values: np.ndarray) -> Range:
        """Of one number or more."""
        return cls(float(values.min()), float(values.mean(dtype=np.float64)), float(values.max()))


@dataclass(frozen=True)
class FieldStatistics:
    """One field in one split. Means and percentiles are over rows, an item that is in ten rows counts ten times.

    Attributes:
        items: Distinct ids.
        words: Mean words; None where the field holds no texts.
        tokens: Mean tokens without special tokens; None without a tokenizer or texts.
        percentiles: Tokens at 50, 95 and 99 percent of rows, and at most; None without a tokenizer or texts.
        sampled: Whether tokens were counted in a sample of the items alone.
        features: Of numbers: by feature; the columns' names, or 1, 2, ... where one column holds them all. Else empty.
        images: Of images: `width` and `height` in pixels, `bytes` as encoded. Else empty.
    """

    items: int
    words: float | None
    tokens: float | None
    percentiles: tuple[int, int, int, int] | None
    sampled: bool
    features: Mapping[str, Range] = field(default_factory=dict)
    images: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitStatistics:
    """One split: rows, rows with a label, label and slice distributions, groups, fields.

    Attributes:
        rows: Number of tuples.
        labelled: Rows with a label.
        label_counts: Rows by label: 0 and 1, grades (or quarters of their range), or class names.
        label_mean: Mean label in [0, 1]; None without labels and for classes.
        groups: Distinct groups.
        rows_per_group: Fewest, mean and most rows of a group.
        slices: For each slice the rows by value, most frequent first.
        fields: Statistics by field name.
    """

    rows: int
    labelled: int
    label_counts: Mapping[str, int]
    label_mean: float | None
    groups: int
    rows_per_group: tuple[int, float, int]
    slices: Mapping[str, Mapping[str, int]]
    fields: Mapping[str, FieldStatistics]


@dataclass(frozen=True)
class Description:
    """What `pairstill describe` prints.

    Attributes:
        splits: Statistics by split, in the order train, valid, test, transfer.
        overlaps: What splits have in common.
        items: Number of items of each collection.
        unused: Items of each collection that no tuple names.
    """

    splits: Mapping[str, SplitStatistics]
    overlaps: tuple[Overlap, ...]
    items: Mapping[str, int]
    unused: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return asdict(self)


def describe_tuple_set(
    tuple_set: TupleSet,
    tokenizer: Tokenizer | None = None,
    *,
    sample_items: int | None = SAMPLE_ITEMS,
    progress: Callable[[int, int], None] | None = None,
) -> Description:
    """Count everything that is worth knowing before a model is trained.

    Args:
        tuple_set: The set.
        tokenizer: From `load_tokenizer`; None leaves token lengths out.
        sample_items: Of larger collections the tokens of so many evenly spaced items are counted; None means of all.
        progress: Called with (done, total) items tokenized.
    """
    words = {name: word_counts(one.texts) for name, one in tuple_set.collections.items() if one.kind == "text"}
    sizes = {name: _image_sizes(one) for name, one in tuple_set.collections.items() if one.kind == "image"}
    tokens = {} if tokenizer is None else _tokens(tuple_set, tokenizer, sample_items, progress)
    column = tuple_set.tuples.column("split")
    splits = {}
    for name in SPLITS:
        rows = np.flatnonzero(np.asarray(pc.equal(column, name)))
        if len(rows):
            splits[name] = _split(tuple_set, rows, words, tokens, sizes)
    used = {
        name: np.unique(
            np.concatenate(
                [tuple_set.index[:, at] for at, one in enumerate(tuple_set.fields) if one.collection == name]
            )
        )
        for name in tuple_set.collections
    }
    return Description(
        splits=splits,
        overlaps=tuple(find_overlaps(tuple_set)),
        items={name: len(one) for name, one in tuple_set.collections.items()},
        unused={name: len(one) - len(used[name]) for name, one in tuple_set.collections.items()},
    )


def _tokens(
    tuple_set: TupleSet, tokenizer: Tokenizer, sample_items: int | None, progress: Callable[[int, int], None] | None
) -> dict[str, np.ndarray]:
    """For each collection the tokens of its items, -1 where an item was not sampled."""
    chosen = {}
    collections = {name: one for name, one in tuple_set.collections.items() if one.kind == "text"}
    for name, one in collections.items():
        count = len(one) if sample_items is None else min(len(one), sample_items)
        chosen[name] = np.linspace(0, len(one) - 1, count).round().astype(np.int64)
    total = sum(len(one) for one in chosen.values())
    found, before = {}, 0
    if progress is not None:
        progress(0, total)
    for name, one in collections.items():
        found[name] = np.full(len(one), -1, dtype=np.int64)
        report = None if progress is None else _shifted(progress, before, total)
        found[name][chosen[name]] = token_counts(tokenizer, one.texts.take(pa.array(chosen[name])), report)
        before += len(chosen[name])
    return found


def _shifted(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


def _split(
    tuple_set: TupleSet,
    rows: np.ndarray,
    words: Mapping[str, np.ndarray],
    tokens: Mapping[str, np.ndarray],
    sizes: Mapping[str, np.ndarray],
) -> SplitStatistics:
    table = tuple_set.tuples.take(pa.array(rows))
    label = table.column("label").to_numpy()
    label = label[~np.isnan(label)]
    group_sizes = np.asarray(pc.value_counts(table.column("group")).field("counts"))
    fields = {}
    for at, one in enumerate(tuple_set.fields):
        index = tuple_set.index[rows, at]
        lengths = tokens[one.collection][index] if one.collection in tokens else None
        sampled = lengths is not None and bool((lengths < 0).any())
        if lengths is not None:
            lengths = lengths[lengths >= 0]
        fields[one.name] = FieldStatistics(
            items=len(np.unique(index)),
            words=float(words[one.collection][index].mean()) if one.kind == "text" else None,
            tokens=None if lengths is None or not len(lengths) else float(lengths.mean()),
            percentiles=None if lengths is None or not len(lengths) else _percentiles(lengths),
            sampled=sampled,
            features=_features(tuple_set, at, index) if one.kind == "numeric" else {},
            images={
                name: Range.of(sizes[one.collection][index, place])
                for place, name in enumerate(("width", "height", "bytes") if one.kind == "image" else ())
            },
        )
    return SplitStatistics(
        rows=len(rows),
        labelled=len(label),
        label_counts=_label_counts(tuple_set, label),
        label_mean=float(label.mean()) if len(label) and tuple_set.labels.kind in ("binary", "graded") else None,
        groups=len(group_sizes),
        rows_per_group=(int(group_sizes.min()), float(group_sizes.mean()), int(group_sizes.max())),
        slices={name: _value_counts(table.column(name)) for name in tuple_set.slices},
        fields=fields,
    )


def _features(tuple_set: TupleSet, position: int, index: np.ndarray) -> dict[str, Range]:
    values, columns = np.asarray(tuple_set.values(position)), tuple_set.fields[position].columns
    names = columns if len(columns) == values.shape[1] else [str(one) for one in range(1, values.shape[1] + 1)]
    return {name: Range.of(values[index, place]) for place, name in enumerate(names)}


def _image_sizes(collection: Collection) -> np.ndarray:
    """`(items, 3)`: width, height, bytes."""
    return np.array([[*image_size(one), len(one)] for one in collection.contents.to_pylist()])


def _percentiles(lengths: np.ndarray) -> tuple[int, int, int, int]:
    middle, high, higher = np.percentile(lengths, [50, 95, 99], method="higher")
    return int(middle), int(high), int(higher), int(lengths.max())


def _label_counts(tuple_set: TupleSet, label: np.ndarray) -> dict[str, int]:
    labels = tuple_set.labels
    if labels.kind == "none" or not len(label):
        return {}
    if labels.kind == "graded":
        return _grade_counts(tuple_set, label)
    names = labels.classes if labels.kind == "classes" else ("0", "1")
    counts = np.bincount(label.astype(np.int64), minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _grade_counts(tuple_set: TupleSet, label: np.ndarray) -> dict[str, int]:
    """Rows by grade in the declared range; by quarter of the range where there are many different grades."""
    low, high = tuple_set.labels.minimum or 0.0, tuple_set.labels.maximum or 1.0
    grades = np.asarray(pc.drop_null(pc.unique(tuple_set.tuples.column("label"))))
    if len(grades) <= FEW_GRADES:
        return {f"{low + (high - low) * one:g}": int((label == one).sum()) for one in np.sort(grades)}
    edges = low + (high - low) * np.linspace(0, 1, GRADE_BINS + 1)
    counts = np.histogram(label, bins=GRADE_BINS, range=(0, 1))[0]
    names = [f"[{edges[at]:g}, {edges[at + 1]:g}" + (")" if at < GRADE_BINS - 1 else "]") for at in range(GRADE_BINS)]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column).to_pylist()
    ordered = sorted(counted, key=lambda one: (-one["counts"], str(one["values"])))
    return {"(none)" if one["values"] is None else one["values"]: one["counts"] for one in ordered}
