"""kill -9 at random moments of writing and editing stores: what is opened then is a whole state, the last or the one before."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreEditor, compact, write_store

pytestmark = pytest.mark.soak
KILLS = 40
ROOT = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
ITEMS, BIG_ROWS = 60, 4000


def items(values: list[int]) -> Representation[np.ndarray]:
    vectors = np.repeat(np.array(values, np.float32), 64).reshape(len(values), 4, 16)
    return Representation(vectors, np.full(len(values), 4, np.int64))


def step(model: dict[str, int], number: int) -> tuple[dict[str, int], list[str]]:
    """What the edit of this number puts, and what it deletes first."""
    chance = random.Random(number)
    gone = [name for name in sorted(model) if name != "state" and chance.random() < 0.1]
    names = sorted(chance.sample(range(ITEMS), chance.randint(1, 20)))
    return {**{f"i{name}": number * 1000 + name for name in names}, "state": number}, gone


def state(number: int) -> dict[str, int]:
    """The content after so many edits, in the store's order."""
    model = {"state": 0}
    for one in range(1, number + 1):
        new, gone = step(model, one)
        for name in [*gone, *new]:
            model.pop(name, None)
        model |= new
    return model


def read(folder: Path) -> dict[str, int]:
    store = RepresentationStore.open(folder, "abc")
    assert store.ids is not None
    vectors = store.gather(np.arange(len(store))).vectors.reshape(len(store), -1)
    assert (vectors == vectors[:, :1]).all()
    names = store.ids.to_pylist()
    assert store.find(names).tolist() == list(range(len(names)))
    return dict(zip(names, vectors[:, 0].astype(int).tolist(), strict=True))


def edit_for_ever(folder: Path) -> None:
    """Runs in the process that is killed."""
    model = read(folder)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        number = model["state"] + 1
        new, gone = step(model, number)
        with StoreEditor(folder, encoder_fingerprint="abc") as editor:
            if gone:
                editor.delete(gone)
            editor.put(items(list(new.values())), list(new))
            editor.commit()
        model = state(number)
        if number % 5 == 0:
            compact(folder, block_rows=16)


def write_big(folder: Path) -> None:
    def encode(start: int, stop: int) -> Representation[np.ndarray]:
        return items(list(range(start, stop)))

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    write_store(
        folder, encode, BIG_ROWS, encoder_fingerprint="abc", field="query", dtype="int8", shard_rows=100, block_rows=50,
        ids=[f"i{row}" for row in range(BIG_ROWS)],
    )  # fmt: skip


def start(task: str, folder: Path) -> subprocess.Popen[bytes]:
    code = f"import sys, test_store_kills as t; from pathlib import Path; t.{task}(Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", process.stderr and process.stderr.read()
    return process


def test_an_edited_store_is_whole_after_every_kill(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_store(
        folder, lambda start, stop: items([0]), 1, encoder_fingerprint="abc", field="query", shard_rows=8, ids=["state"]
    )
    chance, before = random.Random(0), 0
    for _ in range(KILLS):
        process = start("edit_for_ever", folder)
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        _, said = process.communicate()
        assert said == b"", said.decode()
        found = read(folder)
        assert found["state"] >= before
        before = found["state"]
        assert found == state(before)
        assert list(found) == list(state(before))
    assert before > KILLS / 2
    # Nothing that was left behind stays.
    with StoreEditor(folder) as editor:
        needed = {one.file for one in editor.store.manifest.files}
        assert {path.name for path in folder.glob("*.safetensors")} == needed
        assert list(folder.glob(".*.tmp")) == []


def test_a_store_written_under_kills_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    write_big(tmp_path / "calm")
    chance, kills = random.Random(1), 0
    while True:
        process = start("write_big", tmp_path / "killed")
        if kills < KILLS:
            time.sleep(chance.uniform(0, 0.06))
            kills += process.poll() is None
            process.kill()
        _, said = process.communicate()
        assert said == b"", said.decode()
        if process.returncode == 0:
            break
    assert kills > 5
    for path in [*(tmp_path / "calm").glob("*.safetensors"), tmp_path / "calm" / "manifest.json"]:
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
    assert len(RepresentationStore.open(tmp_path / "killed", "abc")) == BIG_ROWS
