"""The options that say which queries are asked, read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.retrieval.search import Queries
    from pairstill.tuples import TupleSet


def read_queries(
    tuples: Path | None, field: str, splits: list[str] | None, queries: Path | None, id_column: str | None,
    text_columns: list[str] | None, position: int | None,
) -> tuple[Queries, TupleSet | None]:  # fmt: skip
    """Queries from a tuple set's field, those of some splits or all of them, or from a file.

    Raises:
        InputError: Options contradict each other, or what they name is not there.
    """
    import numpy as np
    import pyarrow as pa

    from pairstill.cli.flags import refuse_flags

    if (tuples is None) == (queries is None):
        raise InputError("give one of --tuples and --queries", expected="a tuple set, or a file of queries")
    if position not in (None, 1, 2):
        raise InputError(f"the field {position} asks", expected="1 or 2")
    if tuples is not None:
        refuse_flags({"--id": id_column, "--text": text_columns}, "the tuple set says it")
        from pairstill.tuples import TupleSet

        tuple_set = TupleSet.load(tuples)
        place = field_of(tuple_set, field, tuples)
        collection = tuple_set.collection_of(place)
        rows = np.unique(tuple_set.split(*splits).index[:, place]) if splits else np.arange(len(collection))
        ids, texts = collection.ids.take(pa.array(rows)), tuple_set.values(place, rows)
        found, number, kind = tuple_set, place if position is None else position - 1, tuple_set.fields[place].kind
    else:
        refuse_flags({"--split": splits}, "a file of queries has no splits")
        if id_column is None or not text_columns:
            raise InputError("--queries is given without --id or --text", expected="both, names of columns")
        from pairstill.cli.encode import items_from_file

        path = Path(str(queries))
        ids, texts = items_from_file(path, id_column, text_columns, None, path)
        found, number, kind = None, (position or 1) - 1, "text"

    from pairstill.retrieval.search import Queries

    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return Queries(ids, texts, number, field, kind), found


def field_of(tuple_set: TupleSet, field: str, origin: Path) -> int:
    """Position of a field by its name.

    Raises:
        InputError: The tuple set has no such field.
    """
    if field not in tuple_set.field_names:
        raise InputError(
            f"the tuple set has no field '{field}'", file=origin, expected=f"one of {', '.join(tuple_set.field_names)}"
        )
    return tuple_set.field_names.index(field)
