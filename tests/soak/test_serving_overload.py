"""Ten times what the server can do, for a minute: memory stays bounded, answers are 200, 429 or 503, and it recovers at once."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from service_samples import Server, Shop, open_shop
from tiny import WORDS

pytestmark = pytest.mark.soak
SECONDS = 60.0
TIMEOUT_S = 2.0
CLIENTS = 64
TIMES = 10
"""How often what the server can do is asked for, and at least so much of it must have been asked."""
ASKED = 0.8


@pytest.fixture(scope="module")
def shop(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), base)


def test_overload(shop: Shop) -> None:
    # So much work in a request that a few hundred of them a second, which a client in Python can send, are ten times too many.
    documents = [
        " ".join(WORDS[number * step % len(WORDS)] for step in range(1, 60)) + f" {number}" for number in range(500)
    ]
    body = json.dumps({"query": "w1 w2", "documents": documents}).encode()
    lock = threading.Lock()
    statuses: Counter[int] = Counter()
    waits: list[float] = []
    hints = 0

    def ask(connection: http.client.HTTPConnection) -> tuple[int, float, str | None]:
        began = time.perf_counter()
        connection.request("POST", "/v1/rank", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - began, answer.getheader("Retry-After")

    with Server([*shop.arguments, "--timeout-s", str(TIMEOUT_S), "--queue-pairs", "60000"]) as server:
        parts = urlsplit(server.address)

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

        process = psutil.Process(server.process.pid)
        with closing(connect()) as calm:
            alone = [ask(calm)[1] for _ in range(30)]
        capacity = 1 / sorted(alone)[15]
        rate = TIMES * capacity
        before = process.memory_info().rss
        end = time.perf_counter() + SECONDS
        most = before

        def client() -> None:
            nonlocal hints
            connection = connect()
            due = time.perf_counter()
            while time.perf_counter() < end:
                due += CLIENTS / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                try:
                    status, wait, hint = ask(connection)
                except OSError:
                    connection.close()
                    status, wait, hint = -1, 0.0, None
                with lock:
                    statuses[status] += 1
                    if status == 200:
                        waits.append(wait)
                    hints += status in (429, 503) and hint is not None
            connection.close()

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, process.memory_info().rss)
            time.sleep(0.2)
        with closing(connect()) as calm:
            after = ask(calm)
    waits.sort()
    asked = sum(statuses.values()) / SECONDS
    print(
        f"asked {asked:.0f} a second (aimed at {rate:.0f}), {dict(statuses)}, accepted p50 "
        f"{waits[len(waits) // 2]:.3f} s, p99 {waits[len(waits) * 99 // 100]:.3f} s, alone {sorted(alone)[15]:.4f} s, "
        f"memory +{(most - before) / 2**20:.0f} MiB, first request after {after[1]:.3f} s"
    )
    assert asked > ASKED * rate
    assert statuses[200] / SECONDS < 2 * capacity
    assert set(statuses) <= {200, 429, 503}
    assert statuses[200] > 0
    assert statuses[429] > 0
    assert hints == statuses[429] + statuses[503]
    # Threads of 64 clients share the cores with the server, so an answer is read later than it was given.
    assert waits[-1] < TIMEOUT_S + 2
    assert after[0] == 200
    assert most - before < 200 << 20
