"""Changes while it is served: items are put and deleted, students and stores are swapped, one change after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pairstill.errors import ArtefactError
from pairstill.serving.errors import ServiceError, unknown_ids
from pairstill.serving.items import ItemStore
from pairstill.serving.models import changed_sources, open_version
from pairstill.serving.schemas import DeleteRequest, PutRequest
from pairstill.serving.service import Service

WAITING = 16
"""Changes that may wait for one another; a further one is answered 429."""
Result = TypeVar("Result")


class Editing:
    """Changes of what a service serves, in a thread of their own.

    A swap and an edit never overlap: what was put before a store is opened again is in it.

    Args:
        service: That is changed.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pairstill-editing")
        self._waiting = 0

    async def stop(self) -> None:
        """Finish what was begun, and let others edit the stores."""
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._service.version.close_stores)

    async def put(self, request: PutRequest) -> dict[str, int]:
        """Store items; they are on the disk when this returns."""
        service = self._service
        service.check_count(len(request.items), "items")
        items = {}
        for place, one in enumerate(request.items):
            service.check_text(one.id, f"items.{place}.id")
            service.check_text(one.text, f"items.{place}.text")
            if one.id in items:
                raise ServiceError(422, f"the id {one.id!r} comes twice", field=f"items.{place}.id")
            items[one.id] = one.text

        def put() -> dict[str, int]:
            stores = self._stores()
            for store in stores:
                store.put(list(items.items()))
            return {"stored": len(items), "generation": stores[0].snapshot().generation}

        return await self._change(put)

    async def delete(self, request: DeleteRequest) -> dict[str, int]:
        """Delete items that are all known; they are gone for good when this returns."""
        self._service.check_count(len(request.ids), "ids")
        ids = list(dict.fromkeys(request.ids))

        def delete() -> dict[str, int]:
            stores = self._stores()
            known = [[row >= 0 for row in store.snapshot().lookup(ids)] for store in stores]
            unknown = [name for name, *there in zip(ids, *known, strict=True) if not any(there)]
            if unknown:
                raise unknown_ids(unknown, "ids", needed=False)
            # The searched store first: what is found can still be scored.
            for store, there in reversed(list(zip(stores, known, strict=True))):
                store.delete([name for name, is_there in zip(ids, there, strict=True) if is_there])
            return {"deleted": len(ids), "generation": stores[0].snapshot().generation}

        return await self._change(delete)

    async def get(self, name: str) -> dict[str, Any]:
        """An item that is stored."""
        snapshot = self._stores()[0].snapshot()
        rows = snapshot.lookup([name])
        if rows[0] < 0:
            raise unknown_ids([name], "id", needed=False)
        (text,) = await asyncio.to_thread(snapshot.texts, rows)
        return {"id": name, "text": text, "generation": snapshot.generation}

    async def swap(self, changes: Mapping[str, str | None], *, patient: bool = False) -> None:
        """Open other folders beside, or all of them again, then serve them; requests that have begun keep the old ones.

        Args:
            changes: See `changed_sources`.
            patient: Whether to wait for its turn however long that takes: nobody waits for the answer.

        Raises:
            PairstillError: Something does not fit or cannot be opened; everything stays as it was.
        """

        def swap() -> None:
            service = self._service
            old = service.version
            sources = changed_sources(old.sources, changes)
            try:
                service.version = open_version(sources, service.settings.threads, old)
            except (OSError, ValueError) as error:  # such as a name that no folder can have
                raise ArtefactError(
                    f"a folder cannot be opened: {type(error).__name__}", fix="Check the names"
                ) from None
            old.close_stores(service.version)

        await self._change(swap, patient=patient)

    def _stores(self) -> list[ItemStore]:
        stores = self._service.version.item_stores
        if not stores:
            raise ServiceError(409, "this service has no store", fix="Start it with --store 2=FOLDER")
        return stores

    async def _change(self, change: Callable[[], Result], *, patient: bool = False) -> Result:
        """Have a change made in its turn; one that is not begun in time is not made.

        Raises:
            ServiceError: 429, too many wait, or 503, the time passed; never where it is `patient`.
        """
        if patient:
            return await asyncio.wrap_future(self._thread.submit(change))
        if self._waiting >= WAITING:
            raise ServiceError(429, "too many changes are waiting", retry_after_s=1, fix="Ask again later")
        self._waiting += 1
        try:
            job = self._thread.submit(change)
            made = asyncio.wrap_future(job)
            done, _ = await asyncio.wait([made], timeout=self._service.settings.limits.timeout_s)
            if not done and job.cancel():
                raise ServiceError(503, "the time allowed for a change passed", retry_after_s=1, fix="Ask again later")
            return await made
        finally:
            self._waiting -= 1
