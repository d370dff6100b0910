"""Saved, loaded in other processes, stored, and scored by `pairstill score`, every student scores as its training graph does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bulk_samples import read_result
from command_line import works
from pairstill.students import Student
from pairstill.training.sources import TupleScorer, token_sources
from pairstill.tuples import Collection, Field, TupleSet
from pairstill.tuples.images import encode_image
from student_cases import CASES, build
from tiny import noisy_image, tiny_tuple_set

QUICK = ("bert2dnn", "dipair-tsf", "colbert", "tk", "poly-encoder", "twinbert-res of tri-letters")
"""A fast head each, two over tokenizers of their own; all others in the long trials."""
OF_FIELDS = ("dipair-ffnn of texts and numbers", "dipair-tsf of texts and images")
ROWS = 48


def tuples_of(student: Student) -> TupleSet:
    """Tuples of items of the kinds that a student reads."""
    made = tiny_tuple_set(ROWS, student.field_count)
    fields, collections = [], dict(made.collections)
    random = np.random.default_rng(0)
    for field, kind in zip(made.fields, student.kinds, strict=True):
        fields.append(Field(field.name, field.collection, kind))
        count = len(made.collections[field.collection])
        if kind == "numeric":
            numbers = pa.array(random.normal(0, 3, 3 * count).astype(np.float32))
            contents = pa.FixedSizeListArray.from_arrays(numbers, 3)
        elif kind == "image":
            colors = random.integers(0, 256, (count, 3))
            images = [noisy_image((int(one[0]), int(one[1]), int(one[2])), seed) for seed, one in enumerate(colors)]
            contents = pa.array([encode_image(one) for one in images], pa.binary())
        else:
            continue
        collections[field.collection] = Collection(made.collections[field.collection].ids, contents)
    return replace(made, fields=tuple(fields), collections=collections)


@pytest.mark.parametrize(
    "case", [one if one in QUICK else pytest.param(one, marks=pytest.mark.soak) for one in [*CASES, *OF_FIELDS]]
)
def test_stored_and_scored_in_other_processes(base: Path, tmp_path: Path, case: str) -> None:
    student = build(base, case)
    tuple_set = tuples_of(student)
    tuple_set.save(tmp_path / "tuples")
    student.save_pretrained(tmp_path / "student")
    with torch.no_grad():
        expected = TupleScorer(student, token_sources(student, tuple_set))(tuple_set.index).numpy()

    pairs = tuple_set.tuples.select(list(tuple_set.field_names))
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    stores: list[str] = []
    for field in tuple_set.field_names:
        works("encode", "--student", tmp_path / "student", "--tuples", tmp_path / "tuples", "--field", field, "--out", tmp_path / field,
              "--precision", "float32", "--threads", 1)  # fmt: skip
        stores += ["--store", f"{field}={tmp_path / field}"]
    works("score", "--student", tmp_path / "student", *stores, "--pairs", tmp_path / "pairs.parquet", "--precision", "float32",
          "--workers", 1, "--out", tmp_path / "job")  # fmt: skip

    result = read_result(tmp_path / "job")
    assert result.select(pairs.column_names).cast(pairs.schema).equals(pairs)
    columns = ["score"] if student.outputs == 1 else [f"score_{number}" for number in range(student.outputs)]
    scores = np.stack([result[one].to_numpy() for one in columns], axis=1)
    tolerance = 1e-5 * (1 + np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 5 * tolerance, "scores that hardly differ would show nothing"
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)
