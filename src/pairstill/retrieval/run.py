"""The run: which items were found for which query, as Parquet and as a TREC run file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairstill.errors import InputError
from pairstill.files import (
    MANIFEST,
    fingerprint_file,
    locked_folder,
    parse_body,
    read_manifest,
    read_parquet,
    refuse_other_artefact,
    write_atomic,
    write_manifest,
)
from pairstill.retrieval.best import Found
from pairstill.scoring.bulk.trec import convert_run

KIND, VERSION = "run", 1
PARQUET, TREC = "run.parquet", "run.trec"
RESERVED = ("rank", "score")

Ranking = Mapping[str, Mapping[str, float]]
"""Query -> item -> score."""


class RunWriter:
    """Writes what is found, block of queries by block.

    Args:
        table: Of `run.parquet`.
        trec: Of `run.trec`.
        name: Of the system, in the TREC run.
    """

    def __init__(self, table: pq.ParquetWriter, trec: Any, name: str) -> None:
        self._table, self._trec, self._name, self.rows = table, trec, trec_name(name), 0

    def write(self, queries: pa.Array, found: Found, ids: pa.Array) -> None:
        """Add the results of some queries.

        Args:
            queries: `(queries,)` ids.
            found: Of these queries.
            ids: Of the items in `found.rows` that are there, row by row.
        """
        there = found.rows >= 0
        query, place = np.nonzero(there)
        columns = [queries.take(pa.array(query)), ids, (place + 1).astype(np.int32), found.scores[there]]
        self._table.write_table(pa.table(columns, schema=self._table.schema))
        names = [trec_name(str(one)) for one in queries.to_pylist()]
        lines = (
            f"{names[number]} Q0 {trec_name(str(item))} {rank} {score:.9g} {self._name}\n"
            for number, item, rank, score in zip(
                query, ids.to_pylist(), (place + 1).tolist(), columns[3].tolist(), strict=True
            )
        )
        self._trec.write("".join(lines).encode())
        self.rows += len(query)


@contextlib.contextmanager
def write_run(
    folder: Path, fields: tuple[str, str], types: tuple[pa.DataType, pa.DataType], name: str, body: dict[str, Any]
) -> Iterator[RunWriter]:
    """Write a run's folder; the manifest comes last, with what stands in `body` when the block ends.

    Args:
        folder: Of the run; an older run in it is replaced.
        fields: Names of the queries' and the items' field.
        types: Of their ids.
        name: Of the system.
        body: Further entries of the manifest; the block may add to it.

    Raises:
        InputError: The folder holds something else, or a field has the name of another column.
    """
    refuse_other_artefact(folder, KIND)
    if fields[0] == fields[1] or set(fields) & set(RESERVED):
        raise InputError(
            f"the fields are '{fields[0]}' and '{fields[1]}'", expected="two names, other than rank and score"
        )
    schema = pa.schema([(fields[0], types[0]), (fields[1], types[1]), ("rank", pa.int32()), ("score", pa.float32())])
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        with (
            write_atomic(folder / PARQUET) as table_file,
            write_atomic(folder / TREC) as trec,
            pq.ParquetWriter(table_file, schema, compression="zstd") as table,
        ):
            writer = RunWriter(table, trec, name)
            yield writer
        files = {one: fingerprint_file(folder / one) for one in (PARQUET, TREC)}
        write_manifest(folder, KIND, VERSION, {"fields": list(fields), **body, "rows": writer.rows, "sha256": files})


def read_run(path: Path) -> Ranking:
    """A run: a folder that `pairstill search` wrote, its Parquet file, or any TREC run.

    Raises:
        InputError: It is missing, no run, or names an item of a query twice.
    """
    table = read_run_table(path)
    queries, items = (table.column(place).cast(pa.string()).to_pylist() for place in (0, 1))
    found: dict[str, dict[str, float]] = {}
    for row, (query, item, score) in enumerate(zip(queries, items, table.column("score").to_pylist(), strict=True), 1):
        of_query = found.setdefault(query, {})
        if item in of_query:
            raise InputError(f"the item {item!r} of query {query!r} comes twice", file=path, row=row)
        of_query[item] = score
    return found


@dataclass(frozen=True)
class _Fields:
    fields: tuple[str, str]


def run_fields(path: Path) -> tuple[str, str] | None:
    """Names of the queries' and the items' field, where the run says them: a folder does."""
    if not path.is_dir():
        return None
    body = read_manifest(path, KIND, VERSION)
    return parse_body(_Fields, body, path / MANIFEST, "the manifest").fields


def read_run_table(path: Path) -> pa.Table:
    """As `read_run`, as a table: ids of queries, ids of items, `score`."""
    if path.is_dir():
        return read_parquet(path / PARQUET, [*(run_fields(path) or ()), "score"])
    if not path.exists():
        raise InputError("the run does not exist", file=path, expected="a folder of `pairstill search`, or a TREC run")
    if path.suffix == ".parquet":
        table = read_parquet(path)
        names = [one for one in table.column_names if one not in RESERVED]
        if len(names) != 2 or "score" not in table.column_names:
            raise InputError(
                f"the columns are {', '.join(table.column_names)}", file=path,
                expected="a column of query ids, one of item ids, and score",
            )  # fmt: skip
        return table.select([*names, "score"])
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / PARQUET
        convert_run(str(path), out, {"query": "string", "item": "string"})
        return read_parquet(out)


def trec_name(text: str) -> str:
    """An id as a TREC file holds it: white space as `%` and hexadecimal digits, an empty one as `%`."""
    return re.sub(r"\s", lambda one: "".join(f"%{byte:02X}" for byte in one[0].encode()), text) or "%"
