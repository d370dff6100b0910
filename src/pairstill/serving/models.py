"""What is served at a time, and how it is replaced by another without a request noticing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pairstill.errors import InputError
from pairstill.runtime import RuntimeStudent
from pairstill.serving.items import ItemStore
from pairstill.serving.settings import Sources
from pairstill.serving.texts import TextStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """Students and stores that belong together; a request keeps the version that it began with.

    Attributes:
        number: Counts versions from 1.
        sources: The folders.
        student: Scores tuples.
        stores: Of its items, by position of the field from 0.
        search_student: Finds candidates; None where nothing can be searched.
        search_store: What it searches.
        teacher: Shown beside; None where there is none.
        texts: Of the items; None shows none.
    """

    number: int
    sources: Sources
    student: RuntimeStudent
    stores: Mapping[int, ItemStore]
    search_student: RuntimeStudent | None
    search_store: ItemStore | None
    teacher: RuntimeStudent | None
    texts: TextStore | None

    def named_stores(self) -> Iterator[tuple[str, ItemStore]]:
        """Each store once, and what metrics call it."""
        for field, store in self.stores.items():
            yield f"field-{field + 1}", store
        if self.search_store is not None and self.search_store not in self.stores.values():
            yield "search", self.search_store

    @property
    def item_stores(self) -> list[ItemStore]:
        """The stores that have the items of the last stored field: where one is put, it is put into all of them.

        The searched store comes last: what is found can be scored.
        """
        own = [self.stores[max(self.stores)]] if self.stores else []
        if self.search_store is not None and self.search_store not in own:
            own.append(self.search_store)
        return own

    @property
    def store_keys(self) -> set[str]:
        """Of all stores, what the texts call them."""
        return {store.key for _, store in self.named_stores()}

    def close_stores(self, after: Version | None = None) -> None:
        """Let others edit the stores; requests that have begun go on reading them.

        Args:
            after: What is served from now on: nothing more is announced to stores that it does not have. None where the
                service stops, and begins with the same ones.
        """
        for _, store in self.named_stores():
            store.close()
            if after is not None and store.key not in after.store_keys:
                store.forget()


def open_version(sources: Sources, threads: int | None, before: Version | None = None) -> Version:
    """Open everything and compute one answer with it, so that the first request finds it warm.

    Args:
        sources: What to open.
        threads: Of the runtime; None takes all cores that are ours.
        before: The version that this one follows, whose texts it shares.

    Raises:
        InputError: A student cannot do what it is there for.
        ArtefactError: A folder is no export or store, is damaged, or a store is of another encoder.
    """
    with ExitStack() as opened:  # closed again where something does not fit
        student = RuntimeStudent.open(sources.student, threads=threads)
        for field in sources.stores:
            if not 0 <= field < student.field_count:
                raise InputError(
                    f"a store is given for field {field + 1}",
                    expected=f"1 to {student.field_count}, as {student.name} has",
                )
        texts = _open_texts(sources, before)

        def items(folder: Path, of: RuntimeStudent, field: int, index: Path | None) -> ItemStore:
            one = ItemStore.open(folder, of, field, texts=texts, index=index)
            if before is not None and one.key not in before.store_keys:
                opened.callback(one.forget)
            return opened.enter_context(closing(one))

        own_search = sources.search_student is None and student.similarity is not None and 1 in sources.stores
        if sources.index is not None and sources.search_student is None and not own_search:
            raise InputError(
                "an index is given, and nothing to search with", file=sources.index,
                fix="Give --search-student and --search-store, or a student of single vectors and its --store 2=FOLDER",
            )  # fmt: skip
        stores = {
            field: items(folder, student, field, sources.index if own_search and field == 1 else None)
            for field, folder in sources.stores.items()
        }
        search_student, search_store = (student, stores[1]) if own_search else (None, None)
        if sources.search_student is not None and sources.search_store is not None:
            search_student = RuntimeStudent.open(sources.search_student, threads=threads)
            if search_student.similarity is None or search_student.field_count != 2:
                raise InputError(
                    f"a {search_student.name} does not compare single vectors of two fields", file=sources.search_student,
                    expected="a student such as twinbert-cos, de-cos or bert-dot, exported",
                )  # fmt: skip
            search_store = items(sources.search_store, search_student, 1, sources.index)
        teacher = None if sources.teacher is None else RuntimeStudent.open(sources.teacher, threads=threads)
        for one, folder in ((student, sources.student), (teacher, sources.teacher)):
            if one is not None and search_student is not None and (one.field_count, one.outputs) != (2, 1):
                raise InputError(
                    f"the {one.name} takes {one.field_count} fields and gives {one.outputs} outputs", file=folder,
                    expected="2 fields and 1 output where items are searched",
                )  # fmt: skip
        number = 1 if before is None else before.number + 1
        version = Version(number, sources, student, stores, search_student, search_store, teacher, texts)
        _warm_up(version)
        if before is not None and texts is before.texts and texts and sources.texts and texts.path != sources.texts:
            # Last of all: what is refused changes no text.
            texts.fill(sources.texts)
        opened.pop_all()
        logger.info("version %d is open: %s", number, student.name)
        return version


def _open_texts(sources: Sources, before: Version | None) -> TextStore | None:
    if sources.texts is None:
        return None
    if before is None or before.texts is None:
        return TextStore.open(sources.texts)
    return before.texts


def _warm_up(version: Version) -> None:
    for student in {id(one): one for one in (version.student, version.search_student, version.teacher) if one}.values():
        student.score_texts([["warm up"] * student.field_count])
    if version.search_student is not None and version.search_store is not None:
        encoded = version.search_student.encode(0, ["warm up"])
        version.search_store.snapshot().search(np.asarray(encoded.vectors[:, 0]), 1)


def changed_sources(sources: Sources, changes: Mapping[str, str | None]) -> Sources:
    """Sources with some folders replaced.

    Args:
        sources: As they are.
        changes: Names of `Sources`' folders, and `store` of the last stored field; None leaves one as it is.

    Raises:
        InputError: A store is named and none is served.
    """
    named = {name: Path(folder) for name, folder in changes.items() if folder is not None}
    store = named.pop("store", None)
    if store is not None:
        if not sources.stores:
            raise InputError("a store is named, and this service serves none", fix="Start it with --store")
        sources = replace(sources, stores={**sources.stores, max(sources.stores): store})
    return replace(sources, **named)  # type: ignore[arg-type]  # none of them is `stores`
