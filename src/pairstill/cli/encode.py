"""`pairstill encode`: a field's items into a representation store, once each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pairstill.cli.flags import writable


def encode(
    student: Annotated[Path, typer.Option(help="Student folder.")],
    field: Annotated[str, typer.Option(help="Name of the field; with --tuples one of the set's.")],
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder of the store; one that is there is brought up to date.")
    ],
    tuples: Annotated[Path | None, typer.Option(help="Tuple set folder: all items of the field's collection.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Or a CSV, TSV, JSON Lines or Parquet file (or folder) of items.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="With --texts: column of the ids.")] = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text", help="With --texts: column of the text; several are joined by a space."),
    ] = None,
    position: Annotated[
        int | None, typer.Option(help="Which of the student's fields, from 1; that of the tuple set if left out.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16", "int8", "uint8"] | None,
        typer.Option(
            help="Precision of the store; that of the encoder if left out, uint8 of vectors that were trained for 8 bits. A store keeps its own."
        ),
    ] = None,
    prepared: Annotated[
        bool, typer.Option("--prepared", help="Store the head's part per item, too: more space, less time.")
    ] = False,
    precision: Annotated[str, typer.Option(help="Of the encoder: auto, float32 or bfloat16.")] = "auto",
    delete_missing: Annotated[
        bool, typer.Option("--delete-missing", help="Delete items of the store that are not given.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Afterwards, free the space of what was deleted or replaced.")
    ] = False,
    on_bad_row: Annotated[
        Literal["stop", "skip"], typer.Option(help="Where an id or text is missing, or an id comes twice.")
    ] = "stop",
    shard_rows: Annotated[
        int, typer.Option(min=1, help="Items of a shard; an interruption loses the shard it was in.")
    ] = 16_384,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Encode items into a store; run again, only what is new or changed is encoded; interrupted, it resumes."""
    from pairstill.cli.flags import refuse_flags
    from pairstill.cli.progress import progress_bar
    from pairstill.errors import InputError
    from pairstill.machine import resolve_precision, set_threads

    if (tuples is None) == (texts is None):
        raise InputError("give one of --tuples and --texts", expected="a tuple set, or a file of items")
    chosen = resolve_precision(precision)
    if tuples is not None:
        refuse_flags({"--id": id_column, "--text": text_column}, "the tuple set says it")
        ids, items, place, kind = _from_tuples(tuples, field)
        place = place if position is None else position - 1
    else:
        if id_column is None or not text_column or position is None:
            raise InputError("--texts is given without --id, --text or --position", expected="all three")
        ids, items = items_from_file(Path(str(texts)), id_column, text_column, on_bad_row, out)
        place, kind = position - 1, "text"

    from pairstill.scoring.encode import EncodeSettings, compact_store, encode_store
    from pairstill.students import load_student

    set_threads(threads)
    model = load_student(student)
    model.check_kind(place, kind, field)
    settings = EncodeSettings(dtype, chosen, prepared, delete_missing, shard_rows)
    with progress_bar("Encoding", "items") as progress:
        found = encode_store(model, place, ids, items, out, field, settings, progress)
    store = found.store
    if compact and (store.deleted or store.generation > 1):
        with progress_bar("Compacting", "items") as progress:
            store = compact_store(out, progress)
    changes = found.changes
    parts = [
        f"{number:,} {what}"
        for number, what in (
            (changes.added, "added"), (changes.replaced, "replaced"), (changes.unchanged, "unchanged"),
            (changes.deleted, "deleted"),
        )
        if number
    ]  # fmt: skip
    rate = f", {found.items_per_s:,.0f} items/s" if found.items_per_s else ""
    print(
        f"store: {out}   {len(store):,} items ({', '.join(parts)}), {store.dtype}, {store.bytes_per_item():,.0f} bytes an "
        f"item{rate}"
    )


def _from_tuples(folder: Path, field: str) -> tuple[Any, Any, int, str]:
    from pairstill.errors import InputError
    from pairstill.tuples import TupleSet

    tuple_set = TupleSet.load(folder)
    if field not in tuple_set.field_names:
        raise InputError(
            f"the tuple set has no field '{field}'", file=folder, expected=f"one of {', '.join(tuple_set.field_names)}"
        )
    place = tuple_set.field_names.index(field)
    return tuple_set.collection_of(place).ids, tuple_set.values(place), place, tuple_set.fields[place].kind


def items_from_file(
    path: Path, id_column: str, text_columns: list[str], on_bad_row: str | None, out: Path
) -> tuple[Any, list[str]]:
    """Ids and texts of items in a file; bad rows stop, or go to `skipped.parquet` in the folder `out`; None: the verb has no such choice."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from pairstill.errors import InputError
    from pairstill.files import write_parquet
    from pairstill.tuples.read_source import read_source
    from pairstill.tuples.source_spec import TableSource

    source = read_source(TableSource(files=[path]), [id_column, *text_columns])
    table = source.table
    ids = table.column(id_column)
    reasons: dict[int, tuple[str, str]] = {}
    for name in (id_column, *text_columns):
        for row in np.flatnonzero(np.asarray(pc.is_null(table.column(name)))):
            reasons.setdefault(int(row), (name, "the id is missing" if name == id_column else "the text is missing"))
    if not pa.types.is_integer(ids.type):
        for row in np.flatnonzero(np.asarray(pc.fill_null(pc.equal(ids.cast(pa.large_string()), ""), False))):
            reasons.setdefault(int(row), (id_column, "the id is empty"))
    trimmed = [pc.utf8_trim_whitespace(table.column(name).cast(pa.large_string())) for name in text_columns]
    blank = np.logical_and.reduce([np.asarray(pc.fill_null(pc.equal(one, ""), False)) for one in trimmed])
    for row in np.flatnonzero(blank):
        reasons.setdefault(int(row), (text_columns[0], "the text is empty"))
    codes = np.asarray(pc.fill_null(pc.dictionary_encode(ids).combine_chunks().indices, -1))
    order = np.argsort(codes, kind="stable")
    repeats = order[1:][(codes[order][1:] == codes[order][:-1]) & (codes[order][1:] >= 0)]
    first = {int(codes[row]): int(row) for row in reversed(order[np.isin(codes[order], codes[repeats])])}
    for row in repeats:
        where = source.describe_place(first[int(codes[row])])
        reasons.setdefault(int(row), (id_column, f"the id {ids[int(row)].as_py()!r} comes twice, first in {where}"))
    bad = sorted(reasons)
    if bad and on_bad_row != "skip":
        column, reason = reasons[bad[0]]
        more = f" (so it is with {len(bad):,} of {len(table):,} rows)" if len(bad) > 1 else ""
        raise source.error(
            bad[0],
            column,
            reason + more,
            fix="Mend it, or leave such rows out with --on-bad-row skip" if on_bad_row else "Mend it",
        )
    if bad:
        places = [source.place(row) for row in bad]
        write_parquet(
            out / "skipped.parquet",
            pa.table(
                {
                    "file": [file for file, _ in places], "row": [row for _, row in places],
                    "reason": [reasons[row][1] for row in bad],
                    "id": [None if (one := ids[row].as_py()) is None else str(one) for row in bad],
                }
            ),
        )  # fmt: skip
        import sys

        print(f"{len(bad):,} rows are left out, see {out / 'skipped.parquet'}", file=sys.stderr)
        table = table.take(pa.array(np.setdiff1d(np.arange(len(table)), bad)))
    if not len(table):
        raise InputError("no row is left", file=source.name, expected="at least one item")
    columns = [table.column(name).cast(pa.large_string()) for name in text_columns]
    texts = pc.binary_join_element_wise(*columns, pa.scalar(" ", pa.large_string())) if len(columns) > 1 else columns[0]
    ids = table.column(id_column)
    return (ids if pa.types.is_integer(ids.type) else ids.cast(pa.large_string())), texts.to_pylist()
