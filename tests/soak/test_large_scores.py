"""Training on millions of scored rows: what is held in memory does not grow with them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pairstill.files import write_parquet
from pairstill.jobs import Job, split_rows
from pairstill.teachers.scores import ScoresManifest, TeacherInfo, finish_scores, scores_table
from pairstill.tuples import Collection, Field, Labels, TupleSet
from tiny import WORDS, tiny_base

pytestmark = pytest.mark.soak
logger = logging.getLogger(__name__)
ITEMS = 20_000
FEW, MANY = 4_000_000, 16_000_000
GROWTH_BYTES = 200 << 20


def make(folder: Path, rows: int) -> None:
    """A tuple set of unlabelled rows over a fixed number of texts, a few labelled ones to validate on, and scores of all."""
    generator = np.random.default_rng(0)
    texts = pa.array([" ".join(generator.choice(WORDS, 5)) for _ in range(ITEMS)])
    ids = pa.array([f"item{number}" for number in range(ITEMS)])
    left, right = generator.integers(0, ITEMS, rows, np.int32), generator.integers(0, ITEMS, rows, np.int32)
    labelled = np.arange(rows) < 2000
    tuple_set = TupleSet(
        fields=(Field("query", "query"), Field("item", "item")),
        labels=Labels("binary"),
        collections={"query": Collection(ids, texts), "item": Collection(ids, texts)},
        tuples=pa.table({
            "query": ids.take(pa.array(left)), "item": ids.take(pa.array(right)),
            "label": pa.array(np.where(labelled, (left % 2).astype(float), np.nan), from_pandas=True),
            "weight": pa.nulls(rows, pa.float64()), "group": ids.take(pa.array(left)),
            "split": pa.array(["valid", "transfer"]).take(pa.array(np.where(labelled, 0, 1))),
        }),
    )  # fmt: skip
    tuple_set.save(folder / "tuples")

    def write(shard: object, target: Path) -> dict[str, object]:
        numbers = np.arange(shard.start, shard.stop)  # type: ignore[attr-defined]
        logits = (np.sin(numbers)[:, None]).astype(np.float32)
        write_parquet(target, scores_table(tuple_set, numbers, logits, "logit"))
        return {}

    receipts = Job(folder / "scores", "test", {}, ".parquet").run(split_rows(rows, 1_000_000), write)
    manifest = ScoresManifest(
        (TeacherInfo("made", "0" * 64),), "logit", 1, tuple_set.field_names, (), tuple_set.fingerprint
    )
    finish_scores(folder / "scores", manifest, receipts)


def peak_of(process: subprocess.Popen[str]) -> int:
    """Most anonymous bytes that a process held: what the system cannot drop and read again."""
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) << 10)
        time.sleep(0.02)
    return peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of a process")
@pytest.mark.parametrize(("loss", "cluster"), [("cross-entropy", 1), ("cross-entropy", 8), ("margin-mse", 8)])
def test_memory_does_not_grow_with_the_rows(loss: str, cluster: int, sets: Path, tmp_path: Path) -> None:
    peaks = {}
    for rows in (FEW, MANY):
        given = ["distill", "--student", "de-cos", "--tuples", sets / str(rows) / "tuples", "--scores", sets / str(rows) / "scores",
                 "--base", sets / "base", "--max-length", 8, "--set", "encoder.layers=1", "--stages", "one", "--pairs", 6400, "--batch-size", 64,
                 "--threads", 1, "--precision", "float32", "--looks", 2, "--split", "transfer", "--loss", loss, "--cluster-rows", cluster,
                 "--out", tmp_path / f"{rows}"]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "pairstill", *map(str, given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(sets)},
        )  # fmt: skip
        found: list[int] = []
        watching = threading.Thread(target=lambda one=process, into=found: into.append(peak_of(one)))
        watching.start()
        _, said = process.communicate()
        watching.join()
        assert process.returncode == 0, said
        peaks[rows] = found[0]
    logger.info(
        "%s, clusters of %d: %s", loss, cluster, {rows: f"{peak / 2**20:.0f} MiB" for rows, peak in peaks.items()}
    )
    assert peaks[MANY] - peaks[FEW] < GROWTH_BYTES, peaks


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    tiny_base(folder / "base")
    for rows in (FEW, MANY):
        make(folder / str(rows), rows)
    return folder
