"""Labels and weights of a source table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError, did_you_mean
from pairstill.tuples.checks import flat, keys, numbers
from pairstill.tuples.read_source import read_source
from pairstill.tuples.set_manifest import Labels
from pairstill.tuples.source_spec import LabelSource
from pairstill.tuples.source_table import SourceTable, first_row

JUDGED = ("query", "document", "relevance")
DECLARE = "Declare another kind: --label-range or --classes, or 'range:' or 'classes:' under 'label' in YAML"


def judged_labels(spec: LabelSource, ids: Sequence[pa.Array]) -> tuple[Labels, pa.Array]:
    """Labels of tuples by judgements: of the ids `(queries, documents)`, as `read_labels` gives them.

    Raises:
        InputError: As `read_labels`; or a pair has two different judgements, or no tuple has one.
    """
    if spec.qrels is None:
        raise TypeError(spec)
    source = read_source(spec.qrels, JUDGED)
    labels, values = read_labels(source, spec.model_copy(update={"column": "relevance", "qrels": None}))
    judged = _pairs(keys(source, "query"), keys(source, "document"))
    first = np.asarray(pc.index_in(judged, value_set=judged), dtype=np.int64)
    numbers_found = values.to_numpy(zero_copy_only=False)
    differs = first_row(numbers_found != numbers_found[first])
    if differs is not None:
        raise source.error(
            differs, "relevance", "the pair of this line has another judgement above", expected="one judgement a pair"
        )
    places = pc.index_in(_pairs(*ids), value_set=judged)
    if places.null_count == len(places):
        raise InputError("no tuple has a judgement", file=source.name, fix="Check that ids are those of the tuples")
    found = values.take(places)
    if spec.unjudged is None:
        return labels, found
    low, high = (labels.minimum, labels.maximum) if labels.kind == "graded" else (0.0, 1.0)
    other = (spec.unjudged - low) / (high - low) if labels.kind != "classes" else spec.unjudged  # type: ignore[operator]
    if not 0 <= other <= (1 if labels.kind != "classes" else len(labels.classes) - 1):
        raise InputError(f"the label of unjudged tuples is {spec.unjudged:g}", expected="a label in the declared range")
    return labels, pc.if_else(places.is_null(), pa.scalar(other, pa.float64()), found)


def _pairs(queries: pa.Array, documents: pa.Array) -> pa.Array:
    """One text a pair; ids of judgements hold no white space."""
    both = (queries.cast(pa.large_string()), documents.cast(pa.large_string()))
    return pc.binary_join_element_wise(*both, pa.scalar("\t", pa.large_string()))


def read_labels(source: SourceTable, spec: LabelSource) -> tuple[Labels, pa.Array]:
    """What the labels are, and their column as float64: 0 or 1, rescaled to [0, 1], or class numbers; null stays null.

    Raises:
        InputError: A label is no finite number, or lies outside what is declared.
    """
    column = spec.column or ""
    declared = spec.classes
    carried = {(part.class_names or {}).get(column) for part in source.parts}
    if declared is None and spec.range is None and len(carried) == 1 and (names := carried.pop()) and len(names) > 2:
        declared = list(names)
    if declared is not None:
        return _read_classes(source, column, declared)
    values = numbers(source, column, "label")
    if any((part.class_names or {}).get(column) for part in source.parts):
        values = _without_minus_one(values)
    array = values.to_numpy(zero_copy_only=False)
    present = ~np.isnan(array)
    if spec.range is None:
        _refuse_first(source, column, values, present & (array != 0) & (array != 1), "0 or 1", DECLARE)
        return Labels("binary"), values
    low, high = spec.range
    _refuse_first(
        source, column, values, present & ((array < low) | (array > high)),
        f"a number from {low:g} to {high:g}, the declared range", "Correct the label, or declare the range that holds it",
    )  # fmt: skip
    return Labels("graded", low, high), pc.divide(pc.subtract(values, low), high - low)


def read_weights(source: SourceTable, column: str) -> pa.Array:
    """The column as float64.

    Raises:
        InputError: A weight is missing, negative, NaN or infinite, or no weight is positive.
    """
    values = numbers(source, column, "weight")
    missing = first_row(values.is_null())
    if missing is not None:
        raise source.error(missing, column, "the weight is missing", expected="a number of at least 0 in every row")
    array = values.to_numpy()
    _refuse_first(source, column, values, array < 0, "a number of at least 0", None, what="weight")
    if not (array > 0).any():
        raise InputError("every weight is 0", file=source.name, column=column, expected="a positive weight somewhere")
    return values


def _without_minus_one(values: pa.Array) -> pa.Array:
    """In a Hugging Face `ClassLabel` -1 stands for "no label"."""
    return pc.if_else(pc.equal(values, -1.0), pa.scalar(None, values.type), values)


def _refuse_first(
    source: SourceTable, column: str, values: pa.Array, bad: np.ndarray, expected: str, fix: str | None,
    what: str = "label",
) -> None:  # fmt: skip
    row = first_row(bad)
    if row is not None:
        raise source.error(row, column, f"the {what} is {values[row].as_py():g}", expected=expected, fix=fix)


def _read_classes(source: SourceTable, column: str, declared: list[str] | int) -> tuple[Labels, pa.Array]:
    names = [str(one) for one in range(declared)] if isinstance(declared, int) else declared
    labels = Labels("classes", classes=tuple(names))
    values = source.column(column)
    if pa.types.is_large_string(values.type):
        values = flat(values)
        filled = pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, values.type), values)
        numbered = pc.index_in(filled, value_set=pa.array(names, pa.large_string()))
        unknown = first_row(pc.and_(numbered.is_null(), filled.is_valid()))
        if unknown is None:
            return labels, numbered.cast(pa.float64())
        if isinstance(declared, list) and not _all_integers(filled):
            raise source.error(
                unknown, column, f"the label {filled[unknown].as_py()!r} is none of the declared classes",
                expected=f"one of {', '.join(names)}", fix=did_you_mean(filled[unknown].as_py(), names),
            )  # fmt: skip
    found = numbers(source, column, "label")
    if any((part.class_names or {}).get(column) for part in source.parts):
        found = _without_minus_one(found)
    array = found.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        bad = ~np.isnan(array) & ((array < 0) | (array >= len(names)) | (array != np.floor(array)))
    _refuse_first(
        source, column, found, bad, f"a class number from 0 to {len(names) - 1}",
        "Correct the label, or declare all classes",
    )  # fmt: skip
    return labels, found


def _all_integers(values: pa.Array) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, r"^\s*\d+\s*$"), skip_nulls=True).as_py())
