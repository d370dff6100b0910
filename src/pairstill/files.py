"""Files that are either whole or absent: atomic writes, manifests, fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import reprlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from pairstill.errors import ArtefactError, InputError, LockedError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
LOCK_FILE = ".lock"
Body = TypeVar("Body")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def locked_folder(folder: Path, wait: bool = False) -> Iterator[None]:
    """Be the only writer of a folder; the lock is the process's, a killed one leaves none behind.

    Args:
        folder: Must be there.
        wait: For another writer to end.

    Raises:
        LockedError: Another process writes to it, and there was to be no waiting.
    """
    import fcntl

    with (folder / LOCK_FILE).open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise LockedError(
                "another process works in this folder", file=folder, fix="Wait for it to end, or choose another folder"
            ) from None
        yield


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success sync it and rename it to `path`, on any error remove it.

    A reader, or a process that was killed at any moment, sees the old file or the whole new one.

    Raises:
        InputError: There is a folder of this name, or a file where its folder should be.
        UnavailableError: The disk is full, or a quota or limit of file sizes is reached.
    """
    if path.is_dir():
        raise InputError("this is a folder", file=path, expected="the name of a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError("a file stands where the folder should be", file=path, fix="Choose another place") from None
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        if error.errno in NO_ROOM:
            raise UnavailableError(
                f"the file cannot be written: {os.strerror(error.errno or 0)}", file=path,
                fix="Make room and run the same command again; what was finished is kept",
            ) from None  # fmt: skip
        raise
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with write_atomic(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN is refused, keys keep their order."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises `ArtefactError` with the file and line where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError("the file does not exist", file=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        row = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise ArtefactError(f"the file is not JSON: {error}", file=path, row=row) from None


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file (zstd) atomically."""
    import pyarrow.parquet as pq

    with write_atomic(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file that Pairstill wrote; raises `ArtefactError` where it is missing, truncated or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except FileNotFoundError:
        raise ArtefactError("the file does not exist", file=path) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtefactError(f"the Parquet file cannot be read: {error}", file=path, fix="Write it again") from None


def refuse_other_artefact(folder: Path, kind: str) -> None:
    """Refuse to write an artefact over something else, before work is spent on it.

    Args:
        folder: Where the artefact is to go; it need not exist.
        kind: Of the artefact, such as `tuple-set`; `student` for models, whose `config.json` says it.

    Raises:
        InputError: The path is a file, or the folder holds an artefact of another kind or a model from elsewhere.
    """
    expected, fix = "an empty folder, or nothing yet", "Choose another folder for the output"
    if folder.exists() and not folder.is_dir():
        raise InputError("the output is a file", file=folder, expected="a folder, or nothing yet")
    for name in (MANIFEST, "config.json"):
        if not (folder / name).exists():
            continue
        try:
            body = read_json(folder / name)
        except ArtefactError:
            continue
        found = body.get("format") if isinstance(body, dict) else None
        if found != f"pairstill/{kind}":
            what = f"a {name} of format '{found}'" if found else f"a {name} from elsewhere"
            raise InputError(f"the folder holds {what}", file=folder, expected=expected, fix=fix)


def refuse_newer(
    path: Path | None, body: Mapping[str, Any], version: int, use: Literal["read", "resume"] = "read"
) -> None:
    """Raise `ArtefactError` unless a file's `version` is a number up to the newest that is known here.

    Args:
        path: The file, for the message; None where there is none.
        body: What it holds.
        version: The newest.
        use: What a newer pairstill is needed for.
    """
    if not isinstance(body.get("version"), int) or body["version"] > version:
        raise ArtefactError(
            f"the format version is {body.get('version')!r}", file=path, expected=f"at most {version}",
            fix=f"Upgrade pairstill to {use} it",
        )  # fmt: skip


def write_manifest(folder: Path, kind: str, version: int, body: Mapping[str, Any]) -> None:
    """Write `manifest.json`, last of all files of an artefact: a folder without it is unfinished.

    Raises:
        InputError: The folder holds an artefact of another kind.
    """
    refuse_other_artefact(folder, kind)
    write_json(folder / MANIFEST, {"format": f"pairstill/{kind}", "version": version, **body})


def read_manifest(folder: Path, kind: str, version: int) -> dict[str, Any]:
    """Read and check `manifest.json`.

    Raises:
        ArtefactError: The folder or manifest is missing, is of another kind, or was written by a newer version.
    """
    path = folder / MANIFEST
    if folder.is_file():
        raise ArtefactError(
            "this is a file", file=folder, expected=f"a {kind} folder written by pairstill",
            fix="Make the folder first: `pairstill describe SOURCE --out FOLDER`" if kind == "tuple-set" else None,
        )  # fmt: skip
    if not folder.is_dir():
        raise ArtefactError("the folder does not exist", file=folder, expected=f"a {kind} folder written by pairstill")
    if not path.exists():
        raise ArtefactError(
            "the folder has no manifest.json", file=folder, expected=f"a finished {kind} folder",
            fix="If the command that writes it was interrupted, run that command again: it resumes",
        )  # fmt: skip
    body: dict[str, Any] = read_json(path)
    found = body.get("format") if isinstance(body, dict) else None
    if found != f"pairstill/{kind}":
        raise ArtefactError(f"the manifest says format {found!r}", file=path, expected=f"'pairstill/{kind}'")
    refuse_newer(path, body, version)
    return body


def parse_body(kind: type[Body], body: Any, path: Path | None, what: str, fix: str | None = None) -> Body:
    """What a file that Pairstill wrote holds, checked: a hand may have been in it since.

    Args:
        kind: A frozen dataclass, or another type that pydantic knows.
        body: Plain values, as JSON has them; keys that `kind` does not know are left out.
        path: The file, for the message; None where there is none.
        what: Of the file, such as `the manifest`.
        fix: What to do about a damaged one.

    Raises:
        ArtefactError: A value is missing, of another type or out of range; names the first place.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(body)
    except InputError as error:
        raise ArtefactError(f"{what} is damaged: {error}", file=path, fix=fix) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or None
        found = "" if first["type"] == "missing" else f" ({reprlib.repr(first['input'])})"
        raise ArtefactError(f"{what} is damaged: {first['msg']}{found}", file=path, column=place, fix=fix) from None


def fingerprint_json(content: Any) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def read_ahead(path: Path, most_bytes: int) -> bool:
    """Read a file that is mapped from end to end, so that later reads here and there find it in memory and not on the disk.

    Args:
        path: Of the file.
        most_bytes: A larger one is left alone: it would push out what it pushed in.

    Returns:
        Whether it was read.
    """
    if path.stat().st_size > most_bytes:
        return False
    piece = bytearray(2**22)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
    return True


def fingerprint_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
