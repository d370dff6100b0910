"""Training on millions of rows: what is held in memory does not grow with them, nor, in a bert2dnn, with distinct texts."""

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
import pyarrow.compute as pc
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
FEW_TEXTS, MANY_TEXTS = 1_000_000, 4_000_000
DISTINCT_TEXTS = """
import sys
from pathlib import Path
from pairstill import scratch
from pairstill.losses import DistillationLoss
from pairstill.students.persistence import make_student, parse_config
from pairstill.training.data import TrainingData, corpus_of
from pairstill.training.loop import fit
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import token_sources
from pairstill.tuples import TupleSet

scratch.IN_MEMORY_BYTES = 1 << 22
tuple_set = TupleSet.load(sys.argv[1])
data = TrainingData(tuple_set.split("train"), tuple_set=tuple_set.fingerprint)
config = parse_config("bert2dnn", {"field_count": 1, "head": {"widths": [16]}})
student = make_student("bert2dnn", config, corpus_of(tuple_set, data.tuples))
settings = TrainingSettings(pairs=6400, batch_size=64)
fit(student, token_sources(student, tuple_set), data, DistillationLoss(hard_weight=1.0), settings, Path(sys.argv[2]))
"""
"""From a tuple set's folder to a trained student; few arrays are small enough for memory, as it is with many more texts."""


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


def make_texts(folder: Path, rows: int) -> int:
    """A tuple set of labelled rows of one text each, no text twice; returns the bytes of the texts as a list of strings."""
    generator, space = np.random.default_rng(0), pa.scalar(" ", pa.large_string())
    known = pa.array([f"word{number}" for number in range(20_000)], pa.large_string())
    parts = []
    for start in range(0, rows, 250_000):
        words = np.minimum(generator.zipf(1.2, 250_000 * 12), len(known)) - 1
        lists = pa.LargeListArray.from_arrays(np.arange(250_001) * 12, known.take(pa.array(words)))
        numbers = pa.array(np.arange(start, start + 250_000)).cast(pa.large_string())
        parts.append(pc.binary_join_element_wise(pc.binary_join(lists, space), numbers, space))
    texts = pa.concat_arrays(parts)
    ids = pa.array(np.arange(rows)).cast(pa.large_string())
    tuples = pa.table({
        "text": ids, "label": pa.array(np.arange(rows) % 2.0), "weight": pa.nulls(rows, pa.float64()), "group": ids,
        "split": pa.array(["train"]).take(pa.array(np.zeros(rows, np.int8))),
    })  # fmt: skip
    TupleSet((Field("text", "text"),), Labels("binary"), {"text": Collection(ids, texts)}, tuples).save(folder)
    return int(pc.sum(pc.binary_length(texts)).as_py()) + rows * (sys.getsizeof("") + 8)


def anonymous_bytes(process: subprocess.Popen[str]) -> int:
    """What a process holds that the system cannot drop and read again; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))


def peak_of(process: subprocess.Popen[str]) -> int:
    """Most anonymous bytes that a process held."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process))
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of a process")
def test_memory_of_a_bert2dnn_does_not_grow_with_distinct_texts(tmp_path: Path) -> None:
    """One text a row, as in the paper, from the folder to the student: there is no room for the texts, let alone as strings."""
    peaks, strings = {}, {}
    for rows in (FEW_TEXTS, MANY_TEXTS):
        strings[rows] = make_texts(tmp_path / str(rows), rows)
        with subprocess.Popen(
            [sys.executable, "-c", DISTINCT_TEXTS, tmp_path / str(rows), tmp_path / f"work-{rows}"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        ) as process:  # fmt: skip
            peaks[rows] = peak_of(process)
        assert process.returncode == 0
    logger.info(
        "distinct texts: %s, of which lists would have %s",
        *({rows: f"{size / 2**20:.0f} MiB" for rows, size in sizes.items()} for sizes in (peaks, strings)),
    )
    assert strings[MANY_TEXTS] - strings[FEW_TEXTS] > 2 * GROWTH_BYTES
    assert peaks[MANY_TEXTS] - peaks[FEW_TEXTS] < GROWTH_BYTES / 4, peaks


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    tiny_base(folder / "base")
    for rows in (FEW, MANY):
        make(folder / str(rows), rows)
    return folder
