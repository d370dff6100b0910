"""TREC runs as pairs: candidates of a first stage become Parquet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairstill.errors import InputError
from pairstill.files import write_atomic

BATCH_LINES = 65_536
LINE = "topic Q0 document rank score system"


def convert_run(address: str, out: Path, fields: Mapping[str, str]) -> None:
    """Write the pairs of a run (`topic Q0 document rank score system`) as Parquet, in its order.

    Args:
        address: Of the run, on any file system that fsspec reaches; `.gz` is unpacked.
        out: The Parquet file, written whole or not at all.
        fields: The two fields' names with `string` or `integer`, what their stores have as ids.

    Raises:
        InputError: The run is missing, is no text, a line has not six parts, or an id is no integer where the store has
            integers.
    """
    import fsspec

    schema = pa.schema(
        [(name, pa.int64() if kind == "integer" else pa.string()) for name, kind in fields.items()]
        + [("score", pa.float64())]
    )
    try:
        with (
            fsspec.open(address, "rb", compression="infer") as opened,
            write_atomic(out) as file,
            pq.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for columns in _batches(opened, address, list(fields.values())):
                writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema))
    except FileNotFoundError:
        raise InputError("the file does not exist", file=address) from None


def fingerprint_run(address: str) -> str:
    """SHA-256 of a run's bytes.

    Raises:
        InputError: It is missing.
    """
    import fsspec

    try:
        with fsspec.open(address, "rb") as opened:
            digest = hashlib.sha256()
            while block := opened.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except FileNotFoundError:
        raise InputError("the file does not exist", file=address) from None


def _batches(opened: Any, address: str, kinds: list[str]) -> Iterator[tuple[list[Any], list[Any], list[float]]]:
    topics: list[Any] = []
    documents: list[Any] = []
    scores: list[float] = []
    try:
        for number, line in enumerate(opened, start=1):
            parts = line.decode("utf-8").split()
            if not parts:
                continue
            if len(parts) != 6:
                raise InputError(f"the line has {len(parts)} parts", file=address, row=number, expected=f"6: {LINE}")
            topics.append(_id(parts[0], kinds[0], address, number))
            documents.append(_id(parts[2], kinds[1], address, number))
            try:
                scores.append(float(parts[4]))
            except ValueError:
                raise InputError(f"the score is {parts[4]!r}", file=address, row=number, expected="a number") from None
            if len(topics) == BATCH_LINES:
                yield topics, documents, scores
                topics, documents, scores = [], [], []
    except UnicodeDecodeError:
        raise InputError("the run is not UTF-8", file=address, fix="Write it again as UTF-8") from None
    yield topics, documents, scores


def _id(text: str, kind: str, address: str, number: int) -> Any:
    if kind == "string":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"the id is {text!r}", file=address, row=number, expected="an integer, as the store has"
        ) from None
