"""A running `pairstill serve` under load: percentiles of what a client waits, closed and open loop, beside its rivals.

The client speaks plain HTTP over kept connections, is pinned to one core, and reads and checks every answer. In a closed
loop every connection sends its next request when it has its answer; in an open loop requests are due at random times
(Poisson) at half the rate that the closed loop of four reached, and a wait counts from when a request was due.

Every scenario is `NAME=FILE`: a JSON Lines file of request bodies, sent in turn to the path that `--path NAME=PATH` gives.
`python benchmarks/serving_requests.py` makes such files from a tuple set.

    python benchmarks/serving.py --url http://127.0.0.1:8080 --scenario rank-100=rank-100.jsonl --path rank-100=/v1/rank \
        --requests 1000 --seconds 60 --cross-encoder runs/homedepot/teacher --candidates candidates.jsonl --out serving.json
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pairstill import __version__
from pairstill.files import write_json
from pairstill.machine import describe


class Connection:
    """One kept connection; `send` gives status and body."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def send(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def percentiles(waits_s: Sequence[float]) -> dict[str, float]:
    ordered = sorted(waits_s)
    at = {f"p{share}_ms": ordered[min(len(ordered) * share // 100, len(ordered) - 1)] for share in (50, 95, 99)}
    return {name: round(1000 * wait, 2) for name, wait in {**at, "worst_ms": ordered[-1]}.items()}


def summary(waits: Sequence[float], statuses: Sequence[int], took_s: float) -> dict[str, Any]:
    good = [wait for wait, status in zip(waits, statuses, strict=True) if status == 200]
    counted = {str(status): statuses.count(status) for status in sorted(set(statuses))}
    found = {"requests": len(waits), "statuses": counted, "requests_per_s": round(len(good) / took_s, 2)}
    return {**found, **(percentiles(good) if good else {})}


def closed_loop(
    url: str, path: str, bodies: Sequence[bytes], concurrency: int, requests: int, seconds: float, timeout_s: float
) -> dict[str, Any]:
    """Every connection sends its next request when it has its answer."""
    waits: list[float] = []
    statuses: list[int] = []
    numbers = iter(range(requests))
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = Connection(url, timeout_s)
        while time.perf_counter() < end:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            began = time.perf_counter()
            status, _ = connection.send(path, bodies[number % len(bodies)])
            wait = time.perf_counter() - began
            with lock:
                waits.append(wait)
                statuses.append(status)

    began = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"concurrency": concurrency, **summary(waits, statuses, time.perf_counter() - began)}


def open_loop(
    url: str, path: str, bodies: Sequence[bytes], rate: float, requests: int, seconds: float, timeout_s: float
) -> dict[str, Any]:
    """Requests are due at random times whatever the server does."""
    random_times = random.Random(0)
    due: queue.Queue[tuple[float, int] | None] = queue.Queue()
    waits: list[float] = []
    statuses: list[int] = []
    lock = threading.Lock()

    def client() -> None:
        connection = Connection(url, timeout_s)
        while (one := due.get()) is not None:
            when, number = one
            try:
                status, _ = connection.send(path, bodies[number % len(bodies)])
            except OSError:
                status, connection = 0, Connection(url, timeout_s)
            with lock:
                waits.append(time.perf_counter() - when)
                statuses.append(status)

    threads = [threading.Thread(target=client) for _ in range(32)]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    when = began
    for number in range(min(requests, max(int(rate * seconds), 1))):
        when += random_times.expovariate(rate)
        time.sleep(max(when - time.perf_counter(), 0))
        due.put((when, number))
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    return {"rate": round(rate, 2), **summary(waits, statuses, time.perf_counter() - began)}


def resident_bytes(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no VmRSS in /proc/{process}/status")


def cross_encoder(folder: Path, candidates: Path, repeats: int) -> dict[str, Any]:
    """sentence-transformers' `CrossEncoder` on the same lists: milliseconds a list in float32 and in bfloat16."""
    import torch
    from sentence_transformers import CrossEncoder

    lists = [json.loads(line) for line in candidates.read_text().splitlines()][:repeats]
    found: dict[str, Any] = {"lists": len(lists), "documents": len(lists[0]["documents"])}
    for precision in ("float32", "bfloat16"):
        model = CrossEncoder(
            str(folder), max_length=64, device="cpu", model_kwargs={"dtype": getattr(torch, precision)}
        )
        model.predict([(lists[0]["query"], one) for one in lists[0]["documents"]], batch_size=100)
        waits = []
        for one in lists:
            began = time.perf_counter()
            model.predict([(one["query"], document) for document in one["documents"]], batch_size=100)
            waits.append(time.perf_counter() - began)
        found[precision] = percentiles(waits)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--timeout-s", type=float, default=60)
    parser.add_argument("--client-core", type=int, default=None)
    parser.add_argument("--server-pid", type=int, default=None)
    parser.add_argument("--cross-encoder", type=Path, default=None)
    parser.add_argument("--candidates", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    settings = parser.parse_args()
    everything = os.sched_getaffinity(0)
    paths = dict(one.split("=", 1) for one in settings.path)
    results: dict[str, Any] = {"pairstill": __version__, "machine": describe(), "scenarios": {}}
    if settings.client_core is not None:
        os.sched_setaffinity(0, {settings.client_core})
    for one in settings.scenario:
        name, file = one.split("=", 1)
        bodies = [line.encode() for line in Path(file).read_text().splitlines()]
        limits = (settings.requests, settings.seconds, settings.timeout_s)
        found: dict[str, Any] = {}
        closed_loop(settings.url, paths[name], bodies, 1, 50, 10, settings.timeout_s)
        found["closed_1"] = closed_loop(settings.url, paths[name], bodies, 1, *limits)
        found["closed_4"] = closed_loop(settings.url, paths[name], bodies, 4, *limits)
        found["open_half"] = open_loop(
            settings.url, paths[name], bodies, found["closed_4"]["requests_per_s"] / 2, *limits
        )
        if settings.server_pid is not None:
            found["server_resident_bytes"] = resident_bytes(settings.server_pid)
        results["scenarios"][name] = found
        print(name, json.dumps(found), flush=True)
    os.sched_setaffinity(0, everything)
    if settings.cross_encoder is not None and settings.candidates is not None:
        results["cross_encoder"] = cross_encoder(settings.cross_encoder, settings.candidates, 20)
        print("cross-encoder", json.dumps(results["cross_encoder"]), flush=True)
    write_json(settings.out, results)
    print(f"results: {settings.out}")


if __name__ == "__main__":
    main()
