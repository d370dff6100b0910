"""An index that is built anew in the background once the items have moved on."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Protocol

import numpy as np

from pairstill.errors import ArtefactError, LockedError
from pairstill.files import MANIFEST, read_ahead
from pairstill.machine import memory_limit_bytes
from pairstill.retrieval.approximate import (
    FILE,
    ApproximateIndex,
    IndexManifest,
    IndexSettings,
    build_index,
    import_faiss,
    read_index_manifest,
)
from pairstill.retrieval.index_state import state_of
from pairstill.retrieval.vectors import Metric, StoredVectors
from pairstill.serving.failures import log_failure
from pairstill.serving.search import Coverage, Covered
from pairstill.serving.snapshot import ItemSnapshot
from pairstill.store.manifest import StoreManifest

LEAST_BEHIND, SHARE_BEHIND = 8192, 0.02
"""An index is built anew once more items came or went than this, and than this share of those that it has."""
MOST_FRESH, SHARE_FRESH = 65_536, 0.25
"""An index that lacks more than this, and this share, when it is opened is not used: what it lacks is held in memory."""
NICENESS = 10
STOP_S = 5.0
LOCKED_S = 1.0
"""After how many seconds a locked index is tried again."""

logger = logging.getLogger(__name__)


class Indexed(Protocol):
    """Items with an index, such as an `ItemStore`."""

    @property
    def editing(self) -> threading.Lock:
        """Held by whoever changes the items or their index."""

    def snapshot(self) -> ItemSnapshot:
        """The items as they are now."""

    def take_index(self, covered: Covered) -> None:
        """Search by another index from now on; the caller holds `editing`."""


class IndexUpkeep:
    """Opens the index of a store that is edited, and builds it anew, on one thread of low priority.

    Args:
        folder: Of the index.
        metric: That the student compares by.
        least_behind: See `LEAST_BEHIND`.
        share_behind: See `SHARE_BEHIND`.
    """

    def __init__(
        self, folder: Path, metric: Metric, *, least_behind: int = LEAST_BEHIND, share_behind: float = SHARE_BEHIND
    ) -> None:
        self.folder, self.metric = folder, metric
        self._least, self._share = least_behind, share_behind
        self._settings = IndexSettings()
        self._thread: threading.Thread | None = None
        # What the index that is being built covers of the items as they are now.
        self._building: Coverage | None = None
        self._stopped, self._failed = threading.Event(), False

    def open(self, vectors: StoredVectors) -> Covered | None:
        """The index as far as it reaches; None where it does not, or was being replaced when the process was killed.

        Raises:
            ArtefactError: It is no index, damaged, of another encoder or metric.
            MissingExtraError: faiss is not installed.
        """
        import_faiss()
        if not (self.folder / MANIFEST).exists() and (self.folder / FILE).exists():
            logger.warning("the index %s is unfinished; it is built anew, and search is exact meanwhile", self.folder)
            return None
        manifest = read_index_manifest(self.folder)
        if manifest.metric != self.metric:
            raise ArtefactError(
                f"the index compares by {manifest.metric}", file=self.folder, expected=f"{self.metric}, as the student does",
                fix=f"Build it again: `pairstill index --metric {self.metric}`",
            )  # fmt: skip
        self._settings = manifest.settings
        found = ApproximateIndex.open_behind(self.folder, vectors.store)
        if found is not None:
            coverage = Coverage(found[0].manifest.items, found[1])
            if len(vectors) - coverage.covered <= max(MOST_FRESH, SHARE_FRESH * coverage.covered):
                # A search reads a few hundred places of it: the first hundred would each wait for the disk.
                read_ahead(self.folder / FILE, (memory_limit_bytes() or 0) // 2)
                return Covered.of(found[0], coverage, vectors)
        logger.warning("the index %s is stale; it is built anew, and search is exact meanwhile", self.folder)
        return None

    def buried(self, rows: np.ndarray) -> None:
        """Note which rows of the items an edit deletes or replaces; the caller holds `editing`."""
        if self._building is not None:
            self._building = self._building.without(rows)

    def build_if_behind(self, items: Indexed) -> None:
        """Begin to build the index anew where it is too far behind; the caller holds `editing`."""
        search = items.snapshot().item_search
        if (
            search is None
            or self._building is not None
            or self._stopped.is_set()
            or self._failed
            or len(search.vectors) < 2
        ):
            return
        if search.covered is not None:
            least = max(self._least, self._share * search.covered.coverage.items)
            if search.covered.behind <= least:
                return
        state = state_of(search.vectors.store)
        if StoreManifest.load(search.vectors.store.folder).generation != search.vectors.store.generation:
            # Another process writes to the store: the index is its business.
            return
        self._building = Coverage(len(search.vectors), np.empty(0, np.int64))
        self._thread = threading.Thread(
            target=self._build, args=(items, search.vectors, state), name="pairstill-index", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being built; what it would replace stays."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _build(self, items: Indexed, vectors: StoredVectors, state: str) -> None:
        covered = None
        try:
            # Both are of this thread alone: requests go first.
            import_faiss().omp_set_num_threads(1)
            with contextlib.suppress(OSError, AttributeError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
            manifest = self._built(vectors, state)
            # Mapped, it costs no memory of our own.
            index = ApproximateIndex.read(self.folder, manifest, checksum=False)
            with items.editing:
                search = items.snapshot().item_search
                if search is not None and self._building is not None:
                    covered = Covered.of(index, self._building, search.vectors)
                    items.take_index(covered)
            recall = manifest.recall
            logger.info("%s: %d items, recall@%d %.3f", self.folder, len(vectors), recall.depth, recall.value)
        except _StoppedError:
            logger.info("%s: building was given up", self.folder)
        except Exception as error:
            self._failed = True
            log_failure(logger, f"the index {self.folder} was not built; it is not tried again before a restart", error)
        finally:
            with items.editing:
                self._building = None
                if covered is not None:
                    self.build_if_behind(items)

    def _built(self, vectors: StoredVectors, state: str) -> IndexManifest:
        """The index, built as soon as nobody else builds it, such as what was served before a swap and is about to end."""
        waits = False
        while True:
            try:
                return build_index(vectors, self.folder, self._settings, progress=self._check, state=state).manifest
            except LockedError:
                if not waits:
                    logger.info("the index %s is being written; it is built afterwards", self.folder)
                waits = True
                if self._stopped.wait(LOCKED_S):
                    raise _StoppedError from None

    def _check(self, done: int, total: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """The index is no longer wanted."""
