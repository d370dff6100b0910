"""Home Depot's training rows split again: a test of new queries, and one of queries that training has other products of.

usage: python prepare.py DATA_FOLDER SCORES_FOLDER OUT     writes OUT/labels.parquet and OUT/scores.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SHARE = 0.1
"""Of the queries, all of whose rows are for testing, and of the rows of the others."""


def split_again(labels: pa.Table) -> pa.Table:
    """Training and validation rows, a part of the former now `test`."""
    labels = labels.filter(pc.field("split") != "test")
    random = np.random.default_rng(0)
    split = np.array(labels.column("split").to_pylist())
    query = np.array(labels.column("query_id").to_pylist())
    queries = random.permutation(np.unique(query[split == "train"]))
    new = np.isin(query, queries[: int(len(queries) * SHARE)])
    split[(split == "train") & (new | (random.random(len(split)) < SHARE))] = "test"
    return labels.set_column(labels.column_names.index("split"), "split", pa.array(split))


def main(data: Path, scores: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(split_again(pq.read_table(data / "labels.parquet")), out / "labels.parquet")
    shards = pa.concat_tables([pq.read_table(one) for one in sorted(scores.glob("shard-*.parquet"))])
    pq.write_table(shards.select(["query", "product", "logit_0"]), out / "scores.parquet")


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:4]))
