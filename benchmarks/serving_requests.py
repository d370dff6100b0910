"""Request bodies for `benchmarks/serving.py`: queries of a tuple set with stored candidates by id, as JSON Lines.

    python benchmarks/serving_requests.py --tuples runs/homedepot/set --split test --store product --candidates 100 \
        --requests 500 --out rank-100.jsonl --texts-out candidates.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from pairstill.files import write_text
from pairstill.store import RepresentationStore
from pairstill.tuples import TupleSet


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tuples", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--search", action="store_true", help="Bodies of /v1/search: the query alone.")
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--texts-out", type=Path, default=None, help="The same candidates as texts, for rivals.")
    settings = parser.parse_args()
    tuple_set = TupleSet.load(settings.tuples)
    random = np.random.default_rng(0)
    rows = np.unique(tuple_set.split(settings.split).index[:, 0])
    asked = tuple_set.texts(0)
    queries = [asked[row] for row in random.choice(rows, min(settings.requests, len(rows)), replace=False)]
    store = RepresentationStore.open(settings.store, checksums=False)
    documents = (
        dict(zip(tuple_set.collection_of(1).ids.to_pylist(), tuple_set.texts(1), strict=True))
        if settings.texts_out
        else {}
    )
    bodies, texts = [], []
    for query in queries:
        if settings.search:
            bodies.append({"query": query, "top_k": settings.top_k, "timing": False})
            continue
        chosen = store.ids_at(random.choice(len(store), settings.candidates, replace=False)).to_pylist()
        bodies.append({"query": query, "documents": [{"id": one} for one in chosen], "top_k": settings.top_k})
        if settings.texts_out:
            texts.append({"query": query, "documents": [documents[one] for one in chosen]})
    write_text(settings.out, "".join(json.dumps(one) + "\n" for one in bodies))
    if settings.texts_out:
        write_text(settings.texts_out, "".join(json.dumps(one) + "\n" for one in texts))
    print(f"requests: {settings.out}   {len(bodies)}")


if __name__ == "__main__":
    main()
