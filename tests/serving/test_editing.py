"""Changes of a service in one process: their turn, what a swap leaves behind, and what errors are answered with."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairstill.errors import InputError, LockedError, UnavailableError
from pairstill.export import export_onnx
from pairstill.retrieval.approximate import build_index
from pairstill.retrieval.vectors import StoredVectors
from pairstill.scoring.encode import encode_store
from pairstill.serving.application import Application
from pairstill.serving.editing import WAITING
from pairstill.serving.errors import ServiceError, from_library
from pairstill.serving.models import open_version
from pairstill.serving.schemas import PutRequest, SearchRequest
from pairstill.serving.settings import Limits, ServeSettings, Sources
from pairstill.serving.texts import TextStore
from pairstill.serving.work import ITEMS_PER_PAIR, TEXT_COST, Cells, EncodeWork, ScoreWork
from pairstill.store import RepresentationStore
from retrieval_samples import tiny_student
from service_samples import ITEMS, Shop, logits_of


@pytest.fixture
def own(shop: Shop, tmp_path: Path) -> Path:
    # Without the database that other tests may have served: it names the stores of the folder that is copied.
    shutil.copytree(shop.folder, tmp_path / "shop", ignore=shutil.ignore_patterns("*.sqlite*"))
    return tmp_path / "shop"


def sources_of(folder: Path) -> Sources:
    return Sources(
        folder / "ranker", {1: folder / "ranker-items"}, folder / "texts.parquet", folder / "searcher",
        folder / "searcher-items",
    )  # fmt: skip


@pytest.fixture
def application(own: Path) -> Iterator[Application]:
    sources = sources_of(own)
    settings = ServeSettings(sources, limits=Limits(timeout_s=60))
    application = Application(settings, open_version(sources, 1))
    yield application
    application.service.version.close_stores()
    assert application.service.version.texts is not None
    application.service.version.texts.close()


Story = Callable[[httpx.AsyncClient], Awaitable[None]]


def tell(application: Application, story: Story) -> None:
    """Ask the application without a socket, while its threads run."""

    async def run() -> None:
        application.service.batcher.start()
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client:
            await story(client)
        await application.editing.stop()
        await application.service.batcher.stop()

    asyncio.run(asyncio.wait_for(run(), 300))


def wait_little(application: Application) -> None:
    service = application.service
    service.settings = dataclasses.replace(service.settings, limits=Limits(timeout_s=0.5))


def put_of(name: str, text: str = "w1") -> PutRequest:
    return PutRequest.model_validate({"items": [{"id": name, "text": text}]})


def registered(texts: TextStore) -> tuple[set[str], int]:
    """Names of the stores that changes are announced to, and how many changes are open."""
    with sqlite3.connect(texts.path) as database:
        stores = {Path(one).name for (one,) in database.execute("SELECT store FROM stores")}
        (pending,) = database.execute("SELECT count(*) FROM pending").fetchone()
    database.close()
    return stores, pending


def test_an_edit_that_is_not_begun_in_time_is_not_made(application: Application) -> None:
    go, begun, editing = threading.Event(), threading.Event(), application.editing
    wait_little(application)

    def slow() -> bool:
        begun.set()
        return go.wait(60)

    async def story(_: httpx.AsyncClient) -> None:
        first = asyncio.create_task(editing._change(slow))
        await asyncio.sleep(0)
        await asyncio.to_thread(begun.wait, 60)
        with pytest.raises(ServiceError) as refused:
            await editing.put(put_of("late"))
        assert refused.value.status_code == 503
        assert refused.value.headers is not None
        assert refused.value.headers["Retry-After"] == "1"
        go.set()
        assert await first  # one that was begun is waited for
        with pytest.raises(ServiceError) as missing:
            await editing.get("late")
        assert missing.value.status_code == 404

    tell(application, story)


def test_too_many_edits_are_refused_and_a_signal_still_has_its_turn(application: Application) -> None:
    go, editing = threading.Event(), application.editing
    number = application.service.version.number
    wait_little(application)

    async def story(_: httpx.AsyncClient) -> None:
        waiting = [asyncio.create_task(editing._change(lambda: go.wait(30))) for _ in range(WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as refused:
            await editing.swap({})
        assert refused.value.status_code == 429
        opened = asyncio.create_task(editing.swap({}, patient=True))
        await asyncio.sleep(0.6)  # longer than an edit waits
        go.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        await opened
        assert application.service.version.number == number + 1

    tell(application, story)


def test_a_swap_forgets_the_store_that_it_replaces(application: Application, own: Path) -> None:
    texts = application.service.version.texts
    assert texts is not None
    shutil.copytree(own / "ranker-items", own / "others")
    shutil.copytree(own / "ranker-items", own / "more")

    async def story(_: httpx.AsyncClient) -> None:
        await application.editing.put(put_of("new", "w1 w2"))
        assert registered(texts)[0] == {"ranker-items", "searcher-items"}
        await application.editing.swap({"store": str(own / "others")})
        for number in range(3):
            await application.editing.put(put_of("again", f"w{number}"))
        stores, pending = registered(texts)
        assert stores == {"others", "searcher-items"}
        assert pending <= 2  # of the last edit, which is settled with the next one
        # A refused swap leaves no store behind.
        with pytest.raises(InputError):
            await application.editing.swap({"store": str(own / "more"), "teacher": str(own / "nothing")})
        assert registered(texts)[0] == {"others", "searcher-items"}
        await application.editing.swap({})
        assert registered(texts)[0] == {"others", "searcher-items"}

    tell(application, story)


def test_swaps_what_searches_its_store_its_index_and_the_teacher(
    application: Application, own: Path, shop: Shop, base: Path
) -> None:
    other = tiny_student(base, "de-cos", encoder={"layers": 1, "max_lengths": [4]})
    encode_store(other, 1, shop.ids, shop.texts, own / "other-items", "item")
    export_onnx(other, own / "other")
    for items, index in (("other-items", "index"), ("searcher-items", "first-index")):
        build_index(StoredVectors(RepresentationStore.open(own / items), "cosine"), own / index)

    def folders(**names: str) -> dict[str, str]:
        return {option: str(own / name) for option, name in names.items()}

    async def story(client: httpx.AsyncClient) -> None:
        async def swap(**names: str) -> httpx.Response:
            return await client.post("/v1/admin/swap", json=folders(**names))

        async def search() -> list[dict[str, Any]]:
            body = {"query": "w1 w2 w3 w4 w5 w6", "top_k": ITEMS, "candidates": ITEMS, "teacher": True}
            answer = await client.post("/v1/search", json=body)
            assert answer.status_code == 200, answer.text
            return sorted(answer.json()["results"], key=lambda one: one["id"])

        async def none_has_a_teacher() -> None:
            answer = await client.post("/v1/search", json={"query": "w1", "teacher": True})
            assert answer.status_code == 409, answer.text

        for refused, message in (
            ({"search_store": "other-items"}, "another encoder"),
            ({"search_student": "other"}, "another encoder"),
            ({"search_student": "other", "search_store": "other-items", "index": "first-index"}, "encoder"),
            ({"search_student": "ranker"}, "does not compare single vectors"),
            ({"teacher": "ranker-items"}, "export"),
        ):
            answer = await swap(**refused)
            assert answer.status_code in (409, 422), answer.text
            assert message in answer.text
        await none_has_a_teacher()
        number = application.service.version.number
        assert (await swap(teacher="teacher")).status_code == 200
        before = await search()
        assert (await swap(search_student="other", search_store="other-items", index="index")).status_code == 200
        after = await search()
        assert application.service.version.number == number + 2
        snapshot = application.service.version.search_store
        assert snapshot is not None
        assert snapshot.snapshot().recall is not None
        expected = other.encode(0, ["w1 w2 w3 w4 w5 w6"]).vectors[0, 0]
        vectors = other.encode(1, [shop.texts[int(one["id"][1:])] for one in after]).vectors[:, 0]
        cosines = vectors @ expected / np.linalg.norm(vectors, axis=1) / np.linalg.norm(expected)
        np.testing.assert_allclose([one["similarity"] for one in after], cosines, atol=1e-5)
        assert [one["similarity"] for one in before] != [one["similarity"] for one in after]
        # Neither the head's scores nor the teacher's are those of what searched.
        assert [one["logit"] for one in before] == [one["logit"] for one in after]
        wanted = logits_of(shop.teacher, [("w1 w2 w3 w4 w5 w6", shop.texts[int(one["id"][1:])]) for one in after])
        np.testing.assert_allclose([one["teacher_score"] for one in after], 1 / (1 + np.exp(-wanted)), atol=1e-5)

    tell(application, story)


def test_a_refused_swap_changes_no_text(application: Application, own: Path, shop: Shop) -> None:
    (own / "texts.parquet").unlink()
    other = {name: f"another text of {name}" for name in shop.ids}
    pq.write_table(pa.table({"id": list(other), "text": list(other.values())}), own / "texts.parquet")

    async def story(_: httpx.AsyncClient) -> None:
        with pytest.raises(InputError):
            await application.editing.swap({"teacher": str(own / "nothing")})
        assert (await application.editing.get("p3"))["text"] == shop.texts[3]
        await application.editing.swap({})
        assert (await application.editing.get("p3"))["text"] == other["p3"]

    tell(application, story)


def test_what_cannot_be_done_now_is_answered_503(
    application: Application, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = {"items": [{"id": "new", "text": "w1"}]}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story(client: httpx.AsyncClient) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("pairstill.files.os.fsync", full)
            answer = await client.put("/v1/items", json=body)
        assert answer.status_code == 503, answer.text
        assert answer.headers["Retry-After"] == "10"
        assert "No space left" in answer.json()["error"]["message"]
        assert (await client.put("/v1/items", json=body)).status_code == 200
        texts = application.service.version.texts
        assert texts is not None
        (pages,) = texts._writer.execute("PRAGMA page_count").fetchone()
        texts._writer.execute(f"PRAGMA max_page_count={pages}")
        large = {"items": [{"id": f"large {number}", "text": "w" * 40_000} for number in range(20)]}
        answer = await client.put("/v1/items", json=large)
        assert answer.status_code == 503, answer.text
        assert "full" in answer.json()["error"]["message"]
        texts._writer.execute("PRAGMA max_page_count=1000000")
        assert (await client.put("/v1/items", json=body)).status_code == 200
        for store in application.service.version.item_stores:
            store.close()
        answer = await client.put("/v1/items", json=body)
        assert answer.status_code == 503, answer.text
        assert "closed" in answer.json()["error"]["message"]

    tell(application, story)
    assert from_library(UnavailableError("x")).status_code == 503
    assert from_library(LockedError("x")).status_code == 409
    assert from_library(InputError("x")).status_code == 422


def test_a_search_costs_what_it_compares_and_encodes(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairstill.serving.work.ITEMS_PER_PAIR", 1)
    service = application.service
    costs: list[int] = []
    admitted = service.batcher.admitted

    def noted(pairs: int) -> Any:
        costs.append(pairs)
        return admitted(pairs)

    monkeypatch.setattr(service.batcher, "admitted", noted)
    request = SearchRequest(query="w1 w2", candidates=50)

    async def story(_: httpx.AsyncClient) -> None:
        assert service.version.search_store is not None
        first = await service.search(request)
        # The query twice, every item compared, and 50 stored items scored.
        assert costs == [TEXT_COST + ITEMS + TEXT_COST + 50]
        assert len(first["results"]) == 10
        service.version = dataclasses.replace(service.version, stores={})
        second = await service.search(request)
        assert costs[1:] == [TEXT_COST + ITEMS + TEXT_COST + 50 * (1 + TEXT_COST)]
        assert [one["id"] for one in second["results"]] == [one["id"] for one in first["results"]]
        # Whatever is asked for, no more than there is.
        await service.search(SearchRequest(query="w1 w2", candidates=2000))
        assert costs[2:] == [TEXT_COST + ITEMS + TEXT_COST + ITEMS * (1 + TEXT_COST)]

    stores = service.version.stores
    tell(application, story)
    for one in stores.values():
        one.close()
    assert ITEMS_PER_PAIR > 1


def test_a_search_keeps_the_state_that_it_began_with(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that goes while a search is on its way is scored by its text all the same."""
    service = application.service
    stores, store = service.version.stores, service.version.search_store
    assert store is not None
    service.version = dataclasses.replace(service.version, stores={})
    first = store.snapshot()
    asked: list[Any] = []
    add_texts = service._add_texts

    async def noted(snapshot: Any, results: Any) -> None:
        asked.append(snapshot)
        await add_texts(snapshot, results)

    monkeypatch.setattr(service, "_add_texts", noted)
    compute = service.batcher.run

    async def run(work: Any, deadline: float) -> None:
        await compute(work, deadline)
        if len(store.snapshot()) == ITEMS:
            await asyncio.to_thread(store.delete, ["p1", "p2"])

    monkeypatch.setattr(service.batcher, "run", run)

    async def story(_: httpx.AsyncClient) -> None:
        found = await service.search(SearchRequest(query="w1 w2", candidates=ITEMS, top_k=ITEMS))
        assert {one["id"] for one in found["results"]} >= {"p1", "p2"}
        assert None not in {one["score"] for one in found["results"]}
        assert len(store.snapshot()) == ITEMS - 2

    tell(application, story)
    assert all(one is first for one in asked)
    for one in stores.values():
        one.close()


def test_answers_of_too_much_text_or_too_many_numbers_are_refused(own: Path) -> None:
    sources = sources_of(own)
    settings = ServeSettings(sources, limits=Limits(answer_characters=60, answer_numbers=60))
    application = Application(settings, open_version(sources, 1))

    async def story(client: httpx.AsyncClient) -> None:
        for path, body in (
            ("/v1/search", {"query": "w1", "top_k": 50}),
            ("/v1/rank", {"query": "w1", "documents": [{"id": f"p{n}"} for n in range(50)], "return_texts": True}),
            ("/v1/encode", {"texts": ["w1"] * 30}),
        ):
            answer = await client.post(path, json=body)
            assert answer.status_code == 422, answer.text
            assert answer.json()["error"]["expected"] == "at most 60"
        answer = await client.post("/v1/rank", json={"query": "w1", "documents": [], "nonsense": 1})
        assert answer.json()["error"]["field"] == "documents"
        assert answer.json()["error"]["message"].endswith("; wrong, too: nonsense")
        answer = await client.request("DELETE", "/v1/items", json={"ids": ["zzz"]})
        assert (answer.status_code, answer.json()["error"]["fix"]) == (404, None)
        assert (await client.post("/v1/search", json={"query": "w1", "top_k": 1})).status_code == 200
        assert (await client.post("/v1/search", json={"query": "w1", "return_texts": False})).status_code == 200
        answer = await client.post("/v1/encode", json={"field": 2, "texts": ["w1"], "timing": True})
        assert {"encode", "total"} <= set(answer.json()["timing_ms"])

    tell(application, story)


def test_an_encoding_is_answered_once_where_another_of_its_batch_fails(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = application.service
    texts = [f"w{number}" for number in range(5)]

    def fail(*_: Any) -> None:
        raise FloatingPointError("a logit is no finite number")

    async def story(client: httpx.AsyncClient) -> None:
        alone = (await client.post("/v1/encode", json={"texts": texts})).json()
        monkeypatch.setattr(service.version.student, "score", fail)
        hold = service.batcher._changed
        hold.acquire()  # the batcher waits for it
        asked = [
            asyncio.create_task(service.batcher.run(work, asyncio.get_running_loop().time() + 60)) for work in works()
        ]
        hold.release()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in results] == [type(None), FloatingPointError]
        assert [len(one) for one in encoded.parts.values()] == [5]
        assert (await client.post("/v1/encode", json={"texts": texts})).json() == alone

    student = service.version.student
    encoded = EncodeWork(student, 1, texts)

    def works() -> list[Any]:
        cells = [Cells(["w1"], np.empty(0, np.int64), None)] * 2
        return [encoded, ScoreWork(student, cells, np.zeros((1, 2), np.int64))]

    tell(application, story)


def test_refusals_are_counted_under_their_route_and_log_no_message(
    application: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = application.service

    async def story(client: httpx.AsyncClient) -> None:
        service.batcher.overloaded = True
        for path in ("/v1/rank", "/v1/nothing"):
            assert (await client.post(path, json={"query": "w1", "documents": ["w1"]})).status_code == 429
        service.batcher.overloaded = False
        for _ in range(2):
            answer = await client.get("/v1/items/secret", headers={"Host": "elsewhere.example"})
            assert answer.status_code == 421
        store = service.version.item_stores[0]
        monkeypatch.setattr(store, "_to_merge", lambda: 1 / len(""))
        monkeypatch.setattr(store, "_editor", store)
        with caplog.at_level(logging.ERROR):
            store._look_after()
        monkeypatch.undo()

    tell(application, story)
    text = service.metrics.text().decode()
    assert 'pairstill_requests_total{route="/v1/rank",status="429"} 1.0' in text
    assert 'pairstill_requests_total{route="unknown",status="429"} 1.0' in text
    assert 'pairstill_requests_total{route="/v1/items/{id:path}",status="421"} 2.0' in text
    assert "ZeroDivisionError" in caplog.text
    assert "by zero" not in caplog.text
