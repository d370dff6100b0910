"""The same pairs through `predict`, bulk jobs in three precisions and running services, on a trained student and real texts.

    python benchmarks/same_scores.py --student runs/dipair-tsf --tuples runs/mined --exported float32=runs/served \
        --exported int8=runs/served-int8 --work runs/same-scores

Some queries are scored with the items of the split's tuples, every one with every other. float32 is held to the logits of `predict`, bfloat16
and int8 (stores and head alike) to its order. The work folder keeps what was encoded and scored; give a new one each time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from torch import Tensor

from pairstill.metrics.graded import kendall
from pairstill.scoring.bulk.precision import NEEDED_OVERLAP, NEEDED_TAU, top_overlap
from pairstill.students import load_student
from pairstill.tuples import TupleSet

EXACT = 1e-5


def pairstill(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "pairstill", *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def served(*arguments: object) -> Iterator[str]:
    """The address of a service."""
    command = [sys.executable, "-m", "pairstill", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.wait()


def answer(address: str, rows: Sequence[Sequence[object]]) -> np.ndarray:
    """Raw logits of `/v1/score`, a few hundred tuples a request."""
    found: list[float] = []
    for start in range(0, len(rows), 500):
        body = json.dumps({"tuples": rows[start : start + 500]}).encode()
        request = urllib.request.Request(f"{address}/v1/score", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            found += json.load(response)["scores"]
    return np.asarray(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True)
    parser.add_argument("--tuples", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--exported", action="append", default=[], help="PRECISION=FOLDER")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True)
    tuple_set = TupleSet.load(arguments.tuples)
    index, random = tuple_set.split(arguments.split).index, np.random.default_rng(0)
    texts, ids = [], []
    for field, count in enumerate((arguments.queries, arguments.items)):
        rows = random.choice(np.unique(index[:, field]), count, replace=False)
        texts.append([tuple_set.texts(field)[row] for row in rows])
        ids.append([str(number) for number in range(count)])
        pacsv.write_csv(pa.table({"id": ids[field], "text": texts[field]}), arguments.work / f"{field}.csv")
    left, right = (
        one.ravel() for one in np.meshgrid(np.arange(arguments.queries), np.arange(arguments.items), indexing="ij")
    )
    pairs = [(texts[0][i], texts[1][j]) for i, j in zip(left, right, strict=True)]
    names = tuple_set.field_names
    pq.write_table(
        pa.table({names[0]: left.astype(str), names[1]: right.astype(str)}), arguments.work / "pairs.parquet"
    )
    student = load_student(arguments.student)
    expected = np.asarray(student.predict(pairs, activation_fn=None if student.outputs > 1 else _raw))
    lists = expected.reshape(arguments.queries, arguments.items)
    found: list[dict[str, object]] = []

    def hold(way: str, precision: str, scores: np.ndarray) -> None:
        scores = np.asarray(scores, np.float64)
        difference = float(np.abs(scores - expected).max())
        tau = float(kendall(expected, scores).value or 0)
        overlap = float(top_overlap(lists, scores.reshape(lists.shape)))
        holds = difference <= EXACT if precision == "float32" else tau >= NEEDED_TAU and overlap >= NEEDED_OVERLAP
        found.append({
            "way": way, "precision": precision, "largest_difference": difference, "kendall_tau": tau, "top_10_overlap": overlap, "holds": holds,
        })  # fmt: skip
        print(f"{way:28} {precision:9} difference {difference:.1e}  tau {tau:.5f}  top-10 {overlap:.3f}  {'holds' if holds else 'MISSED'}", flush=True)  # fmt: skip

    stores: dict[str, list[Path]] = {}
    for dtype in ("float32", "bfloat16", "int8"):
        stores[dtype] = [arguments.work / f"{name}-{dtype}" for name in names[:2]]
        for field, folder in enumerate(stores[dtype]):
            pairstill("encode", "--student", arguments.student, "--texts", arguments.work / f"{field}.csv", "--id", "id", "--text", "text", "--position",
                      field + 1, "--field", names[field], "--precision", "bfloat16" if dtype == "bfloat16" else "float32", "--dtype", dtype,
                      "--out", folder)  # fmt: skip
        given = [
            part for name, folder in zip(names, stores[dtype], strict=False) for part in ("--store", f"{name}={folder}")
        ]
        pairstill("score", "--student", arguments.student, *given, "--pairs", arguments.work / "pairs.parquet", "--precision", dtype, "--workers", 1,
                  "--out", arguments.work / f"job-{dtype}")  # fmt: skip
        shards = sorted((arguments.work / f"job-{dtype}").glob("shard-*.parquet"))
        hold("bulk job", dtype, np.asarray(pa.concat_tables([pq.read_table(one) for one in shards]).column("score")))
    by_id = [[{"id": ids[0][i]}, {"id": ids[1][j]}] for i, j in zip(left, right, strict=True)]
    mixed = [[texts[0][i], {"id": ids[1][j]}] for i, j in zip(left, right, strict=True)]
    for one in arguments.exported:
        precision, folder = one.split("=", 1)
        for dtype in stores if precision == "float32" else ("float32",):
            given = [part for place, store in enumerate(stores[dtype], 1) for part in ("--store", f"{place}={store}")]
            held = dtype if precision == "float32" else precision
            with served("--student", folder, *given) as address:
                hold(f"service, {dtype} stores", held, answer(address, by_id))
                hold("service, query as text", held, answer(address, mixed))
                if dtype == "float32":
                    hold("service, both as text", held, answer(address, [list(pair) for pair in pairs]))
    body = {"student": student.name, "queries": arguments.queries, "items": arguments.items, "rows": found}
    if arguments.json:
        arguments.json.write_text(json.dumps(body, indent=2) + "\n")
    sys.exit(0 if all(row["holds"] for row in found) else 1)


def _raw(logits: Tensor) -> Tensor:
    return logits


if __name__ == "__main__":
    main()
