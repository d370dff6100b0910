"""Texts of items, in a database beside their vectors: for display, for a teacher, and to catch up after a crash."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import weakref
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairstill.errors import ArtefactError, InputError, UnavailableError
from pairstill.files import fingerprint_file, fingerprint_json
from pairstill.tuples.items import ItemRows, collect
from pairstill.tuples.read_source import read_source
from pairstill.tuples.source_spec import TableSource

APPLICATION, VERSION = 0x50735478, 1
ENDINGS = (".sqlite", ".sqlite3", ".db")
AT_ONCE = 500
"""Parameters of a statement; SQLite takes at least 999."""
BUSY_S = 10.0
FOR_NOW = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR)
OF_FILE = b""
"""The version of a text that came from a file: of whatever content an item was encoded from."""

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE texts (id TEXT NOT NULL, version BLOB NOT NULL, text TEXT NOT NULL, UNIQUE (id, version));
CREATE TABLE latest (id TEXT PRIMARY KEY, version BLOB) WITHOUT ROWID;
CREATE TABLE stores (store TEXT PRIMARY KEY, field INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pending (store TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (store, id)) WITHOUT ROWID;
CREATE INDEX pending_id ON pending (id);
CREATE TABLE sources (name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class TextChange:
    """What happens to the text of an item.

    Attributes:
        id: Of the item.
        version: Content hash of the new text, 16 bytes; None where the item is deleted.
        text: None where the item is deleted.
    """

    id: str
    version: bytes | None
    text: str | None


class TextStore:
    """Ids and texts of items in SQLite, each change synced to the disk.

    A text is kept under its item's id and a version, the hash of the content that the item's vectors were made from. So a
    snapshot of a store finds the text that belongs to its vectors, although a newer one has come. A change is announced
    here before a store makes it, and settled when the store has it: what a killed process left open is found by `open_of`.
    All methods may be called from several threads.

    Attributes:
        path: Of the database.
        readers: Snapshots of all stores, one a store where none but the present ones are in use.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.path = path
        self._writer, self._reader = writer, reader
        self._writing, self._reading = threading.RLock(), threading.Lock()
        self._settled: list[tuple[str, str, bytes | None]] = []
        self._open_stores: list[str] = []
        self.readers: weakref.WeakSet[Hashable] = weakref.WeakSet()

    @classmethod
    def open(
        cls, path: str | Path, *, id_column: str = "id", text_column: str = "text", database: str | Path | None = None
    ) -> TextStore:  # fmt: skip
        """Open a database of texts, or a file of items with one beside it.

        Args:
            path: A database (`.sqlite`, made if it is not there), or a Parquet, CSV, TSV or JSON Lines file of ids and texts,
                such as a tuple set's `collection-NAME.parquet`. A file is read into a database once, and again when it changed.
            id_column: Of such a file.
            text_column: Of such a file.
            database: For a file; None puts it beside the file, as `FILE.sqlite`.

        Raises:
            InputError: The file is missing or damaged, or lacks a column, or an id has two texts.
            ArtefactError: The database is damaged, newer, or something else.
        """
        path = Path(path)
        if path.suffix.lower() in ENDINGS:
            return cls._open(path)
        if not path.is_file():
            raise InputError("the file of texts does not exist", file=path)
        texts = cls._open(Path(database) if database is not None else path.with_name(f"{path.name}.sqlite"))
        try:
            texts.fill(path, id_column=id_column, text_column=text_column)
        except BaseException:
            texts.close()
            raise
        return texts

    @classmethod
    def _open(cls, path: Path) -> TextStore:
        if not path.parent.is_dir():
            raise InputError("the folder of the texts does not exist", file=path)
        with contextlib.ExitStack() as on_error, _teaching(path):
            writer = on_error.enter_context(contextlib.closing(_connect(path)))
            _prepare(writer, path)
            reader = on_error.enter_context(contextlib.closing(_connect(path)))
            reader.execute("PRAGMA query_only=ON")
            on_error.pop_all()
        return cls(path, writer, reader)

    def close(self) -> None:
        """Close the database; what is not settled yet is noted first."""
        with self._writing:
            with contextlib.suppress(sqlite3.Error), self._transaction():
                self._note_settled()
            self._writer.close()
        with self._reading:
            self._reader.close()

    def fill(self, file: Path, *, id_column: str = "id", text_column: str = "text") -> int:
        """Take all texts of a file, in place of those that another file gave; items that were put keep theirs.

        Returns:
            How many; 0 where this very file was taken before.

        Raises:
            InputError: The file is damaged, lacks a column, or an id has two texts.
        """
        fingerprint = fingerprint_json([fingerprint_file(file), id_column, text_column])
        with self._writing, _teaching(self.path):
            known = self._writer.execute("SELECT fingerprint FROM sources WHERE name = 'file'").fetchone()
            if known is not None and known[0] == fingerprint:
                return 0
            table = read_source(TableSource(files=[file]), [id_column, text_column])
            columns = []
            for name in (id_column, text_column):
                column = table.column(name).combine_chunks()
                if column.null_count:
                    raise InputError(f"{column.null_count} cells are empty", file=file, column=name)
                if name == text_column and not pa.types.is_large_string(column.type):
                    raise InputError(f"the column holds {column.type}", file=file, column=name, expected="texts")
                columns.append(column.cast(pa.large_string()))
            found, _ = collect([ItemRows(table, id_column, *columns)])
            with self._transaction():
                self._writer.execute("DELETE FROM texts WHERE version = ?", (OF_FILE,))
                for start in range(0, len(found), 10_000):
                    ids, texts = (one.slice(start, 10_000).to_pylist() for one in (found.ids, found.texts))
                    self._writer.executemany(
                        "INSERT INTO texts VALUES (?, ?, ?)", ((name, OF_FILE, text) for name, text in zip(ids, texts, strict=True))
                    )  # fmt: skip
                self._writer.execute("INSERT OR REPLACE INTO sources VALUES ('file', ?)", (fingerprint,))
            logger.info("took %d texts of %s", len(found), file)
            return len(found)

    def texts(self, ids: Sequence[str], versions: np.ndarray) -> list[str | None]:
        """Texts of items, in their order; None where there is none.

        Args:
            ids: Of the items.
            versions: `(ids, 16)` uint8 content hashes, zeros where an item has none.
        """
        wanted = list(dict.fromkeys(ids))
        found: dict[tuple[str, bytes], str] = {}
        with self._reading, _teaching(self.path):
            for start in range(0, len(wanted), AT_ONCE):
                part = wanted[start : start + AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self._reader.execute(f"SELECT id, version, text FROM texts WHERE id IN ({marks})", part)
                found |= {(name, version): text for name, version, text in rows}
        return [
            found.get((name, version.tobytes()), found.get((name, OF_FILE)))
            for name, version in zip(ids, versions, strict=True)
        ]

    def register(self, store: str, field: int) -> None:
        """Note a store, so that changes of items of its field are open until it has made them; forget those that are gone."""
        with self._writing, _teaching(self.path), self._transaction():
            self._open_stores.append(store)
            self._writer.execute("INSERT OR REPLACE INTO stores VALUES (?, ?)", (store, field))
            for (other,) in self._writer.execute("SELECT store FROM stores").fetchall():
                if not Path(other).is_dir():
                    self._writer.execute("DELETE FROM stores WHERE store = ?", (other,))
                    self._writer.execute("DELETE FROM pending WHERE store = ?", (other,))

    def release(self, store: str) -> None:
        """A store that was registered is closed."""
        with self._writing:
            self._open_stores.remove(store)

    def forget(self, store: str) -> None:
        """A store that was registered, and released, will make no more of the announced changes: nothing is kept for it."""
        with self._writing, _teaching(self.path), self._transaction():
            self._writer.execute("DELETE FROM stores WHERE store = ?", (store,))
            self._writer.execute("DELETE FROM pending WHERE store = ?", (store,))

    def announce(self, store: str, changes: Sequence[TextChange]) -> None:
        """Write down what is about to happen to a store, durably; what earlier changes left is deleted.

        Args:
            store: That was registered. A change is open for every registered store of its field; another store that makes the
                same change announces nothing new.
            changes: One an id.
        """
        with self._writing, _teaching(self.path), self._transaction():
            self._note_settled()
            self._tidy()
            peers = self._writer.execute(
                "SELECT store FROM stores WHERE field = (SELECT field FROM stores WHERE store = ?)", (store,)
            ).fetchall()
            for one in changes:
                known = self._writer.execute("SELECT version FROM latest WHERE id = ?", (one.id,)).fetchone()
                if one.version is not None:
                    row = (one.id, one.version, one.text)
                    self._writer.execute("INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", row)
                if known is None or known[0] != one.version:
                    self._writer.execute("INSERT OR REPLACE INTO latest VALUES (?, ?)", (one.id, one.version))
                    rows = [(peer, one.id) for (peer,) in peers]
                    self._writer.executemany("INSERT OR IGNORE INTO pending VALUES (?, ?)", rows)

    def settle(self, store: str, changes: Sequence[TextChange]) -> None:
        """Note that a store has made changes; written with the next one, since it does no harm to make them again."""
        with self._writing:
            self._settled += [(store, one.id, one.version) for one in changes]

    def open_of(self, store: str) -> list[TextChange]:
        """Changes that were announced and that this store may not have made."""
        with self._writing, _teaching(self.path):
            with self._transaction():
                self._note_settled()
            rows = self._writer.execute(
                "SELECT pending.id, latest.version, texts.text FROM pending JOIN latest ON latest.id = pending.id "
                "LEFT JOIN texts ON texts.id = latest.id AND texts.version = latest.version WHERE store = ? ORDER BY pending.id",
                (store,),
            ).fetchall()
        return [TextChange(*row) for row in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        settled = self._settled
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            self._settled = settled
            # SQLite has ended it itself where the disk is full.
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def _tidy(self) -> None:
        """Delete the texts of replaced and deleted items, once every store has made the change and no older snapshot is used."""
        if len(self.readers) > len(self._open_stores):
            return
        made = "SELECT id FROM latest WHERE NOT EXISTS (SELECT 1 FROM pending WHERE pending.id = latest.id)"
        self._writer.execute(
            f"DELETE FROM texts WHERE id IN ({made}) AND version IS NOT (SELECT version FROM latest WHERE latest.id = texts.id)"
        )
        self._writer.execute(f"DELETE FROM latest WHERE id IN ({made})")

    def _note_settled(self) -> None:
        settled = self._settled
        self._writer.executemany(
            "DELETE FROM pending WHERE store = ? AND id = ? AND (SELECT version FROM latest WHERE latest.id = pending.id) IS ?",
            settled,
        )
        self._settled = []


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check what the file is, and make its tables where it is new."""
    if not path.exists() or not path.stat().st_size:
        # Another process may be making them at this very moment.
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise ArtefactError("this is a database of something else", file=path, expected="texts that pairstill wrote")
    if version > VERSION:
        raise ArtefactError(
            f"the format version is {version}",
            file=path,
            expected=f"at most {VERSION}",
            fix="Upgrade pairstill to read it",
        )
    connection.execute("PRAGMA journal_mode=WAL")
    # With a write-ahead log, FULL syncs it at every commit; NORMAL would lose the last ones in a power cut.
    connection.execute("PRAGMA synchronous=FULL")


@contextlib.contextmanager
def _teaching(path: Path) -> Iterator[None]:
    """What SQLite says, as an error that says what to do."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InputError(f"a text is no Unicode: {error.reason}", expected="no lone surrogates") from None
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in FOR_NOW:
            raise UnavailableError(f"the texts cannot be used now: {error}", file=path, fix="Is there room?") from None
        raise ArtefactError(
            f"the texts cannot be used: {error}", file=path, fix="Is there room, and may it be written?"
        ) from None
    except sqlite3.DatabaseError as error:
        raise ArtefactError(
            f"the texts are damaged: {error}", file=path, fix="Remove the file and fill it again"
        ) from None
