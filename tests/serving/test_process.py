"""The process: keys, limits, slow clients, changes while it serves, and its end."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.export import export_onnx
from pairstill.scoring.encode import encode_store
from service_samples import ITEMS, Server, Shop, bag_student

KEY = "a-key-of-the-test"


def arguments_of(shop: Shop, *names: str, **extra: str) -> list[str]:
    found = shop.arguments
    kept = [
        part
        for option, value in zip(found[::2], found[1::2], strict=True)
        if option in names
        for part in (option, value)
    ]
    return kept + [part for name, value in extra.items() for part in (f"--{name.replace('_', '-')}", value)]


def test_starts_without_what_training_needs(shop: Shop) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pairstill.serving.application import Application\n"
        "from pairstill.serving.models import open_version\n"
        "import pairstill.serving.server\n"
        "from pairstill.serving.settings import ServeSettings, Sources\n"
        "root = Path(sys.argv[1])\n"
        "sources = Sources(root / 'ranker', {1: root / 'ranker-items'}, None, root / 'searcher', root / 'searcher-items')\n"
        "Application(ServeSettings(sources), open_version(sources, 1))\n"
        "print([name for name in ('torch', 'transformers', 'numba', 'scipy', 'sklearn') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(shop.folder)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--no-auth"),
        (["--store", "3=somewhere"], "field 3"),
        (["--store", "two=somewhere"], "--store 2=FOLDER"),
        (["--search-student", "somewhere"], "--search-store"),
        (["--student", "nowhere"], "nowhere"),
        (["--batch-pairs", "0"], "batch_pairs"),
    ],
)
def test_refuses_to_start_with_what_does_not_fit(shop: Shop, arguments: list[str], message: str) -> None:
    assert message in refusal(["--student", str(shop.folder / "ranker"), *arguments])


def refusal(arguments: list[str]) -> str:
    done = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
    assert isinstance(done.exception, PairstillError), done.exception
    return str(done.exception)


def test_refuses_a_store_of_another_encoder_and_a_port_in_use(shop: Shop) -> None:
    foreign = ["--student", str(shop.folder / "ranker"), "--store", f"2={shop.folder / 'searcher-items'}"]
    assert "made by another encoder" in refusal(foreign)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "cannot be listened on" in refusal([*foreign, "--port", port])


def test_asks_for_the_key(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    body = {"query": "w1", "documents": ["w1"]}
    with Server(arguments_of(shop, "--student", api_key_file=str(tmp_path / "key"))) as server:
        for headers, status in (
            ({}, 401), ({"Authorization": f"Bearer {KEY}"}, 200), ({"authorization": f"bearer {KEY}"}, 200),
            ({"X-API-Key": KEY}, 200), ({"X-API-Key": KEY + "x"}, 401), ({"Authorization": KEY}, 401),
            ({"Authorization": "Bearer"}, 401), ({"X-API-Key": "\xe9".encode()}, 401),
        ):  # fmt: skip
            for path in ("/v1/rank", "/v2/rerank"):
                assert server.client.post(path, json=body, headers=headers).status_code == status
            assert server.client.get("/metrics", headers=headers).status_code == status
            assert server.client.get("/health", headers=headers).status_code == 200
            assert server.client.get("/ready", headers=headers).status_code == 200
        assert server.client.get("/v1/model").headers["WWW-Authenticate"] == "Bearer"
        # With a key, other names may lead here.
        assert server.client.get("/health", headers={"Host": "ranker.example"}).status_code == 200
    assert "w1" not in server.log
    assert KEY not in server.log


def test_slow_clients_are_left_and_nobody_waits_for_them(shop: Shop) -> None:
    with Server(arguments_of(shop, "--student", body_s="0.4")) as server:
        host, port = server.address.removeprefix("http://").split(":")
        head = b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        starts = [
            b"",
            b"POST /v1/ra",
            head,
            head + b"Content-Length: 50\r\n\r\n{",
            head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        ]
        slow = [socket.create_connection((host, int(port))) for _ in starts]
        for one, start in zip(slow, starts, strict=True):
            one.settimeout(10)
            one.sendall(start)
        assert server.post("/v1/rank", query="w1", documents=["w1"]).status_code == 200
        answers = []
        for one in slow:
            with one:
                received = b""
                while part := one.recv(4096):
                    received += part
                answers.append(received)
        assert answers[:3] == [b"", b"", b""]
        for answer in answers[3:]:
            assert answer.startswith(b"HTTP/1.1 408")
            assert b'"message"' in answer


def test_limits_of_its_own(shop: Shop) -> None:
    extra = {"max_documents": "3", "max_characters": "10", "body_mib": "0.001", "timeout_s": "5"}
    with Server(arguments_of(shop, "--student", **extra)) as server:
        assert server.post("/v1/rank", query="w1", documents=["w1"] * 3).status_code == 200
        assert server.post("/v1/rank", query="w1", documents=["w1"] * 4).status_code == 422
        assert server.post("/rerank", query="w1", texts=["w1"] * 4).status_code == 422
        assert server.post("/v2/rerank", query="w" * 11, documents=["w1"]).json()["error"]["field"] == "query"
        assert server.post("/v1/rank", query="w1", documents=[" " * 1100]).status_code == 413
        # No store, no search, no teacher: it says so.
        assert server.post("/v1/search", query="w1").status_code == 409
        assert server.client.put("/v1/items", json={"items": [{"id": "a", "text": "w1"}]}).status_code == 409
        assert server.post("/v1/rank", query="w1", documents=[{"id": "p1"}]).status_code == 422


def test_drains_and_answers_what_it_began(shop: Shop) -> None:
    body = b'{"query": "w1", "documents": ["w1", "w2"]}'
    with Server(arguments_of(shop, "--student", drain_s="60")) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as begun:
            head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            begun.sendall(b"POST /v1/rank HTTP/1.1\r\n" + head.encode() + body[:9])
            server.process.send_signal(signal.SIGTERM)
            while (answer := server.client.get("/ready")).status_code == 200:
                time.sleep(0.01)
            assert answer.status_code == 503
            assert answer.json() == {"status": "draining"}
            assert server.client.get("/health").status_code == 200
            server.process.send_signal(signal.SIGINT)  # no longer waits for others to look elsewhere
            begun.sendall(body[9:])
            assert begun.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.fixture
def own_shop(shop: Shop, tmp_path: Path) -> Shop:
    shutil.copytree(shop.folder, tmp_path / "shop")
    return Shop(tmp_path / "shop", shop.student, shop.searcher, shop.teacher, shop.ids, shop.texts)


def test_items_come_and_go_and_are_there_after_a_restart(own_shop: Shop) -> None:
    shop = own_shop
    new = {"new/1": "w1 w2 w3", "p5": "w44 w45"}
    items = [{"id": name, "text": text} for name, text in new.items()]
    with Server(shop.arguments) as server:
        answer = server.client.put("/v1/items", json={"items": items}).raise_for_status().json()
        assert answer["stored"] == 2
        assert server.client.get("/v1/items/new/1").json()["text"] == "w1 w2 w3"
        gone = server.client.request("DELETE", "/v1/items", json={"ids": ["p6", "p7"]}).raise_for_status().json()
        assert gone["deleted"] == 2
        assert gone["generation"] > answer["generation"]
        again = server.client.request("DELETE", "/v1/items", json={"ids": ["p8", "p6"]})
        assert again.status_code == 404
        assert "'p6'" in again.json()["error"]["message"]
        twice = server.client.put("/v1/items", json={"items": [items[0], items[0]]})
        assert (twice.status_code, twice.json()["error"]["field"]) == (422, "items.1.id")
        _check_changed(server, shop)
        metrics = server.client.get("/metrics").text
        assert f'pairstill_store_items{{store="search"}} {ITEMS - 1}.0' in metrics
        assert "new/1" not in metrics
    with Server(shop.arguments) as server:
        _check_changed(server, shop)


def _check_changed(server: Server, shop: Shop) -> None:
    ranked = server.post("/v1/rank", query="w1 w2", documents=[{"id": "new/1"}, {"id": "p5"}, {"id": "p8"}]).json()
    logits = shop.logits("w1 w2", ["w1 w2 w3", "w44 w45", shop.texts[8]])
    results = sorted(ranked["results"], key=lambda one: one["index"])
    np.testing.assert_allclose([one["logit"] for one in results], logits, atol=1e-5)
    found = server.post("/v1/search", query="w1 w2 w3", top_k=200, candidates=200).json()["results"]
    ids = {one["id"] for one in found}
    assert len(found) == len(ids) == ITEMS - 1
    assert "new/1" in ids
    assert not {"p6", "p7"} & ids
    assert server.post("/v1/rank", query="w1", documents=[{"id": "p6"}]).status_code == 404


def test_swaps_a_student_and_its_stores_under_load_without_a_failed_request(own_shop: Shop) -> None:
    shop = own_shop
    other = bag_student(5, hash_buckets=50)
    export_onnx(other, shop.folder / "other")
    encode_store(other, 1, shop.ids, shop.texts, shop.folder / "other-items", "item")
    documents = [{"id": one} for one in shop.ids[:50]]
    expected = {
        name: np.sort(_logits(student, shop))[::-1] for name, student in (("first", shop.student), ("other", other))
    }
    answers: list[tuple[int, Any]] = []
    done = threading.Event()

    def ask(address: str) -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            while not done.is_set():
                answer = client.post("/v1/rank", json={"query": "w1 w2", "documents": documents})
                answers.append((answer.status_code, answer.json()))

    with Server(arguments_of(shop, "--student", "--store", "--texts")) as server:
        first = server.client.get("/v1/model").json()["model"]
        threads = [threading.Thread(target=ask, args=(server.address,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(answers) < 10:
            time.sleep(0.01)
        refused = server.post("/v1/admin/swap", student=str(shop.folder / "other"))
        assert refused.status_code == 409
        assert "another encoder" in refused.json()["error"]["message"]
        assert server.client.get("/v1/model").json()["model"] == first
        swapped = server.post(
            "/v1/admin/swap", student=str(shop.folder / "other"), store=str(shop.folder / "other-items")
        )
        third = swapped.raise_for_status().json()["model"]
        count = len(answers)
        for _ in range(20):  # one that is under way and one behind it serve them all
            server.process.send_signal(signal.SIGHUP)
        while _version(server) < 3:
            time.sleep(0.02)
        while len(answers) < count + 10:
            time.sleep(0.01)
        done.set()
        for thread in threads:
            thread.join(30)
        # The old version's lock is gone: the new one's store can be edited.
        put = server.client.put("/v1/items", json={"items": [{"id": "p1", "text": "w5"}]})
        assert put.status_code == 200, put.text
        assert _version(server) <= 4
    assert {status for status, _ in answers} == {200}
    assert {body["model"] for _, body in answers} == {first, third}
    for _, body in answers:
        wanted = expected["first" if body["model"] == first else "other"]
        np.testing.assert_allclose([one["logit"] for one in body["results"]], wanted, atol=1e-5)


def _version(server: Server) -> float:
    found = re.search(r"pairstill_model_version ([\d.]+)", server.client.get("/metrics").text)
    assert found is not None
    return float(found[1])


def _logits(student: Any, shop: Shop) -> np.ndarray:
    return Shop(shop.folder, student, shop.searcher, shop.teacher, shop.ids, shop.texts).logits(
        "w1 w2", shop.texts[:50]
    )


def test_overload_is_answered_at_once_and_passes(shop: Shop) -> None:
    documents = [f"w{number % 60} w{number % 59} w{number % 7}" for number in range(60)]
    statuses: list[int] = []
    with Server(arguments_of(shop, "--student", queue_pairs="4000")) as server:

        def ask() -> None:
            answer = httpx.post(f"{server.address}/v1/rank", json={"query": "w1", "documents": documents}, timeout=30)
            statuses.append(answer.status_code)
            if answer.status_code != 200:
                assert answer.headers["Retry-After"] == "1"

        threads = [threading.Thread(target=ask) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert set(statuses) <= {200, 429}
        assert 200 in statuses
        assert server.post("/v1/rank", query="w1", documents=documents).status_code == 200
        assert "pairstill_queue_pairs 0.0" in server.client.get("/metrics").text


def test_logs_routes_and_times_and_no_texts(shop: Shop) -> None:
    with Server([*arguments_of(shop, "--student", "--store"), "--verbose"]) as server:
        server.post("/v1/rank", query="w1 secretword", documents=["w2", {"id": "p3"}])
        server.post("/v1/rank", query="w1 secretword", documents=[{"id": "secretid"}])
        server.client.get("/v1/items/secretid?secretkey=1")
    assert re.search(r"POST /v1/rank 200 \d", server.log)
    assert re.search(r"GET /v1/items/\{id:path\} 404", server.log)
    assert "secret" not in server.log
