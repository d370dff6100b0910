"""One way to read every kind of source table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pairstill.errors import InputError, did_you_mean
from pairstill.tuples.read_dataset import dataset_columns, is_saved_dataset, read_dataset
from pairstill.tuples.read_delimited import header, read_delimited
from pairstill.tuples.read_json_lines import first_keys, read_json_lines
from pairstill.tuples.read_parquet import parquet_columns, read_parquet_source
from pairstill.tuples.read_trec import TREC_COLUMNS, read_trec
from pairstill.tuples.source_spec import TableSource
from pairstill.tuples.source_table import Part, SourceTable
from pairstill.tuples.used_items import UsedItems

DELIMITERS = {"csv": ",", "tsv": "\t"}
ENDINGS = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def read_source(source: TableSource, columns: Sequence[str], used: UsedItems | None = None) -> SourceTable:
    """Read `columns` of all files of a source, in their order.

    Args:
        source: Files or a dataset.
        columns: Those wanted.
        used: Keep the rows of these items alone, of CSV, TSV and Parquet files, which are read piece by piece. None keeps all.

    Raises:
        InputError: A file is missing, of unknown format, damaged, or lacks a column; or there are no rows at all.
    """
    columns = list(dict.fromkeys(columns))
    parts: list[Part] = []
    if used is not None and source.dataset is not None:
        raise _not_in_pieces("a dataset", source.dataset)
    if source.dataset is not None:
        parts += read_dataset(
            source.dataset, columns, config=source.config, revision=source.revision, splits=source.dataset_splits
        )
    for path in source.files or ():
        if path.is_dir() and is_saved_dataset(path):
            if used is not None:
                raise _not_in_pieces("a dataset", path)
            parts += read_dataset(str(path), columns, splits=source.dataset_splits)
        else:
            parts += [_read_file(one, kind, source, columns, used) for one, kind in _files(path, source.format)]
    table = SourceTable(parts)
    if used is not None and not len(table):
        raise InputError(
            "no item of the file is named by a tuple", file=table.name, fix="Check that ids are those of the tuples"
        )
    if not len(table):
        raise InputError("there are no rows", file=table.name, fix="Give a file that has rows")
    return table


def source_columns(source: TableSource) -> list[str]:
    """Columns that every file of a source has (JSON Lines: those of its first line), without reading the rows."""
    found: list[list[str]] = []
    if source.dataset is not None:
        found.append(dataset_columns(source.dataset, config=source.config, revision=source.revision))
    for path in source.files or ():
        if path.is_dir() and is_saved_dataset(path):
            found.append(dataset_columns(str(path)))
        else:
            found += [_columns_of(one, kind, source) for one, kind in _files(path, source.format)]
    return [name for name in found[0] if all(name in other for other in found)]


def _columns_of(path: Path, kind: str, source: TableSource) -> list[str]:
    _check_header(path, kind, source)
    try:
        if kind == "parquet":
            return parquet_columns(path)
        if kind in TREC_COLUMNS:
            return list(TREC_COLUMNS[kind])
        if kind == "jsonl":
            return first_keys(path)
        return source.columns or header(path, DELIMITERS[kind], source.quotes)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", file=path) from None


def _not_in_pieces(what: str, place: str | Path) -> InputError:
    return InputError(
        f"'used_only' is given for {what}", file=place, expected="CSV, TSV or Parquet files, which can be read piece by piece",
        fix="Leave it out",
    )  # fmt: skip


def _check_header(path: Path, kind: str, source: TableSource) -> None:
    if source.columns is not None and kind not in DELIMITERS:
        raise InputError(
            f"'columns' is given for a file of format {kind}, which has names of its own", file=path,
            fix="Leave it out, or say 'format: tsv' if the file holds tab-separated lines without a header",
        )  # fmt: skip


def _read_file(path: Path, kind: str, source: TableSource, columns: Sequence[str], used: UsedItems | None) -> Part:
    _check_header(path, kind, source)
    if used is not None and kind not in (*DELIMITERS, "parquet"):
        raise _not_in_pieces(f"a file of format {kind}", path)
    try:
        if kind == "parquet":
            return read_parquet_source(path, columns, used)
        if kind in TREC_COLUMNS:
            return read_trec(path, kind, columns)
        if kind == "jsonl":
            return read_json_lines(path, columns)
        return read_delimited(
            path, columns, delimiter=DELIMITERS[kind], quotes=source.quotes, names=source.columns, used=used
        )
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", file=path) from None


def _files(path: Path, kind: str | None) -> list[tuple[Path, str]]:
    """The files that `path` stands for, each with its format."""
    if not path.exists():
        near = did_you_mean(path.name, [one.name for one in path.parent.iterdir()]) if path.parent.is_dir() else None
        raise InputError("the file does not exist", file=path, fix=near)
    if path.is_file():
        return [(path, kind or _format_of(path))]
    found = [
        (one, ENDINGS[one.suffix.lower()])
        for one in sorted(path.rglob("*"))
        if one.is_file()
        and one.suffix.lower() in ENDINGS
        and not any(part.startswith((".", "_")) for part in one.relative_to(path).parts)
        and kind in (None, ENDINGS[one.suffix.lower()])
    ]
    kinds = {one for _, one in found}
    if not found:
        raise InputError("the folder has no data files", file=path, expected=f"files that end in {', '.join(ENDINGS)}")
    if len(kinds) > 1:
        raise InputError(
            f"the folder has files of several formats ({', '.join(sorted(kinds))})", file=path,
            fix="Name the files, or say which format: --format, or 'format:' in YAML",
        )  # fmt: skip
    return found


def _format_of(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        fix = "Say which format it is: --format, or 'format:' in YAML"
        if ending in COMPRESSED:
            fix = "Decompress it first"
        elif ending == ".json":
            fix = "If it holds one object a line, say so: --format jsonl, or 'format: jsonl' in YAML"
        raise InputError(
            f"the ending '{path.suffix}' names no known format", file=path, expected=f"one of {', '.join(ENDINGS)}",
            fix=fix,
        )  # fmt: skip
    return ENDINGS[ending]
