"""kill -9 while items are put and deleted: every acknowledged edit is there afterwards, in both stores, and no half one is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pairstill.retrieval import IndexSettings, StoredVectors, build_index
from pairstill.serving import merging
from pairstill.serving.index_upkeep import IndexUpkeep
from pairstill.serving.items import ItemStore
from pairstill.serving.texts import TextStore
from pairstill.store import RepresentationStore
from serving_samples import HashStudent, item_store, vector_of

pytestmark = pytest.mark.soak
pytest.importorskip("faiss")
KILLS, STREAMS, NAMES = 20, 3, 25
ROOT = Path(__file__).parent
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT.parent), os.environ.get("PYTHONPATH", "")]),
}  # fmt: skip
BASE = {f"base{number}": f"text {number}" for number in range(100)}
SCORER = HashStudent(tokens=3)


def step(stream: int, model: dict[str, str], number: int) -> tuple[dict[str, str], list[str]]:
    """What the edit of this number of a stream puts, or deletes: one of both."""
    chance = random.Random(1000 * number + stream)
    if model and chance.random() < 0.3:
        return {}, chance.sample(sorted(model), chance.randint(1, min(4, len(model))))
    names = chance.sample(range(NAMES), chance.randint(1, 6))
    return {f"s{stream}-{name}": f"{number} of {stream}, {name}" for name in names}, []


def states(stream: int, number: int) -> tuple[dict[str, str], dict[str, str]]:
    """A stream's items after so many edits, and after one more."""
    model: dict[str, str] = {}
    before = model
    for one in range(1, number + 2):
        before = dict(model)
        new, gone = step(stream, model, one)
        model.update(new)
        for name in gone:
            del model[name]
    return before, model


def open_both(folder: Path) -> tuple[TextStore, ItemStore, ItemStore]:
    merging.MOST_COMMITS = 4
    IndexUpkeep.__init__.__kwdefaults__.update(least_behind=40, share_behind=0.0)
    texts = TextStore.open(folder / "texts.sqlite")
    score = ItemStore.open(folder / "score", SCORER, 1, texts=texts)
    search = ItemStore.open(folder / "search", HashStudent(), 1, texts=texts, index=folder / "index")
    return texts, score, search


def edit_for_ever(folder: Path, done: list[int]) -> None:
    """Runs in the process that is killed."""
    _, score, search = open_both(folder)
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    def work(stream: int) -> None:
        number = done[stream]
        model = states(stream, number)[0]
        while True:
            number += 1
            new, gone = step(stream, model, number)
            for store in (score, search):
                if new:
                    store.put(list(new.items()))
                else:
                    store.delete(gone)
            model = states(stream, number)[0]
            os.write(1, f"{stream} {number}\n".encode())

    threads = [threading.Thread(target=work, args=(stream,)) for stream in range(STREAMS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def check(folder: Path, done: list[int]) -> list[int]:
    """Everything acknowledged is there, whole; returns how far each stream has come."""
    texts, score, search = open_both(folder)
    for store in (score, search):
        assert texts.open_of(str(store.folder.resolve())) == []
    first, second = score.snapshot(), search.snapshot()
    names = first.ids_at(np.arange(len(first)))
    assert sorted(names) == sorted(second.ids_at(np.arange(len(second))))
    found = dict(zip(names, first.texts(first.find(names)), strict=True))
    assert second.texts(second.find(names)) == list(found.values())
    singles, several = second.gather(second.find(names)), first.gather(first.find(names))
    assert {name for name in names if name.startswith("base")} == set(BASE)
    for place, name in enumerate(names):
        text = BASE.get(name) or str(found[name])
        np.testing.assert_allclose(singles.vectors[place, 0], vector_of(text), rtol=1e-6, err_msg=name)
        expected = SCORER.encode(1, [text])
        assert several.lengths[place] == expected.lengths[0]
        np.testing.assert_allclose(several.vectors[place, : expected.lengths[0]], expected.vectors[0], rtol=1e-6)
    reached = []
    for stream, number in enumerate(done):
        own = {name: text for name, text in found.items() if name.startswith(f"s{stream}-")}
        before, after = states(stream, number)
        assert own in (before, after), stream
        reached.append(number + (own == after and own != before))
    queries = np.stack([vector_of(text) for text in ("a", "b")])
    near, truth = second.search(queries, 10), second.search(queries, 10, exact=True)
    assert len(set(near.rows[0]) & set(truth.rows[0])) >= 8
    for store in (score, search):
        store.close()
    texts.close()
    return reached


def test_every_acknowledged_edit_is_there_after_twenty_kills(tmp_path: Path) -> None:
    item_store(tmp_path / "score", BASE, SCORER)
    store = item_store(tmp_path / "search", BASE)
    build_index(StoredVectors(store, "cosine"), tmp_path / "index", IndexSettings(recall=1.0, sample=50))
    chance, done, edits, finished = random.Random(0), [0] * STREAMS, 0, 0
    code = (
        "import sys, test_items_kills as t; from pathlib import Path\n"
        "t.edit_for_ever(Path(sys.argv[1]), [int(one) for one in sys.argv[2:]])"
    )
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), *map(str, done)], env=ENVIRONMENT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", process.stderr and process.stderr.read()
        # However slow the machine is: after some edits, somewhere in those that follow.
        began, count = time.monotonic(), chance.randint(1, 12)
        lines = [process.stdout.readline() for _ in range(count)]
        time.sleep(chance.uniform(0, 1) * (time.monotonic() - began) / count)
        process.kill()
        out, said = process.communicate()
        assert said == b"", said.decode()
        acknowledged = (b"".join(lines) + out).decode().split("\n")[:-1]
        for line in acknowledged:
            stream, number = map(int, line.split())
            done[stream] = number
        edits += len(acknowledged)
        reached = check(tmp_path, done)
        assert all(now - before in (0, 1) for now, before in zip(reached, done, strict=True))
        finished += sum(now - before for now, before in zip(reached, done, strict=True))
        done = reached
    # Kills fell between an announcement or a commit and the answer, too.
    assert edits >= 3 * KILLS
    assert finished > 0
    # What was announced, replaced and deleted does not pile up.
    assert len(RepresentationStore.open(tmp_path / "search").manifest.id_files) <= 16
