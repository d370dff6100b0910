"""The tuples table of a mined set: given rows, then negatives, then transfer pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.tuples import TupleSet

if TYPE_CHECKING:
    from pairstill.mining.mine import Mined, Plan
    from pairstill.mining.search import Found


def mined_table(tuple_set: TupleSet, plan: Plan, found: Found, negatives: Mined, transfer: Mined) -> pa.Table:
    """All given rows unchanged and in order, and below them the mined ones, queries in the order of their first row.

    A mined row has the group of its query's first row, and its slice values where all rows of the query agree.
    """
    given = tuple_set.tuples
    if tuple_set.labels.kind == "none" and len(negatives.rows):
        label = pa.array(np.where(plan.positive, 1.0, np.nan), pa.float64(), from_pandas=True)
        given = given.set_column(given.column_names.index("label"), given.schema.field("label"), label)
    if "similarity" in given.column_names:
        given = given.drop_columns(["similarity"])
    similarity = pa.array(found.given, pa.float32(), from_pandas=True)
    pieces = [given.append_column("similarity", similarity)]
    first_row, inherited = _of_queries(tuple_set, plan)
    for mined, label_value in ((negatives, 0.0), (transfer, None)):
        if len(mined.rows):
            pieces.append(_rows(tuple_set, plan, found, mined, label_value, first_row, inherited, pieces[0].schema))
    return pa.concat_tables(pieces).combine_chunks()


def _of_queries(tuple_set: TupleSet, plan: Plan) -> tuple[np.ndarray, dict[str, pa.Array]]:
    """`(queries,)` first given row of each asked query, and the slice values that all its rows share (else null)."""
    queries = plan.pairs[:, 0]
    size = len(tuple_set.collection_of(plan.query_field))
    first = np.full(size, -1, dtype=np.int64)
    first[queries[::-1]] = np.arange(len(queries))[::-1]
    inherited = {}
    for name in tuple_set.slices:
        column = tuple_set.tuples.column(name)
        codes = np.asarray(pc.fill_null(pc.dictionary_encode(column.combine_chunks()).indices, -1), dtype=np.int64)
        differs = np.zeros(size, dtype=bool)
        differs[queries[codes != codes[first[queries]]]] = True
        mask = differs[plan.asked]
        taken = column.take(pa.array(first[plan.asked])).combine_chunks()
        inherited[name] = pc.if_else(pa.array(mask), pa.scalar(None, taken.type), taken)
    return first[plan.asked], inherited


def _rows(
    tuple_set: TupleSet,
    plan: Plan,
    found: Found,
    mined: Mined,
    label: float | None,
    first_row: np.ndarray,
    inherited: dict[str, pa.Array],
    schema: pa.Schema,
) -> pa.Table:
    count = len(mined.rows)
    items = {
        plan.query_field: plan.asked[mined.rows],
        plan.passage_field: found.neighbours.items[mined.rows, mined.columns],
    }
    columns: dict[str, Any] = {
        name: tuple_set.collection_of(position).ids.take(pa.array(items[position]))
        for position, name in enumerate(tuple_set.field_names)
    }
    columns |= {
        "label": pa.array([label] * count, pa.float64()),
        "group": tuple_set.tuples.column("group").take(pa.array(first_row[mined.rows])),
        "split": pa.array(mined.splits.tolist(), pa.string()),
        "similarity": pa.array(found.neighbours.similarities[mined.rows, mined.columns], pa.float32()),
        **{name: values.take(pa.array(mined.rows)) for name, values in inherited.items()},
    }
    arrays: Sequence[Any] = [
        columns[one.name].cast(one.type) if one.name in columns else pa.nulls(count, one.type) for one in schema
    ]
    return pa.table(list(arrays), schema=schema)
