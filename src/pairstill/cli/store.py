"""`pairstill store`: look into a representation store, check it, export it, delete items, compact it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.store import RepresentationStore

store = typer.Typer(help="Look into a representation store, check, export and shrink it.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The store's folder.")]
_OTHER_FILES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".npy", ".npz", ".arrow", ".feather", ".safetensors")


@store.command("info")
def info(
    folder: Folder, json_output: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False
) -> None:
    """Say what a store holds. Sizes and headers are checked, checksums are not (see `verify`)."""
    import json

    from pairstill.store import RepresentationStore

    with _system_errors(folder):
        opened = RepresentationStore.open(folder, checksums=False)
    described = _describe(opened)
    if json_output:
        print(json.dumps(described, indent=2, ensure_ascii=False))
        return
    width = max(map(len, described))
    for name, value in described.items():
        print(f"{name.replace('_', ' ').ljust(width)}  {_said(value)}")


@store.command("verify")
def verify(folder: Folder) -> None:
    """Read every file of a store and compare it with its checksum; exit code 2 and the file's name where one differs."""
    from pairstill.cli.progress import progress_bar
    from pairstill.store import RepresentationStore

    with _system_errors(folder), progress_bar("Verifying", "bytes") as progress:
        opened = RepresentationStore.open(folder, progress=progress)
    files = opened.manifest.files
    print(
        f"whole: {folder} ({len(opened):,} items, {len(files):,} files, {sum(one.bytes for one in files):,} bytes, "
        f"generation {opened.generation})"
    )


@store.command("export")
def export(
    folder: Folder,
    to: Annotated[Path, typer.Option(help="FILE.parquet, or a new folder for .npy files.")],
) -> None:
    """Write all items as one Parquet file or as NumPy files, vectors as float32."""
    as_parquet = to.suffix.lower() == ".parquet"
    if to.suffix.lower() in _OTHER_FILES:
        raise InputError(
            f"--to ends with {to.suffix}", file=to, expected="FILE.parquet, or a new folder for .npy files"
        )
    if as_parquet and to.is_dir():
        raise InputError("--to is a folder", file=to, expected="a Parquet file to write")
    if not as_parquet and to.exists():
        raise InputError("--to exists", file=to, expected="a new folder")
    if folder.resolve() in to.resolve().parents:
        raise InputError("--to lies in the store's folder", file=to, expected="a place outside of it")
    from pairstill.cli.progress import progress_bar
    from pairstill.store import RepresentationStore

    with _system_errors(to):
        opened = RepresentationStore.open(folder)
        with progress_bar("Exporting", "items") as progress:
            if as_parquet:
                opened.export_parquet(to, progress=progress)
            else:
                opened.export_numpy(to, progress=progress)
    print(f"written: {to} ({len(opened):,} items)")


@store.command("delete")
def delete(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id of an item to delete; repeat for more.")] = None,
    ids_file: Annotated[
        Path | None, typer.Option("--ids", help="Text file with one id a line, or Parquet file with a column `id`.")
    ] = None,
) -> None:
    """Delete items by id: all of them or, where an id is unknown, none. Their space stays occupied until `compact`."""
    if bool(ids) == (ids_file is not None):
        raise InputError("give one of --id and --ids", expected="--id ID, once or often, or --ids FILE")
    from pairstill.store import StoreEditor

    given: Any = ids if ids_file is None else _read_ids(ids_file)
    with _system_errors(folder), StoreEditor(folder) as editor:
        wanted = _typed(given, editor.store.manifest.id_type, ids_file)
        known = editor.store.lookup(wanted) >= 0
        if not known.all():
            place = int((~known).argmax())
            raise InputError(
                f"the store has no item {_one(wanted, place)!r} ({int((~known).sum())} of {len(known)} ids are unknown); "
                "nothing was deleted", file=ids_file, row=None if ids_file is None else place + 1,
                expected=f"ids of the store {folder}",
            )  # fmt: skip
        editor.delete(wanted)
        left = editor.commit()
    print(
        f"deleted: {len(known):,} items of {folder}, {len(left):,} left (generation {left.generation}); "
        f"{left.deleted:,} deleted items occupy space until `pairstill store compact`"
    )


@store.command("compact")
def compact(
    folder: Folder,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Items per shard; the store's if left out.")] = None,
) -> None:
    """Write a store anew without its deleted items, in whole shards. Readers that have it open keep what they opened."""
    from pairstill.cli.progress import progress_bar
    from pairstill.store import RepresentationStore
    from pairstill.store import compact as compact_store

    with _system_errors(folder):
        # Damage must not be copied under a new checksum.
        before = RepresentationStore.open(folder)
        with progress_bar("Compacting", "items") as progress:
            after = compact_store(folder, shard_rows=shard_rows, progress=progress)
    old, new = (sum(one.bytes for one in one_state.manifest.files) for one_state in (before, after))
    print(
        f"compacted: {folder} ({len(after):,} items in {len(after.manifest.shards):,} shards, {old:,} bytes before, "
        f"{new:,} after, generation {after.generation})"
    )


def _describe(opened: RepresentationStore) -> dict[str, Any]:
    manifest = opened.manifest
    return {
        "folder": str(opened.folder),
        "field": opened.field,
        "items": len(opened),
        "deleted_items": opened.deleted,
        "generation": opened.generation,
        "precision": opened.dtype,
        "stride": opened.stride,
        "entries_per_item": opened.tokens,
        "dim": opened.dim,
        "arrays": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in manifest.arrays.items()},
        "ids": manifest.id_type,
        "content_hashes": opened.has_content_hashes,
        "bytes_per_item": round(opened.bytes_per_item(), 3),
        "bytes": sum(one.bytes for one in manifest.files),
        "shards": len(manifest.shards),
        "shard_rows": manifest.shard_rows,
        "encoder_fingerprint": opened.encoder_fingerprint,
        "prepared_fingerprint": opened.prepared_fingerprint,
        "provenance": dict(opened.provenance),
    }


def _said(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}"
    if isinstance(value, dict):
        return "; ".join(
            f"{name} {one['dtype']} {one['shape']}" if isinstance(one, dict) and "shape" in one else f"{name}: {one}"
            for name, one in value.items()
        )
    return str(value)


def _read_ids(path: Path) -> Any:
    """Ids of a Parquet file's column `id`, or of the lines of a text file."""
    if path.is_dir():
        raise InputError("--ids is a folder", file=path, expected="a text file with one id a line, or a Parquet file")
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(path).read()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"the Parquet file cannot be read: {error}", file=path) from None
        if "id" not in table.column_names:
            raise InputError(f"the columns are {', '.join(table.column_names)}", file=path, expected="a column 'id'")
        ids: Any = table.column("id")
    else:
        try:
            # Not splitlines(), which also splits at characters that an id may have.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InputError(f"the file cannot be read: {reason}", file=path) from None
        ids = lines[:-1] if lines[-1] == "" else lines
        for number, line in enumerate(ids, start=1):
            if not line:
                raise InputError("the line is empty", file=path, row=number, expected="one id a line")
    if not len(ids):
        raise InputError("the file holds no ids", file=path)
    return ids


def _typed(given: Any, id_type: str | None, file: Path | None) -> Any:
    """Ids as the store has them: words are read as numbers where its ids are integers."""
    if id_type != "integer" or not isinstance(given, list):
        return given
    numbers = []
    for row, word in enumerate(given, start=1):
        try:
            numbers.append(int(word))
        except ValueError:
            raise InputError(
                f"the id {word!r} is no whole number", file=file, row=None if file is None else row,
                expected="integers, as the store's ids are",
            ) from None  # fmt: skip
    return numbers


def _one(ids: Any, place: int) -> Any:
    one = ids[place]
    return one.as_py() if hasattr(one, "as_py") else one


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """What the system refuses (a full disk, no permission) as one line."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the system said: {error.strerror or error}", file=error.filename or path, fix="Nothing was changed"
        ) from None
