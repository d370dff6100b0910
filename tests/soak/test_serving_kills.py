"""kill -9 while items are put: every acknowledged item is there after a restart, and no half item is."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from service_samples import Server, Shop, open_shop
from tiny import WORDS

pytestmark = pytest.mark.soak
KILLS = 20


def test_acknowledged_items_outlive_kills(base: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    shop: Shop = open_shop(tmp_path / "shop", base)
    store = tmp_path / "items"
    shutil.copytree(shop.folder / "ranker-items", store)
    shutil.copy(shop.folder / "texts.parquet", tmp_path / "texts.parquet")
    arguments = [
        "--student",
        str(shop.folder / "ranker"),
        "--store",
        f"2={store}",
        "--texts",
        str(tmp_path / "texts.parquet"),
    ]
    chance = random.Random(0)
    acknowledged = dict(zip(shop.ids, shop.texts, strict=True))
    possible: dict[str, set[str | None]] = {}
    for kill in range(KILLS + 1):
        with Server(arguments) as server:
            wrong = check(server, shop, acknowledged, possible)
            assert not wrong, wrong[:5]
            possible.clear()
            if kill == KILLS:
                break
            stop = threading.Event()

            def put(thread: int, kill: int = kill, server: Server = server, stop: threading.Event = stop) -> None:
                mine = random.Random(1000 * kill + thread)
                client = httpx.Client(base_url=server.address, timeout=30)
                number = 0
                while not stop.is_set():
                    number += 1
                    # Ids of a thread are its own, so that the last text of an id is known.
                    items = [
                        {
                            "id": f"t{thread}-{mine.randrange(40)}",
                            "text": " ".join(mine.choices(WORDS, k=mine.randint(2, 9))),
                        }
                        for _ in range(mine.randint(1, 4))
                    ]
                    items = list({one["id"]: one for one in items}.values())
                    for one in items:
                        possible.setdefault(one["id"], {acknowledged.get(one["id"])}).add(one["text"])
                    try:
                        done = client.put("/v1/items", json={"items": items})
                    except httpx.HTTPError:
                        return
                    assert done.status_code == 200, done.text
                    for one in items:
                        acknowledged[one["id"]] = one["text"]
                        possible[one["id"]] = {one["text"]}

            threads = [threading.Thread(target=put, args=(thread,)) for thread in range(2)]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.05, 1.5))
            server.process.send_signal(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join()
    print(f"{KILLS} kills, {len(acknowledged)} items")


def check(
    server: Server, shop: Shop, acknowledged: dict[str, str], possible: dict[str, set[str | None]]
) -> list[tuple[str, object]]:
    """Items whose text is none that it may have, or whose stored vectors are not those of its text."""
    wrong: list[tuple[str, object]] = []
    names = sorted({*acknowledged, *possible})
    texts: dict[str, str] = {}
    for name in names:
        answer = server.client.get(f"/v1/items/{name}")
        text = answer.json()["text"] if answer.status_code == 200 else None
        allowed = possible.get(name, {acknowledged.get(name)})
        if text not in allowed:
            wrong.append((name, text))
        elif text is not None:
            texts[name] = text
    found = list(texts)
    answer = server.post("/v1/rank", query="alpha", documents=[{"id": name} for name in found])
    by_place = {one["index"]: one["logit"] for one in answer.json()["results"]}
    expected = shop.logits("alpha", [texts[name] for name in found])
    for place, name in enumerate(found):
        if not np.isclose(by_place[place], expected[place], rtol=0, atol=0.05):
            wrong.append((name, (by_place[place], float(expected[place]))))
    acknowledged.update(texts)
    return wrong
