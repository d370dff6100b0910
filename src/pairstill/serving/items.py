"""The items of one field, which change while they are served: durable edits, and snapshots that do not change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pairstill.errors import InputError, PairstillError, UnavailableError
from pairstill.representation import Representation
from pairstill.retrieval.vectors import StoredVectors
from pairstill.serving.failures import log_failure
from pairstill.serving.index_upkeep import IndexUpkeep
from pairstill.serving.item_encoder import ItemEncoder
from pairstill.serving.merging import commits_to_merge
from pairstill.serving.search import Covered, ItemSearch, searchable
from pairstill.serving.snapshot import ItemSnapshot, as_integer, stored_rows
from pairstill.serving.texts import TextChange, TextStore
from pairstill.store import RepresentationStore, StoreEditor, content_hashes
from pairstill.store.blocks import make_block
from pairstill.store.manifest import StoreManifest

BLOCK_TEXTS = 64

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Change:
    """What one caller wants: items to put, or ids to delete."""

    ids: list[str]
    texts: list[str] = field(default_factory=list)
    representation: Representation[np.ndarray] | None = None
    hashes: np.ndarray = field(default_factory=lambda: np.empty((0, 16), np.uint8))
    done: bool = False
    error: BaseException | None = None


class ItemStore:
    """A representation store of one field that is edited while it is served.

    An edit is on the disk before it returns. Edits that come together are written together. The first edit locks the store for
    this process until `close`; of two processes that edit, the second is refused, and any number may read. Each edit makes a
    new snapshot; searches go on in theirs.

    The store's manifest decides which items there are: it is replaced in one step, and names vectors together with hashes of
    the texts that they were made from, by which their texts are found. Texts are written first, as an announcement; what a
    killed process announced and did not do is done when the store is opened next, so that several stores of the same items
    (one to search, one to score) agree again.

    Attributes:
        folder: Of the store.
        field: Position of the field.
        key: What the texts call the store: its folder, as it was resolved when it was opened.
        editing: Held by whoever changes the items or their index.
    """

    def __init__(
        self, folder: Path, student: ItemEncoder, position: int, texts: TextStore | None, index: IndexUpkeep | None
    ) -> None:  # fmt: skip
        self.folder, self.field = folder, position
        self._student, self._texts, self._index = student, texts, index
        self.key = str(folder.resolve())
        self._editor: StoreEditor | None = None
        self._queue: list[_Change] = []
        self._queueing, self.editing = threading.Lock(), threading.Lock()
        self._merging: threading.Thread | None = None
        self._closed = False
        # Announced and not made: by a killed process, or by an edit that failed; what others announce now, they make.
        self._left: list[TextChange] = []
        self._open_snapshot()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        student: ItemEncoder,
        field: int,
        *,
        texts: TextStore | None = None,
        index: str | Path | None = None,
    ) -> ItemStore:
        """Open a store, and finish what a killed process began.

        Args:
            folder: Of the store.
            student: Whose encoder made it, and makes new items.
            field: Position of the field.
            texts: Of the items; several stores may share it. None keeps none.
            index: Folder of an index of the store. One that the store has left behind is used as far as it reaches, and built
                anew in the background when that is no longer far. None searches exactly.

        Raises:
            ArtefactError: The store is damaged, of another encoder, or the index of another store or metric.
            InputError: The store has no ids, or is indexed and keeps no single vectors.
        """
        folder = Path(folder)
        upkeep = None
        if index is not None:
            if student.similarity is None:
                raise InputError("an index is given to a student that compares no single vectors", file=index)
            upkeep = IndexUpkeep(Path(index), student.similarity.metric)
        items = cls(folder, student, field, texts, upkeep)
        if texts is not None:
            texts.register(items.key, field)
            items._left = texts.open_of(items.key)
            if items._left:
                try:
                    with items.editing:
                        items._open_editor()
                except InputError as error:
                    # Such as another process that holds the store, and makes them now. A message may hold an id.
                    logger.warning("%s: announced changes are left to the next edit (%s)", folder, type(error).__name__)
        return items

    def snapshot(self) -> ItemSnapshot:
        """The items as they are now."""
        return self._snapshot

    def put(self, items: Sequence[tuple[str, str]]) -> int:
        """Encode and store items, durably; those whose ids are known are replaced.

        Args:
            items: Ids, distinct, and texts.

        Returns:
            How many.

        Raises:
            InputError: An id comes twice, is empty, or no whole number where the store's are; or a text cannot be
                encoded. Nothing is stored then.
            LockedError: Another process writes to the store.
            UnavailableError: The disk is full, or the store closed.
        """
        ids = self._checked([name for name, _ in items])
        texts = [text for _, text in items]
        for name, text in items:
            _check_unicode(name, text)
        if not ids:
            return 0
        block = self._student.encode(self.field, texts)
        if block.vectors.dtype.kind == "f" and not np.isfinite(block.vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(block.vectors).all(axis=tuple(range(1, block.vectors.ndim))))[0])
            raise InputError(
                f"the student makes of item {ids[bad]!r} what is no finite number", fix="Look at the student"
            )
        # What the store cannot hold is refused before anything is announced.
        block = block.padded(self._slots())
        manifest = self._snapshot.store.manifest
        if make_block(block, manifest.dtype, manifest.stride).spec != dict(manifest.arrays):
            raise InputError("what the student keeps of an item does not fit the store", file=self.folder)
        self._do(_Change(ids, texts, block, content_hashes(texts)))
        return len(ids)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items, durably.

        Returns:
            How many.

        Raises:
            InputError: An id comes twice, or the store lacks one; nothing is deleted then.
            LockedError: Another process writes to the store.
            UnavailableError: The disk is full, or the store closed.
        """
        names = self._checked(ids)
        if names:
            self._do(_Change(names))
        return len(names)

    def refresh(self) -> ItemSnapshot:
        """Take up what another process, or another `ItemStore`, changed; a no-op where this one writes."""
        with self.editing:
            if self._editor is None and StoreManifest.load(self.folder).generation != self._snapshot.generation:
                self._open_snapshot()
        return self._snapshot

    def close(self) -> None:
        """Wait for edits in flight, stop work in the background and unlock the store; snapshots stay readable."""
        if self._index is not None:
            self._index.stop()
        with self.editing:
            self._release()
            if self._texts is not None and not self._closed:
                self._texts.release(self.key)
            self._closed = True
        merging = self._merging
        if merging is not None:
            merging.join()

    def forget(self) -> None:
        """Have texts of the items kept for this store no longer; it is closed, and another is served in its place."""
        try:
            if self._texts is not None:
                self._texts.forget(self.key)
        except PairstillError as error:
            log_failure(logger, f"texts are still kept for {self.folder}", error)

    def _checked(self, ids: Sequence[str]) -> list[str]:
        seen: set[str] = set()
        integers = self._snapshot.store.manifest.id_type == "integer"
        for name in ids:
            if not name:
                raise InputError("an id is empty", expected="a text of at least one character")
            if name in seen:
                raise InputError(f"the id {name!r} comes twice", expected="every id once")
            if integers and as_integer(name) is None:
                raise InputError(f"the id {name!r} is no whole number", expected="integers, as the store has")
            seen.add(name)
        return list(ids)

    def _do(self, change: _Change) -> None:
        """Have a change made by whoever comes first, together with all that wait by then."""
        with self._queueing:
            self._queue.append(change)
        with self.editing:
            if not change.done:
                with self._queueing:
                    group, self._queue = self._queue, []
                try:
                    repeated = [one.id for one in self._left]
                    self._apply(self._open_editor(), group, repeated)
                except BaseException as error:
                    self._release()
                    for one in group:
                        one.error = one.error or error
                for one in group:
                    one.done = True
                self._look_after()
        if change.error is not None:
            raise change.error

    def _apply(self, editor: StoreEditor, group: Sequence[_Change], repeated: Collection[str] = ()) -> None:
        """Make the changes of a group, the later ones on top of the earlier ones; refused ones get an error.

        Deleting one of `repeated` is no error: it was left by an edit that failed, and made just before.
        """
        store = editor.store
        final: dict[str, tuple[_Change, int] | None] = {}
        for change in group:
            if change.representation is not None:
                final |= {name: (change, place) for place, name in enumerate(change.ids)}
                continue
            there = stored_rows(store, change.ids) >= 0
            unknown = [
                name
                for name, stored in zip(change.ids, there, strict=True)
                if not final.get(name, stored or name in repeated)
            ]
            if unknown:
                more = f" ({len(unknown)} of {len(change.ids)} ids are unknown)" if len(unknown) > 1 else ""
                change.error = InputError(
                    f"there is no item {unknown[0]!r}{more}", expected="ids of items that are stored"
                )
                continue
            final |= dict.fromkeys(change.ids)
        if not final:
            return
        announced = [
            TextChange(name, None, None) if one is None else TextChange(name, one[0].hashes[one[1]].tobytes(), one[0].texts[one[1]])
            for name, one in final.items()
        ]  # fmt: skip
        if self._texts is not None:
            self._texts.announce(self.key, announced)
            self._left = announced
        rows = stored_rows(store, list(final))
        gone = [name for (name, one), row in zip(final.items(), rows, strict=True) if one is None and row >= 0]
        if gone:
            editor.delete(self._typed(gone))
        for change in group:
            places = [place for place, name in enumerate(change.ids) if final.get(name) == (change, place)]
            if places:
                assert change.representation is not None
                block = change.representation.take(np.array(places))
                editor.put(
                    block,
                    self._typed([change.ids[place] for place in places]), content_hash=change.hashes[places],
                )  # fmt: skip
        store = editor.commit()
        search = self._snapshot.item_search
        if search is not None:
            vectors = StoredVectors(store, search.vectors.metric)
            buried = np.sort(rows[rows >= 0])
            if self._index is not None:
                self._index.buried(buried)
            search = ItemSearch(vectors, None if search.covered is None else search.covered.after(vectors, buried))
        self._show(store, search)
        if self._texts is not None:
            self._texts.settle(self.key, announced)
            self._left = []

    def _open_editor(self) -> StoreEditor:
        """The editor, which holds the lock; the first time, finish what was begun."""
        if self._editor is not None:
            return self._editor
        if self._closed:
            raise UnavailableError("the store is closed", file=self.folder)
        if self._snapshot.store.prepared_fingerprint is not None or self._snapshot.store.prepared_names:
            raise InputError(
                "the store has a prepared part, which new items would lack", file=self.folder,
                fix="Encode the items without --prepared into another folder",
            )  # fmt: skip
        editor = StoreEditor(self.folder, encoder_fingerprint=self._student.encoder_fingerprints[self.field])
        editor.__enter__()
        self._editor = editor
        try:
            if editor.store.generation != self._snapshot.generation:
                self._open_snapshot()
            self._catch_up(editor)
        except BaseException:
            self._release()
            raise
        return editor

    def _release(self) -> None:
        if self._editor is not None:
            self._editor.__exit__(None, None, None)
            self._editor = None

    def _catch_up(self, editor: StoreEditor) -> None:
        """Make the changes that were left, unless others were announced for the same items since."""
        if self._texts is None or not self._left:
            return
        left = self._left
        announced = [one for one in self._texts.open_of(self.key) if one in left]
        rows = stored_rows(editor.store, [one.id for one in announced])
        gone, new = [], []
        for one, row in zip(announced, rows, strict=True):
            if one.version is None and row >= 0:
                gone.append(one.id)
            elif one.text is not None and (row < 0 or editor.store.content_hash_at([row])[0].tobytes() != one.version):
                new.append((one.id, one.text))
        if gone or new:
            logger.info("%s: %d announced changes are made now", self.folder, len(gone) + len(new))
        try:
            for start in range(0, len(new), BLOCK_TEXTS):
                ids, texts = (list(part) for part in zip(*new[start : start + BLOCK_TEXTS], strict=True))
                block = self._student.encode(self.field, texts).padded(self._slots())
                self._apply(editor, [_Change(ids, texts, block, content_hashes(texts))])
            if gone:
                self._apply(editor, [_Change(gone)])
        except BaseException:
            self._left = left
            raise
        self._texts.settle(self.key, announced)
        self._left = []

    def _open_snapshot(self) -> None:
        fingerprint = self._student.encoder_fingerprints[self.field]
        store = RepresentationStore.open(self.folder, fingerprint, checksums=False)
        if not store.has_ids:
            raise InputError("the store has no ids, so its items could not be named", file=self.folder)
        similarity, search = self._student.similarity, None
        if similarity is not None and (searchable(store) or self._index is not None):
            vectors = StoredVectors(store, similarity.metric)
            search = ItemSearch(vectors, None if self._index is None else self._index.open(vectors))
        self._show(store, search)
        if self._index is not None:
            self._index.build_if_behind(self)

    def _show(self, store: RepresentationStore, search: ItemSearch | None) -> None:
        self._snapshot = ItemSnapshot(store, self._texts, self._student.similarity, search)
        if self._texts is not None:
            self._texts.readers.add(self._snapshot)

    def take_index(self, covered: Covered) -> None:
        """Search by another index from now on; the caller holds `editing`."""
        search = self._snapshot.item_search
        assert search is not None
        self._show(self._snapshot.store, ItemSearch(search.vectors, covered))

    def _look_after(self) -> None:
        """Begin in the background what many edits make necessary."""
        try:
            if self._editor is not None and self._to_merge() and self._merging is None:
                self._merging = threading.Thread(target=self._merge, name="pairstill-merge", daemon=True)
                self._merging.start()
            if self._index is not None:
                self._index.build_if_behind(self)
        except Exception as error:
            log_failure(logger, f"{self.folder} is not looked after", error)

    def _to_merge(self) -> int:
        store = self._snapshot.store
        return commits_to_merge([one.rows for one in store.manifest.id_files], store.deleted)

    def _merge(self) -> None:
        """Merge small commits, and free what was deleted; items keep their rows, so searches need not be told."""
        with self.editing:
            try:
                commits = self._to_merge()
                if self._editor is not None and commits:
                    store = self._editor.merge(commits)
                    self._show(store, self._merged_search(store))
            except Exception as error:
                log_failure(logger, f"the commits of {self.folder} were not merged", error)
                self._release()
            finally:
                self._merging = None

    def _merged_search(self, store: RepresentationStore) -> ItemSearch | None:
        search = self._snapshot.item_search
        return None if search is None else ItemSearch(StoredVectors(store, search.vectors.metric), search.covered)

    def _slots(self) -> int:
        """Entries of every item in a store of a fixed stride, however short the texts are; 0 where there is no such number."""
        store = self._snapshot.store
        return store.tokens if store.stride == "fixed" else 0

    def _typed(self, ids: Sequence[str]) -> list[str] | list[int]:
        integers = self._snapshot.store.manifest.id_type == "integer"
        return [int(one) for one in ids] if integers else list(ids)


def _check_unicode(name: str, text: str) -> None:
    for what, one in (("id", name), ("text", text)):
        try:
            one.encode()
        except UnicodeEncodeError:
            raise InputError(f"the {what} of item {name!r} is no Unicode", expected="no lone surrogates") from None
