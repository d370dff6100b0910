"""The page in headless Chromium, over a real item store and a small service of the same answers."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

fastapi = pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
from fastapi import FastAPI, Request  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from pairstill.serving.items import ItemStore  # noqa: E402
from pairstill.serving.page import PAGE_PATHS, page_router  # noqa: E402
from serving_samples import HashStudent, item_store, texts_of  # noqa: E402

NAMES = ("index.html", "page.css", "page.js")
EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> & "quotes" </li></ol>'
LONG = "A long text. " * 200
ITEMS = {
    "p1": "Cordless drill, 18 V, with two batteries and a charger in a case",
    "<b>p2</b>": EVIL,
    "p3": LONG,
    "p4": "ללא חשמל, wireless",
    "p5": "",
    **{f"q{number}": f"Screwdriver number {number}" for number in range(40)},
}


class Service:
    """What the page asks, over an `ItemStore`; what is to go wrong can be said."""

    def __init__(self, items: ItemStore, student: HashStudent) -> None:
        self.items, self.student = items, student
        self.refusals: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.searchable = self.teacher = True
        self.key: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.app = FastAPI(openapi_url=None)
        self.app.include_router(page_router())
        self.app.add_api_route("/v1/model", self.model)
        self.app.add_api_route("/v1/search", self.search, methods=["POST"])
        self.app.add_api_route("/v1/rank", self.rank, methods=["POST"])

    def refusal(self, request: Request) -> JSONResponse | None:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "the API key is missing"}}, 401)
        if self.refusals:
            status, error, headers = self.refusals.pop(0)
            return JSONResponse({"error": error}, status, headers)
        return None

    def model(self, request: Request) -> Any:
        snapshot = self.items.snapshot()
        state = {"field": 1, "items": len(snapshot), "generation": snapshot.generation}
        return self.refusal(request) or {
            "model": "product-ranker@0123456789ab", "name": "dipair-tsf", "fields": 2, "outputs": 1, "precision": "float32",
            "search": state if self.searchable else None, "search_model": "twinbert-cos", "recall": 0.973,
            "teacher": "cross-encoder" if self.teacher else None, "limits": {"candidates": 2000},
        }  # fmt: skip

    async def search(self, request: Request) -> Any:
        body = await request.json()
        self.asked.append(body)
        if refused := self.refusal(request):
            return refused
        snapshot = self.items.snapshot()
        vectors = self.student.encode(0, [body["query"]]).vectors[:, 0]
        found = snapshot.search(vectors, body["candidates"])
        rows, similarities = found.rows[0][: body["top_k"]], found.scores[0][: body["top_k"]]
        logits = 4 * similarities
        results = [
            {"id": name, "similarity": float(similarity), "logit": float(logit), "score": float(1 / (1 + np.exp(-logit))),
             "text": text, "teacher_score": 0.5 + 0.4 * float(similarity) if body["teacher"] else None}
            for name, similarity, logit, text in zip(
                snapshot.ids_at(rows), similarities, logits, snapshot.texts(rows), strict=True
            )
        ]  # fmt: skip
        timing = {
            "queue": 0.02,
            "tokenize": 0.11,
            "encode": 3.4,
            "search": 1.9,
            "gather": 0.31,
            "prepare": 0.8,
            "head": 5.2,
            "total": 12.1,
        }
        return {"results": results, "candidates": len(found.rows[0]), "recall": 0.97, "model": "m", "timing_ms": timing}

    async def rank(self, request: Request) -> Any:
        body = await request.json()
        self.asked.append(body)
        order = sorted(range(len(body["documents"])), key=lambda place: -len(body["documents"][place]))
        results = [
            {"index": place, "id": None, "logit": 0.5, "score": 0.62, "text": body["documents"][place]}
            for place in order
        ]
        return self.refusal(request) or {"results": results, "model": "m", "timing_ms": {"head": 0.4, "total": 0.5}}


def test_the_files_load_nothing_from_elsewhere_and_are_small() -> None:
    contents = {name: files("pairstill.serving.page").joinpath(name).read_text() for name in NAMES}
    assert sum(len(one.encode()) for one in contents.values()) < 25_000
    for name, text in contents.items():
        assert not re.search(r"https?:|//[a-z]|@import|url\(", text), name
    html = contents["index.html"]
    assert re.findall(r"<script[^>]*>", html) == ['<script src="page.js" defer>']
    assert not re.search(r"<style| style=| on[a-z]+=", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", contents["page.js"])


def test_routes_are_strict_about_content_and_save_bytes() -> None:
    app = FastAPI()
    app.include_router(page_router())
    with TestClient(app) as client:
        assert {"/", "/page.css", "/page.js"} == set(PAGE_PATHS)
        for path, kind in zip(PAGE_PATHS, ("text/html", "text/css", "text/javascript"), strict=True):
            answer = client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kind)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert client.get("/openapi.json").json()["paths"] == {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    folder = tmp_path_factory.mktemp("page")
    student = HashStudent()
    item_store(folder / "store", {"p0": "x"}, student)
    texts = texts_of(folder)
    items = ItemStore.open(folder / "store", student, 1, texts=texts)
    items.put(list(ITEMS.items()))
    items.delete(["p0"])
    service = Service(items, student)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(service.app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield service, f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()
    items.close()
    texts.close()


@pytest.fixture
def service(served: tuple[Service, str]) -> Service:
    service = served[0]
    service.refusals, service.asked, service.key = [], [], None
    service.searchable = service.teacher = True
    return service


@pytest.fixture
def page(served: tuple[Service, str], service: Service, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1000, "height": 800}, base_url=served[1])
    page = context.new_page()
    page.set_default_timeout(30_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    # What the service refused on purpose is reported by the browser; anything else, such as a broken policy, is a fault.
    assert [one for one in said if "Failed to load resource" not in one] == []
    context.close()


def results(page: Any) -> list[str]:
    return [one.inner_text() for one in page.locator("#results .text").all()]


def test_a_search_by_keyboard_alone(page: Any, service: Service) -> None:
    page.goto("/")
    page.wait_for_selector("text=45 items")
    assert page.title() == "product-ranker · Pairstill"
    assert "found by twinbert-cos, scored by dipair-tsf" in page.inner_text("#served")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("Screwdriver number 7")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=10 results of 45 candidates")
    assert results(page)[0] == "Screwdriver number 7"
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert service.asked[-1] == {
        "query": "Screwdriver number 7", "top_k": 10, "candidates": 100, "return_texts": True, "timing": True, "teacher": True,
        "exact": False,
    }  # fmt: skip
    first = page.locator("#results li").first.inner_text()
    for part in ("q7", "score", "0.982", "logit", "4.000", "similarity", "1.000", "teacher, its no. 1", "0.900"):
        assert part in first
    stages = page.inner_text("#stages").replace("\n", " ")
    assert "encode 3.40 ms" in stages
    assert "head 5.20 ms" in stages
    assert page.locator("#bar i").count() == 8
    assert "12.1 ms on the server" in page.inner_text("#status")
    # On to the slider, the number of results and the teacher, as the keys go.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "candidates"
    with page.expect_response("**/v1/search"):
        page.keyboard.press("ArrowLeft")
    assert service.asked[-1]["candidates"] == 50
    assert page.inner_text("#candidates-said") == "50"
    assert page.locator("#candidates").get_attribute("aria-valuetext") == "50"
    page.keyboard.press("Tab")
    page.keyboard.type("3")
    with page.expect_response("**/v1/search"):
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    with page.expect_response("**/v1/search"):
        page.keyboard.press("Space")
    assert service.asked[-1]["teacher"] is False
    page.locator("#query").blur()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"


def test_every_control_has_a_name_and_shows_its_focus(page: Any, service: Service) -> None:
    page.goto("/")
    page.wait_for_selector("#query:visible")
    for control in page.locator("input:visible, button:visible, textarea:visible").all():
        name = control.evaluate("one => one.labels && one.labels.length ? one.labels[0].innerText : one.innerText")
        assert name.strip(), control.evaluate("one => one.outerHTML")
        control.focus()
        page.keyboard.press("Shift")
        assert control.evaluate("one => getComputedStyle(one).outlineStyle") != "none"


def test_texts_and_ids_are_shown_as_they_are(page: Any, service: Service) -> None:
    page.goto("/?q=" + "%3Cimg%20src%3Dx%20onerror%3Dwindow.pwned%3D1%3E")
    page.wait_for_selector("#results li")
    page.fill("#query", EVIL)
    page.fill("#top", "50")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results li:nth-child(45)")
    first = page.locator("#results li").first
    assert first.locator(".text").inner_text() == EVIL
    assert first.locator(".name").inner_text() == "<b>p2</b>"
    assert page.evaluate("window.pwned") is None
    assert page.locator("#results img, #results script, #results b").count() == 0
    assert "(an empty text)" in results(page)
    assert "q=%3Cimg" in page.url


def test_a_long_text_is_folded_and_opens(page: Any, service: Service) -> None:
    page.goto("/")
    page.wait_for_selector("#query:visible")
    page.fill("#query", LONG)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=10 results")
    text, button = page.locator("#results .text").first, page.locator("#results .more")
    assert button.count() == 1
    assert (button.inner_text(), button.get_attribute("aria-expanded")) == ("Show all of it", "false")
    height = text.bounding_box()["height"]
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert text.bounding_box()["height"] > 3 * height


def test_a_busy_server_is_asked_again(page: Any, service: Service) -> None:
    page.goto("/")
    page.wait_for_selector("#query:visible")
    service.refusals = [(429, {"message": "the queue is full", "fix": "Ask for fewer documents"}, {"Retry-After": "1"})]
    page.fill("#query", "drill")
    page.keyboard.press("Enter")
    alert = page.locator("[role=alert]")
    alert.wait_for()
    assert "The server is busy: The queue is full." in alert.inner_text()
    assert "Ask for fewer documents." in alert.inner_text()
    assert "by itself in 1 s" in alert.inner_text()
    page.wait_for_selector("text=10 results")
    assert alert.is_hidden()
    service.refusals = [(503, {"message": "the service is stopping"}, {"Retry-After": "60"})] * 2
    page.keyboard.press("Enter")
    page.wait_for_selector("text=by itself in 60 s")
    assert results(page) == []
    # The alert, which is read aloud, is left alone while the seconds are counted.
    page.evaluate(
        """() => { window.changes = 0;
           new MutationObserver((all) => { window.changes += all.length; }).observe(
             document.querySelector("[role=alert]"), { childList: true, characterData: true, subtree: true }); }"""
    )
    page.wait_for_selector("text=/^58 s$/")
    assert page.evaluate("window.changes") == 0
    page.get_by_role("button", name="Try again").press("Enter")
    # The button goes; the focus does not go with it.
    assert page.evaluate("document.activeElement.id") == "query"
    page.wait_for_selector("text=by itself in 60 s")
    page.get_by_role("button", name="Try again").press("Enter")
    page.wait_for_selector("text=10 results")
    assert page.evaluate("document.activeElement.id") == "query"


def test_refusals_and_a_server_that_is_gone(page: Any, service: Service) -> None:
    page.goto("/")
    page.wait_for_selector("#query:visible")
    service.refusals = [(422, {"message": "the text has 60,000 characters", "expected": "at most 50,000"}, {})]
    page.fill("#query", "drill")
    page.keyboard.press("Enter")
    page.wait_for_selector(["text=The text has 60,000 characters.", ": at most 50,000."][0])
    assert "Expected: at most 50,000." in page.inner_text("[role=alert]")
    assert page.locator("#again").is_hidden()
    page.route("**/v1/search", lambda route: route.abort("connectionrefused"))
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The server does not answer.")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("text=10 results")
    page.route("**/v1/search", lambda route: route.fulfill(status=502, body="<html>bad gateway"))
    page.keyboard.press("Enter")
    page.locator("#query").press("Enter")
    page.wait_for_selector("text=The server's answer (502) is not readable.")


def test_a_key_is_asked_for(page: Any, service: Service) -> None:
    service.key = "sesame sesame".replace(" ", "-")
    page.goto("/")
    page.wait_for_selector("text=The API key is missing.")
    assert page.evaluate("document.activeElement.id") == "key"
    page.keyboard.type(service.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=45 items")
    assert page.locator("#key").is_hidden()
    page.fill("#query", "drill")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=10 results")


def test_without_a_store_documents_are_ranked(page: Any, service: Service) -> None:
    service.searchable = service.teacher = False
    page.goto("/")
    page.wait_for_selector("text=No store is served: give documents")
    assert page.locator("#candidates").is_hidden()
    page.fill("#query", "drill")
    page.get_by_label("Documents").fill("short\n\n  a much longer one \n<b>bold</b>\n")
    page.get_by_label("Documents").press("Control+Enter")
    page.wait_for_selector("text=3 documents")
    assert service.asked[-1]["documents"] == ["short", "a much longer one", "<b>bold</b>"]
    assert results(page) == ["a much longer one", "<b>bold</b>", "short"]
    assert "similarity" not in page.inner_text("#results")


def test_an_empty_store(
    page: Any, service: Service, served: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page.route("**/v1/search", lambda route: route.fulfill(json={"results": [], "candidates": 0, "timing_ms": None}))
    page.goto("/")
    page.wait_for_selector("#query:visible")
    page.fill("#query", "drill")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Nothing was found: no items are stored.")
    assert page.locator("#time").is_hidden()


@pytest.mark.parametrize("width", [320, 400, 1000])
def test_nothing_is_wider_than_the_screen(width: int, page: Any, service: Service) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    page.goto("/")
    page.wait_for_selector("#query:visible")
    page.fill("#query", "x" * 300)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=10 results")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_follow_the_system_and_are_readable(page: Any, service: Service) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto("/?q=drill")
        page.wait_for_selector("text=10 results")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for what in ("body", ".quiet", ".numbers dt", "#go", ".name"):
            colour, ground = page.evaluate(
                """what => { const one = document.querySelector(what); let at = one, ground = 'rgba(0, 0, 0, 0)';
                   while (at && ground === 'rgba(0, 0, 0, 0)') { ground = getComputedStyle(at).backgroundColor; at = at.parentElement; }
                   return [getComputedStyle(one).color, ground]; }""",
                what,
            )
            assert contrast(colour, ground) >= 4.5, (scheme, what)
        page.evaluate("document.querySelectorAll('[hidden]').forEach(one => { one.hidden = false; })")
        for what in ("#query", "#top", "#documents", "#key", "#use-key", "#again"):
            # WCAG 1.4.11: the edge of what can be used, against what lies beside it on either side.
            edge, *grounds_beside = page.evaluate(
                """what => { const one = document.querySelector(what);
                   let at = one.parentElement, ground = 'rgba(0, 0, 0, 0)';
                   while (at && ground === 'rgba(0, 0, 0, 0)') { ground = getComputedStyle(at).backgroundColor; at = at.parentElement; }
                   return [getComputedStyle(one).borderTopColor, getComputedStyle(one).backgroundColor, ground]; }""",
                what,
            )
            assert all(contrast(edge, one) >= 3 for one in grounds_beside), (scheme, what, edge, grounds_beside)
    assert grounds[0] != grounds[1]


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two CSS colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
