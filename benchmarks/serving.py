"""A running `pairstill serve` under load: percentiles of what a client waits, closed and open loop, beside its rivals.

The client speaks plain HTTP over kept connections, is pinned to one core, reads every answer, and checks all of them once the
clock has stopped: as many results as were asked for, finite numbers, the best first. Any wrong answer ends it with exit code 1. In a closed
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
import itertools
import json
import os
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from pairstill import __version__
from pairstill.files import write_json
from pairstill.machine import describe

CLIENTS = 32
"""Connections of the open loop."""


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


@dataclass(frozen=True)
class Answer:
    """What came back for a request, and after how long; status 0 where nothing did."""

    number: int
    wait_s: float
    status: int
    body: bytes


def fault(request: dict[str, Any], answer: bytes) -> str | None:
    """What is wrong with a body that was answered 200; None where nothing is."""
    try:
        found = json.loads(answer)
    except ValueError as error:
        return f"no JSON: {error}"
    if "tuples" in request:
        asked, numbers = len(request["tuples"]), found.get("scores", [])
    elif "texts" in request:
        asked, numbers = len(request["texts"]), found.get("lengths", [])
        if [len(one) for one in found.get("vectors", [])] != numbers:
            return "vectors of other lengths"
    else:
        most = len(request["documents"]) if "documents" in request else found.get("candidates", 0)
        asked = min(request.get("top_k") or (most if "documents" in request else 10), most)
        numbers = [one["logit"] for one in found.get("results", []) if one["logit"] is not None]
        if any(one < other for one, other in itertools.pairwise(numbers)):
            return "the best is not first"
        numbers += [one["similarity"] for one in found.get("results", []) if one["logit"] is None]
    if len(numbers) != asked:
        return f"{len(numbers)} results, {asked} were asked for"
    return None if np.isfinite(np.array(numbers, float)).all() else "a number is not finite"


def summary(bodies: Sequence[bytes], answers: Sequence[Answer], took_s: float) -> dict[str, Any]:
    requests = [json.loads(one) for one in bodies]
    statuses = [one.status for one in answers]
    good = [one for one in answers if one.status == 200]
    faults = [said for one in good if (said := fault(requests[one.number % len(requests)], one.body))]
    counted = {str(status): statuses.count(status) for status in sorted(set(statuses))}
    found = {"requests": len(answers), "statuses": counted, "requests_per_s": round(len(good) / took_s, 2)}
    if faults:
        found |= {"wrong_answers": len(faults), "such_as": faults[0]}
    return {**found, **(percentiles([one.wait_s for one in good]) if good else {})}


def ask(connection: Connection, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body; status 0, and a new connection for the next one, where none came."""
    try:
        return connection.send(path, body)
    except (OSError, http.client.HTTPException):
        connection.connection.close()
        return 0, b""


def closed_loop(
    url: str, path: str, bodies: Sequence[bytes], concurrency: int, requests: int, seconds: float, timeout_s: float
) -> dict[str, Any]:
    """Every connection sends its next request when it has its answer."""
    numbers = iter(range(requests))
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def client(_: int) -> list[Answer]:
        connection, answers = Connection(url, timeout_s), []
        while time.perf_counter() < end:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            began = time.perf_counter()
            status, body = ask(connection, path, bodies[number % len(bodies)])
            answers.append(Answer(number, time.perf_counter() - began, status, body))
        return answers

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as threads:
        answers = [one for found in threads.map(client, range(concurrency)) for one in found]
    took_s = time.perf_counter() - began
    return {"concurrency": concurrency, **summary(bodies, answers, took_s)}


def open_loop(
    url: str, path: str, bodies: Sequence[bytes], rate: float, requests: int, seconds: float, timeout_s: float
) -> dict[str, Any]:
    """Requests are due at random times whatever the server does."""
    random_times = random.Random(0)
    due: queue.Queue[tuple[float, int] | None] = queue.Queue()

    def client(_: int) -> list[Answer]:
        connection, answers = Connection(url, timeout_s), []
        while (one := due.get()) is not None:
            when, number = one
            status, body = ask(connection, path, bodies[number % len(bodies)])
            answers.append(Answer(number, time.perf_counter() - when, status, body))
        return answers

    with ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(client, number) for number in range(CLIENTS)]
        began = when = time.perf_counter()
        for number in range(min(requests, max(int(rate * seconds), 1))):
            when += random_times.expovariate(rate)
            time.sleep(max(when - time.perf_counter(), 0))
            due.put((when, number))
        for _ in running:
            due.put(None)
        answers = [one for future in running for one in future.result()]
        took_s = time.perf_counter() - began
    return {"rate": round(rate, 2), **summary(bodies, answers, took_s)}


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
    if any(
        "wrong_answers" in run for one in results["scenarios"].values() for run in one.values() if isinstance(run, dict)
    ):
        raise SystemExit("some answers were wrong")


if __name__ == "__main__":
    main()
