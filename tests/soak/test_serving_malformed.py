"""Ten thousand requests that are wrong in some way, and clients that are slow: clear answers, no failure, no growth."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from service_samples import Server, open_shop

pytestmark = pytest.mark.soak
REQUESTS = 10_000
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/score": {"tuples": [["w1", "w2"], [{"text": "w1"}, {"id": "p3"}]], "timing": True},
    "/v1/rank": {"query": "w1", "documents": ["w1", {"id": "p3"}], "top_k": 2, "return_texts": True, "timing": False},
    "/v1/search": {"query": "w1", "top_k": 3, "candidates": 9, "teacher": True, "exact": False},
    "/v1/encode": {"field": 2, "texts": ["w1", "w2 w3"]},
    "/v1/items": {"items": [{"id": "p3", "text": "w1"}]},
    "/v1/admin/swap": {"student": "nowhere"},
    "/v1/rerank": {"query": "w1", "documents": [{"text": "w1", "n": 3}], "rank_fields": ["text"], "top_n": 1},
    "/v2/rerank": {"query": "w1", "documents": ["w1", "w2"], "model": "x", "top_n": 1},
    "/rerank": {"query": "w1", "texts": ["w1", "w2"], "raw_scores": True, "truncate": False},
}
VALUES: list[Any] = [
    None, True, False, 0, -1, 1 << 70, 1.5, -1e308, float("nan"), float("inf"), "", " ", "\x00", "\ud800", "\ufffe", "\U0010ffff",
    "\u202e" * 9, "w" * 60_000, "e\u0301" * 99, [], [[]], {}, {"id": "ghost"}, {"id": ""}, {"id": 7}, {"text": None}, {"text": "w1", "id": "p1"},
    ["w1"] * 2500, [{"id": f"ghost{number}"} for number in range(2000)], {"a": {"b": {"c": []}}},
]  # fmt: skip


def mutated(random: random.Random, value: Any) -> Any:
    """The value with one part of it replaced, removed or added."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        value = dict(value)
        name = random.choice(list(value))
        match random.randrange(4):
            case 0:
                del value[name]
            case 1:
                value[random.choice(["", "x", name + "s", "\x00"])] = random.choice(VALUES)
            case _:
                value[name] = mutated(random, value[name])
        return value
    if isinstance(value, list) and value and random.random() < 0.7:
        place = random.randrange(len(value))
        return [*value[:place], mutated(random, value[place]), *value[place + 1 :]]
    return random.choice(VALUES)


def broken(random: random.Random, body: bytes) -> bytes:
    """Bytes that are most likely no JSON, or JSON that no schema expects."""
    match random.randrange(6):
        case 0:
            return body[: random.randrange(len(body))]
        case 1:
            place = random.randrange(len(body))
            return body[:place] + bytes([random.randrange(256)]) + body[place + 1 :]
        case 2:
            return random.choice([b"[", b'{"a":', b'[{"text":']) * random.randrange(1, 50_000)
        case 3:
            return random.randbytes(random.randrange(200))
        case 4:
            return body + body
        case _:
            return b"\xef\xbb\xbf" + body


def resident(client: httpx.Client) -> float:
    found = re.search(r"^process_resident_memory_bytes (\S+)", client.get("/metrics").text, re.M)
    assert found
    return float(found[1])


def test_malformed_requests_are_refused_and_nothing_else_happens(base: Path, tmp_path: Path) -> None:
    shop = open_shop(tmp_path, base)
    generator = random.Random(0)
    statuses: dict[int, int] = {}
    with Server([*shop.arguments, "--body-s", "1"]) as server:
        host, port = server.address.removeprefix("http://").split(":")
        slow: list[socket.socket] = []
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        first = 0.0
        for number in range(REQUESTS):
            path = generator.choice(list(ROUTES))
            body = json.dumps(mutated(generator, ROUTES[path])).encode()
            if number % 3 == 0:
                body = broken(generator, body)
            method = (
                "PUT" if path == "/v1/items" else generator.choice(["POST"] * 20 + ["GET", "PUT", "PATCH", "OPTIONS"])
            )
            kind = generator.choice(["application/json"] * 20 + ["text/plain", "application/x-www-form-urlencoded", ""])
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status < 500, (path, body[:300], text)
            if answer.status >= 400 and text:
                assert set(json.loads(text)["error"]) == {"message", "field", "expected", "fix"}
            if number % 100 == 0:  # and clients that say half of it and wait
                one = socket.create_connection((host, int(port)))
                one.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n".encode()[
                        : generator.randrange(90)
                    ]
                )
                slow.append(one)
            if number == REQUESTS // 4:
                first = resident(server.client)
        for one in slow:
            one.close()
        connection.close()
        grown = resident(server.client) - first
        answer = server.post("/v1/rank", query="w1 w2", documents=["w1", "w2"])
        assert answer.status_code == 200
    assert grown < 64 * 2**20
    assert statuses.keys() >= {400, 415, 422}
