"""A tiny student, its stores and pairs, for tests of bulk jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pairstill.scoring.bulk.job import run_bulk
from pairstill.scoring.bulk.plan import BulkJob, plan_bulk
from pairstill.scoring.encode import EncodeSettings, encode_store
from pairstill.students import Student, load_student, make_student
from pairstill.students.dual_encoder import DualEncoder
from pairstill.students.persistence import parse_config
from tiny import WORDS

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "tsf": ("dipair-tsf", {"keep": [2, 4], "projection": 16, "head": {"intermediate": 32}}),
    "three": (
        "dipair-ffnn",
        {"keep": [2, 3, 4], "projection": 8, "field_count": 3, "outputs": 3, "head": {"widths": [16]}},
    ),
    "cross-encoder": ("cross-encoder", {}),
    "bert-dot": ("bert-dot", {}),
    "colbert": ("colbert", {"projection": 8, "query_masks": 2}),
    "poly-encoder": ("poly-encoder", {"contexts": 3}),
    "prettr": ("prettr", {"split": 1, "compression": 8}),
    "tk": ("tk", {"intermediate": 24}),
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A student and its stores.

    Attributes:
        folder: Of everything.
        student: Loaded from `folder / "student"`.
        stores: Field name -> folder.
        ids: Of each field.
        texts: Of each field.
    """

    folder: Path
    student: Student
    stores: dict[str, str]
    ids: dict[str, list[str]]
    texts: dict[str, list[str]]

    def job(self, out: Path, **more: Any) -> BulkJob:
        """A job in float32."""
        return BulkJob(str(self.folder / "student"), self.stores, out, **{"precision": "float32", **more})

    def run(self, out: Path, engine: Any = None, **more: Any) -> pa.Table:
        """Run a job and read its result."""
        run_bulk(plan_bulk(self.job(out, **more)), engine)
        return read_result(out)

    def truth(self) -> np.ndarray:
        """Logit 0 of every pair of two fields, by the student's own graph."""
        blocks = [self.student.encode(field, texts) for field, texts in enumerate(self.texts.values())]
        left, right = (len(one) for one in blocks)
        index = np.stack([np.repeat(np.arange(left), right), np.tile(np.arange(right), left)], axis=1)
        return self.student.score_representations(blocks, index)[:, 0].reshape(left, right)


def read_result(out: Path) -> pa.Table:
    """All shards of a result, in order."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("shard-*.parquet"))])


def contents(out: Path) -> dict[str, bytes]:
    """The bytes of a result."""
    return {path.name: path.read_bytes() for path in sorted([*out.glob("*.parquet"), out / "manifest.json"])}


def make_texts(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(count)]


def make_sample(
    base: Path, folder: Path, name: str = "tsf", sizes: tuple[int, ...] = (13, 37), **settings: Any
) -> Sample:
    """Write a student with stores; two items of the second field have the same text, so that scores tie."""
    kind, values = SETTINGS[name]
    torch.manual_seed(1)
    values = {**values, "encoder": {"max_lengths": [16], "base": str(base)}}
    student = make_student(kind, parse_config(kind, values))
    if isinstance(student, DualEncoder):
        with torch.no_grad():
            # Heads that start at zero would score everything alike.
            for one in student.head.parameters():
                one.add_(0.3 * torch.randn_like(one))
    student.save_pretrained(folder / "student")
    student = load_student(folder / "student")
    stores, ids, texts = {}, {}, {}
    for field, count in enumerate(sizes):
        field_name = ("query", "item", "context")[field]
        texts[field_name] = make_texts(count, field)
        if field == 1:
            for place in range(0, count, 3):
                texts[field_name][place] = texts[field_name][0]
        ids[field_name] = [f"{field_name}-{(number * 7919) % 1000:03d}" for number in range(count)]
        encode_store(
            student, field, ids[field_name], texts[field_name], folder / field_name, field_name,
            EncodeSettings(**settings),
        )  # fmt: skip
        stores[field_name] = str(folder / field_name)
    return Sample(folder, student, stores, ids, texts)


def write_pairs(sample: Sample, path: Path, count: int, seed: int = 0, **more: Any) -> np.ndarray:
    """Random tuples by id in a Parquet file; returns their places."""
    random = np.random.default_rng(seed)
    places = np.stack([random.integers(0, len(one), count) for one in sample.ids.values()], axis=1)
    columns = {
        name: pa.array([ids[place] for place in places[:, field]])
        for field, (name, ids) in enumerate(sample.ids.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **more)
    return places
