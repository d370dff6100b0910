"""What a store's precision costs: bytes per item, and what becomes of a trained student's scores on real pairs.

The items of a split are encoded once in float32 and written to one store a precision. Pairs are then scored from what each
store gives back, widened to float32, by the student's own graph in float32: whatever differs is the store's rounding.
Kendall's tau is taken over the labelled pairs, and for random queries over random candidates each; the top 10 of every
query are compared with the top 10 from the float32 store. The first field is the query, the second is ranked.

    python benchmarks/store_quality.py --student runs/homedepot/dipair-tsf --tuples runs/homedepot/set \
        --folder /tmp/store-quality --out runs/benchmarks/store_quality.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from pairstill import __version__
from pairstill.files import fingerprint_file, write_json
from pairstill.machine import describe, set_threads
from pairstill.metrics.base import Predictions
from pairstill.metrics.catalogue import default_metrics
from pairstill.metrics.graded import kendall
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreWriter
from pairstill.store.quantise import DTYPES
from pairstill.students import load_student
from pairstill.students.base import Student
from pairstill.tuples import Tuples, TupleSet

TOP = 10


def encode(
    student: Student, tuple_set: TupleSet, tuples: Tuples
) -> tuple[list[Representation[Any]], np.ndarray, list[Any]]:
    """Representations of each field's distinct items, rows into them, and the items' ids."""
    index, blocks, ids = tuples.index.copy(), [], []
    for field in range(student.field_count):
        rows, index[:, field] = np.unique(index[:, field], return_inverse=True)
        texts = tuple_set.texts(field)
        blocks.append(student.encode(field, [texts[row] for row in rows]))
        ids.append([str(row) for row in rows])
    return blocks, index, ids


def write(
    folder: Path, block: Representation[Any], ids: list[str], dtype: str, stride: str, fingerprint: str
) -> RepresentationStore:
    with StoreWriter(folder, encoder_fingerprint=fingerprint, field="item", dtype=dtype, stride=stride) as writer:
        writer.append(block)
        return writer.finish(ids)


def top_overlap(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean share of the reference's best that the other has among its best; ties by position."""
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :TOP] for scores in (reference, other)]
    return float(np.mean([len(np.intersect1d(*pair)) / TOP for pair in zip(*best, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--tuples", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the stores; must not exist, is removed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=int, default=200, help="random queries that are scored with every candidate")
    parser.add_argument("--candidates", type=int, default=1000, help="random items of the second field")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists")
    set_threads(options.threads)
    tuple_set, student = TupleSet.load(options.tuples), load_student(options.student)
    if student.field_count != 2 or student.outputs != 1:
        raise SystemExit("the student must take two fields and give one output")
    student.check_fields(tuple_set)
    tuples = tuple_set.split(options.split)
    metric = default_metrics(tuple_set.labels.kind)[0]
    began = time.perf_counter()
    blocks, index, ids = encode(student, tuple_set, tuples)
    encoded_s = time.perf_counter() - began
    random = np.random.default_rng(options.seed)
    chosen = [
        np.sort(random.permutation(len(block))[:count])
        for block, count in zip(blocks, (options.queries, options.candidates), strict=True)
    ]
    cross = np.stack(np.meshgrid(*chosen, indexing="ij"), axis=-1).reshape(-1, 2)
    fingerprint = fingerprint_file(options.student / "model.safetensors")
    results: dict[str, Any] = {}
    reference: dict[str, np.ndarray] = {}
    try:
        for dtype in DTYPES:
            stores = [
                write(options.folder / f"{dtype}-{field}", block, ids[field], dtype, "fixed", fingerprint)
                for field, block in enumerate(blocks)
            ]
            ragged = [
                write(options.folder / f"{dtype}-{field}-ragged", block, ids[field], dtype, "ragged", fingerprint)
                for field, block in enumerate(blocks)
            ]
            read = [store.gather(np.arange(len(store)), widen=True) for store in stores]
            scores = {
                "pairs": student.score_representations(read, index)[:, 0],
                "cross": student.score_representations(read, cross)[:, 0],
            }
            reference = reference or scores
            if tuples.labels is None:
                raise SystemExit(f"the split '{options.split}' has no labels")
            labelled = Predictions.of(scores["pairs"], tuples.labels, tuples.groups, tuple_set.labels.kind)
            tables = [one["cross"].reshape(len(chosen[0]), -1) for one in (reference, scores)]
            taus = [kendall(*rows).value or 0.0 for rows in zip(*tables, strict=True)]
            results[dtype] = {
                "bytes_per_item": [store.bytes_per_item() for store in stores],
                "bytes_per_item_ragged": [round(store.bytes_per_item(), 1) for store in ragged],
                metric.name: round(metric.measure(labelled).value or 0.0, 5),
                "kendall_tau": round(kendall(reference["pairs"], scores["pairs"]).value or 0.0, 5),
                "kendall_tau_per_query": round(float(np.mean(taus)), 5),
                "kendall_tau_worst_query": round(min(taus), 5),
                f"top_{TOP}_overlap": round(top_overlap(*tables), 4),
                "largest_logit_difference": round(float(np.abs(scores["cross"] - reference["cross"]).max()), 5),
            }
            print(dtype, json.dumps(results[dtype]), flush=True)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    result = {
        "pairstill": __version__, "machine": describe(), "threads": options.threads,
        "student": {"name": student.name, "sha256": fingerprint}, "tuple_set": tuple_set.fingerprint,
        "split": options.split, "pairs": len(tuples), "items": [len(block) for block in blocks],
        "vectors_per_item": [block.vectors.shape[1] for block in blocks],
        "mean_length": [round(float(block.lengths.mean()), 2) for block in blocks],
        "queries_by_candidates": [len(one) for one in chosen], "metric": metric.title,
        "encode_s": round(encoded_s, 1), "precisions": results,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
